//! The structure of the file: its tables as serde reads them. Their combined meaning is determined one level up.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;

use lifeboat_core::catalog::MaxShrink;
use lifeboat_core::limiter::{Rate, parse_size};
use lifeboat_core::retention::Policy;
use lifeboat_core::{Compression, Level, Status, duration};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

lifeboat_core::described! {
/// `[sinks.NAME]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sink {
    /// Where it is: file:///folder, s3://bucket/prefix, minio://host:port/bucket/prefix or b2://bucket/prefix. Required.
    /// Example: `url = "s3://backups/shop"`
    pub(crate) url: Spanned<String>,
    /// The address of the store. Default: the one of AWS or of the region; with minio:// it is in the URL.
    /// Example: `endpoint = "https://s3.example.org"`
    pub(crate) endpoint: Option<Spanned<String>>,
    /// The region of the bucket. Default: the variable of the store, as AWS_REGION.
    /// Example: `region = "eu-central-1"`
    pub(crate) region: Option<Spanned<String>>,
    /// The access key: a variable or a file that holds it. Default: the variable of the store, as AWS_ACCESS_KEY_ID; for s3://
    /// the role of the machine or Pod.
    /// Example: `access_key = "${BACKUP_KEY}"`
    pub(crate) access_key: Option<Spanned<String>>,
    /// The secret key: a variable or a file that holds it. Default: the variable of the store, as AWS_SECRET_ACCESS_KEY.
    /// Example: `secret_key = "file:/etc/lifeboat/secret"`
    pub(crate) secret_key: Option<Spanned<String>>,
    /// The token of temporary keys. Default: the variable of the store, as AWS_SESSION_TOKEN.
    /// Example: `session_token = "${BACKUP_TOKEN}"`
    pub(crate) session_token: Option<Spanned<String>>,
    /// Object Lock: nothing can delete a backup before this is over. Default: the bucket's own.
    /// Example: `lock = { mode = "governance", days = 30 }`
    pub(crate) lock: Option<Lock>,
    /// What prune keeps in this sink, for jobs that do not say otherwise. Default: the jobs' keep.
    /// Example: `keep = "90d,at-least=3"`
    pub(crate) keep: Option<Policy>,
}
}

/// `lock = { mode = "governance", days = 30 }`, or `"governance:30"`.
#[derive(Clone, Copy)]
pub(crate) struct Lock(pub(crate) lifeboat_sinks::Lock);

lifeboat_core::described! {
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockTable {
    /// governance (who has the right may delete earlier) or compliance (nobody may). Required.
    /// Example: `mode = "governance"`
    mode: String,
    /// For how many days after it was stored. Required.
    /// Example: `days = 30`
    days: u32,
}
}

impl<'de> Deserialize<'de> for Lock {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Lock;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ mode = \"governance\", days = 30 } or \"governance:30\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Lock, E> {
                text.parse().map(Lock).map_err(|e| with_advice(&e))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Lock, A::Error> {
                let table = LockTable::deserialize(MapAccessDeserializer::new(map))?;
                lifeboat_sinks::Lock::new(&table.mode, table.days).map(Lock).map_err(|e| with_advice(&e))
            }
        }
        d.deserialize_any(Form)
    }
}

/// A table with the keys that a job has, and `[defaults]` for all jobs.
macro_rules! of_jobs {
    ($(#[$meta:meta])* struct $name:ident { $($own:tt)* }) => {
        lifeboat_core::described! {
            $(#[$meta])*
            pub(crate) struct $name {
                $($own)*
                /// The names of the sinks in which it is stored; it is read once. Default: the only sink.
                /// Example: `sinks = ["local", "offsite"]`
                pub(crate) sinks: Option<Vec<Spanned<String>>>,
                /// The folder in each sink. Default: none.
                /// Example: `prefix = "databases"`
                pub(crate) prefix: Option<Spanned<String>>,
                /// zstd:LEVEL (1 to 22), gzip:LEVEL (1 to 9) or none. Default: zstd:3, or as the system is compressed best.
                /// Example: `compress = "zstd:6"`
                pub(crate) compress: Option<Packing>,
                /// How it is encrypted: a text as after --encrypt, a list of them, or a table. Default: none; without a choice, a backup is
                /// an error.
                /// Example: `encrypt = "age:age1…"`
                pub(crate) encrypt: Option<Spanned<Encrypt>>,
                /// The keys to decrypt with: files with age identities or an SSH private key, age-passphrase:env:NAME or
                /// openssl:env:NAME. Only verify and restore need them. Default: none.
                /// Example: `identity = "/etc/lifeboat/identity.txt"`
                pub(crate) identity: Option<Spanned<Texts>>,
                /// What prune keeps, by age and number: a text, or a table of the same rules. Default: everything.
                /// Example: `keep = "30d,at-least=3"`
                pub(crate) keep: Option<Policy>,
                /// What a verification asks for. Default: as its keys say.
                /// Example: `verify = { level = "restore", max_age = "2d" }`
                pub(crate) verify: Option<Verify>,
                /// How long a sink other than the first may hold up a backup. Default: 60s.
                /// Example: `sink_grace = "2min"`
                #[serde(default, deserialize_with = "sink_grace")]
                pub(crate) sink_grace: Option<std::time::Duration>,
                /// How long a backup may make no progress. Default: 2h.
                /// Example: `stall_limit = "30min"`
                #[serde(default, deserialize_with = "stall_limit")]
                pub(crate) stall_limit: Option<std::time::Duration>,
                /// Bytes per second that are sent to all sinks together. Default: no limit.
                /// Example: `upload_limit = "20MB/s"`
                pub(crate) upload_limit: Option<Rate>,
                /// Bytes per second that are read from sinks. Default: no limit.
                /// Example: `download_limit = "50MB/s"`
                pub(crate) download_limit: Option<Rate>,
                /// Bytes per second that are read from the source, before compression. Default: no limit.
                /// Example: `source_limit = "50MB/s"`
                pub(crate) source_limit: Option<Rate>,
                /// How many stages (compression, encryption, hashing) compute at once. Default: no limit.
                /// Example: `thread_limit = 1`
                #[serde(default, deserialize_with = "thread_limit")]
                pub(crate) thread_limit: Option<NonZeroUsize>,
                /// Bytes of memory that runs and copies may hold together. Default: no limit.
                /// Example: `memory_limit = "200MiB"`
                pub(crate) memory_limit: Option<Size>,
                /// Commands that run before and after. Default: none.
                /// Example: `hooks = { before = ["fsfreeze", "--freeze", "/srv"], after = ["fsfreeze", "--unfreeze", "/srv"] }`
                pub(crate) hooks: Option<Spanned<Hooks>>,
                /// Whether an empty dataset is as it should be. Default: false.
                /// Example: `allow_empty = true`
                pub(crate) allow_empty: Option<bool>,
                /// How much of its items, rows or bytes a dataset may lose between two backups without a warning; 100% never warns.
                /// Default: 50%.
                /// Example: `max_shrink = "80%"`
                pub(crate) max_shrink: Option<MaxShrink>,
            }
        }
    };
}

of_jobs! {
/// `[defaults]`: for jobs that do not say otherwise.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {}
}

of_jobs! {
/// `[jobs.NAME]`, without the one key that names its system.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    /// The name of the dataset, in the names of its backups. Default: the name of the job.
    /// Example: `dataset = "shop"`
    pub(crate) dataset: Option<Spanned<String>>,
    /// When it is backed up: five fields of cron, with 0#1 for the first Sunday of a month. It is checked; nothing runs it yet.
    /// Default: none.
    /// Example: `schedule = "30 3 * * *"`
    pub(crate) schedule: Option<Spanned<String>>,
    /// When it is verified, as schedule. Default: none.
    /// Example: `verify_schedule = "0 5 * * 0#1"`
    pub(crate) verify_schedule: Option<Spanned<String>>,
    /// What prune keeps in single sinks, by their names, instead of keep. Default: none.
    /// Example: `keep_in = { offsite = "90d" }`
    pub(crate) keep_in: Option<Spanned<BTreeMap<String, Policy>>>,
}
}

lifeboat_core::described! {
/// `hooks = { before = ["freeze.sh", "now"], after = ["thaw.sh"], timeout = "5min" }`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hooks {
    /// The program that runs before, and its arguments. Default: none.
    /// Example: `before = ["freeze.sh", "now"]`
    pub(crate) before: Option<Texts>,
    /// The program that runs after, and its arguments. Default: none.
    /// Example: `after = ["thaw.sh"]`
    pub(crate) after: Option<Texts>,
    /// How long each may take. Default: 5min.
    /// Example: `timeout = "1min"`
    pub(crate) timeout: Option<duration::Length>,
    /// Whether each is one text, a line for /bin/sh. Default: false.
    /// Example: `shell = true`
    #[serde(default)]
    pub(crate) shell: bool,
    /// The runs that have them: backup, restore, verify. Default: backup.
    /// Example: `on = ["backup", "restore"]`
    pub(crate) on: Option<Vec<HookedVerb>>,
    /// Names of variables that the commands get besides PATH, HOME and the like. Default: none.
    /// Example: `pass_env = ["FREEZE_TOKEN"]`
    #[serde(default)]
    pub(crate) pass_env: Vec<String>,
}
}

/// What hooks can be run before and after.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HookedVerb {
    Backup,
    Restore,
    Verify,
}

lifeboat_core::described! {
/// `verify = { level = "restore", max_age = "2d", age_status = "fail" }`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verify {
    /// How much is proven: stored, structure, restore or live. Default: restore.
    /// Example: `level = "structure"`
    #[serde(default, deserialize_with = "level")]
    pub(crate) level: Option<Level>,
    /// How old the newest backup may be. Default: any age, where the system has no limit of its own.
    /// Example: `max_age = "36h"`
    #[serde(default, deserialize_with = "max_age")]
    pub(crate) max_age: Option<std::time::Duration>,
    /// What one that is older is: fail or warn. Default: fail.
    /// Example: `age_status = "warn"`
    #[serde(default, deserialize_with = "age_status")]
    pub(crate) age_status: Option<Status>,
}
}

/// A parse error with its hint; a deserializer's error can only carry it in its text.
fn with_advice<E: serde::de::Error>(error: &lifeboat_core::Error) -> E {
    match crate::hint::advice(error) {
        Some(hint) => E::custom(format_args!("{}: {}; {hint}", error.subject(), error.message())),
        None => E::custom(format_args!("{}: {}", error.subject(), error.message())),
    }
}

fn level<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Level>, D::Error> {
    let text = String::deserialize(d)?;
    text.parse().map(Some).map_err(|e| with_advice(&e))
}

fn max_age<'de, D: Deserializer<'de>>(d: D) -> Result<Option<std::time::Duration>, D::Error> {
    let text = String::deserialize(d)?;
    duration::parse(&text, "max_age").map(Some).map_err(|e| with_advice(&e))
}

fn sink_grace<'de, D: Deserializer<'de>>(d: D) -> Result<Option<std::time::Duration>, D::Error> {
    let text = String::deserialize(d)?;
    duration::parse(&text, "sink_grace").map(Some).map_err(|e| with_advice(&e))
}

fn stall_limit<'de, D: Deserializer<'de>>(d: D) -> Result<Option<std::time::Duration>, D::Error> {
    let text = String::deserialize(d)?;
    duration::parse(&text, "stall_limit").map(Some).map_err(|e| with_advice(&e))
}

fn thread_limit<'de, D: Deserializer<'de>>(d: D) -> Result<Option<NonZeroUsize>, D::Error> {
    let threads = usize::deserialize(d)?;
    NonZeroUsize::new(threads)
        .map(Some)
        .ok_or_else(|| D::Error::custom("thread_limit is 1 or more; to set no limit, leave it out"))
}

fn age_status<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Status>, D::Error> {
    match String::deserialize(d)?.as_str() {
        "warn" => Ok(Some(Status::Warn)),
        "fail" => Ok(Some(Status::Fail)),
        _ => Err(D::Error::custom("age_status is \"warn\" or \"fail\"")),
    }
}

/// `memory_limit = "512MiB"`, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Size(pub(crate) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        parse_size(&String::deserialize(d)?, "memory_limit").map(Self).map_err(|e| with_advice(&e))
    }
}

/// `compress = "zstd:3"`.
#[derive(Clone, Copy)]
pub(crate) struct Packing(pub(crate) Compression);

impl<'de> Deserialize<'de> for Packing {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map(Self).map_err(|e| with_advice(&e))
    }
}

/// One text or a list of texts.
#[derive(Clone)]
pub(crate) struct Texts(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Texts, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Texts)
            }
        }
        d.deserialize_any(Either)
    }
}

/// `encrypt = …`: texts as on the command line, or a table.
#[derive(Clone)]
pub(crate) enum Encrypt {
    Texts(Texts),
    Table(EncryptTable),
}

lifeboat_core::described! {
/// `{ age = { recipients = […] } }` or `{ openssl = { passphrase = "${NAME}" } }`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EncryptTable {
    /// To recipients of age, or with a passphrase. Default: none.
    /// Example: `age = { recipients = ["age1…"] }`
    pub(crate) age: Option<AgeTable>,
    /// As openssl enc with AES-256-CBC. Default: none.
    /// Example: `openssl = { passphrase = "${PASSPHRASE}" }`
    pub(crate) openssl: Option<OpenSslTable>,
}
}

lifeboat_core::described! {
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgeTable {
    /// The public keys, of age or SSH. Default: none.
    /// Example: `recipients = ["age1…", "ssh-ed25519 AAAA…"]`
    #[serde(default)]
    pub(crate) recipients: Vec<String>,
    /// A file with such keys, one a line. Default: none.
    /// Example: `recipients_file = "/etc/lifeboat/recipients.txt"`
    pub(crate) recipients_file: Option<String>,
    /// A passphrase: a variable or a file that holds it. Default: none.
    /// Example: `passphrase = "${PASSPHRASE}"`
    pub(crate) passphrase: Option<String>,
}
}

lifeboat_core::described! {
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenSslTable {
    /// A passphrase: a variable or a file that holds it. Default: none.
    /// Example: `passphrase = "${PASSPHRASE}"`
    pub(crate) passphrase: String,
}
}

impl<'de> Deserialize<'de> for Encrypt {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Encrypt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"age:age1…\", { age = { recipients = […] } } or { openssl = { passphrase = \"${NAME}\" } }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Encrypt, E> {
                Ok(Encrypt::Texts(Texts(vec![text.to_owned()])))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Encrypt, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(|texts| Encrypt::Texts(Texts(texts)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Encrypt, A::Error> {
                EncryptTable::deserialize(MapAccessDeserializer::new(map)).map(Encrypt::Table)
            }
        }
        d.deserialize_any(Form)
    }
}
