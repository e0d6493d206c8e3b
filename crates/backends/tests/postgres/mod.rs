//! What the tests of restoring share: dumps by the stock programs, given to the target and the verifier.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod tls;

use std::process::Command;

use bytes::Bytes;
use futures::StreamExt;
use lifeboat_backends::postgres::{
    Connection, Postgres, PostgresSettings, PostgresTarget, PostgresVerifier, RestoreOptions, VerifierOptions,
};
use lifeboat_core::{Check, Context, Proof, Reading, RestoreInput, Result, Source, Status, Target, Verifier};
use lifeboat_testkit::postgres::{Database, programs};

/// What a stock program writes about a database.
pub fn stock(program: &str, url: &str, arguments: &[&str]) -> Vec<u8> {
    let output =
        Command::new(programs().join(program)).args(arguments).arg(format!("--dbname={url}")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A dump as it comes out of a bucket, in small pieces.
pub fn input(format: &str, dump: &[u8]) -> RestoreInput {
    let pieces: Vec<_> = dump.chunks(4099).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    RestoreInput::new(
        futures::stream::iter(pieces).boxed(),
        format!("a-20261121-033000.{format}").parse().unwrap(),
        None,
    )
}

pub fn connection(url: &str) -> Connection {
    Connection::parse(&url.to_owned().into()).unwrap()
}

pub async fn restore(url: &str, dump: &[u8], options: RestoreOptions) -> Result<Vec<Check>> {
    restore_as("sql", url, dump, options).await
}

pub async fn restore_as(format: &str, url: &str, dump: &[u8], options: RestoreOptions) -> Result<Vec<Check>> {
    PostgresTarget::new(connection(url), options).restore(input(format, dump), &Context::default()).await
}

pub fn replacing() -> RestoreOptions {
    RestoreOptions::default().replace(true)
}

/// A backup of ours: the archive and its proof.
pub async fn backup(url: &str) -> Result<(Vec<u8>, Proof)> {
    backup_with(url, PostgresSettings::default(), &Context::default()).await
}

pub async fn backup_with(url: &str, settings: PostgresSettings, cx: &Context) -> Result<(Vec<u8>, Proof)> {
    let Reading { stream, mut tap, .. } = Postgres::new(connection(url)).options(settings)?.open(cx).await?;
    let dump = lifeboat_core::stream::collect(stream, 256 << 20, "the dump").await?;
    tap.push(&dump)?;
    Ok((dump.to_vec(), tap.finish()?))
}

/// An archive with its proof, as it comes out of a bucket.
pub fn proven(dump: &[u8], proof: &Proof) -> RestoreInput {
    let RestoreInput { stream, name, .. } = input("dump", dump);
    RestoreInput::new(stream, name, Some(proof.clone()))
}

/// The rows of a table, read alone out of a dump of this format.
pub fn rows_alone(format: &str, dump: &[u8], proof: Option<&Proof>, table: &str) -> Result<(String, String)> {
    let name = format!("a-20261121-033000.{format}").parse().unwrap();
    let mut rows = Vec::new();
    let mut out = |bytes: &[u8]| {
        rows.extend_from_slice(bytes);
        Ok(())
    };
    let mut extract = PostgresVerifier::default().extract(&name, table, proof)?;
    for chunk in dump.chunks(4099) {
        extract.take(chunk, &mut out)?;
    }
    let form = extract.form();
    extract.end(&mut out)?;
    Ok((String::from_utf8(rows).unwrap(), form))
}

/// The checks of a restore test.
pub async fn test(format: &str, dump: &[u8]) -> Vec<Check> {
    let verifier = PostgresVerifier::new(VerifierOptions::default());
    verifier.restore_test(input(format, dump), &Context::default()).await.unwrap()
}

/// The checks of a restore test whose content is compared.
pub async fn prove(dump: &[u8], proof: &Proof) -> Vec<Check> {
    let verifier = PostgresVerifier::new(VerifierOptions::default());
    verifier.restore_test(proven(dump, proof), &Context::default()).await.unwrap()
}

/// The worst of them.
pub fn worst(checks: &[Check]) -> Option<Status> {
    checks.iter().map(|c| c.status).max()
}

pub fn passed(checks: &[Check]) -> bool {
    checks.iter().all(|c| c.status < Status::Untested)
}

/// All that checks say, for a look at it.
pub fn said(checks: &[Check]) -> String {
    checks.iter().map(|c| format!("{} {:?} {}: {}\n", c.name, c.status, c.figure, c.detail)).collect()
}

/// A database with a table of so many rows.
pub fn with_rows(rows: u32) -> Database {
    let live = Database::fresh();
    live.run(&format!("CREATE TABLE public.t AS SELECT i AS id, 'row ' || i AS x FROM generate_series(1, {rows}) i"));
    live
}

pub fn rows(database: &Database) -> String {
    database.run("SELECT count(*) FROM public.t").trim().to_owned()
}

/// The notes that a run gives.
#[derive(Default)]
pub struct Notes(pub std::sync::Mutex<Vec<String>>);

impl lifeboat_core::progress::Progress for Notes {
    fn event(&self, event: lifeboat_core::progress::Event) {
        if let lifeboat_core::progress::Event::Note(note) = event {
            self.0.lock().unwrap().push(note);
        }
    }
}
