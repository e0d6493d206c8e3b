//! Receiving the log.
//!
//! Between `START_REPLICATION` and the end both sides send `CopyData`, big-endian, with clocks in microseconds since 2000:
//!
//! | first byte | from | what follows |
//! |---|---|---|
//! | `w` | server | u64 start, u64 end of the server's log, i64 clock, the log |
//! | `k` | server | u64 end, i64 clock, u8 whether it wants an answer |
//! | `r` | client | u64 written, u64 flushed, u64 applied, i64 clock, u8 whether it wants an answer |
//!
//! Source: `walsender.c`, `XLogSendPhysical`, `WalSndKeepalive`, `ProcessStandbyReplyMessage`.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use jiff::Timestamp;
use lifeboat_core::{Error, ErrorKind, Result};
use postgres_protocol::message::frontend;
use tokio::time::Instant;

use super::super::wal::{Lsn, PgTime, Timeline};
use super::answer::{ServerError, row, text};
use super::client::{ANSWER, ReplicationClient, SlotName};
use super::refusal::Command;
use super::wire::Message;

/// After how much silence the server is asked whether it is still there.
const PING: Duration = Duration::from_secs(10);
/// How long it may then be silent. Only then: whoever takes what comes may have been away for a while.
const SILENCE: Duration = Duration::from_secs(50);
/// The least time between two answers that say the same. A server that is shutting down asks again as soon as it has one.
const PAUSE: Duration = Duration::from_millis(100);

/// What comes of [`ReplicationClient::start_replication`].
#[derive(Debug)]
pub enum Started<'a> {
    /// The log comes.
    Streaming(WalStream<'a>),
    /// The position is where the timeline was left: there is nothing more of it.
    Ended(TimelineSwitch),
}

/// Where a timeline was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The one that follows it on the server: not always the next number.
    pub next: Timeline,
    /// Where it begins. The server may have sent more of the old one, which it did not replay itself.
    pub start: Lsn,
}

/// What comes from the server.
#[derive(Clone, Debug)]
pub enum Received {
    /// A piece of the log.
    Data(WalData),
    /// A sign of life.
    Keepalive(Keepalive),
    /// Nothing more comes.
    Ended(Ended),
}

/// A piece of the log, which begins where the one before ended.
#[derive(Clone, Debug)]
pub struct WalData {
    /// Where it begins.
    pub start: Lsn,
    /// How far the server's log goes.
    pub server_end: Lsn,
    /// The server's clock when it was sent.
    pub clock: PgTime,
    /// The bytes: at most 128 KiB.
    pub bytes: Bytes,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How far the server's log goes.
    pub server_end: Lsn,
    /// The server's clock when it was sent.
    pub clock: PgTime,
    /// Whether the server wants to know what is flushed. It is told so by itself; but a server that is shutting down waits until all
    /// is flushed, so now is the time to do it.
    pub wants_reply: bool,
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The timeline was left. The connection can be used on.
    Timeline(TimelineSwitch),
    /// [`WalStream::finish`] has ended it. The connection can be used on.
    Finished,
    /// The server has shut down, and all was flushed. The connection is gone.
    Shutdown,
}

/// The log as it is written. While it is there, the connection can do nothing else.
///
/// Signs of life are answered by [`next`](Self::next), at most ten times a second unless more was flushed, so that a server that is
/// shutting down and its receiver do not keep each other busy.
#[derive(Debug)]
pub struct WalStream<'a> {
    client: &'a mut ReplicationClient,
    /// Where the next piece begins.
    position: Lsn,
    /// What was flushed before this stream.
    durable: Lsn,
    written: Lsn,
    flushed: Lsn,
    /// Whether the server does not know yet what is flushed.
    is_news: bool,
    /// Whether it waits for an answer.
    is_owed: bool,
    sent: Instant,
    heard: Instant,
    /// Since when the server has been asked for a sign of life, and has given none.
    asked: Option<Instant>,
    ending: Ending,
    error: Option<Error>,
}

/// How far the stream has come to its end.
#[derive(Clone, Copy, Debug, Default)]
struct Ending {
    /// Whether we have said so, and first.
    asked: bool,
    /// Whether the server has said so.
    told: bool,
    switch: Option<TimelineSwitch>,
    done: bool,
}

impl ReplicationClient {
    /// Streams the log of a timeline from a position on: through a slot if the server is to keep what is not confirmed.
    ///
    /// `durable` is up to where the log was stored before, such as the slot's [`restart`](super::Slot::restart);
    /// [`Lsn::ZERO`] if it is not known. It may lie behind `from`: a stream is best begun at the start of a segment.
    ///
    /// # Errors
    /// [`Refusal::SlotBusy`](super::Refusal::SlotBusy), [`Refusal::NoSuchSlot`](super::Refusal::NoSuchSlot),
    /// [`Refusal::Position`](super::Refusal::Position). That the log is not there any more
    /// ([`Refusal::LogGone`](super::Refusal::LogGone)) may also be the first that the stream says.
    pub async fn start_replication(
        &mut self,
        slot: Option<&SlotName>,
        from: Lsn,
        timeline: Timeline,
        durable: Lsn,
    ) -> Result<Started<'_>> {
        let slot = slot.map(|slot| format!("SLOT \"{slot}\" ")).unwrap_or_default();
        self.ask(&format!("START_REPLICATION {slot}PHYSICAL {from} TIMELINE {timeline}"))?;
        let mut switch = None;
        loop {
            let message = self.wire.message(ANSWER).await?;
            match message.tag {
                b'W' => break,
                b'T' | b'C' => {}
                b'D' => switch = Some(self.switch(&message)?),
                b'E' => return Err(self.refused(&message.body, Command::Start).await),
                b'Z' => {
                    self.is_amid = false;
                    let switch = switch.ok_or_else(|| self.wire.broken("no log and no next timeline"))?;
                    return Ok(Started::Ended(switch));
                }
                _ => return Err(self.wire.unexpected(&message)),
            }
        }
        let now = Instant::now();
        Ok(Started::Streaming(WalStream {
            client: self,
            position: from,
            durable,
            written: durable,
            flushed: durable,
            is_news: !durable.is_zero(),
            is_owed: false,
            sent: now,
            heard: now,
            asked: None,
            ending: Ending::default(),
            error: None,
        }))
    }

    fn switch(&self, message: &Message) -> Result<TimelineSwitch> {
        let read = || {
            let row = row(message.body.clone())?;
            Some(TimelineSwitch { next: text(&row, 0)?.parse().ok()?, start: text(&row, 1)?.parse().ok()? })
        };
        read().ok_or_else(|| self.wire.broken("a next timeline that cannot be read"))
    }
}

impl WalStream<'_> {
    /// Where the next piece begins: up to there all was received.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// Says up to where the log was written, and up to where it is durable in all places where it must be. The server is told with
    /// the next [`next`](Self::next), and may then remove it. It never goes back.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if that is more than was received: the server would remove what nobody has.
    pub fn confirm(&mut self, written: Lsn, flushed: Lsn) -> Result<()> {
        let most = self.position.max(self.durable);
        if flushed > most || written > most {
            let why = format!("{} would be confirmed, but only {most} was received", written.max(flushed));
            return Err(Error::new(ErrorKind::Internal, "confirm the log of", &self.client.wire.subject, why));
        }
        self.written = self.written.max(written);
        if flushed > self.flushed {
            self.flushed = flushed;
            self.is_news = true;
        }
        Ok(())
    }

    /// What comes next. The server is told what was confirmed, and asked for a sign of life after ten seconds of silence.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the connection breaks or the server is silent for a minute; [`ErrorKind::Corrupt`] when a
    /// piece does not begin where the one before ended. Afterwards the stream is at its end.
    ///
    /// # Cancel safety
    /// It can be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> Result<Received> {
        if self.ending.done {
            let why = "the stream of the log is at its end";
            return Err(Error::new(ErrorKind::Internal, "read from", &self.client.wire.subject, why));
        }
        let received = self.following().await;
        if received.is_err() {
            self.ending.done = true;
        }
        received
    }

    /// Ends the stream, and waits until the server has ended it too. What it sends meanwhile is thrown away: it is not confirmed, so
    /// it comes again. The connection can be used on.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn finish(mut self) -> Result<Ended> {
        let now = Instant::now();
        self.tell(now, false);
        if !self.ending.told {
            frontend::copy_done(self.client.wire.outgoing());
            self.ending.asked = true;
        }
        let until = now + ANSWER;
        let ending = async {
            loop {
                if let Received::Ended(ended) = self.next().await? {
                    return Ok(ended);
                }
            }
        };
        match tokio::time::timeout_at(until, ending).await {
            Ok(ended) => ended,
            Err(_) => Err(self.client.wire.silent(ANSWER)),
        }
    }

    async fn following(&mut self) -> Result<Received> {
        loop {
            while let Some(message) = self.client.wire.whole_message()? {
                if let Some(received) = self.take(message)? {
                    return Ok(received);
                }
            }
            self.tell_if_due(Instant::now());
            let wake = self.wake();
            tokio::select! {
                biased;
                read = self.client.wire.exchange() => match read {
                    Ok(()) => (self.heard, self.asked) = (Instant::now(), None),
                    // What the server said before it closed the connection says more.
                    Err(error) => return Err(self.error.take().unwrap_or(error)),
                },
                () = tokio::time::sleep_until(wake) => {
                    if self.asked.is_some_and(|asked| Instant::now() >= asked + SILENCE) {
                        return Err(self.client.wire.silent(SILENCE));
                    }
                }
            }
        }
    }

    /// When there is something to do if nothing comes.
    fn wake(&self) -> Instant {
        let wake = self.asked.map_or(self.heard + PING, |asked| asked + SILENCE);
        if self.is_owed && !self.is_ending() { wake.min(self.sent + PAUSE) } else { wake }
    }

    fn is_ending(&self) -> bool {
        self.ending.asked || self.ending.told
    }

    fn tell_if_due(&mut self, now: Instant) {
        let ping = self.asked.is_none() && now >= self.heard + PING;
        if ping {
            self.asked = Some(now);
        }
        if self.is_news || ping || (self.is_owed && now >= self.sent + PAUSE) {
            self.tell(now, ping);
        }
    }

    /// Says what is written and flushed. After the end of the copy nothing may follow.
    fn tell(&mut self, now: Instant, ping: bool) {
        if self.is_ending() {
            return;
        }
        let out = self.client.wire.outgoing();
        out.put_u8(b'd');
        out.put_u32(4 + 34);
        out.put_u8(b'r');
        out.put_u64(self.written.0);
        out.put_u64(self.flushed.0);
        // Nothing is replayed here.
        out.put_u64(0);
        out.put_i64(PgTime::from(Timestamp::now()).0);
        out.put_u8(u8::from(ping));
        (self.sent, self.is_news, self.is_owed) = (now, false, false);
    }

    /// A message. `None` if it is nothing to tell.
    fn take(&mut self, message: Message) -> Result<Option<Received>> {
        match message.tag {
            b'd' if !self.ending.told => return self.copied(message.body),
            b'c' if !self.ending.told => {
                if !self.ending.asked {
                    frontend::copy_done(self.client.wire.outgoing());
                }
                self.ending.told = true;
            }
            b'T' if self.ending.told => {}
            b'D' if self.ending.told => self.ending.switch = Some(self.client.switch(&message)?),
            b'C' if self.ending.told => {}
            // A server that has shut down says that the command is complete, and goes (`WalSndDone`).
            b'C' => {
                self.ending.done = true;
                return Ok(Some(Received::Ended(Ended::Shutdown)));
            }
            b'E' => {
                let error = ServerError::read(&message.body).error(Command::Start, &self.client.wire.subject);
                self.error = Some(error);
            }
            b'Z' => {
                self.client.is_amid = false;
                if let Some(error) = self.error.take() {
                    return Err(error);
                }
                self.ending.done = true;
                let ended = match self.ending.switch {
                    Some(switch) => Ended::Timeline(switch),
                    None if self.ending.asked => Ended::Finished,
                    None => return Err(self.client.wire.broken("the log ended, and no timeline follows")),
                };
                return Ok(Some(Received::Ended(ended)));
            }
            _ => return Err(self.client.wire.unexpected(&message)),
        }
        Ok(None)
    }

    fn copied(&mut self, mut body: Bytes) -> Result<Option<Received>> {
        let broken = |what: &str| self.client.wire.broken(what);
        match body.try_get_u8() {
            Ok(b'w') if body.len() >= 24 => {
                let (start, server_end) = (Lsn(body.get_u64()), Lsn(body.get_u64()));
                let clock = PgTime(body.get_i64());
                if self.ending.asked {
                    return Ok(None);
                }
                if start != self.position {
                    return Err(broken(&format!("the log goes on at {start}, not at {}", self.position)));
                }
                let end = start.checked_add(body.len() as u64).ok_or_else(|| broken("the log has no end"))?;
                self.position = end;
                Ok(Some(Received::Data(WalData { start, server_end, clock, bytes: body })))
            }
            Ok(b'k') if body.len() == 17 => {
                let (server_end, clock) = (Lsn(body.get_u64()), PgTime(body.get_i64()));
                let wants_reply = body.get_u8() != 0;
                self.is_owed |= wants_reply;
                Ok(Some(Received::Keepalive(Keepalive { server_end, clock, wants_reply })))
            }
            _ => Err(broken("neither log nor a sign of life")),
        }
    }
}
