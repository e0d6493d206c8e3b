//! Writing an object: one request for a stream shorter than a part, a multipart upload for any other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use jiff::{SignedDuration, Timestamp};
use lifeboat_core::name::{join_key, split_key};
use lifeboat_core::sink::PutOptions;
use lifeboat_core::{ByteStream, Error, ErrorKind, Result, stream};
use object_store::PutPayload;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::Store;
use super::adapt::Means;
use super::failure::{Action, is_answer, says_missing};
use super::lock::locked;
use super::look::{Checksum, MARK_HEADER, VERSION_HEADER, Written, bare, parts_in};
use super::parts::{Assembler, Part};
use super::request::{Body, Document, Reply, Request, xml_text};
use crate::key;
use crate::settings::Lock;

/// How far a store's clock may be behind ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(15);

/// Memory is counted in units of this many bytes.
const UNIT: u64 = 64 << 10;

/// How long a request that nobody waits for may still take.
const STRAGGLER: Duration = Duration::from_secs(1);

/// How long the clean-up after a dropped upload may take.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// How long a losing writer may take to remove its version.
const WITHDRAWAL: Duration = Duration::from_secs(5);

/// A note's size is bounded by that of a key and of an upload id.
const LONGEST_NOTE: usize = 16 << 10;

/// The note in the uploads folder while a multipart upload runs.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// The key, relative to the folder that holds the uploads folder; with a slash before it, relative to the sink.
    key: String,
    /// Empty when nobody knows it: an answer was lost.
    upload_id: String,
    started_at: Timestamp,
}

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    over: Over,
    lock: Option<Lock>,
    /// A note: losing it loses no data, and it is not checked afterwards.
    is_note: bool,
}

impl Way {
    /// As notes are written.
    const NOTE: Self = Self { over: Over::WhatIsThere, lock: None, is_note: true };

    /// A write with this lock or none.
    fn action(self) -> Action {
        if self.lock.is_some() { Action::WriteLocked } else { Action::Write }
    }
}

/// What a write may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Nothing: the key must be free.
    Nothing,
    /// The existing object. One request, or the completion of an upload, is atomic: a reader gets the old object or the new one.
    WhatIsThere,
}

pub(super) async fn put(store: &Arc<Store>, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
    let over = if options.replace { Over::WhatIsThere } else { Over::Nothing };
    let way = Way { over, lock: store.lock.filter(|_| options.lock), is_note: false };
    let path = store.path(Action::Write, key)?;
    if over == Over::Nothing {
        store.check_free(Action::Write, key).await?;
    }
    let mut parts = Assembler::new(body);
    let size = store.schedule.size(0).expect("a store allows at least one part");
    let first = parts.next(size).await?;
    match first {
        Some(first) if !parts.is_at_end().await? => {
            let mut upload = Upload::begin(store.clone(), key, path, way).await?;
            match upload.run(first, parts).await {
                Ok(bytes) => {
                    upload.end_well().await;
                    Ok(bytes)
                }
                Err(error) => {
                    upload.abort().await;
                    Err(error)
                }
            }
        }
        only => {
            let (payload, bytes) = only.map_or_else(|| (PutPayload::new(), 0), |part| (part.payload, part.bytes));
            store.put_whole(key, payload, way).await?;
            Ok(bytes)
        }
    }
}

/// The result of a write.
struct Tried {
    /// The answer, and the checksum that was sent.
    outcome: Result<(Reply, Option<Checksum>)>,
    /// All but the last one failed, but may have taken effect.
    attempts: u32,
}

/// A write with its conditional headers.
fn with_means<'a>(request: Request<'a>, means: Means, body: &Body) -> Request<'a> {
    let request = if means.conditions { request.header("if-none-match", "*") } else { request };
    if means.checksums { request.header("x-amz-checksum-sha256", &body.sha256_base64()) } else { request }
}

fn taken(key: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, "write", key, "an object of that name already exists")
}

fn mark() -> String {
    let mut random = [0; 16];
    // Without randomness no object is taken for one's own: a lost answer is then an error.
    match getrandom::fill(&mut random) {
        Ok(()) => hex::encode(random),
        Err(_) => String::new(),
    }
}

impl Store {
    /// What a write over this carries.
    fn means_over(&self, over: Over) -> Means {
        let means = self.means();
        Means { conditions: means.conditions && over == Over::Nothing, ..means }
    }

    /// A body, with the digest by which the store checks it.
    async fn body(&self, payload: PutPayload, means: Means) -> Body {
        #[cfg(test)]
        if self.unhashed {
            return Body::unhashed(payload);
        }
        Body::new(payload, !means.checksums).await
    }

    /// Writes an object in one request.
    async fn put_whole(self: &Arc<Self>, key: &str, payload: PutPayload, way: Way) -> Result<()> {
        let (mark, bytes) = (mark(), payload.content_length() as u64);
        let tried = self.try_put(key, payload, &mark, way).await;
        let (e_tag, sha256, version) = match tried.outcome {
            Ok((reply, sha256)) => {
                let e_tag = reply.e_tag().ok_or_else(|| {
                    self.place.strange_answer(Action::Write, key, "it confirms a write without its ETag")
                })?;
                let version = reply.header(VERSION_HEADER).filter(|id| !id.is_empty()).map(str::to_owned);
                self.keep_first(key, &mark, version.as_deref(), way.over).await?;
                (Some(e_tag), sha256, version)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.unless_own(key, &mark, tried.attempts, error).await?;
                (None, None, None)
            }
            Err(error) => return Err(error),
        };
        if way.is_note {
            return Ok(());
        }
        let was_free = way.over == Over::Nothing;
        let written = Written { key, mark: &mark, bytes, sha256, e_tag, version, was_free };
        self.see_that_it_is_there(&written).await
    }

    async fn try_put(self: &Arc<Self>, key: &str, payload: PutPayload, mark: &str, way: Way) -> Tried {
        let attempts = AtomicU32::new(0);
        let first = self.means_over(way.over);
        let outcome = self
            .adapted(first, |means| {
                let (payload, attempts) = (payload.clone(), &attempts);
                async move {
                    if first.conditions && !means.conditions {
                        self.check_free_without_conditions(key).await?;
                    }
                    let body = self.body(payload, means).await;
                    let request =
                        Request::object(way.action(), key, Method::PUT, self.full_key(key)).header(MARK_HEADER, mark);
                    let request = with_means(locked(request, way.lock).body(&body), means, &body);
                    let (reply, tries) = self.send_counted(request).await;
                    attempts.fetch_add(tries, Ordering::Relaxed);
                    let sha256 = means.checksums.then(|| Checksum::whole(body.sha256_base64()));
                    Ok((reply?, sha256))
                }
            })
            .await;
        Tried { outcome, attempts: attempts.into_inner() }
    }

    /// Checks whether a key is free, for a store that does not support conditions.
    async fn check_free_without_conditions(&self, key: &str) -> Result<()> {
        match self.look_up(Action::Write, key, None).await {
            Ok(_) => Err(taken(key)),
            Err(error) if says_missing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tries to write to a key that an object with this content has taken. Returns whether the store refuses it.
    pub(super) async fn refuses_to_overwrite(self: &Arc<Self>, key: &str, content: &'static [u8]) -> Result<bool> {
        let way = Way { over: Over::Nothing, lock: None, is_note: false };
        match self.try_put(key, PutPayload::from_static(content), &mark(), way).await.outcome {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The mark of an object, or of one version of it.
    async fn mark_of(&self, key: &str, version: Option<&str>) -> Result<Option<String>> {
        Ok(self.look_up(Action::LookUp, key, version).await?.mark)
    }

    /// Whether the object under `key` is the one that was written with this mark.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when an earlier attempt may have written it and the store cannot be asked: "another
    /// writer's" would be a guess.
    async fn is_own(&self, key: &str, mark: &str, attempts: u32) -> Result<bool> {
        if mark.is_empty() {
            return Ok(false);
        }
        match self.mark_of(key, None).await {
            Ok(found) => Ok(found.as_deref() == Some(mark)),
            Err(error) if error.is_transient() && attempts > 1 => {
                let why = format!(
                    "an answer was lost, so it may have been written, and checking failed: {}",
                    error.message()
                );
                Err(Error::new(ErrorKind::Unavailable, "write", key, why).with_source(error))
            }
            Err(_) => Ok(false),
        }
    }

    /// The error of a write, unless its own earlier attempt, whose answer was lost, caused it.
    async fn unless_own(&self, key: &str, mark: &str, attempts: u32, error: Error) -> Result<()> {
        if self.is_own(key, mark, attempts).await? { Ok(()) } else { Err(error) }
    }

    /// After a write to a store that cannot refuse to overwrite: makes sure that at most one of several writers that found the
    /// key free succeeds.
    ///
    /// A writer that sees only its own version has won. One that sees an older version of another has lost, and removes its own.
    /// The one with the oldest version waits for the others to do so: a version that stays had won before this one
    /// could be seen (a version is as old as the beginning of its write), or cannot be removed.
    async fn keep_first(self: &Arc<Self>, key: &str, mark: &str, own: Option<&str>, over: Over) -> Result<()> {
        if over == Over::WhatIsThere || self.means().conditions {
            return Ok(());
        }
        let (begun, mut pause) = (Instant::now(), Duration::from_millis(100));
        // Of each version that was looked at: whether it is this writer's.
        let mut known: HashMap<String, bool> = own.map(|id| (id.to_owned(), true)).into_iter().collect();
        loop {
            let versions = match self.versions_of(Action::ListVersions, key).await {
                Ok(versions) => versions,
                Err(error)
                    if matches!(error.kind(), ErrorKind::Permission | ErrorKind::Unsupported)
                        || is_answer(&error, 400) =>
                {
                    tracing::debug!(%error, "cannot check whether another writer has written the same key");
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            // What lies below a delete marker was deleted before.
            let live: Vec<String> = versions.into_iter().take_while(|v| !v.marker).map(|v| v.id).collect();
            for id in &live {
                if !known.contains_key(id) {
                    let is_ours = match self.mark_of(key, Some(id)).await {
                        Ok(found) => found.as_deref() == Some(mark),
                        // One that has lost has just taken it away.
                        Err(error) if says_missing(&error) => false,
                        Err(error) => return Err(error),
                    };
                    known.insert(id.clone(), is_ours);
                }
            }
            let (mut ours, others): (Vec<String>, Vec<String>) = live.iter().cloned().partition(|id| known[id]);
            if others.is_empty() && !ours.is_empty() {
                // An attempt whose answer was lost has left a second one of ours.
                ours.pop();
                super::delete::versions(self, key, ours).await?;
                return Ok(());
            }
            // A list that does not show this writer's own version is older than that, and says nothing.
            let has_lost = !ours.is_empty() && live.last().is_some_and(|id| !known[id]);
            if has_lost || begun.elapsed() > WITHDRAWAL {
                let refused = super::delete::versions(self, key, ours).await?;
                let stays = refused.map(|why| format!("(what was written remains as a version of it: {why})"));
                let why = format!("another writer wrote it at the same time{}", stays.unwrap_or_default());
                return Err(Error::new(ErrorKind::AlreadyExists, "write", key, why));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The version of the object that was written with this mark.
    async fn own_version(self: &Arc<Self>, key: &str, mark: &str) -> Option<String> {
        for version in self.versions_of(Action::ListVersions, key).await.ok()?.into_iter().take_while(|v| !v.marker) {
            if self.mark_of(key, Some(&version.id)).await.ok().flatten().as_deref() == Some(mark) {
                return Some(version.id);
            }
        }
        None
    }

    async fn abort(&self, key: &str, path: &Path, id: &String) -> Result<()> {
        let aborted = self
            .pacing
            .run(|| async {
                let aborted = self.store.abort_multipart(path, id).await;
                aborted.map_err(|e| self.place.store_error(Action::Abort, key, e))
            })
            .await;
        match aborted {
            // Completed, or aborted before.
            Err(error) if says_missing(&error) => Ok(()),
            aborted => aborted,
        }
    }

    /// Removes a note. `false` when the store holds it, which does no harm.
    async fn remove_note(self: &Arc<Self>, note: &str) -> Result<bool> {
        let deleted = super::delete::delete(self, &[note.to_owned()]).await?;
        if let Some((_, why)) = deleted.failed.into_iter().next() {
            return Err(Error::new(ErrorKind::Permission, "delete", note, why));
        }
        Ok(deleted.held.is_empty())
    }
}

/// A part that was sent.
#[derive(Clone, Debug)]
struct Sent {
    e_tag: String,
    /// As the completion must repeat it.
    sha256: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Begun {
    upload_id: String,
}

impl Document for Begun {
    const ROOT: &'static str = "InitiateMultipartUploadResult";
}

/// How a store confirms the completion of an upload.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Completed {
    #[serde(rename = "ETag", default)]
    e_tag: String,
    #[serde(rename = "ChecksumSHA256")]
    sha256: Option<String>,
}

impl Document for Completed {
    const ROOT: &'static str = "CompleteMultipartUploadResult";
}

impl Completed {
    /// Compares the assembled object with what was sent.
    ///
    /// # Errors
    /// How they differ.
    fn check(&self, parts: usize, sha256: Option<&Checksum>) -> Result<(), String> {
        if let Some(there) = parts_in(&bare(&self.e_tag).unwrap_or_default()).filter(|there| *there != parts) {
            return Err(format!("the store assembled {there} parts, but {parts} were sent"));
        }
        if sha256.zip(self.sha256.as_deref()).is_some_and(|(sent, there)| sent.contradicts(there)) {
            return Err("the assembled object's SHA-256 differs from that of the bytes sent".to_owned());
        }
        Ok(())
    }
}

/// The document that completes an upload of these parts.
fn completion(parts: &[Sent]) -> String {
    let mut text = String::from(r#"<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">"#);
    for (number, part) in (1..).zip(parts) {
        text += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag>", xml_text(&part.e_tag));
        if let Some(sha256) = &part.sha256 {
            text += &format!("<ChecksumSHA256>{sha256}</ChecksumSHA256>");
        }
        text += "</Part>";
    }
    text + "</CompleteMultipartUpload>"
}

/// A multipart upload. If dropped before its end, it is aborted in the background, provided a runtime is left.
struct Upload {
    store: Arc<Store>,
    key: String,
    path: Path,
    way: Way,
    id: String,
    /// Key of its note.
    note: String,
    mark: String,
    /// Since when there may be unknown uploads: an attempt to begin one was repeated, and the lost answer had its
    /// id.
    strays_since: Option<Timestamp>,
    parts: JoinSet<Result<(usize, Sent)>>,
    done: Vec<Option<Sent>>,
    /// The note is in the store.
    noted: bool,
    ended: bool,
}

impl Upload {
    /// Starts the upload and notes it.
    async fn begin(store: Arc<Store>, key: &str, path: Path, way: Way) -> Result<Self> {
        let (mark, started_at) = (mark(), Timestamp::now());
        let mut attempts = 0;
        let begun = store
            .pacing
            .run(|| {
                attempts += 1;
                store.begin_upload(key, &mark, way)
            })
            .await;
        let begun = match begun {
            Ok(begun) if !begun.upload_id.is_empty() => begun,
            Ok(_) => return Err(store.place.strange_answer(Action::Write, key, "it begins an upload without an id")),
            Err(error) => {
                if attempts > 1 || error.is_transient() {
                    store.abort_strays(key, &path, None, started_at).await;
                    store.note_strays(key, &mark, started_at).await;
                }
                return Err(error);
            }
        };
        let id = begun.upload_id;

        let note = store.note_key(key, &hex::encode(&Sha256::digest(id.as_bytes())[..8]));
        let text = Note { key: store.notes.name_of(key), upload_id: id.clone(), started_at };
        let text =
            serde_json::to_vec(&text).map_err(|e| Error::new(ErrorKind::Internal, "write", &note, e.to_string()))?;
        let mut upload = Self {
            store,
            key: key.to_owned(),
            path,
            way,
            id,
            note,
            mark,
            strays_since: (attempts > 1).then_some(started_at),
            parts: JoinSet::new(),
            done: Vec::new(),
            noted: false,
            ended: false,
        };
        let noted = upload.store.put_whole(&upload.note, PutPayload::from(text), Way::NOTE).await;
        if let Err(error) = noted {
            upload.abort().await;
            return Err(error);
        }
        upload.noted = true;
        Ok(upload)
    }

    /// Sends the parts, several in parallel, and completes the upload.
    async fn run(&mut self, first: Part, mut parts: Assembler) -> Result<u64> {
        let store = self.store.clone();
        let room_for = |bytes: u64| u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let all = room_for(store.memory).max(1);
        let memory = Arc::new(Semaphore::new(all as usize));
        let mut total = 0;
        let mut next = Some(first);
        for index in 0.. {
            // Room is taken before a part is filled, so that what is filled and what is on its way both count.
            let Some(size) = store.schedule.size(index) else {
                if next.is_some() || !parts.is_at_end().await? {
                    return Err(self.too_large(total));
                }
                break;
            };
            let permit = loop {
                tokio::select! {
                    biased;
                    Some(part) = self.parts.join_next() => self.note_part(part)?,
                    permit = memory.clone().acquire_many_owned(room_for(size).min(all)),
                        if self.parts.len() < store.place.profile.parts_in_flight =>
                    {
                        break permit.expect("this semaphore is never closed");
                    }
                }
            };
            let part = match next.take() {
                Some(part) => Some(part),
                None => loop {
                    tokio::select! {
                        biased;
                        // A part that fails ends the upload, even while the source is silent.
                        Some(part) = self.parts.join_next() => self.note_part(part)?,
                        part = parts.next(size) => break part?,
                    }
                },
            };
            let Some(part) = part else { break };
            total += part.bytes;
            if total > store.place.profile.most_object {
                return Err(self.too_large(total));
            }
            self.done.push(None);
            let (store, key, id, action) = (store.clone(), self.key.clone(), self.id.clone(), self.way.action());
            let index = index as usize;
            let sending = async move {
                let sent = store.send_part(&key, &id, index, part.payload, action).await;
                drop(permit);
                Ok((index, sent?))
            };
            self.parts.spawn(sending.in_current_span());
        }
        while let Some(part) = self.parts.join_next().await {
            self.note_part(part)?;
        }
        self.complete(total).await?;
        Ok(total)
    }

    fn note_part(&mut self, part: Result<Result<(usize, Sent)>, tokio::task::JoinError>) -> Result<()> {
        match part {
            Ok(part) => {
                let (index, id) = part?;
                self.done[index] = Some(id);
                Ok(())
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::cancelled("write", &self.key)),
        }
    }

    /// Assembles the parts, and checks the result: an object of this many bytes.
    async fn complete(&mut self, bytes: u64) -> Result<()> {
        let store = self.store.clone();
        let over = self.way.over;
        if over == Over::Nothing && !store.means().conditions {
            store.check_free(Action::Write, &self.key).await?;
        }
        let parts: Vec<Sent> = self.done.iter().map(|part| part.clone().expect("every part was waited for")).collect();
        let body = Body::new(PutPayload::from(completion(&parts).into_bytes()), false).await;
        let attempts = AtomicU32::new(0);
        let first = Means { checksums: false, ..store.means_over(over) };
        let completed = store
            .adapted(first, |means| {
                let (store, key, body, attempts) = (&store, &self.key, &body, &attempts);
                let (action, id) = (self.way.action(), &self.id);
                async move {
                    if first.conditions && !means.conditions {
                        store.check_free_without_conditions(key).await?;
                    }
                    let request = Request::object(action, key, Method::POST, store.full_key(key))
                        .query("uploadId", id)
                        .body(body);
                    let request = if means.conditions { request.header("if-none-match", "*") } else { request };
                    let (reply, tries) = store.send_counted(request).await;
                    attempts.fetch_add(tries, Ordering::Relaxed);
                    reply
                }
            })
            .await;
        let sha256 = Checksum::of_parts(parts.iter().map(|part| part.sha256.as_deref()));
        let mut written = Written {
            key: &self.key,
            mark: &self.mark,
            bytes,
            sha256,
            e_tag: None,
            version: None,
            was_free: over == Over::Nothing,
        };
        match completed {
            Ok(reply) => {
                let said: Completed = store.parse(Action::Write, &self.key, &reply.body)?;
                written.version = reply.header(VERSION_HEADER).filter(|id| !id.is_empty()).map(str::to_owned);
                written.e_tag = bare(&said.e_tag);
                if written.e_tag.is_none() {
                    let why = "it confirms a completion without the object's ETag";
                    return Err(store.place.strange_answer(Action::Write, &self.key, why));
                }
                if let Err(why) = said.check(parts.len(), written.sha256.as_ref()) {
                    let left = store.take_away(&written).await;
                    return Err(Error::new(ErrorKind::Corrupt, "write", &self.key, format!("{why}{left}")));
                }
                store.keep_first(&self.key, &self.mark, written.version.as_deref(), over).await?;
            }
            // An attempt whose answer was lost has completed it: the upload is gone, and the object is there.
            Err(error) if error.kind() == ErrorKind::AlreadyExists || says_missing(&error) => {
                if !store.is_own(&self.key, &self.mark, attempts.into_inner()).await? {
                    if store.means().conditions {
                        return Err(error);
                    }
                    written.version = store.own_version(&self.key, &self.mark).await;
                    if written.version.is_none() {
                        return Err(error);
                    }
                }
                store.keep_first(&self.key, &self.mark, written.version.as_deref(), over).await?;
            }
            Err(error) => return Err(error),
        }
        store.see_that_it_is_there(&written).await
    }

    /// Removes the note of a completed upload, and what its beginning may have left.
    async fn end_well(&mut self) {
        self.ended = true;
        if let Some(since) = self.strays_since
            && !self.store.abort_strays(&self.key, &self.path, Some(&self.id), since).await
        {
            // The note stays: with it, a later run looks again.
            return;
        }
        if let Err(error) = self.store.remove_note(&self.note).await {
            // A key that may not delete is a good key for a writer, and the note of a finished upload does no harm.
            tracing::debug!(%error, note = %self.note, "the note of a finished upload remains");
        }
    }

    /// Aborts the upload and removes its note. If that fails now, the note lets a later run do it.
    async fn abort(&mut self) {
        self.parts.shutdown().await;
        clean_up(&self.store, &self.key, &self.path, &self.id, &self.note, self.strays_since).await;
        self.ended = true;
    }

    fn too_large(&self, bytes: u64) -> Error {
        let name = self.store.place.profile.name;
        let why = format!("the stream is longer than an object in {name} can be ({bytes} bytes so far)");
        Error::new(ErrorKind::Refused, "write", &self.key, why)
    }
}

impl Store {
    async fn begin_upload(&self, key: &str, mark: &str, way: Way) -> Result<Begun> {
        self.adapted(self.means_over(Over::WhatIsThere), |means| async move {
            let request = Request::object(way.action(), key, Method::POST, self.full_key(key))
                .query("uploads", "")
                .header(MARK_HEADER, mark);
            let request = if means.checksums { request.header("x-amz-checksum-algorithm", "SHA256") } else { request };
            self.ask_once(locked(request, way.lock)).await
        })
        .await
    }

    async fn send_part(
        &self,
        key: &str,
        upload: &str,
        index: usize,
        payload: PutPayload,
        action: Action,
    ) -> Result<Sent> {
        let number = (index + 1).to_string();
        self.adapted(self.means_over(Over::WhatIsThere), |means| {
            let (payload, number) = (payload.clone(), &number);
            async move {
                let body = self.body(payload, means).await;
                let request = Request::object(action, key, Method::PUT, self.full_key(key))
                    .query("partNumber", number)
                    .query("uploadId", upload);
                let reply = self.send(with_means(request.body(&body), means, &body)).await?;
                let e_tag = reply.header("etag").filter(|e_tag| bare(e_tag).is_some()).map(str::to_owned);
                let why = "it confirms a part without its ETag";
                let e_tag = e_tag.ok_or_else(|| self.place.strange_answer(Action::Write, key, why))?;
                Ok(Sent { e_tag, sha256: means.checksums.then(|| body.sha256_base64()) })
            }
        })
        .await
    }

    /// Leaves a note of an upload with an unknown id: a slow store may begin it after everybody has looked.
    async fn note_strays(self: &Arc<Self>, key: &str, mark: &str, started_at: Timestamp) {
        let note = self.note_key(key, &mark[..mark.len().min(16)]);
        let text = Note { key: self.notes.name_of(key), upload_id: String::new(), started_at };
        let Ok(text) = serde_json::to_vec(&text) else { return };
        if let Err(error) = self.put_whole(&note, PutPayload::from(text), Way::NOTE).await {
            tracing::debug!(%error, "an unknown upload may be left");
        }
    }

    /// The key of a note about an upload of `key`, made unique by `which`.
    fn note_key(&self, key: &str, which: &str) -> String {
        let name = split_key(key).1;
        // A key's last part may fill all the room that a key has.
        let cut = (0..=name.len().min(200)).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        join_key(&self.notes.folder_for(key), &format!("{}.{which}.json", &name[..cut]))
    }

    /// Aborts the uploads of `key` begun since then, except one. `false` when that was impossible.
    async fn abort_strays(&self, key: &str, path: &Path, but: Option<&str>, since: Timestamp) -> bool {
        // The store's clock may be behind.
        let since = since - CLOCK_SKEW;
        let aborted = async {
            for (id, begun) in self.uploads_of(key).await? {
                if begun >= since && but != Some(id.as_str()) {
                    self.abort(key, path, &id).await?;
                }
            }
            Ok::<_, Error>(())
        };
        let aborted = aborted.await;
        if let Err(error) = &aborted {
            tracing::debug!(%error, "an unknown upload may be left");
        }
        aborted.is_ok()
    }
}

async fn clean_up(
    store: &Arc<Store>,
    key: &str,
    path: &Path,
    id: &String,
    note: &str,
    strays_since: Option<Timestamp>,
) {
    let done = tokio::time::timeout(CLEAN_UP, async {
        store.abort(key, path, id).await?;
        if let Some(since) = strays_since
            && !store.abort_strays(key, path, Some(id), since).await
        {
            return Ok(());
        }
        store.remove_note(note).await.map(drop)
    });
    match done.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, %note, "an unfinished upload remains: pruning orphans removes it"),
        Err(_) => tracing::warn!(%note, "an unfinished upload remains: the store does not answer"),
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.parts.abort_all();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut parts = std::mem::take(&mut self.parts);
        let (store, key, path) = (self.store.clone(), self.key.clone(), self.path.clone());
        let (id, note, strays_since) = (self.id.clone(), self.note.clone(), self.strays_since);
        let noted = self.noted;
        runtime.spawn(async move {
            parts.shutdown().await;
            if !noted {
                // The note's request was dropped as well, and may still arrive.
                tokio::time::sleep(STRAGGLER).await;
            }
            clean_up(&store, &key, &path, &id, &note, strays_since).await;
        });
    }
}

/// An aborted upload in words for a report.
fn unfinished(key: &str, begun: Timestamp) -> String {
    format!("unfinished upload of {key}, begun {}", begun.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

/// Aborts the uploads of one key begun before `before`, with or without a note.
pub(super) async fn abort_uploads_of(
    store: &Store,
    key: &str,
    before: Timestamp,
    dry_run: bool,
) -> Result<Vec<String>> {
    let path = store.path(Action::Abort, key)?;
    let mut removed = Vec::new();
    for (id, begun) in store.uploads_of(key).await? {
        if begun >= before {
            continue;
        }
        if !dry_run {
            store.abort(key, &path, &id).await?;
        }
        removed.push(unfinished(key, begun));
    }
    Ok(removed)
}

/// Aborts the uploads named by notes in the uploads folder of `folder`.
pub(super) async fn abort_unfinished(
    store: &Arc<Store>,
    folder: &str,
    before: Timestamp,
    dry_run: bool,
) -> Result<Vec<String>> {
    use futures::TryStreamExt;

    let folder = folder.trim_matches('/');
    let uploads = key::uploads_folder(folder);
    let mut notes = store.clone().list(format!("{uploads}/"));
    let mut removed = Vec::new();
    while let Some(object) = notes.try_next().await? {
        let Some(name) = object.key.strip_prefix(&uploads).and_then(|k| k.strip_prefix('/')) else { continue };
        if name.contains('/') || !name.ends_with(".json") || object.bytes > LONGEST_NOTE as u64 {
            continue;
        }
        let text = match super::download::get(store.clone(), &object.key, None).await {
            Ok(body) => stream::collect(body, LONGEST_NOTE, &object.key).await?,
            // Its upload has just ended.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // What is not a note of ours is left alone.
        let Ok(note) = serde_json::from_slice::<Note>(&text) else { continue };
        let Some(key) = key::named_in_note(folder, &note.key).filter(|_| note.started_at < before) else { continue };
        if !dry_run {
            let path = store.path(Action::Abort, &key)?;
            if !note.upload_id.is_empty() {
                store.abort(&key, &path, &note.upload_id).await?;
            }
            // Others of this key, of which no answer has told.
            let others = abort_uploads_of(store, &key, before, false).await;
            if let Err(error) = others {
                tracing::debug!(%error, "cannot look for uploads without a note");
            }
            // One that the store holds says nothing new the next time.
            if !store.remove_note(&object.key).await? {
                continue;
            }
        }
        removed.push(unfinished(&key, note.started_at));
    }
    Ok(removed)
}
