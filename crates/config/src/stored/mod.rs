//! The config file, stored beside the backups: who has lost the machine gets it back from the bucket.
//!
//! ```text
//! <prefix>/_lifeboat/config/<YYYYMMDD-HHMMSS>-<16 hex digits>.toml[.age|.enc]
//! ```
//!
//! - The text is the file's, without its [secrets](Config::without_secrets), and is encrypted as the backups beside it are.
//! - The time is that of the run that stored it, UTC. The digits tell contents and keys apart: a config that is stored
//!   already, encrypted in the same way, is not stored again. A key that may not list stores it on each run.
//! - Nothing is overwritten. The newest [`KEEP`] stay.
//!
//! A stored config is no artifact: no listing shows it, and it keeps nothing from being deleted. What is read back may have been
//! written by anyone who can write to the sink.

mod redact;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt;
use jiff::Timestamp;
use lifeboat_core::name::{format_stamp, join_key, parse_stamp};
use lifeboat_core::{Encryptor, Error, ErrorKind, Result, Setting, Sink, catalog, stream};
use sha2::{Digest, Sha256};

pub use redact::Redacted;

use crate::node::Source;
use crate::reader::{Config, Reader};
use crate::{Encryption, Systems};

/// The folder, beside the artifacts, that holds the configs.
pub const FOLDER: &str = "_lifeboat/config";

/// How many stay in a folder.
pub const KEEP: usize = 10;

/// No config is larger, in bytes.
const LIMIT: usize = 1 << 20;

/// The version of the form: it is part of what the digits are made of.
const FORMAT_VERSION: &str = "lifeboat config 1";

/// How many digits of the hash a name has.
const DIGITS: usize = 16;

/// A stored config, as its key tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Stored {
    /// When it was stored.
    pub at: Timestamp,
    /// What tells its content and its keys apart from others.
    pub digits: String,
    /// `age` or `enc`, when it is encrypted.
    pub encryption: Option<String>,
    /// Its key.
    pub key: String,
}

impl Stored {
    /// Reads a key; `None` for one of anything else.
    pub fn parse(key: &str) -> Option<Self> {
        let (folder, name) = key.rsplit_once('/')?;
        if folder != FOLDER && !folder.ends_with(&format!("/{FOLDER}")) {
            return None;
        }
        let (stem, rest) = name.split_once('.')?;
        let encryption = match rest.strip_prefix("toml")? {
            "" => None,
            suffix => Some(suffix.strip_prefix('.').filter(|s| !s.is_empty() && !s.contains('.'))?.to_owned()),
        };
        let (stamp, digits) = stem.rsplit_once('-')?;
        let is_hex = digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let at = parse_stamp(stamp).filter(|_| is_hex)?;
        Some(Self { at, digits: digits.to_owned(), encryption, key: key.to_owned() })
    }

    /// The folder of the backups beside which it lies.
    pub fn prefix(&self) -> &str {
        let folder = self.key.rsplit_once('/').map_or("", |(folder, _)| folder);
        folder.strip_suffix(FOLDER).unwrap_or_default().trim_end_matches('/')
    }

    /// Reads it. `keys` are asked for only when it is encrypted.
    ///
    /// # Errors
    /// What the sink fails with; [`ErrorKind::Decrypt`] when no key fits; [`ErrorKind::Corrupt`] for what is no text.
    pub async fn read(
        &self,
        sink: &dyn Sink,
        keys: impl FnOnce() -> Result<Vec<Arc<dyn Encryptor>>>,
    ) -> Result<String> {
        let mut body = sink.get(&self.key, None).await?;
        if let Some(suffix) = &self.encryption {
            let keys = keys()?;
            let Some(key) = keys.iter().find(|key| key.suffix() == suffix && key.can_decrypt()) else {
                let why = format!("it is encrypted (.{suffix}), and no key was given that opens it");
                return Err(Error::new(ErrorKind::Decrypt, "read", &self.key, why).hint(match suffix.as_str() {
                    "enc" => "name the variable that holds the passphrase: --identity openssl:env:NAME",
                    _ => "name the file that holds the secret key: --identity PATH, or LIFEBOAT_IDENTITY",
                }));
            };
            body = key.decrypt(body)?;
        }
        let bytes = stream::collect(body, LIMIT, &self.key).await?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Error::new(ErrorKind::Corrupt, "read", &self.key, "it is not UTF-8, and so no config"))
    }
}

/// The configs in one folder of a sink, the oldest first.
///
/// # Errors
/// What the sink's listing fails with.
pub async fn list(sink: &dyn Sink, folder: &str) -> Result<Vec<Stored>> {
    let mut found = Vec::new();
    let prefix = format!("{}/", join_key(folder, FOLDER));
    let mut objects = sink.list(&prefix);
    while let Some(object) = objects.try_next().await? {
        found.extend(Stored::parse(&object.key));
    }
    found.sort();
    Ok(found)
}

/// The configs at the top of a sink and in all of its folders in which backups lie, the oldest first.
///
/// # Errors
/// What the sink's listing fails with.
pub async fn list_all(sink: &dyn Sink) -> Result<Vec<Stored>> {
    let mut folders: BTreeSet<String> = catalog::datasets(sink).await?.into_iter().map(|(folder, _)| folder).collect();
    folders.insert(String::new());
    let mut found = Vec::new();
    for folder in folders {
        found.extend(list(sink, &folder).await?);
    }
    found.sort();
    Ok(found)
}

/// Stores a config in a folder of a sink, unless the newest one there is the same. Returns its key.
///
/// # Errors
/// What the sink fails with.
///
/// # Cancel safety
/// Safe: the object is there or it is not.
pub async fn write(
    sink: &dyn Sink,
    folder: &str,
    config: &Redacted,
    encryptor: Option<Arc<dyn Encryptor>>,
    now: Timestamp,
) -> Result<Option<String>> {
    let digits = digits(config, encryptor.as_deref());
    match list(sink, folder).await {
        Ok(stored) if stored.last().is_some_and(|newest| newest.digits == digits) => return Ok(None),
        Ok(_) => {}
        // A key that may only put.
        Err(error) if error.kind() == ErrorKind::Permission => {}
        Err(error) => return Err(error),
    }
    let suffix = encryptor.as_ref().map(|encryptor| format!(".{}", encryptor.suffix())).unwrap_or_default();
    let key = join_key(folder, &format!("{FOLDER}/{}-{digits}.toml{suffix}", format_stamp(now)));
    let body = stream::once(config.text.clone());
    let body = match encryptor {
        Some(encryptor) => encryptor.encrypt(body)?,
        None => body,
    };
    match sink.put(&key, body).await {
        // Another run of the same second has stored the same.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        put => put.map(|_| Some(key)),
    }
}

fn digits(config: &Redacted, encryptor: Option<&dyn Encryptor>) -> String {
    let mut hash = Sha256::new();
    let recipients = encryptor.map(Encryptor::recipients).unwrap_or_default();
    let scheme = encryptor.map_or("none", Encryptor::scheme);
    for part in [FORMAT_VERSION, scheme, &recipients.join(" "), &config.text] {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize().iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// Deletes all but the newest [`KEEP`] configs of a folder. Returns how many are gone, and why others are not.
///
/// # Errors
/// What the sink fails with.
pub async fn prune(sink: &dyn Sink, folder: &str) -> Result<(usize, Vec<String>)> {
    let stored = list(sink, folder).await?;
    let old: Vec<String> = stored.iter().rev().skip(KEEP).map(|stored| stored.key.clone()).collect();
    if old.is_empty() {
        return Ok((0, Vec::new()));
    }
    let deleted = sink.delete(&old).await?;
    let failed = deleted.failed.iter().map(|(key, why)| format!("{key} could not be deleted: {why}"));
    Ok((deleted.keys.len(), failed.collect()))
}

/// Copies those of the newest [`KEEP`] configs of a folder that another sink lacks. Returns how many.
///
/// # Errors
/// What a sink fails with.
pub async fn replicate(from: &dyn Sink, to: &dyn Sink, folder: &str) -> Result<usize> {
    let there: BTreeSet<String> = list(to, folder).await?.into_iter().map(|stored| stored.key).collect();
    let newest: Vec<Stored> = list(from, folder).await?.into_iter().rev().take(KEEP).collect();
    let mut copied = 0;
    for stored in newest.into_iter().rev().filter(|stored| !there.contains(&stored.key)) {
        let bytes = stream::collect(from.get(&stored.key, None).await?, 2 * LIMIT, &stored.key).await?;
        match to.put(&stored.key, stream::once(bytes)).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            put => {
                put?;
                copied += 1;
            }
        }
    }
    Ok(copied)
}

/// What has to be there before a config works, by the names that are written in it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Needs {
    /// Variables of the environment.
    pub variables: Vec<String>,
    /// Files, as they are written: relative ones start in the folder of the config.
    pub files: Vec<String>,
}

impl Config {
    /// The text of the file without its secrets, for [storing](write()) it.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when something in it may be a secret, and no variable can stand for it.
    pub fn without_secrets(&self, systems: &Systems) -> Result<Redacted> {
        use secrecy::ExposeSecret;
        let text = self.text.expose_secret();
        let source = Source::new(&self.path, text);
        Reader::new(&source, systems).read()?;
        let redacted = redact::redact(&source, systems)?;
        if redacted.text.len() > LIMIT {
            let why = format!("it is larger than {LIMIT} bytes");
            return Err(Error::new(ErrorKind::Refused, "store", self.path.display().to_string(), why));
        }
        // It must be one still.
        Self::parse(&redacted.text, &self.path, systems)?;
        Ok(redacted)
    }

    /// How a config is encrypted that lies beside backups which are encrypted in this way: as they are. Where they are not, as
    /// the first job is that is: the config names all of them.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a recipient, a file or a variable that is wrong.
    pub fn encryptor_beside(&self, backups: Option<&Encryption>) -> Result<Option<Arc<dyn Encryptor>>> {
        let of_jobs = self.jobs.iter().filter_map(|job| job.encrypt.as_ref());
        let mut choices = backups.into_iter().chain(of_jobs).filter(|choice| !matches!(choice, Encryption::None));
        choices.next().map_or(Ok(None), Encryption::encryptor)
    }

    /// What has to be there before it works.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with other systems than those it was read with.
    pub fn needs(&self, systems: &Systems) -> Result<Needs> {
        use secrecy::ExposeSecret;
        let source = Source::new(&self.path, self.text.expose_secret());
        Reader::new(&source, systems).read()?;
        let (variables, named) = redact::needs(&source, systems);
        let mut files: BTreeSet<String> = named.into_iter().collect();
        let identities = self.jobs.iter().flat_map(|job| &job.identities).map(Setting::raw);
        files.extend(
            identities
                .filter(|raw| !raw.starts_with("age-passphrase:") && !raw.starts_with("openssl:"))
                .map(str::to_owned),
        );
        for job in &self.jobs {
            if let Some(Encryption::Age { files: recipients, .. }) = &job.encrypt {
                files.extend(recipients.iter().map(|file| file.raw().to_owned()));
            }
        }
        Ok(Needs { variables, files: files.into_iter().collect() })
    }

    /// Whether a file that it names is there.
    pub fn has_file(&self, named: &str) -> bool {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        Setting::new(named, "", folder).path().is_ok_and(|path| path.exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_that_of_a_config_or_it_is_not() {
        let key = "databases/_lifeboat/config/20261121-033000-00112233445566aa.toml.age";
        let stored = Stored::parse(key).unwrap();
        assert_eq!((stored.prefix(), stored.encryption.as_deref()), ("databases", Some("age")));
        let top = Stored::parse("_lifeboat/config/20261121-033000-00112233445566aa.toml").unwrap();
        assert_eq!((top.prefix(), top.encryption.as_deref()), ("", None));
        for other in [
            "_lifeboat/config/20261121-033000-00112233445566aa.toml.",
            "_lifeboat/config/20261121-033000-00112233445566aa.toml.age.json",
            "_lifeboat/config/20261121-033000-0011.toml",
            "x_lifeboat/config/20261121-033000-00112233445566aa.toml",
            "_lifeboat/config/x/20261121-033000-00112233445566aa.toml",
            "20261121-033000-00112233445566aa.toml",
        ] {
            assert_eq!(Stored::parse(other), None, "{other}");
        }
    }
}
