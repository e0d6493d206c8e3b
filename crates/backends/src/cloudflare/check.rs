//! The checks before a backup: the token, the zone, each right.

use lifeboat_core::report::Check;
use lifeboat_core::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::source::{further_parts, is_withheld};
use super::zone::{self, Zone, ZoneRef};
use crate::http::Request;

/// Checks everything that a backup needs, and reports what it will not contain.
pub async fn check(api: &Api, zone: &ZoneRef) -> Vec<Check> {
    let cancel = CancellationToken::new();
    let mut checks = vec![token(api, &cancel).await];
    let zones = match zone {
        // If several zones have the same name, only one is backed up.
        ZoneRef::Any => api.zones(&cancel).await.map(|zones| {
            let names = zone::by_name(zones).into_iter();
            names.map(|(name, zones)| zone::choose(zones, &ZoneRef::Name(name).to_string())).collect()
        }),
        zone => api.zone(zone, &cancel).await.map(|zone| vec![Ok(zone)]),
    };
    let zones: Vec<Result<Zone>> = match zones {
        Ok(zones) => zones,
        Err(error) => {
            checks.push(Check::from_error("zone", &error));
            return checks;
        }
    };
    if zones.is_empty() {
        checks.push(Check::fail("zone", "none", "the token sees no zone: give it the right Zone Read"));
    }
    for zone in zones {
        match zone {
            Ok(zone) => {
                let plan = zone.all["plan"]["name"].as_str().unwrap_or("unknown").to_owned();
                let (name, detail) = (format!("zone {}", zone.name), format!("id {}, plan {plan}", zone.id));
                checks.push(match zone.remark() {
                    Some(remark) => Check::warn(name, zone.status(), format!("{detail}; {remark}")),
                    None => Check::pass(name, zone.status(), detail),
                });
                checks.extend(rights(api, &zone, &cancel).await);
            }
            Err(error) => checks.push(Check::from_error("zone", &error)),
        }
    }
    checks
}

/// Checks the token. `/user/tokens/verify` does not know account tokens: for those, access to the zone shows whether
/// they work.
async fn token(api: &Api, cancel: &CancellationToken) -> Check {
    match api.verify_token(cancel).await {
        Ok(state) if state.status == "active" => match state.expires_on {
            Some(until) => Check::pass("token", "active", format!("until {until}")),
            None => Check::pass("token", "active", "it does not expire"),
        },
        Ok(state) => {
            let when = state.expires_on.map(|at| format!(" (it ran until {at})")).unwrap_or_default();
            let detail = format!(
                "Cloudflare says that it is {}{when}: make a new one, or extend it, in the dashboard",
                state.status
            );
            Check::fail("token", state.status, detail)
        }
        Err(error) if error.kind() == ErrorKind::Permission => {
            let detail =
                format!("{}; it may have expired, or be an account token, which cannot be looked up", error.message());
            Check::warn("token", "not known", detail)
        }
        Err(error) => Check::from_error("token", &error),
    }
}

async fn rights(api: &Api, zone: &Zone, cancel: &CancellationToken) -> Vec<Check> {
    let get = |path: &[&str], what: &str| {
        let path: Vec<&str> = ["zones", zone.id.as_str()].into_iter().chain(path.iter().copied()).collect();
        Request::get(path, "read", format!("{what} of {}", zone.name))
    };
    let records = get(&["dns_records"], "the records").query("per_page", 1);
    let mut checks = vec![match api.call(&records, cancel).await {
        Ok(_) => Check::pass("records", "readable", "DNS Read"),
        Err(error) => Check::from_error("records", &error),
    }];
    checks.push(match api.call(&get(&["settings"], "the settings"), cancel).await {
        Ok(_) => Check::pass("settings", "readable", "Zone Settings Read"),
        Err(error) => left_out("settings", &error),
    });
    let (mut readable, mut withheld) = (Vec::new(), Vec::new());
    for (title, path) in further_parts() {
        match readable_part(api, &get(path, title), cancel).await {
            Ok(()) => readable.push(title),
            Err(error) if is_withheld(&error) => withheld.push(title),
            Err(error) => checks.push(Check::from_error(title, &error)),
        }
    }
    let detail = match (readable.is_empty(), withheld.is_empty()) {
        (true, _) => format!("not in the backups, because the token or the plan lacks them: {}", withheld.join(", ")),
        (false, true) => readable.join(", "),
        (false, false) => {
            format!(
                "{}; not in the backups, because the token or the plan lacks them: {}",
                readable.join(", "),
                withheld.join(", ")
            )
        }
    };
    checks.push(Check::pass(
        "further parts",
        format!("{} of {}", readable.len(), readable.len() + withheld.len()),
        detail,
    ));
    checks
}

async fn readable_part(api: &Api, request: &Request, cancel: &CancellationToken) -> Result<()> {
    api.call(request, cancel).await.map(drop)
}

fn left_out(name: &str, error: &Error) -> Check {
    if is_withheld(error) {
        return Check::warn(name, "not readable", format!("not in the backups: {}", error.message()));
    }
    Check::from_error(name, error)
}
