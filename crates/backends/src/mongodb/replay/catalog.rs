//! Commands of the oplog: collections, views and indexes that were made, changed or dropped.

use bson::{Bson, Document, RawDocumentBuf};
use lifeboat_core::{Error, ErrorKind, Result};

use super::entry::{Entry, corrupt};
use super::{Replay, unknown};
use crate::mongodb::archive::Metadata;
use crate::mongodb::create;
use crate::mongodb::failure;
use crate::mongodb::load::Place;
use crate::mongodb::plan::{self, Kind};

/// Commands whose effect comes by itself, or is none: an index is there when its build has been committed.
const NOTHING: [&str; 8] = [
    "startIndexBuild",
    "abortIndexBuild",
    "setMultikeyMetadata",
    "createIdent",
    "dropIdent",
    "dbCheck",
    "commitTransaction",
    "abortTransaction",
];

/// Where the data of a time series is.
const BUCKETS: &str = "system.buckets.";

impl Replay<'_> {
    pub(super) async fn command(&mut self, leaf: &Entry<'_>) -> Result<()> {
        let Some(command) = leaf.command() else { return Err(corrupt("a command is empty")) };
        if NOTHING.contains(&command) {
            return Ok(());
        }
        if command == "dropDatabase" {
            return self.drop_database(leaf.database()).await;
        }
        let collection = leaf.collection()?;
        // The collection of a rename is named with its database.
        let full = match command {
            "renameCollection" | "importCollection" => collection.to_owned(),
            _ => format!("{}.{collection}", leaf.database()),
        };
        let index = match self.known.get(&full) {
            Some(Some((index, _))) => Some(*index),
            Some(None) => None,
            None if command == "create" => return self.create(leaf, collection).await,
            None => {
                if command == "drop" {
                    self.unknown.remove(&full);
                }
                None
            }
        };
        // One that is not restored, or came and went before the collections were listed.
        let Some(index) = index else {
            if command == "drop" {
                self.known.remove(&full);
            }
            // A rename of something unknown into what is restored.
            let target = leaf.o.get_str("to").ok().and_then(|to| self.known.get(to));
            return match (command, target) {
                ("renameCollection", Some(Some(_))) => Err(unknown(leaf)),
                _ => Ok(()),
            };
        };
        match command {
            // The archive has it as it was later.
            "create" => Ok(()),
            "drop" => self.drop_one(index).await,
            "createIndexes" => {
                let fields = leaf.fields(&[])?;
                self.add_index(index, &fields)
            }
            "commitIndexBuild" => {
                let fields = leaf.fields(&[])?;
                for made in fields.get_array("indexes").into_iter().flatten().filter_map(Bson::as_document) {
                    self.add_index(index, made)?;
                }
                Ok(())
            }
            "dropIndex" | "dropIndexes" | "deleteIndex" | "deleteIndexes" => {
                let fields = leaf.fields(&[])?;
                let name = fields.get_str("index").unwrap_or("*").to_owned();
                self.change(index);
                self.work.entries[index].metadata.indexes.retain(|found| {
                    let found = found.get_str("name").unwrap_or_default();
                    found == "_id_" || (name != "*" && found != name)
                });
                Ok(())
            }
            "collMod" => self.modify(leaf, index).await,
            _ => Err(unknown(leaf)),
        }
    }

    /// Notes that something of an entry is not what the archive says.
    fn change(&mut self, index: usize) {
        self.done.changed.insert(index);
        self.done.applied += 1;
    }

    async fn create(&mut self, leaf: &Entry<'_>, collection: &str) -> Result<()> {
        let full = format!("{}.{collection}", leaf.database());
        let options = leaf.fields(&["idIndex", "autoIndexId"])?;
        let is_series = options.contains_key("timeseries") && collection.starts_with(BUCKETS);
        let name = if is_series { &collection[BUCKETS.len()..] } else { collection };
        if name.starts_with("system.") && name != "system.js" {
            // What the server keeps for itself.
            self.known.insert(full, None);
            return Ok(());
        }
        let kind = match (is_series || options.contains_key("timeseries"), options.contains_key("viewOn")) {
            (_, true) => Kind::View,
            (true, _) => Kind::Timeseries,
            _ => Kind::Collection,
        };
        // How buckets are kept is the server's choice, not the user's.
        let kept = |key: &str| !is_series || ["timeseries", "expireAfterSeconds", "collation"].contains(&key);
        let options: Document = options.into_iter().filter(|(key, _)| kept(key)).collect();
        let index = self.add(leaf.database(), name, kind, options, leaf)?;
        if kind == Kind::View {
            return Ok(());
        }
        let entry = &self.work.entries[index];
        let place = entry.into.clone().map(|(db, own)| Place {
            collection: match self.settings.stem {
                Some(stem) => format!("{stem}_{index}"),
                None => own,
            },
            db,
        });
        if let Some(place) = place.as_ref().filter(|place| !place.collection.starts_with("system.")) {
            create::collection(self.settings.look, entry, &place.db, &place.collection, self.settings.plain_buckets)
                .await?;
        }
        self.work.places[index] = place;
        let here = self.work.data_name(index, self.settings.look, self.settings.plain_buckets);
        self.known.insert(full, here.map(|here| (index, here)));
        Ok(())
    }

    /// Adds an entry that the archive does not have.
    fn add(&mut self, db: &str, name: &str, kind: Kind, options: Document, leaf: &Entry<'_>) -> Result<usize> {
        let options = RawDocumentBuf::try_from(&options).map_err(|e| corrupt(format!("{}: {e}", leaf.shown())))?;
        let mut entry = plan::Entry {
            db: db.to_owned(),
            collection: name.to_owned(),
            kind,
            metadata: Metadata {
                options: (options.as_bytes().len() > 5).then_some(options),
                collection_name: name.to_owned(),
                ..Metadata::default()
            },
            into: None,
        };
        entry.into = plan::is_data(&entry).then(|| plan::place_of(&entry, self.settings.mapping)).flatten();
        let taken =
            entry.into.as_ref().and_then(|into| self.work.entries.iter().find(|e| e.into.as_ref() == Some(into)));
        if let (Some(taken), Some((db, name))) = (taken, &entry.into) {
            let why = format!("it would become {db}.{name}, like {}", taken.shown());
            return Err(Error::new(ErrorKind::Config, "replay", leaf.shown(), why));
        }
        self.work.entries.push(entry);
        self.work.places.push(None);
        let index = self.work.entries.len() - 1;
        self.change(index);
        Ok(index)
    }

    async fn drop_one(&mut self, index: usize) -> Result<()> {
        self.change(index);
        self.known.retain(|_, at| !matches!(at, Some((of, _)) if *of == index));
        self.work.entries[index].into = None;
        if let Some(place) = self.work.places[index].take() {
            create::drop_collection(self.settings.look, &place.db, &place.collection).await?;
        }
        Ok(())
    }

    async fn drop_database(&mut self, db: &str) -> Result<()> {
        let of = |full: &str| full.split('.').next() == Some(db);
        self.unknown.retain(|full, _| !of(full));
        let gone: Vec<String> = self.known.keys().filter(|full| of(full)).cloned().collect();
        for full in gone {
            if let Some(Some((index, _))) = self.known.remove(&full) {
                self.drop_one(index).await?;
            }
        }
        for index in 0..self.work.entries.len() {
            if self.work.entries[index].db == db && self.work.entries[index].kind == Kind::View {
                self.drop_one(index).await?;
            }
        }
        Ok(())
    }

    fn add_index(&mut self, index: usize, fields: &Document) -> Result<()> {
        let document = RawDocumentBuf::try_from(fields).map_err(|e| corrupt(e.to_string()))?;
        let name = fields.get_str("name").map_err(|_| corrupt("an index has no name"))?;
        self.change(index);
        let indexes = &mut self.work.entries[index].metadata.indexes;
        indexes.retain(|found| found.get_str("name").ok() != Some(name));
        indexes.push(document);
        Ok(())
    }

    /// `collMod`: what it says of an index is noted, the rest is done.
    async fn modify(&mut self, leaf: &Entry<'_>, index: usize) -> Result<()> {
        // The last two mean nothing since 3.0, and later servers refuse them.
        let mut fields = leaf.fields(&["noPadding", "usePowerOf2Sizes"])?;
        if let Some(Bson::Document(wanted)) = fields.remove("index") {
            self.modify_index(index, wanted)?;
        }
        if fields.is_empty() {
            return Ok(());
        }
        self.change(index);
        let entry = &self.work.entries[index];
        if entry.kind == Kind::Timeseries {
            self.done.notes.push(format!("{}: its options are from before a change (collMod)", entry.shown()));
            return Ok(());
        }
        let Some(place) = &self.work.places[index] else { return Ok(()) };
        let mut command = bson::doc! { "collMod": &place.collection };
        command.extend(fields);
        let done = self.settings.look.client.database(&place.db).run_command(command).await;
        done.map(drop).map_err(|e| failure::of_driver("replay", &leaf.shown(), &e))
    }

    fn modify_index(&mut self, index: usize, mut wanted: Document) -> Result<()> {
        let (name, key) = (wanted.remove("name"), wanted.remove("keyPattern"));
        self.change(index);
        for found in &mut self.work.entries[index].metadata.indexes {
            let mut changed = Document::try_from(found.as_ref()).map_err(|e| corrupt(e.to_string()))?;
            let is_it = match (&name, &key) {
                (Some(name), _) => changed.get("name") == Some(name),
                (None, Some(key)) => changed.get("key") == Some(key),
                (None, None) => false,
            };
            if is_it {
                for (option, value) in wanted {
                    match value {
                        Bson::Boolean(false) => drop(changed.remove(&option)),
                        value => drop(changed.insert(option, value)),
                    }
                }
                *found = RawDocumentBuf::try_from(&changed).map_err(|e| corrupt(e.to_string()))?;
                break;
            }
        }
        Ok(())
    }

    /// Views are documents in a collection of their own.
    pub(super) fn view(&mut self, leaf: &Entry<'_>) -> Result<()> {
        let id = [Some(leaf.o), leaf.o2].into_iter().flatten().find_map(|o| o.get_str("_id").ok());
        let Some((db, name)) = id.and_then(|id| id.split_once('.')) else {
            return Err(corrupt(format!("{} does not name a view", leaf.shown())));
        };
        let there = self.work.entries.iter().position(|e| {
            e.kind == Kind::View && e.db == db && e.collection == name && (e.into.is_some() || leaf.op != "d")
        });
        if leaf.op == "d" {
            if let Some(there) = there {
                self.change(there);
                self.work.entries[there].into = None;
            }
            return Ok(());
        }
        let Ok(on) = leaf.o.get_str("viewOn") else {
            if let Some(there) = there {
                self.change(there);
                self.done.notes.push(format!("{db}.{name}: the view is as it was before a change"));
            }
            return Ok(());
        };
        // A time series is a view of its buckets, which say all of it.
        if on.starts_with(BUCKETS) {
            return Ok(());
        }
        let read = Document::try_from(leaf.o).map_err(|e| corrupt(e.to_string()))?;
        let options: Document = read.into_iter().filter(|(key, _)| key != "_id").collect();
        if let Some(there) = there {
            self.work.entries[there].into = None;
            self.change(there);
        }
        self.add(db, name, Kind::View, options, leaf).map(drop)
    }
}
