//! The shape of the file: its tables as serde reads them. What they mean together is decided one level up.

use std::collections::BTreeMap;
use std::fmt;

use lifeboat_core::catalog::MaxShrink;
use lifeboat_core::retention::Policy;
use lifeboat_core::{Compression, Level, Status, duration};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

/// `[sinks.NAME]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sink {
    pub(crate) url: Spanned<String>,
    pub(crate) endpoint: Option<Spanned<String>>,
    pub(crate) region: Option<Spanned<String>>,
    pub(crate) access_key: Option<Spanned<String>>,
    pub(crate) secret_key: Option<Spanned<String>>,
    pub(crate) session_token: Option<Spanned<String>>,
    pub(crate) lock: Option<Lock>,
    pub(crate) keep: Option<Policy>,
}

/// `lock = { mode = "governance", days = 30 }`, or `"governance:30"`.
#[derive(Clone, Copy)]
pub(crate) struct Lock(pub(crate) lifeboat_sinks::Lock);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockTable {
    mode: String,
    days: u32,
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

/// `[defaults]`: for jobs that do not say otherwise.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Defaults {
    pub(crate) sinks: Option<Vec<Spanned<String>>>,
    pub(crate) prefix: Option<Spanned<String>>,
    pub(crate) compress: Option<Packing>,
    pub(crate) encrypt: Option<Spanned<Encrypt>>,
    pub(crate) identity: Option<Spanned<Texts>>,
    pub(crate) keep: Option<Policy>,
    pub(crate) verify: Option<Verify>,
    #[serde(default, deserialize_with = "sink_grace")]
    pub(crate) sink_grace: Option<std::time::Duration>,
    #[serde(default, deserialize_with = "stall_limit")]
    pub(crate) stall_limit: Option<std::time::Duration>,
    pub(crate) allow_empty: Option<bool>,
    pub(crate) max_shrink: Option<MaxShrink>,
}

/// `[jobs.NAME]`, without the one key that names its system.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    pub(crate) dataset: Option<Spanned<String>>,
    pub(crate) prefix: Option<Spanned<String>>,
    pub(crate) schedule: Option<Spanned<String>>,
    pub(crate) verify_schedule: Option<Spanned<String>>,
    pub(crate) sinks: Option<Vec<Spanned<String>>>,
    pub(crate) compress: Option<Packing>,
    pub(crate) encrypt: Option<Spanned<Encrypt>>,
    pub(crate) identity: Option<Spanned<Texts>>,
    pub(crate) keep: Option<Policy>,
    pub(crate) keep_in: Option<Spanned<BTreeMap<String, Policy>>>,
    pub(crate) verify: Option<Verify>,
    #[serde(default, deserialize_with = "sink_grace")]
    pub(crate) sink_grace: Option<std::time::Duration>,
    #[serde(default, deserialize_with = "stall_limit")]
    pub(crate) stall_limit: Option<std::time::Duration>,
    pub(crate) allow_empty: Option<bool>,
    pub(crate) max_shrink: Option<MaxShrink>,
}

/// `verify = { level = "restore", max_age = "2d", age_status = "fail" }`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verify {
    #[serde(default, deserialize_with = "level")]
    pub(crate) level: Option<Level>,
    #[serde(default, deserialize_with = "max_age")]
    pub(crate) max_age: Option<std::time::Duration>,
    #[serde(default, deserialize_with = "age_status")]
    pub(crate) age_status: Option<Status>,
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

fn age_status<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Status>, D::Error> {
    match String::deserialize(d)?.as_str() {
        "warn" => Ok(Some(Status::Warn)),
        "fail" => Ok(Some(Status::Fail)),
        _ => Err(D::Error::custom("age_status is \"warn\" or \"fail\"")),
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

/// `{ age = { recipients = […] } }` or `{ openssl = { passphrase = "${NAME}" } }`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EncryptTable {
    pub(crate) age: Option<AgeTable>,
    pub(crate) openssl: Option<OpenSslTable>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgeTable {
    #[serde(default)]
    pub(crate) recipients: Vec<String>,
    pub(crate) recipients_file: Option<String>,
    pub(crate) passphrase: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenSslTable {
    pub(crate) passphrase: String,
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
