//! BSON to canonical Extended JSON v2, exactly as mongodump writes it.
//!
//! The specification is `source/extended-json/extended-json.md` of mongodb/specifications. Where it leaves a choice (the
//! digits of a double, which characters are escaped), this follows Go's driver, because mongodump uses it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::Decimal128;

use super::element::{Element, Elements, int32, int64};

/// Nested documents that are followed.
pub(super) const MAX_DEPTH: usize = 200;

/// Writes a BSON document as compact canonical Extended JSON v2. Field order and duplicate fields are kept.
///
/// # Errors
/// What is malformed in the document, or which text in it is not UTF-8.
pub fn to_extended_json(document: &[u8]) -> Result<String, String> {
    let mut out = String::with_capacity(document.len() * 2);
    write_document(&mut out, document, false, 0)?;
    Ok(out)
}

fn write_document(out: &mut String, document: &[u8], array: bool, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("documents are nested too deeply".to_owned());
    }
    out.push(if array { '[' } else { '{' });
    let mut first = true;
    for element in Elements::of(document).map_err(|e| e.to_string())? {
        let element = element.map_err(|e| e.to_string())?;
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        if !array {
            quote(out, utf8(element.name)?);
            out.push(':');
        }
        write_value(out, &element, depth)?;
    }
    out.push(if array { ']' } else { '}' });
    Ok(())
}

fn write_value(out: &mut String, element: &Element<'_>, depth: usize) -> Result<(), String> {
    let value = element.value;
    let number32 = |at| int32(value, at).map_err(|e| e.to_string());
    let number64 = || int64(value, 0).map_err(|e| e.to_string());
    match element.kind {
        0x01 => {
            out.push_str("{\"$numberDouble\":\"");
            write_double(out, f64::from_bits(number64()?.cast_unsigned()));
            out.push_str("\"}");
        }
        0x02 => quote(out, string(value)?),
        0x03 => write_document(out, value, false, depth + 1)?,
        0x04 => write_document(out, value, true, depth + 1)?,
        0x05 => {
            out.push_str("{\"$binary\":{\"base64\":\"");
            STANDARD.encode_string(&value[5..], out);
            let _ = write!(out, "\",\"subType\":\"{:02x}\"}}}}", value[4]);
        }
        0x06 => out.push_str("{\"$undefined\":true}"),
        0x07 => write_object_id(out, value),
        0x08 => out.push_str(if value == [1] { "true" } else { "false" }),
        0x09 => {
            let _ = write!(out, "{{\"$date\":{{\"$numberLong\":\"{}\"}}}}", number64()?);
        }
        0x0a => out.push_str("null"),
        0x0b => {
            let end = value.iter().position(|b| *b == 0).ok_or("a regular expression has no end")?;
            out.push_str("{\"$regularExpression\":{\"pattern\":");
            quote(out, utf8(&value[..end])?);
            out.push_str(",\"options\":");
            quote(out, utf8(&value[end + 1..value.len() - 1])?);
            out.push_str("}}");
        }
        0x0c => {
            let (name, id) = value.split_at(value.len() - 12);
            out.push_str("{\"$dbPointer\":{\"$ref\":");
            quote(out, string(name)?);
            out.push_str(",\"$id\":");
            write_object_id(out, id);
            out.push_str("}}");
        }
        0x0d => {
            out.push_str("{\"$code\":");
            quote(out, string(value)?);
            out.push('}');
        }
        0x0e => {
            out.push_str("{\"$symbol\":");
            quote(out, string(value)?);
            out.push('}');
        }
        0x0f => {
            let length = usize::try_from(number32(4)?).map_err(|e| e.to_string())?;
            let (code, scope) = value[4..].split_at_checked(4 + length).ok_or("code has an impossible length")?;
            out.push_str("{\"$code\":");
            quote(out, string(code)?);
            out.push_str(",\"$scope\":");
            write_document(out, scope, false, depth + 1)?;
            out.push('}');
        }
        0x10 => {
            let _ = write!(out, "{{\"$numberInt\":\"{}\"}}", number32(0)?);
        }
        0x11 => {
            let (i, t) = (number32(0)?.cast_unsigned(), number32(4)?.cast_unsigned());
            let _ = write!(out, "{{\"$timestamp\":{{\"t\":{t},\"i\":{i}}}}}");
        }
        0x12 => {
            let _ = write!(out, "{{\"$numberLong\":\"{}\"}}", number64()?);
        }
        0x13 => {
            let raw: [u8; 16] = value.try_into().map_err(|_| "a decimal has an impossible length")?;
            let _ = write!(out, "{{\"$numberDecimal\":\"{}\"}}", Decimal128::from_bytes(raw));
        }
        0x7f => out.push_str("{\"$maxKey\":1}"),
        0xff => out.push_str("{\"$minKey\":1}"),
        _ => return Err("a type of value that BSON does not have".to_owned()),
    }
    Ok(())
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "a string is not UTF-8".to_owned())
}

/// The text of a value with a length before it and a NUL after it, both already checked.
fn string(value: &[u8]) -> Result<&str, String> {
    utf8(value.get(4..value.len().saturating_sub(1)).ok_or("a text is cut")?)
}

fn write_object_id(out: &mut String, id: &[u8]) {
    out.push_str("{\"$oid\":\"");
    out.push_str(&hex::encode(id));
    out.push_str("\"}");
}

/// Formats like Go's `strconv.FormatFloat(f, 'G', -1, 64)` with `.0` after a whole number: the fewest digits that give
/// the same double again, with an exponent below 1e-4 and from 1e6.
fn write_double(out: &mut String, number: f64) {
    if number.is_nan() {
        out.push_str("NaN");
        return;
    }
    if number.is_infinite() {
        out.push_str(if number < 0.0 { "-Infinity" } else { "Infinity" });
        return;
    }
    // Rust's format is d.ddde-7, with the same fewest digits.
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{digits}E{sign}{:02}", exponent.unsigned_abs());
        return;
    }
    let plain = format!("{number}");
    out.push_str(&plain);
    if !plain.contains('.') {
        out.push_str(".0");
    }
}

/// Writes a JSON string, escaping what JSON requires, and U+2028 and U+2029.
pub(super) fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}
