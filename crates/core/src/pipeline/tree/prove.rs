//! The copy of a tree, read again and compared with its record; and whether one can be made at all.

use std::time::Instant;

use futures::StreamExt;

use super::super::replicate::{hash_of, is_not_made_yet};
use super::super::room::Room;
use super::TreeCopy;
use super::record::Known;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::progress::{Event, Step, Unit};
use crate::report::{Check, Report, human_bytes};
use crate::verifier::Level;

/// Objects that are read side by side, where memory allows it.
const SIDE_BY_SIDE: usize = 16;
/// Bad objects that have a check of their own; the rest is counted.
const NAMED: usize = 100;
/// Keys that are looked at to see what kind of tree it is.
const LOOKED_AT: usize = 10_000;

impl TreeCopy {
    /// Reads every object of the copy, and compares its SHA-256 with the record of the last run.
    ///
    /// Checks: `record`, `objects` (each that is missing or differs has its own, by key), `others` (objects that no record
    /// knows).
    ///
    /// # Errors
    /// [`ErrorKind::NoArtifact`] when no copy has been made yet; what the listing fails with.
    pub async fn verify(&self) -> Result<Report> {
        let begun = Instant::now();
        self.check_places()?;
        let cx = &self.context;
        let known = Known::read(&*self.to, &self.records()).await?;
        if known.entries.is_empty() {
            let why = format!("there is no record in {}/{}", self.to.url(), self.records());
            let subject = format!("a copy of {}", self.source_url());
            return Err(Error::new(ErrorKind::NoArtifact, "find", subject, why).hint(Hint::CopyTree));
        }
        let mut checks = vec![self.of_record(&known)];
        let total: u64 = known.entries.values().map(|e| e.bytes).sum();
        cx.progress.event(Event::Begin {
            step: Step::Read(self.name.clone()),
            unit: Unit::Bytes,
            total: Some(total.into()),
        });
        let room = Room::new();
        let entries: Vec<(&String, &super::record::Entry)> = known.entries.iter().collect();
        // By position: a future that holds a closure over references could not be spawned.
        let mut each = futures::stream::iter(0..entries.len())
            .map(|at| {
                let (room, (key, entry)) = (&room, entries[at]);
                async move {
                    let _room = room.for_bytes(entry.bytes).await;
                    let found = hash_of(&*self.to, &self.destination_key(key), cx).await;
                    cx.progress.event(Event::Advance(entry.bytes));
                    (key, entry, found)
                }
            })
            .buffer_unordered(SIDE_BY_SIDE);
        let (mut good, mut bytes, mut bad) = (0, 0, Vec::new());
        while let Some((key, entry, found)) = each.next().await {
            let subject = format!("object {key}");
            match found {
                Ok(found) if found.bytes == entry.bytes && found.sha256 == entry.sha256 => {
                    good += 1;
                    bytes += found.bytes;
                }
                Ok(found) => {
                    let detail = format!(
                        "it has {} bytes and the SHA-256 {}; recorded were {} and {}. Delete it there, and copy again",
                        found.bytes, found.sha256, entry.bytes, entry.sha256
                    );
                    bad.push(Check::fail(subject, "differs", detail));
                }
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    bad.push(Check::fail(subject, "missing", "it was copied, but is no longer there"));
                }
                Err(error) => bad.push(Check::from_error(subject, &error)),
            }
        }
        drop(each);
        cx.progress.event(Event::End);
        let figure = format!("{good} of {}", known.entries.len());
        let detail = format!("have the size and SHA-256 of the record; {} of them read", human_bytes(bytes));
        let status = if bad.is_empty() { crate::Status::Pass } else { crate::Status::Fail };
        checks.push(Check::new(status, "objects", figure, detail).took(begun.elapsed()));
        bad.sort_by(|a, b| a.name.cmp(&b.name));
        if bad.len() > NAMED {
            let more = bad.split_off(NAMED).len();
            bad.push(Check::fail("more objects", more.to_string(), "missing or different as well"));
        }
        checks.extend(bad);
        checks.push(self.of_others(&known).await?);
        let mut report = Report::new(&self.name, self.destination_url(), Level::Stored, checks);
        report.seconds = begun.elapsed().as_secs_f64();
        Ok(report)
    }

    fn of_record(&self, known: &Known) -> Check {
        match &known.last {
            Some((key, head)) if head.failed > 0 => {
                let detail = format!("{key}: {} objects of {} could not be copied", head.failed, head.from);
                Check::warn("record", head.finished_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), detail)
            }
            Some((key, head)) => {
                let detail = format!("{key}: the copy of {} to {}", head.from, head.to);
                Check::pass("record", head.finished_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), detail)
            }
            None => Check::warn("record", "unfinished", "no copy has finished yet: only what was noted so far is read"),
        }
    }

    async fn of_others(&self, known: &Known) -> Result<Check> {
        let folder = format!("{}/", self.into);
        let (mut others, mut first) = (0u64, None);
        let mut listed = self.to.list(&folder);
        while let Some(object) = listed.next().await {
            let key = object?.key;
            if key.strip_prefix(&folder).is_some_and(|key| !known.entries.contains_key(key)) {
                others += 1;
                first.get_or_insert(key);
            }
        }
        Ok(match first {
            None => Check::pass("others", "none", "nothing else is there"),
            Some(first) => {
                let detail = format!("no record lists them, such as {first}: something else writes there");
                Check::warn("others", others.to_string(), detail)
            }
        })
    }

    /// Whether the copy can be made, and when it was made last. Writes nothing.
    pub async fn check(&self) -> Vec<Check> {
        let begun = Instant::now();
        if let Err(error) = self.check_places() {
            return vec![Check::from_error("places", &error)];
        }
        let mut found = Vec::new();
        let folder = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let mut listed = self.from.list(&folder).take(LOOKED_AT);
        let mut keys = Vec::new();
        let mut failure = None;
        while let Some(object) = listed.next().await {
            match object {
                Ok(object) => keys.extend(object.key.strip_prefix(&folder).map(str::to_owned)),
                Err(error) => failure = Some(error),
            }
        }
        drop(listed);
        found.push(match failure {
            Some(error) => Check::from_error("source", &error),
            None if keys.is_empty() => {
                Check::warn("source", "empty", format!("nothing is in {}: is the prefix right?", self.source_url()))
            }
            None => Check::pass("source", "works", self.source_url()).took(begun.elapsed()),
        });
        found.push(match self.check_layout(keys.iter().map(String::as_str)) {
            Ok(()) => {
                let detail = format!("records are in {}/{}, outside the copy", self.to.url(), self.records());
                Check::pass("records", "apart", detail)
            }
            Err(error) => Check::from_error("records", &error),
        });
        found.push(match Known::read(&*self.to, &self.records()).await {
            Ok(known) if known.last.is_some() => Check { name: "last copy".to_owned(), ..self.of_record(&known) },
            Ok(_) => Check::warn("last copy", "none", "no copy has been made yet"),
            Err(error) if is_not_made_yet(&*self.to, &error) => {
                Check::warn("last copy", "none", "no copy has been made yet")
            }
            Err(error) => Check::from_error("last copy", &error),
        });
        found
    }
}
