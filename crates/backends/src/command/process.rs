//! Running commands: how they are started, and how they end together with everything in their process group.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::StreamExt;
use lifeboat_core::proof::WholeStream;
use lifeboat_core::report::human_duration;
use lifeboat_core::{ByteStream, Context, Error, ErrorKind, Proof, Result, Status, Tap};
use rustix::process::{Pid, Signal as Sig, WaitId, WaitIdOptions, kill_process_group, waitid};
use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ITEM;
use super::said::{self, Hidden, Tail};
use super::system::CommandSettings;

/// The variables that every command inherits if they are set, besides those whose names begin with `LC_`.
const INHERITED: [&str; 8] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL"];
/// The shell of `shell = true`.
const SHELL: &str = "/bin/sh";
/// How long a killed command may take to exit.
const DYING: Duration = Duration::from_secs(5);

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

/// The name of a command in messages: that of its program, without the folder and without arguments, which may be
/// secret.
pub(super) fn program_of(settings: &CommandSettings, role: Role) -> String {
    let program = if settings.shell { SHELL } else { role.arguments(settings).first().map_or("", String::as_str) };
    Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A command with everything it needs, looked up and ready to start.
pub(super) struct Prepared {
    pub(super) name: String,
    /// The path of the program.
    pub(super) program: PathBuf,
    arguments: Vec<String>,
    folder: Option<PathBuf>,
    variables: BTreeMap<OsString, OsString>,
    hidden: Hidden,
    timeout: Option<Duration>,
}

impl Prepared {
    /// Looks up the program, the folder and the variables.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a command that is not configured, and for a variable or file that does not exist;
    /// [`ErrorKind::NotFound`] for a program or folder that does not exist.
    pub(super) fn new(settings: &CommandSettings, role: Role) -> Result<Self> {
        let arguments = role.arguments(settings);
        let Some((first, rest)) = arguments.split_first() else {
            let which =
                if role == Role::Run { "the command".to_owned() } else { format!("the {} command", role.key()) };
            return Err(Error::new(ErrorKind::Config, "run", which, "none is configured").hint(format!(
                "set {} in the job's table, or give {}",
                role.key(),
                role.flag()
            )));
        };
        let folder = settings.folder.as_ref().map(lifeboat_core::Setting::path).transpose()?;
        if let Some(folder) = folder.as_ref().filter(|folder| !folder.is_dir()) {
            let why = "it is not a folder, or it cannot be read";
            return Err(Error::new(ErrorKind::NotFound, "work in", folder.display().to_string(), why)
                .hint("check the command's folder"));
        }
        let mut hidden = Hidden::default();
        let variables = variables(settings, &mut hidden)?;
        let (program, arguments) = match settings.shell {
            true => (SHELL, vec!["-c".to_owned(), first.clone()]),
            false => (first.as_str(), rest.to_vec()),
        };
        let path = variables.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let program = find(program, folder.as_deref(), path)?;
        let timeout = settings.timeout.map(|length| length.0);
        Ok(Self { name: program_of(settings, role), program, arguments, folder, variables, hidden, timeout })
    }

    /// Makes it work in another folder.
    pub(super) fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Adds a variable.
    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.hidden.add(name, value);
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Starts the command without standard input. Returns its standard output.
    pub(super) fn start_reading(self, cx: &Context) -> Result<(Process, ChildStdout)> {
        let mut process = self.start(Stdio::null(), cx)?;
        let stdout = process.child.stdout.take().expect("a pipe was asked for");
        Ok((process, stdout))
    }

    /// Starts the command with a pipe to its standard input. The end of its standard output is kept.
    pub(super) fn start_writing(self, cx: &Context) -> Result<Process> {
        let mut process = self.start(Stdio::piped(), cx)?;
        process.stdout = process.child.stdout.take().map(Tail::of);
        Ok(process)
    }

    fn start(self, stdin: Stdio, cx: &Context) -> Result<Process> {
        let Self { name, program, arguments, folder, variables, hidden, timeout } = self;
        let failed = |e| Error::io("start", &name, e);
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(variables).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        // Its own group: it can be killed with everything it has started, and Ctrl-C reaches only Lifeboat.
        command.process_group(0).kill_on_drop(true);
        // Registered before the start, so that the end is not missed.
        let ends = signal(SignalKind::child()).map_err(failed)?;
        let mut child = command.spawn().map_err(failed)?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("nobody has waited for it");
        let stderr = Tail::of(child.stderr.take().expect("a pipe was asked for"));
        let deadline = timeout.map(|length| (Instant::now() + length, length));
        let limits = Limits { name, deadline, cancel: cx.cancel.clone() };
        Ok(Process { child, leader: Leader { pid, ends }, stderr, stdout: None, hidden, limits })
    }
}

/// The environment of a command. The rest of Lifeboat's own environment may contain other secrets.
fn variables(settings: &CommandSettings, hidden: &mut Hidden) -> Result<BTreeMap<OsString, OsString>> {
    let passed = |name: &str| settings.pass_env.iter().any(|passed| passed == name);
    let mut variables = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        if passed(text) {
            hidden.add(text, &value.to_string_lossy());
        } else if !(INHERITED.contains(&text) || text.starts_with("LC_")) {
            continue;
        }
        variables.insert(name, value);
    }
    for variable in &settings.env {
        let value = variable.value.secret()?;
        if value.expose_secret().contains('\0') {
            return Err(variable.value.wrong("it holds a zero byte, which a variable cannot"));
        }
        hidden.add(&variable.name, value.expose_secret());
        variables.insert(variable.name.clone().into(), value.expose_secret().into());
    }
    Ok(variables)
}

/// Finds a program. A name with a slash is a path, relative to the folder of the command.
fn find(program: &str, folder: Option<&Path>, path: Option<&OsStr>) -> Result<PathBuf> {
    let runs =
        |path: &Path| path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if program.contains('/') {
        let path = folder.unwrap_or(Path::new("")).join(program);
        // A verify command works in its own folder, but must still be found.
        let path = std::path::absolute(path).map_err(|e| Error::io("find", &name, e))?;
        return match path.metadata() {
            Ok(_) if runs(&path) => Ok(path),
            Ok(_) => {
                let why = format!("{} is not an executable file", path.display());
                Err(Error::new(ErrorKind::Permission, "run", name, why).hint("make it executable: chmod +x"))
            }
            Err(error) => Err(Error::io("find", path.display().to_string(), error)),
        };
    }
    let found =
        path.into_iter().flat_map(std::env::split_paths).map(|folder| folder.join(program)).find(|path| runs(path));
    found.map(|path| std::path::absolute(&path).unwrap_or(path)).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "find", name, "no such program is in a folder of PATH")
            .hint("install it, or write its path; a shell line needs shell = true (--shell)")
    })
}

/// A running command. Dropping it kills its whole process group before its standard input is closed, so that truncated
/// input never looks complete.
pub(super) struct Process {
    child: Child,
    leader: Leader,
    stderr: Tail,
    stdout: Option<Tail>,
    hidden: Hidden,
    pub(super) limits: Limits,
}

/// What may end a command early.
#[derive(Clone)]
pub(super) struct Limits {
    name: String,
    deadline: Option<(Instant, Duration)>,
    cancel: CancellationToken,
}

impl Limits {
    /// Runs `work`, but ends early if the run is cancelled or the command exceeds its time limit.
    pub(super) async fn meanwhile<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let over = async {
            match self.deadline {
                Some((at, length)) => {
                    tokio::time::sleep_until(at).await;
                    length
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::cancelled("run", &self.name)),
            length = over => {
                let why = format!("it had not ended after {}, and was killed", human_duration(length));
                Err(Error::new(ErrorKind::Tool, "run", &self.name, why).hint("give it more time with timeout (--timeout)"))
            }
            done = work => Ok(done),
        }
    }
}

/// The first process of a group. After its end it stays a zombie, so that its group keeps its number and can be killed.
struct Leader {
    pid: Pid,
    ends: Signal,
}

impl Leader {
    /// Waits for its end, and returns whether it succeeded.
    async fn exited(&mut self) -> io::Result<bool> {
        loop {
            if let Some(good) = self.has_exited()? {
                return Ok(good);
            }
            self.ends.recv().await;
        }
    }

    /// Whether it has ended, and if so, whether it succeeded.
    fn has_exited(&self) -> io::Result<Option<bool>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(self.pid), options))?;
        Ok(status.map(|status| status.exit_status() == Some(0)))
    }
}

impl Process {
    /// The name in messages.
    pub(super) fn name(&self) -> &str {
        &self.limits.name
    }

    /// Waits for the end of the command, and returns whether it succeeded.
    pub(super) async fn exited(&mut self) -> Result<bool> {
        self.leader.exited().await.map_err(|e| Error::io("wait for", &self.limits.name, e))
    }

    /// Waits for its end, and kills what is left in its process group.
    pub(super) async fn end(mut self) -> Result<Ended> {
        drop(self.child.stdin.take());
        let limits = self.limits.clone();
        limits.meanwhile(self.exited()).await??;
        self.stderr.settle().await;
        if let Some(stdout) = &mut self.stdout {
            stdout.settle().await;
        }
        self.kill();
        let status = self.child.wait().await.map_err(|e| Error::io("wait for", &limits.name, e))?;
        let stdout = self.stdout.as_ref().map(|tail| tail.text(&self.hidden)).unwrap_or_default();
        Ok(Ended { status, stdout, stderr: self.stderr.text(&self.hidden), name: limits.name })
    }

    /// Kills it at once, and waits until it is gone. Only then is its standard input closed.
    pub(super) async fn abort(mut self) {
        self.kill();
        let _ = tokio::time::timeout(DYING, self.exited()).await;
    }

    /// Kills the process group, but only as long as its number cannot have been reused: until the command has been
    /// waited for.
    fn kill(&self) {
        if self.child.id().is_some() {
            let _ = kill_process_group(self.leader.pid, Sig::KILL);
        }
    }

    /// Writes to its standard input. Returns `false` if it no longer reads.
    async fn write(&mut self, bytes: &[u8]) -> Result<bool> {
        // Not moved out: if this is dropped, stdin must be closed after the end of the command, not before.
        let Some(stdin) = &mut self.child.stdin else { return Ok(false) };
        let leader = &mut self.leader;
        let writing = async {
            tokio::select! {
                biased;
                written = stdin.write_all(bytes) => Some(written),
                // It has ended while something that it started holds the pipe.
                _ = leader.exited() => None,
            }
        };
        match self.limits.meanwhile(writing).await? {
            Some(Ok(())) => Ok(true),
            Some(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::io("write to", &self.limits.name, error))
            }
            Some(Err(_)) | None => {
                self.child.stdin = None;
                Ok(false)
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a command ended.
pub(super) struct Ended {
    status: ExitStatus,
    /// The end of its standard output, cleaned for a message.
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) name: String,
}

impl Ended {
    pub(super) fn is_good(&self) -> bool {
        self.status.success()
    }

    /// How it ended.
    pub(super) fn how(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("status {code}"),
            (None, Some(signal)) => match self.status.to_string().split_once('(') {
                Some((_, name)) => format!("signal {signal} ({}", name.trim_end()),
                None => format!("signal {signal}"),
            },
            (None, None) => self.status.to_string(),
        }
    }

    /// The error for a failed command, with its own words.
    pub(super) fn error(&self) -> Error {
        let how = match self.status.code() {
            Some(_) => format!("it ended with {}", self.how()),
            None => format!("it was killed by {}", self.how()),
        };
        let words = said::words(&self.stderr, &self.name);
        let message = if words.is_empty() { how } else { format!("{how}: {words}") };
        let error = Error::new(ErrorKind::Tool, "run", &self.name, message);
        // The message is for one line of a log; the full output is in the source.
        if said::is_long(&self.stderr, &self.name) { error.with_source(self.stderr.trim_end()) } else { error }
    }
}

/// The result of piping a stream to a command.
pub(super) enum Fed {
    /// The command ended, successfully or not.
    Ended {
        ended: Ended,
        /// Whether it read everything.
        whole: bool,
    },
    /// The stream ended with this error, and the command was killed before it saw an end.
    Broken(Error),
    /// The stream was read to its end and does not match the proof; the command was killed before it saw an end.
    Differs(String),
}

/// Reads a stream to its end and compares it with its proof, while piping it to a command. If the command stops
/// reading, the stream is still read to its end, unless the command has failed and `stop_when_failed` is set.
///
/// # Errors
/// Cancellation, and errors of writing to or waiting for the command, which is then killed.
pub(super) async fn feed(
    mut process: Process,
    stream: &mut ByteStream,
    proof: Option<&Proof>,
    stop_when_failed: bool,
) -> Result<Fed> {
    let limits = process.limits.clone();
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
        if !reads && stop_when_failed && process.leader.has_exited().is_ok_and(|end| end == Some(false)) {
            return Ok(Fed::Ended { ended: process.end().await?, whole: false });
        }
    }
    if let Some(why) = difference(tap, proof)? {
        process.abort().await;
        return Ok(Fed::Differs(why));
    }
    Ok(Fed::Ended { ended: process.end().await?, whole: reads })
}

/// How a stream that was read to its end differs from its proof.
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
