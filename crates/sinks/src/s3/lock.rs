//! Object Lock: the headers that lock new objects, and what holds an object now.

use std::sync::Arc;

use futures::StreamExt;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use lifeboat_core::sink::{Held, HoldMode};
use lifeboat_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use super::Store;
use super::failure::{Action, is_answer, says_missing};
use super::request::{Document, Request};
use crate::settings::{Lock, LockMode};

/// Questions about single objects that are asked side by side.
const SIDE_BY_SIDE: usize = 8;

/// The bucket's Object Lock setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BucketLock {
    /// It has none: nothing can be held.
    None,
    /// It can hold objects; new ones are held by default for this long.
    Enabled(Option<DefaultRetention>),
    /// This key may not ask.
    Unknown,
}

/// How long new objects are held if a write sets nothing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DefaultRetention {
    pub(super) mode: String,
    pub(super) days: Option<u32>,
    pub(super) years: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    #[serde(default)]
    object_lock_enabled: String,
    rule: Option<Rule>,
}

impl Document for Configuration {
    const ROOT: &'static str = "ObjectLockConfiguration";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    default_retention: Option<DefaultRetention>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Retention {
    mode: Option<String>,
    retain_until_date: Option<String>,
}

impl Document for Retention {
    const ROOT: &'static str = "Retention";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LegalHold {
    #[serde(default)]
    status: String,
}

impl Document for LegalHold {
    const ROOT: &'static str = "LegalHold";
}

/// Adds the headers that lock the object.
pub(super) fn locked(request: Request<'_>, lock: Option<Lock>) -> Request<'_> {
    let Some(lock) = lock else { return request };
    let mode = match lock.mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    };
    let until = Timestamp::now()
        .checked_add(SignedDuration::from_hours(24 * i64::from(lock.days)))
        .unwrap_or(Timestamp::MAX)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    request.header("x-amz-object-lock-mode", mode).header("x-amz-object-lock-retain-until-date", &until)
}

impl Store {
    /// The bucket's Object Lock setting; asked once.
    pub(super) async fn bucket_lock(&self) -> Result<BucketLock> {
        self.known.lock.get_or_try_init(|| self.ask_bucket_lock()).await.cloned()
    }

    pub(super) async fn ask_bucket_lock(&self) -> Result<BucketLock> {
        let question = Request::bucket(Action::ReadSettings, &self.url, Method::GET).query("object-lock", "");
        match self.ask::<Configuration>(question).await {
            Ok(configuration) if configuration.object_lock_enabled != "Enabled" => Ok(BucketLock::None),
            Ok(configuration) => Ok(BucketLock::Enabled(configuration.rule.and_then(|rule| rule.default_retention))),
            Err(error) if error.kind() == ErrorKind::Permission => Ok(BucketLock::Unknown),
            // ObjectLockConfigurationNotFoundError; or a store that does not know the question.
            Err(error) if is_answer(&error, 404) && !error.message().starts_with("the bucket") => Ok(BucketLock::None),
            Err(error) if is_answer(&error, 501) || is_answer(&error, 400) || is_answer(&error, 405) => {
                Ok(BucketLock::None)
            }
            Err(error) => Err(error),
        }
    }

    /// What holds an object (or one version of it) now.
    pub(super) async fn hold_of(&self, key: &str, version: Option<&str>) -> Result<Option<Held>> {
        let about = |name: &'static str| {
            let request = Request::object(Action::LookUpLock, key, Method::GET, self.full_key(key)).query(name, "");
            match version {
                Some(id) => request.query("versionId", id),
                None => request,
            }
        };
        let hold = |until, mode| Some(Held::new(key, until, mode));
        match self.ask::<LegalHold>(about("legal-hold")).await {
            Ok(answer) if answer.status == "ON" => return Ok(hold(None, HoldMode::LegalHold)),
            Ok(_) => {}
            Err(error) if says_unlocked(&error) => {}
            // Whoever may ask for the one need not be allowed to ask for the other.
            Err(error) if error.kind() == ErrorKind::Permission => {}
            Err(error) => return Err(error),
        }
        let retention = match self.ask::<Retention>(about("retention")).await {
            Ok(retention) => retention,
            Err(error) if says_unlocked(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let strange = |why: String| self.place.strange_answer(Action::LookUpLock, key, why);
        let until = match (&retention.retain_until_date, &retention.mode) {
            (Some(text), _) => {
                Some(text.parse::<Timestamp>().map_err(|_| strange(format!("\"{text}\" is not a time")))?)
            }
            (None, Some(mode)) => return Err(strange(format!("it names the lock mode {mode} but no time"))),
            (None, None) => None,
        };
        let mode = match retention.mode.as_deref() {
            Some("COMPLIANCE") => HoldMode::Compliance,
            _ => HoldMode::Governance,
        };
        Ok(until.filter(|until| *until > Timestamp::now()).and_then(|until| hold(Some(until), mode)))
    }

    /// Which of these objects are held.
    pub(super) async fn held(self: &Arc<Self>, keys: &[String]) -> Result<Vec<Held>> {
        if keys.is_empty() || self.bucket_lock().await? == BucketLock::None {
            return Ok(Vec::new());
        }
        let mut asked = futures::stream::iter(keys.iter().cloned())
            .map(|key| {
                let store = self.clone();
                async move { store.hold_of(&key, None).await }
            })
            .buffered(SIDE_BY_SIDE);
        let mut held = Vec::new();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(hold) => held.extend(hold),
                // Deleting will say.
                Err(error) if error.kind() == ErrorKind::Permission => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        Ok(held)
    }
}

/// Whether the answer says that nothing holds the object, or that there is none.
fn says_unlocked(error: &Error) -> bool {
    says_missing(error) || is_answer(error, 400) || is_answer(error, 405) || is_answer(error, 501)
}
