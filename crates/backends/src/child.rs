//! Child processes: their standard error is kept, they are awaited, and they end when Lifeboat does.

use std::mem::ManuallyDrop;
use std::process::ExitStatus;

use lifeboat_core::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// How much of a child's standard error is kept: its end.
const KEPT: usize = 64 << 10;

/// A running child.
pub(crate) struct Running {
    pub(crate) child: Child,
    stderr: JoinHandle<Vec<u8>>,
    program: String,
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
    program: String,
}

impl Running {
    /// Starts a command whose standard error is kept. It is killed when this is dropped.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Error> {
        let program = std::path::Path::new(confined_program(command.as_std()))
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        // A group of its own: Ctrl-C at the terminal reaches us, and we end it in good order.
        command.stderr(std::process::Stdio::piped()).kill_on_drop(true).process_group(0);
        let mut child = command.spawn().map_err(|e| Error::io("start", &program, e))?;
        let stderr = child.stderr.take().expect("it was asked for above");
        Ok(Self { child, stderr: tokio::spawn(tail(stderr)), program })
    }

    /// Lets it go on without us. It is awaited in the background, so that it does not stay as a zombie.
    pub(crate) fn leave(self) {
        // A runtime that ends drops what it awaits, and dropping the child would kill it.
        let mut child = ManuallyDrop::new(self.child);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = child.wait().await;
                drop(ManuallyDrop::into_inner(child));
            });
        }
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Result<Ended, Error> {
        let status = self.child.wait().await.map_err(|e| Error::io("wait for", &self.program, e))?;
        let stderr = self.stderr.await.unwrap_or_default();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        crate::whole_words::keep(&self.program, &stderr);
        Ok(Ended { status, stderr, program: self.program })
    }
}

impl Ended {
    /// The error for a child that did not end with 0, with its own words.
    pub(crate) fn error(&self, operation: &'static str, subject: impl Into<String>) -> Error {
        let words = self.words();
        let how = match self.status.code() {
            Some(code) => format!("{} ended with status {code}", self.program),
            None => format!("{} was killed ({})", self.program, self.status),
        };
        let message = if words.is_empty() { how } else { format!("{how}: {words}") };
        Error::new(ErrorKind::Tool, operation, subject, message)
    }

    /// The last lines of what it said, without the program's name before each.
    pub(crate) fn words(&self) -> String {
        #[cfg(feature = "postgres")]
        if matches!(&*self.program, "pg_dump" | "pg_dumpall" | "pg_restore") {
            return crate::postgres::words(&self.stderr, &self.program);
        }
        let prefix = format!("{}: ", self.program);
        let lines: Vec<&str> =
            self.stderr.lines().map(|l| l.trim_end().trim_start_matches(&*prefix)).filter(|l| !l.is_empty()).collect();
        lines[lines.len().saturating_sub(12)..].join("; ")
    }

    /// Lines that are warnings.
    #[cfg(feature = "postgres")]
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        crate::postgres::warnings(&self.stderr, &self.program)
    }
}

/// The program that a command runs in the end: what stands after `unshare … --` and `setpriv … --`.
fn confined_program(command: &std::process::Command) -> &std::ffi::OsStr {
    let mut program = command.get_program();
    let mut arguments = command.get_args();
    while program == "unshare" || program == "setpriv" {
        let Some(inner) = arguments.by_ref().skip_while(|a| *a != "--").nth(1) else { break };
        program = inner;
    }
    // What a shell in between runs: `sh -c script lifeboat-scratch program …`.
    let mut shell = command.get_args().skip_while(|a| *a != "lifeboat-scratch");
    shell.nth(1).unwrap_or(program)
}

async fn tail(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
    kept.split_off(kept.len().saturating_sub(KEPT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confined_program_is_called_by_its_own_name() {
        for (arguments, name) in [
            (&["--user", "--net", "--", "/usr/bin/pg_restore", "--", "x"][..], "/usr/bin/pg_restore"),
            (&["--net", "--", "setpriv", "--reuid=1", "--", "initdb", "-D"], "initdb"),
            (&["--net"], "unshare"),
            (&["--net", "--", "/bin/sh", "-c", "wait", "lifeboat-scratch", "initdb", "-D"], "initdb"),
        ] {
            let mut command = std::process::Command::new("unshare");
            command.args(arguments);
            assert_eq!(confined_program(&command), name);
        }
    }
}
