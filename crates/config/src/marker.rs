//! The marker of a sink, which distinguishes a new location from one whose disk is not mounted.
//!
//! A mount point without its disk is an empty folder. Anything written there is on the wrong disk, and hidden once the
//! right one is mounted again. So a `file://` sink has a marker at its top, `_lifeboat/sink.json`, and every sink named
//! in a config file or flag is checked for it before the first write:
//!
//! | what exists | what happens |
//! |---|---|
//! | the marker | the sink is used |
//! | no marker, but artifacts or other objects of Lifeboat's, written by an older version or a script | the sink is marked and used |
//! | neither, or no folder at all | the sink is refused, unless it was declared as [new](take_as_new) |
//!
//! Object stores have no marker: a missing bucket is an error, and put-only credentials could not look for a marker.

use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use lifeboat_core::name::split_key;
use lifeboat_core::sink::{Deleted, PutOptions, Upkeep};
use lifeboat_core::{ArtifactName, ByteStream, Error, ErrorKind, ObjectInfo, Result, Sink, async_trait, stream};
use tokio::sync::OnceCell;

/// The marker's key, relative to the sink.
pub const MARKER: &str = "_lifeboat/sink.json";

/// The folder of everything of Lifeboat's at the top of a sink.
const OWN: &str = "_lifeboat/";

/// How many objects to look at for an artifact.
const LOOK_AT: usize = 10_000;

/// The state of a location before anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It needs no marker, has one, or contains evidence that it is the right one.
    Known,
    /// It does not exist, or contains nothing of Lifeboat's.
    Unknown,
}

/// Whether a sink is of a kind that has a marker.
fn has_marker(sink: &dyn Sink) -> bool {
    sink.url().starts_with("file://")
}

/// Checks whether a sink is known to be the right location. Writes nothing.
///
/// # Errors
/// Any error of the sink, except for a missing folder.
pub async fn standing(sink: &dyn Sink) -> Result<Standing> {
    if !has_marker(sink) || is_marked(sink).await? || is_used(sink).await? {
        return Ok(Standing::Known);
    }
    Ok(Standing::Unknown)
}

/// Refuses a sink that is not [known](Standing::Known).
///
/// # Errors
/// [`ErrorKind::Refused`]; those of [`standing`].
pub async fn refuse_unknown(sink: &dyn Sink) -> Result<()> {
    match standing(sink).await? {
        Standing::Known => Ok(()),
        Standing::Unknown => Err(refused(sink)),
    }
}

/// Marks a sink as new on the user's word, unless it is already known. Returns whether it was marked.
///
/// # Errors
/// Any error of the sink.
pub async fn take_as_new(sink: &dyn Sink) -> Result<bool> {
    if standing(sink).await? == Standing::Known {
        return Ok(false);
    }
    mark(sink).await.map(|()| true)
}

async fn is_marked(sink: &dyn Sink) -> Result<bool> {
    match sink.head(MARKER).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether there is anything that only Lifeboat, or a script that Lifeboat follows, has written.
async fn is_used(sink: &dyn Sink) -> Result<bool> {
    let is_artifact = |object: &ObjectInfo| ArtifactName::parse(split_key(&object.key).1).is_some();
    for (prefix, is_ours) in [(OWN, None), ("", Some(is_artifact))] {
        let mut objects = sink.list(prefix).take(LOOK_AT);
        while let Some(object) = objects.next().await {
            match object {
                Ok(object) if is_ours.is_none_or(|is_ours| is_ours(&object)) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(false)
}

async fn mark(sink: &dyn Sink) -> Result<()> {
    let body =
        format!("{{\n  \"format_version\": 1,\n  \"written_by\": \"lifeboat {}\"\n}}\n", env!("CARGO_PKG_VERSION"));
    match sink.put(MARKER, stream::once(body)).await {
        // Another run was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        put => put.map(drop),
    }
}

fn refused(sink: &dyn Sink) -> Error {
    let why = "nothing there shows that Lifeboat has ever written to it: is its disk not mounted?";
    Error::new(ErrorKind::Refused, "use", sink.url(), why)
        .hint("mount it; if the place is new, say so once with --new-sink (backup, replicate and check take it)")
}

/// A sink that looks for its marker before it writes for the first time.
#[derive(Debug)]
struct Marked {
    sink: Arc<dyn Sink>,
    known: OnceCell<()>,
}

/// The sink, which is not written to while it is [unknown](Standing::Unknown).
pub(crate) fn guarded(sink: Arc<dyn Sink>) -> Arc<dyn Sink> {
    if has_marker(&*sink) { Arc::new(Marked { sink, known: OnceCell::new() }) } else { sink }
}

impl Marked {
    async fn admit(&self, key: &str) -> Result<()> {
        if key == MARKER {
            return Ok(());
        }
        let look = || async {
            if is_marked(&*self.sink).await? {
                return Ok(());
            }
            if !is_used(&*self.sink).await? {
                return Err(refused(&*self.sink));
            }
            mark(&*self.sink).await
        };
        self.known.get_or_try_init(look).await.map(drop)
    }
}

#[async_trait]
impl Sink for Marked {
    fn url(&self) -> String {
        self.sink.url()
    }

    fn read_command(&self, key: &str) -> String {
        self.sink.read_command(key)
    }

    async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
        self.put_with(key, body, PutOptions::new()).await
    }

    async fn put_with(&self, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
        self.admit(key).await?;
        self.sink.put_with(key, body, options).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.sink.get(key, range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.sink.head(key).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
        self.sink.list(prefix)
    }

    async fn delete(&self, keys: &[String]) -> Result<Deleted> {
        self.sink.delete(keys).await
    }

    fn upkeep(&self) -> Option<&dyn Upkeep> {
        self.sink.upkeep()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &std::path::Path) -> Arc<dyn Sink> {
        guarded(lifeboat_sinks::open(&format!("file://{}", folder.display())).unwrap())
    }

    async fn write(folder: &std::path::Path) -> Result<u64> {
        place(folder).put("db/x", stream::once("x")).await
    }

    #[tokio::test]
    async fn an_empty_folder_is_refused_until_it_is_said_to_be_new() {
        let desk = tempfile::tempdir().unwrap();
        for there in [true, false] {
            let folder = desk.path().join(format!("disk-{there}"));
            if there {
                std::fs::create_dir(&folder).unwrap();
                // What is often left under a mount point.
                std::fs::write(folder.join("lost+found"), "x").unwrap();
            }
            let error = write(&folder).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.advice().unwrap().contains("--new-sink"), "{error}");
            assert_eq!(folder.exists(), there);
            assert!(!folder.join("db").exists());
            assert!(take_as_new(&*place(&folder)).await.unwrap());
            assert!(!take_as_new(&*place(&folder)).await.unwrap());
            write(&folder).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_folder_that_holds_artifacts_is_marked_when_it_is_written_to() {
        for key in ["databases/shop-20261121-033000.sql.gz", "_lifeboat/copies/velero/x"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
            assert_eq!(standing(&*place(folder.path())).await.unwrap(), Standing::Known);
            assert!(!folder.path().join(MARKER).exists());
            write(folder.path()).await.unwrap();
            assert!(folder.path().join(MARKER).exists());
        }
    }

    #[tokio::test]
    async fn a_disk_that_is_gone_between_two_runs_is_noticed() {
        let desk = tempfile::tempdir().unwrap();
        let (disk, away) = (desk.path().join("disk"), desk.path().join("away"));
        take_as_new(&*place(&disk)).await.unwrap();
        write(&disk).await.unwrap();
        std::fs::rename(&disk, &away).unwrap();
        std::fs::create_dir(&disk).unwrap();
        assert_eq!(write(&disk).await.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 0);
    }
}
