//! The sources: one database through pg_dump, the roles and tablespaces through pg_dumpall.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use lifeboat_core::progress::Event;
use lifeboat_core::{
    ByteStream, Context, Description, Error, ErrorKind, Estimate, Proof, Reading, Result, Source, Tap,
};
use secrecy::SecretString;
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;

use super::archive::ArchiveTap;
use super::connection::Connection;
use super::own::{self, Purpose};
use super::session::Session;
use super::settings::Settings;
use super::sql::GlobalsTap;
use super::system::PostgresSettings;
use super::tools::{self, Tools};
use super::unnamed;
use super::{SYSTEM, diagnosis, estimate};
use crate::child::{Ended, Running};

/// The oldest server that is read, as `server_version_num` writes it.
const OLDEST_SERVER: u32 = 90_500;

/// Arguments that Lifeboat sets itself, or that make a dump which proves nothing.
const FORBIDDEN: [(&str, &str, &str); 16] = [
    ("-F", "--format", "the format is the custom archive"),
    ("-f", "--file", "the dump is streamed"),
    ("-Z", "--compress", "Lifeboat compresses; set compress"),
    ("-j", "--jobs", "a stream is written by one job"),
    ("-d", "--dbname", "the database is the URL's"),
    ("-h", "--host", "the host is the URL's"),
    ("-p", "--port", "the port is the URL's"),
    ("-U", "--username", "the user is the URL's"),
    ("-W", "--password", "it would ask, but nobody can answer"),
    ("", "--enable-row-security", "it leaves out rows and ends with 0"),
    ("", "--inserts", "rows could not be counted"),
    ("", "--column-inserts", "rows could not be counted"),
    ("", "--attribute-inserts", "rows could not be counted"),
    ("", "--rows-per-insert", "rows could not be counted"),
    ("-E", "--encoding", "the dump is in the database's own encoding"),
    ("-C", "--create", "it counts at restore only"),
];

impl PostgresSettings {
    pub(super) fn check(&self) -> Result<()> {
        for argument in &self.extra_args {
            let name = argument.split('=').next().unwrap_or_default();
            // GNU getopt takes unique abbreviations of long options: `--insert` is `--inserts`.
            let long = |long: &str| name.len() > 3 && name.starts_with("--") && long.starts_with(name);
            let short = |short: &str| !short.is_empty() && argument.starts_with(short) && !argument.starts_with("--");
            if let Some((_, option, why)) = FORBIDDEN.iter().find(|(s, l, _)| long(l) || short(s)) {
                return Err(Error::new(ErrorKind::Config, "pass", format!("{option} to pg_dump"), *why)
                    .hint("leave it out of extra_args"));
            }
        }
        Ok(())
    }

    fn arguments(&self) -> impl Iterator<Item = String> {
        let lists = [
            ("--schema", &self.schemas),
            ("--exclude-schema", &self.exclude_schemas),
            ("--table", &self.tables),
            ("--exclude-table", &self.exclude_tables),
            ("--exclude-table-data", &self.exclude_table_data),
        ];
        // Without it one pattern that fits is enough, and the others may be misspelt.
        let strict = (!self.schemas.is_empty() || !self.tables.is_empty()).then_some("--strict-names");
        lists
            .into_iter()
            .flat_map(|(option, names)| names.iter().map(move |name| format!("{option}={name}")))
            .chain(strict.map(str::to_owned))
            .chain(self.extra_args.iter().cloned())
    }

    /// Whether anything is said about what of the database is dumped.
    pub(super) fn is_whole_database(&self) -> bool {
        self.arguments().next().is_none()
    }
}

/// One PostgreSQL database, read with `pg_dump -Fc`.
///
/// ```no_run
/// # async fn example() -> lifeboat_core::Result<()> {
/// use lifeboat_backends::postgres::Postgres;
/// let source = Postgres::connect("postgres://backup@db.example/codetalk").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Postgres {
    connection: Connection,
    options: PostgresSettings,
}

impl Postgres {
    /// Creates a source of the whole database.
    pub fn new(connection: Connection) -> Self {
        Self { connection, options: PostgresSettings::default() }
    }

    /// Reads a URL and looks whether the server answers and a fitting pg_dump is here.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for the URL; what a first session fails with; [`ErrorKind::NotFound`] without pg_dump.
    pub async fn connect(url: &str) -> Result<Self> {
        let source = Self::new(Connection::parse(&SecretString::from(url.to_owned()))?);
        source.describe().await?;
        Ok(source)
    }

    /// Chooses what goes into the dump. Which database it is, the connection says: the settings' own URL is not read.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an extra argument that Lifeboat sets itself or that would make the dump prove nothing.
    pub fn options(mut self, options: PostgresSettings) -> Result<Self> {
        options.check()?;
        self.options = options;
        Ok(self)
    }
}

/// What a first look at the server shows.
pub(super) struct Look {
    pub(super) session: Session,
    pub(super) version: String,
    pub(super) major: u32,
    /// Whether the session is protected by TLS.
    pub(super) encrypted: bool,
    /// The database's encoding.
    pub(super) encoding: String,
}

impl Look {
    pub(super) async fn at(connection: &Connection) -> Result<Self> {
        let session = Session::open(connection).await?;
        let version = session.value("SHOW server_version").await?.unwrap_or_default();
        let number: u32 =
            session.value("SHOW server_version_num").await?.and_then(|v| v.parse().ok()).unwrap_or_default();
        let major = number / 10_000;
        if number < OLDEST_SERVER {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "read",
                connection.redacted(),
                format!("the server is PostgreSQL {version}"),
            )
            .hint("servers from 9.5 on are supported"));
        }
        let encrypted = session.is_encrypted();
        let encoding = session.value("SHOW server_encoding").await?.unwrap_or_default();
        // The name alone: `15.18`, without what the packager adds.
        let version = version.split_whitespace().next().unwrap_or_default().to_owned();
        Ok(Self { session, version, major, encrypted, encoding })
    }
}

#[async_trait]
impl Source for Postgres {
    async fn describe(&self) -> Result<Description> {
        let look = Look::at(&self.connection).await?;
        let tools = tools::at_least("pg_dump", look.major).await?;
        let mut facts = BTreeMap::new();
        if !self.options.is_whole_database() {
            facts.insert("selection".to_owned(), "a part of the database".to_owned());
        }
        Ok(Description::new(SYSTEM, "dump")
            .dataset(self.connection.database.clone())
            .server_version(look.version)
            .tool(format!("pg_dump {}", tools.version))
            .facts(facts))
    }

    async fn estimate(&self) -> Result<Option<Estimate>> {
        estimate::of(&Session::open(&self.connection).await?, &self.options).await
    }

    async fn open(&self, cx: &Context) -> Result<Reading> {
        let look = Look::at(&self.connection).await?;
        let tools = tools::at_least("pg_dump", look.major).await?;
        let settings = Settings::of(&look.session, look.major).await?;
        let mut command = tools.command("pg_dump");
        command
            .args(["--format=custom", "--compress=0", "--no-owner", "--no-password", "--lock-wait-timeout=600000"])
            .args(self.options.arguments());
        if !self.options.is_whole_database() {
            let note = "schemas or tables were chosen: pg_dump then leaves out large objects (extra_args = [\"--blobs\"] adds them)";
            cx.progress.event(Event::Note(note.to_owned()));
        }
        if look.encoding == "SQL_ASCII"
            && let Some(note) = unnamed::note(&look.session).await?
        {
            cx.progress.event(Event::Note(note));
        }
        let connection = look.session.connection().clone();
        // The database's own encoding, whatever the role or the database has set for its sessions.
        let stream = read_child(&mut command, &look, &look.encoding, cx, move |ended| {
            Box::pin(async move { diagnosis::explain(&connection, ended).await })
        })
        .await?;
        let tap = DumpTap { inner: Box::new(ArchiveTap::new()), settings };
        Ok(Reading::new(stream, Box::new(tap)))
    }
}

/// The roles, their memberships and the tablespaces of a whole server: `pg_dumpall --globals-only`. pg_dump knows
/// nothing of them, and a restore into a new server is not whole without.
#[derive(Clone, Debug)]
pub struct Globals {
    connection: Connection,
}

impl Globals {
    /// Creates a source of the roles and tablespaces of a server.
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }
}

#[async_trait]
impl Source for Globals {
    async fn describe(&self) -> Result<Description> {
        let look = Look::at(&self.connection).await?;
        let tools = tools::at_least("pg_dumpall", look.major).await?;
        Ok(Description::new(SYSTEM, "globals.sql")
            .dataset(format!("{}-globals", self.connection.database))
            .server_version(look.version)
            .tool(format!("pg_dumpall {}", tools.version)))
    }

    async fn open(&self, cx: &Context) -> Result<Reading> {
        let look = Look::at(&self.connection).await?;
        let tools: Tools = tools::at_least("pg_dumpall", look.major).await?;
        let mut command = tools.command("pg_dumpall");
        command.args(["--globals-only", "--no-password"]);
        // Password hashes lie in pg_authid, which only a superuser reads.
        let superuser =
            look.session.value("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").await?;
        if superuser.as_deref() != Some("t") {
            command.arg("--no-role-passwords");
            let note = format!(
                "user {} is not a superuser: the roles are saved without their passwords",
                self.connection.user
            );
            cx.progress.event(Event::Note(note));
        }
        // Roles are read back by a parser that knows UTF-8. From SQL_ASCII nothing is converted.
        let encoding = if look.encoding == "SQL_ASCII" { "SQL_ASCII" } else { "UTF8" };
        let stream = read_child(&mut command, &look, encoding, cx, |ended| {
            Box::pin(async move { ended.error("back up the roles of", "the server") })
        })
        .await?;
        Ok(Reading::new(stream, Box::new(GlobalsTap::new())))
    }
}

type Explain = Box<dyn FnOnce(Ended) -> futures::future::BoxFuture<'static, Error> + Send>;

/// Starts a child and streams its output. The stream ends well only when the child has ended with 0: one that closes
/// its output and fails after that makes the last item an error.
async fn read_child<F>(
    command: &mut tokio::process::Command,
    look: &Look,
    encoding: &str,
    cx: &Context,
    explain: F,
) -> Result<ByteStream>
where
    F: FnOnce(Ended) -> futures::future::BoxFuture<'static, Error> + Send + 'static,
{
    let connection = look.session.connection();
    command.envs(connection.environment()).stdout(std::process::Stdio::piped());
    command.env("PGCLIENTENCODING", encoding);
    let settings = own::for_program(&look.session, Purpose::Dump).await?;
    let given = connection.options.iter().cloned();
    let options: Vec<String> = given.chain((!settings.is_empty()).then(|| own::as_options(&settings))).collect();
    if !options.is_empty() {
        command.env("PGOPTIONS", options.join(" "));
    }
    // By this its session is found on the server.
    let name = application_name()?;
    command.env("PGAPPNAME", &name);
    let mut running = Running::start(command)?;
    let stdout = running.child.stdout.take().expect("it was asked for above");
    // A pipe of 64 KiB makes both sides switch 16 times for each chunk. Refused beyond the user's limit: then it stays.
    let _ = rustix::pipe::fcntl_setpipe_size(&stdout, 1 << 20);
    let locks = Some(LockWatch { connection: connection.clone(), name, told: String::new() });
    let state = ChildStream { running, stdout, explain: Box::new(explain), cx: cx.clone(), locks };
    Ok(futures::stream::unfold(Some(state), |state| async move { state?.next().await }).boxed())
}

struct ChildStream {
    running: Running,
    stdout: ChildStdout,
    explain: Explain,
    cx: Context,
    /// Until the first byte comes: then every lock is held.
    locks: Option<LockWatch>,
}

/// Bytes gathered from the pipe before they are passed on, and the room for them.
const GATHER: usize = 512 << 10;

impl ChildStream {
    async fn next(mut self) -> Option<(Result<Bytes>, Option<Self>)> {
        let mut chunk = BytesMut::with_capacity(2 * GATHER);
        while chunk.len() < GATHER {
            let read = match &mut self.locks {
                Some(locks) => {
                    let read = locks.read(&mut self.stdout, &mut chunk, &self.cx).await;
                    self.locks = None;
                    read
                }
                None => self.stdout.read_buf(&mut chunk).await,
            };
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Some((Err(Error::io("read from", "pg_dump", error)), None)),
            }
        }
        if !chunk.is_empty() {
            return Some((Ok(chunk.freeze()), Some(self)));
        }
        let Self { running, explain, cx, .. } = self;
        match running.end().await {
            Ok(ended) if ended.status.success() => {
                for warning in ended.warnings() {
                    cx.progress.event(Event::Note(warning));
                }
                None
            }
            Ok(ended) => Some((Err(explain(ended).await), None)),
            Err(error) => Some((Err(error), None)),
        }
    }
}

/// How long nothing may come of a dump before it is looked for what it waits for, and how often after that.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// Looks whom a program that has not begun to write waits for.
struct LockWatch {
    connection: Connection,
    /// The `application_name` of its sessions.
    name: String,
    told: String,
}

impl LockWatch {
    /// Reads the first bytes, and tells meanwhile what holds them up.
    async fn read(&mut self, from: &mut ChildStdout, into: &mut BytesMut, cx: &Context) -> std::io::Result<usize> {
        loop {
            // A read that is dropped has taken nothing.
            tokio::select! {
                biased;
                read = from.read_buf(into) => return read,
                () = tokio::time::sleep(LOCK_PATIENCE) => {}
            }
            let looked = async {
                let session = Session::open(&self.connection).await.ok()?;
                diagnosis::waits_for(&session, &self.name).await
            };
            tokio::select! {
                biased;
                read = from.read_buf(into) => return read,
                found = looked => if let Some(found) = found.filter(|found| *found != self.told) {
                    cx.progress.event(Event::Note(found.clone()));
                    self.told = found;
                },
            }
        }
    }
}

fn application_name() -> Result<String> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|e| Error::new(ErrorKind::Io, "make", "a name", format!("no random numbers: {e}")))?;
    // As the other sessions, and its own.
    Ok(format!("lifeboat {}", hex::encode(random)))
}

/// The archive's tap, and what the session said about the database, for the proof.
struct DumpTap {
    inner: Box<ArchiveTap>,
    settings: Settings,
}

impl Tap for DumpTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.inner.push(chunk)
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        let mut proof = self.inner.finish()?;
        self.settings.store(&mut proof);
        Ok(proof)
    }

    fn units_done(&self) -> u64 {
        self.inner.units_done()
    }

    fn units(&self) -> &'static str {
        self.inner.units()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_would_break_the_proof_are_refused() {
        for argument in [
            "--inserts",
            "--insert",
            "--rows-per-insert=5",
            "--enable-row-security",
            "-Ft",
            "--format=t",
            "-j4",
            "-fout",
            "-Z9",
            "-Wx",
        ] {
            let options = PostgresSettings { extra_args: vec![argument.to_owned()], ..PostgresSettings::default() };
            assert_eq!(options.check().unwrap_err().kind(), ErrorKind::Config, "{argument}");
        }
        for argument in ["--no-comments", "-b", "--blobs", "--no-unlogged-table-data", "--lock-wait-timeout=5s"] {
            let options = PostgresSettings { extra_args: vec![argument.to_owned()], ..PostgresSettings::default() };
            options.check().unwrap_or_else(|e| panic!("{argument}: {e}"));
        }
    }

    #[test]
    fn names_reach_pg_dump_as_one_argument_each() {
        let options = PostgresSettings {
            tables: vec!["public.a b".to_owned()],
            exclude_table_data: vec!["log_*".to_owned()],
            ..PostgresSettings::default()
        };
        let expected = ["--table=public.a b", "--exclude-table-data=log_*", "--strict-names"];
        assert_eq!(options.arguments().collect::<Vec<_>>(), expected);
    }
}
