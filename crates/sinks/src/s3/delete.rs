//! Deletion that frees the space: if the bucket keeps versions, every version of these keys and no others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{StreamExt, TryStreamExt};
use http::Method;
use lifeboat_core::sink::{Deleted, Held};
use lifeboat_core::{ErrorKind, Result};
use object_store::PutPayload;
use serde::Deserialize;

use super::Store;
use super::adapt::is_unknown;
use super::failure::{Action, is_answer, says_missing};
use super::request::{Body, Document, Request, xml_text};
use super::versions::{Version, Versioning};
use crate::key;

/// Listings of versions that are read in parallel.
const SIDE_BY_SIDE: usize = 8;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    deleted: Vec<Gone>,
    #[serde(default)]
    error: Vec<Refused>,
}

impl Document for Answer {
    const ROOT: &'static str = "DeleteResult";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Gone {
    key: String,
    #[serde(default)]
    version_id: Option<String>,
    #[serde(default)]
    delete_marker: bool,
    #[serde(default)]
    delete_marker_version_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refused {
    key: String,
    #[serde(default)]
    version_id: Option<String>,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Something to delete: a key, or one version of it.
type Target = (String, Option<String>);

/// The results for the targets of some requests.
#[derive(Default)]
struct Outcome {
    gone: HashSet<Target>,
    /// Keys for which the store says that a delete marker was made: the bucket keeps versions.
    hidden: BTreeSet<String>,
    refused: HashMap<Target, Refusal>,
}

/// Why the store did not delete an object.
struct Refusal {
    /// A right is missing, or something holds it: stores do not say which.
    denied: bool,
    why: String,
}

pub(super) async fn delete(store: &Arc<Store>, keys: &[String]) -> Result<Deleted> {
    let mut deleted = Deleted::default();
    let mut valid = BTreeSet::new();
    for key in keys {
        match key::check(Action::Delete.verb(), key) {
            Ok(()) => drop(valid.insert(key.clone())),
            Err(error) => deleted.failed.push((key.clone(), error.to_string())),
        }
    }
    if valid.is_empty() {
        return Ok(deleted);
    }
    match store.versioning().await? {
        Versioning::Never => {
            let hidden = plainly(store, valid, &mut deleted).await?;
            if !hidden.is_empty() {
                // Versioning was switched on since it was asked for.
                deleted.keys.retain(|key| !hidden.contains(key));
                of_versions(store, hidden, &mut deleted).await?;
            }
        }
        _ => of_versions(store, valid, &mut deleted).await?,
    }
    // In the order in which they were asked for.
    let gone: HashSet<String> = deleted.keys.drain(..).collect();
    let mut seen = HashSet::new();
    deleted.keys = keys.iter().filter(|key| gone.contains(*key) && seen.insert(*key)).cloned().collect();
    Ok(deleted)
}

/// Deletes these versions of a key. Returns why one of them stays.
pub(super) async fn versions(store: &Arc<Store>, key: &str, ids: Vec<String>) -> Result<Option<String>> {
    let targets: Vec<Target> = ids.into_iter().map(|id| (key.to_owned(), Some(id))).collect();
    Ok(in_bulk(store, &targets).await?.refused.into_values().next().map(|refusal| refusal.why))
}

/// Deletes keys without their versions. Returns those that the store has only hidden; they are among the deleted ones.
async fn plainly(store: &Arc<Store>, keys: BTreeSet<String>, deleted: &mut Deleted) -> Result<BTreeSet<String>> {
    let targets: Vec<Target> = keys.into_iter().map(|key| (key, None)).collect();
    let outcome = in_bulk(store, &targets).await?;
    let gone: Vec<String> = outcome.gone.into_iter().map(|(key, _)| key).collect();
    let stay = still_there(store, gone.clone()).await?;
    deleted.keys.extend(gone.into_iter().filter(|key| !stay.contains(key)));
    deleted.failed.extend(stay.into_iter().map(|key| (key, STAYS.to_owned())));
    deleted.failed.extend(outcome.refused.into_iter().map(|((key, _), refusal)| (key, refusal.why)));
    Ok(outcome.hidden)
}

/// Hides keys, because this identity may do no more, and says so.
async fn hide(store: &Arc<Store>, keys: BTreeSet<String>, deleted: &mut Deleted) -> Result<()> {
    let hidden = plainly(store, keys, deleted).await?;
    if !hidden.is_empty() {
        deleted.bytes.get_or_insert(0);
        let rights = &store.place.profile.rights;
        let (list, delete) = (rights.list_versions, rights.delete_version);
        let rights = if list == delete { list.to_owned() } else { format!("{list} and {delete}") };
        let note = format!(
            "{} keeps versions, and the key may not delete them: what was deleted is only hidden, and its space is not \
             freed. Give the key {rights}, then prune orphans to remove the hidden versions",
            store.url
        );
        if !deleted.notes.contains(&note) {
            deleted.notes.push(note);
        }
    }
    Ok(())
}

/// Deletes every version of these keys.
async fn of_versions(store: &Arc<Store>, keys: BTreeSet<String>, deleted: &mut Deleted) -> Result<()> {
    if store.known.versions_denied.load(Ordering::Relaxed) {
        return hide(store, keys, deleted).await;
    }
    let versions = match versions_of(store, &keys).await {
        Ok(versions) => versions,
        Err(error) if error.kind() == ErrorKind::Permission => {
            tracing::debug!(%error, "versions cannot be listed");
            store.known.versions_denied.store(true, Ordering::Relaxed);
            return hide(store, keys, deleted).await;
        }
        Err(error) => return Err(error),
    };
    let target = |v: &Version| (v.key.clone(), Some(v.id.clone()));
    // The oldest first, so that what can be seen goes last.
    let data: Vec<Target> = versions.iter().rev().filter(|v| !v.marker).map(target).collect();
    let mut outcome = match in_bulk(store, &data).await {
        // Some stores refuse the whole request, and not each version.
        Err(error) if error.kind() == ErrorKind::Permission => return hide(store, keys, deleted).await,
        outcome => outcome?,
    };
    let stuck: BTreeSet<String> = outcome.refused.keys().map(|(key, _)| key.clone()).collect();
    // The marker that hides a version which must stay, stays: without it the version would be seen again.
    let markers: Vec<Target> = versions.iter().filter(|v| v.marker && !stuck.contains(&v.key)).map(target).collect();
    let of_markers = in_bulk(store, &markers).await?;
    outcome.gone.extend(of_markers.gone);
    outcome.refused.extend(of_markers.refused);
    for target in versions_that_stay(store, &keys, &outcome.gone).await? {
        outcome.gone.remove(&target);
        outcome.refused.insert(target, Refusal { denied: false, why: STAYS.to_owned() });
    }

    let freed: u64 = versions.iter().filter(|v| outcome.gone.contains(&target(v))).map(|v| v.bytes).sum();
    deleted.bytes = Some(deleted.bytes.unwrap_or(0) + freed);
    let mut refused: BTreeMap<String, Vec<(Option<String>, Refusal)>> = BTreeMap::new();
    for ((key, id), refusal) in outcome.refused {
        refused.entry(key).or_default().push((id, refusal));
    }
    deleted.keys.extend(keys.into_iter().filter(|key| !refused.contains_key(key)));

    let mut without_right = BTreeSet::new();
    for (key, versions) in refused {
        let mut hold = None;
        for (id, _) in &versions {
            match store.hold_of(&key, id.as_deref()).await {
                Ok(held) => hold = longer(hold, held),
                Err(error) => tracing::debug!(%error, "cannot ask what holds the object"),
            }
        }
        match hold {
            Some(held) => deleted.held.push(held),
            None if versions.iter().all(|(_, refusal)| refusal.denied) => {
                without_right.insert(key);
            }
            None => {
                let why = versions.into_iter().next().map(|(_, refusal)| refusal.why).unwrap_or_default();
                deleted.failed.push((key, why));
            }
        }
    }
    if without_right.is_empty() { Ok(()) } else { hide(store, without_right, deleted).await }
}

/// The versions that the store says are gone but still lists.
async fn versions_that_stay(
    store: &Arc<Store>,
    keys: &BTreeSet<String>,
    gone: &HashSet<Target>,
) -> Result<Vec<Target>> {
    let of_gone: HashSet<&str> = gone.iter().map(|(key, _)| key.as_str()).collect();
    let mut keys: BTreeSet<String> = keys.iter().filter(|key| of_gone.contains(key.as_str())).cloned().collect();
    let mut pause = store.pacing.retry().first;
    for look in 1..=LOOKS {
        let listed = versions_of(store, &keys).await?;
        let stay: Vec<Target> =
            listed.into_iter().map(|v| (v.key, Some(v.id))).filter(|target| gone.contains(target)).collect();
        if stay.is_empty() || look == LOOKS {
            return Ok(stay);
        }
        keys = stay.into_iter().map(|(key, _)| key).collect();
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(Vec::new())
}

/// The hold that ends later; one without an end never does.
fn longer(a: Option<Held>, b: Option<Held>) -> Option<Held> {
    let rank = |held: &Option<Held>| held.as_ref().map(|h| (h.until.is_none(), h.until));
    if rank(&a) >= rank(&b) { a } else { b }
}

/// Every version of these keys. Keys of which one starts the next are read in one listing.
async fn versions_of(store: &Arc<Store>, keys: &BTreeSet<String>) -> Result<Vec<Version>> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    for key in keys {
        match groups.last_mut() {
            Some(group) if key.starts_with(&group[0]) => group.push(key.clone()),
            _ => groups.push(vec![key.clone()]),
        }
    }
    let mut read = futures::stream::iter(groups)
        .map(|group| {
            let store = store.clone();
            async move {
                let mut found = Vec::new();
                let last = group.last().cloned().unwrap_or_default();
                let mut versions = store.versions(Action::ListVersions, group[0].clone());
                while let Some(version) = versions.try_next().await? {
                    if version.key > last {
                        break;
                    }
                    if group.binary_search(&version.key).is_ok() {
                        found.push(version);
                    }
                }
                Ok::<_, lifeboat_core::Error>(found)
            }
        })
        .buffered(SIDE_BY_SIDE);
    let mut all = Vec::new();
    while let Some(found) = read.try_next().await? {
        all.extend(found);
    }
    Ok(all)
}

/// Deletes targets, as many in one request as the store accepts. What the store says is gone is not checked here.
async fn in_bulk(store: &Arc<Store>, targets: &[Target]) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for page in targets.chunks(store.place.profile.most_deletes) {
        if store.known.deletes_one_by_one.load(Ordering::Relaxed) {
            one_by_one(store, page, &mut outcome).await?;
            continue;
        }
        let answer: Answer = match in_one_request(store, page).await {
            Err(error) if is_unknown(&error) => {
                tracing::info!(%error, "the store deletes one object at a time");
                store.known.deletes_one_by_one.store(true, Ordering::Relaxed);
                one_by_one(store, page, &mut outcome).await?;
                continue;
            }
            answer => answer?,
        };
        let asked: HashMap<(String, Option<&str>), &Target> =
            page.iter().map(|target| ((store.full_key(&target.0), target.1.as_deref()), target)).collect();
        let find = |key: &str, id: Option<&str>| {
            let id = id.filter(|id| !id.is_empty());
            asked.get(&(key.to_owned(), id)).or_else(|| asked.get(&(key.to_owned(), None))).copied().cloned()
        };
        for gone in answer.deleted {
            let Some(target) = find(&gone.key, gone.version_id.as_deref()) else { continue };
            if target.1.is_none()
                && (gone.delete_marker || gone.delete_marker_version_id.is_some_and(|id| !id.is_empty()))
            {
                outcome.hidden.insert(target.0.clone());
            }
            outcome.gone.insert(target);
        }
        for refused in answer.error {
            let Some(target) = find(&refused.key, refused.version_id.as_deref()) else { continue };
            // Whatever else it says of it.
            outcome.gone.remove(&target);
            if refused.code == "NoSuchVersion" || refused.code == "NoSuchKey" {
                outcome.gone.insert(target);
            } else {
                outcome.refused.insert(target, refusal(store, refused));
            }
        }
        for target in page {
            if !outcome.gone.contains(target) && !outcome.refused.contains_key(target) {
                let why = "the store does not say whether it was deleted".to_owned();
                outcome.refused.insert(target.clone(), Refusal { denied: false, why });
            }
        }
    }
    Ok(outcome)
}

async fn in_one_request(store: &Arc<Store>, page: &[Target]) -> Result<Answer> {
    let mut text = String::from(r#"<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">"#);
    for (key, id) in page {
        text += &format!("<Object><Key>{}</Key>", xml_text(&store.full_key(key)));
        if let Some(id) = id {
            text += &format!("<VersionId>{}</VersionId>", xml_text(id));
        }
        text += "</Object>";
    }
    text += "</Delete>";
    // The one request for which every store asks for an MD5.
    let body = Body::new(PutPayload::from(text.into_bytes()), true).await;
    let request = Request::bucket(Action::Delete, &store.url, Method::POST).query("delete", "").body(&body);
    store.ask(request).await
}

/// Deletes targets at a store that takes one in a request.
async fn one_by_one(store: &Arc<Store>, page: &[Target], outcome: &mut Outcome) -> Result<()> {
    let mut asked = futures::stream::iter(page.iter().cloned())
        .map(|target| {
            let store = store.clone();
            async move {
                let request = Request::object(Action::Delete, &target.0, Method::DELETE, store.full_key(&target.0));
                let request = match &target.1 {
                    Some(id) => request.query("versionId", id),
                    None => request,
                };
                let reply = store.send(request).await;
                (target, reply)
            }
        })
        .buffered(SIDE_BY_SIDE);
    while let Some((target, reply)) = asked.next().await {
        match reply {
            Ok(reply) => {
                if target.1.is_none() && reply.header("x-amz-delete-marker") == Some("true") {
                    outcome.hidden.insert(target.0.clone());
                }
                outcome.gone.insert(target);
            }
            Err(error) if says_missing(&error) && !error.message().starts_with("the bucket") => {
                outcome.gone.insert(target);
            }
            Err(error) if error.kind() == ErrorKind::Permission => {
                let why = error.message().to_owned();
                outcome.refused.insert(target, Refusal { denied: true, why });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How often to look for deleted objects.
const LOOKS: u32 = 3;

/// The keys that the store says are gone but that can still be read. An identity that may not look trusts the store.
async fn still_there(store: &Arc<Store>, keys: Vec<String>) -> Result<BTreeSet<String>> {
    let mut keys = keys;
    let mut pause = store.pacing.retry().first;
    for look in 1..=LOOKS {
        let mut asked = futures::stream::iter(std::mem::take(&mut keys))
            .map(|key| {
                let store = store.clone();
                async move {
                    let seen = store.look_up(Action::Delete, &key, None).await;
                    (key, seen)
                }
            })
            .buffered(SIDE_BY_SIDE);
        while let Some((key, seen)) = asked.next().await {
            match seen {
                Ok(_) => keys.push(key),
                Err(error) if says_missing(&error) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Permission) => {
                    tracing::debug!(%error, "cannot check that the deleted objects are gone: trusting the store");
                }
                // A marker of a version is answered so.
                Err(error) if is_answer(&error, 405) => {}
                Err(error) => return Err(error),
            }
        }
        if keys.is_empty() || look == LOOKS {
            break;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(keys.into_iter().collect())
}

/// The message about an object or version that the store says is gone but is not.
const STAYS: &str = "the store says that it is deleted, but it is still there";

fn refusal(store: &Store, refused: Refused) -> Refusal {
    let profile = &store.place.profile;
    let denied = refused.code == "AccessDenied";
    let why = if denied {
        let right = if refused.version_id.is_some() { profile.rights.delete_version } else { profile.rights.delete };
        format!("{} denies access ({}): the key needs the right {right}", profile.name, refused.message)
    } else {
        format!("{}: {}", refused.code, refused.message)
    };
    Refusal { denied, why }
}
