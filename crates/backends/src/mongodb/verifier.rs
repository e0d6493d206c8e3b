//! The verifier: parses archives, restores them into a scratch server, and compares with the proof.

use super::DOCUMENTS;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bson::doc;
use lifeboat_core::words::Noun;
use lifeboat_core::{
    ArtifactName, Check, Context, Error, ErrorKind, Extract, Proof, ProofItem, RestoreInput, Result, Tap, Verifier,
};

use super::archive::{ArchiveTap, CollectionDocuments, Inside, Metadata, from_extended_json, has_documents};
use super::connection::Connection;
use super::content;
use super::create;
use super::failure;
use super::listing::{Listed, Look};
use super::load::{self, Load, Opened, Place, Work};
use super::plan::{self, Entry, Kind, Mapping};
use super::replay::{self, Applier, Replayed};
use super::scratch::Scratch;
use super::target::check_of;

/// By how many documents a live collection may differ without being reported, in percent of the backup's.
const DRIFT_PERCENT: u64 = 20;

/// How long a scratch server may take to respond to a ping.
const ALIVE_LIMIT: Duration = Duration::from_secs(5);

/// Options for verifying artifacts.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifierOptions {
    /// The server in which restore tests create and drop their own databases; if `None`, they start their own `mongod`.
    pub scratch: Option<Connection>,
    /// The folder for the data of such a `mongod`; if `None`, the system's temporary folder.
    pub scratch_folder: Option<PathBuf>,
    /// The live deployment, for the level `live`.
    pub live: Option<Connection>,
    /// The number of connections that insert concurrently; 0 means 4.
    pub jobs: usize,
}

lifeboat_core::setters!(VerifierOptions {
    scratch: Option<Connection>,
    scratch_folder: Option<PathBuf>,
    live: Option<Connection>,
    jobs: usize,
});

/// Judges archives in mongodump's format.
#[derive(Clone, Debug, Default)]
pub struct MongoVerifier {
    options: VerifierOptions,
}

impl MongoVerifier {
    /// Creates a verifier.
    pub fn new(options: VerifierOptions) -> Self {
        Self { options }
    }
}

#[async_trait]
impl Verifier for MongoVerifier {
    fn unit(&self, kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn has_content(&self, item: &ProofItem) -> bool {
        has_documents(item)
    }

    fn extract(&self, _: &ArtifactName, item: &str, _: Option<&Proof>) -> Result<Box<dyn Extract>> {
        Ok(Box::new(CollectionDocuments::new(item)))
    }

    fn tap(&self, _name: &ArtifactName) -> Result<Box<dyn Tap>> {
        Ok(Box::new(ArchiveTap::new(Inside::Walked)))
    }

    async fn restore_test(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        let opened = match Opened::read(input.stream).await {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(vec![Check::from_error("restore", &error)]),
            Err(error) => return Err(error),
        };
        let begun = Instant::now();
        let started = Scratch::start(self.options.scratch.as_ref(), self.options.scratch_folder.as_deref(), cx).await;
        let mut scratch = match started {
            Ok(scratch) => scratch,
            // A server of ours that does not start says nothing of the archive.
            Err(error) if matches!(error.kind(), ErrorKind::Tool | ErrorKind::Io) => {
                return Ok(vec![Check::untested_for("scratch server", &error)]);
            }
            Err(error) => return Err(error),
        };
        let mut checks = vec![self.scratch_check(&scratch, &opened).took(begun.elapsed())];
        let tested = self.test(&mut scratch, opened, input.proof.as_ref(), &mut checks, cx).await;
        let lacks = match &tested {
            Err(error) => lacks_of(error, &scratch.look).await,
            Ok(()) => None,
        };
        scratch.end().await;
        match (tested, lacks) {
            (Ok(()), _) => Ok(checks),
            (Err(error), Some(figure)) => {
                let detail = Check::untested_for("restore", &error).detail;
                checks.push(Check::untested("restore", figure, detail));
                Ok(checks)
            }
            (Err(error), None) if is_verdict(&error) => {
                checks.push(Check::from_error("restore", &error));
                Ok(checks)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn live(&self, expected: Option<&Proof>, cx: &Context) -> Result<Vec<Check>> {
        let Some(live) = &self.options.live else {
            return Err(Error::new(ErrorKind::Config, "compare with", "the live database", "no URL was given for it")
                .hint("the job's mongodb.url is compared; from flags, give --from"));
        };
        let Some(expected) = expected else {
            return Ok(vec![Check::warn("live", "not compared", "the artifact has no proof: it is foreign")]);
        };
        let look = Look::at(live).await?;
        let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut checks = Vec::new();
        let items: Vec<&ProofItem> = expected.items.iter().filter(|i| is_collection(i)).collect();
        for item in &items {
            if cx.cancel.is_cancelled() {
                return Err(Error::cancelled("compare with", live.redacted()));
            }
            let Some((db, name)) = item.name.split_once('.') else { continue };
            if !there.contains_key(db) {
                let listed = look.collections(db, |_| true).await?;
                there.insert(db.to_owned(), listed.into_iter().map(|l| l.name).collect());
            }
            let shown = format!("{} {}", item.kind, item.name);
            if !there[db].contains(name) {
                let detail = format!("{} in the backup, but no such collection live", DOCUMENTS.count(item.count));
                checks.push(Check::warn(shown, "gone", detail));
                continue;
            }
            // A time series counts its measurements, a backup its buckets.
            if item.kind != "collection" {
                continue;
            }
            let count = content::count(&look, db, name).await?;
            if count.abs_diff(item.count) * 100 > item.count.max(1) * DRIFT_PERCENT {
                checks.push(Check::warn(
                    shown,
                    format!("{count} live"),
                    format!("{} in the backup", DOCUMENTS.count(item.count)),
                ));
            }
        }
        let detail =
            format!("collections that exist, with a number of documents within {DRIFT_PERCENT}% of the backup's");
        let figure = format!("{} of {}", items.len() - checks.len(), items.len());
        checks.push(Check::pass("live", figure, detail));
        Ok(checks)
    }
}

/// What the scratch server or its machine lacks, if that is why a restore test ended.
async fn lacks_of(error: &Error, look: &Look) -> Option<&'static str> {
    use ErrorKind as K;
    // These are about the archive, whatever has become of the server.
    if matches!(error.kind(), K::Corrupt | K::Mismatch | K::AlreadyExists | K::Cancelled) {
        return None;
    }
    let ping = look.run("admin", doc! { "ping": 1 }, "ask", "the scratch server");
    match tokio::time::timeout(ALIVE_LIMIT, ping).await {
        Ok(Ok(_)) if error.advice() == Some(failure::NO_ROOM) => Some("disk full"),
        Ok(Ok(_)) => None,
        _ => Some("server ended"),
    }
}

/// Whether an error is about the artifact, not merely about a test that could not run.
fn is_verdict(error: &Error) -> bool {
    use ErrorKind as K;
    !error.is_transient()
        && matches!(error.kind(), K::Corrupt | K::Mismatch | K::Tool | K::AlreadyExists | K::Unsupported)
}

fn is_collection(item: &ProofItem) -> bool {
    matches!(&*item.kind, "collection" | "view" | "time series")
        && !item.name.starts_with("config.")
        && !is_account(&item.name)
}

fn is_account(name: &str) -> bool {
    ["admin.system.users", "admin.system.roles", "admin.system.version"].contains(&name)
        || name.contains(".$admin.system.")
}

impl MongoVerifier {
    fn scratch_check(&self, scratch: &Scratch, opened: &Opened) -> Check {
        let version = &scratch.look.version;
        let source = &opened.prelude.header.server_version;
        let major = |v: &str| v.split('.').next().map(str::to_owned);
        let whose = match (scratch.is_own(), scratch.swept) {
            (true, _) => "its own server, deleted afterwards".to_owned(),
            (false, 0) => "its own databases in the named server, dropped afterwards".to_owned(),
            (false, n) => format!(
                "its own databases in the named server, dropped afterwards; {n} left by killed runs were dropped first"
            ),
        };
        if major(version) == major(source) {
            return Check::pass("scratch server", format!("MongoDB {version}"), whose);
        }
        Check::warn(
            "scratch server",
            format!("MongoDB {version}"),
            format!("the source was {source}: another major version may accept what that one refuses; {whose}"),
        )
    }

    fn load<'a>(&self, look: &'a Look, work: &'a Work, stop_before: Option<usize>, cx: &'a Context) -> Load<'a> {
        Load {
            look,
            entries: &work.entries,
            places: &work.places,
            plain_buckets: false,
            connections: self.options.jobs,
            stop_before,
            cx,
        }
    }

    async fn test(
        &self,
        scratch: &mut Scratch,
        mut opened: Opened,
        proof: Option<&Proof>,
        checks: &mut Vec<Check>,
        cx: &Context,
    ) -> Result<()> {
        let begun = Instant::now();
        let databases: BTreeSet<String> =
            opened.prelude.collections.iter().map(|c| c.db.clone()).filter(|db| !db.is_empty()).collect();
        let mapping = Mapping { databases: Some(scratch.databases(&databases)), ..Mapping::default() };
        let entries = plan::plan(&opened.prelude, &mapping)?;
        let places: Vec<Option<Place>> = entries
            .iter()
            .map(|entry| {
                let (db, collection) = entry.into.clone().filter(|_| entry.kind != Kind::View)?;
                Some(Place { db, collection })
            })
            .collect();
        let look = scratch.look.clone();
        let mut oplog = entries.iter().position(|e| e.kind == Kind::Oplog);
        if oplog.is_some()
            && let Err(error) = Applier::try_out(&look).await
        {
            checks.push(Check::warn("oplog", "not replayed", error.message().to_owned()));
            oplog = None;
        }
        let mut work = Work { entries: entries.clone(), places };
        let load = self.load(&look, &work, oplog, cx);
        let mut loaded = load.fill(&mut opened).await?;
        loaded.check(&entries, oplog.is_some())?;
        // Before indexes with a time to live can take anything away, and the oplog changes anything.
        let found = load.read_back().await?.into_iter().enumerate();
        let contents = found.map(|(index, found)| found.map(|found| loaded.but_for_twice(index, found))).collect();
        let mut replayed = Replayed::default();
        if let Some(number) = oplog {
            let begun = Instant::now();
            let twice = loaded.twice();
            let settings =
                replay::Settings { look: &look, mapping: &mapping, stem: None, plain_buckets: false, twice, cx };
            replayed = replay::replay(&mut opened, number, settings, &mut work).await?;
            loaded.seen[number] = replayed.seen;
            checks.extend(check_of(&replayed, begun));
        }
        for entry in work.entries.iter().filter(|e| e.kind == Kind::View) {
            if let Some((db, name)) = &entry.into {
                create::collection(&look, entry, db, name, false).await?;
            }
        }
        let documents: u64 = loaded.tallies.iter().map(|t| t.inserted).sum();
        let notes = self.load(&look, &work, None, cx).index().await?;
        checks.push(
            Check::pass("restore", DOCUMENTS.count(documents), "into the scratch server, without an error")
                .took(begun.elapsed()),
        );
        checks.extend(notes.into_iter().map(|note| Check::warn("indexes", "other", note)));
        let begun = Instant::now();
        let expected = match proof {
            Some(proof) => Proof::new(proof.items.iter().filter(|i| is_restored(i, &entries)).cloned()),
            None => load::expected(&entries, &loaded.seen)?,
        };
        // Of those that the oplog has changed, made or dropped, only what the archive held of them is compared.
        let mut expected = expected;
        let changed: Vec<&Entry> = replayed.changed.iter().filter_map(|index| entries.get(*index)).collect();
        expected.items.retain(|i| {
            !(matches!(&*i.kind, "options" | "index")
                && changed.iter().any(|e| is_restored(i, std::slice::from_ref(*e))))
        });
        if documents == 0 {
            let detail = "the archive holds no documents: the restore proves only that it can be restored";
            checks.push(Check::pass("restore mechanics verified", "0 documents", detail));
        }
        let found = self.found(&look, &work, &replayed, contents, &expected).await?;
        checks.extend(expected.compare_in(&found, super::unit).into_iter().map(|c| c.took(begun.elapsed())));
        if proof.is_none() {
            checks.push(Check::pass(
                "proof",
                "none",
                "the artifact is foreign: the restored data was compared with the archive itself",
            ));
        }
        Ok(())
    }

    /// The content of the scratch databases, as a proof.
    async fn found(
        &self,
        look: &Look,
        work: &Work,
        replayed: &Replayed,
        contents: Vec<Option<content::Content>>,
        expected: &Proof,
    ) -> Result<Proof> {
        let mut listed: BTreeMap<(String, String), Listed> = BTreeMap::new();
        let databases: BTreeSet<&String> =
            work.entries.iter().filter_map(|e| e.into.as_ref()).map(|(db, _)| db).collect();
        for db in databases {
            for found in look.collections(db, |name| !name.starts_with("system.") || name == "system.js").await? {
                listed.insert((db.clone(), found.name.clone()), found);
            }
        }
        let mut items = Vec::new();
        let mut contents = contents.into_iter();
        for (index, entry) in work.entries.iter().enumerate() {
            let in_archive = contents.next();
            if replayed.changed.contains(&index) {
                entry.into.as_ref().and_then(|into| listed.remove(into));
                // One that the oplog has made is not in the proof.
                if let Some(content) = in_archive {
                    items.extend(load::items_of(entry, content, &Metadata::default())?);
                }
                continue;
            }
            let Some(into) = &entry.into else { continue };
            let content = in_archive.flatten();
            let Some(mut found) = listed.remove(into) else { continue };
            found.indexes = look.indexes(&found).await?.unwrap_or_default();
            items.extend(load::items_of(entry, content, &found.metadata())?);
        }
        for ((_, name), extra) in listed {
            let count = content::count(look, &extra.db, &name).await?;
            items.push(ProofItem::new(extra.kind, name, count));
        }
        // 1, 1.0 and NumberLong(1) are one value to a server, and it gives back one or the other.
        for item in &mut items {
            let Some(Ok(value)) = item.value.as_deref().map(from_extended_json) else { continue };
            let of_its_name = expected.items.iter().filter(|w| w.kind == item.kind && w.shown() == item.shown());
            let wanted = of_its_name
                .filter_map(|w| w.value.as_ref())
                .find(|wanted| from_extended_json(wanted).is_ok_and(|wanted| content::same(&wanted, &value)));
            if let Some(wanted) = wanted.cloned() {
                item.value = Some(wanted);
            }
        }
        Ok(Proof::new(items))
    }
}

/// Whether an item of the proof is of something that a restore test restores.
fn is_restored(item: &ProofItem, entries: &[Entry]) -> bool {
    entries.iter().filter(|entry| entry.into.is_some()).any(|entry| {
        let shown = entry.shown();
        match (&*item.kind, &item.of) {
            ("index", Some(of)) => *of == shown,
            // Of an older version: the collection stands in the name.
            ("index", None) => item.name.strip_prefix(&*shown).is_some_and(|rest| rest.starts_with(": ")),
            _ => item.name == shown,
        }
    })
}
