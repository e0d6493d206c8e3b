//! The sources keep what the trait promises, on a real server.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, missing_docs)]

use lifeboat_backends::postgres::{Connection, Globals, Postgres};
use lifeboat_testkit::conformance::source;
use lifeboat_testkit::postgres::Database;

fn connection(database: &Database) -> Connection {
    Connection::parse(&database.url.clone().into()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database() {
    let live = Database::fresh();
    live.run("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS x FROM generate_series(1, 30000) i");
    source::all(&Postgres::new(connection(&live))).await;
    assert_eq!(live.run("SELECT count(*) FROM t").trim(), "30000");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_of_a_server() {
    let live = Database::fresh();
    // Other tests make and drop roles meanwhile: only what does not compare two readings.
    let globals = Globals::new(connection(&live));
    source::a_reading_can_be_left_in_the_middle(&globals).await;
    source::cancelling_ends_it(&globals).await;
}
