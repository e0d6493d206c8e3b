//! Listing through requests of our own: `object_store` refuses a whole page for one key that is no path (`a//b`), and
//! cuts the slash off one that ends with it.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use lifeboat_core::name::join_key;
use lifeboat_core::{ObjectInfo, Result};
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpRequest, HttpRequestBody};
use serde::Deserialize;
use url::form_urlencoded;

use super::Store;
use super::failure::{Action, chain};
use crate::{address, key};

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
            let page = store.pacing.run(|| store.page(&prefix, token.as_deref())).await?;
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
        let full = join_key(&self.base, prefix);
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(token.map(|token| ("continuation-token", token)))
            .append_pair("encoding-type", "url")
            .append_pair("list-type", "2")
            .append_pair("prefix", &full)
            .finish();
        self.ask(&query, &subject).await
    }

    /// The unfinished uploads of exactly this key, each with the time at which it was begun. Stores list them reliably only
    /// when the prefix is the whole key.
    pub(super) async fn uploads_of(&self, key: &str) -> Result<Vec<(String, Timestamp)>> {
        let subject = self.place_of(key);
        let full = join_key(&self.base, key);
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("prefix", &full)
            .append_pair("uploads", "")
            .finish();
        let found: Uploads = self.pacing.run(|| self.ask(&query, &subject)).await?;
        let ours = found.upload.into_iter().filter(|upload| upload.key == full);
        // A time that cannot be read is no reason to abort something.
        Ok(ours.filter_map(|upload| Some((upload.upload_id, upload.initiated.parse().ok()?))).collect())
    }

    /// Sends a signed question about the bucket, and reads the answer.
    async fn ask<T: serde::de::DeserializeOwned>(&self, query: &str, subject: &str) -> Result<T> {
        let from_store = |error| self.place.store_error(Action::List, subject, error);
        let uri = format!("{}?{query}", self.bucket_url);
        let strange = |why: &dyn std::fmt::Display| self.place.strange_answer(Action::List, subject, why);
        let mut request: HttpRequest =
            http::Request::get(uri).body(HttpRequestBody::empty()).map_err(|e| strange(&e))?;
        let credential = self.store.credentials().get_credential().await.map_err(from_store)?;
        AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(&mut request, None).map_err(from_store)?;
        let failed = |error| from_store(object_store::Error::Generic { store: "S3", source: Box::new(error) });
        let response = self.client.execute(request).await.map_err(failed)?;
        let body = match tokio::time::timeout(self.pacing.retry().stall, response.into_body().bytes()).await {
            Ok(body) => body.map_err(failed)?,
            Err(_) => {
                let failure = super::failure::Failure::Stalled(self.pacing.retry().stall);
                return Err(self.place.error(Action::List, subject, failure));
            }
        };
        let text = std::str::from_utf8(&body).map_err(|e| strange(&e))?;
        quick_xml::de::from_str(text).map_err(|e| strange(&chain(&e)))
    }

    /// The object of an entry; `None` for one that a listing leaves out.
    fn object(&self, entry: Entry, encoded: bool, prefix: &str) -> Result<Option<ObjectInfo>> {
        let strange = |why: String| Err(self.place.strange_answer(Action::List, &self.place_of(prefix), why));
        let full = if encoded { address::decode(&entry.key.replace('+', " ")) } else { Some(entry.key) };
        let Some(full) = full else { return strange("a key is no UTF-8 text".to_owned()) };
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
            return strange(format!("\"{}\" is no time", entry.last_modified));
        };
        Ok(Some(ObjectInfo { key: key.to_owned(), bytes: entry.size, modified }))
    }
}
