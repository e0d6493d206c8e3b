//! Series: which artifacts another one needs, and the order to restore them in.

use std::collections::BTreeSet;

use futures::StreamExt;

use super::listing::{Listing, grouped};
use super::{Artifact, Kind, exists, intent_key};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ArtifactName, join_key};
use crate::sink::Sink;

/// Returns the artifacts to restore in order to restore `artifact`: base first, `artifact` last, each once. An artifact
/// without dependencies is returned alone. Dependencies are read from names; manifests are checked against them when
/// read.
///
/// Costs one listing per artifact, of the objects of its second.
///
/// # Errors
/// [`ErrorKind::NotFound`], naming what is missing; [`ErrorKind::Corrupt`] if artifacts need each other in a cycle;
/// errors of the listing.
///
/// # Cancel safety
/// Safe: it only reads.
pub async fn chain(sink: &dyn Sink, artifact: &Artifact) -> Result<Vec<Artifact>> {
    let mut ordered = Vec::new();
    let mut done = BTreeSet::new();
    // The path from the artifact to the one being visited, each with its dependencies that have not been visited yet.
    let mut path = vec![(artifact.clone(), artifact.needs.clone())];
    while let Some((_, open)) = path.last_mut() {
        let Some(needed) = open.pop() else {
            let (above, _) = path.pop().expect("there was a last one");
            done.insert(above.name.clone());
            ordered.push(above);
            continue;
        };
        if done.contains(&needed) {
            continue;
        }
        if let Some(at) = path.iter().position(|(above, _)| above.name == needed) {
            let circle: Vec<String> = path[at..].iter().map(|(above, _)| above.name.to_string()).collect();
            let why = format!("artifacts need each other in a circle: {}, {needed}", circle.join(", "));
            return Err(Error::new(ErrorKind::Corrupt, "restore", artifact.key(), why).hint(USE_ANOTHER));
        }
        let found = lookup(sink, &artifact.folder, &needed).await?;
        let why = match found {
            Some(found) if found.kind != Kind::Damaged => {
                let needs = found.needs.clone();
                path.push((found, needs));
                continue;
            }
            Some(_) => "whose manifest is there, but not its data",
            None => "which is not there",
        };
        let above = &path.last().expect("it was not popped").0.name;
        let needs = if *above == artifact.name { "it needs".to_owned() } else { format!("{above} needs") };
        return Err(Error::new(ErrorKind::NotFound, "restore", artifact.key(), format!("{needs} {needed}, {why}"))
            .hint(USE_ANOTHER));
    }
    Ok(ordered)
}

const USE_ANOTHER: &str = "use another artifact, or the copy in another sink";

/// The artifact with this name; `None` if there is none, or if it is still being written.
pub(crate) async fn lookup(sink: &dyn Sink, folder: &str, name: &ArtifactName) -> Result<Option<Artifact>> {
    let prefix = join_key(folder, &format!("{}-{}.", name.dataset, name.stamp()));
    let listing = Listing::of(sink.list(&prefix), folder.trim_matches('/').to_owned(), Some(name.dataset.clone()));
    let mut listed = grouped(listing);
    while let Some(artifact) = listed.next().await {
        let artifact = artifact?;
        if artifact.name != *name {
            continue;
        }
        let is_foreign = artifact.kind == Kind::Foreign && artifact.other_manifest().is_none();
        if is_foreign && (artifact.objects.is_empty() || exists(sink, &intent_key(folder, &name.to_string())).await?) {
            return Ok(None);
        }
        return Ok(Some(artifact));
    }
    Ok(None)
}
