//! The target: a restore command, a file, or standard output.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use async_trait::async_trait;
use futures::StreamExt;
use lifeboat_core::process::words;
use lifeboat_core::proof::WholeStream;
use lifeboat_core::words::size;
use lifeboat_core::{Check, Context, Error, ErrorKind, RestoreInput, Result, Tap, Target};
use secrecy::{ExposeSecret, SecretString};
use tempfile::NamedTempFile;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::ITEM;
use super::process::{Fed, Role, difference, feed, prepare, program_of};
use super::system::CommandSettings;

/// The variable that tells a restore command where to restore to.
pub(super) const INTO: &str = "LIFEBOAT_INTO";

/// The destination of the content.
#[derive(Clone, Debug)]
enum Place {
    /// The place may be a URL with a password.
    Command {
        settings: Box<CommandSettings>,
        into: SecretString,
    },
    File {
        path: PathBuf,
        replace: bool,
    },
    Stdout,
}

/// Pipes a backup to a restore command, or writes it to a file or to standard output.
///
/// A restore command gets exactly the bytes that the command printed. If they cannot be read to their end, or differ,
/// it is killed with its process group and does not see an end. It is responsible for what it has done until then: let
/// it use a transaction, or write to a temporary file and rename.
#[derive(Clone, Debug)]
pub struct CommandTarget {
    place: Place,
}

impl CommandTarget {
    /// Creates a target that runs the restore command of these settings, with `into` in its variable `LIFEBOAT_INTO`:
    /// empty if the command itself determines the destination. Nothing is looked up yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no restore command, and for settings that cannot be combined.
    pub fn command(settings: CommandSettings, into: impl Into<String>) -> Result<Self> {
        settings.check()?;
        let into: String = into.into();
        if into.contains('\0') {
            let why = "it holds a zero byte, which a variable cannot";
            return Err(Error::new(ErrorKind::Config, "use", "the place of the restore command", why));
        }
        if settings.restore.is_empty() {
            return Err(Error::new(ErrorKind::Config, "run", "the restore command", "none is configured").hint(
                "set restore in the job's table, or give --restore-command; or restore into file:PATH or - (standard output)",
            ));
        }
        Ok(Self { place: Place::Command { settings: Box::new(settings), into: into.into() } })
    }

    /// Creates a target that writes a file of mode 0600, which appears whole or not at all. With `replace`, an existing
    /// file is replaced.
    pub fn file(path: impl Into<PathBuf>, replace: bool) -> Self {
        Self { place: Place::File { path: path.into(), replace } }
    }

    /// Creates a target that writes to standard output.
    pub fn stdout() -> Self {
        Self { place: Place::Stdout }
    }

    /// The name for messages.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Command { settings, .. } => {
                format!("the restore command ({})", program_of(settings, Role::Restore))
            }
            Place::File { path, .. } => path.display().to_string(),
            Place::Stdout => "standard output".to_owned(),
        }
    }
}

#[async_trait]
impl Target for CommandTarget {
    async fn restore(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        match &self.place {
            Place::Command { settings, into } => run(settings, into.expose_secret(), input, cx).await,
            Place::File { path, replace } => write_file(path, *replace, input, cx).await.map(|check| vec![check]),
            Place::Stdout => {
                const NAME: &str = "standard output";
                let stdout =
                    std::io::stdout().as_fd().try_clone_to_owned().map_err(|e| Error::io("write to", NAME, e))?;
                let bytes = write(File::from_std(stdout.into()), NAME, input, cx).await?;
                Ok(vec![Check::pass("content", size(bytes), "written to standard output")])
            }
        }
    }
}

async fn run(settings: &CommandSettings, into: &str, mut input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
    const NAME: &str = "restore command";
    let begun = Instant::now();
    let process = prepare(settings, Role::Restore)?.variable(INTO, into).start_writing(cx)?;
    let (ended, whole) = match feed(process, &mut input.stream, input.proof.as_ref(), true).await? {
        Fed::Ended { ended, whole } => (ended, whole),
        Fed::Broken(error) => return Err(error),
        Fed::Differs(why) => return Err(mismatch(&input, why)),
    };
    if !ended.is_good() {
        return Err(ended.error().hint("what it had done until then may still be there"));
    }
    let printed = words(&ended.stdout, &ended.name);
    let said = words(&ended.stderr, &ended.name);
    let words: Vec<String> = [("it printed", printed), ("it said", said)]
        .into_iter()
        .filter(|(_, words)| !words.is_empty())
        .map(|(from, words)| format!("{from}: {words}"))
        .collect();
    let words = if words.is_empty() { "it printed nothing".to_owned() } else { words.join("; ") };
    let mut checks = vec![Check::pass(NAME, ended.how(), format!("{}: {words}", ended.name)).took(begun.elapsed())];
    if !whole {
        let why = "it succeeded without reading everything: check that everything is there";
        checks.push(Check::warn("content", "not read to its end", why));
    }
    Ok(checks)
}

/// Writes a temporary file, which takes its final name once it is whole.
async fn write_file(path: &Path, replace: bool, input: RestoreInput, cx: &Context) -> Result<Check> {
    let subject = path.display().to_string();
    let failed = |e| Error::io("write", &subject, e);
    if !replace && path.symlink_metadata().is_ok() {
        return Err(exists(&subject));
    }
    if path.file_name().is_none() || path.is_dir() {
        return Err(Error::new(ErrorKind::Config, "write", subject, "it is not the name of a file"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Of mode 0600, and removed when it is dropped.
    let temporary =
        tempfile::Builder::new().prefix(".lifeboat-").suffix(".partial").tempfile_in(folder).map_err(failed)?;
    let file = File::from_std(temporary.as_file().try_clone().map_err(failed)?);
    let bytes = write(file, &subject, input, cx).await?;
    let at = path.to_owned();
    let named = tokio::task::spawn_blocking(move || named(temporary, &at, replace)).await;
    match named.map_err(std::io::Error::other).and_then(|named| named) {
        Ok(()) => Ok(Check::pass("content", size(bytes), format!("written to {subject}"))),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(&subject)),
        Err(error) => Err(failed(error)),
    }
}

fn named(file: NamedTempFile, path: &Path, replace: bool) -> std::io::Result<()> {
    file.as_file().sync_all()?;
    let named = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    named.map(drop).map_err(|failed| failed.error)
}

fn exists(subject: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, "write", subject, "it already exists")
        .hint("choose another name, or give --replace to replace it")
}

/// Writes the content and compares it with its proof. Returns its bytes.
async fn write(mut to: File, name: &str, mut input: RestoreInput, cx: &Context) -> Result<u64> {
    let mut tap = Box::new(WholeStream::new(ITEM));
    let mut bytes = 0;
    let writing = async {
        while let Some(chunk) = input.stream.next().await {
            let chunk = chunk?;
            tap.push(&chunk)?;
            bytes += chunk.len() as u64;
            to.write_all(&chunk).await.map_err(|e| Error::io("write to", name, e))?;
        }
        to.flush().await.map_err(|e| Error::io("write to", name, e))
    };
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => return Err(Error::cancelled("write to", name)),
        written = writing => written?,
    }
    match difference(tap, input.proof.as_ref())? {
        Some(why) => Err(mismatch(&input, why)),
        None => Ok(bytes),
    }
}

fn mismatch(input: &RestoreInput, why: String) -> Error {
    Error::new(ErrorKind::Mismatch, "restore", input.name.to_string(), why)
        .hint("use another artifact, or the copy in another sink")
}
