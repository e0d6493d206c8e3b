//! The zone as a master file (RFC 1035, section 5) for any DNS server or provider, and the target that writes it.

use super::RECORDS;
use std::collections::BTreeSet;

use lifeboat_core::report::Check;
use lifeboat_core::{Context, Error, ErrorKind, RestoreInput, Result, Target, async_trait};

use super::archive::{self, Content};
use super::dns::{self, NOT_OF_THE_LIBRARY, Rr};
use super::record::Record;
use crate::outfile::Destination;

/// The TTL in seconds of records for which Cloudflare chooses it: the value that Cloudflare answers with.
const AUTOMATIC_TTL: u64 = 300;

/// A zone as a master file, with remarks.
pub(super) struct ZoneFile {
    pub(super) text: String,
    /// The records in it.
    pub(super) written: BTreeSet<Rr>,
    /// The number of proxied records, which have a note about what changes elsewhere.
    pub(super) proxied: usize,
    /// Records that are only included as comments, with the reason.
    pub(super) left_out: Vec<(String, String)>,
}

/// Writes the records as a master file.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for a record whose content is not valid data of its type.
pub(super) fn write(content: &Content, zone: &str, serial: &str) -> Result<ZoneFile> {
    let mut file = ZoneFile { text: String::new(), written: BTreeSet::new(), proxied: 0, left_out: Vec::new() };
    let mut lines = String::new();
    let mut records: Vec<&Record> = content.records.iter().collect();
    // The zone's own name first, then the others by name.
    records
        .sort_by_cached_key(|r| (!dns::same(r.name(), zone), dns::lower(r.name()), r.kind().to_owned(), r.canonical()));
    for record in records {
        let what = || format!("{} {}", record.kind(), record.name());
        let ttl = if record.ttl() > 1 { record.ttl() } else { AUTOMATIC_TTL };
        let (rr, kind, data) = match of_record(record) {
            Ok(made) => made,
            Err(why) if dns::is_known(record.kind()) => {
                return Err(Error::new(ErrorKind::Corrupt, "read the record", what(), why));
            }
            // A record that is not understood must not affect the others.
            Err(why) => {
                let said = record.summary().replace(char::is_control, " ");
                lines +=
                    &format!("; {why}:\n; {}\t{ttl}\tIN\t{}\t{said}\n", dns::absolute(record.name()), record.kind());
                file.left_out.push((what(), why));
                continue;
            }
        };
        let mut line = format!("{}\t{ttl}\tIN\t{kind}\t{data}", dns::absolute(record.name()));
        if let Some(notes) = notes(record) {
            line += &format!(" ; {notes}");
        }
        let is_apex = dns::same(record.name(), zone);
        let why = match record.managed(zone) {
            Some(why) => Some(why.to_owned()),
            None if is_apex && record.kind() == "CNAME" => {
                Some("the zone itself cannot be a CNAME (RFC 1034): use your provider's ALIAS or ANAME".to_owned())
            }
            None => None,
        };
        match why {
            Some(why) => {
                lines += &format!("; {why}:\n; {line}\n");
                file.left_out.push((what(), why));
            }
            None => {
                lines += &line;
                lines.push('\n');
                file.proxied += usize::from(record.is_proxied());
                file.written.insert(rr);
            }
        }
    }
    file.text = head(zone, serial, content, file.proxied) + &lines;
    Ok(file)
}

/// A record as in DNS: in wire format, with the name of its type and its data as text.
fn of_record(record: &Record) -> Result<(Rr, String, String), String> {
    let data = dns::presentation(record)?;
    Ok((Rr::of(record)?, dns::in_files(record.kind())?, data))
}

/// The part of a master file before the records. The SOA is a placeholder: whoever serves the zone writes its own.
fn head(zone: &str, serial: &str, content: &Content, proxied: usize) -> String {
    let servers =
        content.records.iter().filter(|r| r.kind() == "NS" && dns::same(r.name(), zone) && r.managed(zone).is_none());
    let first = servers.map(|r| dns::absolute(r.content())).min().unwrap_or_else(|| "ns.invalid.".to_owned());
    let mut head = format!("; Zone {zone}, from a backup of Cloudflare DNS by Lifeboat.\n");
    head += "; The SOA is a stand-in, and the name servers are not here: those are your new provider's.\n";
    if proxied > 0 {
        head += &format!(
            "; {} behind Cloudflare's proxy (marked \"proxied\"): elsewhere the addresses are public.\n",
            RECORDS.count(proxied)
        );
    }
    let apex = dns::absolute(zone);
    head += &format!("$ORIGIN {apex}\n$TTL {AUTOMATIC_TTL}\n");
    head += &format!("{apex}\t3600\tIN\tSOA\t{first} hostmaster.{apex} {serial} 10000 2400 604800 1800\n");
    head
}

/// The comment on a record.
fn notes(record: &Record) -> Option<String> {
    let mut notes = Vec::new();
    if record.is_proxied() {
        notes.push("proxied".to_owned());
    }
    notes.extend(record.comment().map(|c| c.replace(char::is_control, " ")));
    if !record.tags().is_empty() {
        notes.push(format!("tags {}", record.tags().join(",").replace(char::is_control, " ")));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Reads a generated master file back with the DNS library.
///
/// # Errors
/// What the library cannot read, or reads differently.
pub(super) fn check(file: &ZoneFile) -> Result<(), String> {
    let mut read = dns::library_file(&for_library(&file.text)?)?;
    read.retain(|rr| rr.kind != "SOA");
    if let Some(missing) = file.written.difference(&read).next() {
        return Err(format!("{} {} is read back as something else", missing.kind, missing.name));
    }
    match read.difference(&file.written).next() {
        Some(extra) => Err(format!("{} {} is read back, and was not written so", extra.kind, extra.name)),
        None => Ok(()),
    }
}

/// The same file, with types that the library does not know in the form for unknown types (RFC 3597, section 5).
fn for_library(text: &str) -> Result<String, String> {
    let mut made = String::with_capacity(text.len());
    for line in text.lines() {
        let mut fields = line.splitn(5, '\t');
        let parts = [fields.next(), fields.next(), fields.next(), fields.next(), fields.next()];
        if let [Some(name), Some(ttl), Some(class), Some(kind), Some(data)] = parts
            && let Some((_, number)) = NOT_OF_THE_LIBRARY.iter().find(|(known, _)| *known == kind)
            && !line.starts_with(';')
        {
            // The comment is not data; the parser of master files knows where it begins.
            let entries = dns::read_file(&format!("x. 1 IN {kind} {data}\n"), "")?;
            let data = entries.first().map(|e| e.data.as_str()).unwrap_or_default();
            let wire = dns::wire(kind, data)?;
            made += &format!("{name}\t{ttl}\t{class}\tTYPE{number}\t\\# {} {}\n", wire.len(), hex::encode(wire));
            continue;
        }
        made += line;
        made.push('\n');
    }
    Ok(made)
}

/// Writes an artifact as a master file.
#[derive(Clone, Debug)]
pub struct ZoneFileTarget {
    destination: Destination,
}

impl ZoneFileTarget {
    /// Creates a target that writes a file, or to standard output.
    pub fn new(destination: Destination) -> Self {
        Self { destination }
    }
}

#[async_trait]
impl Target for ZoneFileTarget {
    async fn restore(&self, input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        self.destination.check()?;
        let name = input.name;
        let content = archive::read(input.stream).await?;
        let zone = zone_name(&content)?;
        let serial = format!("{}00", &name.stamp()[..8]);
        let file = write(&content, &zone, &serial)?;
        check(&file).map_err(|why| {
            Error::new(
                ErrorKind::Internal,
                "write the zone file of",
                zone.clone(),
                format!("it does not read back: {why}"),
            )
            .hint("take zone-export.txt from the artifact: `lifeboat show` prints the line")
        })?;
        self.destination.write(file.text.as_bytes())?;
        let breakdown: Vec<String> = content.breakdown().iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let figure = RECORDS.count(file.written.len());
        let mut checks = vec![
            Check::pass("zone file", figure, format!("{zone}: {}", breakdown.join(", "))),
            Check::pass("read back", "equal", "an independent DNS library reads the same records"),
        ];
        if file.proxied > 0 {
            let detail = "they were behind Cloudflare's proxy: elsewhere their addresses are public, and caching, TLS and \
                          rules of the proxy are gone";
            checks.push(Check::warn("proxied", RECORDS.count(file.proxied), detail));
        }
        checks.extend(file.left_out.iter().map(|(what, why)| Check::warn(what, "a comment", why)));
        Ok(checks)
    }
}

/// The zone's name.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if nothing in the archive states it.
pub(super) fn zone_name(content: &Content) -> Result<String> {
    content.zone_name().ok_or_else(|| {
        let message = "neither zone_settings.json nor zone-export.txt names the zone";
        Error::new(ErrorKind::Corrupt, "find", "the name of the zone", message)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn content(records: serde_json::Value) -> Content {
        let records = records.as_array().unwrap().iter().cloned().map(|r| Record::read(r).unwrap()).collect();
        Content { records, zone: Some(json!({"name": "example.org"})), ..Content::default() }
    }

    #[test]
    fn a_zone_file_is_what_a_dns_library_reads() {
        let content = content(json!([
            {"type": "A", "name": "www.example.org", "content": "192.0.2.1", "ttl": 1, "proxied": true, "comment": "a;b\nc"},
            {"type": "TXT", "name": "example.org", "content": "\"a\\\"b;c\"", "ttl": 120, "tags": ["x:y"]},
            {"type": "URI", "name": "_ftp._tcp.example.org", "content": "", "priority": 1, "ttl": 300, "comment": "with one",
                "data": {"weight": 1, "target": "ftp://x/"}},
            {"type": "CNAME", "name": "*.bücher.example.org", "content": "www.example.org", "ttl": 300},
            {"type": "CNAME", "name": "example.org", "content": "www.example.org", "ttl": 300},
            {"type": "NS", "name": "example.org", "content": "ada.ns.cloudflare.com", "ttl": 300},
        ]));
        let file = write(&content, "example.org", "2026112100").unwrap();
        check(&file).unwrap();
        assert_eq!((file.written.len(), file.proxied, file.left_out.len()), (4, 1, 2));
        for line in [
            "www.example.org.\t300\tIN\tA\t192.0.2.1 ; proxied; a;b c",
            "example.org.\t120\tIN\tTXT\t\"a\\\"b;c\" ; tags x:y",
            "*.xn--bcher-kva.example.org.\t300\tIN\tCNAME\twww.example.org.",
            "; example.org.\t300\tIN\tCNAME\twww.example.org.",
        ] {
            assert!(file.text.lines().any(|l| l == line), "{line}\nis not in\n{}", file.text);
        }
    }

    #[test]
    fn a_file_that_reads_as_something_else_is_found() {
        let content = content(json!([{"type": "A", "name": "www.example.org", "content": "192.0.2.1", "ttl": 1}]));
        let mut file = write(&content, "example.org", "1").unwrap();
        file.text = file.text.replace("192.0.2.1", "192.0.2.2");
        assert!(check(&file).unwrap_err().contains("A www.example.org"));
    }

    #[test]
    fn a_type_that_is_not_known_is_carried_as_its_bytes_or_left_out_by_name() {
        let content = content(json!([
            {"type": "A", "name": "www.example.org", "content": "192.0.2.1", "ttl": 1},
            {"type": "SPF", "name": "example.org", "content": "\"v=spf1 -all\"", "ttl": 300},
            {"type": "TYPE65280", "name": "t.example.org", "content": "\\# 4 0a000001", "ttl": 300},
            {"type": "HINFO", "name": "h.example.org", "content": "\\# 4 01610162", "ttl": 300},
            {"type": "WALLET", "name": "w.example.org", "content": "ETH 0x1", "data": {"coin": "ETH"}, "ttl": 300},
            {"type": "FUTURE", "name": "f.example.org", "content": "a\nb", "ttl": 300},
        ]));
        let file = write(&content, "example.org", "1").unwrap();
        check(&file).unwrap_or_else(|e| panic!("{e}\n{}", file.text));
        assert_eq!(file.written.len(), 4, "{}", file.text);
        let left: Vec<&str> = file.left_out.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(left, ["FUTURE f.example.org", "WALLET w.example.org"]);
        for line in [
            "example.org.\t300\tIN\tSPF\t\"v=spf1 -all\"",
            "t.example.org.\t300\tIN\tTYPE65280\t\\# 4 0a000001",
            "h.example.org.\t300\tIN\tTYPE13\t\\# 4 01610162",
            "; w.example.org.\t300\tIN\tWALLET\tETH 0x1 ttl=300",
        ] {
            assert!(file.text.lines().any(|l| l == line), "{line}\nis not in\n{}", file.text);
        }
        assert!(!file.text.lines().any(|l| l.starts_with('b')), "a line break makes no line of its own");
    }

    #[test]
    fn a_record_without_sense_is_named() {
        let content = content(json!([{"type": "A", "name": "www.example.org", "content": "nowhere", "ttl": 1}]));
        let error = write(&content, "example.org", "1").map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("A www.example.org"), "{error}");
    }
}
