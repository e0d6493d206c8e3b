//! The commands of a job: how each is prepared, and how a stream is given to one.

use futures::StreamExt;
use lifeboat_core::process::{Ended, Environment, Process, Program, name_of};
use lifeboat_core::proof::WholeStream;
use lifeboat_core::{ByteStream, Error, ErrorKind, Proof, Result, Status, Tap};
use secrecy::ExposeSecret;

use super::ITEM;
use super::system::CommandSettings;

/// One of the commands of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Run,
    Verify,
    Restore,
}

impl Role {
    pub(super) const ALL: [Self; 3] = [Self::Run, Self::Verify, Self::Restore];

    /// Its key in a table.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Verify => "verify",
            Self::Restore => "restore",
        }
    }

    /// Its flag.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Run => "--run",
            Self::Verify => "--verify-command",
            Self::Restore => "--restore-command",
        }
    }

    pub(super) fn arguments(self, settings: &CommandSettings) -> &[String] {
        match self {
            Self::Run => &settings.run,
            Self::Verify => &settings.verify,
            Self::Restore => &settings.restore,
        }
    }
}

/// What messages call a command.
pub(super) fn program_of(settings: &CommandSettings, role: Role) -> String {
    name_of(role.arguments(settings), settings.shell)
}

/// Looks up a command's program, folder and variables.
///
/// # Errors
/// [`ErrorKind::Config`] for a command that is not configured, and for a variable or file that is not there;
/// [`ErrorKind::NotFound`] for a program or folder that does not exist.
pub(super) fn prepare(settings: &CommandSettings, role: Role) -> Result<Program> {
    let arguments = role.arguments(settings);
    if arguments.is_empty() {
        let which = if role == Role::Run { "the command".to_owned() } else { format!("the {} command", role.key()) };
        return Err(Error::new(ErrorKind::Config, "run", which, "none is configured").hint(format!(
            "set {} in the job's table, or give {}",
            role.key(),
            role.flag()
        )));
    }
    let folder = settings.folder.as_ref().map(lifeboat_core::Setting::path).transpose()?;
    let program = Program::find(arguments, settings.shell, folder, environment(settings)?)?;
    Ok(program.timeout(settings.timeout.map(|length| length.0)))
}

fn environment(settings: &CommandSettings) -> Result<Environment> {
    let mut environment = Environment::inherit(&settings.pass_env);
    for variable in &settings.env {
        let value = variable.value.secret()?;
        if value.expose_secret().contains('\0') {
            return Err(variable.value.wrong("it holds a zero byte, which a variable cannot"));
        }
        environment = environment.secret(&variable.name, &value);
    }
    Ok(environment)
}

/// What came of giving a stream to a command.
pub(super) enum Fed {
    /// It ended, in whatever way.
    Ended {
        ended: Ended,
        /// Whether it read everything.
        whole: bool,
    },
    /// The stream ended with this error, and the command was killed before it saw an end.
    Broken(Error),
    /// The stream was read to its end and is not what the proof says; the command was killed before it saw an end.
    Differs(String),
}

/// Reads a stream to its end and compares it with its proof, while a command gets it on standard input. One that reads no more
/// does not end it, but for one that has failed, with `stop_when_failed`.
///
/// # Errors
/// A run that is cancelled, and what keeps a command from being written to or waited for. It is killed then.
pub(super) async fn feed(
    mut process: Process,
    stream: &mut ByteStream,
    proof: Option<&Proof>,
    stop_when_failed: bool,
) -> Result<Fed> {
    let limits = process.limits();
    let mut tap = Box::new(WholeStream::new(ITEM));
    let mut reads = true;
    loop {
        match limits.meanwhile(stream.next()).await? {
            Some(Ok(chunk)) => {
                tap.push(&chunk)?;
                reads = reads && process.write(&chunk).await?;
            }
            Some(Err(error)) => {
                process.abort().await;
                return Ok(Fed::Broken(error));
            }
            None => break,
        }
        if !reads && stop_when_failed && process.has_failed() {
            return Ok(Fed::Ended { ended: process.end().await?, whole: false });
        }
    }
    if let Some(why) = difference(tap, proof)? {
        process.abort().await;
        return Ok(Fed::Differs(why));
    }
    Ok(Fed::Ended { ended: process.end().await?, whole: reads })
}

/// In what a stream that was read to its end differs from its proof.
pub(super) fn difference(tap: Box<WholeStream>, proof: Option<&Proof>) -> Result<Option<String>> {
    let Some(expected) = proof else { return Ok(None) };
    let found = tap.finish()?;
    let failed = expected.compare(&found).into_iter().find(|check| check.status == Status::Fail);
    let bytes = |proof: &Proof| proof.items.iter().map(|item| item.bytes).sum::<u64>();
    Ok(failed.map(|check| match (bytes(expected), bytes(&found)) {
        (expected, found) if expected != found => format!("{found} bytes were read, but the proof says {expected}"),
        _ => check.detail,
    }))
}
