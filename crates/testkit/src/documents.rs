//! BSON documents as bytes: every type with its edge cases, odd names, any size.
//!
//! Written by hand, from <https://bsonspec.org/spec.html>, independently of what drivers consider sensible.

/// Builds a document, element by element. Nothing is checked: a test may want what no driver writes.
#[derive(Clone, Debug)]
pub struct Doc(Vec<u8>);

impl Default for Doc {
    fn default() -> Self {
        Self::new()
    }
}

impl Doc {
    /// An empty document.
    pub fn new() -> Self {
        Self(vec![0; 4])
    }

    /// A document with these elements, to add more.
    pub fn like(document: &[u8]) -> Self {
        Self(document[..document.len() - 1].to_vec())
    }

    /// An element of any type, its value given as bytes.
    #[must_use]
    pub fn raw(mut self, kind: u8, name: &str, value: &[u8]) -> Self {
        self.0.push(kind);
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self.0.extend_from_slice(value);
        self
    }

    /// A 32-bit number.
    #[must_use]
    pub fn int32(self, name: &str, value: i32) -> Self {
        self.raw(0x10, name, &value.to_le_bytes())
    }

    /// A 64-bit number.
    #[must_use]
    pub fn int64(self, name: &str, value: i64) -> Self {
        self.raw(0x12, name, &value.to_le_bytes())
    }

    /// A double.
    #[must_use]
    pub fn double(self, name: &str, value: f64) -> Self {
        self.raw(0x01, name, &value.to_bits().to_le_bytes())
    }

    /// A boolean.
    #[must_use]
    pub fn bool(self, name: &str, value: bool) -> Self {
        self.raw(0x08, name, &[u8::from(value)])
    }

    /// A text.
    #[must_use]
    pub fn text(self, name: &str, value: &str) -> Self {
        self.raw(0x02, name, &string(value))
    }

    /// A document within this one.
    #[must_use]
    pub fn doc(self, name: &str, value: Doc) -> Self {
        self.raw(0x03, name, &value.build())
    }

    /// An array of documents.
    #[must_use]
    pub fn docs(self, name: &str, values: impl IntoIterator<Item = Doc>) -> Self {
        let array =
            values.into_iter().enumerate().fold(Doc::new(), |array, (i, value)| array.doc(&i.to_string(), value));
        self.raw(0x04, name, &array.build())
    }

    /// The bytes.
    pub fn build(mut self) -> Vec<u8> {
        self.0.push(0);
        let length = u32::try_from(self.0.len()).unwrap();
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

/// A text as BSON has it: its length with the NUL, the text, the NUL.
pub fn string(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len() + 1).unwrap();
    [&length.to_le_bytes()[..], text.as_bytes(), &[0]].concat()
}

/// A document of exactly `size` bytes (at least 32), with `_id`.
pub fn of_size(id: i32, size: usize) -> Vec<u8> {
    let empty = Doc::new().int32("_id", id).text("s", "").build().len();
    let letters = b"The quick brown fox jumps over the lazy dog. ";
    let text: Vec<u8> =
        letters.iter().cycle().skip(id.unsigned_abs() as usize % 7).take(size - empty).copied().collect();
    let document = Doc::new().int32("_id", id).text("s", std::str::from_utf8(&text).unwrap()).build();
    assert_eq!(document.len(), size);
    document
}

/// Code with a scope, as BSON has it.
fn code_with_scope(code: &str, scope: Doc) -> Vec<u8> {
    let inside = [string(code), scope.build()].concat();
    [&u32::try_from(inside.len() + 4).unwrap().to_le_bytes()[..], &inside].concat()
}

/// A value of each BSON type and each of its edges: what it is, its type byte, its bytes. Deprecated types are among them.
pub fn values() -> Vec<(&'static str, u8, Vec<u8>)> {
    let double = |bits: u64| bits.to_le_bytes().to_vec();
    let binary =
        |kind: u8, bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], &[kind], bytes].concat();
    let decimal = |high: u64, low: u64| [low.to_le_bytes(), high.to_le_bytes()].concat();
    vec![
        ("zero", 0x01, double(0)),
        ("minus zero", 0x01, double(1 << 63)),
        ("one and a half", 0x01, double(1.5f64.to_bits())),
        ("least denormal", 0x01, double(1)),
        ("greatest double", 0x01, double(f64::MAX.to_bits())),
        ("infinity", 0x01, double(f64::INFINITY.to_bits())),
        ("minus infinity", 0x01, double(f64::NEG_INFINITY.to_bits())),
        ("quiet NaN", 0x01, double(0x7ff8_0000_0000_0000)),
        ("NaN with payload", 0x01, double(0x7ff8_dead_beef_0001)),
        ("signalling negative NaN", 0x01, double(0xfff0_0000_0000_0001)),
        ("empty text", 0x02, string("")),
        ("text with NUL", 0x02, string("a\0b")),
        ("text in several scripts", 0x02, string("Ünï\u{1f30d}\u{2028}\"\\\n\u{7f}日本")),
        ("text that is not UTF-8", 0x02, [&5u32.to_le_bytes()[..], &[0xff, 0xfe, 0xc3, 0x28, 0]].concat()),
        ("empty document", 0x03, Doc::new().build()),
        ("document", 0x03, Doc::new().int32("a", 1).doc("b", Doc::new().int32("a", 2)).build()),
        ("empty array", 0x04, Doc::new().build()),
        ("array", 0x04, Doc::new().int32("0", 1).text("1", "x").build()),
        ("array with odd names", 0x04, Doc::new().int32("x", 1).int32("x", 2).build()),
        ("empty binary", 0x05, binary(0, b"")),
        ("function", 0x05, binary(1, b"f")),
        ("old binary", 0x05, binary(2, &[3, 0, 0, 0, 1, 2, 3])),
        ("old UUID", 0x05, binary(3, &[7; 16])),
        ("UUID", 0x05, binary(4, &[9; 16])),
        ("MD5", 0x05, binary(5, &[5; 16])),
        ("encrypted", 0x05, binary(6, &[1; 20])),
        ("compressed column", 0x05, binary(7, &[2; 9])),
        ("sensitive", 0x05, binary(8, b"s")),
        ("vector", 0x05, binary(9, &[0x27, 0, 0, 0, 0, 0])),
        ("user-defined binary", 0x05, binary(0xff, &[0, 255])),
        ("undefined", 0x06, vec![]),
        ("object id", 0x07, vec![0xab; 12]),
        ("least object id", 0x07, vec![0; 12]),
        ("true", 0x08, vec![1]),
        ("false", 0x08, vec![0]),
        ("the epoch", 0x09, 0i64.to_le_bytes().to_vec()),
        ("before the epoch", 0x09, (-1i64).to_le_bytes().to_vec()),
        ("the first date", 0x09, i64::MIN.to_le_bytes().to_vec()),
        ("the last date", 0x09, i64::MAX.to_le_bytes().to_vec()),
        ("null", 0x0a, vec![]),
        ("regular expression", 0x0b, b"^a\\/\"b\0imsx\0".to_vec()),
        ("empty regular expression", 0x0b, b"\0\0".to_vec()),
        ("pointer", 0x0c, [string("db.other"), vec![1; 12]].concat()),
        ("code", 0x0d, string("function () { return 1; }")),
        ("symbol", 0x0e, string("symbol")),
        ("code with scope", 0x0f, code_with_scope("x", Doc::new().int32("x", 1))),
        ("code with empty scope", 0x0f, code_with_scope("", Doc::new())),
        ("least int32", 0x10, i32::MIN.to_le_bytes().to_vec()),
        ("greatest int32", 0x10, i32::MAX.to_le_bytes().to_vec()),
        ("empty timestamp", 0x11, vec![0; 8]),
        ("timestamp", 0x11, [7u32.to_le_bytes(), 1_700_000_000u32.to_le_bytes()].concat()),
        ("greatest timestamp", 0x11, vec![0xff; 8]),
        ("least int64", 0x12, i64::MIN.to_le_bytes().to_vec()),
        ("greatest int64", 0x12, i64::MAX.to_le_bytes().to_vec()),
        ("a small int64", 0x12, 1i64.to_le_bytes().to_vec()),
        ("decimal zero", 0x13, decimal(0x3040_0000_0000_0000, 0)),
        ("decimal minus zero", 0x13, decimal(0xb040_0000_0000_0000, 0)),
        ("decimal one with trailing zeros", 0x13, decimal(0x303c_0000_0000_0000, 100)),
        ("greatest decimal", 0x13, decimal(0x5fff_ed09_bead_87c0, 0x378d_8e63_ffff_ffff)),
        ("least decimal", 0x13, decimal(0x0000_0000_0000_0000, 1)),
        ("decimal NaN", 0x13, decimal(0x7c00_0000_0000_0000, 0)),
        ("decimal NaN with payload", 0x13, decimal(0x7c00_0000_0000_0000, 0x12)),
        ("decimal negative signalling NaN", 0x13, decimal(0xfe00_0000_0000_0000, 0)),
        ("decimal infinity", 0x13, decimal(0x7800_0000_0000_0000, 0)),
        ("decimal minus infinity", 0x13, decimal(0xf800_0000_0000_0000, 0)),
        ("decimal that is not canonical", 0x13, decimal(0x6c10_0000_0000_0000, 1)),
        ("least key", 0xff, vec![]),
        ("greatest key", 0x7f, vec![]),
    ]
}

/// Documents that hold every BSON type with its edges, and odd shapes: duplicate, empty and dotted field names, no `_id`,
/// deep nesting. Each has its own `_id`, but for those whose oddness that is.
pub fn odd() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for (number, (what, kind, value)) in values().into_iter().enumerate() {
        all.push((what.to_owned(), Doc::new().int32("_id", number as i32).raw(kind, "value", &value).build()));
    }
    let mut add = |what: &str, document: Doc| all.push((what.to_owned(), document.build()));
    let id = |id: &str| Doc::new().text("_id", id);
    add("duplicate field names", id("duplicates").int32("a", 1).int32("a", 2).text("a", "3"));
    add(
        "dots, dollars and nothing as names",
        id("names").int32("a.b", 1).int32("$set", 2).int32("", 3).int32("$a.b.", 4),
    );
    add(
        "fields that look like Extended JSON",
        id("json").doc("x", Doc::new().text("$numberInt", "1")).doc("$oid", Doc::new()),
    );
    add("fields that look like a reference", id("reference").doc("r", Doc::new().text("$ref", "c").int32("$id", 1)));
    add("nothing but _id", id("alone"));
    add("_id last", Doc::new().int32("a", 1).text("_id", "last"));
    add("_id a document", Doc::new().doc("_id", Doc::new().int32("x", 1).int32("y", 2)));
    add("a field name of 1 KiB", id("long name").int32(&"n".repeat(1024), 1));
    add(
        "90 levels",
        (0..90)
            .fold(id("deep"), |_, _| id("deep"))
            .doc("a", (0..89).fold(Doc::new(), |inner, _| Doc::new().doc("a", inner))),
    );
    add("1,000 fields", (0..1000).fold(id("wide"), |document, i| document.int32(&format!("f{i}"), i)));
    all
}

/// Names of collections that servers allow and tools stumble over.
pub fn odd_collection_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "system.js",
        "with space",
        "new\nline",
        "ünï\u{1f30d}",
        "a.b.c",
        "quote\"s",
        "back\\slash",
        "%20",
        "-",
        "oplog",
        "EOF",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("l".repeat(235));
    names
}
