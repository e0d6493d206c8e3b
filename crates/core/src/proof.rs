//! What a source saw go past: for each table, collection or zone a count and a fingerprint.
//!
//! A proof is taken twice: from the stream while the backup is made, and from whatever was restored later. Two
//! proofs that agree say that the content is the same. The fingerprint of an item is the wrapping sum of
//! XXH3-128 over its rows, so it does not depend on their order. It finds accidents, not adversaries:
//! authenticity is the encryptor's and the hash's business.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::report::Check;

/// The order-independent fingerprint of a set of rows: wrapping 128-bit sum of XXH3-128 of each.
///
/// ```
/// use lifeboat_core::{Fingerprint, ProofItem};
///
/// let (mut there, mut back) = (Fingerprint::default(), Fingerprint::default());
/// ["1,apple", "2,pear"].iter().for_each(|row| there.add(row.as_bytes()));
/// ["2,pear", "1,apple"].iter().for_each(|row| back.add(row.as_bytes()));
/// assert_eq!(there, back);
/// let item = ProofItem::new("table", "public.fruit", 2).fingerprint(there);
/// assert_eq!((item.count, item.fingerprint), (2, Some(back)));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

impl Fingerprint {
    /// Adds a row.
    #[inline]
    pub fn add(&mut self, row: &[u8]) {
        self.0 = self.0.wrapping_add(xxh3_128(row));
    }

    /// Adds what another fingerprint has counted: the fingerprint of the union of both sets of rows.
    #[inline]
    pub fn merge(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        if text.len() != 32 {
            return Err(serde::de::Error::custom("a fingerprint has 32 hexadecimal digits"));
        }
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// One thing that a proof speaks of: a table, a sequence, a collection, the large objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProofItem {
    /// What it is, in the words of its system: `table`, `sequence`, `large objects`, `collection`.
    pub kind: String,
    /// Its name as its system writes it, quoted where that is needed: `public."Order"`.
    pub name: String,
    /// What it is a part of, where its own name does not say it: the collection of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Rows, documents or objects in it.
    #[serde(default)]
    pub count: u64,
    /// Bytes of its content in the stream's form, before compression.
    #[serde(default)]
    pub bytes: u64,
    /// Fingerprint over its rows. `None` where the format does not let them be told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// A value that must be the same after a restore, where there is one: the state of a sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl ProofItem {
    /// Creates the item of a thing that holds so many rows, documents or objects.
    pub fn new(kind: impl Into<String>, name: impl Into<String>, count: u64) -> Self {
        Self { kind: kind.into(), name: name.into(), count, ..Self::default() }
    }

    /// The name for people, which two items may share: `shop.orders: by_date` of an index.
    pub fn shown(&self) -> Cow<'_, str> {
        match &self.of {
            Some(of) => format!("{of}: {}", self.name).into(),
            None => self.name.as_str().into(),
        }
    }

    /// Whether it is the same thing as another one. Proofs of older versions have what it is a part of in the name.
    fn is_the_same_thing(&self, other: &Self) -> bool {
        match (&self.of, &other.of) {
            (Some(of), Some(others)) => of == others && self.name == other.name,
            _ => self.shown() == other.shown(),
        }
    }
}

crate::setters!(ProofItem {
    kind: String,
    name: String,
    of: Option<String>,
    count: u64,
    bytes: u64,
    fingerprint: Option<Fingerprint>,
    value: Option<String>,
});

/// What a source saw go past, from the first byte to the last.
///
/// ```
/// use lifeboat_core::{Proof, ProofItem, Status};
///
/// let table = |rows| Proof::new([ProofItem::new("table", "public.orders", rows)]);
/// assert_eq!(table(3).compare(&table(3))[0].status, Status::Pass);
/// assert_eq!(table(3).compare(&table(2))[0].status, Status::Fail);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Proof {
    /// Everything that was counted, in the order of the stream.
    pub items: Vec<ProofItem>,
    /// What the backend wants to know again at restore: extensions with versions, session settings, the
    /// offsets of data blocks. Its shape is the backend's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, serde_json::Value>,
}

crate::setters!(Proof { items: Vec<ProofItem>, details: BTreeMap<String, serde_json::Value> });

impl Proof {
    /// Creates a proof of these items, in the order of the stream.
    pub fn new(items: impl IntoIterator<Item = ProofItem>) -> Self {
        Self { items: items.into_iter().collect(), details: BTreeMap::new() }
    }

    /// Rows of all items together.
    pub fn total_count(&self) -> u64 {
        self.items.iter().map(|i| i.count).sum()
    }

    /// The items of one kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a ProofItem> {
        self.items.iter().filter(move |i| i.kind == kind)
    }

    /// Compares what is expected (`self`) with what was found. One check for each item that differs, naming it
    /// with both figures, and one summary for each kind that agrees.
    ///
    /// An item that was found but not expected fails as well: content must not come from nowhere.
    pub fn compare(&self, found: &Proof) -> Vec<Check> {
        // Several may have one name for people: names hold whatever separates them.
        let key = |i: &ProofItem| (i.kind.clone(), i.shown().into_owned());
        let mut left: BTreeMap<_, Vec<&ProofItem>> = BTreeMap::new();
        for item in &found.items {
            left.entry(key(item)).or_default().push(item);
        }
        let mut agreed: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        let mut checks = Vec::new();
        for want in &self.items {
            let candidates = left.get_mut(&key(want)).filter(|all| !all.is_empty());
            let at = candidates.as_ref().and_then(|all| {
                let same = |with: &dyn Fn(&ProofItem) -> bool| {
                    all.iter().position(|have| want.is_the_same_thing(have) && with(have))
                };
                same(&|have| difference(want, have).is_none()).or_else(|| same(&|_| true))
            });
            let Some(have) = candidates.zip(at).map(|(all, at)| all.remove(at)) else {
                checks.push(Check::fail(
                    format!("{} {}", want.kind, want.shown()),
                    "missing",
                    format!("expected with {} rows, not found", want.count),
                ));
                continue;
            };
            if let Some(why) = difference(want, have) {
                checks.push(Check::fail(
                    format!("{} {}", want.kind, want.shown()),
                    format!("{} of {}", have.count, want.count),
                    why,
                ));
                continue;
            }
            let sum = agreed.entry(want.kind.as_str()).or_default();
            sum.0 += 1;
            sum.1 += want.count;
        }
        for extra in left.into_values().flatten() {
            checks.push(Check::fail(
                format!("{} {}", extra.kind, extra.shown()),
                "unexpected",
                format!("found with {} rows, but not in the proof", extra.count),
            ));
        }
        for (kind, (items, rows)) in agreed {
            let (figure, detail) = match kind {
                "sequence" => (items.to_string(), format!("{items} with their values")),
                _ => (format!("{items} ({rows} rows)"), "counts and fingerprints equal the proof".to_owned()),
            };
            checks.push(Check::pass(format!("content: {kind}"), figure, detail));
        }
        checks
    }
}

fn difference(want: &ProofItem, have: &ProofItem) -> Option<String> {
    if want.count != have.count {
        return Some(format!("{} rows expected, {} found", want.count, have.count));
    }
    if let (Some(a), Some(b)) = (want.fingerprint, have.fingerprint)
        && a != b
    {
        return Some(format!(
            "{} rows as expected, but their content differs (fingerprint {a} expected, {b} found)",
            want.count
        ));
    }
    // A proof of an older version may know less than is taken now.
    if want.value.is_some() && want.value != have.value {
        let show = |v: &Option<String>| v.clone().unwrap_or_else(|| "none".to_owned());
        return Some(format!("{} expected, {} found", show(&want.value), show(&have.value)));
    }
    None
}

/// Looks at every byte of a plaintext stream as it flows, and takes the proof.
///
/// The same type serves twice: while a backup is made, and when a stored artifact's structure is checked. It is
/// fed, so it works anywhere in a stream, and holds no more than a bounded amount of what it saw.
pub trait Tap: Send {
    /// Looks at the next bytes. Chunk boundaries mean nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when the bytes are not of the format: the run stops.
    fn push(&mut self, chunk: &[u8]) -> crate::Result<()>;

    /// The stream has ended. Returns the proof, or says why this cannot be the end.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when something that was announced has not come.
    fn finish(self: Box<Self>) -> crate::Result<Proof>;

    /// Units done so far (tables, zones, keys), for progress.
    fn units_done(&self) -> u64 {
        0
    }

    /// What these units are, in the plural.
    fn units(&self) -> &'static str {
        "items"
    }
}

/// A [`Tap`] for a stream without structure: it counts bytes and hashes them as one item.
pub struct WholeStream {
    name: String,
    bytes: u64,
    hash: Box<xxhash_rust::xxh3::Xxh3Default>,
}

impl fmt::Debug for WholeStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WholeStream").field("name", &self.name).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl WholeStream {
    /// A tap whose proof has one item with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), bytes: 0, hash: Box::default() }
    }
}

impl Tap for WholeStream {
    fn push(&mut self, chunk: &[u8]) -> crate::Result<()> {
        self.bytes += chunk.len() as u64;
        self.hash.update(chunk);
        Ok(())
    }

    fn finish(self: Box<Self>) -> crate::Result<Proof> {
        Ok(Proof {
            items: vec![ProofItem {
                kind: "stream".to_owned(),
                name: self.name,
                count: 1,
                bytes: self.bytes,
                fingerprint: Some(Fingerprint(self.hash.digest128())),
                ..ProofItem::default()
            }],
            details: BTreeMap::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice;

    use crate::Status;

    fn index(of: Option<&str>, name: &str, value: &str) -> ProofItem {
        ProofItem {
            kind: "index".to_owned(),
            name: name.to_owned(),
            of: of.map(str::to_owned),
            value: Some(value.to_owned()),
            ..ProofItem::default()
        }
    }

    fn proof(items: &[ProofItem]) -> Proof {
        Proof { items: items.to_vec(), ..Proof::default() }
    }

    fn fails(expected: &Proof, found: &Proof) -> usize {
        expected.compare(found).iter().filter(|check| check.status == Status::Fail).count()
    }

    #[test]
    fn two_things_that_are_written_alike_are_two() {
        let (one, other) = (index(Some("a"), "b: c", "1"), index(Some("a: b"), "c", "2"));
        let both = proof(&[one.clone(), other.clone()]);
        assert_eq!(fails(&both, &both), 0);
        assert_eq!(fails(&both, &proof(&[other.clone(), one.clone()])), 0);
        // Each of them is missed, and so is one of two that are the same in everything.
        assert_eq!(fails(&both, &proof(slice::from_ref(&other))), 1);
        assert_eq!(fails(&both, &proof(&[one.clone(), one.clone()])), 2);
        let turned = [index(Some("a"), "b: c", "2"), index(Some("a: b"), "c", "1")];
        assert_eq!(fails(&both, &proof(&turned)), 2);
        assert_eq!(fails(&proof(&[one.clone(), one.clone()]), &proof(&[one])), 1);
        // As proofs of older versions have them.
        let old = proof(&[index(None, "a: b: c", "1"), index(None, "a: b: c", "2")]);
        assert_eq!((fails(&old, &both), fails(&old, &proof(&[other.clone(), other]))), (0, 1));
    }

    #[test]
    fn a_proof_that_says_nothing_of_a_value_expects_none() {
        let known = index(None, "a", "1");
        let silent = ProofItem { value: None, ..known.clone() };
        assert_eq!(fails(&proof(slice::from_ref(&silent)), &proof(slice::from_ref(&known))), 0);
        assert_eq!(fails(&proof(&[known]), &proof(&[silent])), 1);
    }
}
