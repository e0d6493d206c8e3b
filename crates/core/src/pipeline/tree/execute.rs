//! Copying a tree.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::super::flow::Hashed;
use super::super::replicate::{ABANDONED, NotCopied, PATIENCE, copied_body, hash_of, internal, is_about_the_store};
use super::super::room::Room;
use super::super::run;
use super::layout::RANKS;
use super::order::TreeOrder;
use super::record::{self, Entries, Entry, Head};
use super::{PlannedObject, TreeCopy, TreePlan, TreeStep, changed, extra};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::history::Outcome as History;
use crate::progress::{self, Event, Unit};
use crate::sink::{PutOptions, see_that_it_is_there, upkeep};
use crate::span;

/// How many objects are copied concurrently, if memory allows.
const SIDE_BY_SIDE: usize = 16;
/// How often the source is listed again, for new objects.
const ROUNDS: usize = 3;
/// Progress is noted after this many objects, or after some time.
const NOTED_AFTER: usize = 200;
const NOTED_EVERY: Duration = Duration::from_secs(5);
/// Two writes within this time may leave the same time in a listing.
const FRESH: SignedDuration = SignedDuration::from_secs(2);
/// The number of keys in one delete request.
const DELETED_AT_ONCE: usize = 1000;

/// The result of a run.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct TreeCopied {
    /// The number of objects copied for the first time.
    pub copied: u64,
    /// The number of objects that replaced older content.
    pub replaced: u64,
    /// The number of unchanged objects, by the record of the last copy or by comparison.
    pub unchanged: u64,
    /// The number of bytes sent.
    pub bytes: u64,
    /// The number of objects in the copy that are no longer at the source and were kept.
    pub extra: u64,
    /// The number of objects deleted because they are no longer at the source.
    pub deleted: u64,
    /// Objects that could not be copied or deleted, in ascending order of keys.
    pub failed: Vec<NotCopied>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// The key of the record that was written.
    pub record: Option<String>,
    /// How long the run took, in seconds.
    pub seconds: f64,
}

impl TreeCopied {
    /// Whether the copy now holds everything that the source does.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }
}

/// The outcome for one object.
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
    /// Executes the plan, and then lists the source again for new objects, up to three times. Objects that others refer
    /// to are copied first; objects that refer to something that could not be copied are held back.
    ///
    /// A record outside of the copy lists what was done. While the run is in progress, notes there do, from which the
    /// next run continues.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`]; errors of the last listing and of writing the record. Objects that were not copied are
    /// in the result.
    ///
    /// # Cancel safety
    /// Safe: every object in the copy is whole, old or new. At most the last 200 objects, or 5 seconds, are not noted
    /// yet; the next run reads and compares them.
    pub async fn execute(self) -> Result<TreeCopied> {
        let (cx, span) = (self.tree.context.clone(), span::of_tree(&self.tree.name));
        let attempt = async {
            // Of memory each object takes its own.
            let _turn = cx.turn("copy to", || self.tree.destination_url(), 0).await?;
            self.carry_out(&cx).await
        };
        let judge = |done: &TreeCopied| if done.is_complete() { History::Good } else { History::Failed };
        run::within(span, &cx, judge, attempt).await
    }

    async fn carry_out(self, cx: &Context) -> Result<TreeCopied> {
        let begun = Instant::now();
        let tree = self.tree.clone();
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
    /// Copies these objects, rank by rank. Breaks if there is no point in continuing.
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
        let room = Room::new(&tree.context.limiter);
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

    /// Notes what was copied since the last note. Without the note, the next run merely has to read more.
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

    /// Deletes objects that are no longer at the source, those that refer to others first. Never after a failure.
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
                    let count = crate::words::count(deleted.held.len(), "object");
                    self.done.notes.push(format!("{count} stay, as {}: {held}", held.key));
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
        let (body, hashed) = copied_body(&*self.from, &from, object.bytes, None, &self.context).await?;
        let put = self.to.put_with(&to, body, PutOptions::new().lock(true).replace(replace));
        let bytes = span::put(&*self.to, &to, put).await?;
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
