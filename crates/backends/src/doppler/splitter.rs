//! A push parser that splits a JSON object into its entries, holding one at a time.
//!
//! It knows just enough JSON (RFC 8259) to find where an entry ends; `serde_json` parses each whole key and value. The
//! object under the key `secrets` is also split into its entries.

use lifeboat_core::{Error, ErrorKind, Result};

use crate::http::Body;

/// The largest size of one entry, in bytes. Doppler allows values of about 50 KiB.
const LONGEST_ENTRY: usize = 8 << 20;
/// The deepest permitted nesting of a value.
const DEEPEST: u32 = 32;

/// Where an entry was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// In the object itself.
    Top,
    /// In the object under `secrets`.
    Secrets,
}

/// Receives each entry: its level, key and value as written.
pub(super) type Each<'a> = dyn FnMut(Level, &[u8], &[u8]) -> Result<()> + 'a;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    FirstKeyOrEnd,
    NextKey,
    Key,
    Colon,
    Value,
    InString,
    Nested(u32),
    NestedString(u32),
    Scalar,
    CommaOrEnd,
    End,
}

/// Splits an object into entries.
pub(super) struct Splitter {
    place: Place,
    level: Level,
    escaped: bool,
    key: Body,
    value: Body,
    at: u64,
    /// Whether the data was decrypted without authentication: then a bad beginning means that the key is wrong.
    unauthenticated: bool,
}

impl Splitter {
    pub(super) fn new(unauthenticated: bool) -> Self {
        Self {
            place: Place::Start,
            level: Level::Top,
            escaped: false,
            key: Body::default(),
            value: Body::default(),
            at: 0,
            unauthenticated,
        }
    }

    /// Takes the next bytes, and passes on each complete entry: its level, key and value as written.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is not a JSON object; [`ErrorKind::Decrypt`] if the passphrase is probably wrong;
    /// errors of `each`.
    pub(super) fn push(&mut self, bytes: &[u8], each: &mut Each<'_>) -> Result<()> {
        for byte in bytes {
            self.byte(*byte, each)?;
            self.at += 1;
        }
        Ok(())
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it ends in the middle.
    pub(super) fn finish(&self) -> Result<()> {
        match self.place {
            Place::End => Ok(()),
            Place::Start => Err(corrupt("it is empty")),
            _ => Err(corrupt(format!(
                "the JSON ends in the middle, after {} bytes: it was cut short or altered",
                self.at
            ))),
        }
    }

    fn byte(&mut self, byte: u8, each: &mut Each<'_>) -> Result<()> {
        let blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match (self.place, byte) {
            (
                Place::Start
                | Place::FirstKeyOrEnd
                | Place::NextKey
                | Place::Colon
                | Place::Value
                | Place::CommaOrEnd
                | Place::End,
                _,
            ) if blank => {}
            (Place::Start, b'{') => self.place = Place::FirstKeyOrEnd,
            (Place::Start, _) => return Err(self.no_beginning()),
            (Place::FirstKeyOrEnd | Place::NextKey, b'"') => {
                self.key = Body::default();
                self.place = Place::Key;
                self.key.push(b"\"");
            }
            (Place::FirstKeyOrEnd | Place::CommaOrEnd, b'}') => {
                (self.level, self.place) = match self.level {
                    Level::Secrets => (Level::Top, Place::CommaOrEnd),
                    Level::Top => (Level::Top, Place::End),
                };
            }
            (Place::Key, _) => {
                self.room(self.key.as_slice().len())?;
                self.key.push(&[byte]);
                if self.ends_string(byte) {
                    self.place = Place::Colon;
                }
            }
            (Place::Colon, b':') => {
                self.value = Body::default();
                self.place = Place::Value;
            }
            (Place::Value, b'{') if self.level == Level::Top && self.key.as_slice() == b"\"secrets\"" => {
                self.level = Level::Secrets;
                self.place = Place::FirstKeyOrEnd;
            }
            (Place::Value, _) => {
                self.value.push(&[byte]);
                self.place = match byte {
                    b'"' => Place::InString,
                    b'{' | b'[' => Place::Nested(1),
                    b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Place::Scalar,
                    _ => return Err(self.wrong()),
                };
            }
            (Place::InString, _) => {
                self.take(byte)?;
                if self.ends_string(byte) {
                    self.entry(each)?;
                }
            }
            (Place::NestedString(depth), _) => {
                self.take(byte)?;
                if self.ends_string(byte) {
                    self.place = Place::Nested(depth);
                }
            }
            (Place::Nested(depth), _) => {
                self.take(byte)?;
                match byte {
                    b'"' => self.place = Place::NestedString(depth),
                    b'{' | b'[' if depth == DEEPEST => return Err(self.wrong()),
                    b'{' | b'[' => self.place = Place::Nested(depth + 1),
                    b'}' | b']' if depth == 1 => self.entry(each)?,
                    b'}' | b']' => self.place = Place::Nested(depth - 1),
                    _ => {}
                }
            }
            (Place::Scalar, b',' | b'}') => {
                self.entry(each)?;
                return self.byte(byte, each);
            }
            (Place::Scalar, _) if blank => self.entry(each)?,
            (Place::Scalar, _) => self.take(byte)?,
            (Place::CommaOrEnd, b',') => self.place = Place::NextKey,
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    /// Whether a byte inside a string is the quote that ends it.
    fn ends_string(&mut self, byte: u8) -> bool {
        let was_escaped = std::mem::replace(&mut self.escaped, false);
        match byte {
            b'\\' if !was_escaped => self.escaped = true,
            b'"' if !was_escaped => return true,
            _ => {}
        }
        false
    }

    fn entry(&mut self, each: &mut Each<'_>) -> Result<()> {
        self.place = Place::CommaOrEnd;
        let value = std::mem::take(&mut self.value);
        each(self.level, self.key.as_slice(), value.as_slice())
    }

    fn take(&mut self, byte: u8) -> Result<()> {
        self.room(self.value.as_slice().len())?;
        self.value.push(&[byte]);
        Ok(())
    }

    fn room(&self, used: usize) -> Result<()> {
        if used < LONGEST_ENTRY {
            return Ok(());
        }
        Err(corrupt(format!("an entry near byte {} has more than {LONGEST_ENTRY} bytes", self.at)))
    }

    fn no_beginning(&self) -> Error {
        if self.unauthenticated {
            let why = "what was decrypted is not JSON from its first byte on: the passphrase is wrong";
            return Error::new(ErrorKind::Decrypt, "read", "the secrets", why).hint(
                "give the passphrase that it was written with; or the object was altered at its beginning, which this form \
                 cannot tell",
            );
        }
        corrupt("it is not a JSON object")
    }

    fn wrong(&self) -> Error {
        let hint = if self.unauthenticated {
            "the passphrase is right, since it begins well: the stored object was altered; use another artifact"
        } else {
            "use another artifact"
        };
        corrupt(format!("it is not valid JSON from byte {} on", self.at)).hint(hint)
    }
}

pub(super) fn corrupt(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, "read", "the secrets", why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Entries = Vec<(Level, String, String)>;

    fn split(text: &[u8], size: usize) -> Result<Entries> {
        let mut found = Entries::new();
        let mut splitter = Splitter::new(false);
        for part in text.chunks(size) {
            splitter.push(part, &mut |level, key, value| {
                let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
                found.push((level, text(key), text(value)));
                Ok(())
            })?;
        }
        splitter.finish()?;
        Ok(found)
    }

    #[test]
    fn an_object_is_cut_into_its_entries_wherever_chunks_end() {
        let text = br#" {"a":"x\"}","n": -1.5e3 ,"o":{"p":["}"]},"secrets" : {"S":{"raw":null}, "T":"t"},"z":true}
        "#;
        for size in [1, 2, 3, 1000] {
            let found = split(text, size).unwrap();
            let shown: Vec<(Level, &str, &str)> = found.iter().map(|(l, k, v)| (*l, k.as_str(), v.as_str())).collect();
            assert_eq!(
                shown,
                [
                    (Level::Top, "\"a\"", r#""x\"}""#),
                    (Level::Top, "\"n\"", "-1.5e3"),
                    (Level::Top, "\"o\"", r#"{"p":["}"]}"#),
                    (Level::Secrets, "\"S\"", r#"{"raw":null}"#),
                    (Level::Secrets, "\"T\"", "\"t\""),
                    (Level::Top, "\"z\"", "true"),
                ]
            );
        }
    }

    #[test]
    fn what_is_no_object_or_not_all_of_one_is_corrupt() {
        for text in [
            "",
            "[1]",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "{\"a\":1}}",
            "{\"a\" 1}",
            "{,}",
            "{\"a\":x}",
            "\u{1}",
        ] {
            assert_eq!(split(text.as_bytes(), 1).unwrap_err().kind(), ErrorKind::Corrupt, "{text}");
        }
        let deep = format!("{{\"a\":{}", "[".repeat(1000));
        assert_eq!(split(deep.as_bytes(), 7).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_entry_without_end_takes_bounded_memory() {
        let mut splitter = Splitter::new(false);
        splitter.push(b"{\"a\":\"", &mut |_, _, _| Ok(())).unwrap();
        let chunk = vec![b'x'; 1 << 20];
        let error = (0..20).find_map(|_| splitter.push(&chunk, &mut |_, _, _| Ok(())).err());
        assert_eq!(error.unwrap().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_bad_beginning_of_what_nothing_authenticates_is_a_wrong_passphrase() {
        let mut splitter = Splitter::new(true);
        let error = splitter.push(b"\x83garbage", &mut |_, _, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decrypt);
        let mut splitter = Splitter::new(true);
        let error = splitter.push(b"{\"A\":\x83garbage", &mut |_, _, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.advice().unwrap().contains("the passphrase is right"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_flat_object_reads_back(map in prop::collection::btree_map("\\PC{0,12}", "\\PC{0,40}", 0..8), size in 1usize..50) {
            prop_assume!(!map.contains_key("secrets"));
            let text = serde_json::to_vec(&map).unwrap();
            let found: std::collections::BTreeMap<String, String> = split(&text, size).unwrap().into_iter()
                .map(|(_, k, v)| (serde_json::from_str(&k).unwrap(), serde_json::from_str(&v).unwrap())).collect();
            prop_assert_eq!(found, map);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1usize..50) {
            let _ = split(&bytes, size);
            let _ = split(&[b"{\"a\":", &bytes[..]].concat(), size);
        }
    }
}
