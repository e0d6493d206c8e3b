//! Checks of a bucket before it is relied on.

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use lifeboat_core::check::PROBE;
use lifeboat_core::name::join_key;
use lifeboat_core::report::human_duration;
use lifeboat_core::{Check, ErrorKind, Result};
use serde::Deserialize;

use super::Store;
use super::failure::{Action, clock_ahead, is_answer};
use super::lock::BucketLock;
use super::request::{Document, Request};
use super::versions::Versioning;

/// From here on a wrong clock is reported. Certificates and retention suffer first.
const SKEW_TO_TELL: u64 = 60;
/// From here on stores refuse signatures (SigV4).
const SKEW_REFUSED: u64 = 15 * 60;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lifecycle {
    #[serde(default)]
    rule: Vec<Rule>,
}

impl Document for Lifecycle {
    const ROOT: &'static str = "LifecycleConfiguration";
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Rule {
    #[serde(rename = "ID")]
    id: String,
    status: String,
    /// The old place of the prefix.
    prefix: Option<String>,
    filter: Option<Filter>,
    expiration: Option<Expiration>,
    noncurrent_version_expiration: Option<Noncurrent>,
    abort_incomplete_multipart_upload: Option<Abort>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Filter {
    prefix: Option<String>,
    and: Option<And>,
    /// A rule for objects with a tag: ours have none.
    tag: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct And {
    prefix: Option<String>,
    tag: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Expiration {
    days: Option<u32>,
    date: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Noncurrent {
    noncurrent_days: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Abort {
    days_after_initiation: Option<u32>,
}

impl Rule {
    fn name(&self) -> &str {
        if self.id.is_empty() { "without a name" } else { &self.id }
    }

    /// Whether it applies to objects below `folder` (with its slash, or empty).
    fn concerns(&self, folder: &str) -> bool {
        let filter = self.filter.as_ref();
        let and = filter.and_then(|f| f.and.as_ref());
        let tagged = filter.is_some_and(|f| f.tag.is_some()) || and.is_some_and(|a| !a.tag.is_empty());
        let prefix = and
            .and_then(|a| a.prefix.as_deref())
            .or_else(|| filter.and_then(|f| f.prefix.as_deref()))
            .or(self.prefix.as_deref())
            .unwrap_or_default();
        self.status == "Enabled" && !tagged && (folder.starts_with(prefix) || prefix.starts_with(folder))
    }
}

pub(super) async fn inspect(store: &Arc<Store>, folder: &str, probe: Option<&str>) -> Vec<Check> {
    let mut found = vec![of_connection(store)];
    let asked = Timestamp::now();
    let bucket = Request::bucket(Action::List, &store.url, Method::HEAD);
    let name = &store.place.bucket;
    match store.send(bucket).await {
        Ok(reply) => {
            let answered = Timestamp::now();
            found.insert(0, Check::pass("bucket", "exists", format!("{name} at {}", store.place.endpoint)));
            let date = reply.header("date").and_then(|d| jiff::fmt::rfc2822::parse(d).ok());
            found.extend(date.map(|date| of_clock(date.timestamp(), asked, answered)));
        }
        // Whoever may not list may not ask for the bucket either.
        Err(error) if error.kind() == ErrorKind::Permission => {
            found.insert(0, Check::pass("bucket", "not asked", format!("{}: {}", name, error.message())));
            let ahead = clock_ahead(&error).map(jiff::SignedDuration::from_secs);
            let answered = Timestamp::now();
            found.extend(ahead.map(|ahead| of_clock(answered + ahead, asked, answered)));
        }
        Err(error) => {
            found.insert(0, Check::from_error("bucket", &error));
            return found;
        }
    }
    if let Some(probe) = probe {
        found.push(of_overwriting(store, probe).await);
        if store.place.profile.checksums && !store.means().checksums {
            let detail = "the store refuses x-amz-checksum-…: it checks each write by its Content-MD5";
            found.push(Check::pass("checksums", "MD5", detail));
        }
    }
    let versioning = match store.ask_versioning().await {
        Ok(versioning) => versioning,
        Err(error) => {
            found.push(Check::from_error("versioning", &error));
            return found;
        }
    };
    found.push(of_versioning(store, versioning));
    found.extend(of_lifecycle(store, folder, versioning).await);
    found.push(of_lock(store).await);
    found
}

fn of_connection(store: &Store) -> Check {
    let endpoint = &store.place.endpoint;
    let Some(rest) = endpoint.strip_prefix("http://") else {
        return Check::pass("tls", "https", endpoint);
    };
    let host = url::Url::parse(endpoint).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if loopback {
        return Check::pass("tls", "http, loopback", format!("{rest} is this machine"));
    }
    let detail = "anyone on the network path sees names, sizes and whatever is not encrypted; give the store a certificate, and \
                  remove ?tls=false";
    Check::warn("tls", "http", detail)
}

/// The store's clock against ours. Its date has whole seconds, and it was made somewhere between question and answer.
fn of_clock(theirs: Timestamp, asked: Timestamp, answered: Timestamp) -> Check {
    let second = jiff::SignedDuration::from_secs(1);
    let off = if theirs + second < asked {
        asked.duration_since(theirs + second)
    } else if theirs > answered {
        theirs.duration_since(answered)
    } else {
        jiff::SignedDuration::ZERO
    };
    let seconds = off.as_secs().unsigned_abs();
    let side = if theirs > answered { "behind" } else { "ahead of" };
    let figure = human_duration(std::time::Duration::from_secs(seconds));
    let detail = format!("this clock is {figure} {side} the store's; set it with NTP");
    match seconds {
        0 => Check::pass("clock", "agrees", "with the store's, to the second"),
        1..=SKEW_TO_TELL => Check::pass("clock", figure.clone(), format!("{side} the store's")),
        _ if seconds <= SKEW_REFUSED => Check::warn("clock", figure.clone(), detail),
        _ => {
            Check::fail("clock", figure.clone(), format!("{detail}: stores refuse requests that are off by 15 minutes"))
        }
    }
}

async fn of_overwriting(store: &Arc<Store>, probe: &str) -> Check {
    let name = "no overwriting";
    if !store.place.profile.conditional_create {
        let detail =
            format!("{} cannot refuse it: Lifeboat checks before and after each write", store.place.profile.name);
        return Check::pass(name, "by looking", detail);
    }
    let tried = store.refuses_to_overwrite(probe, PROBE).await;
    if !store.means().conditions {
        return Check::warn(
            name,
            "by looking",
            "the store refuses If-None-Match: Lifeboat checks before and after each write, and two runs that start in the \
             same second could overwrite each other; let only one machine write a dataset",
        );
    }
    match tried {
        Ok(true) => Check::pass(name, "refused", "a second write to the same key was refused (If-None-Match)"),
        Ok(false) => Check::warn(
            name,
            "not refused",
            "the store ignores If-None-Match: two runs that start in the same second could overwrite each other; let only \
             one machine write a dataset",
        ),
        Err(error) => Check::from_error(name, &error),
    }
}

fn of_versioning(store: &Store, versioning: Versioning) -> Check {
    let rights = &store.place.profile.rights;
    let needs = format!("prune needs {} and {} to free the space", rights.list_versions, rights.delete_version);
    match versioning {
        Versioning::Never => Check::pass("versioning", "off", "deletion is final"),
        Versioning::Enabled => Check::pass("versioning", "on", format!("deleted objects are only hidden; {needs}")),
        Versioning::Suspended => {
            Check::pass("versioning", "suspended", format!("older versions may take up space; {needs}"))
        }
        Versioning::Unknown => Check::pass(
            "versioning",
            "not asked",
            format!("the key may not read the setting ({}); a writer does not need to", rights.versioning),
        ),
    }
}

async fn of_lifecycle(store: &Arc<Store>, folder: &str, versioning: Versioning) -> Vec<Check> {
    let question = Request::bucket(Action::ReadSettings, &store.url, Method::GET).query("lifecycle", "");
    let rules = match store.ask::<Lifecycle>(question).await {
        Ok(lifecycle) => lifecycle.rule,
        // NoSuchLifecycleConfiguration, or a store that has none.
        Err(error) if [404, 400, 405, 501].iter().any(|status| is_answer(&error, *status)) => Vec::new(),
        Err(error) if error.kind() == ErrorKind::Permission => {
            let right = store.place.profile.rights.lifecycle;
            let detail = format!("the key may not read the setting ({right}); a writer does not need to");
            return vec![Check::pass("lifecycle", "not asked", detail)];
        }
        Err(error) => return vec![Check::from_error("lifecycle", &error)],
    };
    let folder = match join_key(&store.base, folder) {
        folder if folder.is_empty() => folder,
        folder => format!("{folder}/"),
    };
    of_rules(store, &rules, &folder, versioning)
}

fn of_rules(store: &Store, rules: &[Rule], folder: &str, versioning: Versioning) -> Vec<Check> {
    let ours = || rules.iter().filter(|rule| rule.concerns(folder));
    let mut found = Vec::new();
    for rule in ours() {
        let Some(expiration) = &rule.expiration else { continue };
        let when = match (expiration.days, &expiration.date) {
            (Some(days), _) => format!("after {days} days"),
            (None, Some(date)) => format!("on {date}"),
            // It only removes delete markers.
            (None, None) => continue,
        };
        let detail = format!(
            "the bucket's rule \"{}\" deletes backups {when}, regardless of `keep`; restrict it to another prefix",
            rule.name()
        );
        found.push(Check::warn("expiry", when, detail));
    }
    if found.is_empty() {
        found.push(Check::pass("expiry", "none", "no rule of the bucket deletes backups"));
    }

    let aborts = ours().filter_map(|r| r.abort_incomplete_multipart_upload.as_ref()?.days_after_initiation).min();
    found.push(match aborts {
        Some(days) => Check::pass("unfinished uploads", format!("{days}d"), "a rule of the bucket aborts them"),
        None if store.place.profile.aborts_stale_uploads => {
            let detail = "MinIO aborts them on its own (MINIO_API_STALE_UPLOADS_EXPIRY, 24h unless it is set)";
            Check::pass("unfinished uploads", "no rule", detail)
        }
        None => Check::warn(
            "unfinished uploads",
            "no rule",
            "parts of a killed run are billed until orphans are pruned; add a rule that aborts incomplete uploads after 7 days",
        ),
    });

    if versioning == Versioning::Enabled || versioning == Versioning::Suspended {
        let expires = ours().filter_map(|r| r.noncurrent_version_expiration.as_ref()?.noncurrent_days).min();
        found.push(match expires {
            Some(days) => {
                Check::pass("hidden versions", format!("{days}d"), "a rule of the bucket deletes them after that")
            }
            None => Check::warn(
                "hidden versions",
                "no rule",
                "what a key without the right to delete versions has hidden is billed until orphans are pruned; let a \
                 rule delete noncurrent versions after some days",
            ),
        });
    }
    found
}

async fn of_lock(store: &Arc<Store>) -> Check {
    let name = "object lock";
    let wanted = store.lock.map(|lock| format!("backups are locked for {} days ({})", lock.days, lock.mode));
    let lock: Result<BucketLock> = store.ask_bucket_lock().await;
    match (lock, wanted) {
        (Err(error), _) => Check::from_error(name, &error),
        (Ok(BucketLock::Unknown), wanted) => Check::pass(
            name,
            "not asked",
            match wanted {
                Some(wanted) => format!("{wanted}; the key may not read whether the bucket can lock"),
                None => {
                    let right = store.place.profile.rights.bucket_lock;
                    format!("the key may not read the setting ({right}); a writer does not need to")
                }
            },
        ),
        (Ok(BucketLock::None), Some(_)) => Check::fail(
            name,
            "off",
            "`lock` is set, and the bucket cannot lock objects: every write is refused. Enable Object Lock on it, or \
             remove `lock`",
        ),
        (Ok(BucketLock::None), None) => {
            Check::pass(name, "off", "anyone with the right to delete can delete backups at any time")
        }
        (Ok(BucketLock::Enabled(default)), wanted) => {
            let default = default.map(|default| {
                let long = match (default.days, default.years) {
                    (Some(days), _) => format!("{days} days"),
                    (None, Some(years)) => format!("{years} years"),
                    (None, None) => "a time".to_owned(),
                };
                let mode = default.mode.to_lowercase();
                format!("the bucket locks everything for {long} ({mode}), notes and probes too: pruning orphans removes those after that time")
            });
            let figure = if wanted.is_some() || default.is_some() { "on" } else { "possible" };
            let detail = match (wanted, default) {
                (None, None) => {
                    "the bucket can lock objects, but these are not locked; set `lock = { mode, days }` to lock them"
                        .to_owned()
                }
                (wanted, default) => [wanted, default].into_iter().flatten().collect::<Vec<_>>().join("; "),
            };
            Check::pass(name, figure, detail)
        }
    }
}
