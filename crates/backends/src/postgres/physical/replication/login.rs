//! Getting in.
//!
//! tokio-postgres does it, so that hosts, TLS, passwords and channel binding are those of every other session; only it has no way
//! to ask for replication. So it is given a stream that adds that parameter to the startup packet (the manual's "Message
//! Formats", `StartupMessage`), and that passes on nothing which comes after the end of the login. Then the stream is taken back.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use lifeboat_core::{Error, ErrorKind, Result};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::super::connection::{Connection, SslMode};
use super::super::super::session::{Failed, major_of, no_answer, no_tls};
use super::super::super::tls;
use super::client::Scope;

/// A way to a server.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Any of them.
pub(super) struct Socket(Box<dyn Duplex>);

impl Socket {
    pub(super) fn new(io: impl Duplex + 'static) -> Self {
        Self(Box::new(io))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What the server has said of itself by the end of the login.
pub(super) struct LoggedIn {
    pub(super) io: Socket,
    pub(super) major: u32,
    pub(super) version: String,
    pub(super) scope: Scope,
    pub(super) encrypted: bool,
}

/// Logs in at the one address that `to` leads to: with the database, so that SQL can be run too, or without it where
/// `pg_hba.conf` admits the role only for replication.
pub(super) async fn log_in(to: &Connection) -> Result<LoggedIn> {
    let failed = match protected(to, Scope::Database).await {
        Ok(logged_in) => return Ok(logged_in),
        Err(failed) => failed,
    };
    if !is_about_the_database(&failed) {
        return Err(failed.into_error(to));
    }
    tracing::debug!("the server does not admit the role to the database: without one");
    match protected(to, Scope::Physical).await {
        Ok(logged_in) => Ok(logged_in),
        // Of both refusals the first one is about what was asked for.
        Err(_) => Err(failed.into_error(to).hint(
            "the role needs LOGIN and REPLICATION (ALTER ROLE … REPLICATION), and a line in pg_hba.conf that admits it from here, to its database or to `replication`",
        )),
    }
}

/// Whether the server may let the role in without a database. Not after a wrong password: it would be counted twice.
fn is_about_the_database(failed: &Failed) -> bool {
    let Failed::Server(error) = failed else { return false };
    let codes = [
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INVALID_CATALOG_NAME,
        SqlState::INSUFFICIENT_PRIVILEGE,
    ];
    error.code().is_some_and(|code| codes.contains(code))
}

/// As [`Session`](super::super::super::session::Session) protects its way.
async fn protected(to: &Connection, scope: Scope) -> Result<LoggedIn, Failed> {
    match to.ssl_mode() {
        SslMode::Prefer => match encrypted(to, scope).await {
            Err(failed) if no_tls(&failed) => plain(to, scope).await,
            logged_in => logged_in,
        },
        SslMode::Disable => plain(to, scope).await,
        SslMode::Require => encrypted(to, scope).await,
    }
}

async fn plain(to: &Connection, scope: Scope) -> Result<LoggedIn, Failed> {
    let kept = Arc::new(Mutex::new(socket(to).await?));
    let stream = Login::new(kept.clone(), scope);
    let (client, connection) = config(to, false).connect_raw(stream, NoTls).await.map_err(Failed::Server)?;
    let version = connection.parameter("server_version").unwrap_or_default().to_owned();
    drop((client, connection));
    logged_in(to, kept, version, scope, false)
}

async fn encrypted(to: &Connection, scope: Scope) -> Result<LoggedIn, Failed> {
    let mut make = MakeRustlsConnect::new(tls::config(to).map_err(Failed::Config)?);
    let inner = MakeTlsConnect::<Socket>::make_tls_connect(&mut make, &to.host().name)
        .map_err(|error| Failed::Config(no_answer(to, &error.to_string())))?;
    let slot = Arc::new(OnceLock::new());
    let with_tls = LoginOverTls { inner, slot: slot.clone(), scope };
    let socket = socket(to).await?;
    let (client, connection) = config(to, true).connect_raw(socket, with_tls).await.map_err(Failed::Server)?;
    let version = connection.parameter("server_version").unwrap_or_default().to_owned();
    drop((client, connection));
    let kept = Arc::into_inner(slot).and_then(OnceLock::into_inner);
    logged_in(to, kept.ok_or_else(|| lost(to))?, version, scope, true)
}

fn logged_in<IO: Duplex + 'static>(
    to: &Connection,
    kept: Arc<Mutex<IO>>,
    version: String,
    scope: Scope,
    encrypted: bool,
) -> Result<LoggedIn, Failed> {
    let io = Arc::into_inner(kept).ok_or_else(|| lost(to))?;
    let io = Socket::new(io.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ok(LoggedIn { io, major: major_of(&version), version, scope, encrypted })
}

fn lost(to: &Connection) -> Failed {
    Failed::Config(Error::new(
        ErrorKind::Internal,
        "connect to",
        to.redacted(),
        "the stream of the login is still in use",
    ))
}

/// The way to the server, with nothing said on it.
async fn socket(to: &Connection) -> Result<Socket, Failed> {
    let host = to.host();
    let failed = |error: io::Error| Failed::Config(no_answer(to, &format!("error connecting to server: {error}")));
    if host.is_socket() {
        let path = format!("{}/.s.PGSQL.{}", host.name, host.port);
        return Ok(Socket::new(UnixStream::connect(path).await.map_err(failed)?));
    }
    let stream = match host.address {
        Some(address) => TcpStream::connect((address, host.port)).await,
        None => TcpStream::connect((&*host.name, host.port)).await,
    };
    let stream = stream.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(Socket::new(stream))
}

fn config(to: &Connection, encrypted: bool) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config
        .user(&to.user)
        .dbname(&to.database)
        .application_name("lifeboat")
        .channel_binding(to.channel_binding)
        .ssl_mode(match encrypted {
            true => tokio_postgres::config::SslMode::Require,
            false => tokio_postgres::config::SslMode::Disable,
        });
    if let Some(password) = to.password() {
        config.password(password.expose_secret());
    }
    if let Some(options) = &to.options {
        config.options(options);
    }
    config
}

/// Puts the stream of the login over TLS.
struct LoginOverTls<C, IO> {
    inner: C,
    slot: Arc<OnceLock<Arc<Mutex<IO>>>>,
    scope: Scope,
}

impl<C> TlsConnect<Socket> for LoginOverTls<C, C::Stream>
where
    C: TlsConnect<Socket>,
    C::Future: Send + 'static,
    C::Stream: Send + Unpin + 'static,
{
    type Stream = Login<C::Stream>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, C::Error>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let connecting = self.inner.connect(socket);
        Box::pin(async move {
            let kept = Arc::new(Mutex::new(connecting.await?));
            let stream = Login::new(kept.clone(), self.scope);
            // It is called once.
            let _ = self.slot.set(kept);
            Ok(stream)
        })
    }
}

/// The stream of a login.
struct Login<IO> {
    io: Arc<Mutex<IO>>,
    startup: Startup,
    message: Message,
}

/// The packet with which the client begins.
enum Startup {
    /// So much of it is there.
    Gathered(Vec<u8>, Scope),
    /// It waits to be sent.
    Waiting(Vec<u8>),
    Sent,
}

/// The server's message that is being passed on.
struct Message {
    header: [u8; 5],
    have: usize,
    left: usize,
    is_last: bool,
}

impl<IO> Login<IO> {
    fn new(io: Arc<Mutex<IO>>, scope: Scope) -> Self {
        let message = Message { header: [0; 5], have: 0, left: 0, is_last: false };
        Self { io, startup: Startup::Gathered(Vec::new(), scope), message }
    }

    /// Only one task has it at a time.
    fn io(&self) -> MutexGuard<'_, IO> {
        self.io.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the parameter. `None` while the packet is not whole.
fn asking_for_replication(packet: &[u8], scope: Scope) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(*packet.first_chunk()?) as usize;
    let parameters = packet.get(..length)?.strip_suffix(b"\0")?.get(4..)?;
    let wanted: &[u8] = match scope {
        Scope::Database => b"replication\0database\0\0",
        Scope::Physical => b"replication\0true\0\0",
    };
    let asked = u32::try_from(length - 1 + wanted.len()).ok()?;
    Some([&asked.to_be_bytes(), parameters, wanted, &packet[length..]].concat())
}

impl<IO: AsyncRead + Unpin> AsyncRead for Login<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let message = &self.message;
        if message.left == 0 && message.is_last {
            // What comes now is not for the login.
            return Poll::Pending;
        }
        let wanted = if message.left > 0 { message.left } else { message.header.len() - message.have };
        // Read apart, so that it can be looked at: a login is a few hundred bytes.
        let mut part = vec![0; wanted.min(buf.remaining())];
        let mut part = ReadBuf::new(&mut part);
        let polled = Pin::new(&mut *self.io()).poll_read(cx, &mut part);
        if let Poll::Ready(Ok(())) = polled {
            buf.put_slice(part.filled());
            self.message.pass(part.filled());
        }
        polled
    }
}

impl Message {
    fn pass(&mut self, read: &[u8]) {
        if self.left > 0 {
            self.left -= read.len().min(self.left);
            return;
        }
        self.header[self.have..self.have + read.len()].copy_from_slice(read);
        self.have += read.len();
        if self.have == self.header.len() {
            let [tag, length @ ..] = self.header;
            self.is_last = tag == b'Z';
            // The length counts itself.
            self.left = (u32::from_be_bytes(length) as usize).saturating_sub(4);
            self.have = 0;
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Login<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.startup {
            Startup::Gathered(packet, scope) => {
                packet.extend_from_slice(bytes);
                if let Some(packet) = asking_for_replication(packet, *scope) {
                    self.startup = Startup::Waiting(packet);
                }
                Poll::Ready(Ok(bytes.len()))
            }
            Startup::Waiting(_) => match self.as_mut().poll_flush(cx) {
                Poll::Ready(Ok(())) => self.poll_write(cx, bytes),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            },
            Startup::Sent => Pin::new(&mut *self.io()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Startup::Waiting(packet) = &self.startup {
            let written = match Pin::new(&mut *self.io()).poll_write(cx, packet) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            let rest = packet[written..].to_vec();
            self.startup = if rest.is_empty() { Startup::Sent } else { Startup::Waiting(rest) };
        }
        Pin::new(&mut *self.io()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io()).poll_shutdown(cx)
    }
}

impl<IO: TlsStream + Unpin> TlsStream for Login<IO> {
    fn channel_binding(&self) -> ChannelBinding {
        self.io().channel_binding()
    }
}
