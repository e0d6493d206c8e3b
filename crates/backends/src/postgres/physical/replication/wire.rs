//! Messages over a connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use lifeboat_core::{Error, ErrorKind, Result};
use postgres_protocol::message::backend::Header;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::answer::{Notice, ServerError};
use super::login::Socket;

/// The most bytes of a message. A server sends at most 128 KiB of the log in one (`walsender.c`, `MAX_SEND_SIZE`); the history of
/// a timeline comes in one row.
const LARGEST: i32 = 16 << 20;
/// Room for two messages of the log.
const BUFFER: usize = 256 << 10;
/// Notices that are kept until somebody asks for them.
const NOTICES: usize = 1000;

/// A message of the server: its tag, and what follows the length.
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Bytes,
}

/// A connection on which whole messages go to and fro.
pub(super) struct Wire {
    io: Socket,
    read: BytesMut,
    write: BytesMut,
    is_flushed: bool,
    notices: Vec<Notice>,
    pub(super) subject: String,
}

impl Wire {
    pub(super) fn new(io: Socket, subject: String) -> Self {
        let (read, write) = (BytesMut::with_capacity(BUFFER), BytesMut::new());
        Self { io, read, write, is_flushed: true, notices: Vec::new(), subject }
    }

    /// Takes bytes as if they had come.
    #[cfg(test)]
    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.read.extend_from_slice(bytes);
    }

    /// What is still to be sent. It goes out while the next message is waited for.
    pub(super) fn outgoing(&mut self) -> &mut BytesMut {
        self.is_flushed = false;
        &mut self.write
    }

    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub(super) fn first_notice(&mut self) -> Option<Notice> {
        (!self.notices.is_empty()).then(|| self.notices.remove(0))
    }

    /// The next message, within a limit. Notices are kept apart. It can be dropped and called again.
    pub(super) async fn message(&mut self, limit: Duration) -> Result<Message> {
        self.message_since(&mut Instant::now(), limit).await
    }

    /// The same, where the limit has begun when something came last: that is kept in `heard`, however often this is dropped.
    pub(super) async fn message_since(&mut self, heard: &mut Instant, limit: Duration) -> Result<Message> {
        loop {
            if let Some(message) = self.whole_message()? {
                return Ok(message);
            }
            // What is there is read even if the limit is over.
            match tokio::time::timeout_at(*heard + limit, self.exchange()).await {
                Ok(read) => read?,
                Err(_) => return Err(self.silent(limit)),
            }
            *heard = Instant::now();
        }
    }

    /// The next message, if all of it is here.
    pub(super) fn whole_message(&mut self) -> Result<Option<Message>> {
        loop {
            let Some(header) = Header::parse(&self.read).map_err(|e| self.broken(&e.to_string()))? else {
                return Ok(None);
            };
            if header.len() > LARGEST {
                return Err(self.broken(&format!("a message of {} bytes", header.len())));
            }
            // The length counts itself, and not the tag.
            let length = header.len() as usize + 1;
            if self.read.len() < length {
                self.read.reserve(length - self.read.len());
                return Ok(None);
            }
            let mut body = self.read.split_to(length).freeze();
            body.advance(5);
            match header.tag() {
                b'N' => {
                    let notice = ServerError::read(&body).notice();
                    tracing::debug!(code = %notice.code, message = %notice.message, "PostgreSQL says");
                    if self.notices.len() < NOTICES {
                        self.notices.push(notice);
                    }
                }
                // A setting has changed; somebody notifies.
                b'S' | b'A' => {}
                tag => return Ok(Some(Message { tag, body })),
            }
        }
    }

    /// Sends what is to be sent until some bytes have come. It can be dropped and called again.
    pub(super) async fn exchange(&mut self) -> Result<()> {
        let read = poll_fn(|cx| self.poll_exchange(cx)).await;
        match read {
            Ok(0) => Err(self.closed()),
            Ok(_) => Ok(()),
            Err(error) => {
                let why = format!("the connection broke: {error}");
                Err(Error::new(ErrorKind::Unavailable, "read from", &self.subject, why))
            }
        }
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let sent = self.poll_send(cx);
        if let Poll::Ready(Err(error)) = sent {
            // A server that ends the connection says why before.
            return match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.read) {
                Poll::Ready(Ok(read)) if read > 0 => Poll::Ready(Ok(read)),
                _ => Poll::Ready(Err(error)),
            };
        }
        self.read.reserve(BUFFER / 2);
        poll_read_buf(Pin::new(&mut self.io), cx, &mut self.read)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.write))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.write.advance(written);
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn silent(&self, limit: Duration) -> Error {
        let why = format!("the server said nothing for {} s", limit.as_secs());
        Error::new(ErrorKind::Unavailable, "read from", &self.subject, why)
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Unavailable, "read from", &self.subject, "the server closed the connection")
    }

    /// The server has said what the protocol does not allow here.
    pub(super) fn broken(&self, what: &str) -> Error {
        Error::new(
            ErrorKind::Corrupt,
            "read from",
            &self.subject,
            format!("the server's answer is out of place: {what}"),
        )
    }

    /// The same, of a message.
    pub(super) fn unexpected(&self, message: &Message) -> Error {
        self.broken(&format!("a message {:?}", char::from(message.tag)))
    }
}
