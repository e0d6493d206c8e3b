//! Messages: OP_MSG, and OP_QUERY for a driver's first words.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::documents::Doc;

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

/// The sender of the message will send another, and wants no answer to this one.
const MORE_TO_COME: u32 = 2;

/// A request.
pub(super) struct Request {
    id: i32,
    legacy: bool,
    /// Whether nobody waits for an answer.
    pub(super) silent: bool,
    pub(super) body: RawDocumentBuf,
    /// The documents of its sequence, back to back.
    pub(super) sequence: Vec<u8>,
}

/// An answer: a document, or one whose middle is the bytes of an array that are not copied.
pub(super) enum Reply {
    Whole(Vec<u8>),
    /// `{cursor: {id, ns, batch: ARRAY}, …}` in three parts.
    Batch(Vec<u8>, Arc<[u8]>, Vec<u8>),
}

impl Reply {
    /// A cursor's answer around an array. `rest` are the fields after it.
    pub(super) fn cursor(id: i64, ns: &str, name: &str, array: Arc<[u8]>, at: Option<(u32, u32)>, rest: Doc) -> Self {
        // The array's element, with its name, and the ends of both documents are put in by hand.
        let mut cursor = Doc::new().int64("id", id).text("ns", ns);
        if let Some((t, i)) = at {
            cursor = cursor.raw(0x11, "atClusterTime", &[i.to_le_bytes(), t.to_le_bytes()].concat());
        }
        let mut inner = cursor.build();
        inner.pop();
        inner.push(0x04);
        inner.extend_from_slice(name.as_bytes());
        inner.push(0);
        let inner_length = inner.len() + array.len() + 1;
        inner[..4].copy_from_slice(&(inner_length as u32).to_le_bytes());
        let tail = [&[0], &rest.build()[4..]].concat();
        let mut head = vec![0; 4];
        head.extend_from_slice(b"\x03cursor\0");
        head.extend_from_slice(&inner);
        let length = head.len() + array.len() + tail.len();
        head[..4].copy_from_slice(&(length as u32).to_le_bytes());
        Self::Batch(head, array, tail)
    }

    fn parts(&self) -> [&[u8]; 3] {
        match self {
            Self::Whole(document) => [document, &[], &[]],
            Self::Batch(head, array, tail) => [head, array, tail],
        }
    }
}

/// Splits a connection.
pub(super) fn split(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    stream.set_nodelay(true).unwrap();
    stream.into_split()
}

/// The next request; `None` when the other side has gone, or says what is no request.
pub(super) async fn read(stream: &mut OwnedReadHalf) -> Option<Request> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await.ok()?;
    let number = |at: usize| i32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = usize::try_from(number(0)).ok().filter(|length| (21..=64 << 20).contains(length))?;
    let mut rest = vec![0; length - 16];
    stream.read_exact(&mut rest).await.ok()?;
    match number(12) {
        OP_MSG => message(number(4), &rest),
        OP_QUERY => {
            // flags, name, skip, count, document.
            let name = rest[4..].iter().position(|b| *b == 0)? + 4;
            let body = RawDocumentBuf::from_bytes(document(rest.get(name + 9..)?)?.to_vec()).ok()?;
            Some(Request { id: number(4), legacy: true, silent: false, body, sequence: Vec::new() })
        }
        _ => None,
    }
}

fn document(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    bytes.get(..length)
}

fn message(id: i32, rest: &[u8]) -> Option<Request> {
    let flags = u32::from_le_bytes(*rest.first_chunk()?);
    assert_eq!(flags & 1, 0, "checksums are off");
    let (mut body, mut sequence, mut at) = (None, Vec::new(), 4);
    while at < rest.len() {
        let kind = rest[at];
        let section = document(&rest[at + 1..])?;
        if kind == 0 {
            body = Some(RawDocumentBuf::from_bytes(section.to_vec()).ok()?);
        } else {
            // size, name, documents.
            let name = section[4..].iter().position(|b| *b == 0)?;
            sequence = section[4 + name + 1..].to_vec();
        }
        at += 1 + section.len();
    }
    Some(Request { id, legacy: false, silent: flags & MORE_TO_COME != 0, body: body?, sequence })
}

/// Sends an answer, or the first half of it.
pub(super) async fn write(
    stream: &mut OwnedWriteHalf,
    request: &Request,
    reply: &Reply,
    half: bool,
) -> std::io::Result<()> {
    let parts = reply.parts();
    let before = if request.legacy { 20 } else { 5 };
    let length = 16 + before + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut head = Vec::with_capacity(64 + parts[0].len());
    let code = if request.legacy { OP_REPLY } else { OP_MSG };
    for number in [length as i32, 1, request.id, code] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    if request.legacy {
        // flags (AwaitCapable), cursor, start, count.
        head.extend_from_slice(&8u32.to_le_bytes());
        head.extend_from_slice(&[0; 12]);
        head.extend_from_slice(&1u32.to_le_bytes());
    } else {
        head.extend_from_slice(&[0; 5]);
    }
    head.extend_from_slice(parts[0]);
    if half {
        let all = [&head, parts[1], parts[2]].concat();
        return stream.write_all(&all[..all.len() / 2]).await;
    }
    if parts[1].len() < 1 << 16 {
        head.extend_from_slice(parts[1]);
        head.extend_from_slice(parts[2]);
        return stream.write_all(&head).await;
    }
    stream.write_all(&head).await?;
    stream.write_all(parts[1]).await?;
    stream.write_all(parts[2]).await
}
