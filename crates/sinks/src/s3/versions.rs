//! Versions: whether the bucket keeps them, which ones a key has, and which keys are only hidden.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use http::Method;
use jiff::Timestamp;
use lifeboat_core::sink::Hidden;
use lifeboat_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use super::Store;
use super::failure::{Action, is_answer};
use super::list::{Course, decode};
use super::request::{Document, Request};
use crate::key;

/// What a bucket does with overwritten or deleted objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versioning {
    /// It is gone.
    Never,
    /// It becomes an older version.
    Enabled,
    /// Versions were kept once: older ones may be there.
    Suspended,
    /// This key may not ask.
    Unknown,
}

/// One version of a key, or a delete marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The key, relative to the sink.
    pub(super) key: String,
    pub(super) id: String,
    pub(super) bytes: u64,
    pub(super) modified: Timestamp,
    /// A delete marker: it hides the key when it is the latest.
    pub(super) marker: bool,
    pub(super) latest: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    #[serde(default)]
    status: String,
}

impl Document for Configuration {
    const ROOT: &'static str = "VersioningConfiguration";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    version: Vec<Entry>,
    #[serde(default)]
    delete_marker: Vec<Entry>,
    next_key_marker: Option<String>,
    next_version_id_marker: Option<String>,
    #[serde(default)]
    encoding_type: Option<String>,
    is_truncated: bool,
}

impl Document for Page {
    const ROOT: &'static str = "ListVersionsResult";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    key: String,
    #[serde(default)]
    version_id: String,
    #[serde(default)]
    size: u64,
    last_modified: String,
    #[serde(default)]
    is_latest: bool,
}

/// Which page of a listing of versions to ask for.
#[derive(PartialEq, Eq)]
enum Next {
    First,
    /// After this version of this key.
    After(String, Option<String>),
    Done,
}

/// A listing of versions on its way.
struct Walk {
    store: Arc<Store>,
    action: Action,
    prefix: String,
    course: Course,
    /// The versions of the last key that have come.
    ids: HashSet<String>,
}

impl Walk {
    async fn page(&mut self, next: Next) -> Result<(Vec<Version>, Next)> {
        let (store, action) = (self.store.clone(), self.action);
        let subject = store.place_of(&self.prefix);
        let strange = |why: String| store.place.strange_answer(action, &subject, why);
        let question = Request::bucket(action, &subject, Method::GET)
            .query("encoding-type", "url")
            .query("prefix", &store.full_key(&self.prefix))
            .query("versions", "");
        let question = match &next {
            Next::After(key, None) => question.query("key-marker", key),
            Next::After(key, Some(id)) => question.query("key-marker", key).query("version-id-marker", id),
            _ => question,
        };
        let page: Page = store.ask(question).await?;
        let encoded = page.encoding_type.as_deref() == Some("url");
        let mut versions = Vec::with_capacity(page.version.len() + page.delete_marker.len());
        for (entries, marker) in [(page.version, false), (page.delete_marker, true)] {
            for entry in entries {
                versions.push(version(entry, marker, encoded).map_err(&strange)?);
            }
        }
        // Two lists, each in order, of one list that was. The sort is stable.
        versions.sort_by(|a, b| a.key.cmp(&b.key).then(b.latest.cmp(&a.latest)).then(b.modified.cmp(&a.modified)));
        for version in &mut versions {
            if self.course.last() != Some(version.key.as_str()) {
                self.ids.clear();
            }
            self.course.take(&version.key, true).map_err(&strange)?;
            if !self.ids.insert(version.id.clone()) {
                return Err(strange(format!("it lists the version {} of \"{}\" twice", version.id, version.key)));
            }
            let Some(key) = store.key_in_sink(&version.key) else {
                return Err(strange(format!("it lists \"{}\", which was not asked for", version.key)));
            };
            version.key = key.to_owned();
        }
        if !page.is_truncated {
            return Ok((versions, Next::Done));
        }
        self.course.page(versions.len()).map_err(&strange)?;
        let marker = page
            .next_key_marker
            .filter(|marker| !marker.is_empty())
            .ok_or_else(|| strange("it says that the listing goes on, but not where (no NextKeyMarker)".to_owned()))?;
        let marker = decode(marker, encoded).ok_or_else(|| strange("a key is not UTF-8 text".to_owned()))?;
        let after = Next::After(marker, page.next_version_id_marker.filter(|id| !id.is_empty()));
        if after == next {
            return Err(strange("it names the page it has just sent as the next one".to_owned()));
        }
        Ok((versions, after))
    }
}

/// A version with its key in the bucket.
fn version(entry: Entry, marker: bool, encoded: bool) -> Result<Version, String> {
    let modified: Timestamp =
        entry.last_modified.parse().map_err(|_| format!("\"{}\" is not a time", entry.last_modified))?;
    Ok(Version {
        key: decode(entry.key, encoded).ok_or("a key is not UTF-8 text")?,
        id: entry.version_id,
        bytes: entry.size,
        modified,
        marker,
        latest: entry.is_latest,
    })
}

impl Store {
    /// What the bucket does with deleted objects; asked once.
    pub(super) async fn versioning(&self) -> Result<Versioning> {
        if self.place.profile.delete_hides {
            return Ok(Versioning::Enabled);
        }
        self.known.versioning.get_or_try_init(|| self.ask_versioning()).await.copied()
    }

    pub(super) async fn ask_versioning(&self) -> Result<Versioning> {
        let question = Request::bucket(Action::ReadSettings, &self.url, Method::GET).query("versioning", "");
        match self.ask::<Configuration>(question).await {
            Ok(configuration) => Ok(match configuration.status.as_str() {
                "Enabled" => Versioning::Enabled,
                "Suspended" => Versioning::Suspended,
                _ => Versioning::Never,
            }),
            Err(error) if error.kind() == ErrorKind::Permission => Ok(Versioning::Unknown),
            // A store that does not know the question has no versions.
            Err(error) if is_answer(&error, 501) || is_answer(&error, 400) || is_answer(&error, 405) => {
                Ok(Versioning::Never)
            }
            Err(error) => Err(error),
        }
    }

    /// Every version and delete marker under `prefix`, page by page: keys in ascending order, the newest version of each
    /// first.
    pub(super) fn versions(self: Arc<Self>, action: Action, prefix: String) -> BoxStream<'static, Result<Version>> {
        let walk =
            Walk { course: Course::new(self.full_key(&prefix)), store: self, action, prefix, ids: HashSet::new() };
        stream::try_unfold((walk, Next::First), |(mut walk, next)| async move {
            match next {
                Next::Done => Ok(None),
                next => {
                    let (versions, next) = walk.page(next).await?;
                    Ok::<_, Error>(Some((versions, (walk, next))))
                }
            }
        })
        .map_ok(|versions| stream::iter(versions.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
    }

    /// Every version and delete marker of exactly this key, the newest first.
    pub(super) async fn versions_of(self: &Arc<Self>, action: Action, key: &str) -> Result<Vec<Version>> {
        let mut found = Vec::new();
        let mut versions = self.clone().versions(action, key.to_owned());
        while let Some(version) = versions.try_next().await? {
            // A key comes before every longer one that starts with it.
            if version.key != key {
                break;
            }
            found.push(version);
        }
        Ok(found)
    }

    /// Keys with only hidden versions left.
    pub(super) fn hidden(self: Arc<Self>, prefix: String) -> BoxStream<'static, Result<Hidden>> {
        let begun = async move {
            if self.versioning().await? == Versioning::Never {
                return Ok(stream::empty().boxed());
            }
            let left_out = prefix.clone();
            let versions = self.versions(Action::ListVersions, prefix);
            let visible = versions.try_filter(move |v| {
                let shown = !key::is_left_out(&v.key, &left_out);
                futures::future::ready(shown)
            });
            Ok(grouped(visible.fuse().boxed()))
        };
        stream::once(begun).try_flatten().boxed()
    }
}

/// One item for each key whose latest version is a delete marker.
fn grouped(versions: BoxStream<'static, Result<Version>>) -> BoxStream<'static, Result<Hidden>> {
    struct Group {
        hidden: Hidden,
        is_hidden: bool,
    }
    stream::try_unfold((versions, None::<Group>), |(mut versions, mut group)| async move {
        loop {
            let next = versions.try_next().await?;
            let ended = next.is_none();
            let same = next.as_ref().zip(group.as_ref()).is_some_and(|(v, g)| v.key == g.hidden.key);
            let done = if same { None } else { group.take() };
            if let Some(version) = next {
                let group = group.get_or_insert_with(|| Group {
                    hidden: Hidden::new(version.key.clone(), 0, version.modified),
                    is_hidden: false,
                });
                group.hidden.bytes += version.bytes;
                if version.latest && version.marker {
                    group.is_hidden = true;
                    group.hidden.since = version.modified;
                }
            }
            if let Some(done) = done.filter(|g| g.is_hidden) {
                return Ok(Some((done.hidden, (versions, group))));
            }
            if ended {
                return Ok(None);
            }
        }
    })
    .boxed()
}
