//! The part of HTTP/1.1 that the imitations of stores need: heads and bodies of a known length, with nothing hidden.
//!
//! It is written by hand, because a proxy between a client and a store must be able to break off anywhere, and must
//! pass on each header as it was signed.

use std::io;

use bytes::{Bytes, BytesMut};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest head that is read.
const LONGEST_HEAD: usize = 64 << 10;

/// The head of a request or an answer, as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// The first line.
    pub(crate) start: String,
    /// Names as they were sent, and values.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> io::Result<Self> {
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned())))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a header has no colon"))?;
        Ok(Self { start, headers })
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Takes every header of this name away.
    pub(crate) fn remove(&mut self, name: &str) {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// Sets a header.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    /// The length of the body that follows, where it is said.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Method, path and query of a request.
    pub(crate) fn target(&self) -> (&str, &str, &str) {
        let mut words = self.start.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (method, path, query)
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default()
    }

    /// As it goes over the wire.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text.into_bytes()
    }
}

/// Reads heads and bodies from one side of a connection.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    inner: R,
    ahead: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, ahead: BytesMut::new() }
    }

    /// The next head. `None` when the other side has nothing more to say.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.ahead[searched..].windows(4).position(|w| w == b"\r\n\r\n") {
                let text = self.ahead.split_to(searched + at + 4);
                let text = std::str::from_utf8(&text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
                return Head::parse(text).map(Some);
            }
            if self.ahead.len() > LONGEST_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            searched = self.ahead.len().saturating_sub(3);
            if self.inner.read_buf(&mut self.ahead).await? == 0 {
                return if self.ahead.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Bytes of a body, at most `most` of them. Empty at the end of the connection.
    pub(crate) async fn some(&mut self, most: u64) -> io::Result<Bytes> {
        if self.ahead.is_empty() {
            self.ahead.reserve(64 << 10);
            self.inner.read_buf(&mut self.ahead).await?;
        }
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(self.ahead.len());
        Ok(self.ahead.split_to(length).freeze())
    }

    /// A body of this length, or, without one, up to the end of the connection.
    pub(crate) async fn body(&mut self, length: Option<u64>) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let left = length.map_or(u64::MAX, |length| length - body.len() as u64);
            if left == 0 {
                return Ok(body.freeze());
            }
            let some = self.some(left).await?;
            if some.is_empty() {
                return match length {
                    None => Ok(body.freeze()),
                    Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            body.extend_from_slice(&some);
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

impl Answer {
    /// An answer of a status with a body of XML.
    pub(crate) fn xml(status: u16, body: impl Into<Bytes>) -> Self {
        let head = Head {
            start: format!("HTTP/1.1 {status} {}", reason(status)),
            headers: vec![("Content-Type".to_owned(), "application/xml".to_owned())],
        };
        Self { head, body: body.into() }
    }

    /// An error as S3 writes it.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        Self::xml(status, body)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.head.set(name, value);
        self
    }

    /// Sends it. Of an answer to HEAD only the head.
    pub(crate) async fn send(mut self, to: &mut (impl AsyncWrite + Unpin), method: &str) -> io::Result<()> {
        self.head.start = format!("HTTP/1.1 {} {}", self.head.status(), reason(self.head.status()));
        self.head.remove("connection");
        self.head.remove("transfer-encoding");
        if method != "HEAD" {
            self.head.set("Content-Length", self.body.len().to_string());
        }
        to.write_all(&self.head.to_bytes()).await?;
        if method != "HEAD" {
            to.write_all(&self.body).await?;
        }
        to.flush().await
    }
}

/// The words of a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        412 => "Precondition Failed",
        416 => "Range Not Satisfiable",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// Sends the head of a request to a server. As HTTP/1.0, so that it answers in one piece, and on a connection that is
/// used once. Signatures do not cover either.
pub(crate) async fn begin(to: &str, head: &Head) -> io::Result<TcpStream> {
    let mut head = head.clone();
    head.start = head.start.replace("HTTP/1.1", "HTTP/1.0");
    head.remove("connection");
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&head.to_bytes()).await?;
    Ok(stream)
}

/// Sends a whole request and reads the whole answer.
pub(crate) async fn ask(to: &str, head: &Head, body: &[u8]) -> io::Result<Answer> {
    let mut stream = begin(to, head).await?;
    // A server may answer before it has read all, and close.
    let sent = stream.write_all(body).await;
    let mut reader = Reader::new(stream);
    let answer = match reader.head().await {
        Ok(Some(answer)) => answer,
        Ok(None) => return Err(sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
        Err(error) => return Err(sent.err().unwrap_or(error)),
    };
    let body = match (head.target().0, answer.status()) {
        ("HEAD", _) | (_, 204 | 304) => Bytes::new(),
        _ => reader.body(answer.length()).await?,
    };
    Ok(Answer { head: answer, body })
}

/// Undoes percent-encoding.
pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Undoes the encoding of a query, where `+` is a space.
pub(crate) fn decode_query(text: &str) -> String {
    decode(&text.replace('+', "%20"))
}

/// The value of a parameter of a query; empty when it has none.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (n, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(n) == name).then(|| decode_query(value))
    })
}
