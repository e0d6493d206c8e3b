//! One run of a binary: arguments, logging, signals, runtime, exit status.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Command;
use clap::error::{ContextKind, ContextValue};
use lifeboat_core::cli::settle;
use lifeboat_core::words::listed;
use lifeboat_core::{Context, Error, ErrorKind, Result};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::arguments::Global;
use crate::exit::Exit;
use crate::output::Output;
use crate::progress::Reporter;

/// How long the orderly end of a cancelled run may take.
const CANCEL_GRACE: Duration = Duration::from_secs(4);
/// When the process ends in any case, measured from the signal.
const CANCEL_LIMIT: Duration = Duration::from_millis(4800);

/// How often is looked whether the hooks of a cancelled run have ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a command receives.
pub(crate) struct Session {
    pub(crate) output: Arc<Output>,
    pub(crate) context: Context,
    reporter: Arc<Reporter>,
}

impl Session {
    fn new(global: &Global) -> Self {
        let output = Arc::new(Output::new(global.json, global.quiet, global.no_color).verbose(global.verbose > 0));
        let reporter = Arc::new(Reporter::new(output.clone()));
        let context = Context::default().progress(reporter.clone());
        Self { output, context, reporter }
    }

    /// Begins a job: clears what the one before left on the screen.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] when the run was cancelled.
    pub(crate) fn begin(&self, operation: &'static str, job: &str) -> Result<()> {
        self.reporter.reset();
        if self.context.cancel.is_cancelled() { Err(Error::cancelled(operation, job)) } else { Ok(()) }
    }
}

impl Session {
    /// The outcome of a job. Errors that a cancelled run meets on its way out are not what ended it.
    pub(crate) fn settle<T>(&self, operation: &'static str, job: &str, outcome: Result<T>) -> Result<T> {
        settle(&self.context, operation, job, outcome)
    }
}

/// Runs a program to its end. The errors of single jobs have been printed already and only affect the exit status.
pub(crate) fn main(global: &Global, run: impl AsyncFnOnce(&Session) -> Result<Exit>) -> ExitCode {
    let session = Session::new(global);
    log_to(&session.output, global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            session.output.fatal(&Error::io("start", "the runtime", error));
            return ExitCode::from(Exit::Failed.code());
        }
    };
    let ended = runtime.block_on(async {
        watch_signals(&session);
        let cancelled = async {
            session.context.cancel.cancelled().await;
            tokio::time::sleep(CANCEL_GRACE).await;
            // What a hook has frozen must be thawed.
            if session.context.owes_hooks() {
                while session.context.owes_hooks() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                tokio::time::sleep(CANCEL_GRACE).await;
            }
        };
        tokio::select! {
            ended = run(&session) => ended,
            () = cancelled => Err(Error::cancelled("finish", "the command")),
        }
    });
    // What still blocks a thread now is a read that nobody waits for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    session.reporter.reset();
    let exit = ended.unwrap_or_else(|error| {
        session.output.fatal(&error);
        Exit::from(&error)
    });
    ExitCode::from(exit.code())
}

/// Wrong usage that clap cannot detect.
pub(crate) fn usage_error(error: &Error) -> ExitCode {
    let json = std::env::args_os().any(|a| a == "--json");
    Output::new(json, true, false).fatal(error);
    ExitCode::from(Exit::Usage.code())
}

/// A flag that other commands of the program take. What clap suggests for it is another flag with a similar name.
pub(crate) fn misplaced(program: &Command, error: &clap::Error) -> Option<Error> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = flag.strip_prefix("--").filter(|_| error.kind() == clap::error::ErrorKind::UnknownArgument)?;
    let takes =
        |command: &&Command| command.get_arguments().any(|arg| arg.get_long() == Some(name) && !arg.is_hide_set());
    let commands: Vec<String> = program.get_subcommands().filter(takes).map(|c| c.get_name().to_owned()).collect();
    // For the command that was called, it is an option of other systems.
    let called = std::env::args().skip(1).find(|word| program.find_subcommand(word).is_some());
    if commands.is_empty() || called.is_some_and(|called| commands.contains(&called)) {
        return None;
    }
    let why = format!("this command does not take it, only {}", listed(&commands));
    let error = Error::new(ErrorKind::Config, "use", flag, why);
    Some(match name {
        "identity" => {
            error.hint("elsewhere, the keys are those of the config: identity = \"PATH\" in [defaults] or in the job")
        }
        _ => error,
    })
}

/// The hint of a value's own parser: clap shows only its message.
fn advice(error: &clap::Error) -> Option<&str> {
    std::error::Error::source(error)?.downcast_ref::<Error>()?.advice()
}

/// What clap reports: help and version are results, everything else is wrong usage.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let is_error = error.use_stderr();
    if is_error && std::env::args_os().any(|a| a == "--json") {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let advice = advice(error).unwrap_or("see --help").to_owned();
        Output::new(true, true, true)
            .fatal(&Error::new(ErrorKind::Config, "read", "the arguments", message).hint(advice));
    } else {
        // Standard output or error may be closed; there is nobody to tell.
        let _ = error.print();
        if let Some(advice) = advice(error) {
            Output::new(false, true, true).write_err(&format!("  hint: {advice}"));
        }
    }
    ExitCode::from(if is_error { Exit::Usage.code() } else { Exit::Good.code() })
}

/// The first signal cancels; the second, or the end of patience, ends the process.
fn watch_signals(session: &Session) {
    use tokio::signal::unix::{SignalKind, signal};
    let (context, output) = (session.context.clone(), session.output.clone());
    // Before anything runs: from now on a signal cancels, and does not kill. HUP comes when a terminal goes.
    let (sender, mut signals) = tokio::sync::mpsc::channel(4);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()] {
        // nohup, or a shell that runs something in the background, wants it to go on.
        if matches!(kind.as_raw_value(), 1 | 3) && is_ignored(kind.as_raw_value()) {
            continue;
        }
        let Ok(mut stream) = signal(kind) else { return };
        let sender = sender.clone();
        tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(()).await.is_ok() {} });
    }
    tokio::spawn(async move {
        let mut first = true;
        while signals.recv().await.is_some() {
            if !std::mem::replace(&mut first, false) {
                std::process::exit(Exit::Failed.code().into());
            }
            output.note("cancelling; a second signal stops at once");
            context.cancel.cancel();
            let context = context.clone();
            // Not a task: the runtime's threads may all be blocked.
            std::thread::spawn(move || {
                std::thread::sleep(CANCEL_LIMIT);
                if context.owes_hooks() {
                    while context.owes_hooks() {
                        std::thread::sleep(LOOK_EVERY);
                    }
                    std::thread::sleep(CANCEL_LIMIT);
                }
                std::process::exit(Exit::Failed.code().into());
            });
        }
    });
}

/// Whether whoever started us had a signal ignored: proc(5), `SigIgn`.
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| (mask >> (number - 1)) & 1 == 1)
}

fn log_to(output: &Arc<Output>, global: &Global) {
    let default = match (global.quiet, global.verbose) {
        // What kube_client logs as an error, it also returns.
        (true, _) => "error,kube_client=off",
        (false, 0) => "warn,lifeboat_cli=info,kube_client=off",
        (false, 1) => "info,lifeboat=debug",
        (false, _) => "debug,lifeboat=trace",
    };
    let preset = || default.parse().unwrap_or_else(|_| Targets::new());
    let filter: Targets = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => text.parse().unwrap_or_else(|error| {
            output.warn(&format!("RUST_LOG cannot be used: {error}"));
            preset()
        }),
        _ => preset(),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(global.verbose > 0)
        .with_writer(LogLines(output.clone()));
    // Fails only when there is a subscriber already, which is as good.
    // Lines say what they are about; spans are for programs that collect them.
    let lines = lines.with_filter(filter.and(filter_fn(|metadata| !metadata.is_span())));
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

/// Log lines go above the progress bars.
struct LogLines(Arc<Output>);

struct LogLine {
    output: Arc<Output>,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine { output: self.0.clone(), text: Vec::new() }
    }
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        if !text.is_empty() {
            self.output.write_err(text.trim_end_matches('\n'));
        }
    }
}
