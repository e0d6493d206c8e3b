//! Objects: written whole or in parts, read, deleted.

use bytes::Bytes;
use jiff::Timestamp;

use super::state::{State, Upload, e_tag, of_parts, sha256};
use super::{Lie, Question, Shared, http_date, xml};
use crate::http::Answer;

fn missing() -> Answer {
    Answer::error(404, "NoSuchKey", "The specified key does not exist.")
}

fn no_upload() -> Answer {
    Answer::error(404, "NoSuchUpload", "The specified multipart upload does not exist.")
}

/// Bytes as a store with this lie has them.
fn disturbed(bytes: &Bytes, lie: Option<Lie>) -> Bytes {
    match lie {
        Some(Lie::Cuts) => bytes.slice(..bytes.len() / 2),
        Some(Lie::Flips) if !bytes.is_empty() => {
            let mut flipped = bytes.to_vec();
            flipped[bytes.len() / 2] ^= 0x10;
            flipped.into()
        }
        _ => bytes.clone(),
    }
}

impl Shared {
    /// The answer to a condition that forbids to write.
    fn is_taken(&self, state: &State, ask: &Question) -> Option<Answer> {
        let forbids = ask.head.header("if-none-match") == Some("*") && !self.ways.ignores_conditions;
        (forbids && state.newest(&ask.path).is_some())
            .then(|| Answer::error(412, "PreconditionFailed", "At least one of the preconditions did not hold."))
    }

    fn metadata(&self, ask: &Question) -> Vec<(String, String)> {
        let is_metadata = |name: &str| name.to_ascii_lowercase().starts_with("x-amz-meta-");
        let all = ask.head.headers.iter().filter(|(name, _)| is_metadata(name) && !self.ways.forgets_metadata);
        all.cloned().collect()
    }

    pub(super) fn put(&self, state: &mut State, ask: &Question) -> Answer {
        if let Some(taken) = self.is_taken(state, ask) {
            return taken;
        }
        let done = Answer::xml(200, "").with("ETag", format!("\"{}\"", e_tag(&ask.body)));
        if ask.lies(Lie::Forgets) {
            return done;
        }
        let bytes = disturbed(&ask.body, ask.lie);
        let tags = (e_tag(&bytes), sha256(&bytes));
        let version = state.store(&ask.path, bytes, tags, self.metadata(ask));
        if state.is_versioned { done.with("x-amz-version-id", version) } else { done }
    }

    pub(super) fn begin(&self, state: &mut State, ask: &Question) -> Answer {
        let id = state.id("u");
        if !ask.lies(Lie::Forgets) {
            let (path, metadata) = (ask.path.clone(), self.metadata(ask));
            let upload = Upload { path, begun: Timestamp::now(), metadata, parts: Default::default() };
            state.uploads.insert(id.clone(), upload);
        }
        let body = format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
        Answer::xml(200, body)
    }
}

pub(super) fn put_part(state: &mut State, ask: &Question) -> Answer {
    let id = ask.value("uploadId").unwrap_or_default();
    let Some(upload) = state.uploads.get_mut(&id) else { return no_upload() };
    let number = ask.value("partNumber").and_then(|number| number.parse().ok()).unwrap_or_default();
    if !ask.lies(Lie::Forgets) {
        upload.parts.insert(number, disturbed(&ask.body, ask.lie));
    }
    Answer::xml(200, "").with("ETag", format!("\"{}\"", e_tag(&ask.body)))
}

impl Shared {
    pub(super) fn complete(&self, state: &mut State, ask: &Question) -> Answer {
        let id = ask.value("uploadId").unwrap_or_default();
        let Some(upload) = state.uploads.get(&id) else { return no_upload() };
        if let Some(taken) = self.is_taken(state, ask) {
            return taken;
        }
        let wanted = String::from_utf8_lossy(&ask.body).matches("<Part>").count();
        if upload.parts.len() < wanted {
            return Answer::error(400, "InvalidPart", "One or more of the specified parts could not be found.");
        }
        let (said, _) = of_parts(upload.parts.values());
        let body = |e_tag: &str, more: &str| {
            format!("<CompleteMultipartUploadResult><ETag>\"{e_tag}\"</ETag>{more}</CompleteMultipartUploadResult>")
        };
        if ask.lies(Lie::Forgets) {
            state.uploads.remove(&id);
            return Answer::xml(200, body(&said, ""));
        }
        let upload = state.uploads.remove(&id).unwrap_or_else(|| unreachable!("it was found above"));
        let mut parts: Vec<Bytes> = upload.parts.into_values().collect();
        if ask.lies(Lie::Cuts) {
            parts.pop();
        }
        if let Some(last) = parts.last_mut().filter(|_| ask.lies(Lie::Flips)) {
            *last = disturbed(last, ask.lie);
        }
        let tags = of_parts(parts.iter());
        let whole: Bytes = parts.concat().into();
        let more = format!("<ChecksumSHA256>{}</ChecksumSHA256>", tags.1);
        // One that has lost a part says what it was asked for.
        let text = if ask.lies(Lie::Cuts) { body(&said, "") } else { body(&tags.0, &more) };
        let version = state.store(&ask.path, whole, tags, upload.metadata);
        let done = Answer::xml(200, text);
        if state.is_versioned { done.with("x-amz-version-id", version) } else { done }
    }
}

pub(super) fn abort(state: &mut State, ask: &Question) -> Answer {
    let id = ask.value("uploadId").unwrap_or_default();
    if ask.lies(Lie::Forgets) {
        return Answer::xml(204, "");
    }
    match state.uploads.remove(&id) {
        Some(_) => Answer::xml(204, ""),
        None => no_upload(),
    }
}

impl Shared {
    /// Reads or looks up an object, or a version of one.
    pub(super) fn read(&self, state: &State, ask: &Question) -> Answer {
        let object = match ask.value("versionId") {
            Some(id) => state.objects.get(&ask.path).and_then(|all| all.iter().find(|object| object.version == id)),
            None => state.newest(&ask.path),
        };
        let Some(object) = object else { return missing() };
        let e_tag = format!("\"{}\"", object.e_tag);
        if !self.ways.ignores_conditions && ask.head.header("if-match").is_some_and(|wanted| wanted != e_tag) {
            return Answer::error(412, "PreconditionFailed", "At least one of the preconditions did not hold.");
        }
        let size = object.bytes.len() as u64;
        if ask.lies(Lie::OutOfRange) && ask.head.header("range").is_some() {
            return Answer::error(416, "InvalidRange", "The requested range is not satisfiable");
        }
        let range = ask.head.header("range").and_then(|text| {
            let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
            Some(from.parse::<u64>().ok()?..to.parse::<u64>().map_or(size, |to| (to + 1).min(size)))
        });
        let mut answer = match range {
            Some(range) if range.start >= size => {
                return Answer::error(416, "InvalidRange", "The requested range is not satisfiable")
                    .with("Content-Range", format!("bytes */{size}"));
            }
            Some(range) => {
                let bytes = object.bytes.slice(range.start as usize..range.end as usize);
                Answer::xml(206, disturbed(&bytes, ask.lie))
                    .with("Content-Range", format!("bytes {}-{}/{size}", range.start, range.end - 1))
            }
            None => Answer::xml(200, disturbed(&object.bytes, ask.lie)),
        };
        answer = answer.with("ETag", e_tag).with("Last-Modified", http_date(object.modified));
        if ask.head.target().0 == "HEAD" {
            let said = if ask.lies(Lie::OtherSize) { size + 1000 } else { size };
            answer = answer.with("Content-Length", said.to_string());
        }
        if ask.head.header("x-amz-checksum-mode").is_some() {
            answer = answer.with("x-amz-checksum-sha256", sha256_of(object));
        }
        for (name, value) in &object.metadata {
            answer = answer.with(name, value);
        }
        if state.is_versioned { answer.with("x-amz-version-id", &object.version) } else { answer }
    }
}

/// The checksum of what is there now, of the kind that the object has.
fn sha256_of(object: &super::state::Object) -> String {
    if object.sha256.contains('-') { object.sha256.clone() } else { sha256(&object.bytes) }
}

pub(super) fn delete_one(state: &mut State, ask: &Question) -> Answer {
    if ask.lies(Lie::Forgets) {
        return Answer::xml(204, "");
    }
    match state.delete(&ask.path, ask.value("versionId").as_deref()) {
        Some(marker) => Answer::xml(204, "").with("x-amz-delete-marker", "true").with("x-amz-version-id", marker),
        None => Answer::xml(204, ""),
    }
}

pub(super) fn delete_several(state: &mut State, ask: &Question) -> Answer {
    let field = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let text = rest.split_once("</")?.0;
        Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
    };
    let text = String::from_utf8_lossy(&ask.body).into_owned();
    let mut said = String::new();
    for object in text.split("<Object>").skip(1) {
        let (key, id) = (field(object, "Key").unwrap_or_default(), field(object, "VersionId"));
        let mut more = id.as_ref().map(|id| format!("<VersionId>{id}</VersionId>")).unwrap_or_default();
        if !ask.lies(Lie::Forgets)
            && let Some(marker) = state.delete(&format!("{}/{key}", ask.path), id.as_deref())
        {
            more +=
                &format!("<DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>{marker}</DeleteMarkerVersionId>");
        }
        said += &format!("<Deleted><Key>{}</Key>{more}</Deleted>", xml(&key));
    }
    Answer::xml(200, format!("<DeleteResult>{said}</DeleteResult>"))
}
