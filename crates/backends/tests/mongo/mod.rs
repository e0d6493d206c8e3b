//! What tests of the MongoDB backend have in common: reading from a scripted server, restoring into one, and looking into it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use lifeboat_backends::mongodb::{
    Connection, Mongo, MongoSettings, MongoTarget, MongoVerifier, RestoreOptions, VerifierOptions,
};
use lifeboat_core::progress::Tally;
use lifeboat_core::{Check, Context, Proof, RestoreInput, Result, Source, Target, Verifier};
use lifeboat_testkit::documents::Doc;
use lifeboat_testkit::mongo_wire::{Collection, MongoWire};

pub fn documents(count: i32) -> Vec<Vec<u8>> {
    (0..count).map(|n| Doc::new().int32("_id", n).text("x", &format!("x{n}")).build()).collect()
}

pub fn orders(count: i32) -> Collection {
    let index = Doc::new().int32("v", 2).doc("key", Doc::new().text("x", "text").int32("b", -1)).text("name", "x_b");
    Collection::new("shop", "orders").documents(documents(count)).index(index)
}

pub fn connection(server: &MongoWire, database: &str) -> Connection {
    let made = Connection::parse(&server.url().into()).unwrap();
    if database.is_empty() { made } else { made.with_database(database) }
}

pub struct Read {
    pub archive: Vec<u8>,
    pub proof: Proof,
    pub notes: Vec<String>,
}

pub async fn read_with(server: &MongoWire, database: &str, options: MongoSettings) -> Result<Read> {
    let tally = Arc::new(Tally::default());
    let cx = Context::default().progress(tally.clone());
    let source = Mongo::new(connection(server, database)).options(options)?;
    source.describe().await?;
    let mut reading = source.open(&cx).await?;
    let mut archive = Vec::new();
    while let Some(chunk) = reading.stream.next().await {
        let chunk = chunk?;
        reading.tap.push(&chunk)?;
        archive.extend_from_slice(&chunk);
    }
    Ok(Read { archive, proof: reading.tap.finish()?, notes: tally.notes() })
}

pub async fn read(server: &MongoWire) -> Result<Read> {
    read_with(server, "shop", MongoSettings::default()).await
}

pub fn input(archive: &[u8], proof: Option<Proof>) -> RestoreInput {
    let chunks: Vec<Result<Bytes>> = archive.chunks(70_000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    let name = "shop-20261121-033000.archive".parse().unwrap();
    RestoreInput::new(futures::stream::iter(chunks).boxed(), name, proof)
}

pub async fn restore(
    server: &MongoWire,
    database: &str,
    archive: &[u8],
    options: RestoreOptions,
) -> Result<Vec<Check>> {
    let target = MongoTarget::new(connection(server, database), options)?;
    target.restore(input(archive, None), &Context::default()).await
}

/// Everything in a database but indexes, for comparisons.
pub fn content(server: &MongoWire, database: &str) -> Vec<(String, Vec<Vec<u8>>)> {
    let name = |c: &Collection| c.name().to_owned();
    server.with_store(|store| {
        store
            .of(database)
            .map(|c| {
                let mut documents = c.documents.clone();
                documents.sort();
                (name(c), documents)
            })
            .collect()
    })
}

pub fn count_of(proof: &Proof, name: &str) -> u64 {
    proof.items.iter().find(|i| i.name == name).unwrap().count
}

pub async fn verify(scratch: &MongoWire, archive: &[u8], proof: Option<Proof>) -> Vec<Check> {
    let options = VerifierOptions::default().scratch(connection(scratch, ""));
    MongoVerifier::new(options).restore_test(input(archive, proof), &Context::default()).await.unwrap()
}
