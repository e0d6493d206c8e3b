//! `init`: a config file to start with, and a key; or the config that a sink holds.

mod back;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use lifeboat_config::{NAME, Systems};
use lifeboat_core::encryptor::Age;
use lifeboat_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::exit::Exit;
use crate::session::Session;

/// The options of `init`.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Where to write the new secret key (lifeboat-identity.txt); an existing file is never overwritten. With --from-sink the
    /// key that opens the stored config
    #[arg(long, value_name = "PATH", conflicts_with = "recipients")]
    identity: Option<PathBuf>,
    /// Encrypt to this recipient instead of making a key; may be given several times
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,
    /// Overwrite an existing config file
    #[arg(long)]
    force: bool,
    /// Bring the config back that the last backup has stored in the sink at this URL, or in any folder of it
    #[arg(long, value_name = "SINK-URL", conflicts_with_all = ["recipients", "force"])]
    from_sink: Option<String>,
    /// Which of the stored configs: latest, an age like 2d, a time or day in UTC, or a key
    #[arg(
        long,
        value_name = "latest|TIME|KEY",
        requires = "from_sink",
        default_value = "latest",
        hide_default_value = true
    )]
    at: String,
}

/// The file of the new key where none is named.
const IDENTITY: &str = "lifeboat-identity.txt";

const EXAMPLE: &str = include_str!("lifeboat.example.toml");

/// Writes a config: one to start with, and a key; or the one that a sink holds.
pub(crate) async fn run(session: &Session, args: &InitArgs, config: Option<&Path>, systems: &Systems) -> Result<Exit> {
    let config = config.unwrap_or(Path::new(NAME));
    match &args.from_sink {
        Some(url) => back::run(session, (url, &args.at), args.identity.as_deref(), config, systems).await,
        None => start(session, args, config),
    }
}

/// Writes both files.
fn start(session: &Session, args: &InitArgs, config: &Path) -> Result<Exit> {
    let folder = config.parent().unwrap_or(Path::new(""));
    if config.exists() && !args.force {
        return Err(Error::new(ErrorKind::AlreadyExists, "write", config.display().to_string(), "it already exists")
            .hint("edit it, overwrite it with --force, or name another place with --config"));
    }
    let generated = if args.recipients.is_empty() { Some(Age::generate()) } else { None };
    let recipients = match &generated {
        Some((_, public)) => vec![public.clone()],
        None => Age::to(&args.recipients)?.recipients().to_vec(),
    };
    // A path that is not given lies beside the config, which names it relative to itself.
    let named = args.identity.as_deref().unwrap_or(Path::new(IDENTITY));
    let identity = folder.join(named);
    make(folder)?;
    if let Some((secret, public)) = &generated {
        write_identity(session, &identity, secret, public)?;
    }
    write_config(session, config, args, &recipients)?;

    let output = &session.output;
    output.line(format!("wrote {}: name your databases and sinks in it", config.display()));
    if generated.is_some() {
        output.line(format!("wrote {}: the secret key (age identity)", identity.display()));
    }
    for recipient in &recipients {
        output.line(format!("backups are encrypted to {recipient}"));
    }
    if generated.is_some() {
        output.warn(&format!(
            "without {} no backup can be restored: keep a copy of it away from this machine and from the backups",
            identity.display()
        ));
    }
    output.line("next: lifeboat check");
    output.result(&json!({
        "config": config.display().to_string(),
        "identity": generated.as_ref().map(|_| identity.display().to_string()),
        "recipients": recipients,
    }));
    Ok(Exit::Good)
}

fn make(folder: &Path) -> Result<()> {
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(folder).map_err(|e| Error::io("make", folder.display().to_string(), e))
}

fn write_identity(session: &Session, path: &Path, secret: &SecretString, public: &str) -> Result<()> {
    let failed = |e: std::io::Error| {
        match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(ErrorKind::AlreadyExists, "write", path.display().to_string(), "it already exists, and a key is never overwritten")
                .hint("to keep using it, give its public key with --recipient age1… (age-keygen -y prints it); for a new key, name another file with --identity PATH")
        }
        _ => Error::io("write", path.display().to_string(), e),
    }
    };
    let created = jiff::Timestamp::from_second(session.context.now().as_second()).unwrap_or_default();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    // The form of age-keygen.
    let text: SecretString =
        format!("# created: {created}\n# public key: {public}\n{}\n", secret.expose_secret()).into();
    file.write_all(text.expose_secret().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn write_config(session: &Session, path: &Path, args: &InitArgs, recipients: &[String]) -> Result<()> {
    let failed = |e| Error::io("write", path.display().to_string(), e);
    let quoted: Vec<String> = recipients.iter().map(|r| json!(r).to_string()).collect();
    let identity = match args.recipients.is_empty() {
        true => format!("identity = {}", json!(args.identity.as_deref().unwrap_or(Path::new(IDENTITY)))),
        false => "# identity = \"/path/to/the/secret/key\"".to_owned(),
    };
    let text = EXAMPLE.replace("{recipients}", &quoted.join(", ")).replace("{identity}", &identity);
    if args.force && path.exists() {
        session.output.note(&format!("{} was overwritten", path.display()));
        std::fs::remove_file(path).map_err(failed)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
