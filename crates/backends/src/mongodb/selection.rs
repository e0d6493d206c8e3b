//! What of a deployment goes into a backup: databases, collections by pattern, a query per collection.

use std::collections::BTreeMap;
use std::str::FromStr;

use bson::RawDocumentBuf;
use lifeboat_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, Serialize};

use super::namespace::Pattern;
use super::system::MongoSettings;

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

#[cfg(feature = "cli")]
impl clap::ValueEnum for Consistency {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Snapshot, Self::None]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self {
            Self::Auto => "auto",
            Self::Snapshot => "snapshot",
            Self::None => "none",
        }))
    }
}

/// Of a collection only the documents that a filter fits: after a flag `COLLECTION=JSON`, in a table `COLLECTION = "JSON"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The collection; without a database's name it is of the one that is read.
    pub collection: String,
    /// A filter as find takes it, as (extended) JSON text.
    pub filter: String,
}

impl Query {
    /// The documents of this collection that this filter fits.
    pub fn new(collection: impl Into<String>, filter: impl Into<String>) -> Self {
        Self { collection: collection.into(), filter: filter.into() }
    }

    fn parsed(&self) -> Result<RawDocumentBuf> {
        super::archive::from_extended_json(&self.filter).map_err(|why| self.wrong(why))
    }

    fn wrong(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::Config, "use", format!("the query of {}", self.collection), why)
            .hint("write a filter as find takes it, in JSON: {\"status\": \"open\"}; other types as extended JSON: {\"at\": {\"$gt\": {\"$date\": \"2026-01-01T00:00:00Z\"}}}")
    }
}

impl FromStr for Query {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((collection, filter)) => Ok(Self::new(collection, filter)),
            // The whole advice is in the message: clap shows nothing else.
            None => Err(Error::new(
                ErrorKind::Config,
                "use",
                "the query",
                "it has no =, as in 'orders={\"status\": \"open\"}'",
            )),
        }
    }
}

/// Reads a table of filters by collection.
pub(super) fn queries<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Query>, D::Error> {
    let table = BTreeMap::<String, String>::deserialize(d)?;
    Ok(table.into_iter().map(|(collection, filter)| Query { collection, filter }).collect())
}

impl MongoSettings {
    /// Looks at what can be judged without knowing which database the URL names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a query that is no filter, and for choices that do not go together.
    pub(super) fn check(&self) -> Result<()> {
        for query in &self.queries {
            query.parsed()?;
        }
        self.check_oplog(self.database.as_deref())
    }

    fn check_oplog(&self, database: Option<&str>) -> Result<()> {
        let is_plain = self.collections.is_empty()
            && self.exclude_collections.is_empty()
            && self.exclude_databases.is_empty()
            && self.queries.is_empty()
            && self.consistency.unwrap_or_default() == Consistency::Auto
            && self.users_and_roles != Some(false);
        if !self.oplog || (database.is_none() && is_plain) {
            return Ok(());
        }
        let why = "the oplog covers the whole replica set: it needs all databases, all collections, users and roles, and no query";
        Err(Error::new(ErrorKind::Config, "use", "oplog", why)
            .hint("leave out the database and every selection, or leave out oplog"))
    }
}

/// The choice of collections, ready to be asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    database: Option<String>,
    /// With the text of each.
    only: Vec<(String, Pattern)>,
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
    pub(crate) fn new(settings: &MongoSettings, database: Option<&str>) -> Result<Self> {
        let patterns = |texts: &[String]| -> Vec<Pattern> {
            texts.iter().map(|text| Pattern::new(&qualified(text, database))).collect()
        };
        let mut queries = BTreeMap::new();
        for query in &settings.queries {
            let full = qualified(&query.collection, database);
            let Some((db, collection)) = full.split_once('.') else {
                return Err(query.wrong("name the collection with its database: shop.orders"));
            };
            queries.insert((db.to_owned(), collection.to_owned()), query.parsed()?);
        }
        settings.check_oplog(database)?;
        Ok(Self {
            database: database.map(str::to_owned),
            only: settings.collections.iter().cloned().zip(patterns(&settings.collections)).collect(),
            without: patterns(&settings.exclude_collections),
            without_databases: settings.exclude_databases.iter().map(|t| Pattern::new(t)).collect(),
            queries,
            accounts: settings.users_and_roles.unwrap_or(database.is_none()),
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
            && (self.only.is_empty() || self.only.iter().any(|(_, p)| p.matches(&full)))
            && !self.without.iter().any(|p| p.matches(&full))
    }

    /// Whether no pattern chooses among the collections of a database.
    pub(crate) fn takes_every_collection(&self) -> bool {
        self.only.is_empty() && self.without.is_empty()
    }

    /// Whether queries choose among documents.
    pub(crate) fn has_queries(&self) -> bool {
        !self.queries.is_empty()
    }

    /// The documents of a collection that are read; all of them when `None`.
    pub(crate) fn query(&self, db: &str, collection: &str) -> Option<&RawDocumentBuf> {
        self.queries.get(&(db.to_owned(), collection.to_owned()))
    }

    /// The first pattern of collections that none of these fits, with their databases.
    pub(crate) fn idle_pattern(&self, names: &[String]) -> Option<&str> {
        let is_idle = |pattern: &Pattern| !names.iter().any(|name| pattern.matches(name));
        self.only.iter().find(|(_, pattern)| is_idle(pattern)).map(|(text, _)| text.as_str())
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

    fn selection(settings: &MongoSettings, database: Option<&str>) -> Selection {
        Selection::new(settings, database).unwrap()
    }

    #[test]
    fn what_the_server_keeps_for_itself_is_left_out() {
        let all = selection(&MongoSettings::default(), None);
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
            let chosen = selection(&MongoSettings { users_and_roles, ..MongoSettings::default() }, database);
            (chosen.holds_accounts(), chosen.accounts_of().map(str::to_owned), chosen.takes("admin", "system.users"))
        };
        assert_eq!(of(None, None), (true, None, true));
        assert_eq!(of(Some(false), None), (false, None, false));
        assert_eq!(of(None, Some("shop")), (false, None, false));
        assert_eq!(of(Some(true), Some("shop")), (true, Some("shop".to_owned()), true));
        assert_eq!(of(None, Some("admin")), (false, None, false));
        assert_eq!(of(Some(true), Some("admin")), (true, None, true));
        let some = MongoSettings { collections: vec!["shop.*".to_owned()], ..MongoSettings::default() };
        assert!(!selection(&some, None).holds_accounts());
    }

    #[test]
    fn patterns_choose_and_leave_out() {
        let options = MongoSettings {
            collections: vec!["order*".to_owned()],
            exclude_collections: vec!["shop.orders_old".to_owned()],
            ..MongoSettings::default()
        };
        let one = selection(&options, Some("shop"));
        assert!(one.takes("shop", "orders") && !one.takes("shop", "orders_old") && !one.takes("shop", "people"));
        assert!(one.takes_database("shop") && !one.takes_database("shop2"));
    }

    #[test]
    fn a_query_is_extended_json() {
        let queries = vec![Query::new("orders", r#"{"n": {"$gt": {"$numberLong": "5"}}}"#)];
        let one = selection(&MongoSettings { queries, ..MongoSettings::default() }, Some("shop"));
        let read = Document::try_from(one.query("shop", "orders").unwrap().as_ref()).unwrap();
        assert_eq!(read, bson::doc! { "n": { "$gt": 5i64 } });
        assert_eq!(one.idle_queries(|_, _| false).collect::<Vec<_>>(), ["shop.orders"]);
        let settings = MongoSettings { queries: vec![Query::new("orders", "{")], ..MongoSettings::default() };
        for wrong in [Selection::new(&settings, Some("shop")).map(drop), settings.check()] {
            assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn the_oplog_goes_with_everything_only() {
        let options = MongoSettings { oplog: true, ..MongoSettings::default() };
        assert!(Selection::new(&options, None).is_ok());
        // It holds what is written to users as well.
        assert!(Selection::new(&MongoSettings { users_and_roles: Some(false), ..options.clone() }, None).is_err());
        assert_eq!(Selection::new(&options, Some("shop")).unwrap_err().kind(), ErrorKind::Config);
    }
}
