//! The source: runs a command and streams its standard output.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use lifeboat_core::process::{Ended, Process, words};
use lifeboat_core::progress::Event;
use lifeboat_core::proof::WholeStream;
use lifeboat_core::{Context, Description, Error, ErrorKind, Proof, Reading, Result, Source, Tap};
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;

use super::process::{Role, prepare, program_of};
use super::system::CommandSettings;
use super::{FORMAT, ITEM, SYSTEM};

/// Bytes gathered from the pipe before they are passed on, and the room for them.
const GATHER: usize = 512 << 10;
/// How long the output may be silent, and still open, after the command has ended.
const SILENCE: Duration = Duration::from_secs(10);
/// The most that a command that ended well may have said on standard error to be passed on, in bytes.
const LONGEST_NOTE: usize = 400;
/// The same in lines.
const LONGEST_NOTE_LINES: usize = 3;

/// What a command prints on standard output.
///
/// ```no_run
/// # fn example() -> lifeboat_core::Result<()> {
/// use lifeboat_backends::command::{CommandSettings, CommandSource};
/// let run = ["sqlite3", "/srv/app.db", ".dump"].map(str::to_owned);
/// let source = CommandSource::new(CommandSettings::default().run(run).format("sql".to_owned()))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct CommandSource {
    settings: CommandSettings,
}

impl CommandSource {
    /// Creates a source that runs the command of `settings`. Nothing is looked up yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for settings that do not go together.
    pub fn new(settings: CommandSettings) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings })
    }
}

#[async_trait]
impl Source for CommandSource {
    async fn describe(&self) -> Result<Description> {
        prepare(&self.settings, Role::Run)?;
        let format = self.settings.format.as_deref().unwrap_or(FORMAT);
        Ok(Description::new(SYSTEM, format).dataset(SYSTEM).tool(program_of(&self.settings, Role::Run)))
    }

    async fn open(&self, cx: &Context) -> Result<Reading> {
        let (process, stdout) = prepare(&self.settings, Role::Run)?.start_reading(cx)?;
        // A pipe of 64 KiB makes both sides switch 16 times for each chunk. Refused beyond the user's limit: then it stays.
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, 1 << 20);
        let whole = Arc::new(AtomicU64::new(UNKNOWN));
        let tap = OutputTap { inner: Box::new(WholeStream::new(ITEM)), seen: 0, whole: whole.clone() };
        let (left, late) = (None, 0);
        let output = Output { process, stdout, bytes: 0, left, late, whole, cx: cx.clone() };
        let stream = futures::stream::unfold(Some(output), |output| async move { output?.next().await }).boxed();
        Ok(Reading::new(stream, Box::new(tap)))
    }
}

/// As long as the command has not ended well.
const UNKNOWN: u64 = u64::MAX;

/// The output of a command that runs.
struct Output {
    process: Process,
    stdout: ChildStdout,
    bytes: u64,
    /// When the command has ended, although its output is open: how much of it was in the pipe then, and is still unread.
    left: Option<u64>,
    /// Bytes that came after its end, from something else.
    late: u64,
    whole: Arc<AtomicU64>,
    cx: Context,
}

impl Output {
    async fn next(mut self) -> Option<(Result<Bytes>, Option<Self>)> {
        let mut chunk = BytesMut::with_capacity(2 * GATHER);
        while chunk.len() < GATHER {
            match self.read(&mut chunk).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Some((Err(error), None)),
            }
        }
        if !chunk.is_empty() {
            self.bytes += chunk.len() as u64;
            return Some((Ok(chunk.freeze()), Some(self)));
        }
        let Self { process, bytes, late, whole, cx, .. } = self;
        let ended = match process.end().await {
            Ok(ended) if ended.is_good() => ended,
            Ok(ended) => return Some((Err(ended.error()), None)),
            Err(error) => return Some((Err(error), None)),
        };
        if late > 0 {
            cx.progress.event(Event::Note(format!(
                "{}: {late} bytes came after it had ended, from something that it started in the background, and how that ended is unknown; let the command wait for it",
                ended.name
            )));
        }
        if let Some(note) = note(&ended) {
            cx.progress.event(Event::Note(note));
        }
        whole.store(bytes, Ordering::Release);
        None
    }

    /// Reads some bytes; 0 at the end.
    async fn read(&mut self, chunk: &mut BytesMut) -> Result<usize> {
        let limits = self.process.limits();
        let name = self.process.name().to_owned();
        let failed = |e| Error::io("read from", &name, e);
        if self.left.is_none() {
            let either = async {
                tokio::select! {
                    biased;
                    read = self.stdout.read_buf(chunk) => Ok(Some(read)),
                    good = self.process.exited() => good.map(|good| (!good).then_some(Ok(0))),
                }
            };
            match limits.meanwhile(either).await?? {
                // When it has failed, its output does not matter any more, and something that it left behind may keep it open.
                Some(read) => return read.map_err(failed),
                // What it wrote is in the pipe; what comes besides is another's.
                None => self.left = Some(rustix::io::ioctl_fionread(&self.stdout).unwrap_or_default()),
            }
        }
        let rest = tokio::time::timeout(SILENCE, self.stdout.read_buf(chunk));
        match limits.meanwhile(rest).await? {
            Ok(read) => {
                let read = read.map_err(failed)?;
                let own = (read as u64).min(self.left.unwrap_or_default());
                self.left = self.left.map(|left| left - own);
                self.late += read as u64 - own;
                Ok(read)
            }
            Err(_) => {
                let why = "it has ended, but something that it started holds its output open";
                Err(Error::new(ErrorKind::Tool, "run", name, why)
                    .hint("stop what it starts in the background, or redirect its output: > /dev/null 2>&1"))
            }
        }
    }
}

/// Words of a line that speaks of a failure.
const FAILURES: [&str; 8] = ["error", "fatal", "fail", "panic", "cannot", "can't", "denied", "abort"];

/// What a command that ended well said, where it is short: warnings are, bars and logs are not. Of a long one the first line
/// that speaks of a failure: programs that go on after one end with 0.
fn note(ended: &Ended) -> Option<String> {
    let lines = ended.stderr.lines().filter(|line| !line.trim().is_empty()).count();
    let said = words(&ended.stderr, &ended.name);
    tracing::debug!(program = ended.name, stderr = ended.stderr, "the command has ended");
    let is_short = (1..=LONGEST_NOTE_LINES).contains(&lines) && said.len() <= LONGEST_NOTE;
    if is_short {
        return Some(format!("{}: {said}", ended.name));
    }
    let speaks = |line: &&str| {
        let line = line.to_ascii_lowercase();
        FAILURES.iter().any(|word| line.contains(word))
    };
    let line: String = ended.stderr.lines().find(speaks)?.trim().chars().take(LONGEST_NOTE).collect();
    Some(format!("{} succeeded, but among {lines} lines it printed: {line}", ended.name))
}

/// Hashes the output, and knows whether it has seen all of it.
struct OutputTap {
    inner: Box<WholeStream>,
    seen: u64,
    /// How much there was, when the command has ended well.
    whole: Arc<AtomicU64>,
}

impl Tap for OutputTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.seen += chunk.len() as u64;
        self.inner.push(chunk)
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        if self.seen != self.whole.load(Ordering::Acquire) {
            let why = "the command had not ended, or its output was not read completely";
            return Err(Error::new(ErrorKind::Corrupt, "read", "the output of the command", why));
        }
        self.inner.finish()
    }
}
