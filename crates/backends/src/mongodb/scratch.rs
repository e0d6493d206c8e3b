//! The place that a restore test restores to: its own `mongod`, or its own databases in a given server.
//!
//! In a given server, only databases called `lifeboat_scratch_<8 hex>_<number>` are created, and dropped again. Number
//! 0 contains the owner marker: who created them and when. A killed run leaves them behind; the next one finds the
//! marker and drops them if the process that it names is gone, or after a day.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bson::{DateTime, doc};
use lifeboat_core::{Context, Error, ErrorKind, Result};

use super::connection::Connection;
use super::create::drop_database;
use super::listing::Look;
use super::mongod::{self, Mongod};
use super::target::random;

/// The prefix of all databases of restore tests.
const PREFIX: &str = "lifeboat_scratch_";
/// The collection of the owner marker.
const MARKER: &str = "lifeboat_owner";
/// After how many milliseconds what a marker speaks of is dropped, whatever became of its process.
const STALE: i64 = 24 * 60 * 60 * 1000;

/// A place to restore to.
pub(crate) struct Scratch {
    own: Option<Mongod>,
    pub(crate) look: Look,
    /// `lifeboat_scratch_<8 hex>`.
    stem: String,
    made: Vec<String>,
    /// Databases of killed runs that were dropped.
    pub(crate) swept: usize,
}

impl Scratch {
    /// Finds or starts a server, and leaves the marker.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is neither; what the server fails with.
    pub(crate) async fn start(given: Option<&Connection>, folder: Option<&Path>, cx: &Context) -> Result<Self> {
        let (own, look) = match (given, mongod::find()) {
            (Some(given), _) => (None, Look::at(given).await?),
            (None, Some(program)) => {
                let (own, look) = Mongod::start(&program, folder, cx).await?;
                (Some(own), look)
            }
            (None, None) => {
                return Err(Error::new(ErrorKind::NotFound, "find", "mongod", "there is no MongoDB server here to restore into")
                    .hint(format!(
                        "name one with --scratch env:NAME (or LIFEBOAT_SCRATCH_URL): it only creates its own databases there, and drops them; or install mongod, or name its folder in {}; --level structure needs none",
                        mongod::FOLDERS_VARIABLE
                    )));
            }
        };
        let swept = if own.is_none() { sweep(&look, &owner()).await? } else { 0 };
        let stem = format!("{PREFIX}{}", random()?);
        let mut scratch = Self { own, look, stem, made: Vec::new(), swept };
        if let Err(error) = scratch.mark().await {
            scratch.end().await;
            return Err(error);
        }
        Ok(scratch)
    }

    /// Whether the server is one of ours.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    async fn mark(&mut self) -> Result<()> {
        let db = self.database(0);
        let owner = owner();
        let marker = doc! { "_id": 1, "owner": owner.place, "pid": owner.pid, "started": DateTime::now() };
        self.made.push(db.clone());
        let command = doc! { "insert": MARKER, "documents": [marker] };
        self.look.run(&db, command, "make", &format!("the scratch database {db}")).await.map(|_| ())
    }

    fn database(&self, number: usize) -> String {
        format!("{}_{number}", self.stem)
    }

    /// A database of its own for each of these.
    pub(crate) fn databases(&mut self, of: &BTreeSet<String>) -> BTreeMap<String, String> {
        let mut made = BTreeMap::new();
        for (number, db) in of.iter().enumerate() {
            let name = self.database(number + 1);
            self.made.push(name.clone());
            made.insert(db.clone(), name);
        }
        made
    }

    /// Drops the databases, the marker's last.
    pub(crate) async fn end(self) {
        match self.own {
            Some(own) => own.stop().await,
            None => {
                for db in self.made.iter().rev() {
                    if let Err(error) = drop_database(&self.look, db).await {
                        tracing::warn!(database = db, %error, "a scratch database remains; the next restore test drops it");
                    }
                }
            }
        }
    }
}

/// Who makes databases: a process, and the place in which its number means something.
struct Owner {
    /// Host name, boot and PID namespace: two containers on a machine have the same numbers for other processes.
    place: String,
    pid: i64,
}

fn owner() -> Owner {
    let read = |path: &str| std::fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").map(|p| p.display().to_string()).unwrap_or_default();
    let place =
        format!("{} {} {namespace}", read("/proc/sys/kernel/hostname"), read("/proc/sys/kernel/random/boot_id"));
    Owner { place, pid: i64::from(std::process::id()) }
}

/// Drops what killed restore tests have left. Returns how many databases.
async fn sweep(look: &Look, us: &Owner) -> Result<usize> {
    let all = look.databases().await?;
    let mut swept = 0;
    for stem in all.iter().filter_map(|name| stem_of_marker(name)) {
        let find = doc! { "find": MARKER, "limit": 1, "singleBatch": true };
        let reply = look.run(&format!("{stem}_0"), find, "read the marker of", stem).await?;
        let marker = reply
            .get_document("cursor")
            .ok()
            .and_then(|c| c.get_array("firstBatch").ok()?.first()?.as_document().cloned());
        let Some(marker) = marker else { continue };
        let age =
            marker.get_datetime("started").map_or(0, |at| DateTime::now().timestamp_millis() - at.timestamp_millis());
        let pid = super::listing::number(&marker, "pid").unwrap_or_default();
        let here = marker.get_str("owner").is_ok_and(|place| place == us.place);
        let gone = here && !Path::new(&format!("/proc/{pid}")).exists();
        if !(gone || age > STALE) {
            continue;
        }
        // The marker's database last: until then the rest can be found.
        let mut theirs: Vec<&String> =
            all.iter().filter(|name| name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('_'))).collect();
        theirs.sort_by_key(|name| name.ends_with("_0") && name.len() == stem.len() + 2);
        for db in theirs {
            drop_database(look, db).await?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// `lifeboat_scratch_<8 hex>` of a database with a marker.
fn stem_of_marker(name: &str) -> Option<&str> {
    let stem = name.strip_suffix("_0")?;
    let random = stem.strip_prefix(PREFIX)?;
    (random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit())).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_looked_at() {
        assert_eq!(stem_of_marker("lifeboat_scratch_0a1b2c3d_0"), Some("lifeboat_scratch_0a1b2c3d"));
        for other in
            ["lifeboat_scratch_0a1b2c3d_1", "lifeboat_scratch_0a1b2c3_0", "shop_0", "lifeboat_scratch_zzzzzzzz_0"]
        {
            assert_eq!(stem_of_marker(other), None, "{other}");
        }
    }

    #[test]
    fn an_owner_is_a_process_in_its_own_place() {
        let us = owner();
        assert_eq!(us.pid, i64::from(std::process::id()));
        assert!(us.place.contains("pid:["), "{}", us.place);
    }
}
