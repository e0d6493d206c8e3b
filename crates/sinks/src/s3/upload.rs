//! Writing an object: one request for a stream shorter than a part, a multipart upload for any other.

use std::collections::HashMap;
use std::sync::Arc;
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

use super::Store;
use super::failure::{Action, says_missing};
use super::lock::locked;
use super::parts::{Assembler, Part};
use super::request::{Body, Reply, Request, xml_text};
use crate::key;
use crate::settings::Lock;

/// The name, in an object's metadata, of the mark by which an upload knows its own object: a request whose answer was
/// lost may have been done.
const MARK_HEADER: &str = "x-amz-meta-lifeboat-upload";

/// The id of the version that a write has made, where the bucket keeps versions.
const VERSION_HEADER: &str = "x-amz-version-id";

/// How far a store's clock may be behind ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(15);

/// Memory is counted in units of so many bytes.
const UNIT: u64 = 64 << 10;

/// How long a request that nobody waits for any more may be under way.
const STRAGGLER: Duration = Duration::from_secs(1);

/// How long the clean-up after a dropped upload may take.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// How long a writer that has to take its version away again may take.
const WITHDRAWAL: Duration = Duration::from_secs(5);

/// A note's size is bounded by that of a key and of an upload id.
const LONGEST_NOTE: usize = 16 << 10;

/// What lies in the uploads folder while a multipart upload runs.
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
}

impl Way {
    /// As notes are written.
    const NOTE: Self = Self { over: Over::WhatIsThere, lock: None };

    /// A write with this lock or none.
    fn action(self) -> Action {
        if self.lock.is_some() { Action::WriteLocked } else { Action::Write }
    }
}

/// What a write may take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Nothing: the key has to be free.
    Nothing,
    /// What is there. One request, or the completion of an upload, is atomic: a reader gets the old object or the new one.
    WhatIsThere,
}

pub(super) async fn put(store: &Arc<Store>, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
    let over = if options.replace { Over::WhatIsThere } else { Over::Nothing };
    let way = Way { over, lock: store.lock.filter(|_| options.lock) };
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

fn mark() -> String {
    let mut random = [0; 16];
    // Without randomness no object is taken for one's own: a lost answer is then an error.
    match getrandom::fill(&mut random) {
        Ok(()) => hex::encode(random),
        Err(_) => String::new(),
    }
}

impl Store {
    /// The request, with the condition that the key is free where the store knows it.
    fn conditional<'a>(&self, request: Request<'a>, over: Over) -> Request<'a> {
        match over {
            Over::Nothing if self.place.profile.conditional_create => request.header("if-none-match", "*"),
            _ => request,
        }
    }

    /// A body, with the digest by which the store checks it.
    async fn body(&self, payload: PutPayload) -> Body {
        #[cfg(test)]
        if self.unhashed {
            return Body::unhashed(payload);
        }
        Body::new(payload, !self.place.profile.checksums).await
    }

    fn checked<'a>(&self, request: Request<'a>, body: &'a Body) -> Request<'a> {
        let request = request.body(body);
        match self.place.profile.checksums {
            true => request.header("x-amz-checksum-sha256", &body.sha256_base64()),
            false => request,
        }
    }

    async fn put_whole(self: &Arc<Self>, key: &str, payload: PutPayload, way: Way) -> Result<()> {
        let mark = mark();
        let body = self.body(payload).await;
        match self.try_put(key, &body, &mark, way).await {
            (Ok(reply), _) => self.keep_first(key, &mark, reply.header(VERSION_HEADER), way.over).await,
            (Err(error), attempts) if error.kind() == ErrorKind::AlreadyExists => {
                self.unless_own(key, &mark, attempts, error).await
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn try_put(&self, key: &str, body: &Body, mark: &str, way: Way) -> (Result<Reply>, u32) {
        let request = Request::object(way.action(), key, Method::PUT, self.full_key(key)).header(MARK_HEADER, mark);
        let request = self.conditional(locked(request, way.lock), way.over);
        self.send_counted(self.checked(request, body)).await
    }

    /// Tries to write to a key that is taken by an object with this content. Whether the store refuses it.
    pub(super) async fn refuses_to_overwrite(&self, key: &str, content: &'static [u8]) -> Result<bool> {
        let body = self.body(PutPayload::from_static(content)).await;
        let way = Way { over: Over::Nothing, lock: None };
        match self.try_put(key, &body, &mark(), way).await.0 {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The mark of an object, or of one version of it.
    async fn mark_of(&self, key: &str, version: Option<&str>) -> Result<Option<String>> {
        let request = Request::object(Action::LookUp, key, Method::HEAD, self.full_key(key));
        let request = match version {
            Some(id) => request.query("versionId", id),
            None => request,
        };
        Ok(self.send(request).await?.header(MARK_HEADER).map(str::to_owned))
    }

    /// Whether the object under `key` is the one that was written with this mark.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when an earlier attempt may have written it and the store cannot be asked: "somebody
    /// else's" would be a guess.
    async fn is_own(&self, key: &str, mark: &str, attempts: u32) -> Result<bool> {
        if mark.is_empty() {
            return Ok(false);
        }
        match self.mark_of(key, None).await {
            Ok(found) => Ok(found.as_deref() == Some(mark)),
            Err(error) if error.is_transient() && attempts > 1 => {
                let why =
                    format!("it may be there, since an answer was lost, and cannot be asked for: {}", error.message());
                Err(Error::new(ErrorKind::Unavailable, "write", key, why).with_source(error))
            }
            Err(_) => Ok(false),
        }
    }

    /// The error that a write has met with, unless an attempt of its own whose answer was lost is what stood in its way.
    async fn unless_own(&self, key: &str, mark: &str, attempts: u32, error: Error) -> Result<()> {
        if self.is_own(key, mark, attempts).await? { Ok(()) } else { Err(error) }
    }

    /// After a write to a store that cannot refuse to overwrite: makes sure that of several writers that all found the key free
    /// at most one succeeds.
    ///
    /// Whoever sees only its own version has won. Whoever sees an older one of somebody else has lost, and takes its own away.
    /// Whoever has the oldest waits for the others to do so: one that stays had won before this one could be seen (a
    /// version is as old as the beginning of its write), or cannot be taken away.
    async fn keep_first(self: &Arc<Self>, key: &str, mark: &str, own: Option<&str>, over: Over) -> Result<()> {
        if over == Over::WhatIsThere || self.place.profile.conditional_create {
            return Ok(());
        }
        let (begun, mut pause) = (Instant::now(), Duration::from_millis(100));
        // Of each version that was looked at: whether it is this writer's.
        let mut known: HashMap<String, bool> = own.map(|id| (id.to_owned(), true)).into_iter().collect();
        loop {
            let versions = match self.versions_of(Action::ListVersions, key).await {
                Ok(versions) => versions,
                Err(error) if matches!(error.kind(), ErrorKind::Permission | ErrorKind::Unsupported) => {
                    tracing::debug!(%error, "cannot look whether somebody else has written the same key");
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
                let stays = refused.map(|why| format!(" (what was written stays as a version of it: {why})"));
                let why = format!("somebody else has written it at the same time{}", stays.unwrap_or_default());
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

    /// Removes a note. `false` when the store holds it: that does no harm.
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
    /// As the completion has to repeat it.
    sha256: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Begun {
    upload_id: String,
}

/// A multipart upload. Dropped before its end, it is aborted in the background where a runtime is left to do so.
struct Upload {
    store: Arc<Store>,
    key: String,
    path: Path,
    way: Way,
    id: String,
    /// Key of its note.
    note: String,
    mark: String,
    /// Since when there may be uploads that nobody knows: an attempt to begin one was tried again, and its lost answer had
    /// the id.
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
            Ok(begun) => begun,
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

    /// Sends the parts, several side by side, and completes the upload.
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
            self.parts.spawn(async move {
                let sent = store.send_part(&key, &id, index, part.payload, action).await;
                drop(permit);
                Ok((index, sent?))
            });
        }
        while let Some(part) = self.parts.join_next().await {
            self.note_part(part)?;
        }
        self.complete().await?;
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

    async fn complete(&mut self) -> Result<()> {
        let store = self.store.clone();
        if self.way.over == Over::Nothing && !store.place.profile.conditional_create {
            store.check_free(Action::Write, &self.key).await?;
        }
        let mut text = String::from(r#"<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">"#);
        for (number, part) in (1..).zip(&self.done) {
            let part = part.as_ref().expect("every part was waited for");
            text += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag>", xml_text(&part.e_tag));
            if let Some(sha256) = &part.sha256 {
                text += &format!("<ChecksumSHA256>{sha256}</ChecksumSHA256>");
            }
            text += "</Part>";
        }
        text += "</CompleteMultipartUpload>";
        let body = Body::new(PutPayload::from(text.into_bytes()), false).await;
        let request = Request::object(self.way.action(), &self.key, Method::POST, store.full_key(&self.key))
            .query("uploadId", &self.id)
            .body(&body);
        let (completed, attempts) = store.send_counted(store.conditional(request, self.way.over)).await;
        match completed {
            Ok(reply) => store.keep_first(&self.key, &self.mark, reply.header(VERSION_HEADER), self.way.over).await,
            // An attempt whose answer was lost has completed it: the upload is gone, and the object is there.
            Err(error) if error.kind() == ErrorKind::AlreadyExists || says_missing(&error) => {
                if store.is_own(&self.key, &self.mark, attempts).await? {
                    return store.keep_first(&self.key, &self.mark, None, self.way.over).await;
                }
                if !store.place.profile.conditional_create
                    && let Some(own) = store.own_version(&self.key, &self.mark).await
                {
                    return store.keep_first(&self.key, &self.mark, Some(&own), self.way.over).await;
                }
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the note of an upload that was completed, and what its beginning may have left.
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
            tracing::debug!(%error, note = %self.note, "the note of a finished upload stays");
        }
    }

    /// Aborts the upload and removes its note. What cannot be removed now, the note lets a later run remove.
    async fn abort(&mut self) {
        self.parts.shutdown().await;
        clean_up(&self.store, &self.key, &self.path, &self.id, &self.note, self.strays_since).await;
        self.ended = true;
    }

    fn too_large(&self, bytes: u64) -> Error {
        let name = self.store.place.profile.name;
        let why = format!("the stream is longer than an object of {name} can be ({bytes} bytes so far)");
        Error::new(ErrorKind::Refused, "write", &self.key, why)
    }
}

impl Store {
    async fn begin_upload(&self, key: &str, mark: &str, way: Way) -> Result<Begun> {
        let request = Request::object(way.action(), key, Method::POST, self.full_key(key))
            .query("uploads", "")
            .header(MARK_HEADER, mark);
        let request = match self.place.profile.checksums {
            true => request.header("x-amz-checksum-algorithm", "SHA256"),
            false => request,
        };
        self.ask_once(locked(request, way.lock)).await
    }

    async fn send_part(
        &self,
        key: &str,
        upload: &str,
        index: usize,
        payload: PutPayload,
        action: Action,
    ) -> Result<Sent> {
        let body = self.body(payload).await;
        let number = (index + 1).to_string();
        let request = Request::object(action, key, Method::PUT, self.full_key(key))
            .query("partNumber", &number)
            .query("uploadId", upload);
        let reply = self.send(self.checked(request, &body)).await?;
        let Some(e_tag) = reply.header("etag") else {
            return Err(self.place.strange_answer(Action::Write, key, "it confirms a part without its ETag"));
        };
        let sha256 = self.place.profile.checksums.then(|| body.sha256_base64());
        Ok(Sent { e_tag: e_tag.to_owned(), sha256 })
    }

    /// Leaves a note of an upload whose id nobody knows: a store that is slow may begin it after everybody has looked.
    async fn note_strays(self: &Arc<Self>, key: &str, mark: &str, started_at: Timestamp) {
        let note = self.note_key(key, &mark[..mark.len().min(16)]);
        let text = Note { key: self.notes.name_of(key), upload_id: String::new(), started_at };
        let Ok(text) = serde_json::to_vec(&text) else { return };
        if let Err(error) = self.put_whole(&note, PutPayload::from(text), Way::NOTE).await {
            tracing::debug!(%error, "an upload that nobody knows may be left");
        }
    }

    /// Key of a note about an upload of `key`, told from others by `which`.
    fn note_key(&self, key: &str, which: &str) -> String {
        let name = split_key(key).1;
        // A key's last part may fill all the room that a key has.
        let cut = (0..=name.len().min(200)).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        join_key(&self.notes.folder_for(key), &format!("{}.{which}.json", &name[..cut]))
    }

    /// Aborts the uploads of `key` that were begun since then, but for one. `false` when that could not be done.
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
            tracing::debug!(%error, "an upload that nobody knows may be left");
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
        Ok(Err(error)) => tracing::warn!(%error, %note, "an unfinished upload stays: pruning orphans removes it"),
        Err(_) => tracing::warn!(%note, "an unfinished upload stays: the store does not answer"),
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

/// Aborts the uploads of one key that were begun before `before`, whether there is a note of them or not.
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

/// Aborts the uploads that notes in the uploads folder of `folder` name.
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
                tracing::debug!(%error, "uploads without a note are not looked for");
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
