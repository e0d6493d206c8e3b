//! The copying of a tree.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::super::flow::{self, Hashed};
use super::super::replicate::{ABANDONED, NotCopied, PATIENCE, hash_of, internal, is_about_the_store};
use super::super::room::Room;
use super::layout::RANKS;
use super::order::TreeOrder;
use super::record::{self, Entries, Entry, Head};
use super::{PlannedObject, TreeCopy, TreePlan, TreeStep, changed, extra};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{self, Event, Unit};
use crate::sink::{PutOptions, see_that_it_is_there, upkeep};
use crate::stream::ByteStream;

/// Objects that are on their way side by side, where memory allows it.
const SIDE_BY_SIDE: usize = 16;
/// How often the source is listed again, for what came meanwhile.
const ROUNDS: usize = 3;
/// What has been copied is noted after so many objects, or so much time.
const NOTED_AFTER: usize = 200;
const NOTED_EVERY: Duration = Duration::from_secs(5);
/// Two writes within this time may leave the same time in a listing.
const FRESH: SignedDuration = SignedDuration::from_secs(2);
/// Keys in one request to delete.
const DELETED_AT_ONCE: usize = 1000;

/// What a run has done.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct TreeCopied {
    /// Objects that were copied for the first time.
    pub copied: u64,
    /// Objects that took the place of an older content.
    pub replaced: u64,
    /// Objects that were the same, by the record of the last copy or because they were compared.
    pub unchanged: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Objects of the copy that are no longer at the source and were kept.
    pub extra: u64,
    /// Objects that were deleted because they are no longer at the source.
    pub deleted: u64,
    /// What was not copied or deleted, in ascending order of keys.
    pub failed: Vec<NotCopied>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// The key of the record that was written.
    pub record: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl TreeCopied {
    /// Whether the copy now holds everything that the source does.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }
}

/// What became of one object.
enum Outcome {
    Copied(Entry),
    Replaced(Entry),
    Same(Entry),
    /// It was deleted at the source since it was listed.
    Vanished,
}

struct Run {
    plan: TreePlan,
    done: TreeCopied,
    head: Head,
    stamp: String,
    /// What was copied since the last note.
    pending: Entries,
    noted_at: Instant,
    parts: Vec<String>,
    /// What failed, by key, with the time that the object had.
    failed: HashMap<String, (Timestamp, Error)>,
}

impl TreePlan {
    /// Does what the plan says, and then lists the source again for what came meanwhile, up to three times. What others refer
    /// to is copied first; what refers to something that could not be copied is held back.
    ///
    /// What was done is in a record outside of the copy, and while it is done in notes there, from which the next run goes on.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`]; what the last listing or the record failed with. What was not copied is in the result.
    ///
    /// # Cancel safety
    /// Safe: every object in the copy is whole, old or new. At most the last 200 objects, or 5 seconds, are not noted yet, and
    /// are read and compared by the next run instead of being known.
    pub async fn execute(self) -> Result<TreeCopied> {
        let begun = Instant::now();
        let tree = self.tree.clone();
        let cx = tree.context.clone();
        let now = cx.now();
        let before = SignedDuration::try_from(ABANDONED).ok().and_then(|age| now.checked_sub(age).ok());
        if let Some(before) = before {
            // What a run that was killed has begun.
            match upkeep(&*tree.to).abort_unfinished(&tree.records(), before, false).await {
                Ok(aborted) => aborted.iter().for_each(|what| tracing::info!(what, "removed")),
                Err(error) => tracing::debug!(%error, "unfinished uploads are not looked for"),
            }
        }
        let mut run = Run {
            head: Head::new(&tree.name, tree.source_url(), tree.destination_url(), now),
            done: TreeCopied {
                unchanged: self.unchanged,
                failed: self.left_out.iter().map(NotCopied::left_out).collect(),
                ..TreeCopied::default()
            },
            stamp: record::stamp(now),
            plan: self,
            pending: Entries::new(),
            noted_at: Instant::now(),
            parts: Vec::new(),
            failed: HashMap::new(),
        };
        cx.progress.event(Event::Begin {
            step: progress::Step::Copy(tree.name.clone()),
            unit: Unit::Bytes,
            total: Some(run.plan.bytes_to_copy().into()),
        });
        let mut objects = std::mem::take(&mut run.plan.objects);
        for round in 1.. {
            if run.round(&tree, objects).await.is_break() {
                break;
            }
            run.plan.here = tree.list_source().await?;
            objects = changed(&run.plan.here, &run.plan.known, &run.plan.there, false);
            objects.retain(|o| run.failed.get(&o.key).is_none_or(|(modified, _)| *modified != o.modified));
            if objects.is_empty() {
                break;
            }
            if round == ROUNDS {
                let left = objects.len();
                run.done.notes.push(format!("the source is being written: the next copy takes {left} more objects"));
                break;
            }
        }
        cx.progress.event(Event::End);
        if cx.cancel.is_cancelled() {
            run.note(&tree).await;
            return Err(Error::cancelled("copy to", tree.destination_url()));
        }
        run.delete_extra(&tree).await?;
        run.finish(&tree).await?;
        run.done.seconds = begun.elapsed().as_secs_f64();
        Ok(run.done)
    }
}

impl Run {
    /// Copies these objects, rank by rank. Breaks when there is no use in going on.
    async fn round(&mut self, tree: &TreeCopy, objects: Vec<PlannedObject>) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};
        let order = TreeOrder::new(&tree.layouts, self.plan.here.keys().map(String::as_str));
        let mut ranks: Vec<Vec<(String, PlannedObject)>> = (0..RANKS).map(|_| Vec::new()).collect();
        for object in objects {
            let (rank, scope) = order.place(&object.key);
            ranks[usize::from(rank)].push((scope, object));
        }
        // Below these nothing of a later rank is copied.
        let mut damaged: HashSet<String> = self.failed.keys().cloned().collect();
        let mut away = 0;
        let room = Room::new();
        for mut rank in ranks {
            // An object that refers to others is younger than they are.
            rank.sort_by(|(_, a), (_, b)| (a.modified, &a.key).cmp(&(b.modified, &b.key)));
            let is_first = |key: &str| order.place(key).0 == 0;
            let mut queue = Vec::new();
            for (scope, object) in rank {
                let below = if scope.is_empty() { String::new() } else { format!("{scope}/") };
                let held =
                    !is_first(&object.key) && damaged.iter().any(|key| key.starts_with(&below) && *key != object.key);
                if held {
                    let why = "it is held back, because something that it may refer to was not copied";
                    self.fail(object, Error::new(ErrorKind::Refused, "copy", scope, why));
                } else {
                    queue.push(object);
                }
            }
            let mut each = futures::stream::iter(queue)
                .map(|object| {
                    let room = &room;
                    async move {
                        let _room = room.for_bytes(object.bytes).await;
                        let outcome = tree.copy_object(&object).await;
                        (object, outcome)
                    }
                })
                .buffer_unordered(SIDE_BY_SIDE);
            while let Some((object, outcome)) = each.next().await {
                match outcome {
                    Ok(outcome) => {
                        away = 0;
                        self.take(object, outcome);
                        if self.pending.len() >= NOTED_AFTER || self.noted_at.elapsed() >= NOTED_EVERY {
                            self.note(tree).await;
                        }
                    }
                    Err(error) => {
                        away += u32::from(is_about_the_store(&error));
                        damaged.insert(object.key.clone());
                        let gone = tree.context.cancel.is_cancelled() || away >= PATIENCE;
                        self.fail(object, error);
                        if gone {
                            return Break(());
                        }
                    }
                }
            }
            if away > 0 {
                // It may be there in a moment: what refers to it waits for the next run.
                return Break(());
            }
        }
        Continue(())
    }

    fn fail(&mut self, object: PlannedObject, error: Error) {
        self.failed.insert(object.key, (object.modified, error));
    }

    fn take(&mut self, object: PlannedObject, outcome: Outcome) {
        let entry = match outcome {
            Outcome::Copied(entry) => {
                (self.done.copied, self.done.bytes) = (self.done.copied + 1, self.done.bytes + entry.bytes);
                entry
            }
            Outcome::Replaced(entry) => {
                (self.done.replaced, self.done.bytes) = (self.done.replaced + 1, self.done.bytes + entry.bytes);
                entry
            }
            Outcome::Same(entry) => {
                self.done.unchanged += 1;
                entry
            }
            Outcome::Vanished => return,
        };
        self.failed.remove(&object.key);
        self.plan.there.insert(object.key.clone(), entry.bytes);
        self.pending.insert(object.key.clone(), entry.clone());
        self.plan.known.entries.insert(object.key, entry);
    }

    /// Notes what was copied since the last note. Without it the next run only has to read more.
    async fn note(&mut self, tree: &TreeCopy) {
        self.noted_at = Instant::now();
        if self.pending.is_empty() {
            return;
        }
        let key = record::part_key(&tree.records(), &self.stamp, u32::try_from(self.parts.len()).unwrap_or(u32::MAX));
        match record::write(&*tree.to, &key, &self.head, &self.pending).await {
            Ok(()) => {
                self.parts.push(key);
                self.pending.clear();
            }
            Err(error) => tracing::warn!(%error, "what was copied so far could not be noted"),
        }
    }

    /// Deletes what is no longer at the source, what refers to others first. Never after a failure.
    async fn delete_extra(&mut self, tree: &TreeCopy) -> Result<()> {
        let extra = extra(&self.plan.here, &self.plan.there);
        let deletes = match (&self.plan.deletes, tree.deletes(&extra, self.plan.there.len())) {
            // What was shown is the most that is done.
            (Ok(true), deletes) => deletes,
            (Ok(false), _) => Ok(false),
            (Err(error), _) => Err(error.duplicate()),
        };
        self.done.extra = extra.len() as u64;
        match deletes {
            Ok(false) => return Ok(()),
            Ok(true) if !self.failed.is_empty() || self.plan.here.is_empty() => {
                self.done.notes.push("nothing is deleted, because not everything was copied".to_owned());
                return Ok(());
            }
            Ok(true) => {}
            Err(error) => {
                self.done.failed.push(NotCopied::new(&tree.destination_url(), &error));
                return Ok(());
            }
        }
        let order = TreeOrder::new(&tree.layouts, self.plan.there.keys().map(String::as_str));
        for rank in (0..RANKS).rev() {
            let keys: Vec<&str> = extra.iter().map(|e| e.key.as_str()).filter(|k| order.place(k).0 == rank).collect();
            for some in keys.chunks(DELETED_AT_ONCE) {
                if tree.context.cancel.is_cancelled() {
                    return Err(Error::cancelled("delete from", tree.destination_url()));
                }
                let full: Vec<String> = some.iter().map(|key| tree.destination_key(key)).collect();
                let deleted = tree.to.delete(&full).await?;
                for key in &deleted.keys {
                    if let Some(key) = key.strip_prefix(&format!("{}/", tree.into)) {
                        self.plan.there.remove(key);
                        self.plan.known.entries.remove(key);
                        self.done.deleted += 1;
                        self.done.extra -= 1;
                    }
                }
                for (key, why) in deleted.failed {
                    let error = Error::new(ErrorKind::Permission, "delete", &key, why);
                    self.done.failed.push(NotCopied::new(&key, &error));
                }
                self.done.notes.extend(deleted.notes);
                if let Some(held) = deleted.held.first() {
                    let count = deleted.held.len();
                    self.done.notes.push(format!("{count} objects stay, as {}: {held}", held.key));
                }
            }
            // What refers to others is gone before they go.
            if self.done.failed.iter().any(|f| f.kind == ErrorKind::Permission.as_str()) {
                break;
            }
        }
        Ok(())
    }

    /// Writes the record, and tidies up.
    async fn finish(&mut self, tree: &TreeCopy) -> Result<()> {
        let (here, there) = (&self.plan.here, &self.plan.there);
        self.plan.known.entries.retain(|key, entry| {
            entry.gone = !here.contains_key(key);
            there.contains_key(key)
        });
        let mut failed: Vec<_> = std::mem::take(&mut self.failed).into_iter().collect();
        failed.sort_by(|(a, _), (b, _)| a.cmp(b));
        let failed = failed.iter().map(|(key, (_, error))| NotCopied::new(key, error));
        self.done.failed = failed.chain(std::mem::take(&mut self.done.failed)).collect();
        self.head.finished_at = tree.context.now();
        self.head.failed = self.done.failed.len() as u64;
        let key = record::record_key(&tree.records(), &self.stamp);
        record::write(&*tree.to, &key, &self.head, &self.plan.known.entries).await?;
        self.plan.known.tidy(&*tree.to, &self.parts).await;
        self.done.record = Some(key);
        Ok(())
    }
}

impl TreeCopy {
    async fn copy_object(&self, object: &PlannedObject) -> Result<Outcome> {
        if self.context.cancel.is_cancelled() {
            return Err(Error::cancelled("copy", &object.key));
        }
        match self.copy_or_compare(object).await {
            Err(error) if error.kind() == ErrorKind::NotFound && self.has_vanished(&object.key).await => {
                Ok(Outcome::Vanished)
            }
            outcome => outcome,
        }
    }

    async fn has_vanished(&self, key: &str) -> bool {
        self.from.head(&self.source_key(key)).await.is_err_and(|e| e.kind() == ErrorKind::NotFound)
    }

    async fn copy_or_compare(&self, object: &PlannedObject) -> Result<Outcome> {
        let to = self.destination_key(&object.key);
        match object.step {
            TreeStep::Copy => match self.send(object, false).await {
                // It came to be there meanwhile, by another copy or with an answer that was lost.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                sent => return sent.map(|hashed| Outcome::Copied(self.entry(object, hashed))),
            },
            TreeStep::Replace => {
                return self.send(object, true).await.map(|hashed| Outcome::Replaced(self.entry(object, hashed)));
            }
            TreeStep::Compare => {}
        }
        let here = hash_of(&*self.from, &self.source_key(&object.key), &self.context).await?;
        if here.bytes != object.bytes {
            let why = "it is being rewritten";
            return Err(Error::new(ErrorKind::Corrupt, "copy", &object.key, why).hint("run it again"));
        }
        let there = match &object.recorded {
            Some(sha256) if object.step == TreeStep::Compare => sha256.clone(),
            _ => hash_of(&*self.to, &to, &self.context).await?.sha256,
        };
        if here.sha256 == there {
            return Ok(Outcome::Same(self.entry(object, here)));
        }
        self.send(object, true).await.map(|hashed| Outcome::Replaced(self.entry(object, hashed)))
    }

    async fn send(&self, object: &PlannedObject, replace: bool) -> Result<Hashed> {
        let (from, to) = (self.source_key(&object.key), self.destination_key(&object.key));
        let body = self.from.get(&from, None).await?;
        let body = flow::until_cancelled(body, self.context.cancel.clone(), "copy", from.clone());
        let body = flow::exactly(body, object.bytes, from.clone());
        let (body, hashed) = flow::hash(body, None, from);
        let body: ByteStream = flow::count(body, self.context.progress.clone());
        let bytes = self.to.put_with(&to, body, PutOptions::new().lock(true).replace(replace)).await?;
        let hashed = hashed.await.map_err(|_| internal(&to, "it was confirmed before its end"))?;
        if bytes != hashed.bytes {
            return Err(internal(&to, &format!("{bytes} of {} bytes were confirmed", hashed.bytes)));
        }
        see_that_it_is_there(&*self.to, "copy", &to, bytes).await?;
        Ok(hashed)
    }

    fn entry(&self, object: &PlannedObject, hashed: Hashed) -> Entry {
        let fresh = self.context.now().duration_since(object.modified) < FRESH;
        Entry { bytes: hashed.bytes, sha256: hashed.sha256, modified: object.modified, fresh, gone: false }
    }
}
