//! How far a config has drifted from a backup: names, and how many values differ. Values are compared by keyed hashes with a
//! salt that exists for one comparison.

use std::collections::BTreeMap;

use lifeboat_core::{Check, Result, Status};

use super::content::Salt;
use super::is_dopplers_own;
use super::secret::Secret;
use super::source::listed;

/// The checks of the `live` level.
pub(super) fn compare(
    backup: &BTreeMap<String, Secret>,
    live: &BTreeMap<String, Secret>,
    max_drift: u64,
) -> Result<Vec<Check>> {
    let own = |secrets: &BTreeMap<String, Secret>| secrets.keys().filter(|n| !is_dopplers_own(n)).count() as u64;
    let (then, now) = (own(backup), own(live));
    let drift = then.abs_diff(now);
    let status = if drift > max_drift { Status::Warn } else { Status::Pass };
    let mut checks = vec![Check::new(
        status,
        "live count",
        format!("{now} now, {then} then"),
        match status {
            Status::Pass => format!("{drift} more or fewer; up to {max_drift} are normal"),
            _ => format!("{drift} more or fewer than in the backup: more than {max_drift}"),
        },
    )];
    let missing = |from: &BTreeMap<String, Secret>, of: &BTreeMap<String, Secret>| -> Vec<String> {
        of.keys().filter(|n| !from.contains_key(*n) && !is_dopplers_own(n)).cloned().collect()
    };
    for (name, found, detail) in [
        ("live: new names", missing(backup, live), "in Doppler but not in the backup"),
        ("live: gone names", missing(live, backup), "in the backup but no longer in Doppler"),
    ] {
        let shown: Vec<&str> = found.iter().map(String::as_str).collect();
        checks.push(match shown.len() {
            0 => Check::pass(name, "0", "none"),
            n => Check::warn(name, n.to_string(), format!("{detail}: {}", listed(&shown))),
        });
    }
    let salt = Salt::random()?;
    // Backups by scripts have only computed values.
    let has_raw = backup.values().any(|s| s.raw.is_some());
    let hash = |name: &str, secret: &Secret| {
        if has_raw { salt.of_secret(name, secret) } else { salt.of_value(name, secret.value()) }
    };
    let both = backup.iter().filter_map(|(name, then)| Some((name, then, live.get(name)?)));
    let both: Vec<_> = both.filter(|(name, ..)| !is_dopplers_own(name)).collect();
    let changed = both.iter().filter(|(name, then, now)| hash(name, then) != hash(name, now)).count();
    let what = if has_raw { "values, visibilities or notes" } else { "computed values" };
    checks.push(match changed {
        0 => Check::pass("live: changed", format!("0 of {}", both.len()), format!("no {what} differ")),
        _ => Check::warn(
            "live: changed",
            format!("{changed} of {}", both.len()),
            format!("{what} differ from the backup; `restore` into Doppler without --apply names them"),
        ),
    });
    let moved = both
        .iter()
        .filter(|(name, then, now)| {
            has_raw
                && hash(name, then) == hash(name, now)
                && salt.of_value(name, then.value()) != salt.of_value(name, now.value())
        })
        .count();
    if moved > 0 {
        let detail = "what they refer to has changed elsewhere, and so has the value that programs get";
        checks.push(Check::warn("live: references", moved.to_string(), detail));
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(of: &[(&str, &str, &str)]) -> BTreeMap<String, Secret> {
        let secret = |raw: &str, computed: &str| Secret {
            raw: Some(raw.to_owned().into()),
            ..Secret::of_value(computed.to_owned().into())
        };
        of.iter().map(|(name, raw, computed)| ((*name).to_owned(), secret(raw, computed))).collect()
    }

    fn shown(checks: &[Check]) -> Vec<String> {
        checks.iter().map(|c| format!("{} {} {}", c.status, c.name, c.figure)).collect()
    }

    #[test]
    fn what_has_not_drifted_passes() {
        let backup = secrets(&[("A", "a", "a"), ("DOPPLER_CONFIG", "prd", "prd")]);
        let live = secrets(&[("A", "a", "a"), ("DOPPLER_CONFIG", "dev", "dev"), ("DOPPLER_X", "x", "x")]);
        let checks = compare(&backup, &live, 3).unwrap();
        assert!(checks.iter().all(|c| c.status == Status::Pass), "{checks:?}");
    }

    #[test]
    fn names_and_the_number_of_changed_values_are_told_and_no_value() {
        let backup = secrets(&[("A", "value-a", "value-a"), ("B", "${A}", "value-a"), ("C", "c", "c")]);
        let live = secrets(&[("A", "value-b", "value-b"), ("B", "${A}", "value-b"), ("D", "d", "d"), ("E", "e", "e")]);
        let checks = compare(&backup, &live, 0).unwrap();
        assert_eq!(
            shown(&checks),
            [
                "WARN live count 4 now, 3 then",
                "WARN live: new names 2",
                "WARN live: gone names 1",
                "WARN live: changed 1 of 2",
                "WARN live: references 1",
            ]
        );
        assert!(checks[1].detail.ends_with("D, E"));
        assert!(!format!("{checks:?}").contains("value-"));
        assert_eq!(compare(&backup, &live, 1).unwrap()[0].status, Status::Pass, "the limit is the caller's");
    }

    #[test]
    fn a_scripts_backup_is_compared_by_computed_values() {
        let backup = BTreeMap::from([("A".to_owned(), Secret::of_value("v".to_owned().into()))]);
        let live = secrets(&[("A", "${X}", "v")]);
        assert!(compare(&backup, &live, 3).unwrap().iter().all(|c| c.status == Status::Pass));
    }
}
