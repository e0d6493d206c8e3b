//! BSON as bytes: the minimum that the codec has to know about it.
//!
//! The format is that of <https://bsonspec.org/spec.html>, version 1.1.

use std::fmt;

use super::MIN_DOCUMENT;

/// The deepest nesting that is followed. The server allows 100 (`maxBSONDepth` 200 with its own margins).
const MAX_DEPTH: usize = 256;

/// Why bytes are not BSON, and where in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The offset from the document's start, in bytes.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {} of the document)", self.what, self.at)
    }
}

impl std::error::Error for Malformed {}

/// A little-endian int32.
pub(crate) fn int32(bytes: &[u8], at: usize) -> Result<i32, Malformed> {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(raw) => Ok(i32::from_le_bytes(*raw)),
        None => Err(Malformed { at, what: "it ends within a number" }),
    }
}

/// A little-endian int64.
pub(crate) fn int64(bytes: &[u8], at: usize) -> Result<i64, Malformed> {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(raw) => Ok(i64::from_le_bytes(*raw)),
        None => Err(Malformed { at, what: "it ends within a number" }),
    }
}

/// The end of the C string that starts at `at`: the place after its NUL.
#[inline]
fn after_cstring(bytes: &[u8], at: usize, end: usize) -> Result<usize, Malformed> {
    let rest = bytes.get(at..end).ok_or(Malformed { at, what: "it ends within a name" })?;
    // Names are short: a loop beats a call.
    match rest.iter().position(|byte| *byte == 0) {
        Some(length) => Ok(at + length + 1),
        None => Err(Malformed { at, what: "a name has no end" }),
    }
}

/// The end of the string with a length that starts at `at`.
#[inline]
fn after_string(bytes: &[u8], at: usize, end: usize) -> Result<usize, Malformed> {
    let wrong = Malformed { at, what: "a string has an impossible length" };
    let length = usize::try_from(int32(bytes, at)?).map_err(|_| wrong)?;
    let after = (at + 4).checked_add(length).filter(|after| length > 0 && *after <= end).ok_or(wrong)?;
    if bytes[after - 1] != 0 {
        return Err(Malformed { at, what: "a string does not end with NUL" });
    }
    Ok(after)
}

/// The end of the document that starts at `at`; only its length and last byte are checked.
#[inline]
fn after_document(bytes: &[u8], at: usize, end: usize) -> Result<usize, Malformed> {
    let wrong = Malformed { at, what: "a document has an impossible length" };
    let length = usize::try_from(int32(bytes, at)?).map_err(|_| wrong)?;
    let after = at.checked_add(length).filter(|after| length >= MIN_DOCUMENT && *after <= end).ok_or(wrong)?;
    if bytes[after - 1] != 0 {
        return Err(Malformed { at, what: "a document does not end with NUL" });
    }
    Ok(after)
}

/// The end of a value that neither is nor contains a document.
#[inline]
fn after_scalar(bytes: &[u8], kind: u8, at: usize, end: usize) -> Result<usize, Malformed> {
    let fixed = match kind {
        0x10 => 4,
        0x01 | 0x09 | 0x11 | 0x12 => 8,
        0x02 | 0x0d | 0x0e => return after_string(bytes, at, end),
        0x07 => 12,
        0x08 => {
            if bytes.get(at).is_some_and(|byte| *byte > 1) {
                return Err(Malformed { at, what: "a boolean is neither 0 nor 1" });
            }
            1
        }
        0x06 | 0x0a | 0x7f | 0xff => 0,
        0x05 => {
            let wrong = Malformed { at, what: "binary data has an impossible length" };
            let length = usize::try_from(int32(bytes, at)?).map_err(|_| wrong)?;
            let after = (at + 5).checked_add(length).filter(|after| *after <= end).ok_or(wrong)?;
            // The old subtype contains another length.
            if bytes[at + 4] == 2 && (length < 4 || i32::try_from(length - 4) != Ok(int32(bytes, at + 5)?)) {
                return Err(Malformed { at, what: "binary data of subtype 2 has another length within" });
            }
            return Ok(after);
        }
        0x0b => return after_cstring(bytes, after_cstring(bytes, at, end)?, end),
        0x0c => after_string(bytes, at, end)? - at + 12,
        0x13 => 16,
        _ => return Err(Malformed { at, what: "a type of value that BSON does not have" }),
    };
    if at + fixed > end {
        return Err(Malformed { at, what: "a value ends after its document" });
    }
    Ok(at + fixed)
}

/// One element of a document, as bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    /// The type byte.
    pub(crate) kind: u8,
    /// The name, without its NUL.
    pub(crate) name: &'a [u8],
    /// The value.
    pub(crate) value: &'a [u8],
}

impl<'a> Element<'a> {
    /// The text of a string.
    pub(crate) fn text(&self) -> Option<&'a str> {
        if self.kind != 0x02 || self.value.len() < 5 {
            return None;
        }
        std::str::from_utf8(&self.value[4..self.value.len() - 1]).ok()
    }

    /// The value of a whole number of any type.
    pub(crate) fn whole_number(&self) -> Option<i64> {
        match self.kind {
            0x10 => int32(self.value, 0).ok().map(i64::from),
            0x12 => int64(self.value, 0).ok(),
            0x01 => {
                let number = f64::from_bits(int64(self.value, 0).ok()?.cast_unsigned());
                // Beyond 2^53, adjacent integers are indistinguishable.
                (number.trunc() == number && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
            }
            _ => None,
        }
    }
}

/// The elements of a document, without looking into nested ones.
#[derive(Debug)]
pub(crate) struct Elements<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Elements<'a> {
    /// The elements of `document`, which must be exactly one document.
    pub(crate) fn of(document: &'a [u8]) -> Result<Self, Malformed> {
        if after_document(document, 0, document.len())? != document.len() {
            return Err(Malformed { at: 0, what: "its length is not the document's" });
        }
        Ok(Self { bytes: document, at: 4 })
    }

    fn step(&mut self) -> Result<Option<Element<'a>>, Malformed> {
        let end = self.bytes.len() - 1;
        if self.at == end {
            return Ok(None);
        }
        let kind = self.bytes[self.at];
        if kind == 0 {
            return Err(Malformed { at: self.at, what: "it ends before its length" });
        }
        let start = self.at + 1;
        let value = after_cstring(self.bytes, start, end)?;
        let after = match kind {
            0x03 | 0x04 => after_document(self.bytes, value, end)?,
            0x0f => {
                let wrong = Malformed { at: value, what: "code with scope has an impossible length" };
                let length = usize::try_from(int32(self.bytes, value)?).map_err(|_| wrong)?;
                let after = value.checked_add(length).filter(|after| *after <= end).ok_or(wrong)?;
                let scope = after_string(self.bytes, value + 4, after).map_err(|_| wrong)?;
                if after_document(self.bytes, scope, after)? != after {
                    return Err(wrong);
                }
                after
            }
            _ => after_scalar(self.bytes, kind, value, end)?,
        };
        self.at = after;
        Ok(Some(Element { kind, name: &self.bytes[start..value - 1], value: &self.bytes[value..after] }))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.at = self.bytes.len() - 1;
        }
        step.transpose()
    }
}

/// Walks through all elements of documents, including nested ones. Reuses its stack between documents.
#[derive(Debug, Default)]
pub struct Walker {
    /// The ends of the documents around the current place.
    ends: Vec<usize>,
}

impl Walker {
    /// Creates a walker.
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks that `document` is one well-formed BSON document: lengths, types, ends. Values are not checked, so
    /// invalid UTF-8, which old drivers have stored, passes.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&mut self, document: &[u8]) -> Result<(), Malformed> {
        if after_document(document, 0, document.len())? != document.len() {
            return Err(Malformed { at: 0, what: "its length is not the document's" });
        }
        self.ends.clear();
        // `end` is the place of the NUL that ends the innermost document.
        let mut end = document.len() - 1;
        let mut at = 4;
        loop {
            if at == end {
                let Some(outer) = self.ends.pop() else { return Ok(()) };
                at += 1;
                end = outer;
                continue;
            }
            let kind = document[at];
            if kind == 0 {
                return Err(Malformed { at, what: "it ends before its length" });
            }
            let value = after_cstring(document, at + 1, end)?;
            let nested = match kind {
                0x03 | 0x04 => value,
                0x0f => {
                    let wrong = Malformed { at: value, what: "code with scope has an impossible length" };
                    let length = usize::try_from(int32(document, value)?).map_err(|_| wrong)?;
                    let after = value.checked_add(length).filter(|after| *after <= end).ok_or(wrong)?;
                    let scope = after_string(document, value + 4, after)?;
                    if after_document(document, scope, after)? != after {
                        return Err(wrong);
                    }
                    scope
                }
                _ => {
                    at = after_scalar(document, kind, value, end)?;
                    continue;
                }
            };
            let after = after_document(document, nested, end)?;
            if self.ends.len() == MAX_DEPTH {
                return Err(Malformed { at, what: "documents are nested too deeply" });
            }
            self.ends.push(end);
            end = after - 1;
            at = nested + 4;
        }
    }
}

/// Writes a document, element by element.
#[derive(Debug)]
pub(crate) struct Builder(Vec<u8>);

impl Builder {
    pub(crate) fn new() -> Self {
        Self(vec![0; 4])
    }

    fn name(&mut self, kind: u8, name: &str) {
        self.0.push(kind);
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
    }

    pub(crate) fn string(mut self, name: &str, value: &str) -> Self {
        self.name(0x02, name);
        self.0.extend_from_slice(&(value.len() as u32 + 1).to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
        self
    }

    pub(crate) fn bool(mut self, name: &str, value: bool) -> Self {
        self.name(0x08, name);
        self.0.push(u8::from(value));
        self
    }

    pub(crate) fn int32(mut self, name: &str, value: i32) -> Self {
        self.name(0x10, name);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn int64(mut self, name: &str, value: i64) -> Self {
        self.name(0x12, name);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn build(mut self) -> Vec<u8> {
        self.0.push(0);
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_testkit::documents::Doc;

    use super::*;

    #[test]
    fn old_binary_data_has_one_length_only() {
        let of = |value: &[u8]| {
            let length = (value.len() as u32).to_le_bytes();
            let document = Doc::new().raw(0x05, "b", &[&length[..], &[2], value].concat()).build();
            Walker::new().check(&document)
        };
        of(&[3, 0, 0, 0, 1, 2, 3]).unwrap();
        of(&[0, 0, 0, 0]).unwrap();
        for wrong in [&[2, 0, 0, 0, 1, 2, 3][..], &[4, 0, 0, 0, 1, 2, 3], &[3, 0, 0], &[], &[0xff; 7]] {
            of(wrong).unwrap_err();
        }
    }
}
