//! The manifest: what is written beside an artifact, last, and makes it one.
//!
//! The public part says what the object is and how to read it back; whoever may list the bucket may read it, so it
//! holds no name of what is inside. The private part (names of tables, their counts, fingerprints) is encrypted with the
//! artifact's own encryptor whenever there is one: base64 of age (or openssl) of zstd of JSON, readable in one shell
//! line: `jq -r .private.sealed | base64 -d | age -d -i KEY | zstd -d`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::compress::{Compression, decompress};
use crate::encryptor::{self, Encryptor};
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::name::{ArtifactName, Dataset};
use crate::proof::Proof;
use crate::source::Description;
use crate::stream::{self};

/// The version of the manifest's form that is written and read here.
pub const FORMAT_VERSION: u32 = 1;

/// No manifest is larger: 10,000 tables come to about 4 MiB.
pub const MANIFEST_LIMIT: usize = 256 << 20;

/// One stored object of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredObject {
    /// Its name, without the folder: a manifest can be copied elsewhere together with its objects.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the stored bytes, in hexadecimal digits.
    pub sha256: String,
}

impl StoredObject {
    /// An object of this name, without the folder, of so many bytes, and with this SHA-256 in hexadecimal digits.
    pub fn new(name: impl Into<String>, bytes: u64, sha256: impl Into<String>) -> Self {
        Self { name: name.into(), bytes, sha256: sha256.into() }
    }
}

/// How an artifact was encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EncryptionNote {
    /// `age`, `openssl`, or what an [`Encryptor`] from elsewhere calls itself.
    pub scheme: String,
    /// The public recipients, so that on the worst day one knows which key to look for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
}

/// The private part: what must not be read by whoever can read the bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Private {
    /// What the source saw go past.
    pub proof: Proof,
    /// XXH3-128 of the plaintext, in hexadecimal digits, as `xxh128sum` prints it.
    pub plaintext_xxh3_128: String,
}

/// The private part as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PrivatePart {
    /// Encrypted: base64 of the artifact's encryptor over zstd over JSON.
    Sealed(String),
    /// As it is, because the artifact is not encrypted either.
    Open(Box<Private>),
}

/// What is known of an artifact. A form that older readers must not take for this one has another name beside the artifact
/// (`.manifest.v2.json`), so that they know from names alone that they do not know it. Written last: an object without a manifest was not finished by Lifeboat.
///
/// ```
/// use lifeboat_core::catalog::{self, At};
/// use lifeboat_core::{Dataset, Encryptor, Result, Sink};
/// use std::sync::Arc;
///
/// /// What is known of the newest backup.
/// async fn look(sink: impl Sink + 'static, keys: &[Arc<dyn Encryptor>]) -> Result<()> {
///     let newest = catalog::find(&sink, "databases", &Dataset::new("shop")?, &At::Latest).await?;
///     // A foreign artifact has none.
///     let Some(manifest) = newest.read_manifest(&sink).await? else { return Ok(()) };
///     println!("{} bytes of {}, of {}", manifest.plaintext_bytes, manifest.source.system, manifest.taken_at);
///     // What is inside only a key tells.
///     for item in &manifest.private(keys).await?.proof.items {
///         println!("{}: {} rows", item.name, item.count);
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// Version of this form. A reader refuses what is newer than it knows.
    pub format_version: u32,
    /// Lifeboat's version that wrote it.
    pub written_by: String,
    /// The dataset.
    pub dataset: Dataset,
    /// The artifact's name, without the folder.
    pub artifact: String,
    /// When the source was opened; the artifact's content is of this time.
    pub taken_at: Timestamp,
    /// When the last byte was confirmed.
    pub finished_at: Timestamp,
    /// Size of the plaintext in bytes, before compression.
    pub plaintext_bytes: u64,
    /// Items in the proof, so that whoever has no key can tell an artifact that holds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// Rows in the proof, of all items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Stored bytes, all objects together.
    pub stored_bytes: u64,
    /// The objects whose bytes, joined in this order, are the artifact.
    pub objects: Vec<StoredObject>,
    /// `zstd:3`, `gzip:6` or `none`.
    pub compression: String,
    /// How it is encrypted, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionNote>,
    /// The names of the artifacts without which it cannot be restored, of the same dataset and folder. For each of them a
    /// sidecar says the same by its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// What was read, with which tool.
    pub source: Description,
    /// The private part.
    pub private: PrivatePart,
}

impl Manifest {
    /// Reads a manifest. `subject` names it in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is not one, [`ErrorKind::Unsupported`] when it is of a newer form.
    pub fn parse(bytes: &[u8], subject: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let corrupt = |e: serde_json::Error| {
            Error::new(ErrorKind::Corrupt, "read", subject, format!("it is not a manifest ({e})"))
                .hint("the artifact beside it can still be restored: its name says how")
        };
        let version: Version = serde_json::from_slice(bytes).map_err(corrupt)?;
        if version.format_version > FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "read",
                subject,
                format!(
                    "its format version is {}, newer than {FORMAT_VERSION}, the newest known here",
                    version.format_version
                ),
            )
            .hint("use a newer Lifeboat"));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(corrupt)?;
        let wrong = |why: &str| Err(Error::new(ErrorKind::Corrupt, "read", subject, why.to_owned()));
        match ArtifactName::parse(&manifest.artifact) {
            Some(name) if name.dataset == manifest.dataset => {
                if name.encryption.is_some() && manifest.encryption.is_none() {
                    return wrong(
                        "it says that its artifact is not encrypted, but the artifact's name says that it is",
                    );
                }
                // Whoever put it there does not have the key, or wants names to be read that are not his.
                if name.encryption.is_some() && matches!(manifest.private, PrivatePart::Open(_)) {
                    return wrong("its private part is plaintext, but its artifact is encrypted");
                }
            }
            _ => return wrong("it names an artifact of another dataset"),
        }
        if manifest.objects.is_empty()
            || manifest.objects.iter().any(|o| !o.name.starts_with(&manifest.artifact) || o.name.contains('/'))
        {
            return wrong("its list of objects is empty, or names objects of another artifact");
        }
        if manifest.needs.iter().any(|n| ArtifactName::parse(n).is_none_or(|n| n.dataset != manifest.dataset)) {
            return wrong("it needs an artifact of another dataset");
        }
        Ok(manifest)
    }

    /// The manifest as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest has string keys only");
        bytes.push(b'\n');
        bytes
    }

    /// Opens the private part.
    ///
    /// # Errors
    /// [`ErrorKind::Decrypt`] without a fitting key, [`ErrorKind::Corrupt`] when it was altered.
    pub async fn private(&self, encryptors: &[Arc<dyn Encryptor>]) -> Result<Private> {
        let subject = format!("the private part of {}'s manifest", self.artifact);
        match &self.private {
            PrivatePart::Open(private) => Ok((**private).clone()),
            PrivatePart::Sealed(text) => {
                let corrupt =
                    |e: &dyn std::fmt::Display| Error::new(ErrorKind::Corrupt, "read", &subject, e.to_string());
                let sealed = STANDARD.decode(text).map_err(|e| corrupt(&e))?;
                let scheme = self.encryption.as_ref().map(|e| e.scheme.as_str());
                let cipher = choose(scheme, None, &sealed, encryptors, &subject)?
                    .ok_or_else(|| corrupt(&"it is sealed with nothing that is known here"))?;
                let plain = decompress(cipher.decrypt(stream::once(sealed.clone()))?);
                let json = stream::collect(plain, MANIFEST_LIMIT, &subject).await?;
                serde_json::from_slice(&json).map_err(|e| corrupt(&e))
            }
        }
    }
}

impl Private {
    /// The private part as it is stored: sealed when there is an encryptor.
    pub(crate) async fn store(self, encryptor: Option<&Arc<dyn Encryptor>>) -> Result<PrivatePart> {
        let Some(encryptor) = encryptor else { return Ok(PrivatePart::Open(Box::new(self))) };
        let json = serde_json::to_vec(&self).expect("a proof has string keys only");
        let packed = Compression::Zstd { level: 3, threads: 0 }.compress(stream::once(json));
        let sealed =
            stream::collect(encryptor::seal(encryptor, packed)?, MANIFEST_LIMIT, "the manifest's private part").await?;
        Ok(PrivatePart::Sealed(STANDARD.encode(&sealed)))
    }
}

/// The encryption scheme of bytes that start like this, by the magic of those that are known here.
fn scheme_of(start: &[u8]) -> Option<&'static str> {
    if encryptor::starts_like_age(start) {
        return Some("age");
    }
    encryptor::starts_like_openssl(start).then_some("openssl")
}

/// The encryptor that opens bytes that start like this; `None` when they are not encrypted. What decides is the scheme that
/// the manifest names, where there is one; else the bytes' own magic; else the suffix of the name.
///
/// # Errors
/// [`ErrorKind::Decrypt`] when they are encrypted and no key for that was given; [`ErrorKind::Corrupt`] when they do not
/// start as they must: ciphertext is never passed on as if it were plaintext, nor the other way round.
pub(crate) fn choose<'a>(
    scheme: Option<&str>,
    suffix: Option<&str>,
    start: &[u8],
    encryptors: &'a [Arc<dyn Encryptor>],
    subject: &str,
) -> Result<Option<&'a Arc<dyn Encryptor>>> {
    let find = |fits: &dyn Fn(&Arc<dyn Encryptor>) -> bool| {
        let able = encryptors.iter().find(|e| fits(e) && e.can_decrypt());
        able.or_else(|| encryptors.iter().find(|e| fits(e)))
    };
    let replaced = |says: String| {
        Error::new(ErrorKind::Corrupt, "read", subject, format!("{says}, but it does not start like such an object"))
            .hint("the stored object is damaged or was replaced: use another artifact")
    };
    if let Some(scheme) = scheme {
        return match find(&|e| e.scheme() == scheme) {
            Some(found) if found.recognises(start) => Ok(Some(found)),
            Some(_) => Err(replaced(format!("its manifest says that it is encrypted with {scheme}"))),
            None => Err(no_key(subject, scheme)),
        };
    }
    let known = scheme_of(start);
    if let Some(found) = find(&|e| e.recognises(start) && known.is_none_or(|known| e.scheme() == known)) {
        return Ok(Some(found));
    }
    match (known, suffix) {
        (Some(scheme), _) => Err(no_key(subject, scheme)),
        (None, Some(suffix)) => {
            let scheme = suffix.strip_prefix("enc-");
            if scheme.is_some() && find(&|e| e.suffix() == suffix).is_none() {
                return Err(no_key(subject, scheme.unwrap_or(suffix)));
            }
            Err(replaced(format!("its name says that it is encrypted (.{suffix})")))
        }
        (None, None) => Ok(None),
    }
}

fn no_key(subject: &str, scheme: &str) -> Error {
    let hint = match scheme {
        "age" | "openssl" => Hint::GiveKey { scheme: scheme.to_owned() },
        _ => Hint::from("use the program that wrote it, or one that was built with the same encryptor"),
    };
    Error::new(
        ErrorKind::Decrypt,
        "decrypt",
        subject,
        format!("it is encrypted with {scheme}, but no key for that was given"),
    )
    .hint(hint)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::proof::{Fingerprint, ProofItem};

    pub(crate) fn sample() -> Manifest {
        Manifest {
            format_version: FORMAT_VERSION,
            written_by: "lifeboat 0.1.0".to_owned(),
            dataset: Dataset::new("shop").unwrap(),
            artifact: "shop-20261121-033000.dump.zst".to_owned(),
            taken_at: "2026-11-21T03:30:00Z".parse().unwrap(),
            finished_at: "2026-11-21T03:31:00Z".parse().unwrap(),
            plaintext_bytes: 10,
            items: Some(1),
            rows: Some(3),
            stored_bytes: 8,
            objects: vec![StoredObject {
                name: "shop-20261121-033000.dump.zst".to_owned(),
                bytes: 8,
                sha256: "00".repeat(32),
            }],
            compression: "zstd:3".to_owned(),
            encryption: None,
            needs: Vec::new(),
            source: Description::new("shopdb", "dump"),
            private: PrivatePart::Open(Box::new(private())),
        }
    }

    fn private() -> Private {
        Private {
            proof: Proof {
                items: vec![ProofItem {
                    kind: "table".to_owned(),
                    name: "public.orders".to_owned(),
                    count: 3,
                    bytes: 9,
                    fingerprint: Some(Fingerprint(u128::MAX - 1)),
                    ..ProofItem::default()
                }],
                details: BTreeMap::from([("encoding".to_owned(), "UTF8".into())]),
            },
            plaintext_xxh3_128: "0".repeat(32),
        }
    }

    #[test]
    fn a_manifest_reads_back() {
        let manifest = sample();
        assert_eq!(Manifest::parse(&manifest.to_bytes(), "m").unwrap(), manifest);
    }

    #[test]
    fn a_newer_form_is_refused_and_says_what_to_do() {
        let text =
            String::from_utf8(sample().to_bytes()).unwrap().replace("\"format_version\": 1", "\"format_version\": 2");
        let error = Manifest::parse(text.as_bytes(), "m").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.advice(), Some("use a newer Lifeboat"));
    }

    #[test]
    fn a_manifest_cannot_point_at_objects_of_others() {
        for object in ["other-20261121-033000.dump", "shop-20261121-033000.dump.zst/../x"] {
            let mut manifest = sample();
            manifest.objects[0].name = object.to_owned();
            assert_eq!(Manifest::parse(&manifest.to_bytes(), "m").unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[cfg(feature = "age")]
    #[tokio::test]
    async fn the_private_part_is_sealed_and_names_no_table() {
        use crate::encryptor::Age;
        let (secret, public) = Age::generate();
        let writer: Arc<dyn Encryptor> = Arc::new(Age::to([public]).unwrap());
        let mut manifest = sample();
        manifest.private = private().store(Some(&writer)).await.unwrap();
        manifest.encryption = Some(EncryptionNote { scheme: "age".to_owned(), recipients: writer.recipients() });
        let bytes = manifest.to_bytes();
        assert!(!String::from_utf8_lossy(&bytes).contains("orders"));
        let read = Manifest::parse(&bytes, "m").unwrap();
        let reader: Arc<dyn Encryptor> = Arc::new(Age::default().identities(&secret, "k").unwrap());
        assert_eq!(read.private(&[reader]).await.unwrap(), private());
        assert_eq!(read.private(&[writer]).await.unwrap_err().kind(), ErrorKind::Decrypt);
        assert_eq!(read.private(&[]).await.unwrap_err().kind(), ErrorKind::Decrypt);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::parse(&bytes, "m");
        }
    }
}
