//! `init --from-sink`: the config that the last backup has stored.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use lifeboat_config::{Config, Store, Systems, keys};
use lifeboat_core::{Error, ErrorKind, Result, Setting};
use serde_json::{Value, json};

use crate::commands::config;
use crate::exit::Exit;
use crate::output::error_value;
use crate::output::report::time;
use crate::session::Session;

/// The variable that names the key for every other command.
const IDENTITY: &str = "LIFEBOAT_IDENTITY";

/// Writes a config of a sink, and says what is missing before it works and what it would run.
pub(crate) async fn run(
    session: &Session,
    (url, at): (&str, &str),
    identity: Option<&Path>,
    path: &Path,
    systems: &Systems,
) -> Result<Exit> {
    if path.exists() {
        return Err(exists(path));
    }
    let store = Store::at(url)?;
    let (chosen, all) = config::find(&store, at).await?;
    let text = chosen.read(&*store.sink, || keys(&identities(identity), None)).await?;
    super::make(path.parent().unwrap_or(Path::new("")))?;
    write(path, &text)?;

    let output = &session.output;
    output.line(format!("wrote {}: the config of {}", path.display(), time(chosen.at)));
    output.line(format!("  from {}: {}", store.name, chosen.key));
    let others = config::others(&all, &chosen);
    for other in &others {
        output.note(&format!("another folder has another config; for that one: --at {other}"));
    }
    output.warn(
        "whoever can write to the sink can have written this config: read it before you run anything with it. It decides where \
         backups and credentials go, and which programs are run",
    );
    let mut value =
        json!({ "config": path.display().to_string(), "key": chosen.key, "at": chosen.at, "others": others });
    match Config::parse(&text, path, systems) {
        Ok(config) => tell(session, &config, systems, &mut value)?,
        // As it is, it is better than none: somebody can mend it.
        Err(error) => {
            output.error(&error);
            value["error"] = error_value(&error);
        }
    }
    output.line("next: read it, set what is missing, then: lifeboat check");
    output.result(&value);
    Ok(Exit::Good)
}

/// What the config leads to, and what it lacks here.
fn tell(session: &Session, config: &Config, systems: &Systems, value: &mut Value) -> Result<()> {
    let output = &session.output;
    let shown = |setting: &Setting| setting.raw().to_owned();
    let sinks: Vec<(String, String)> = config
        .sinks
        .iter()
        .map(|(name, sink)| {
            let endpoint = sink.endpoint.as_ref().map(|endpoint| format!(" at {}", shown(endpoint)));
            (name.clone(), shown(&sink.url) + &endpoint.unwrap_or_default())
        })
        .collect();
    let programs: Vec<(String, String)> = config
        .jobs
        .iter()
        .flat_map(|job| job.programs().into_iter().map(|program| (job.name.clone(), program)))
        .collect();
    for (title, lines) in [("it stores in", &sinks), ("it RUNS", &programs)] {
        if !lines.is_empty() {
            output.line(format!("{title}:"));
        }
        for (name, what) in lines {
            output.line(format!("  {name}: {what}"));
        }
    }
    let needs = config.needs(systems)?;
    let unset = |name: &&String| std::env::var_os(name).is_none_or(|value| value.is_empty());
    let variables: Vec<&String> = needs.variables.iter().filter(unset).collect();
    let files: Vec<&String> = needs.files.iter().filter(|file| !config.has_file(file)).collect();
    for (title, names) in [("not set in the environment", &variables), ("not there", &files)] {
        if !names.is_empty() {
            output.line(format!("{title}:"));
        }
        for name in names {
            output.line(format!("  {name}"));
        }
    }
    value["sinks"] = sinks.into_iter().collect();
    value["programs"] = programs.into_iter().map(|(job, program)| json!({ "job": job, "runs": program })).collect();
    value["variables"] = json!(variables);
    value["files"] = json!(files);
    Ok(())
}

/// The key as every other command takes it.
fn identities(named: Option<&Path>) -> Vec<Setting> {
    let of_variable = || std::env::var(IDENTITY).ok().filter(|value| !value.is_empty());
    let named = named.map(|path| path.display().to_string()).map(|path| (path, "--identity"));
    let given = named.or_else(|| of_variable().map(|path| (path, IDENTITY)));
    given.map(|(text, place)| Setting::argument(text, place)).into_iter().collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => Error::io("write", path.display().to_string(), e),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn exists(path: &Path) -> Error {
    let why = "it already exists, and is never overwritten by one from a sink";
    Error::new(ErrorKind::AlreadyExists, "write", path.display().to_string(), why)
        .hint("move it away, or name another place with --config")
}
