//! Backs up a PostgreSQL database, and proves by restoring that the backup is good.
//!
//! ```text
//! cargo run --example embed_postgres -- postgres://me@localhost/shop file:///var/backups
//! ```

#![allow(clippy::print_stdout)] // A program for a terminal.

use std::sync::Arc;

use lifeboat::catalog::{self, At};
use lifeboat::postgres::{Postgres, PostgresVerifier};
use lifeboat::{Age, Backup, Compression, Result, Verify, sinks};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(place)) = (arguments.next(), arguments.next()) else {
        println!("usage: embed_postgres POSTGRES-URL SINK-URL");
        return Ok(());
    };
    // Keep the secret away from the backups: without it nobody can read them, not even you.
    let (secret, public) = Age::generate();
    let sink = sinks::open(&place)?;

    let receipt = Backup::new(Postgres::connect(&url).await?)
        .compress(Compression::zstd(3))
        .encrypt(Age::to([public])?)
        .to(sink.clone())
        .run()
        .await?;
    println!("{}: {} rows in {} bytes", receipt.key, receipt.rows, receipt.stored_bytes);

    let artifact = catalog::find(&sink, "", &receipt.dataset, &At::Latest).await?;
    let key = Age::default().identities(&secret, "the new key")?;
    let report = Verify::new(sink, artifact, &PostgresVerifier::default()).key(Arc::new(key)).run().await?;
    for check in &report.checks {
        println!("{:5} {}: {} ({})", check.status, check.name, check.figure, check.detail);
    }
    println!("{}", if report.passed { "it restores" } else { "it does NOT restore" });
    Ok(())
}
