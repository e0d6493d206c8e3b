//! Records as in DNS: names, record data in master file format (RFC 1035, section 5), wire format.
//!
//! Comparisons use the wire format, which is the same however the text was written. The DNS library [`domain`] converts
//! the text; [`wire`] handles the few types that it does not support.

mod data;
mod loc;
mod text;
mod wire;

use super::record::Record;

pub(super) use data::{is_known, presentation};
pub(super) use text::{Entry, quoted, read_file, txt_strings};
pub(super) use wire::{NOT_OF_THE_LIBRARY, in_files, library_file, wire};

/// A record with its data in wire format.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rr {
    /// The full name in lower case, in ASCII form, without the trailing dot.
    pub(super) name: String,
    /// `A`, `MX`, …
    pub(super) kind: String,
    /// The data in canonical form (RFC 4034, section 6.2). For TXT, the strings joined: readers join them, and where
    /// they are split means nothing.
    pub(super) data: Vec<u8>,
}

impl Rr {
    /// Creates a record from a name, a type and its data as text.
    ///
    /// # Errors
    /// Why the text is not valid data of that type.
    pub(super) fn new(name: &str, kind: &str, presentation: &str) -> Result<Self, String> {
        let kind = wire::name_of(kind);
        let mut data = wire(&kind, presentation)?;
        if matches!(&*kind, "TXT" | "SPF") {
            data = joined(&data);
        }
        Ok(Self { name: lower(name), kind, data })
    }

    /// Converts a record of the API.
    ///
    /// # Errors
    /// Why its content is not valid data of its type.
    pub(super) fn of(record: &Record) -> Result<Self, String> {
        Self::new(record.name(), record.kind(), &presentation(record)?)
    }
}

/// Joins character strings (a length and that many bytes), without their lengths.
pub(super) fn joined(strings: &[u8]) -> Vec<u8> {
    let (mut all, mut rest) = (Vec::with_capacity(strings.len()), strings);
    while let Some((length, after)) = rest.split_first() {
        let (string, next) = after.split_at(usize::from(*length).min(after.len()));
        all.extend_from_slice(string);
        rest = next;
    }
    all
}

/// A name in lower case and ASCII form, without the trailing dot. Invalid names are unchanged.
pub(super) fn lower(name: &str) -> String {
    ascii(name).unwrap_or_else(|| name.to_lowercase()).trim_end_matches('.').to_owned()
}

/// The ASCII form of a name (RFC 5890), in lower case. `None` for an invalid name.
pub(super) fn ascii(name: &str) -> Option<String> {
    if name.is_ascii() {
        return Some(name.to_ascii_lowercase());
    }
    // `*` and `_` are allowed in DNS.
    idna::domain_to_ascii_cow(name.as_bytes(), idna::AsciiDenyList::EMPTY).ok().map(std::borrow::Cow::into_owned)
}

/// Whether two names are the same.
pub(super) fn same(one: &str, other: &str) -> bool {
    lower(one) == lower(other)
}

/// Whether a name is the zone's own or below it.
pub(super) fn is_within(name: &str, zone: &str) -> bool {
    let (name, zone) = (lower(name), lower(zone));
    name == zone || name.strip_suffix(&zone).is_some_and(|rest| rest.ends_with('.'))
}

/// A name for a master file: absolute, in ASCII form, with special characters escaped.
pub(super) fn absolute(name: &str) -> String {
    let name = ascii(name.trim()).unwrap_or_else(|| name.to_owned());
    let name = name.trim_end_matches('.');
    let mut made = String::with_capacity(name.len() + 1);
    let mut escaped = false;
    for c in name.chars() {
        match c {
            // Escaped already.
            _ if escaped => made.push(c),
            '"' | '(' | ')' | ';' | '@' | '$' => {
                made.push('\\');
                made.push(c);
            }
            c if c.is_ascii_whitespace() || c.is_ascii_control() => made += &format!("\\{:03}", u32::from(c)),
            c => made.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    made.push('.');
    made
}

#[cfg(test)]
mod tests;
