//! Whether the backups that are there can be read here. A new key fits what is made from now on, and opens nothing older.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use lifeboat_config::{Job, Store};
use lifeboat_core::catalog::{self, Artifact, Kind};
use lifeboat_core::{Check, Encryptor, ErrorKind, Manifest, Result};

use crate::output::report::count;

/// How far back is looked.
const WITHIN: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most manifests that are read of a job, newest first.
const MOST: usize = 100;
/// How many are read at once.
const AT_ONCE: usize = 8;

/// What is wrong with the keys of a job, seen by its backups of the last 30 days. `None` when all of them open, when there are
/// none, and where nothing can be decrypted in any case: a machine that only backs up.
pub(super) async fn check(job: &Job, now: Timestamp) -> Option<Check> {
    let keys = job.keys().ok()?;
    if !keys.iter().any(Encryptor::can_decrypt) {
        return None;
    }
    // What a sink does not list or give is told of the sink, and by a verification.
    let store = job.store().ok()?;
    let manifests = recent(job, store, now).await.ok()?;
    let (mut open, mut closed) = (0, Vec::new());
    for (_, group) in by_recipients(&manifests) {
        let opened = opens(&group, &keys).await;
        for ((artifact, manifest), opened) in group.into_iter().zip(opened) {
            match opened {
                Some(true) => open += 1,
                Some(false) => closed.push((artifact, manifest)),
                None => {}
            }
        }
    }
    let (newest, manifest) = closed.iter().max_by_key(|(artifact, _)| artifact.name.taken_at)?;
    let recipients = manifest.encryption.as_ref().map(|e| e.recipients.join(" or ")).unwrap_or_default();
    let whose = match recipients.is_empty() {
        true => "it has another passphrase".to_owned(),
        false => format!("it is for {recipients}"),
    };
    let all = open + closed.len();
    let detail = format!(
        "in {}, the keys given here open {open} of {} of the last 30 days. They do not open {}: {whose}. Keep the old key as long as its backups, beside the new one: identity takes a list",
        store.name,
        count(all, "backup"),
        newest.key()
    );
    let figure = format!("{open} of {all} open");
    Some(if open == 0 {
        Check::fail("old backups", figure, detail)
    } else {
        Check::warn("old backups", figure, detail)
    })
}

type Read<'a> = (&'a Artifact, &'a Manifest);

/// The encrypted backups of the last days, with their manifests, newest first.
async fn recent(job: &Job, store: &Store, now: Timestamp) -> Result<Vec<(Artifact, Manifest)>> {
    let since = now.checked_sub(WITHIN).unwrap_or(Timestamp::MIN);
    let mut found = Vec::new();
    let mut listed = catalog::list(&*store.sink, &job.prefix, job.dataset.as_ref());
    while let Some(artifact) = listed.next().await {
        let artifact = artifact?;
        let name = &artifact.name;
        if artifact.kind == Kind::Managed && name.encryption.is_some() && name.taken_at >= since && job.claims(name) {
            found.push(artifact);
        }
    }
    found.sort_by_key(|artifact| std::cmp::Reverse(artifact.name.taken_at));
    found.truncate(MOST);
    let read = futures::stream::iter(found).map(|artifact| async {
        let manifest = artifact.read_manifest(&*store.sink).await.ok().flatten();
        manifest.map(|manifest| (artifact, manifest))
    });
    Ok(read.buffered(AT_ONCE).filter_map(std::future::ready).collect().await)
}

fn by_recipients(manifests: &[(Artifact, Manifest)]) -> BTreeMap<(String, Vec<String>), Vec<Read<'_>>> {
    let mut groups: BTreeMap<_, Vec<Read<'_>>> = BTreeMap::new();
    for (artifact, manifest) in manifests {
        let Some(encryption) = &manifest.encryption else { continue };
        let group = (encryption.scheme.clone(), encryption.recipients.clone());
        groups.entry(group).or_default().push((artifact, manifest));
    }
    groups
}

/// For each of a group whether the keys open it. One speaks for all that are for the same recipients. Of passphrases nothing is
/// known, and each try takes a second: the newest and the oldest speak for themselves.
async fn opens(group: &[Read<'_>], keys: &[Arc<dyn Encryptor>]) -> Vec<Option<bool>> {
    let open = async |(_, manifest): &Read<'_>| match manifest.private(keys).await {
        Ok(_) => Some(true),
        Err(error) if error.kind() == ErrorKind::Decrypt => Some(false),
        Err(_) => None,
    };
    let named = group[0].1.encryption.as_ref().is_some_and(|e| !e.recipients.is_empty());
    let newest = open(&group[0]).await;
    if named {
        return vec![newest; group.len()];
    }
    let mut opened = vec![None; group.len()];
    if let Some(last) = group.last().filter(|_| group.len() > 1) {
        opened[group.len() - 1] = open(last).await;
    }
    opened[0] = newest;
    opened
}
