//! Compares the objects of one namespace in a backup's tarball with the namespace that they were restored into.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use kube::api::{Api, ApiResource, DynamicObject};
use lifeboat_core::{ByteStream, Check, Context, Error, ErrorKind, Result};
use serde_json::Value;
use tokio::sync::mpsc;

use super::client::Cluster;
use super::compare::{comparable, differences, is_controlled, left_out};
use super::gunzip::Gunzip;
use super::objects::{Objects, Place, TakesObjects};

/// How many objects are requested concurrently.
const AT_ONCE: usize = 8;

/// The largest number of objects that are named one by one.
const NAMED: usize = 20;

/// Which namespace is compared with which.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(crate) from: String,
    pub(crate) into: String,
}

/// Passes on the objects of one namespace.
struct OfNamespace {
    namespace: String,
    out: mpsc::Sender<(Place, Vec<u8>)>,
}

impl TakesObjects for OfNamespace {
    fn object(&mut self, place: Place, text: Vec<u8>) -> Result<()> {
        if place.namespace.as_deref() != Some(&self.namespace) {
            return Ok(());
        }
        let gone = |_| Error::cancelled("compare", "the objects of the backup");
        self.out.blocking_send((place, text)).map_err(gone)
    }
}

/// The result for one object.
enum Verdict {
    Equal,
    LeftOut,
    Replaced,
    Missing,
    Differs(Vec<String>),
}

#[derive(Default)]
struct Sums {
    equal: BTreeMap<String, u64>,
    left_out: u64,
    replaced: Vec<String>,
    wrong: Vec<Check>,
}

/// Compares every object of the namespace with what the cluster has now. `tarball` is the stored file, compressed.
///
/// # Errors
/// Any error that prevents the comparison: the tarball cannot be read, objects may not be read. Differences are failed
/// checks.
pub(crate) async fn compare(
    cluster: &Cluster,
    tarball: ByteStream,
    mapping: &Mapping,
    cx: &Context,
) -> Result<Vec<Check>> {
    let (pieces, inbox) = mpsc::channel::<Bytes>(4);
    let (out, objects) = mpsc::channel(4 * AT_ONCE);
    let filter = OfNamespace { namespace: mapping.from.clone(), out };
    let parser = tokio::task::spawn_blocking(move || parse(inbox, filter));
    let work = async {
        // Both at once: the parser waits for the comparison when objects pile up.
        let (fed, judged) = tokio::join!(feed(tarball, pieces), judge_all(cluster, objects, mapping));
        fed.and(judged)
    };
    let judged = tokio::select! {
        biased;
        () = cx.cancel.cancelled() => Err(Error::cancelled("compare", format!("namespace {}", mapping.into))),
        judged = work => judged,
    };
    let parsed =
        parser.await.map_err(|error| Error::new(ErrorKind::Internal, "parse", "the tarball", error.to_string()))?;
    let sums = match (judged, parsed) {
        // If the comparison failed first, the parser only reports that its receiver is gone.
        (Err(error), _) | (Ok(_), Err(error)) => return Err(error),
        (Ok(sums), Ok(())) => sums,
    };
    Ok(report(sums, mapping))
}

fn parse(mut inbox: mpsc::Receiver<Bytes>, filter: OfNamespace) -> Result<()> {
    let mut gunzip = Gunzip::new(Objects::new(filter));
    while let Some(bytes) = inbox.blocking_recv() {
        gunzip.push(&bytes)?;
    }
    gunzip.finish()?.finish().map(drop)
}

async fn feed(mut tarball: ByteStream, pieces: mpsc::Sender<Bytes>) -> Result<()> {
    while let Some(chunk) = tarball.next().await {
        if pieces.send(chunk?).await.is_err() {
            // The parser has ended: its own error says why.
            break;
        }
    }
    Ok(())
}

async fn judge_all(cluster: &Cluster, objects: mpsc::Receiver<(Place, Vec<u8>)>, mapping: &Mapping) -> Result<Sums> {
    let objects = stream::unfold(objects, async |mut objects| Some((objects.recv().await?, objects)));
    let mut verdicts = objects
        .map(async |(place, text)| (place.clone(), judge(cluster, &place, &text, mapping).await))
        .buffer_unordered(AT_ONCE)
        .boxed();
    let mut sums = Sums::default();
    while let Some((place, verdict)) = verdicts.next().await {
        let name = format!("{} {}", place.resource, place.name);
        match verdict? {
            Verdict::Equal => *sums.equal.entry(place.resource).or_default() += 1,
            Verdict::LeftOut => sums.left_out += 1,
            Verdict::Replaced => sums.replaced.push(name),
            Verdict::Missing => {
                sums.wrong.push(Check::fail(name, "missing", format!("in the backup, and not in {}", mapping.into)));
            }
            Verdict::Differs(places) => {
                let detail = format!("not as in the backup: {}", places.join(", "));
                sums.wrong.push(Check::fail(name, "differs", detail));
            }
        }
    }
    Ok(sums)
}

async fn judge(cluster: &Cluster, place: &Place, text: &[u8], mapping: &Mapping) -> Result<Verdict> {
    let wrong =
        |why: String| Error::new(ErrorKind::Corrupt, "parse", format!("{} {}", place.resource, place.name), why);
    let object: Value = serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
    if left_out(&place.resource, &object).is_some() {
        return Ok(Verdict::LeftOut);
    }
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let api_version = text("apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.clone(),
        kind: text("kind"),
        plural: place.resource.split('.').next().unwrap_or_default().to_owned(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client().clone(), &mapping.into, &resource);
    let found = api.get_opt(&place.name).await;
    let found = found.map_err(|error| {
        cluster.explain(error, "read", format!("{} {}/{}", place.resource, mapping.into, place.name))
    })?;
    let Some(found) = found else {
        return Ok(if is_controlled(&object) { Verdict::Replaced } else { Verdict::Missing });
    };
    let found = serde_json::to_value(found).map_err(|error| wrong(error.to_string()))?;
    let [expected, found] =
        [object, found].map(|object| comparable(&place.resource, object, &mapping.from, &mapping.into));
    let places = differences(&expected, &found);
    Ok(if places.is_empty() { Verdict::Equal } else { Verdict::Differs(places) })
}

fn report(sums: Sums, mapping: &Mapping) -> Vec<Check> {
    let Sums { equal, left_out, replaced, mut wrong } = sums;
    if equal.is_empty() && wrong.is_empty() && replaced.is_empty() {
        let detail = format!("the backup holds no object of the namespace {} that can be restored", mapping.from);
        return vec![Check::fail("content", "nothing", detail)];
    }
    let mut checks: Vec<_> = equal
        .into_iter()
        .map(|(resource, count)| Check::pass(format!("content: {resource}"), count.to_string(), "equal the backup"))
        .collect();
    if !replaced.is_empty() {
        let detail = format!("{}: their controllers may have created others instead", replaced.join(", "));
        checks.push(Check::warn("content: replaced", replaced.len().to_string(), detail));
    }
    if left_out > 0 {
        let detail = "not compared: what Velero never restores, and what the cluster creates itself";
        checks.push(Check::pass("content: left out", left_out.to_string(), detail));
    }
    wrong.sort_by(|a, b| a.name.cmp(&b.name));
    let more = wrong.len().saturating_sub(NAMED);
    wrong.truncate(NAMED);
    checks.extend(wrong);
    if more > 0 {
        checks.push(Check::fail("content: others", format!("{more} more"), "these are missing or differ too"));
    }
    checks
}

/// Opens the stored tarball of a backup.
pub(crate) async fn tarball(sink: &Arc<dyn lifeboat_core::Sink>, backup: &str) -> Result<ByteStream> {
    sink.get(&format!("backups/{backup}/{backup}.tar.gz"), None).await
}
