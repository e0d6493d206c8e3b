//! Renames collections to their final names: the only step of a restore that affects existing ones.
//!
//! An ordinary collection takes its name by `renameCollection`, which with `dropTarget` replaces the old one in one step of the
//! server. A server that does not know `dropTarget`, and `--keep-replaced`, move the old one aside first. A time series cannot be
//! renamed, and neither can `system.js`: they are copied from the temporary collection, on the server's doorstep, after the old
//! one was dropped; the temporary one goes only when the copy has been compared.

use bson::{Document, doc};
use futures::StreamExt;
use lifeboat_core::{Check, Context, Error, ErrorKind, Result};

use super::content::{self, Content};
use super::create::{self, drop_collection};
use super::documents::documents;
use super::failure;
use super::insert::{Destination, Inserter};
use super::listing::{Listed, Look};
use super::load::{self, Place};
use super::plan::{Entry, Kind};

/// Puts loaded collections into place.
pub(crate) struct Swap<'a> {
    pub(crate) look: &'a Look,
    /// The existing collections, in all databases that are restored into.
    pub(crate) existing: &'a [Listed],
    /// The suffix for the names of replaced collections; if `None`, they are dropped.
    pub(crate) aside: Option<&'a str>,
    pub(crate) indexes: bool,
    pub(crate) cx: &'a Context,
}

impl Swap<'_> {
    /// Whether a collection cannot be renamed into its place, but has to be copied.
    pub(crate) fn is_copied(entry: &Entry) -> bool {
        let system = entry.into.as_ref().is_some_and(|(_, name)| name.starts_with("system."));
        entry.kind == Kind::Timeseries || system
    }

    /// Puts one entry into place.
    ///
    /// # Errors
    /// Any error of the server. The temporary collection then still has everything.
    pub(crate) async fn one(
        &self,
        entry: &Entry,
        place: Option<&Place>,
        seen: Content,
        checks: &mut Vec<Check>,
    ) -> Result<()> {
        let Some((db, name)) = &entry.into else { return Ok(()) };
        let there = self.existing.iter().find(|l| l.db == *db && l.name == *name);
        match place {
            None => self.view(entry, db, name, there, checks).await,
            Some(place) if Self::is_copied(entry) => {
                self.copied(entry, place, db, name, there, seen, checks).await.map_err(|error| {
                    let left = format!("{}.{}", place.db, place.collection);
                    error.about("put into place", entry.shown()).hint(format!(
                        "the restored documents are complete in {left}: run the restore again, and drop {left} afterwards"
                    ))
                })
            }
            Some(place) => self.renamed(place, db, name, there, checks).await,
        }
    }

    async fn renamed(
        &self,
        place: &Place,
        db: &str,
        name: &str,
        there: Option<&Listed>,
        checks: &mut Vec<Check>,
    ) -> Result<()> {
        let Some(there) = there else { return self.rename(place, db, name, false).await };
        if self.aside.is_none() && there.kind == "collection" {
            match self.rename(place, db, name, true).await {
                Ok(()) => return Ok(()),
                // It knows only the plain form.
                Err(error) if error.message().contains("dropTarget") => {}
                Err(error) => return Err(error),
            }
        }
        let moved = self.out_of_the_way(there, checks).await?;
        match self.rename(place, db, name, false).await {
            Ok(()) => self.drop_moved(db, moved).await,
            Err(error) => {
                if let Some(moved) = moved {
                    let back = Place { db: db.to_owned(), collection: moved };
                    self.rename(&back, db, name, false).await?;
                }
                Err(error)
            }
        }
    }

    /// Moves away what has the name. Returns its temporary name if it is to be dropped later.
    async fn out_of_the_way(&self, there: &Listed, checks: &mut Vec<Check>) -> Result<Option<String>> {
        let (db, name) = (&there.db, &there.name);
        if there.kind != "collection" {
            // A view holds nothing, and a time series cannot be renamed.
            if self.aside.is_some() && there.kind == "timeseries" {
                checks.push(Check::warn(
                    "replaced",
                    name.clone(),
                    "a time series cannot be renamed: the replaced one is not kept",
                ));
            }
            drop_collection(self.look, db, name).await?;
            return Ok(None);
        }
        let suffix = self.aside.unwrap_or("_lifeboat_replaced");
        let moved = format!("{name}{suffix}");
        self.rename(&Place { db: db.clone(), collection: name.clone() }, db, &moved, false).await?;
        if self.aside.is_some() {
            checks.push(Check::pass("replaced", format!("{db}.{name}"), format!("kept as {db}.{moved}")));
            return Ok(None);
        }
        Ok(Some(moved))
    }

    async fn drop_moved(&self, db: &str, moved: Option<String>) -> Result<()> {
        match moved {
            Some(moved) => drop_collection(self.look, db, &moved).await,
            None => Ok(()),
        }
    }

    async fn rename(&self, from: &Place, db: &str, name: &str, drop_target: bool) -> Result<()> {
        let mut command =
            doc! { "renameCollection": format!("{}.{}", from.db, from.collection), "to": format!("{db}.{name}") };
        if drop_target {
            command.insert("dropTarget", true);
        }
        let done = self.look.client.database("admin").run_command(command).await;
        done.map(|_: Document| ()).map_err(|e| failure::of_driver("give its name to", &format!("{db}.{name}"), &e))
    }

    async fn view(
        &self,
        entry: &Entry,
        db: &str,
        name: &str,
        there: Option<&Listed>,
        checks: &mut Vec<Check>,
    ) -> Result<()> {
        let moved = match there {
            Some(there) => self.out_of_the_way(there, checks).await?,
            None => None,
        };
        create::collection(self.look, entry, db, name, false).await?;
        self.drop_moved(db, moved).await
    }

    #[allow(clippy::too_many_arguments, reason = "both ends of a copy, and what is expected of it")]
    async fn copied(
        &self,
        entry: &Entry,
        place: &Place,
        db: &str,
        name: &str,
        there: Option<&Listed>,
        seen: Content,
        checks: &mut Vec<Check>,
    ) -> Result<()> {
        let moved = match there {
            Some(there) if there.name.starts_with("system.") => {
                drop_collection(self.look, db, name).await?;
                None
            }
            Some(there) => self.out_of_the_way(there, checks).await?,
            None => None,
        };
        let is_series = entry.kind == Kind::Timeseries;
        let viewless = is_series && load::is_viewless(self.look);
        if is_series {
            create::collection(self.look, entry, db, name, false).await?;
        }
        let into = Destination {
            db: db.to_owned(),
            collection: if is_series && !viewless { format!("system.buckets.{name}") } else { name.to_owned() },
            shown: entry.shown(),
            bypass_validation: false,
            capped: false,
            raw_buckets: viewless,
        };
        let mut inserter = Inserter::new(self.look, vec![into.clone()], 0);
        let failed = |e: mongodb::error::Error| failure::of_driver("copy", &entry.shown(), &e);
        let find = doc! { "find": &place.collection, "hint": { "$natural": 1 } };
        let mut cursor = self.look.client.database(&place.db).run_cursor_command(find).batch().await.map_err(failed)?;
        while let Some(batch) = cursor.next().await {
            let batch = batch.map_err(failed)?;
            for document in documents(batch.doc_slices().map_err(failed)?.as_bytes()) {
                let document = document.map_err(|why| Error::new(ErrorKind::Corrupt, "copy", entry.shown(), why))?;
                inserter.push(0, document).await?;
            }
        }
        inserter.finish().await?;
        let found = content::read(self.look, db, &into.collection, viewless, false, self.cx).await?;
        if found != seen {
            let why = format!("{} of {} arrived as they are", found.count, super::DOCUMENTS.count(seen.count));
            return Err(Error::new(ErrorKind::Mismatch, "copy", entry.shown(), why));
        }
        if self.indexes {
            let notes = create::build(self.look, db, name, create::indexes(entry)?, &entry.shown()).await?;
            checks.extend(notes.into_iter().map(|note| Check::warn("indexes", entry.shown(), note)));
        }
        drop_collection(self.look, &place.db, &place.collection).await?;
        self.drop_moved(db, moved).await
    }
}
