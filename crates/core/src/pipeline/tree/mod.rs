//! [`TreeCopy`]: an independent copy of what Lifeboat did not write: another tool's bucket, an archive of logs.
//!
//! Objects keep their keys, so that the tool that wrote them can use the copy as it is, and nothing of ours is ever written
//! below the copied folder, neither here nor there. What was copied, with its SHA-256, is in a [record](record) outside of it.
//!
//! - `mod.rs`: options and plan; what has changed since the last copy.
//! - [`layout`]: what has to be known of the tool that wrote the tree.
//! - `execute.rs`: the copying, in the [order](order) in which objects refer to each other.
//! - `prove.rs`: the copy read again and compared with its record.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;

use super::replicate::is_not_made_yet;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::name::{Dataset, join_key};
use crate::sink::{LeftOut, Sink};
use record::Known;

mod execute;
mod layout;
mod order;
mod prove;
mod record;

pub use execute::TreeCopied;
pub use layout::{TreeLayout, TreeRule};
pub use order::TreeOrder;

/// The folder of a sink that holds the records of copies, a folder for each.
const RECORDS_FOLDER: &str = "_lifeboat/copies";

/// What becomes of objects of the copy that are no longer at the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deletion {
    /// They stay.
    #[default]
    Never,
    /// They are deleted, unless they are more than half of the copy: then the source was probably emptied by accident or by
    /// somebody else.
    AtMostHalf,
    /// They are deleted, however many they are.
    All,
}

/// Copies a tree of objects: `TreeCopy::new("volumes", from, to)?.prefix("volumes").plan().await`, show it,
/// [`execute`](TreePlan::execute).
///
/// Memory grows with the number of objects, by some 400 bytes each, and not with their size.
///
/// ```
/// use lifeboat_core::{Result, Sink, TreeCopy};
///
/// async fn copy(from: impl Sink + 'static, to: impl Sink + 'static) -> Result<()> {
///     let tree = TreeCopy::new("volumes", from, to)?.into_folder("copies/volumes");
///     let plan = tree.plan().await?;
///     println!("{} bytes from {} to {}", plan.bytes_to_copy(), tree.source_url(), tree.destination_url());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TreeCopy {
    name: String,
    from: Arc<dyn Sink>,
    prefix: String,
    /// Without notes in the tree.
    to: Arc<dyn Sink>,
    into: String,
    layouts: Vec<TreeLayout>,
    deletion: Deletion,
    context: Context,
}

/// What to do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TreeStep {
    /// It is not there: it is copied.
    Copy,
    /// Another content is there: it is replaced.
    Replace,
    /// It may be another: it is read and compared, and replaced when it is.
    Compare,
}

impl TreeStep {
    /// The step's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Replace => "replace",
            Self::Compare => "compare",
        }
    }
}

/// An object with which something is to be done.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlannedObject {
    /// Its key, relative to the tree.
    pub key: String,
    /// Its size at the source, in bytes.
    pub bytes: u64,
    /// What is done with it.
    pub step: TreeStep,
    /// Why, in words.
    pub why: &'static str,
    #[serde(skip)]
    modified: Timestamp,
    /// What the copy has, where the record says so.
    #[serde(skip)]
    recorded: Option<String>,
}

/// An object of the copy that is no longer at the source.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Extra {
    /// Its key, relative to the tree.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What to do. Printing and dropping it is a dry run.
#[derive(Debug)]
#[non_exhaustive]
pub struct TreePlan {
    tree: TreeCopy,
    /// The objects with which something is to be done, in ascending order of keys.
    pub objects: Vec<PlannedObject>,
    /// How many are the same as in the last copy.
    pub unchanged: u64,
    /// What is in the copy, and no longer at the source.
    pub extra: Vec<Extra>,
    /// Whether those are deleted; an error when they would be, but are too many.
    pub deletes: Result<bool>,
    /// What lies at the source, is no object, and so cannot be copied.
    pub left_out: Vec<LeftOut>,
    /// The record of the last copy that was compared with.
    pub last_record: Option<String>,
    known: Known,
    there: HashMap<String, u64>,
    here: Listing,
}

/// The objects of a tree: size, and when each was last written.
type Listing = BTreeMap<String, (u64, Timestamp)>;

impl TreePlan {
    /// Bytes that are to be sent at most.
    pub fn bytes_to_copy(&self) -> u64 {
        self.objects.iter().map(|o| o.bytes).sum()
    }
}

impl TreeCopy {
    /// Creates a copy called `name` (a valid dataset name) of everything in `from`, into the folder `name` of `to`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a name that cannot be one, [`ErrorKind::Unsupported`] for a sink that keeps its notes beside
    /// its objects.
    pub fn new(name: &str, from: impl Sink + 'static, to: impl Sink + 'static) -> Result<Self> {
        let name = Dataset::new(name)?.to_string();
        let records = join_key(RECORDS_FOLDER, &name);
        let to = match to.upkeep() {
            // It leaves nothing that a note would have to tell of.
            None => Arc::new(to),
            Some(upkeep) => upkeep.notes_in(&records).ok_or_else(|| {
                Error::new(ErrorKind::Unsupported, "copy to", to.url(), "it keeps its notes beside its objects")
            })?,
        };
        let into = name.clone();
        let (deletion, context) = (Deletion::default(), Context::default());
        Ok(Self { name, from: Arc::new(from), prefix: String::new(), to, into, layouts: Vec::new(), deletion, context })
    }

    /// The folder at the source; the copy is in a folder of the same name, unless [`into`](Self::into_folder) says
    /// otherwise.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.trim_matches('/').to_owned();
        if !self.prefix.is_empty() {
            self.into.clone_from(&self.prefix);
        }
        self
    }

    /// The folder at the destination.
    #[must_use]
    pub fn into_folder(mut self, into: &str) -> Self {
        self.into = into.trim_matches('/').to_owned();
        self
    }

    /// How the tools lay out their trees whose objects may be there: in which order they are copied. Without layouts the oldest
    /// come first.
    #[must_use]
    pub fn layouts(mut self, layouts: impl IntoIterator<Item = TreeLayout>) -> Self {
        self.layouts = layouts.into_iter().collect();
        self
    }

    /// What to do with objects that are no longer at the source.
    #[must_use]
    pub fn deletion(mut self, deletion: Deletion) -> Self {
        self.deletion = deletion;
        self
    }

    /// Sets cancellation, progress and clock.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context.after(&self.context);
        self
    }

    /// The place of the tree at the source, as a URL.
    pub fn source_url(&self) -> String {
        place(&*self.from, &self.prefix)
    }

    /// The place of the copy, as a URL.
    pub fn destination_url(&self) -> String {
        place(&*self.to, &self.into)
    }

    /// The sink of the copy, and the folder in it.
    pub fn destination(&self) -> (&dyn Sink, &str) {
        (&*self.to, &self.into)
    }

    /// The folder of its records in the destination.
    fn records(&self) -> String {
        join_key(RECORDS_FOLDER, &self.name)
    }

    /// The folder at the source, with the slash at its end.
    fn source_folder(&self) -> String {
        if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) }
    }

    fn source_key(&self, key: &str) -> String {
        join_key(&self.prefix, key)
    }

    fn destination_key(&self, key: &str) -> String {
        join_key(&self.into, key)
    }

    /// Compares the source's listing with the last record and the copy's listing. Writes nothing, and reads no object but
    /// the record.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for places that cannot be source and copy; [`ErrorKind::NoArtifact`] when nothing is at the
    /// source; what a listing fails with: from half a listing nothing is decided.
    pub async fn plan(&self) -> Result<TreePlan> {
        self.check_places()?;
        let subject = || self.source_url();
        self.context.unless_cancelled("copy", subject, self.compare()).await
    }

    async fn compare(&self) -> Result<TreePlan> {
        let here = self.list_source().await?;
        if here.is_empty() {
            return Err(Error::new(
                ErrorKind::NoArtifact,
                "find",
                "anything to copy",
                format!("there is nothing in {}", self.source_url()),
            )
            .hint("is the prefix right? A copy is never emptied because its source is"));
        }
        self.check_layout(here.keys().map(String::as_str))?;
        let known = Known::read(&*self.to, &self.records()).await?;
        let mut there = HashMap::new();
        let folder = format!("{}/", self.into);
        let mut listed = self.to.list(&folder);
        while let Some(object) = listed.next().await {
            let object = match object {
                Err(error) if is_not_made_yet(&*self.to, &error) => break,
                object => object?,
            };
            if let Some(key) = object.key.strip_prefix(&folder) {
                there.insert(key.to_owned(), object.bytes);
            }
        }
        drop(listed);
        let objects = changed(&here, &known, &there, true);
        let unchanged = (here.len() - objects.len()) as u64;
        let extra = extra(&here, &there);
        let deletes = self.deletes(&extra, there.len());
        let left_out = match self.from.upkeep() {
            Some(upkeep) => upkeep.left_out(&self.source_folder()).try_collect().await?,
            None => Vec::new(),
        };
        let last_record = known.last.as_ref().map(|(key, _)| key.clone());
        Ok(TreePlan {
            tree: self.clone(),
            objects,
            unchanged,
            extra,
            left_out,
            deletes,
            last_record,
            known,
            there,
            here,
        })
    }

    fn deletes(&self, extra: &[Extra], all: usize) -> Result<bool> {
        match self.deletion {
            Deletion::Never => Ok(false),
            Deletion::AtMostHalf if extra.len() * 2 > all => {
                let why = format!("{} of its {all} objects are no longer at the source: more than half", extra.len());
                Err(Error::new(ErrorKind::Refused, "delete from", self.destination_url(), why)
                    .hint(Hint::AllowAllDeletions))
            }
            _ => Ok(!extra.is_empty()),
        }
    }

    /// All objects of the source. Markers of folders, which some tools leave, are none; what is named like one and has content
    /// is one, which no sink can write: it is told as not copied.
    async fn list_source(&self) -> Result<Listing> {
        let folder = self.source_folder();
        let mut here = Listing::new();
        let mut listed = self.from.list(&folder);
        while let Some(object) = listed.next().await {
            let object = object?;
            match object.key.strip_prefix(&folder) {
                Some(key) if object.bytes > 0 || !(key.is_empty() || key.ends_with('/')) => {
                    here.insert(key.to_owned(), (object.bytes, object.modified));
                }
                _ => {}
            }
        }
        Ok(here)
    }

    /// Source and copy must not overlap, and the records must not lie in the copy.
    fn check_places(&self) -> Result<()> {
        let wrong = |why: &str, hint: Hint| {
            Err(Error::new(ErrorKind::Config, "copy to", self.destination_url(), why).hint(hint))
        };
        if self.into.is_empty() {
            return wrong(
                "the copy's record would be stored in it, among another tool's objects",
                Hint::CopyIntoFolder { folder: self.name.clone() },
            );
        }
        if self.into.split('/').any(|part| part == "_lifeboat") {
            return wrong("that folder is for objects that are not backups", "give the copy another folder".into());
        }
        let (from, to) = (format!("{}/", self.source_url()), format!("{}/", self.destination_url()));
        if from.starts_with(&to) || to.starts_with(&from) {
            return wrong("it is inside the tree that it would copy, or contains it", "copy to another bucket".into());
        }
        Ok(())
    }

    /// Some tools tolerate nothing but their own at the top of their storage, where the records would lie. `keys` are relative
    /// to the tree.
    fn check_layout<'a>(&self, keys: impl Iterator<Item = &'a str>) -> Result<()> {
        let storages: Vec<_> = self.layouts.iter().filter_map(|l| Some((l, l.storage.as_ref()?))).collect();
        for key in keys.map(|key| self.destination_key(key)) {
            let at_the_top = storages.iter().find(|(layout, _)| layout.storage_root(&key).is_some_and(str::is_empty));
            let Some((_, storage)) = at_the_top else { continue };
            let why = format!(
                "with {key} the sink itself would be a {}, and the copy's record would be stored at its top, {}",
                storage.name, storage.consequence
            );
            return Err(Error::new(ErrorKind::Config, "copy to", self.destination_url(), why)
                .hint(Hint::CopyWholeTree { folder: self.name.clone() }));
        }
        Ok(())
    }
}

fn place(sink: &dyn Sink, folder: &str) -> String {
    join_key(&sink.url(), folder).trim_end_matches('/').to_owned()
}

/// What is in the copy, and no longer at the source.
fn extra(here: &Listing, there: &HashMap<String, u64>) -> Vec<Extra> {
    let mut extra: Vec<Extra> = there
        .iter()
        .filter(|(key, _)| !here.contains_key(*key))
        .map(|(key, bytes)| Extra { key: key.clone(), bytes: *bytes })
        .collect();
    extra.sort_by(|a, b| a.key.cmp(&b.key));
    extra
}

/// The objects with which something is to be done. `careful`: one that was copied shortly after it was written is looked at
/// again.
fn changed(here: &Listing, known: &Known, there: &HashMap<String, u64>, careful: bool) -> Vec<PlannedObject> {
    let mut objects = Vec::new();
    for (key, (bytes, modified)) in here {
        let entry = known.entries.get(key);
        let (step, why) = match (there.get(key), entry) {
            (None, _) => (TreeStep::Copy, "it is not there"),
            (Some(size), _) if size != bytes => (TreeStep::Replace, "it has another size"),
            (Some(_), None) => (TreeStep::Compare, "it is there, but no record describes it"),
            (Some(_), Some(entry)) if entry.bytes != *bytes => (TreeStep::Replace, "it has another size"),
            (Some(_), Some(entry)) if entry.modified != *modified => (TreeStep::Compare, "it was written again"),
            (Some(_), Some(entry)) if entry.fresh && careful => {
                (TreeStep::Compare, "it was copied in the second in which it was written")
            }
            (Some(_), Some(_)) => continue,
        };
        // What a record says of an object that is not as it says is worth nothing.
        let recorded = entry.filter(|e| there.get(key) == Some(&e.bytes)).map(|e| e.sha256.clone());
        objects.push(PlannedObject { key: key.clone(), bytes: *bytes, step, why, modified: *modified, recorded });
    }
    objects
}
