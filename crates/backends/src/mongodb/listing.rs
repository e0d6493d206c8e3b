//! A first look at a deployment, and the list of what is in it: databases, collections with their options, indexes.

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::StreamExt;
use lifeboat_core::{Context, Error, ErrorKind, Result};
use mongodb::raw_batch_cursor::RawBatch;
use mongodb::{Client, Database};

use super::archive::Metadata;
use super::connection::{Connection, selection};
use super::failure::{self, code};
use super::selection::Selection;

/// The first wire version with snapshot reads outside of transactions: MongoDB 5.0.
const SNAPSHOT_WIRE_VERSION: i32 = 13;

/// How the servers of a deployment stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    Standalone,
    ReplicaSet(String),
    Sharded,
}

impl Topology {
    /// Without the replica set's name, which says something of what is inside.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::ReplicaSet(_) => "replica set",
            Self::Sharded => "sharded cluster",
        }
    }
}

impl std::fmt::Display for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Standalone => f.write_str("standalone"),
            Self::ReplicaSet(name) => write!(f, "replica set {name}"),
            Self::Sharded => f.write_str("sharded cluster"),
        }
    }
}

/// What a first look at a deployment shows.
#[derive(Clone)]
pub(crate) struct Look {
    pub(crate) connection: Connection,
    pub(crate) client: Client,
    pub(crate) version: String,
    pub(crate) topology: Topology,
    wire_version: i32,
    /// The most documents that one insert may have.
    pub(crate) max_batch: usize,
}

impl Look {
    /// Within a time limit: a server that lets somebody in need not answer.
    pub(crate) async fn at(connection: &Connection) -> Result<Self> {
        let limit = connection.limit();
        tokio::time::timeout(limit, Self::without_limit(connection)).await.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", limit.as_secs());
            Err(Error::new(ErrorKind::Unavailable, "connect to", connection.redacted(), why).hint(
                "is it a MongoDB server, and does it still answer? To wait longer, set serverSelectionTimeoutMS=… in the URL",
            ))
        })
    }

    async fn without_limit(connection: &Connection) -> Result<Self> {
        let client = connection.client().await?;
        let failed = |e: mongodb::error::Error| connection.error("connect to", &e);
        let hello = match ask(&client, "admin", doc! { "hello": 1 }).await {
            Ok(hello) => hello,
            // Servers before 4.4.2 know it by its old name.
            Err(error) if failure::code_of(&error) == Some(code::COMMAND_NOT_FOUND) => {
                ask(&client, "admin", doc! { "isMaster": 1 }).await.map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        let build = ask(&client, "admin", doc! { "buildInfo": 1 }).await.map_err(failed)?;
        let topology = match (hello.get_str("msg"), hello.get_str("setName")) {
            (Ok("isdbgrid"), _) => Topology::Sharded,
            (_, Ok(name)) => Topology::ReplicaSet(name.to_owned()),
            _ => Topology::Standalone,
        };
        Ok(Self {
            connection: connection.clone(),
            client,
            version: build.get_str("version").unwrap_or_default().to_owned(),
            topology,
            wire_version: number(&hello, "maxWireVersion").and_then(|n| i32::try_from(n).ok()).unwrap_or_default(),
            max_batch: number(&hello, "maxWriteBatchSize")
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(100_000)
                .max(1),
        })
    }

    /// Why there is no snapshot to read from; `None` when there is one.
    pub(crate) fn without_snapshot(&self) -> Option<String> {
        if self.topology == Topology::Standalone {
            return Some(
                "the server is a standalone, which cannot read several collections as of the same time".to_owned(),
            );
        }
        (self.wire_version < SNAPSHOT_WIRE_VERSION)
            .then(|| format!("MongoDB {} cannot read from a snapshot; 5.0 and later can", self.version))
    }

    /// Runs a command on a database, and says on what it failed.
    pub(crate) async fn run(
        &self,
        db: &str,
        command: Document,
        operation: &'static str,
        subject: &str,
    ) -> Result<Document> {
        self.client.database(db).run_command(command).await.map_err(|e| failure::of_driver(operation, subject, &e))
    }

    /// As [`run`](Self::run), a command that only reads: a member of the URL's read preference answers it.
    pub(crate) async fn ask(
        &self,
        db: &str,
        command: Document,
        operation: &'static str,
        subject: &str,
    ) -> Result<Document> {
        ask(&self.client, db, command).await.map_err(|e| failure::of_driver(operation, subject, &e))
    }

    /// The names of all databases.
    pub(crate) async fn databases(&self) -> Result<Vec<String>> {
        let command = doc! { "listDatabases": 1, "nameOnly": true };
        let reply = self.ask("admin", command, "list the databases of", &self.connection.redacted()).await?;
        let listed = reply.get_array("databases").map_err(|_| unreadable("listDatabases"))?;
        let mut names: Vec<String> =
            listed.iter().filter_map(|entry| entry.as_document()?.get_str("name").ok().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// The names of the databases that a selection takes: the one that is named, or those of all.
    pub(crate) async fn chosen_databases(&self, chosen: &Selection, database: Option<&str>) -> Result<Vec<String>> {
        Ok(match database {
            Some(name) => vec![name.to_owned()],
            None => self.databases().await?.into_iter().filter(|db| chosen.takes_database(db)).collect(),
        })
    }

    /// The collections of a database that a selection takes, without their indexes.
    pub(crate) async fn collections(&self, db: &str, takes: impl Fn(&str) -> bool) -> Result<Vec<Listed>> {
        let database = self.client.database(db);
        let command = doc! { "listCollections": 1, "cursor": {} };
        let documents = all(&database, command, &self.client)
            .await
            .map_err(|e| failure::of_driver("list the collections of", db, &e))?;
        let mut listed = Vec::new();
        for document in documents {
            let entry = Listed::read(db, &document)?;
            if takes(&entry.name) {
                listed.push(entry);
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// The indexes of a collection. `None` when it has gone.
    pub(crate) async fn indexes(&self, listed: &Listed) -> Result<Option<Vec<RawDocumentBuf>>> {
        if listed.kind == "view" {
            return Ok(Some(Vec::new()));
        }
        let database = self.client.database(&listed.db);
        match all(&database, doc! { "listIndexes": &listed.name, "cursor": {} }, &self.client).await {
            Ok(indexes) => Ok(Some(indexes)),
            Err(error) if failure::code_of(&error) == Some(code::NAMESPACE_NOT_FOUND) => Ok(None),
            Err(error) => Err(failure::of_driver("list the indexes of", &listed.full_name(), &error)),
        }
    }

    /// Everything that a selection takes, with its indexes, sorted by name. What goes away while it is listed is left out
    /// and named by the second part.
    pub(crate) async fn everything(
        &self,
        chosen: &Selection,
        database: Option<&str>,
        cx: &Context,
    ) -> Result<(Vec<Listed>, Vec<String>)> {
        let mut found = Vec::new();
        for db in &self.chosen_databases(chosen, database).await? {
            found.extend(self.collections(db, |name| chosen.takes(db, name)).await?);
        }
        let mut gone = Vec::new();
        let mut kept = Vec::with_capacity(found.len());
        // A request for each collection: several at once, or a thousand collections on a far server take a minute.
        let mut lists = futures::stream::iter(found)
            .map(|listed| async move {
                let indexes = self.indexes(&listed).await;
                (listed, indexes)
            })
            .buffered(8);
        while let Some((mut listed, indexes)) = lists.next().await {
            if cx.cancel.is_cancelled() {
                return Err(Error::cancelled("list", self.connection.redacted()));
            }
            match indexes? {
                Some(indexes) => {
                    listed.indexes = indexes;
                    kept.push(listed);
                }
                None => gone.push(listed.full_name()),
            }
        }
        Ok((kept, gone))
    }
}

/// A collection as the server lists it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) db: String,
    pub(crate) name: String,
    /// `collection`, `view` or `timeseries`.
    pub(crate) kind: String,
    pub(crate) options: Option<RawDocumentBuf>,
    pub(crate) indexes: Vec<RawDocumentBuf>,
    /// 32 lower-case hexadecimal digits.
    pub(crate) uuid: Option<String>,
}

impl Listed {
    fn read(db: &str, document: &RawDocumentBuf) -> Result<Self> {
        let name = document.get_str("name").map_err(|_| unreadable("listCollections"))?;
        let uuid = document
            .get_document("info")
            .ok()
            .and_then(|info| info.get_binary("uuid").ok())
            .map(|binary| hex::encode(binary.bytes));
        let options = document.get_document("options").ok().filter(|options| !options.is_empty());
        Ok(Self {
            db: db.to_owned(),
            name: name.to_owned(),
            kind: document.get_str("type").unwrap_or("collection").to_owned(),
            options: options.map(ToOwned::to_owned),
            indexes: Vec::new(),
            uuid,
        })
    }

    /// The users or roles of one database, which are documents of a collection in `admin`: `$admin.system.users`, as mongodump
    /// calls it.
    pub(crate) fn account(db: &str, name: &str) -> Self {
        let (db, name, kind) = (db.to_owned(), format!("$admin.{name}"), "collection".to_owned());
        Self { db, name, kind, options: None, indexes: Vec::new(), uuid: None }
    }

    /// Whether it was made by [`account`](Self::account).
    pub(crate) fn is_account(&self) -> bool {
        self.name.starts_with("$admin.system.")
    }

    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.db, self.name)
    }

    pub(crate) fn is_capped(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.get_bool("capped").unwrap_or_default())
    }

    pub(crate) fn metadata(&self) -> Metadata {
        Metadata {
            options: self.options.clone(),
            indexes: self.indexes.clone(),
            uuid: self.uuid.clone(),
            collection_name: self.name.clone(),
            kind: self.kind.clone(),
        }
    }
}

/// A number of any of BSON's kinds.
pub(crate) fn number(document: &Document, name: &str) -> Option<i64> {
    match document.get(name)? {
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Int64(n) => Some(*n),
        Bson::Double(n) => Some(*n as i64),
        _ => None,
    }
}

fn unreadable(command: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "read", format!("the answer to {command}"), "it does not have MongoDB's form")
}

/// Runs a command that only reads, with the read preference of the URL.
async fn ask(client: &Client, db: &str, command: Document) -> mongodb::error::Result<Document> {
    let database = client.database(db);
    let mut run = database.run_command(command);
    if let Some(criteria) = selection(client) {
        run = run.selection_criteria(criteria);
    }
    run.await
}

/// All documents that a command's cursor yields.
async fn all(database: &Database, command: Document, client: &Client) -> mongodb::error::Result<Vec<RawDocumentBuf>> {
    let mut run = database.run_cursor_command(command);
    if let Some(criteria) = selection(client) {
        run = run.selection_criteria(criteria);
    }
    let mut cursor = run.batch().await?;
    let mut documents = Vec::new();
    while let Some(batch) = cursor.next().await {
        let batch: RawBatch = batch?;
        for element in batch.doc_slices()? {
            if let Some(document) = element?.as_document() {
                documents.push(document.to_owned());
            }
        }
    }
    Ok(documents)
}
