//! [`CloudflareVerifier`]: what an artifact of a zone proves.

use super::RECORDS;
use std::collections::{BTreeMap, BTreeSet};

use lifeboat_core::report::Check;
use lifeboat_core::words::Noun;
use lifeboat_core::{
    Action, ArtifactName, Context, Error, ErrorKind, Extract, Proof, ProofItem, RestoreInput, Result, Status, Tap,
    Verifier, async_trait,
};

use super::api::Api;
use super::archive::{self, Content, EXPORT, ZoneItem, ZoneTap};
use super::dns::{self, Rr};
use super::target::live_records;
use super::zone::ZoneRef;
use super::{plan, zone_file};

/// The default number of records by which the live zone may differ without a warning.
const DRIFT: u64 = 5;
/// The largest number of differences that are named.
const NAMED: usize = 20;

/// Options of a verification.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifierOptions {
    /// The live zone, for the level `live`.
    pub live: Option<(Api, ZoneRef)>,
    /// By how many records it may differ without a warning; by default 5.
    pub max_drift: Option<u64>,
}

lifeboat_core::setters!(VerifierOptions { live: Option<(Api, ZoneRef)>, max_drift: Option<u64> });

/// Judges artifacts of zones.
#[derive(Clone, Debug, Default)]
pub struct CloudflareVerifier {
    options: VerifierOptions,
}

impl CloudflareVerifier {
    /// Creates a verifier.
    pub fn new(options: VerifierOptions) -> Self {
        Self { options }
    }
}

/// Whether it is of the format of a zone.
fn known(name: &ArtifactName) -> Result<()> {
    if name.format_or(super::FORMAT) == super::FORMAT {
        return Ok(());
    }
    let message = format!("a zone's backup has the format tar, but this is {}", name.format);
    Err(Error::new(ErrorKind::Unsupported, "read", name.to_string(), message))
}

#[async_trait]
impl Verifier for CloudflareVerifier {
    fn unit(&self, kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn tap(&self, name: &ArtifactName) -> Result<Box<dyn Tap>> {
        known(name)?;
        Ok(Box::new(ZoneTap::new()))
    }

    fn has_content(&self, _: &ProofItem) -> bool {
        true
    }

    fn extract(&self, name: &ArtifactName, item: &str, _: Option<&Proof>) -> Result<Box<dyn Extract>> {
        known(name)?;
        Ok(Box::new(ZoneItem::new(item)))
    }

    async fn restore_test(&self, input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        let expected = input.proof;
        let content = match archive::read(input.stream).await {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                return Ok(vec![Check::from_error("archive", &error)]);
            }
            Err(error) => return Err(error),
        };
        let mut checks = vec![records_check(&content), settings_check(&content)];
        checks.extend(parts_check(&content));
        match zone_file::zone_name(&content) {
            Ok(zone) => {
                checks.extend(rebuild_checks(&content, &zone, expected.as_ref()));
                checks.extend(export_checks(&content, &zone));
                checks.extend(unknown_check(&content));
            }
            Err(error) => checks.push(Check::from_error("zone", &error)),
        }
        Ok(checks)
    }

    async fn live(&self, _: Option<&Proof>, _: &Context) -> Result<Vec<Check>> {
        Err(Error::new(ErrorKind::Internal, "compare", "the live zone", "it is compared with the artifact's content"))
    }

    fn live_reads(&self) -> bool {
        true
    }

    async fn live_content(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        let content = archive::read(input.stream).await?;
        let Some((api, zone)) = &self.options.live else {
            return Err(Error::new(ErrorKind::Config, "find", "the live zone", "no place was given")
                .hint("give --from cloudflare://example.org, and a token in CLOUDFLARE_API_TOKEN"));
        };
        let zone = match (zone, content.zone_name()) {
            (ZoneRef::Any, Some(name)) => ZoneRef::Name(name),
            (zone, _) => zone.clone(),
        };
        let zone = api.zone(&zone, &cx.cancel).await?;
        zone.say_remark(cx);
        let live = live_records(api, &zone, &cx.cancel).await?;
        let limit = self.options.max_drift.unwrap_or(DRIFT);
        let (then, now) = (content.records.len() as u64, live.len() as u64);
        let drift = then.abs_diff(now);
        let status = if drift > limit { Status::Warn } else { Status::Pass };
        let detail = format!(
            "{} in the backup, {now} in the live zone; up to {limit} more or fewer are normal",
            RECORDS.count(then)
        );
        let mut checks = vec![Check::new(status, "drift of the count", drift.to_string(), detail)];
        let planned = plan::records(&content.records, &live, &zone.name, true);
        let changed: Vec<&plan::Planned> = planned.iter().filter(|p| p.change.action.changes_something()).collect();
        if changed.is_empty() {
            checks.push(Check::pass("drift of records", "0", "every record is unchanged"));
            return Ok(checks);
        }
        let detail = "each is named below; the zone has changed since the backup, which is normal";
        checks.push(Check::pass("drift of records", changed.len().to_string(), detail));
        let status = if drift > limit || changed.len() as u64 > limit { Status::Warn } else { Status::Pass };
        for planned in changed.iter().take(NAMED) {
            let change = &planned.change;
            let (figure, detail) = match change.action {
                Action::Create => ("gone", format!("was {}", change.after.as_deref().unwrap_or_default())),
                Action::Delete => ("new", format!("is {}", change.before.as_deref().unwrap_or_default())),
                _ => (
                    "changed",
                    format!(
                        "was {}, is {}",
                        change.after.as_deref().unwrap_or_default(),
                        change.before.as_deref().unwrap_or_default()
                    ),
                ),
            };
            checks.push(Check::new(status, format!("{} {}", change.kind, change.name), figure, detail));
        }
        if changed.len() > NAMED {
            checks.push(Check::new(status, "further records", (changed.len() - NAMED).to_string(), "not named here"));
        }
        Ok(checks)
    }
}

fn records_check(content: &Content) -> Check {
    let breakdown: Vec<String> = content.breakdown().iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    match content.records.len() {
        0 => Check::warn("records", "0", "the zone has none: is it the right one?"),
        n => Check::pass("records", n.to_string(), breakdown.join(", ")),
    }
}

fn settings_check(content: &Content) -> Check {
    let count = content.settings.len();
    match content.zone.as_ref().and_then(|z| z["name"].as_str()) {
        Some(name) => Check::pass("settings", format!("{count} settings"), format!("of the zone {name}")),
        None => Check::warn("settings", format!("{count} settings"), "they do not name the zone"),
    }
}

/// Restores without a live system: rebuilds the zone as a master file, and reads it back with a DNS library.
fn rebuild_checks(content: &Content, zone: &str, expected: Option<&Proof>) -> Vec<Check> {
    let stray: Vec<&str> =
        content.records.iter().map(super::record::Record::name).filter(|n| !dns::is_within(n, zone)).collect();
    let mut checks = Vec::new();
    if let Some(first) = stray.first() {
        let detail = format!("{first} is not in the zone {zone}");
        checks.push(Check::fail("names", format!("{} outside", stray.len()), detail));
    }
    let file = match zone_file::write(content, zone, "1") {
        Ok(file) => file,
        Err(error) => {
            checks.push(Check::from_error("rebuilt zone", &error));
            return checks;
        }
    };
    checks.push(match zone_file::check(&file) {
        Ok(()) => {
            let mut detail = "rebuilt as a zone file; an independent DNS library reads the same records".to_owned();
            let unknown = unknown_types(content).len();
            let own = file.left_out.len().saturating_sub(unknown);
            if own > 0 {
                detail += &format!("; {own} that only Cloudflare can serve are left out");
            }
            Check::pass("rebuilt zone", RECORDS.count(file.written.len()), detail)
        }
        Err(why) => Check::fail("rebuilt zone", "differs", why),
    });
    if let Some(expected) = expected {
        checks.extend(expected.compare_in(&content.proof(), super::unit));
    }
    checks
}

/// Records of unknown types, whose data cannot be transferred to another server.
fn unknown_types(content: &Content) -> Vec<String> {
    let records = content.records.iter().filter(|record| !dns::is_known(record.kind()) && Rr::of(record).is_err());
    records.map(|record| format!("{} {}", record.kind(), record.name())).collect()
}

/// The check for records that are backed up as received and proven only by their fingerprint.
fn unknown_check(content: &Content) -> Option<Check> {
    let unknown = unknown_types(content);
    let named = unknown[..unknown.len().min(NAMED)].join(", ");
    (!unknown.is_empty()).then(|| {
        let detail =
            format!("{named}: a restore at Cloudflare brings them back; a zone file has them only as comments");
        Check::warn("unknown types", RECORDS.count(unknown.len()), detail)
    })
}

/// The check for further parts of the zone that could not be read when the backup was made.
fn parts_check(content: &Content) -> Option<Check> {
    let failed = content.failed_parts();
    (!failed.is_empty()).then(|| Check::warn("further parts", format!("{} missing", failed.len()), failed.join("; ")))
}

/// Compares the zone file that Cloudflare exported with the records, one by one.
fn export_checks(content: &Content, zone: &str) -> Vec<Check> {
    const NAME: &str = "zone file";
    let Some(export) = &content.export else {
        return vec![Check::warn(NAME, "missing", format!("{EXPORT} is not in the archive"))];
    };
    let entries = match dns::read_file(export, zone) {
        Ok(entries) => entries,
        Err(why) => return vec![Check::fail(NAME, "not readable", format!("{EXPORT}: {why}"))],
    };
    let mut exported: BTreeMap<Rr, Option<u64>> = BTreeMap::new();
    for entry in entries {
        if entry.kind == "SOA" {
            continue;
        }
        match Rr::new(&entry.name, &entry.kind, &entry.data) {
            // Cloudflare's name servers are in the export but not among the records.
            Ok(rr) if is_cloudflare_server(&entry, zone) => drop(rr),
            Ok(rr) => drop(exported.insert(rr, entry.ttl)),
            // Reported by its own check.
            Err(_) if !dns::is_known(&entry.kind) => {}
            Err(why) => {
                let detail = format!("{EXPORT}, line {}: {} {}: {why}", entry.line, entry.kind, entry.name);
                return vec![Check::fail(NAME, "not readable", detail)];
            }
        }
    }
    let (mut wanted, mut explained, mut differences) = (BTreeSet::new(), 0usize, Vec::new());
    for record in content.records.iter().filter(|r| r.managed(zone).is_none() || r.kind() != "NS" && r.kind() != "SOA")
    {
        let what = || format!("{} {}", record.kind(), record.name());
        let rr = match Rr::of(record) {
            Ok(rr) => rr,
            Err(_) if !dns::is_known(record.kind()) => continue,
            Err(why) => {
                differences.push(format!("{}: {why}", what()));
                continue;
            }
        };
        match exported.get(&rr) {
            // Automatic, or set by the proxy: the export contains what is answered.
            Some(ttl) if ttl.is_some_and(|ttl| ttl != record.ttl()) => {
                if record.ttl() > 1 && !record.is_proxied() {
                    differences.push(format!("{}: TTL {} and {}", what(), record.ttl(), ttl.unwrap_or_default()));
                } else {
                    explained += 1;
                }
            }
            Some(_) => {}
            // For proxied or flattened records, the export may contain what is answered instead.
            None if record.is_proxied() || is_flattened(record) => explained += 1,
            None => differences.push(format!("{} is not in {EXPORT}", what())),
        }
        wanted.insert(rr);
    }
    let hidden: BTreeSet<&str> =
        wanted.iter().filter(|rr| !exported.contains_key(rr)).map(|rr| rr.name.as_str()).collect();
    for rr in exported.keys().filter(|rr| !wanted.contains(rr)) {
        if hidden.contains(rr.name.as_str()) {
            continue;
        }
        differences.push(format!("{} {} is only in {EXPORT}", rr.kind, rr.name));
    }
    if differences.is_empty() {
        let mut detail = "Cloudflare's own zone file holds the same records".to_owned();
        if explained > 0 {
            detail += &format!("; {explained} differ there because Cloudflare answers for them itself");
        }
        return vec![Check::pass(NAME, RECORDS.count(wanted.len()), detail)];
    }
    let more = differences.len().saturating_sub(NAMED);
    let mut detail = differences[..differences.len().min(NAMED)].join("; ");
    if more > 0 {
        detail += &format!("; {more} more");
    }
    vec![Check::fail(NAME, format!("{} differ", differences.len()), detail)]
}

fn is_cloudflare_server(entry: &dns::Entry, zone: &str) -> bool {
    entry.kind == "NS"
        && dns::same(&entry.name, zone)
        && entry.data.trim_end_matches('.').ends_with(".ns.cloudflare.com")
}

/// Whether it is a CNAME that is answered with the addresses it leads to.
fn is_flattened(record: &super::record::Record) -> bool {
    record.kind() == "CNAME" && record.all().get("settings").is_some_and(|s| s["flatten_cname"].as_bool() == Some(true))
}
