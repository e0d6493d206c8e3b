//! A stage: CPU work on its own thread, joined to its neighbours by short bounded channels.
//!
//! The end of a stream is explicit, never inferred: a stage that dies (a panic, a killed thread) drops its channel
//! without sending the end, and its reader gets an error instead of a short stream that looks whole.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use zeroize::Zeroize;

use crate::error::{Error, ErrorKind, Result};
use crate::limiter::{Limiter, Seat};
use crate::memory::{Confidential, wiped};
use crate::span;
use crate::stream::{ByteStream, CHUNK};

/// The number of chunks that wait between two stages. Four of 1 MiB absorb the jitter of both sides; more only cost
/// memory.
const DEPTH: usize = 4;

enum Message {
    Chunk(Bytes),
    Failed(Error),
    End,
}

/// Runs `work` on its own thread between `input` and the returned stream.
///
/// If `work` fails, its error is the stream's last item. If the returned stream is dropped, `work` gets an error from
/// its next read or write, and `input` is dropped with it.
pub fn spawn<F>(name: &'static str, input: ByteStream, work: F) -> ByteStream
where
    F: FnOnce(&mut StageInput, &mut StageOutput) -> Result<()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(DEPTH);
    let wipes = Confidential::is_held();
    let runtime = Handle::current();
    let limiter = Limiter::current();
    let seat = limiter.seat(runtime.clone());
    let span = span::stage(name);
    let stage = move || {
        let _inside = span.enter();
        let mut input = StageInput {
            stream: Some(input),
            chunk: Bytes::new(),
            downstream: sender.clone(),
            runtime,
            seat: seat.clone(),
            name,
            consumed: 0,
            wipes,
        };
        let mut output = StageOutput { sender, pending: Vec::new(), seat: seat.clone(), name, wipes };
        seat.take();
        let done = work(&mut input, &mut output).and_then(|()| output.flush_pending());
        seat.leave();
        span.record("bytes", input.consumed);
        let last = match done {
            Ok(()) => Message::End,
            Err(error) => Message::Failed(error),
        };
        // Nobody listens any more when the reader has gone: that is its business.
        let _ = output.sender.blocking_send(last);
    };
    let spawned =
        std::thread::Builder::new().name(format!("lifeboat-{name}")).spawn(move || limiter.govern_thread(stage));
    if let Err(error) = spawned {
        let error = Error::io("start", format!("the {name} stage"), error);
        return futures::stream::iter([Err(error)]).boxed();
    }
    receive(name, receiver)
}

fn receive(name: &'static str, receiver: mpsc::Receiver<Message>) -> ByteStream {
    futures::stream::unfold(Some(receiver), move |state| async move {
        let mut receiver = state?;
        match receiver.recv().await {
            Some(Message::Chunk(chunk)) => Some((Ok(chunk), Some(receiver))),
            Some(Message::Failed(error)) => Some((Err(error), None)),
            Some(Message::End) => None,
            None => {
                let error = Error::new(
                    ErrorKind::Internal,
                    "finish",
                    format!("the {name} stage"),
                    "it ended without a result (a panic; see the log)",
                );
                Some((Err(error), None))
            }
        }
    })
    .boxed()
}

/// The input of a stage: chunks, or bytes through [`Read`] and [`BufRead`].
pub struct StageInput {
    stream: Option<ByteStream>,
    chunk: Bytes,
    downstream: mpsc::Sender<Message>,
    runtime: Handle,
    seat: Arc<Seat>,
    name: &'static str,
    consumed: u64,
    /// Whether what passes is secret: buffers are wiped.
    wipes: bool,
}

impl StageInput {
    /// Returns the next chunk as received, without copying; `None` at the end.
    ///
    /// # Errors
    /// The error of the input, unchanged.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        if self.chunk.has_remaining() {
            let chunk = std::mem::take(&mut self.chunk);
            self.consumed += chunk.len() as u64;
            return Ok(Some(chunk));
        }
        self.fill()?;
        if self.chunk.is_empty() {
            return Ok(None);
        }
        self.next_chunk()
    }

    /// Makes sure that `chunk` holds something unless the stream has ended.
    fn fill(&mut self) -> Result<()> {
        while self.chunk.is_empty() {
            let Some(stream) = self.stream.as_mut() else { return Ok(()) };
            let (runtime, downstream) = (&self.runtime, &self.downstream);
            let next = self.seat.leave_for(|| {
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        next = stream.next() => Ok(next),
                        () = downstream.closed() => Err(()),
                    }
                })
            });
            match next {
                Ok(Some(Ok(chunk))) => self.chunk = chunk,
                Ok(Some(Err(error))) => {
                    self.stream = None;
                    return Err(error);
                }
                Ok(None) => self.stream = None,
                Err(()) => return Err(abandoned(self.name)),
            }
        }
        Ok(())
    }

    /// Returns the next `count` bytes without consuming them (fewer at the end of the stream).
    ///
    /// # Errors
    /// The error of the input.
    pub fn peek(&mut self, count: usize) -> Result<Bytes> {
        self.fill()?;
        if self.chunk.len() < count {
            let mut parts = vec![std::mem::take(&mut self.chunk)];
            while parts.iter().map(Bytes::len).sum::<usize>() < count {
                self.fill()?;
                if self.chunk.is_empty() {
                    break;
                }
                parts.push(std::mem::take(&mut self.chunk));
            }
            self.chunk = chunk_of(parts.concat(), self.wipes);
        }
        Ok(self.chunk.slice(..count.min(self.chunk.len())))
    }

    /// The number of bytes read so far.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }
}

impl BufRead for StageInput {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fill()?;
        Ok(&self.chunk)
    }

    fn consume(&mut self, count: usize) {
        self.chunk.advance(count);
        self.consumed += count as u64;
    }
}

impl Read for StageInput {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// The output of a stage: whole chunks without copying, or bytes through [`Write`], collected into chunks.
pub struct StageOutput {
    sender: mpsc::Sender<Message>,
    pending: Vec<u8>,
    seat: Arc<Seat>,
    name: &'static str,
    wipes: bool,
}

/// The bytes as a chunk, which is wiped at its end if requested.
fn chunk_of(bytes: Vec<u8>, wipes: bool) -> Bytes {
    if wipes { wiped(bytes) } else { bytes.into() }
}

impl StageOutput {
    /// Passes a chunk on unchanged, after everything written before.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the reader is gone.
    pub fn send(&mut self, chunk: Bytes) -> Result<()> {
        self.flush_pending()?;
        self.pass(chunk)
    }

    /// Adds bytes, which are passed on in whole chunks.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] when nobody reads any more.
    pub fn gather(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let count = self.add(bytes)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Adds as many as there is room for.
    fn add(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.pending.capacity() == 0 {
            // Never more than this is put in: it does not move, and leaves no copy behind.
            self.pending.reserve_exact(CHUNK);
        }
        let count = bytes.len().min(CHUNK - self.pending.len());
        self.pending.extend_from_slice(&bytes[..count]);
        if self.pending.len() == CHUNK {
            self.flush_pending()?;
        }
        Ok(count)
    }

    fn pass(&mut self, chunk: Bytes) -> Result<()> {
        if chunk.is_empty() {
            return Ok(());
        }
        let sent = self.seat.leave_for(|| self.sender.blocking_send(Message::Chunk(chunk)));
        sent.map_err(|_| abandoned(self.name))
    }

    fn flush_pending(&mut self) -> Result<()> {
        let chunk = chunk_of(std::mem::take(&mut self.pending), self.wipes);
        self.pass(chunk)
    }
}

impl Drop for StageOutput {
    /// Wipes what was collected but not passed on.
    fn drop(&mut self) {
        if self.wipes {
            self.pending.zeroize();
        }
    }
}

impl Write for StageOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.add(bytes)?)
    }

    /// Does nothing: chunks are passed on when full and at the end, and a cipher that flushes often must not make them
    /// small.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn abandoned(name: &'static str) -> Error {
    Error::new(ErrorKind::Cancelled, "go on with", format!("the {name} stage"), "nobody reads its output any more")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream;

    #[tokio::test]
    async fn bytes_pass_through_in_order() {
        let input = futures::stream::iter((0..100u8).map(|i| Ok(Bytes::from(vec![i; 1000])))).boxed();
        let output = spawn("test", input, |input, output| {
            while let Some(chunk) = input.next_chunk()? {
                output.write_all(&chunk).map_err(|e| Error::io("write", "x", e))?;
            }
            Ok(())
        });
        let all = stream::collect(output, 1 << 20, "x").await.unwrap();
        assert_eq!(all.len(), 100_000);
        assert!(all.chunks(1000).enumerate().all(|(i, c)| c.iter().all(|b| *b == i as u8)));
    }

    #[tokio::test]
    async fn a_stage_that_panics_is_an_error_and_not_a_short_stream() {
        let output = spawn("test", stream::once("abc"), |_, output| {
            output.send(Bytes::from_static(b"part")).unwrap();
            panic!("on purpose")
        });
        let error = stream::collect(output, 100, "x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
    }

    #[tokio::test]
    async fn an_error_before_the_stage_is_passed_on_as_it_is() {
        let first = Error::new(ErrorKind::Tool, "run", "some_dump", "exit 1");
        let input = futures::stream::iter([Ok(Bytes::from_static(b"abc")), Err(first)]).boxed();
        let output = spawn("test", input, |input, output| {
            io::copy(input, output).map(drop).map_err(|e| Error::io("copy", "x", e))
        });
        let error = stream::collect(output, 100, "x").await.unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::Tool, "some_dump"));
    }

    #[tokio::test]
    async fn dropping_the_output_ends_a_stage_that_waits_for_input() {
        let (alive, mut gone) = mpsc::channel::<()>(1);
        let input = futures::stream::pending().boxed();
        let output = spawn("test", input, move |input, _| {
            let _alive = alive;
            input.next_chunk().map(drop)
        });
        drop(output);
        assert_eq!(gone.recv().await, None);
    }

    #[tokio::test]
    async fn peeking_takes_nothing_away() {
        let input = futures::stream::iter([Ok(Bytes::from_static(b"a")), Ok(Bytes::from_static(b"bcd"))]).boxed();
        let output = spawn("test", input, |input, output| {
            assert_eq!(&input.peek(3)?[..], b"abc");
            assert_eq!(&input.peek(30)?[..], b"abcd");
            output.send(input.next_chunk()?.unwrap())
        });
        assert_eq!(&stream::collect(output, 100, "x").await.unwrap()[..], b"abcd");
    }
}
