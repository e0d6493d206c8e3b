//! Listing through requests of our own: `object_store` refuses a whole page for one key that is no path (`a//b`), and
//! cuts the slash off one that ends with it.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use http::Method;
use jiff::Timestamp;
use lifeboat_core::{ObjectInfo, Result};
use serde::Deserialize;

use super::Store;
use super::failure::Action;
use super::request::{Document, Request};
use crate::{address, key};

/// A key of a listing, which S3 encodes as in a query when it is asked to.
pub(super) fn decode(key: String, encoded: bool) -> Option<String> {
    if encoded { address::decode(&key.replace('+', " ")) } else { Some(key) }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    contents: Vec<Entry>,
    next_continuation_token: Option<String>,
    /// Only an answer of the first version of the listing has it.
    marker: Option<String>,
    key_count: Option<u64>,
    #[serde(default)]
    encoding_type: Option<String>,
    /// Required: a listing's end is stated, never inferred.
    is_truncated: bool,
}

impl Document for Page {
    const ROOT: &'static str = "ListBucketResult";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    key: String,
    size: u64,
    last_modified: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Uploads {
    #[serde(default)]
    upload: Vec<UploadEntry>,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    is_truncated: bool,
}

impl Document for Uploads {
    const ROOT: &'static str = "ListMultipartUploadsResult";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadEntry {
    key: String,
    upload_id: String,
    initiated: String,
}

/// How many empty pages may follow each other. Stores send some where much was deleted.
const MOST_EMPTY_PAGES: u32 = 1000;

/// What a listing has shown so far: whether it makes progress and stays where it was asked to.
pub(super) struct Course {
    /// Every key in the bucket starts with it.
    prefix: String,
    last: Option<String>,
    empty_pages: u32,
}

impl Course {
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix, last: None, empty_pages: 0 }
    }

    /// Takes the next key as it is in the bucket. With `again`, the same one may come several times in a row.
    ///
    /// # Errors
    /// What is wrong with it: it was not asked for, or does not come after the last one. Merging such listings would lose
    /// objects, and a page that comes twice replaces one that is missing.
    pub(super) fn take(&mut self, key: &str, again: bool) -> Result<(), String> {
        if !key.starts_with(&self.prefix) {
            return Err(format!("it lists \"{key}\", which was not asked for"));
        }
        match self.last.as_deref() {
            // S3's directory buckets do.
            Some(last) if last > key => {
                Err(format!("it does not list keys in ascending order: \"{key}\" comes after \"{last}\""))
            }
            Some(last) if last == key && !again => Err(format!("it lists \"{key}\" twice")),
            Some(last) if last == key => Ok(()),
            _ => {
                self.last = Some(key.to_owned());
                Ok(())
            }
        }
    }

    /// Takes the end of a page of this many keys, after which another page follows.
    ///
    /// # Errors
    /// No more keys come, but the listing does not end.
    pub(super) fn page(&mut self, keys: usize) -> Result<(), String> {
        self.empty_pages = if keys == 0 { self.empty_pages + 1 } else { 0 };
        if self.empty_pages > MOST_EMPTY_PAGES {
            return Err(format!("it sends {MOST_EMPTY_PAGES} empty pages in a row without an end"));
        }
        Ok(())
    }

    /// The last key that came.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }
}

/// Which page of a listing to ask for.
enum Next {
    First,
    /// After the page that named this token.
    Token(String),
    /// After this key of the bucket, from a store that answers with the first version of the listing.
    Marker(String),
    Done,
}

impl Store {
    /// Every object under `prefix`, page by page.
    pub(super) fn list(self: Arc<Self>, prefix: String) -> BoxStream<'static, Result<ObjectInfo>> {
        let course = Course::new(self.full_key(&prefix));
        let pages =
            stream::try_unfold((self, prefix, course, Next::First), |(store, prefix, mut course, next)| async move {
                if matches!(next, Next::Done) {
                    return Ok(None);
                }
                let page = store.page(&prefix, &next).await?;
                let strange = |why: String| store.place.strange_answer(Action::List, &store.place_of(&prefix), why);
                let encoded = page.encoding_type.as_deref() == Some("url");
                let listed = page.contents.len();
                if page.key_count.is_some_and(|count| count > listed as u64) {
                    return Err(strange(format!(
                        "it counts {} keys but sends {listed}",
                        page.key_count.unwrap_or_default()
                    )));
                }
                let mut objects = Vec::with_capacity(listed);
                for entry in page.contents {
                    let key = decode(entry.key.clone(), encoded)
                        .ok_or_else(|| strange("a key is not UTF-8 text".to_owned()))?;
                    course.take(&key, false).map_err(strange)?;
                    objects.extend(store.object(key, entry, &prefix)?);
                }
                let next = if page.is_truncated {
                    course.page(listed).map_err(strange)?;
                    let token = page.next_continuation_token.filter(|token| !token.is_empty());
                    match (token, &next) {
                        (Some(token), Next::Token(before)) if token == *before => {
                            return Err(strange("it names the page it has just sent as the next one".to_owned()));
                        }
                        (Some(token), _) => Next::Token(token),
                        (None, Next::Marker(_)) | (None, Next::First) if page.marker.is_some() && listed > 0 => {
                            Next::Marker(course.last().unwrap_or_default().to_owned())
                        }
                        (None, _) => {
                            let why = "it says that the listing goes on, but not where (no NextContinuationToken)";
                            return Err(strange(why.to_owned()));
                        }
                    }
                } else {
                    Next::Done
                };
                Ok::<_, lifeboat_core::Error>(Some((objects, (store, prefix, course, next))))
            });
        pages.map_ok(|objects| stream::iter(objects.into_iter().map(Ok))).try_flatten().boxed()
    }

    async fn page(&self, prefix: &str, next: &Next) -> Result<Page> {
        let subject = self.place_of(prefix);
        let question = Request::bucket(Action::List, &subject, Method::GET);
        let question = match next {
            Next::Token(token) => question.query("continuation-token", token),
            _ => question,
        };
        let question = question.query("encoding-type", "url");
        let question = match next {
            Next::Marker(key) => question.query("marker", key),
            _ => question.query("list-type", "2"),
        };
        self.ask(question.query("prefix", &self.full_key(prefix))).await
    }

    /// The unfinished uploads of exactly this key, each with the time at which it was begun. Stores list them reliably only
    /// when the prefix is the whole key.
    pub(super) async fn uploads_of(&self, key: &str) -> Result<Vec<(String, Timestamp)>> {
        let subject = self.place_of(key);
        let full = self.full_key(key);
        let strange = |why: &str| self.place.strange_answer(Action::ListUploads, &subject, why);
        let mut found = Vec::new();
        let mut after: Option<(String, String)> = None;
        let mut course = Course::new(full.clone());
        loop {
            let question = Request::bucket(Action::ListUploads, &subject, Method::GET);
            let question = match &after {
                Some((key, _)) => question.query("key-marker", key),
                None => question,
            };
            let question = question.query("prefix", &full);
            let question = match &after {
                Some((_, id)) => question.query("upload-id-marker", id),
                None => question,
            };
            let page: Uploads = self.ask(question.query("uploads", "")).await?;
            course.page(page.upload.len()).map_err(|why| strange(&why))?;
            for upload in page.upload.into_iter().filter(|upload| upload.key == full) {
                // A time that cannot be read is no reason to abort something.
                if let Ok(begun) = upload.initiated.parse() {
                    found.push((upload.upload_id, begun));
                }
            }
            if !page.is_truncated {
                return Ok(found);
            }
            // Other keys that start with this one come after it.
            if page.next_key_marker.as_deref().is_some_and(|next| next > full.as_str()) {
                return Ok(found);
            }
            let next = page.next_key_marker.zip(Some(page.next_upload_id_marker.unwrap_or_default()));
            let Some(next) = next.filter(|(key, _)| !key.is_empty()) else {
                return Err(strange("it says that the listing goes on, but not where (no NextKeyMarker)"));
            };
            if after.as_ref() == Some(&next) {
                return Err(strange("it names the page it has just sent as the next one"));
            }
            after = Some(next);
        }
    }

    /// The object of an entry, which has this key in the bucket; `None` for one that a listing leaves out.
    fn object(&self, full: String, entry: Entry, prefix: &str) -> Result<Option<ObjectInfo>> {
        let strange = |why: String| Err(self.place.strange_answer(Action::List, &self.place_of(prefix), why));
        let Some(key) = self.key_in_sink(&full) else {
            return strange(format!("it lists \"{full}\", which was not asked for"));
        };
        // Consoles make an empty object with a slash at its end to show a folder.
        if key::is_left_out(key, prefix) || key.is_empty() || (key.ends_with('/') && entry.size == 0) {
            return Ok(None);
        }
        let Ok(modified) = entry.last_modified.parse::<Timestamp>() else {
            return strange(format!("\"{}\" is not a time", entry.last_modified));
        };
        Ok(Some(ObjectInfo::new(key, entry.size, modified)))
    }

    /// A key of the bucket, relative to the sink. `None` when it is not below the sink.
    pub(super) fn key_in_sink<'a>(&self, full: &'a str) -> Option<&'a str> {
        match self.base.as_str() {
            "" => Some(full),
            base => full.strip_prefix(base)?.strip_prefix('/'),
        }
    }
}
