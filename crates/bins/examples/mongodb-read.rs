//! Reads a MongoDB database as a backup does, as an archive with its proof, and throws the archive away: the source alone,
//! without a pipeline, a hash of what is stored, or a store. It is what `mongodump --archive > /dev/null` is compared with.
//!
//! `cargo run --release -p lifeboat-bins --example mongodb-read -- mongodb://127.0.0.1:27017/db`
#![allow(clippy::print_stdout)]

use futures::StreamExt;
use lifeboat::mongodb::Mongo;
use lifeboat::{Context, Error, ErrorKind, Reading, Result, Source};

/// The binaries' own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let usage = || Error::new(ErrorKind::Config, "read", "the arguments", "usage: mongodb-read URL");
    let url = std::env::args().nth(1).ok_or_else(usage)?;
    let Reading { mut stream, mut tap, .. } = Mongo::connect(&url).await?.open(&Context::default()).await?;
    let mut bytes = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        tap.push(&chunk)?;
        bytes += chunk.len();
    }
    let proof = tap.finish()?;
    println!("{bytes} bytes, {} documents", proof.total_count());
    Ok(())
}
