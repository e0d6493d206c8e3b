//! What the store truly holds.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// A version of an object, or a delete marker.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    pub(super) modified: Timestamp,
    /// Without quotes.
    pub(super) e_tag: String,
    /// As `x-amz-checksum-sha256` has it.
    pub(super) sha256: String,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) version: String,
    pub(super) is_marker: bool,
}

/// A multipart upload that was begun.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) path: String,
    pub(super) begun: Timestamp,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) parts: BTreeMap<u32, Bytes>,
}

/// Objects by `bucket/key`, their versions oldest first; uploads by their ids.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) is_versioned: bool,
    pub(super) objects: BTreeMap<String, Vec<Object>>,
    pub(super) uploads: BTreeMap<String, Upload>,
    pub(super) made: u64,
}

/// An ETag as S3 makes them of what was sent whole: 32 digits.
pub(super) fn e_tag(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..16])
}

/// A SHA-256 as the checksum headers have it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(bytes))
}

/// ETag and SHA-256 of an object that was put together.
pub(super) fn of_parts<'a>(parts: impl Iterator<Item = &'a Bytes>) -> (String, String) {
    let (mut digests, mut count) = (Vec::new(), 0);
    for part in parts {
        digests.extend(Sha256::digest(part));
        count += 1;
    }
    (format!("{}-{count}", e_tag(&digests)), format!("{}-{count}", sha256(&digests)))
}

impl State {
    pub(super) fn id(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}{:06}", self.made)
    }

    /// What a plain read sees.
    pub(super) fn newest(&self, path: &str) -> Option<&Object> {
        self.objects.get(path)?.last().filter(|object| !object.is_marker)
    }

    /// Stores a version, and returns its id.
    pub(super) fn store(
        &mut self,
        path: &str,
        bytes: Bytes,
        tags: (String, String),
        metadata: Vec<(String, String)>,
    ) -> String {
        let version = if self.is_versioned { self.id("v") } else { "null".to_owned() };
        let (e_tag, sha256) = tags;
        let object = Object {
            bytes,
            modified: Timestamp::now(),
            e_tag,
            sha256,
            metadata,
            version: version.clone(),
            is_marker: false,
        };
        self.push(path, object);
        version
    }

    fn push(&mut self, path: &str, object: Object) {
        let versions = self.objects.entry(path.to_owned()).or_default();
        versions.retain(|other| other.version != object.version);
        versions.push(object);
    }

    /// Deletes a version, or hides or deletes the object. Returns the marker that was made.
    pub(super) fn delete(&mut self, path: &str, version: Option<&str>) -> Option<String> {
        match version {
            Some(id) => {
                if let Some(versions) = self.objects.get_mut(path) {
                    versions.retain(|object| object.version != id);
                    if versions.is_empty() {
                        self.objects.remove(path);
                    }
                }
                None
            }
            None if self.is_versioned => {
                let marker = self.store(path, Bytes::new(), (String::new(), String::new()), Vec::new());
                if let Some(object) = self.objects.get_mut(path).and_then(|versions| versions.last_mut()) {
                    object.is_marker = true;
                }
                Some(marker)
            }
            None => {
                self.objects.remove(path);
                None
            }
        }
    }
}
