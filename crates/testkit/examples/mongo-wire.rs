//! Serves canned collections over MongoDB's protocol, and swallows what is inserted: what dump and restore tools are measured
//! against.
//!
//! ```text
//! mongo-wire ADDRESS BYTES_OF_A_DOCUMENT MIB_OF_A_COLLECTION COLLECTIONS [distinct]
//! ```
//!
//! The documents are all the same one, unless they are to be distinct: then each is made, and held in memory.
//!
//! It ends when its standard input does.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use lifeboat_testkit::documents::of_size;
use lifeboat_testkit::mongo_wire::{Canned, Collection, MongoWire, Script};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, size, mib, collections, rest @ ..] = &arguments[..] else {
        panic!("usage: mongo-wire ADDRESS BYTES_OF_A_DOCUMENT MIB_OF_A_COLLECTION COLLECTIONS [distinct]");
    };
    let distinct = rest.iter().any(|word| word == "distinct");
    let (size, mib, collections): (usize, u64, usize) =
        (size.parse().unwrap(), mib.parse().unwrap(), collections.parse().unwrap());
    let mut script = Script::standalone().swallow_inserts();
    for number in 0..collections {
        let (collection, count) = (Collection::new("bench", &format!("c{number}")), (mib << 20) / size as u64);
        script = script.collection(if distinct {
            collection.documents((0..count as i32).map(|id| of_size(id, size)))
        } else {
            collection.canned(Canned::new(of_size(1, size), count))
        });
    }
    let server = MongoWire::start_at(script, address).await;
    println!("{}", server.url());
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await.unwrap().unwrap();
}
