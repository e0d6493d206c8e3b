//! Writes so many MiB of zeros to a sink, reads them back, removes them, and says how fast that was and how much
//! memory it took: `cargo run --release --all-features --example throughput -- minio://127.0.0.1:9000/b?tls=false 4096`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use lifeboat_core::stream::CHUNK;
use lifeboat_core::{Error, ErrorKind, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let usage = || Error::new(ErrorKind::Config, "read", "the arguments", "usage: throughput SINK-URL MEBIBYTES");
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or_else(usage)?;
    let chunks: usize = arguments.next().and_then(|n| n.parse().ok()).ok_or_else(usage)?;
    let sink = lifeboat_sinks::open(&url)?;
    let key = format!("throughput-{}", std::process::id());

    let start = Instant::now();
    // Memory of its own for each chunk, as a pipeline has it.
    let body = stream::iter(0..chunks).map(|_| Ok::<Bytes, Error>(BytesMut::zeroed(CHUNK).freeze()));
    let bytes = sink.put(&key, body.boxed()).await?;
    report("put", bytes, start);

    let start = Instant::now();
    let mut body = sink.get(&key, None).await?;
    let mut bytes = 0;
    while let Some(chunk) = body.next().await {
        bytes += chunk?.len() as u64;
    }
    report("get", bytes, start);
    sink.delete(&[key]).await?;
    Ok(())
}

fn report(what: &str, bytes: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim();
    let rate = bytes as f64 / seconds / f64::from(1 << 20);
    println!("{what}: {bytes} bytes in {seconds:.1} s, {rate:.0} MiB/s; peak memory {peak}");
}
