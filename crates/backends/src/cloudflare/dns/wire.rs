//! Record data in wire format, from its text.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::base::iana::Rtype;
use domain::base::rdata::ComposeRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};

use super::data::is_known;
use super::text::{bytes_of, tokens};
use super::{Rr, joined, loc, lower};

/// The types that Cloudflare supports and the library does not, with their numbers
/// (<https://www.iana.org/assignments/dns-parameters/>).
pub(crate) const NOT_OF_THE_LIBRARY: [(&str, u16); 5] =
    [("LOC", 29), ("CERT", 37), ("SMIMEA", 53), ("SPF", 99), ("URI", 256)];

/// The number of a type written in the form of RFC 3597: `TYPE65280`.
fn numbered(kind: &str) -> Option<u16> {
    kind.strip_prefix("TYPE")?.parse().ok()
}

/// The canonical name of a type: `SPF` for `TYPE99`.
pub(super) fn name_of(kind: &str) -> String {
    numbered(kind).map_or_else(|| kind.to_owned(), name_of_number)
}

fn name_of_number(number: u16) -> String {
    let ours = NOT_OF_THE_LIBRARY.iter().find(|(_, n)| *n == number).map(|(kind, _)| (*kind).to_owned());
    ours.unwrap_or_else(|| Rtype::from_int(number).to_string())
}

/// The type in a master file: by name if known, otherwise by number.
///
/// # Errors
/// If neither is known.
pub(crate) fn in_files(kind: &str) -> Result<String, String> {
    if is_known(kind) || numbered(kind).is_some() {
        return Ok(kind.to_owned());
    }
    match kind.parse::<Rtype>() {
        Ok(known) => Ok(format!("TYPE{}", known.to_int())),
        Err(_) => Err(format!("the number of the type {kind} is not known")),
    }
}

/// Converts data of a type from text to the canonical wire format.
///
/// # Errors
/// Why the text is not valid data of that type.
pub(crate) fn wire(kind: &str, text: &str) -> Result<Vec<u8>, String> {
    match kind {
        "LOC" => loc::wire(&tokens(text)?),
        "CERT" => cert(&tokens(text)?),
        "URI" => uri(&tokens(text)?),
        // Retired by RFC 7208, section 3.1; the same format.
        "SPF" => by_library("TXT", text),
        // The same parts as a TLSA (RFC 8162, section 2).
        "SMIMEA" => by_library("TLSA", text),
        // The library requires a space between two strings.
        _ => by_library(kind, text),
    }
}

fn by_library(kind: &str, text: &str) -> Result<Vec<u8>, String> {
    // Otherwise, invalid data could become a line of its own.
    if text.contains(['\n', '\r']) {
        return Err("it has a line break in it".to_owned());
    }
    let line = format!(". 0 IN {kind} {text}\n");
    let mut file = Zonefile::load(&mut line.as_bytes()).map_err(|e| e.to_string())?;
    match file.next_entry() {
        Ok(Some(Entry::Record(record))) => {
            let mut wire = Vec::new();
            match record.data().compose_canonical_rdata(&mut wire) {
                Ok(()) => Ok(wire),
                Err(never) => match never {},
            }
        }
        Ok(_) => Err("it says nothing".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn part<T: std::str::FromStr>(parts: &[String], at: usize) -> Result<T, String> {
    parts.get(at).and_then(|p| p.parse().ok()).ok_or_else(|| format!("part {} is missing or not a number", at + 1))
}

/// RFC 4398, section 2.
fn cert(parts: &[String]) -> Result<Vec<u8>, String> {
    let kinds = ["PKIX", "SPKI", "PGP", "IPKIX", "ISPKI", "IPGP", "ACPKIX", "IACPKIX"];
    let named = parts.first().and_then(|p| kinds.iter().position(|k| k.eq_ignore_ascii_case(p)));
    let kind = match named {
        Some(at) => u16::try_from(at + 1).unwrap_or_default(),
        None => part::<u16>(parts, 0)?,
    };
    let mut wire = kind.to_be_bytes().to_vec();
    wire.extend(part::<u16>(parts, 1)?.to_be_bytes());
    wire.push(part::<u8>(parts, 2)?);
    let certificate: String = parts.get(3..).unwrap_or_default().concat();
    wire.extend(STANDARD.decode(certificate).map_err(|e| format!("the certificate is not base64: {e}"))?);
    Ok(wire)
}

/// RFC 7553, section 4.5.
fn uri(parts: &[String]) -> Result<Vec<u8>, String> {
    let mut wire = part::<u16>(parts, 0)?.to_be_bytes().to_vec();
    wire.extend(part::<u16>(parts, 1)?.to_be_bytes());
    let target = parts.get(2).map(|p| bytes_of(p)).unwrap_or_default();
    if target.is_empty() || parts.len() > 3 {
        return Err("it has no target, or more than one".to_owned());
    }
    wire.extend(target);
    Ok(wire)
}

/// Parses a whole master file with the library alone. Types that it does not know must be in the form of RFC 3597.
///
/// # Errors
/// The library's own message, with the line.
pub(crate) fn library_file(text: &str) -> Result<BTreeSet<Rr>, String> {
    let mut file = Zonefile::load(&mut text.as_bytes()).map_err(|e| e.to_string())?;
    let mut found = BTreeSet::new();
    while let Some(entry) = file.next_entry().map_err(|e| e.to_string())? {
        let Entry::Record(record) = entry else { return Err("it includes another file".to_owned()) };
        let mut data = Vec::new();
        match record.data().compose_canonical_rdata(&mut data) {
            Ok(()) => {}
            Err(never) => match never {},
        }
        let kind = name_of_number(record.rtype().to_int());
        if matches!(kind.as_str(), "TXT" | "SPF") {
            data = joined(&data);
        }
        found.insert(Rr { name: lower(&record.owner().to_string()), kind, data });
    }
    Ok(found)
}
