//! Passes an archive to pg_restore: as a stream, or in an unnamed spool file if several jobs have to read it at once.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use lifeboat_core::pipeline::stage;
use lifeboat_core::progress::{Event, Progress};
use lifeboat_core::{ByteStream, Context, Error, ErrorKind, Result};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;

use super::archive::{BlockEnd, BlockIndex, EventHandler, Parser, Toc, TocProgress, TocReader};
use super::connection::Connection;
use super::create::Locale;
use super::own;
use super::tools::Tools;
use crate::child::{Ended, Running};
use crate::confine::Confinement;

/// The start of every custom archive (`pg_backup_archiver.c`, `WriteHead`).
const ARCHIVE_MAGIC: &[u8] = b"PGDMP";

/// A dump whose beginning has been read.
pub(crate) enum Dump {
    /// A custom archive: its table of contents has been read.
    Archive {
        toc: Arc<Toc>,
        /// Header and table of contents, unchanged.
        head: Bytes,
        /// The rest of the archive.
        rest: ByteStream,
    },
    /// Plain SQL.
    Sql {
        /// The first bytes, which name the source's server version.
        start: Bytes,
        /// The whole dump, including the start.
        stream: ByteStream,
    },
}

impl Dump {
    /// The source's locale, as far as the dump states it.
    pub(crate) fn locale(&self) -> Locale {
        match self {
            Self::Archive { toc, .. } => Locale::of_archive(toc),
            Self::Sql { .. } => Locale::default(),
        }
    }

    /// The table of contents of an archive.
    pub(crate) fn toc(&self) -> Option<Arc<Toc>> {
        match self {
            Self::Archive { toc, .. } => Some(Arc::clone(toc)),
            Self::Sql { .. } => None,
        }
    }

    /// Reads the beginning of a stream: for a custom archive, the whole table of contents.
    ///
    /// # Errors
    /// The stream's own error, or [`ErrorKind::Corrupt`] if it is neither.
    pub(crate) async fn open(stream: ByteStream) -> Result<Self> {
        let mut stream = stream.fuse();
        let mut start = bytes::BytesMut::new();
        while start.len() < 8192 {
            match stream.next().await {
                Some(chunk) => start.extend_from_slice(&chunk?),
                None => break,
            }
        }
        let start = start.freeze();
        if let Some(error) = super::format::refused(&start) {
            return Err(error);
        }
        if !start.starts_with(ARCHIVE_MAGIC) {
            if start.is_empty() || !super::format::is_text(&start) {
                let what = if start.is_empty() { "it is empty" } else { "it is neither a custom archive nor SQL" };
                return Err(Error::new(ErrorKind::Corrupt, "read", "the dump", what).hint("use another artifact"));
            }
            let stream = futures::stream::iter([Ok(start.clone())]).chain(stream).boxed();
            return Ok(Self::Sql { start, stream });
        }
        let mut reader = TocReader::new();
        let mut chunk = start;
        loop {
            if let TocProgress::Complete { toc, head, consumed } = reader.push(&chunk)? {
                let rest = chunk.slice(consumed..);
                let rest = futures::stream::iter([Ok(rest)])
                    .filter(|c| std::future::ready(c.as_ref().is_ok_and(|c| !c.is_empty())));
                return Ok(Self::Archive { toc: Arc::new(*toc), head: head.into(), rest: rest.chain(stream).boxed() });
            }
            chunk = stream.next().await.ok_or_else(|| reader.cut_short())??;
        }
    }
}

/// The encoding that a plain SQL dump sets at its start.
pub(crate) fn encoding_in_text(start: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(start);
    let value = text.lines().find_map(|l| l.trim_end().strip_prefix("SET client_encoding = '")?.strip_suffix("';"))?;
    value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).then(|| value.to_owned())
}

/// Where and how to load.
pub(crate) struct Load<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) tools: &'a Tools,
    /// More than one spools the archive to disk first.
    pub(crate) jobs: usize,
    pub(crate) spool_folder: Option<PathBuf>,
    /// Entries to restore, as `pg_restore --use-list` reads them; all when `None`.
    pub(crate) list: Option<String>,
    /// Further arguments for pg_restore.
    pub(crate) arguments: Vec<&'static str>,
    /// Settings of the session that loads.
    pub(crate) options: Vec<(String, String)>,
    /// How pg_restore runs in a restore test.
    pub(crate) confinement: Option<Confinement>,
    pub(crate) cx: &'a Context,
}

impl Load<'_> {
    /// Restores a custom archive with pg_restore.
    ///
    /// The stream is always read to its end, even if pg_restore gives up early, so that earlier stages can tell whether
    /// the artifact itself is whole.
    ///
    /// # Errors
    /// The stream's own error, which takes precedence over pg_restore's. How pg_restore ended is in the result.
    pub(crate) async fn archive(&self, head: Bytes, rest: ByteStream) -> Result<Ended> {
        let mut command = self.command("pg_restore");
        command
            .arg("--format=custom")
            .args(&self.arguments)
            .arg(format!("--dbname={}", conninfo(&self.connection.database)));
        // Numbers only: which entries, not what they are called.
        let list = match &self.list {
            Some(list) => {
                let failed = |e| Error::io("write", "the list of entries to restore", e);
                let folder = self.spool_folder.clone().unwrap_or_else(std::env::temp_dir);
                let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
                file.write_all(list.as_bytes()).map_err(failed)?;
                if let Some(confinement) = &self.confinement {
                    confinement.give(file.path()).map_err(failed)?;
                }
                command.arg("--use-list").arg(file.path());
                Some(file)
            }
            None => None,
        };
        let ended = if self.jobs > 1 {
            let spool = self.spool(head, rest).await?;
            command.arg(format!("--jobs={}", self.jobs)).arg("/dev/stdin").stdin(Stdio::from(spool));
            self.end(Running::start(&mut command)?).await
        } else {
            let whole = futures::stream::iter([Ok(head)]).chain(rest).boxed();
            self.feed(&mut command, count_tables(whole, self.cx.progress.clone())).await
        };
        drop(list);
        ended
    }

    fn command(&self, program: &str) -> tokio::process::Command {
        let environment = self.connection.environment();
        let mut command = match &self.confinement {
            Some(confinement) => {
                let mut bare = self.tools.bare_command(program);
                bare.envs(environment).current_dir("/");
                confinement.wrap(&bare)
            }
            None => {
                let mut command = self.tools.command(program);
                command.envs(environment);
                command
            }
        };
        command.stdout(Stdio::null());
        let given = self.connection.options.iter().cloned();
        let own = (!self.options.is_empty()).then(|| own::as_options(&self.options));
        let options: Vec<String> = given.chain(own).collect();
        if !options.is_empty() {
            command.env("PGOPTIONS", options.join(" "));
        }
        command
    }

    async fn feed(&self, command: &mut tokio::process::Command, stream: ByteStream) -> Result<Ended> {
        command.stdin(Stdio::piped());
        let mut running = Running::start(command)?;
        let stdin = running.child.stdin.take().expect("it was asked for above");
        let _ = rustix::pipe::fcntl_setpipe_size(&stdin, 1 << 20);
        // Dropping `running` on an error of the stream kills the program: it must not take the short input for all.
        pour(stream, stdin).await?;
        self.end(running).await
    }

    async fn end(&self, running: Running) -> Result<Ended> {
        tokio::select! {
            ended = running.end() => ended,
            () = self.cx.cancel.cancelled() => Err(Error::cancelled("restore", self.connection.redacted())),
        }
    }

    /// Writes the archive to a file without a name, with the offsets of its data filled in, so that each job finds its
    /// data without reading everything before it. The file is gone when the last process that has it open is.
    async fn spool(&self, head: Bytes, mut rest: ByteStream) -> Result<std::fs::File> {
        let folder = self.spool_folder.clone().unwrap_or_else(std::env::temp_dir);
        let subject = format!("the spool file in {}", folder.display());
        let failed = |e| Error::io("write", subject.clone(), e);
        let file = tempfile::tempfile_in(&folder).map_err(failed)?;
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(4);
        let writer = tokio::task::spawn_blocking(move || -> Result<std::io::Result<std::fs::File>> {
            let mut file = file;
            let mut parser = Parser::new();
            let mut index = BlockIndex::default();
            while let Some(chunk) = receiver.blocking_recv() {
                parser.push(&chunk, &mut index)?;
                if let Err(error) = file.write_all(&chunk) {
                    return Ok(Err(error));
                }
            }
            parser.finish()?;
            index.fill_in_place(&mut file)?;
            use std::io::Seek as _;
            Ok(file.rewind().map(|()| file))
        });
        let mut alive = sender.send(head).await.is_ok();
        while let Some(chunk) = rest.next().await {
            let chunk = chunk?;
            // Read on when the writer has given up: see `archive`.
            alive = alive && sender.send(chunk).await.is_ok();
        }
        drop(sender);
        let written = writer.await.map_err(|e| Error::new(ErrorKind::Internal, "write", &subject, e.to_string()))?;
        written?.map_err(failed)
    }
}

/// Reports how many tables have passed. If the archive is invalid, it stops reporting: pg_restore reports the error.
fn count_tables(archive: ByteStream, progress: Arc<dyn Progress>) -> ByteStream {
    struct Tables(u64);
    impl EventHandler for Tables {
        fn block_end(&mut self, _: &BlockEnd) -> Result<()> {
            self.0 += 1;
            Ok(())
        }
    }
    stage::spawn("count", archive, move |input, output| {
        let (mut parser, mut tables, mut told) = (Some(Parser::new()), Tables(0), 0);
        while let Some(chunk) = input.next_chunk()? {
            if parser.as_mut().is_some_and(|parser| parser.push(&chunk, &mut tables).is_err()) {
                parser = None;
            }
            if tables.0 != told {
                told = tables.0;
                progress.event(Event::Items { done: told, what: "tables" });
            }
            output.send(chunk)?;
        }
        Ok(())
    })
}

/// Pipes a stream into a program. If the program stops reading, the rest is still read, and the program's exit tells
/// why.
async fn pour(mut stream: ByteStream, stdin: ChildStdin) -> Result<()> {
    let mut open = Some(stdin);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if let Some(pipe) = &mut open
            && pipe.write_all(&chunk).await.is_err()
        {
            open = None;
        }
    }
    if let Some(mut pipe) = open {
        // A program that has gone says so by its status.
        let _ = pipe.shutdown().await;
    }
    Ok(())
}

/// A connection string that names the database, whatever characters its name has.
fn conninfo(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}
