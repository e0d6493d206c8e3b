//! What of a deployment goes into a backup: databases, collections by pattern, a query per collection.

use std::collections::BTreeMap;

use bson::RawDocumentBuf;
use lifeboat_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::namespace::Pattern;

/// How consistent the collections of one backup must be with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// One snapshot where the server can give it (a replica set or sharded cluster from 5.0 on), otherwise each collection
    /// as it is when it is read; a note says which it was.
    #[default]
    Auto,
    /// One snapshot, or the backup fails.
    Snapshot,
    /// Each collection as it is when it is read.
    None,
}

/// What goes into the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DumpOptions {
    /// Only these collections. `*` stands for any characters; a name without a database's is of the one that is read.
    pub collections: Vec<String>,
    /// All collections but these.
    pub exclude_collections: Vec<String>,
    /// All databases but these, when all are read.
    pub exclude_databases: Vec<String>,
    /// For a collection the documents that are read: a filter as find takes it, as (extended) JSON text.
    pub queries: BTreeMap<String, String>,
    /// How consistent the collections must be with each other.
    pub consistency: Consistency,
    /// Also what was written while the collections were read: with it a restore is of one point in time. Of a whole
    /// replica set only.
    pub oplog: bool,
    /// Cursors that read side by side; 0 is 4.
    pub cursors: usize,
    /// Whether users and roles go along: `None` is yes for all databases and no for one. Password hashes are in them: such
    /// a backup is never stored without encryption.
    pub users_and_roles: Option<bool>,
}

/// The choice of collections, ready to be asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    database: Option<String>,
    only: Vec<Pattern>,
    without: Vec<Pattern>,
    without_databases: Vec<Pattern>,
    queries: BTreeMap<(String, String), RawDocumentBuf>,
    /// Users and roles as well.
    accounts: bool,
}

impl Selection {
    /// All collections of a database, or of all.
    pub(crate) fn everything(database: Option<&str>) -> Self {
        Self { database: database.map(str::to_owned), accounts: database.is_none(), ..Self::default() }
    }

    /// # Errors
    /// [`ErrorKind::Config`] for a pattern or a query that cannot be read.
    pub(crate) fn new(options: &DumpOptions, database: Option<&str>) -> Result<Self> {
        let patterns = |texts: &[String]| -> Vec<Pattern> {
            texts.iter().map(|text| Pattern::new(&qualified(text, database))).collect()
        };
        let mut queries = BTreeMap::new();
        for (name, text) in &options.queries {
            let full = qualified(name, database);
            let Some((db, collection)) = full.split_once('.') else {
                return Err(wrong_query(name, "name the collection with its database: shop.orders"));
            };
            queries.insert((db.to_owned(), collection.to_owned()), filter(name, text)?);
        }
        if options.oplog {
            let why = "the oplog is of the whole replica set: it goes with all databases, all collections, users and roles, and no query";
            let plain = DumpOptions {
                oplog: true,
                cursors: options.cursors,
                users_and_roles: options.users_and_roles.filter(|yes| *yes),
                ..DumpOptions::default()
            };
            if database.is_some() || *options != plain {
                return Err(Error::new(ErrorKind::Config, "use", "oplog", why)
                    .hint("leave out the database and every selection, or leave out oplog"));
            }
        }
        Ok(Self {
            database: database.map(str::to_owned),
            only: patterns(&options.collections),
            without: patterns(&options.exclude_collections),
            without_databases: options.exclude_databases.iter().map(|t| Pattern::new(t)).collect(),
            queries,
            accounts: options.users_and_roles.unwrap_or(database.is_none()),
        })
    }

    /// The database whose own users and roles are read, where it is one that is not `admin`.
    pub(crate) fn accounts_of(&self) -> Option<&str> {
        self.database.as_deref().filter(|db| self.accounts && *db != "admin")
    }

    /// Whether there may be users in what is read.
    pub(crate) fn holds_accounts(&self) -> bool {
        let of_all = self.takes_database("admin") && ACCOUNTS.iter().any(|name| self.takes("admin", name));
        self.accounts_of().is_some() || of_all
    }

    pub(crate) fn takes_database(&self, db: &str) -> bool {
        match &self.database {
            Some(only) => only == db,
            None => !is_skipped_database(db) && !self.without_databases.iter().any(|p| p.matches(db)),
        }
    }

    /// Whether a collection is read. What the server keeps for itself is not, as mongodump has it.
    pub(crate) fn takes(&self, db: &str, collection: &str) -> bool {
        let full = format!("{db}.{collection}");
        let is_skipped = match db == "admin" && ACCOUNTS.contains(&collection) {
            true => !self.accounts,
            false => is_skipped(db, collection, self.database.is_none()),
        };
        !is_skipped
            && (self.only.is_empty() || self.only.iter().any(|p| p.matches(&full)))
            && !self.without.iter().any(|p| p.matches(&full))
    }

    /// The documents of a collection that are read; all of them when `None`.
    pub(crate) fn query(&self, db: &str, collection: &str) -> Option<&RawDocumentBuf> {
        self.queries.get(&(db.to_owned(), collection.to_owned()))
    }

    /// Queries of collections that are not among these.
    pub(crate) fn idle_queries<'a>(
        &'a self,
        has: impl Fn(&str, &str) -> bool + 'a,
    ) -> impl Iterator<Item = String> + 'a {
        self.queries.keys().filter(move |(db, name)| !has(db, name)).map(|(db, name)| format!("{db}.{name}"))
    }
}

/// The name with its database.
fn qualified(text: &str, database: Option<&str>) -> String {
    match database {
        Some(db) if !text.starts_with(&format!("{db}.")) => format!("{db}.{text}"),
        _ => text.to_owned(),
    }
}

fn wrong_query(name: &str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, "use", format!("the query of {name}"), why)
        .hint("write a filter as find takes it, in JSON: {\"status\": \"open\"}; other types as extended JSON: {\"at\": {\"$gt\": {\"$date\": \"2026-01-01T00:00:00Z\"}}}")
}

fn filter(name: &str, text: &str) -> Result<RawDocumentBuf> {
    super::archive::from_extended_json(text).map_err(|why| wrong_query(name, why))
}

/// Users, their roles, and of which version they are: all in `admin`.
pub(crate) const ACCOUNTS: [&str; 3] = ["system.users", "system.roles", "system.version"];

/// Databases that mongodump leaves out (`dump_prepare.go`).
pub(crate) fn is_skipped_database(db: &str) -> bool {
    db == "local" || db.starts_with("__mdb_internal")
}

/// Collections of `config` that a dump of all databases holds.
const CONFIG: [&str; 7] = ["chunks", "collections", "databases", "settings", "shards", "tags", "version"];

/// Collections that mongodump leaves out.
fn is_skipped(db: &str, collection: &str, all: bool) -> bool {
    if collection.contains('$') {
        return true;
    }
    if db == "admin" {
        return collection == "system.keys" || (collection.starts_with("system.") && !all);
    }
    if db == "config" && all && !CONFIG.contains(&collection) {
        return true;
    }
    collection.starts_with("system.") && collection != "system.js"
}

#[cfg(test)]
mod tests {
    use bson::Document;

    use super::*;

    fn selection(options: &DumpOptions, database: Option<&str>) -> Selection {
        Selection::new(options, database).unwrap()
    }

    #[test]
    fn what_the_server_keeps_for_itself_is_left_out() {
        let all = selection(&DumpOptions::default(), None);
        assert!(!all.takes_database("local") && !all.takes_database("__mdb_internal_x") && all.takes_database("admin"));
        for (db, name, taken) in [
            ("shop", "orders", true),
            ("shop", "system.js", true),
            ("shop", "system.profile", false),
            ("shop", "system.views", false),
            ("shop", "a$b", false),
            ("admin", "system.users", true),
            ("admin", "system.keys", false),
            ("config", "shards", true),
            ("config", "system.sessions", false),
        ] {
            assert_eq!(all.takes(db, name), taken, "{db}.{name}");
        }
    }

    #[test]
    fn users_go_along_with_all_databases_and_with_one_when_told() {
        let of = |users_and_roles, database| {
            let chosen = selection(&DumpOptions { users_and_roles, ..DumpOptions::default() }, database);
            (chosen.holds_accounts(), chosen.accounts_of().map(str::to_owned), chosen.takes("admin", "system.users"))
        };
        assert_eq!(of(None, None), (true, None, true));
        assert_eq!(of(Some(false), None), (false, None, false));
        assert_eq!(of(None, Some("shop")), (false, None, false));
        assert_eq!(of(Some(true), Some("shop")), (true, Some("shop".to_owned()), true));
        assert_eq!(of(None, Some("admin")), (false, None, false));
        assert_eq!(of(Some(true), Some("admin")), (true, None, true));
        let some = DumpOptions { collections: vec!["shop.*".to_owned()], ..DumpOptions::default() };
        assert!(!selection(&some, None).holds_accounts());
    }

    #[test]
    fn patterns_choose_and_leave_out() {
        let options = DumpOptions {
            collections: vec!["order*".to_owned()],
            exclude_collections: vec!["shop.orders_old".to_owned()],
            ..DumpOptions::default()
        };
        let one = selection(&options, Some("shop"));
        assert!(one.takes("shop", "orders") && !one.takes("shop", "orders_old") && !one.takes("shop", "people"));
        assert!(one.takes_database("shop") && !one.takes_database("shop2"));
    }

    #[test]
    fn a_query_is_extended_json() {
        let queries = BTreeMap::from([("orders".to_owned(), r#"{"n": {"$gt": {"$numberLong": "5"}}}"#.to_owned())]);
        let one = selection(&DumpOptions { queries, ..DumpOptions::default() }, Some("shop"));
        let read = Document::try_from(one.query("shop", "orders").unwrap().as_ref()).unwrap();
        assert_eq!(read, bson::doc! { "n": { "$gt": 5i64 } });
        assert_eq!(one.idle_queries(|_, _| false).collect::<Vec<_>>(), ["shop.orders"]);
        let queries = BTreeMap::from([("orders".to_owned(), "{".to_owned())]);
        let wrong = Selection::new(&DumpOptions { queries, ..DumpOptions::default() }, Some("shop")).unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::Config);
    }

    #[test]
    fn the_oplog_goes_with_everything_only() {
        let options = DumpOptions { oplog: true, ..DumpOptions::default() };
        assert!(Selection::new(&options, None).is_ok());
        // It holds what is written to users as well.
        assert!(Selection::new(&DumpOptions { users_and_roles: Some(false), ..options.clone() }, None).is_err());
        assert_eq!(Selection::new(&options, Some("shop")).unwrap_err().kind(), ErrorKind::Config);
    }
}
