//! Child processes: their environment, waiting for them, and ending them together with this process.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{signals, workspace};

/// The polling interval of waits.
const TICK: Duration = Duration::from_millis(20);

/// How long a child may take to end after being asked to.
const GRACE: Duration = Duration::from_secs(10);

/// Creates a command without the variables that `cargo run` has set: with them, a cargo that we start would run build
/// scripts again.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix))
            || matches!(text, "CARGO" | "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR" | "LD_LIBRARY_PATH");
        if ours {
            command.env_remove(&name);
        }
    }
    command
}

/// The cargo that runs us, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    command
}

/// How a child is tied to this process.
#[derive(Clone, Copy, Default)]
pub(crate) struct Guard<'a> {
    /// The user and group that it runs as; none: the same as ours.
    pub(crate) user: Option<(u32, u32)>,
    /// The signal that the kernel sends it when this process is gone for any reason; by default KILL.
    pub(crate) at_our_death: Option<&'a str>,
}

/// A command that the kernel ends when the thread that started it ends, by kill -9 too. Start it from the main thread,
/// or from one that waits for it.
///
/// `setpriv` from util-linux does it, because asking the kernel from here needs unsafe code between fork and exec. It
/// replaces itself by the program, so the process id stays the same.
pub(crate) fn guarded(program: impl AsRef<OsStr>, guard: Guard<'_>) -> Result<Command> {
    let Some(setpriv) = workspace::program("setpriv") else {
        if guard.user.is_some() {
            bail!("`setpriv` is missing (Debian package util-linux); root needs it to start a server as another user");
        }
        return Ok(command(program));
    };
    let mut command = command(setpriv);
    if let Some((user, group)) = guard.user {
        command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups");
    }
    command.arg("--pdeathsig").arg(guard.at_our_death.unwrap_or("KILL")).arg("--").arg(program);
    Ok(command)
}

/// Runs a step that writes to a log: prints one line when it begins, one when it ends, and the log's last lines if it
/// fails.
pub(crate) fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("xtask: {title} …");
    let started = Instant::now();
    let result = work();
    let seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok(_) => eprintln!("xtask: {title}: done in {seconds:.1} s"),
        Err(_) => eprintln!("xtask: {title}: failed after {seconds:.1} s"),
    }
    result
}

/// Runs a command to its end with its output in the log file; an error contains the last lines of it.
pub(crate) fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    finish_logged(command, log, true)
}

/// Like `run_logged`, but a signal to this process waits until the command has ended: for commands that must not be
/// interrupted.
pub(crate) fn run_logged_to_the_end(command: &mut Command, log: &Path) -> Result<()> {
    finish_logged(command, log, false)?;
    signals::check()
}

fn finish_logged(command: &mut Command, log: &Path, interruptible: bool) -> Result<()> {
    let name = name_of(command);
    let file = File::options().create(true).append(true).open(log);
    let file = file.with_context(|| format!("cannot open the log {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let status = if interruptible {
        wait_or_stop(&mut child)?
    } else {
        child.wait().with_context(|| format!("cannot wait for {name}"))?
    };
    if !status.success() {
        bail!("{name} ended with {status}; its log is {}, the last lines:\n{}", log.display(), log_tail(log));
    }
    Ok(())
}

/// Returns the standard output of a command; if it fails, the error contains its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = name_of(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed what is not UTF-8"))
}

/// Runs a command that uses the terminal itself, until it ends or this process is asked to.
///
/// With a terminal, it stays in this process group, so that it can read from the terminal and Ctrl-C reaches all of it.
/// Without one, it gets its own group, and signals to this process are passed on to the whole group.
pub(crate) fn run_attached(command: &mut Command) -> Result<ExitStatus> {
    let name = name_of(command);
    let own_group = !io::stdin().is_terminal();
    if own_group {
        command.process_group(0);
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    loop {
        if let Some(status) = child.try_wait()? {
            signals::check()?;
            return Ok(status);
        }
        if signals::received().is_some() {
            stop(&mut child, Signal::TERM, own_group, GRACE);
            bail!("interrupted");
        }
        std::thread::sleep(TICK);
    }
}

/// Waits for a child that leads a process group; stops the group when this process is asked to end.
pub(crate) fn wait_or_stop(child: &mut Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if signals::received().is_some() {
            stop(child, Signal::TERM, true, GRACE);
            bail!("interrupted");
        }
        std::thread::sleep(TICK);
    }
}

/// Asks a child to end, waits, kills it (and its process group, if it leads one) when it does not, and reaps it.
pub(crate) fn stop(child: &mut Child, signal: Signal, group: bool, grace: Duration) {
    // An id that is not reaped yet cannot belong to another process, so these signals hit nobody else.
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    if matches!(child.try_wait(), Ok(None)) {
        // SIGINT is for the leader alone: postgres' own processes would take it for another order.
        let whole_group = group && signal == Signal::TERM;
        let _ = if whole_group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
        let deadline = Instant::now() + grace;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = if group { kill_process_group(pid, Signal::KILL) } else { kill_process(pid, Signal::KILL) };
                let _ = child.wait();
                return;
            }
            std::thread::sleep(TICK);
        }
    }
    let _ = child.wait();
}

/// A child's status as an exit status: 128 + n for a child that was ended by a signal, as in shells.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// The last lines of a log, indented.
pub(crate) fn log_tail(log: &Path) -> String {
    const BYTES: u64 = 16 * 1024;
    const LINES: usize = 20;
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(cannot read the log: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("    {line}\n")).collect()
}

/// Starts a log anew.
pub(crate) fn fresh_log(step: &str) -> Result<std::path::PathBuf> {
    let log = workspace::log_file(step)?;
    match fs::remove_file(&log) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", log.display()))
        }
        _ => Ok(log),
    }
}

/// The program's name for messages; behind `setpriv … --`, that of the program that it starts.
fn name_of(command: &Command) -> String {
    let program = command.get_program();
    let behind = command.get_args().skip_while(|argument| *argument != OsStr::new("--")).nth(1);
    let is_setpriv = Path::new(program).file_name() == Some(OsStr::new("setpriv"));
    let name: OsString = behind.filter(|_| is_setpriv).unwrap_or(program).to_owned();
    format!("`{}`", Path::new(&name).file_name().unwrap_or(&name).display())
}
