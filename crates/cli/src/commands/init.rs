//! `init`: a config file to start with, and a key.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use lifeboat_config::NAME;
use lifeboat_core::encryptor::Age;
use lifeboat_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::exit::Exit;
use crate::session::Session;

/// The options of `init`.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Where to write the new secret key; an existing file is never overwritten
    #[arg(long, value_name = "PATH", default_value = "lifeboat-identity.txt", conflicts_with = "recipients")]
    identity: PathBuf,
    /// Encrypt to this recipient instead of making a key; may be given several times
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,
    /// Overwrite an existing config file
    #[arg(long)]
    force: bool,
}

const EXAMPLE: &str = include_str!("lifeboat.example.toml");

/// Writes both files.
pub(crate) fn run(session: &Session, args: &InitArgs, config: Option<&Path>) -> Result<Exit> {
    let config = config.unwrap_or(Path::new(NAME));
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
    let identity = folder.join(&args.identity);
    if !folder.as_os_str().is_empty() {
        std::fs::create_dir_all(folder).map_err(|e| Error::io("make", folder.display().to_string(), e))?;
    }
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
        true => format!("identity = {}", json!(args.identity)),
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
