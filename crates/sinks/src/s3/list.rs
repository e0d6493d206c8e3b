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
use super::request::Request;
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
    #[serde(default)]
    encoding_type: Option<String>,
    #[serde(default)]
    is_truncated: bool,
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
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadEntry {
    key: String,
    upload_id: String,
    initiated: String,
}

impl Store {
    /// Every object under `prefix`, page by page.
    pub(super) fn list(self: Arc<Self>, prefix: String) -> BoxStream<'static, Result<ObjectInfo>> {
        enum Next {
            First,
            After(String),
            Done,
        }
        let pages = stream::try_unfold((self, prefix, Next::First), |(store, prefix, next)| async move {
            let token = match next {
                Next::First => None,
                Next::After(token) => Some(token),
                Next::Done => return Ok(None),
            };
            let page = store.page(&prefix, token.as_deref()).await?;
            let next = match page.next_continuation_token {
                Some(token) if page.is_truncated => Next::After(token),
                _ => Next::Done,
            };
            let encoded = page.encoding_type.as_deref() == Some("url");
            let mut objects = Vec::with_capacity(page.contents.len());
            for entry in page.contents {
                if let Some(object) = store.object(entry, encoded, &prefix)? {
                    objects.push(object);
                }
            }
            Ok::<_, lifeboat_core::Error>(Some((objects, (store, prefix, next))))
        });
        let mut last: Option<String> = None;
        pages
            .map_ok(|objects| stream::iter(objects.into_iter().map(Ok)))
            .try_flatten()
            .map(move |object| {
                let object = object?;
                if last.as_ref().is_some_and(|last| *last >= object.key) {
                    // S3's directory buckets do. Whoever merges two listings would lose objects.
                    return Err(lifeboat_core::Error::new(
                        lifeboat_core::ErrorKind::Unsupported,
                        "list",
                        &object.key,
                        "the store does not list keys in ascending order",
                    ));
                }
                last = Some(object.key.clone());
                Ok(object)
            })
            .boxed()
    }

    async fn page(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        let subject = self.place_of(prefix);
        let question = Request::bucket(Action::List, &subject, Method::GET);
        let question = match token {
            Some(token) => question.query("continuation-token", token),
            None => question,
        };
        let question = question.query("encoding-type", "url").query("list-type", "2");
        self.ask(question.query("prefix", &self.full_key(prefix))).await
    }

    /// The unfinished uploads of exactly this key, each with the time at which it was begun. Stores list them reliably only
    /// when the prefix is the whole key.
    pub(super) async fn uploads_of(&self, key: &str) -> Result<Vec<(String, Timestamp)>> {
        let subject = self.place_of(key);
        let full = self.full_key(key);
        let question = Request::bucket(Action::ListUploads, &subject, Method::GET);
        let found: Uploads = self.ask(question.query("prefix", &full).query("uploads", "")).await?;
        let ours = found.upload.into_iter().filter(|upload| upload.key == full);
        // A time that cannot be read is no reason to abort something.
        Ok(ours.filter_map(|upload| Some((upload.upload_id, upload.initiated.parse().ok()?))).collect())
    }

    /// The object of an entry; `None` for one that a listing leaves out.
    fn object(&self, entry: Entry, encoded: bool, prefix: &str) -> Result<Option<ObjectInfo>> {
        let strange = |why: String| Err(self.place.strange_answer(Action::List, &self.place_of(prefix), why));
        let Some(full) = decode(entry.key, encoded) else { return strange("a key is not UTF-8 text".to_owned()) };
        let key = match self.base.as_str() {
            "" => full.as_str(),
            base => match full.strip_prefix(base).and_then(|k| k.strip_prefix('/')) {
                Some(key) => key,
                None => return strange(format!("it lists \"{full}\", which was not asked for")),
            },
        };
        // Consoles make an empty object with a slash at its end to show a folder.
        if key::is_left_out(key, prefix) || key.is_empty() || (key.ends_with('/') && entry.size == 0) {
            return Ok(None);
        }
        let Ok(modified) = entry.last_modified.parse::<Timestamp>() else {
            return strange(format!("\"{}\" is not a time", entry.last_modified));
        };
        Ok(Some(ObjectInfo { key: key.to_owned(), bytes: entry.size, modified }))
    }
}
