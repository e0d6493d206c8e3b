//! Your own system, with everything that the built-in ones have: an SQLite database through its online backup API, with
//! source, proof, target, verifier, table of the config file, flags, help, completions and manual page.
//!
//! ```text
//! cargo run --example custom_system --features cli -- backup
//! ```
//!
//! with, in `lifeboat.toml`: `sqlite = { file = "/var/lib/app/app.db" }`. The program also has PostgreSQL.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use futures::StreamExt;
use lifeboat::cli::{Commands, NoVerbs, Systems};
use lifeboat::proof::WholeStream;
use lifeboat::{
    ArtifactName, ByteStream, Check, Context, Dataset, Description, Error, ErrorKind, Level, Manifest, NamedTarget,
    Opening, Proof, Reading, RestoreInput, Result, Setting, Source, System, Tap, Target, Verifier, async_trait,
    setting,
};
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;
use tempfile::NamedTempFile;
use tokio_util::io::ReaderStream;

fn main() -> ExitCode {
    let mut systems = Systems::new();
    systems.add::<Sqlite>();
    systems.add::<lifeboat::postgres::PostgresSystem>();
    lifeboat::cli::main(&systems)
}

/// The table of a job, and the flags of `backup`.
#[derive(Args, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The database's file
    #[serde(deserialize_with = "setting::required")]
    #[arg(long = "from", value_name = "PATH", env = "LIFEBOAT_FROM")]
    file: Option<Setting>,
}

/// The options of a restore.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RestoreOptions {
    /// Replace an existing file
    #[arg(long)]
    replace: bool,
}

/// The options of a verification: none.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct VerifyOptions {}

/// SQLite, opened with the settings of a job.
#[derive(Clone, Debug)]
struct Sqlite {
    file: Option<Setting>,
}

impl Sqlite {
    fn path(&self) -> Result<PathBuf> {
        match &self.file {
            Some(file) => file.path(),
            None => Err(Error::new(ErrorKind::Config, "find", "the database", "no file was given")
                .hint("give --from PATH, or set LIFEBOAT_FROM")),
        }
    }
}

#[async_trait]
impl System for Sqlite {
    const NAME: &'static str = "sqlite";
    const TITLE: &'static str = "SQLite";
    const ABOUT: &'static str = "Backs up an SQLite database, and proves that each backup is good";
    const EXAMPLE: &'static str = "sqlite = { file = \"/var/lib/app/app.db\" }";

    type Settings = Settings;
    type Restore = RestoreOptions;
    type Verify = VerifyOptions;

    fn open(settings: Settings, _: &Opening<'_>) -> Result<Self> {
        Ok(Self { file: settings.file })
    }

    fn dataset(&self) -> Result<Option<Dataset>> {
        let Some(file) = &self.file else { return Ok(None) };
        let path = file.path()?;
        path.file_stem().map(|stem| Dataset::new(stem.to_string_lossy())).transpose()
    }

    async fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(Database(self.path()?)))
    }

    async fn target(&self, into: &Setting, choices: RestoreOptions, _: &Dataset) -> Result<NamedTarget> {
        let path = into.path()?;
        let name = path.display().to_string();
        Ok(NamedTarget::new(File { path, replace: choices.replace }, name).replaces(choices.replace))
    }

    async fn verifier(&self, _: Level, _: VerifyOptions) -> Result<Box<dyn Verifier>> {
        Ok(Box::new(Judge))
    }

    async fn check(&self) -> Vec<Check> {
        match self.path().and_then(|path| tables(&path)) {
            Ok((tables, rows)) => vec![Check::pass("database", format!("{tables} tables"), format!("{rows} rows"))],
            Err(error) => vec![Check::from_error("database", &error)],
        }
    }

    fn stock_restore(&self, _: &ArtifactName, _: Option<&Manifest>) -> String {
        "cat > restored.db".to_owned()
    }
}

impl Commands for Sqlite {
    type Verbs = NoVerbs;
}

/// A live database.
struct Database(PathBuf);

#[async_trait]
impl Source for Database {
    async fn describe(&self) -> Result<Description> {
        open(&self.0)?;
        let dataset = self.0.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let (system, format) = (Sqlite::NAME.to_owned(), "db".to_owned());
        Ok(Description::new(system, format).dataset(dataset))
    }

    async fn open(&self, _: &Context) -> Result<Reading> {
        let path = self.0.clone();
        // The copy is beside the database, where its content may be anyway, and has no name that anyone could open.
        let copy = tokio::task::spawn_blocking(move || {
            let failed = |e| Error::io("copy", path.display().to_string(), e);
            let copy = NamedTempFile::new_in(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
            let mut into = Connection::open(copy.path()).map_err(|e| sqlite(&path, &e))?;
            let from = open(&path)?;
            let backup = Backup::new(&from, &mut into).map_err(|e| sqlite(&path, &e))?;
            backup.run_to_completion(1024, std::time::Duration::ZERO, None).map_err(|e| sqlite(&path, &e))?;
            copy.reopen().map_err(failed)
        });
        let copy = copy.await.map_err(|e| Error::new(ErrorKind::Internal, "run", "a thread", e.to_string()))??;
        let name = self.0.display().to_string();
        let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(copy), 1 << 20);
        let stream = chunks.map(move |chunk| chunk.map_err(|e| Error::io("read the copy of", &name, e))).boxed();
        Ok(Reading::new(stream, Box::new(WholeStream::new("database"))))
    }
}

/// A file that a backup is restored into.
struct File {
    path: PathBuf,
    replace: bool,
}

#[async_trait]
impl Target for File {
    async fn restore(&self, input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        let (path, replace) = (self.path.clone(), self.replace);
        if path.exists() && !replace {
            let error =
                Error::new(ErrorKind::Refused, "restore into", path.display().to_string(), "there is a file already");
            return Err(error.hint("choose another place, or replace it with --replace"));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let restored = spool(input.stream, folder).await?;
        let (tables, rows) = tables(restored.path())?;
        let kept =
            if replace { restored.persist(&path).map(drop) } else { restored.persist_noclobber(&path).map(drop) };
        kept.map_err(|e| Error::io("write", path.display().to_string(), e.error))?;
        Ok(vec![Check::pass(
            "restored",
            format!("{tables} tables"),
            format!("{rows} rows; it passes its integrity check"),
        )])
    }
}

/// Judges stored databases.
struct Judge;

#[async_trait]
impl Verifier for Judge {
    fn tap(&self, name: &ArtifactName) -> Result<Box<dyn Tap>> {
        if name.format == "db" {
            return Ok(Box::new(WholeStream::new("database")));
        }
        Err(Error::new(ErrorKind::Unsupported, "parse", name.to_string(), "it is not an SQLite database"))
    }

    async fn restore_test(&self, input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        let restored = spool(input.stream, &std::env::temp_dir()).await?;
        Ok(vec![match tables(restored.path()) {
            Ok((tables, rows)) => Check::pass("integrity", format!("{tables} tables"), format!("{rows} rows")),
            Err(error) => Check::from_error("integrity", &error),
        }])
    }

    async fn live(&self, _: Option<&Proof>, _: &Context) -> Result<Vec<Check>> {
        Err(Error::new(ErrorKind::Unsupported, "compare", "the database", "a proof of it does not say what is inside"))
    }
}

fn open(path: &Path) -> Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| sqlite(path, &e))
}

fn sqlite(path: &Path, error: &rusqlite::Error) -> Error {
    Error::new(ErrorKind::Tool, "read", path.display().to_string(), error.to_string())
}

/// Checks a database, and counts its tables and rows.
fn tables(path: &Path) -> Result<(usize, i64)> {
    let failed = |e: rusqlite::Error| sqlite(path, &e);
    let database = open(path)?;
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(failed)?;
    if verdict != "ok" {
        return Err(Error::new(ErrorKind::Corrupt, "read", path.display().to_string(), verdict));
    }
    let mut names = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").map_err(failed)?;
    let names =
        names.query_map([], |row| row.get(0)).and_then(Iterator::collect::<Result<Vec<String>, _>>).map_err(failed)?;
    let count = |name: &String| {
        let query = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        database.query_row(&query, [], |row| row.get::<_, i64>(0)).map_err(failed)
    };
    Ok((names.len(), names.iter().map(count).sum::<Result<i64>>()?))
}

/// Writes a stream into a file without a lasting name. It counts only after the stream has ended without an error.
async fn spool(mut stream: ByteStream, folder: &Path) -> Result<NamedTempFile> {
    let failed = |e| Error::io("write into", folder.display().to_string(), e);
    let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
    while let Some(chunk) = stream.next().await {
        file.write_all(&chunk?).map_err(failed)?;
    }
    file.rewind().and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    Ok(file)
}
