//! A MongoDB-compatible server for tests: a fresh database on the shared server, a private server that a test may kill,
//! and the stock tools.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bson::{Document, RawDocumentBuf, doc};
use mongodb::{Client, Collection};
use tokio::runtime::Runtime;

use crate::content::fresh_name;
use crate::minio::free_port;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: this test needs a MongoDB-compatible server and its tools; run `cargo xtask test`, or `cargo xtask services --with mongodb` beside it")
    })
}

/// The URL of the shared server, without a database; it ends with `/`.
///
/// # Panics
/// When there is none.
pub fn shared_url() -> String {
    format!("{}/", variable("LIFEBOAT_TEST_MONGO_URL").trim_end_matches('/'))
}

/// Runs the stock `mongodump`, and returns its standard output.
///
/// # Panics
/// When it fails.
pub fn mongodump(arguments: &[&str]) -> Vec<u8> {
    let output = tool("LIFEBOAT_TEST_MONGODUMP", arguments);
    assert!(output.status.success(), "mongodump: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Runs the stock `mongorestore`. It also counts as failed if it reports failed documents.
///
/// # Errors
/// What it said.
pub fn mongorestore(arguments: &[&str]) -> Result<String, String> {
    let output = tool("LIFEBOAT_TEST_MONGORESTORE", arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && said.contains(" 0 document(s) failed to restore") { Ok(said) } else { Err(said) }
}

fn tool(name: &str, arguments: &[&str]) -> Output {
    Command::new(variable(name)).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A private database. It is dropped with this value. Not for use within a runtime: it has its own.
#[derive(Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    client: Option<Client>,
    runtime: Runtime,
}

impl Database {
    /// A name on the server that runs for all tests; nothing is in it.
    pub fn fresh() -> Self {
        Self::on(&shared_url())
    }

    /// Like [`fresh`](Self::fresh), on another server.
    pub fn on(server: &str) -> Self {
        let name = fresh_name("mongo").replace('-', "_");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(Client::with_uri_str(server)).unwrap();
        Self { url: format!("{server}{name}"), name, client: Some(client), runtime }
    }

    fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    /// Runs a command.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, command: Document) -> Document {
        self.runtime.block_on(async { self.client().database(&self.name).run_command(command).await }).unwrap()
    }

    fn collection(&self, name: &str) -> Collection<RawDocumentBuf> {
        self.client().database(&self.name).collection(name)
    }

    /// Inserts documents.
    pub fn insert(&self, collection: &str, documents: impl IntoIterator<Item = Vec<u8>>) {
        let documents: Vec<RawDocumentBuf> =
            documents.into_iter().map(|bytes| RawDocumentBuf::from_bytes(bytes).unwrap()).collect();
        self.runtime.block_on(async { self.collection(collection).insert_many(documents).await }).unwrap();
    }

    /// Inserts a document, and says whether the server took it as it is.
    pub fn try_insert(&self, collection: &str, document: RawDocumentBuf) -> bool {
        self.runtime.block_on(async { self.collection(collection).insert_one(document).await }).is_ok()
    }

    /// The documents of a collection as bytes, sorted by them.
    pub fn documents(&self, collection: &str) -> Vec<Vec<u8>> {
        let mut found = self.runtime.block_on(async {
            let mut cursor = self.collection(collection).find(doc! {}).await.unwrap();
            let mut found = Vec::new();
            while cursor.advance().await.unwrap() {
                found.push(cursor.current().as_bytes().to_vec());
            }
            found
        });
        found.sort();
        found
    }

    /// The names of its collections, sorted.
    pub fn collections(&self) -> Vec<String> {
        let mut names =
            self.runtime.block_on(async { self.client().database(&self.name).list_collection_names().await }).unwrap();
        names.sort();
        names
    }

    /// The names of all databases of its server that start like this.
    pub fn databases(&self, prefix: &str) -> Vec<String> {
        let names = self.runtime.block_on(async { self.client().list_database_names().await }).unwrap();
        names.into_iter().filter(|name| name.starts_with(prefix)).collect()
    }

    /// Keys and names of a collection's indexes, as JSON, sorted.
    pub fn indexes(&self, collection: &str) -> Vec<String> {
        let reply = self.run(doc! { "listIndexes": collection });
        let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
        let mut all: Vec<String> = batch
            .iter()
            .map(|index| {
                let index = index.as_document().unwrap();
                let unique = index.get_bool("unique").unwrap_or_default();
                format!("{} {} unique {unique}", index.get_str("name").unwrap(), index.get_document("key").unwrap())
            })
            .collect();
        all.sort();
        all
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let client = self.client.take().unwrap();
        let name = self.name.clone();
        // Its server may be gone.
        self.runtime.block_on(async move {
            let database = client.database(&name);
            let _ = tokio::time::timeout(Duration::from_secs(5), database.drop()).await;
        });
    }
}

/// A private FerretDB, which a test may kill.
#[derive(Debug)]
pub struct Server {
    /// Its URL, without a database; it ends with `/`.
    pub url: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts one with nothing in it.
    ///
    /// # Panics
    /// When it does not answer within 30 s.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("lifeboat-ferretdb-").tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let child = start(&address, folder.path());
        let begun = Instant::now();
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "FerretDB does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { url: format!("mongodb://{address}/"), child, _folder: folder }
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The program FerretDB: `ferretdb ADDRESS FOLDER`. The address is `HOST:PORT` or the path of a Unix socket.
///
/// # Panics
/// When `LIFEBOAT_TEST_FERRETDB_BIN` is not set.
pub fn ferretdb() -> PathBuf {
    variable("LIFEBOAT_TEST_FERRETDB_BIN").into()
}

fn start(address: &str, folder: &Path) -> Child {
    Command::new(ferretdb())
        .arg(address)
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
