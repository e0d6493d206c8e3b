//! Writing an object: one request for a stream shorter than a part, a multipart upload for any other.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_core::name::{join_key, split_key};
use lifeboat_core::stream;
use lifeboat_core::{ByteStream, Error, ErrorKind, Result};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions,
    PutPayload,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Store;
use super::failure::{Action, says_missing};
use super::parts::{Assembler, Part};
use crate::key;

/// The name, in an object's metadata, of the mark by which an upload knows its own object: a request whose answer was
/// lost may have been done.
const MARK: &str = "lifeboat-upload";

/// Memory is counted in units of so many bytes.
const UNIT: u64 = 64 << 10;

/// How long the clean-up after a dropped upload may take.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// A note's size is bounded by that of a key and of an upload id.
const LONGEST_NOTE: usize = 16 << 10;

/// What lies in the uploads folder while a multipart upload runs.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// The key, relative to the folder that holds the uploads folder.
    key: String,
    upload_id: String,
    started_at: Timestamp,
}

pub(super) async fn put(store: &Arc<Store>, key: &str, body: ByteStream) -> Result<u64> {
    let path = store.path(Action::Write, key)?;
    store.check_free(Action::Write, key).await?;
    let mut parts = Assembler::new(body);
    let size = store.schedule.size(0).expect("a store allows at least one part");
    let first = parts.next(size).await?;
    match first {
        Some(first) if !parts.is_at_end().await? => {
            let mut upload = Upload::begin(store.clone(), key, path).await?;
            match upload.run(first, parts).await {
                Ok(bytes) => {
                    upload.forget_note().await;
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
            store.put_whole(key, &path, payload).await?;
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

fn marked(mark: &str) -> Attributes {
    let mut attributes = Attributes::new();
    if !mark.is_empty() {
        attributes.insert(Attribute::Metadata(MARK.into()), mark.to_owned().into());
    }
    attributes
}

impl Store {
    async fn put_whole(&self, key: &str, path: &Path, payload: PutPayload) -> Result<()> {
        let mark = mark();
        let mode = if self.place.profile.conditional_create { PutMode::Create } else { PutMode::Overwrite };
        let written = self
            .pacing
            .run(|| async {
                let options = PutOptions { mode: mode.clone(), attributes: marked(&mark), ..PutOptions::default() };
                let done = self.store.put_opts(path, payload.clone(), options).await;
                done.map(drop).map_err(|e| self.place.store_error(Action::Write, key, e))
            })
            .await;
        match written {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && self.is_own(path, &mark).await => Ok(()),
            written => written,
        }
    }

    /// Whether the object at `path` is the one that was written with this mark.
    async fn is_own(&self, path: &Path, mark: &str) -> bool {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = self
            .pacing
            .run(|| async {
                let found = self.store.get_opts(path, options.clone()).await;
                found.map_err(|e| self.place.store_error(Action::LookUp, path.as_ref(), e))
            })
            .await;
        found.is_ok_and(|object| {
            object.attributes.get(&Attribute::Metadata(MARK.into())).is_some_and(|m| !mark.is_empty() && **m == *mark)
        })
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

    async fn remove_note(&self, note: &Path) -> Result<()> {
        self.pacing
            .run(|| async {
                let removed = self.store.delete(note).await;
                removed.map_err(|e| self.place.store_error(Action::Delete, note.as_ref(), e))
            })
            .await
    }
}

/// A multipart upload. Dropped before its end, it is aborted in the background where a runtime is left to do so.
struct Upload {
    store: Arc<Store>,
    key: String,
    path: Path,
    id: String,
    note: Path,
    mark: String,
    parts: JoinSet<Result<(usize, PartId)>>,
    done: Vec<Option<PartId>>,
    ended: bool,
}

impl Upload {
    /// Starts the upload and notes it.
    async fn begin(store: Arc<Store>, key: &str, path: Path) -> Result<Self> {
        let mark = mark();
        let id = store
            .pacing
            .run(|| async {
                let options = PutMultipartOptions { attributes: marked(&mark), ..PutMultipartOptions::default() };
                let id = store.store.create_multipart_opts(&path, options).await;
                id.map_err(|e| store.place.store_error(Action::Write, key, e))
            })
            .await?;

        let (folder, name) = split_key(key);
        // A key's last part may fill all the room that a key has.
        let cut = (0..=name.len().min(200)).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        let hash = hex::encode(&Sha256::digest(id.as_bytes())[..8]);
        let note_key = join_key(&key::uploads_folder(folder), &format!("{}.{hash}.json", &name[..cut]));
        let note = store.path(Action::Write, &note_key)?;
        let text = Note { key: name.to_owned(), upload_id: id.clone(), started_at: Timestamp::now() };
        let (parts, done) = (JoinSet::new(), Vec::new());
        let mut upload = Self { store, key: key.to_owned(), path, id, note, mark, parts, done, ended: false };

        let text = serde_json::to_vec(&text)
            .map_err(|e| Error::new(ErrorKind::Internal, "write", &note_key, e.to_string()))?;
        let payload = PutPayload::from(text);
        let noted = upload
            .store
            .pacing
            .run(|| async {
                let put = upload.store.store.put(&upload.note, payload.clone()).await;
                put.map(drop).map_err(|e| upload.store.place.store_error(Action::Write, &note_key, e))
            })
            .await;
        if let Err(error) = noted {
            upload.abort().await;
            return Err(error);
        }
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
            let (store, key, path, id) = (store.clone(), self.key.clone(), self.path.clone(), self.id.clone());
            let index = index as usize;
            self.parts.spawn(async move {
                let sent = store
                    .pacing
                    .run(|| async {
                        let sent = store.store.put_part(&path, &id, index, part.payload.clone()).await;
                        sent.map_err(|e| store.place.store_error(Action::Write, &key, e))
                    })
                    .await;
                drop((part, permit));
                Ok((index, sent?))
            });
        }
        while let Some(part) = self.parts.join_next().await {
            self.note_part(part)?;
        }
        self.complete().await?;
        Ok(total)
    }

    fn note_part(&mut self, part: Result<Result<(usize, PartId)>, tokio::task::JoinError>) -> Result<()> {
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
        if !store.place.profile.conditional_create {
            store.check_free(Action::Write, &self.key).await?;
        }
        let parts: Vec<PartId> = self.done.iter().flatten().cloned().collect();
        debug_assert_eq!(parts.len(), self.done.len());
        let completed = store
            .pacing
            .run(|| async {
                let done = store.store.complete_multipart(&self.path, &self.id, parts.clone()).await;
                done.map(drop).map_err(|e| store.place.store_error(Action::Write, &self.key, e))
            })
            .await;
        match completed {
            // An attempt whose answer was lost has completed it: the upload is gone, and the object is there.
            Err(error)
                if (error.kind() == ErrorKind::AlreadyExists || says_missing(&error))
                    && store.is_own(&self.path, &self.mark).await =>
            {
                Ok(())
            }
            completed => completed,
        }
    }

    /// Removes the note of an upload that was completed.
    async fn forget_note(&mut self) {
        self.ended = true;
        if let Err(error) = self.store.remove_note(&self.note).await {
            // A key that may not delete is a good key for a writer, and the note of a finished upload does no harm.
            tracing::debug!(%error, note = %self.note, "the note of a finished upload stays");
        }
    }

    /// Aborts the upload and removes its note. What cannot be removed now, the note lets a later run remove.
    async fn abort(&mut self) {
        self.parts.shutdown().await;
        clean_up(&self.store, &self.key, &self.path, &self.id, &self.note).await;
        self.ended = true;
    }

    fn too_large(&self, bytes: u64) -> Error {
        let name = self.store.place.profile.name;
        let why = format!("the stream is longer than an object of {name} can be ({bytes} bytes so far)");
        Error::new(ErrorKind::Refused, "write", &self.key, why)
    }
}

async fn clean_up(store: &Store, key: &str, path: &Path, id: &String, note: &Path) {
    let done = tokio::time::timeout(CLEAN_UP, async {
        store.abort(key, path, id).await?;
        store.remove_note(note).await
    });
    match done.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, %note, "an unfinished upload stays: prune --orphans removes it"),
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
        let (id, note) = (self.id.clone(), self.note.clone());
        runtime.spawn(async move {
            parts.shutdown().await;
            clean_up(&store, &key, &path, &id, &note).await;
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
        if note.started_at >= before || note.key.contains('/') {
            continue;
        }
        let key = join_key(folder, &note.key);
        if !dry_run {
            let (path, note_path) = (store.path(Action::Abort, &key)?, store.path(Action::Delete, &object.key)?);
            store.abort(&key, &path, &note.upload_id).await?;
            store.remove_note(&note_path).await?;
        }
        removed.push(unfinished(&key, note.started_at));
    }
    Ok(removed)
}
