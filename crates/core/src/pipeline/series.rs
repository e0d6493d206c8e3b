//! What stands before an artifact in its series: checked at once, read when the target asks for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;

use super::read;
use crate::catalog::{Artifact, chain};
use crate::context::Context;
use crate::encryptor::Encryptor;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Manifest;
use crate::sink::Sink;
use crate::target::Link;

/// The artifacts that are restored before this one, base first.
///
/// # Errors
/// As [`chain`]; [`ErrorKind::Corrupt`] when the manifest says that it needs others than the names beside it do.
pub(crate) async fn before(sink: &dyn Sink, artifact: &Artifact, manifest: Option<&Manifest>) -> Result<Vec<Artifact>> {
    agrees(artifact, manifest)?;
    if artifact.needs.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = chain(sink, artifact).await?;
    all.pop();
    Ok(all)
}

/// The same, each with its proof, to be opened one after the other.
///
/// # Errors
/// As [`before`], of each of them; what their manifests cannot be read or decrypted for.
pub(crate) async fn links(
    sink: &Arc<dyn Sink>,
    before: Vec<Artifact>,
    keys: &[Arc<dyn Encryptor>],
    cx: &Context,
) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for artifact in before {
        let manifest = artifact.read_manifest(&**sink).await?;
        agrees(&artifact, manifest.as_ref())?;
        let private = match &manifest {
            Some(manifest) => Some(manifest.private(keys).await?),
            None => None,
        };
        let (name, proof) = (artifact.name.clone(), private.as_ref().map(|p| p.proof.clone()));
        let bytes = artifact.bytes();
        let (sink, keys, cx) = (sink.clone(), keys.to_vec(), cx.clone());
        let open = move || {
            async move {
                let (stored, _) = read::stored(sink, &artifact, manifest.as_ref(), &cx);
                let plain = read::plaintext(stored, &artifact, manifest.as_ref(), &keys).await?;
                Ok(read::check_plaintext(plain, private.as_ref(), artifact.key()))
            }
            .boxed()
        };
        links.push(Link::new(name, proof, open).stored_bytes(bytes));
    }
    Ok(links)
}

/// Whether the manifest and the names beside the artifact say the same of what it needs. A sidecar that was lost must not
/// make an increment look like a whole backup.
fn agrees(artifact: &Artifact, manifest: Option<&Manifest>) -> Result<()> {
    let Some(manifest) = manifest else { return Ok(()) };
    let beside: BTreeSet<String> = artifact.needs.iter().map(ToString::to_string).collect();
    let said: BTreeSet<String> = manifest.needs.iter().cloned().collect();
    let wrong = |why: String| {
        let hint = "use another artifact, or the copy in another sink";
        Err(Error::new(ErrorKind::Corrupt, "restore", artifact.key(), why).hint(hint))
    };
    if let Some(lost) = said.difference(&beside).next() {
        return wrong(format!(
            "its manifest says that it needs {lost}, but the sidecar that should say so too is gone"
        ));
    }
    if let Some(more) = beside.difference(&said).next() {
        return wrong(format!("a sidecar says that it needs {more}, but its manifest does not"));
    }
    Ok(())
}
