//! Extended JSON to BSON, straight from the text: no tree in between, so that what is allocated is what comes out.
//!
//! Read are canonical and relaxed Extended JSON v2, and of v1 what tools before 4.2 wrote into archives.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::Decimal128;
use bson::raw::RawDocumentBuf;

use super::MAX_DOCUMENT;
use super::extended_json::MAX_DEPTH;

/// Reads one document. Field order and duplicate fields are kept.
///
/// # Errors
/// What is wrong with the text, and at which byte; a document of more than 16 MiB.
pub fn from_extended_json(text: &str) -> Result<RawDocumentBuf, String> {
    let mut json = Json::new(text);
    let document = json.document()?;
    json.end()?;
    Ok(document)
}

/// A cursor over JSON text.
#[derive(Clone, Debug)]
pub(super) struct Json<'a> {
    text: &'a str,
    at: usize,
}

/// What reading gives.
type Read<T> = Result<T, String>;

impl<'a> Json<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn wrong<T>(&self, what: &str) -> Read<T> {
        Err(format!("invalid JSON input: {what} (at byte {} of {})", self.at, self.text.len()))
    }

    /// The next byte that is not space; 0 at the end.
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or(0)
    }

    fn take(&mut self, wanted: u8) -> bool {
        let there = self.peek() == wanted;
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, wanted: u8) -> Read<()> {
        if self.take(wanted) { Ok(()) } else { self.wrong(&format!("'{}' is missing", char::from(wanted))) }
    }

    /// Nothing but space is left.
    pub(super) fn end(&mut self) -> Read<()> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { self.wrong("there is more after the end") }
    }

    /// Reads an object, giving each key to `field`, which reads the value.
    pub(super) fn object(&mut self, mut field: impl FnMut(&mut Self, &str) -> Read<()>) -> Read<()> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            field(self, &key)?;
            if !self.take(b',') {
                return self.expect(b'}');
            }
        }
    }

    /// Reads an array (or a null in its place), calling `item` for each value.
    pub(super) fn array(&mut self, mut item: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        if self.word("null") {
            return Ok(());
        }
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.take(b',') {
                return self.expect(b']');
            }
        }
    }

    /// Reads a string, or a null, which is `None`.
    pub(super) fn text(&mut self) -> Read<Option<String>> {
        if self.word("null") { Ok(None) } else { self.string().map(Some) }
    }

    /// Reads an object as a BSON document.
    pub(super) fn document(&mut self) -> Read<RawDocumentBuf> {
        let mut out = Vec::new();
        if self.peek() != b'{' {
            return self.wrong("a document was expected");
        }
        self.fields(&mut out, 0)?;
        RawDocumentBuf::from_bytes(out).map_err(|e| e.to_string())
    }

    /// Reads an object as a BSON document; a null is none.
    pub(super) fn optional_document(&mut self) -> Read<Option<RawDocumentBuf>> {
        if self.word("null") { Ok(None) } else { self.document().map(Some) }
    }

    /// Passes over any value.
    pub(super) fn skip(&mut self) -> Read<()> {
        self.skip_at(0)
    }

    fn skip_at(&mut self, depth: usize) -> Read<()> {
        if depth > MAX_DEPTH {
            return self.wrong("nested too deeply");
        }
        match self.peek() {
            b'{' => self.object(|json, _| json.skip_at(depth + 1)),
            b'[' => self.array(|json| json.skip_at(depth + 1)),
            b'"' => self.string().map(|_| ()),
            _ if self.word("true") || self.word("false") || self.word("null") => Ok(()),
            _ => self.number().map(|_| ()),
        }
    }

    fn word(&mut self, word: &str) -> bool {
        self.peek();
        let there = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        if there {
            self.at += word.len();
        }
        there
    }

    fn string(&mut self) -> Read<String> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let mut out = String::new();
        loop {
            let start = self.at;
            while self.at < bytes.len() && !matches!(bytes[self.at], b'"' | b'\\' | 0..=0x1f) {
                self.at += 1;
            }
            // Quotes, backslashes and control characters are ASCII: both ends are borders of characters.
            out.push_str(&self.text[start..self.at]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escaped = self.escape()?;
                    out.push(escaped);
                }
                Some(_) => return self.wrong("a control character in a text"),
                None => return self.wrong("a text has no end"),
            }
        }
    }

    fn escape(&mut self) -> Read<char> {
        let Some(kind) = self.text.as_bytes().get(self.at).copied() else { return self.wrong("a text has no end") };
        self.at += 1;
        Ok(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut code = self.four_digits()?;
                if (0xd800..0xdc00).contains(&code) && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    let low = self.four_digits()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return self.wrong("half a character");
                    }
                    code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                match char::from_u32(code) {
                    Some(c) => c,
                    None => return self.wrong("half a character"),
                }
            }
            _ => return self.wrong("an escape that JSON does not have"),
        })
    }

    fn four_digits(&mut self) -> Read<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => self.wrong("four hexadecimal digits are missing"),
        }
    }

    /// The text of a number.
    fn number(&mut self) -> Read<&'a str> {
        self.peek();
        let rest = &self.text[self.at..];
        let length = rest.bytes().position(|b| !matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        let number = &rest[..length.unwrap_or(rest.len())];
        if number.parse::<f64>().is_err() {
            return self.wrong("a value was expected");
        }
        self.at += number.len();
        Ok(number)
    }

    /// Reads an object's fields into `out` as a document with its length.
    fn fields(&mut self, out: &mut Vec<u8>, depth: usize) -> Read<()> {
        if depth > MAX_DEPTH {
            return self.wrong("nested too deeply");
        }
        let start = begin(out);
        self.object(|json, key| {
            let place = json.name(out, key)?;
            out[place] = json.value(out, depth)?;
            json.bounded(out)
        })?;
        end(out, start);
        Ok(())
    }

    /// Writes the place of a type byte, and a name. Returns the place.
    fn name(&self, out: &mut Vec<u8>, name: &str) -> Read<usize> {
        if name.contains('\0') {
            return self.wrong("a field's name holds a NUL");
        }
        let place = out.len();
        out.push(0);
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        Ok(place)
    }

    fn bounded(&self, out: &[u8]) -> Read<()> {
        if out.len() > MAX_DOCUMENT { self.wrong("it makes a document of more than 16 MiB") } else { Ok(()) }
    }

    /// Reads a value into `out` and returns its BSON type.
    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Read<u8> {
        match self.peek() {
            b'{' => {
                let (start, here) = (out.len(), self.at);
                if let Some(kind) = self.wrapped(out, depth)? {
                    return Ok(kind);
                }
                out.truncate(start);
                self.at = here;
                self.fields(out, depth + 1)?;
                Ok(0x03)
            }
            b'[' => {
                if depth > MAX_DEPTH {
                    return self.wrong("nested too deeply");
                }
                let start = begin(out);
                let mut number = 0u32;
                self.array(|json| {
                    let place = json.name(out, &number.to_string())?;
                    number += 1;
                    out[place] = json.value(out, depth + 1)?;
                    json.bounded(out)
                })?;
                end(out, start);
                Ok(0x04)
            }
            b'"' => {
                let text = self.string()?;
                put_string(out, &text);
                Ok(0x02)
            }
            _ if self.word("true") => {
                out.push(1);
                Ok(0x08)
            }
            _ if self.word("false") => {
                out.push(0);
                Ok(0x08)
            }
            _ if self.word("null") => Ok(0x0a),
            _ => {
                let number = self.number()?;
                Ok(put_number(out, number))
            }
        }
    }

    /// Reads an object that stands for a value of another type, if it is one. If it is not, `out` and the place are
    /// anywhere, and the caller goes back. Only the scope of code is read for more than a few fields, and after it there is no
    /// going back: so nothing is read more than twice.
    fn wrapped(&mut self, out: &mut Vec<u8>, depth: usize) -> Read<Option<u8>> {
        self.expect(b'{')?;
        if self.peek() != b'"' || !self.text.as_bytes()[self.at..].starts_with(b"\"$") {
            return Ok(None);
        }
        let key = self.string()?;
        self.expect(b':')?;
        let next = self.peek();
        let kind = match &*key {
            "$numberInt" if next == b'"' => {
                let Ok(number) = self.string()?.parse::<i32>() else { return self.wrong("no 32-bit number") };
                out.extend_from_slice(&number.to_le_bytes());
                0x10
            }
            "$numberLong" if next == b'"' => {
                let Ok(number) = self.string()?.parse::<i64>() else { return self.wrong("no 64-bit number") };
                out.extend_from_slice(&number.to_le_bytes());
                0x12
            }
            "$numberDouble" if next == b'"' => {
                let text = self.string()?;
                let number = match &*text {
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    // The NaN that Go makes: positive, quiet, payload 1 (math.NaN).
                    "NaN" => f64::from_bits(0x7ff8_0000_0000_0001),
                    _ => match text.parse::<f64>() {
                        Ok(number) if text.bytes().all(|b| !b.is_ascii_alphabetic() || b == b'E' || b == b'e') => {
                            number
                        }
                        _ => return self.wrong("no double"),
                    },
                };
                out.extend_from_slice(&number.to_le_bytes());
                0x01
            }
            "$numberDecimal" if next == b'"' => {
                let Ok(number) = self.string()?.parse::<Decimal128>() else { return self.wrong("no decimal") };
                out.extend_from_slice(&number.bytes());
                0x13
            }
            "$oid" if next == b'"' => {
                self.object_id(out)?;
                0x07
            }
            "$symbol" if next == b'"' => {
                let text = self.string()?;
                put_string(out, &text);
                0x0e
            }
            "$code" if next == b'"' => return self.code(out, depth),
            "$binary" if next == b'{' || next == b'"' => return self.binary(out, next == b'"'),
            "$regularExpression" if next == b'{' => {
                let (mut pattern, mut options) = (None, None);
                self.object(|json, key| match key {
                    "pattern" => json.string().map(|text| pattern = Some(text)),
                    "options" => json.string().map(|text| options = Some(text)),
                    _ => json.wrong("an unknown key in $regularExpression"),
                })?;
                let (Some(pattern), Some(options)) = (pattern, options) else {
                    return self.wrong("$regularExpression is not whole");
                };
                for text in [pattern, options] {
                    if text.contains('\0') {
                        return self.wrong("a regular expression holds a NUL");
                    }
                    out.extend_from_slice(text.as_bytes());
                    out.push(0);
                }
                0x0b
            }
            "$dbPointer" if next == b'{' => {
                let (mut name, mut id) = (None, Vec::new());
                self.object(|json, key| match key {
                    "$ref" => json.string().map(|text| name = Some(text)),
                    "$id" => {
                        id.clear();
                        json.wrapped(&mut id, depth).map(|_| ())
                    }
                    _ => json.wrong("an unknown key in $dbPointer"),
                })?;
                let (Some(name), 12) = (name, id.len()) else { return self.wrong("$dbPointer is not whole") };
                put_string(out, &name);
                out.extend_from_slice(&id);
                0x0c
            }
            "$timestamp" if next == b'{' => {
                let (mut t, mut i) = (None, None);
                self.object(|json, key| {
                    let Ok(number) = json.number()?.parse::<u32>() else { return json.wrong("no 32-bit number") };
                    match key {
                        "t" => t = Some(number),
                        "i" => i = Some(number),
                        _ => return json.wrong("an unknown key in $timestamp"),
                    }
                    Ok(())
                })?;
                let (Some(t), Some(i)) = (t, i) else { return self.wrong("$timestamp is not whole") };
                out.extend_from_slice(&i.to_le_bytes());
                out.extend_from_slice(&t.to_le_bytes());
                0x11
            }
            "$date" => self.date(out, next)?,
            "$undefined" if self.word("true") => 0x06,
            "$minKey" if self.word("1") => 0xff,
            "$maxKey" if self.word("1") => 0x7f,
            _ => return Ok(None),
        };
        Ok(self.take(b'}').then_some(kind))
    }

    fn object_id(&mut self, out: &mut Vec<u8>) -> Read<()> {
        match hex::decode(self.string()?) {
            Ok(id) if id.len() == 12 => {
                out.extend_from_slice(&id);
                Ok(())
            }
            _ => self.wrong("no object id"),
        }
    }

    fn code(&mut self, out: &mut Vec<u8>, depth: usize) -> Read<Option<u8>> {
        let code = self.string()?;
        if self.take(b'}') {
            put_string(out, &code);
            return Ok(Some(0x0d));
        }
        self.expect(b',')?;
        if self.string()? != "$scope" {
            return Ok(None);
        }
        self.expect(b':')?;
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        put_string(out, &code);
        self.fields(out, depth + 1)?;
        let length = (out.len() - start) as u32;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.expect(b'}')?;
        Ok(Some(0x0f))
    }

    /// `{"$binary": {"base64": …, "subType": …}}`, or `{"$binary": …, "$type": …}` of version 1.
    fn binary(&mut self, out: &mut Vec<u8>, old: bool) -> Read<Option<u8>> {
        let (mut data, mut kind) = (None, None);
        if old {
            data = Some(self.string()?);
            if !self.take(b',') || self.string()? != "$type" {
                return Ok(None);
            }
            self.expect(b':')?;
            kind = Some(self.string()?);
        } else {
            self.object(|json, key| match key {
                "base64" => json.string().map(|text| data = Some(text)),
                "subType" => json.string().map(|text| kind = Some(text)),
                _ => json.wrong("an unknown key in $binary"),
            })?;
        }
        let (Some(data), Some(kind)) = (data, kind) else { return self.wrong("$binary is not whole") };
        let (Ok(data), Ok(kind)) = (STANDARD.decode(data), u8::from_str_radix(&kind, 16)) else {
            return self.wrong("no binary data");
        };
        out.extend_from_slice(&(data.len() as u32).to_le_bytes());
        out.push(kind);
        out.extend_from_slice(&data);
        Ok(self.take(b'}').then_some(0x05))
    }

    /// `{"$numberLong": …}`, ISO 8601 text, or milliseconds as a number.
    fn date(&mut self, out: &mut Vec<u8>, next: u8) -> Read<u8> {
        let milliseconds = match next {
            b'{' => {
                let mut value = Vec::new();
                match self.wrapped(&mut value, 0)? {
                    Some(0x12) => super::element::int64(&value, 0).ok(),
                    _ => None,
                }
            }
            b'"' => self.string()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
            _ => self.number()?.parse().ok(),
        };
        let Some(milliseconds) = milliseconds else { return self.wrong("no date") };
        out.extend_from_slice(&milliseconds.to_le_bytes());
        Ok(0x09)
    }
}

fn begin(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len() - 4
}

fn end(out: &mut Vec<u8>, start: usize) {
    out.push(0);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32 + 1).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// A bare number: the smallest whole type that holds it, else a double.
fn put_number(out: &mut Vec<u8>, number: &str) -> u8 {
    if let Ok(number) = number.parse::<i32>() {
        out.extend_from_slice(&number.to_le_bytes());
        0x10
    } else if let Ok(number) = number.parse::<i64>() {
        out.extend_from_slice(&number.to_le_bytes());
        0x12
    } else {
        out.extend_from_slice(&number.parse::<f64>().unwrap_or(f64::NAN).to_le_bytes());
        0x01
    }
}
