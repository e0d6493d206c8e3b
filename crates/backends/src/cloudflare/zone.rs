//! Zones: how they are named, and which one a name means.

use std::collections::BTreeMap;

use lifeboat_core::progress::Event;
use lifeboat_core::{Context, Error, ErrorKind, Result};
use serde_json::Value;

/// The status of a zone that Cloudflare answers for.
const ACTIVE: &str = "active";

/// A zone as it is named: by its domain, by its id, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZoneRef {
    /// By its domain, in lower case, in its ASCII form.
    Name(String),
    /// By its id: 32 hexadecimal digits.
    Id(String),
    /// Every zone that the token sees; for a restore, the one that the artifact is of.
    Any,
}

impl ZoneRef {
    /// Reads a domain, an id, `*`, or one of these after `cloudflare://`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for what is none of them.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::Config, "use", format!("zone \"{text}\""), why)
                .hint("write a domain as in example.org, a zone's id, or * for all zones that the token sees")
        };
        let name = text.strip_prefix("cloudflare://").unwrap_or(text).trim_end_matches(['/', '.']);
        if name.is_empty() || name == "*" {
            return Ok(Self::Any);
        }
        if name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self::Id(name.to_ascii_lowercase()));
        }
        if name.contains("://") {
            return Err(wrong("it is an address of something else"));
        }
        let ascii = super::dns::ascii(name).ok_or_else(|| wrong("it is not a domain"))?;
        if !ascii.contains('.') || ascii.bytes().any(|b| !(b.is_ascii_alphanumeric() || b == b'.' || b == b'-')) {
            return Err(wrong("it is not a domain"));
        }
        Ok(Self::Name(ascii))
    }

    /// The domain, where that is how it is named.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }
}

impl std::fmt::Display for ZoneRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "cloudflare://{name}"),
            Self::Id(id) => write!(f, "cloudflare://{id}"),
            Self::Any => f.write_str("cloudflare://"),
        }
    }
}

/// A zone as the API tells it; the rest of what it tells is in `all`.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its id.
    pub id: String,
    /// Its domain.
    pub name: String,
    /// Everything that was told.
    pub all: Value,
    /// The other zones of that name that the token sees: id and status.
    others: Vec<String>,
}

impl Zone {
    pub(super) fn read(all: Value, subject: &str) -> Result<Self> {
        let text = |key: &str| all[key].as_str().map(str::to_owned);
        match (text("id"), text("name")) {
            (Some(id), Some(name)) => Ok(Self { id, name, all, others: Vec::new() }),
            _ => Err(Error::new(ErrorKind::Unavailable, "read", subject.to_owned(), "the zone has no id or no name")
                .transient(false)),
        }
    }

    /// Whether the zone is on the free plan, whose batches are small.
    pub(super) fn is_free(&self) -> bool {
        self.all["plan"]["legacy_id"].as_str().is_none_or(|plan| plan == "free")
    }
    /// `active`, `pending`, `moved`, `deactivated` and the like.
    pub(super) fn status(&self) -> &str {
        self.all["status"].as_str().unwrap_or("of unknown status")
    }

    fn is_active(&self) -> bool {
        self.status() == ACTIVE
    }

    /// What has to be known of the zone, should there be something.
    pub(super) fn remark(&self) -> Option<String> {
        if !self.others.is_empty() {
            return Some(format!(
                "the token sees several zones {}: the active one, {}, is used instead of {}; to choose another, name the zone by its id",
                self.name,
                self.id,
                self.others.join(", ")
            ));
        }
        let told = self.all["status"].as_str().filter(|status| *status != ACTIVE)?;
        Some(format!("the zone {} is {told} at Cloudflare, so Cloudflare does not answer for it", self.name))
    }

    /// Says the [`remark`](Self::remark) while something runs.
    pub(super) fn say_remark(&self, cx: &Context) {
        if let Some(remark) = self.remark() {
            cx.progress.event(Event::Note(remark));
        }
    }

    fn id_and_status(&self) -> String {
        let account = self.all["account"]["name"].as_str().map(|name| format!(", account {name}")).unwrap_or_default();
        format!("{} ({}{account})", self.id, self.status())
    }
}

/// Zones by their names in lower case. There may be several of a name: one that was moved stays behind in its old account.
pub(super) fn by_name(zones: Vec<Zone>) -> BTreeMap<String, Vec<Zone>> {
    let mut names: BTreeMap<String, Vec<Zone>> = BTreeMap::new();
    for zone in zones {
        names.entry(super::dns::lower(&zone.name)).or_default().push(zone);
    }
    names
}

/// The one zone of a name: the active one, where there are several.
///
/// # Errors
/// [`ErrorKind::NotFound`] for none, [`ErrorKind::Config`] when it cannot be told which of them is meant.
pub(super) fn choose(mut zones: Vec<Zone>, subject: &str) -> Result<Zone> {
    if zones.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "find", subject, "the token sees no such zone").hint(
            "is the domain right, and can the token read that zone? In a new account, add the zone in the dashboard first",
        ));
    }
    if zones.len() == 1 {
        return Ok(zones.remove(0));
    }
    zones.sort_by(|a, b| a.id.cmp(&b.id));
    let (mut active, others): (Vec<Zone>, Vec<Zone>) = zones.into_iter().partition(Zone::is_active);
    if active.len() == 1 {
        let mut zone = active.remove(0);
        zone.others = others.iter().map(Zone::id_and_status).collect();
        return Ok(zone);
    }
    let all: Vec<String> = active.iter().chain(&others).map(Zone::id_and_status).collect();
    let message = format!("the token sees {} zones of that name: {}", all.len(), all.join(", "));
    Err(Error::new(ErrorKind::Config, "choose", subject, message).hint(
        "name the zone by its id and give its backups their own dataset, or use a token that sees only one of them",
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn zones_are_named_by_domain_or_id() {
        let id = "023E105F4ECEF8AD9CA31A8372D0C353";
        assert_eq!(ZoneRef::parse("cloudflare://Example.org/").unwrap(), ZoneRef::Name("example.org".to_owned()));
        assert_eq!(ZoneRef::parse("bücher.example").unwrap(), ZoneRef::Name("xn--bcher-kva.example".to_owned()));
        assert_eq!(ZoneRef::parse(id).unwrap(), ZoneRef::Id(id.to_lowercase()));
        for any in ["*", "cloudflare://", ""] {
            assert_eq!(ZoneRef::parse(any).unwrap(), ZoneRef::Any);
        }
        for wrong in ["postgres://x/y", "example", "exa mple.org", "a/b.org"] {
            assert_eq!(ZoneRef::parse(wrong).unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
    }

    fn zone(id: &str, status: &str) -> Zone {
        Zone::read(json!({"id": id, "name": "example.org", "status": status, "account": {"name": "Old"}}), "x").unwrap()
    }

    #[test]
    fn of_zones_with_one_name_the_active_one_is_meant_and_a_tie_is_refused() {
        let chosen = choose(vec![zone("1", "moved"), zone("2", "active"), zone("3", "pending")], "x").unwrap();
        assert_eq!(chosen.id, "2");
        let remark = chosen.remark().unwrap();
        assert!(remark.contains("1 (moved, account Old), 3 (pending"), "{remark}");
        for tie in [["active", "active"], ["moved", "pending"]] {
            let error = choose(vec![zone("1", tie[0]), zone("2", tie[1])], "cloudflare://example.org").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(&format!("2 zones of that name: 1 ({}", tie[0])), "{error}");
        }
        assert_eq!(choose(vec![], "x").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(choose(vec![zone("1", "active")], "x").unwrap().remark(), None);
        let alone = choose(vec![zone("1", "moved")], "x").unwrap().remark().unwrap();
        assert!(alone.contains("is moved at Cloudflare"), "{alone}");
    }
}
