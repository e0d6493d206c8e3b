//! Reads a MongoDB database as a backup does, as an archive with its proof, and throws the archive away: the source alone,
//! without a pipeline, a hash of what is stored, or a store. It is what `mongodump --archive > /dev/null` is compared with.
//!
//! `cargo run --release -p lifeboat-bins --example mongodb-read -- mongodb://127.0.0.1:27017/db`
#![allow(clippy::print_stdout)]

use futures::StreamExt;
use lifeboat::mongodb::Mongo;
use lifeboat::{Context, Error, ErrorKind, Reading, Result, Source, Tap};

/// The binaries' own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let usage = || Error::new(ErrorKind::Config, "read", "the arguments", "usage: mongodb-read URL");
    let url = std::env::args().nth(1).ok_or_else(usage)?;
    let Reading { mut stream, mut tap, .. } = Mongo::connect(&url).await?.open(&Context::default()).await?;
    let (send, receive) = std::sync::mpsc::sync_channel(4);
    let proving = std::thread::spawn(move || {
        let mut bytes = 0;
        while let Ok(chunk) = receive.recv() {
            bytes += prove(&mut *tap, chunk)?;
        }
        Ok::<_, Error>((bytes, tap.finish()?))
    });
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if tokio::task::block_in_place(|| send.send(chunk)).is_err() {
            break;
        }
    }
    drop(send);
    let broke_off = |_| Error::new(ErrorKind::Internal, "read", "the archive", "a thread broke off");
    let (bytes, proof) = proving.join().map_err(broke_off)??;
    println!("{bytes} bytes, {} documents", proof.total_count());
    Ok(())
}

fn prove(tap: &mut dyn Tap, chunk: impl AsRef<[u8]>) -> Result<usize> {
    tap.push(chunk.as_ref())?;
    Ok(chunk.as_ref().len())
}
