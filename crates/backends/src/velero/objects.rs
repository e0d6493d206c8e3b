//! The tarball of a backup: one JSON file for each object, at `resources/<resource>/namespaces/<namespace>/<name>.json`
//! or `resources/<resource>/cluster/<name>.json`.
//!
//! Velero stores each object a second time under its group's preferred version; those copies are skipped. Source:
//! Velero's `pkg/archive/filesystem.go` and the page "Output file format" of its documentation.

use lifeboat_core::{Error, ErrorKind, Result};

use super::gunzip::Consumer;
use crate::tar::{Piece, Reader};

/// The largest object that is read, in bytes. An API server's database accepts 1.5 MiB.
const OBJECT_LIMIT: u64 = 16 << 20;

/// Where an object is in the cluster, according to its path in the tarball.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// The resource with its group: `configmaps`, `deployments.apps`.
    pub(crate) resource: String,
    /// The namespace; none for a cluster-scoped object.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl Place {
    fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        let (resource, namespace, file) = match parts[..] {
            ["resources", resource, "namespaces", namespace, file] => (resource, Some(namespace.to_owned()), file),
            ["resources", resource, "cluster", file] => (resource, None, file),
            _ => return None,
        };
        let name = file.strip_suffix(".json")?.to_owned();
        Some(Self { resource: resource.to_owned(), namespace, name })
    }
}

/// Receives the objects of a tarball, each with its JSON text.
pub(crate) trait TakesObjects: Send {
    /// Receives the next object.
    fn object(&mut self, place: Place, text: Vec<u8>) -> Result<()>;
}

/// Parses the decompressed tarball and passes each object on.
pub(crate) struct Objects<T> {
    reader: Reader,
    file: Option<File>,
    version: Option<String>,
    out: T,
}

enum File {
    Object(Place, Vec<u8>),
    Version(Vec<u8>),
    Other,
}

impl<T: TakesObjects> Objects<T> {
    pub(crate) fn new(out: T) -> Self {
        Self { reader: Reader::default(), file: None, version: None, out }
    }

    /// Ends the tarball.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is cut off, [`ErrorKind::Unsupported`] if its layout is not 1.x.
    pub(crate) fn finish(self) -> Result<T> {
        self.reader.finish()?;
        match self.version.as_deref() {
            Some(version) if version.starts_with("1.") => Ok(self.out),
            Some(version) => Err(Error::new(
                ErrorKind::Unsupported,
                "read",
                "the backup's tarball",
                format!("its layout has the version {version}, but only 1.x is known"),
            )),
            None => Err(Error::new(ErrorKind::Corrupt, "read", "the backup's tarball", "metadata/version is missing")),
        }
    }
}

impl<T: TakesObjects> Consumer for Objects<T> {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let Self { reader, file, version, out } = self;
        reader.push(bytes, &mut |piece| {
            match piece {
                Piece::Begin { name: "metadata/version", .. } => *file = Some(File::Version(Vec::new())),
                Piece::Begin { name, bytes } => {
                    if bytes > OBJECT_LIMIT {
                        let why = format!("{name} has {bytes} bytes, more than an object can have");
                        return Err(Error::new(ErrorKind::Corrupt, "read", "the backup's tarball", why));
                    }
                    *file = Some(Place::parse(name).map_or(File::Other, |place| File::Object(place, Vec::new())));
                }
                Piece::Data(data) => {
                    if let Some(File::Object(_, text) | File::Version(text)) = file {
                        text.extend_from_slice(data);
                    }
                }
                Piece::End => match file.take() {
                    Some(File::Object(place, text)) => out.object(place, text)?,
                    Some(File::Version(text)) => *version = Some(String::from_utf8_lossy(&text).trim().to_owned()),
                    _ => {}
                },
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_objects_and_second_copies_do_not() {
        let place = Place::parse("resources/deployments.apps/namespaces/shop/web.v2.json").unwrap();
        let expected = ("deployments.apps".to_owned(), Some("shop".to_owned()), "web.v2".to_owned());
        assert_eq!((place.resource, place.namespace, place.name), expected);
        assert_eq!(Place::parse("resources/namespaces/cluster/shop.json").unwrap().namespace, None);
        for path in [
            "resources/pods/v1-preferredversion/namespaces/shop/web.json",
            "resources/namespaces/v1-preferredversion/cluster/shop.json",
            "metadata/version",
            "resources/pods/namespaces/shop/web.txt",
        ] {
            assert_eq!(Place::parse(path), None, "{path}");
        }
    }
}
