//! Programs that a run starts: hooks, and the commands of a system. No shell is asked unless it is the program.
//!
//! A program has a process group of its own and an environment of its own: of ours it gets what every program needs, and what is
//! given to it by name. It ends, with everything in its group, when whoever runs it goes. What it says is kept up to a limit and
//! made fit for messages: without what a terminal would obey, and without the values of variables.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal as Sig, WaitId, WaitIdOptions, kill_process_group, waitid};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::report::human_duration;

mod said;

pub use said::words;
use said::{Hidden, Tail};

/// The variables that every program gets, where they are set, beside those whose names begin with `LC_`.
const INHERITED: [&str; 8] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL"];
/// The shell of those that are a shell line.
const SHELL: &str = "/bin/sh";
/// How long a killed program may take to be gone.
const DYING: Duration = Duration::from_secs(5);

/// What messages call a program: its name, without the folder and without arguments, which may be secret.
pub fn name_of(words: &[String], shell: bool) -> String {
    let program = if shell { SHELL } else { words.first().map_or("", String::as_str) };
    Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// An argument, quoted for a shell where it has to be.
pub fn quoted(argument: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&b);
    if !argument.is_empty() && argument.bytes().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

/// A program and its arguments as a line for a shell.
pub fn line_of(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// The environment of a program. The rest of ours holds the secrets of others.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    hidden: Hidden,
}

impl Environment {
    /// What every program needs, and the variables of ours with these names.
    pub fn inherit(passed: &[String]) -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            let Some(text) = name.to_str() else { continue };
            if passed.iter().any(|passed| passed == text) {
                environment.hidden.add(text, &value.to_string_lossy());
            } else if !(INHERITED.contains(&text) || text.starts_with("LC_")) {
                continue;
            }
            environment.variables.insert(name, value);
        }
        environment
    }

    /// A further variable. No message shows its value.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &SecretString) -> Self {
        self.hidden.add(name, value.expose_secret());
        self.variables.insert(name.into(), value.expose_secret().into());
        self
    }

    /// A further variable, which is no secret.
    #[must_use]
    pub fn open(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// A program with everything that it needs, looked up and ready to be started.
#[derive(Debug)]
pub struct Program {
    name: String,
    /// Where it is.
    path: PathBuf,
    arguments: Vec<String>,
    folder: Option<PathBuf>,
    environment: Environment,
    timeout: Option<Duration>,
}

impl Program {
    /// Looks up a program, given with its arguments; with `shell`, the first of the words is a line for `/bin/sh`. Without a folder
    /// it works in the current one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for no words, [`ErrorKind::NotFound`] for a program or folder that does not exist,
    /// [`ErrorKind::Permission`] for a file that cannot be run.
    pub fn find(words: &[String], shell: bool, folder: Option<PathBuf>, environment: Environment) -> Result<Self> {
        let Some((first, rest)) = words.split_first() else {
            return Err(Error::new(ErrorKind::Config, "run", "the command", "it is empty"));
        };
        if let Some(folder) = folder.as_ref().filter(|folder| !folder.is_dir()) {
            let why = "it is not a folder, or it cannot be read";
            return Err(Error::new(ErrorKind::NotFound, "work in", folder.display().to_string(), why)
                .hint("check the command's folder"));
        }
        let (program, arguments) = match shell {
            true => (SHELL, vec!["-c".to_owned(), first.clone()]),
            false => (first.as_str(), rest.to_vec()),
        };
        let search = environment.variables.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let path = find(program, folder.as_deref(), search)?;
        Ok(Self { name: name_of(words, shell), path, arguments, folder, environment, timeout: None })
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long it may run.
    #[must_use]
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes it work in another folder.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Gives it a further variable. No message shows its value.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment = self.environment.secret(name, &value.into());
        self
    }

    /// Starts it without anything on standard input. Its standard output is given back.
    ///
    /// # Errors
    /// What keeps it from being started.
    pub fn start_reading(self, cx: &Context) -> Result<(Process, ChildStdout)> {
        let mut process = self.start(Stdio::null(), cx)?;
        let stdout = process.child.stdout.take().expect("a pipe was asked for");
        Ok((process, stdout))
    }

    /// Starts it with a pipe to its standard input. Of its standard output, the end is kept.
    ///
    /// # Errors
    /// What keeps it from being started.
    pub fn start_writing(self, cx: &Context) -> Result<Process> {
        let mut process = self.start(Stdio::piped(), cx)?;
        process.stdout = process.child.stdout.take().map(Tail::of);
        Ok(process)
    }

    /// Starts it without anything on standard input. Of its standard output, the end is kept.
    ///
    /// # Errors
    /// What keeps it from being started.
    pub fn start_alone(self, cx: &Context) -> Result<Process> {
        let mut process = self.start(Stdio::null(), cx)?;
        process.stdout = process.child.stdout.take().map(Tail::of);
        Ok(process)
    }

    fn start(self, stdin: Stdio, cx: &Context) -> Result<Process> {
        let Self { name, path, arguments, folder, environment: Environment { variables, hidden }, timeout } = self;
        let failed = |e| Error::io("start", &name, e);
        let mut command = Command::new(path);
        command.args(arguments).env_clear().envs(variables).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        // A group of its own: it can be killed with all that it has started, and Ctrl-C reaches us alone.
        command.process_group(0).kill_on_drop(true);
        // Listened to before it starts, so that its end is not missed.
        let ends = signal(SignalKind::child()).map_err(failed)?;
        let mut child = command.spawn().map_err(failed)?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("nobody has waited for it");
        let stderr = Tail::of(child.stderr.take().expect("a pipe was asked for"));
        let deadline = timeout.map(|length| (Instant::now() + length, length));
        let limits = Limits { name, deadline, cancel: cx.cancel.clone() };
        Ok(Process { child, leader: Leader { pid, ends }, stderr, stdout: None, hidden, limits })
    }
}

/// Where a program is. With a slash in it, it is a path, from the folder of the command.
fn find(program: &str, folder: Option<&Path>, path: Option<&OsStr>) -> Result<PathBuf> {
    let runs =
        |path: &Path| path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if program.contains('/') {
        let path = folder.unwrap_or(Path::new("")).join(program);
        // A verify command works in a folder of its own, and is found all the same.
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

/// A command that runs. With it goes its whole process group, before its standard input is closed: what is cut short never
/// looks like the end.
pub struct Process {
    child: Child,
    leader: Leader,
    stderr: Tail,
    stdout: Option<Tail>,
    hidden: Hidden,
    limits: Limits,
}

/// What may end a command early.
#[derive(Clone)]
pub struct Limits {
    name: String,
    deadline: Option<(Instant, Duration)>,
    cancel: CancellationToken,
}

impl Limits {
    /// Does something that ends early when the run is cancelled, or when the command had its time.
    pub async fn meanwhile<T>(&self, work: impl Future<Output = T>) -> Result<T> {
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

/// The first process of a group. It stays a zombie when it has ended, so that its group keeps its number and can be killed.
struct Leader {
    pid: Pid,
    ends: Signal,
}

impl Leader {
    /// Waits for its end, and says whether it ended well.
    async fn exited(&mut self) -> io::Result<bool> {
        loop {
            if let Some(good) = self.has_exited()? {
                return Ok(good);
            }
            self.ends.recv().await;
        }
    }

    /// Whether it has ended, and if so whether well.
    fn has_exited(&self) -> io::Result<Option<bool>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(self.pid), options))?;
        Ok(status.map(|status| status.exit_status() == Some(0)))
    }
}

impl Process {
    /// What may end it early.
    pub fn limits(&self) -> Limits {
        self.limits.clone()
    }

    /// Whether it has ended, and not well.
    pub fn has_failed(&self) -> bool {
        self.leader.has_exited().is_ok_and(|end| end == Some(false))
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.limits.name
    }

    /// Waits for the end of the command, and says whether it ended well.
    pub async fn exited(&mut self) -> Result<bool> {
        self.leader.exited().await.map_err(|e| Error::io("wait for", &self.limits.name, e))
    }

    /// Waits for its end, and ends what it has left in its process group.
    pub async fn end(mut self) -> Result<Ended> {
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

    /// Ends it at once, and waits until it is gone. Only then its standard input is closed.
    pub async fn abort(mut self) {
        self.kill();
        let _ = tokio::time::timeout(DYING, self.exited()).await;
    }

    /// Asks it to end with `TERM`, as the whole of its group, and kills what is still there after `grace`. Gives the end of what it
    /// said, fit for a message.
    pub async fn stop(mut self, grace: Duration) -> String {
        self.signal(Sig::TERM);
        let _ = tokio::time::timeout(grace, self.exited()).await;
        self.kill();
        let _ = tokio::time::timeout(DYING, self.exited()).await;
        self.stderr.settle().await;
        said::words(&self.stderr.text(&self.hidden), &self.limits.name)
    }

    /// Kills the process group, as long as its number cannot be another's: until the command has been waited for.
    fn kill(&self) {
        self.signal(Sig::KILL);
    }

    fn signal(&self, signal: Sig) {
        if self.child.id().is_some() {
            let _ = kill_process_group(self.leader.pid, signal);
        }
    }

    /// Writes to its standard input. `false` when it does not read any more.
    ///
    /// # Errors
    /// What keeps it from being written to; a run that is cancelled.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<bool> {
        // Not taken out of its place: when this is dropped, it is to be closed after the end of the command, not before.
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
#[non_exhaustive]
pub struct Ended {
    status: ExitStatus,
    /// The end of what it said there, fit for a message.
    pub stdout: String,
    /// The same of its standard error.
    pub stderr: String,
    /// What messages call it.
    pub name: String,
}

impl Ended {
    /// Whether it ended with 0.
    pub fn is_good(&self) -> bool {
        self.status.success()
    }

    /// How it ended.
    pub fn how(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("status {code}"),
            (None, Some(signal)) => match self.status.to_string().split_once('(') {
                Some((_, name)) => format!("signal {signal} ({}", name.trim_end()),
                None => format!("signal {signal}"),
            },
            (None, None) => self.status.to_string(),
        }
    }

    /// The error for one that did not end well, with its own words.
    pub fn error(&self) -> Error {
        let how = match self.status.code() {
            Some(_) => format!("it ended with {}", self.how()),
            None => format!("it was killed by {}", self.how()),
        };
        let words = said::words(&self.stderr, &self.name);
        let message = if words.is_empty() { how } else { format!("{how}: {words}") };
        let error = Error::new(ErrorKind::Tool, "run", &self.name, message);
        // A message is for one line of a log; all that it said comes below.
        if said::is_long(&self.stderr, &self.name) { error.with_source(self.stderr.trim_end()) } else { error }
    }
}
