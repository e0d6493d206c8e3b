//! Record data as text, from what the API returns: the structured `data` if there is one, the `content` otherwise.
//!
//! The fields of `data` are those of
//! <https://developers.cloudflare.com/api/resources/dns/subresources/records/>.

use serde_json::{Map, Value};

use super::super::record::Record;
use super::text::{quoted, tokens, txt_strings};
use super::{absolute, lower};

/// The types whose data is understood here. Others are kept in the form of RFC 3597, if their content has that form.
const KNOWN: [&str; 24] = [
    "A",
    "AAAA",
    "CAA",
    "CERT",
    "CNAME",
    "DNAME",
    "DNSKEY",
    "DS",
    "HTTPS",
    "LOC",
    "MX",
    "NAPTR",
    "NS",
    "OPENPGPKEY",
    "PTR",
    "SMIMEA",
    "SOA",
    "SPF",
    "SRV",
    "SSHFP",
    "SVCB",
    "TLSA",
    "TXT",
    "URI",
];

/// Whether the data of a type is understood here.
pub(crate) fn is_known(kind: &str) -> bool {
    KNOWN.contains(&kind)
}

/// The longest string of a TXT record, in bytes (RFC 1035, section 3.3).
const LONGEST_STRING: usize = 255;

/// The data of a record, as in a master file.
///
/// # Errors
/// What is missing.
pub(crate) fn presentation(record: &Record) -> Result<String, String> {
    let content = record.content().trim();
    let priority = || record.priority().ok_or_else(|| "it has no priority".to_owned());
    match (record.kind(), record.data()) {
        ("A" | "AAAA", _) => Ok(content.to_owned()),
        ("CNAME" | "NS" | "PTR" | "DNAME", _) => Ok(absolute(content)),
        ("MX", _) => Ok(format!("{} {}", priority()?, absolute(content))),
        ("TXT" | "SPF", _) => Ok(strings(&txt_strings(record.content()))),
        ("URI", Some(data)) => Ok(format!("{} {} {}", priority()?, number(data, "weight")?, string(data, "target")?)),
        (kind, Some(data)) if is_known(kind) => structured(kind, data),
        (kind, _) if is_known(kind) => plain(kind, content, record.priority()),
        // RFC 3597, section 5: the data of any type, as a number of bytes.
        (_, _) if content.starts_with("\\#") => Ok(tokens(content)?.join(" ")),
        (kind, _) => Err(format!("the type {kind} is not known here")),
    }
}

/// Strings in quotes, split to the permitted length.
fn strings(strings: &[Vec<u8>]) -> String {
    let mut cut: Vec<String> = strings.iter().flat_map(|s| s.chunks(LONGEST_STRING)).map(quoted).collect();
    if cut.is_empty() {
        cut.push("\"\"".to_owned());
    }
    cut.join(" ")
}

fn structured(kind: &str, data: &Map<String, Value>) -> Result<String, String> {
    let n = |key: &str| number(data, key);
    let word = |key: &str| word(data, key);
    Ok(match kind {
        "CAA" => format!("{} {} {}", n("flags")?, word("tag")?, string(data, "value")?),
        "CERT" => format!("{} {} {} {}", n("type")?, n("key_tag")?, n("algorithm")?, word("certificate")?),
        "DNSKEY" => format!("{} {} {} {}", n("flags")?, n("protocol")?, n("algorithm")?, word("public_key")?),
        "DS" => format!("{} {} {} {}", n("key_tag")?, n("algorithm")?, n("digest_type")?, word("digest")?),
        "HTTPS" | "SVCB" => {
            let value = data.get("value").and_then(Value::as_str).unwrap_or_default();
            format!("{} {} {value}", n("priority")?, absolute(&word("target")?)).trim_end().to_owned()
        }
        "LOC" => format!(
            "{} {} {} {} {} {} {} {} {}m {}m {}m {}m",
            n("lat_degrees")?,
            n("lat_minutes")?,
            n("lat_seconds")?,
            word("lat_direction")?,
            n("long_degrees")?,
            n("long_minutes")?,
            n("long_seconds")?,
            word("long_direction")?,
            n("altitude")?,
            n("size")?,
            n("precision_horz")?,
            n("precision_vert")?
        ),
        "NAPTR" => format!(
            "{} {} {} {} {} {}",
            n("order")?,
            n("preference")?,
            string(data, "flags")?,
            string(data, "service")?,
            string(data, "regex")?,
            absolute(&word("replacement")?)
        ),
        "SMIMEA" | "TLSA" => {
            format!("{} {} {} {}", n("usage")?, n("selector")?, n("matching_type")?, word("certificate")?)
        }
        "SRV" => format!("{} {} {} {}", n("priority")?, n("weight")?, n("port")?, absolute(&word("target")?)),
        "SSHFP" => format!("{} {} {}", n("algorithm")?, n("type")?, word("fingerprint")?),
        other => return Err(format!("the parts of a {other} are not known here")),
    })
}

/// Data for which the API returns only the content. Names in it may lack the trailing dot.
fn plain(kind: &str, content: &str, priority: Option<u64>) -> Result<String, String> {
    let mut parts: Vec<String> = tokens(content)?;
    let has_priority = match kind {
        "SRV" => parts.len() >= 4,
        "URI" => parts.len() >= 3,
        _ => true,
    };
    if !has_priority {
        parts.insert(0, priority.ok_or("it has no priority")?.to_string());
    }
    let name = match kind {
        "SRV" => Some(3),
        "NAPTR" => Some(5),
        "HTTPS" | "SVCB" => Some(1),
        _ => None,
    };
    if let Some(part) = name.and_then(|at| parts.get_mut(at)) {
        *part = absolute(part);
    }
    Ok(parts.join(" "))
}

fn number(data: &Map<String, Value>, key: &str) -> Result<String, String> {
    match data.get(key) {
        Some(Value::Number(number)) => Ok(number.as_f64().map_or_else(|| number.to_string(), |n| format!("{n}"))),
        // The API returns some numbers as text.
        Some(Value::String(text)) if text.parse::<f64>().is_ok() => Ok(text.clone()),
        _ => Err(format!("its {key} is missing or not a number")),
    }
}

/// A part without white space.
fn word(data: &Map<String, Value>, key: &str) -> Result<String, String> {
    match data.get(key) {
        Some(Value::String(text)) => Ok(match key {
            "target" | "replacement" => lower(text),
            _ => text.split_whitespace().collect(),
        }),
        _ => Err(format!("its {key} is missing")),
    }
}

/// A part that is a character string.
fn string(data: &Map<String, Value>, key: &str) -> Result<String, String> {
    match data.get(key) {
        Some(Value::String(text)) => Ok(quoted(text.as_bytes())),
        Some(Value::Null) | None => Err(format!("its {key} is missing")),
        Some(other) => Ok(quoted(other.to_string().as_bytes())),
    }
}
