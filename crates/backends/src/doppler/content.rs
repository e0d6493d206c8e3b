//! The proof of secrets: names, and keyed hashes of their contents.
//!
//! A hash is HMAC-SHA256 with the document's salt as key, truncated to 128 bits, over the length-prefixed fields.
//! Without the salt, which is encrypted with the document, it reveals nothing about a value, not even a short one.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use lifeboat_core::extract::Out;
use lifeboat_core::{Error, ErrorKind, Extract, Fingerprint, Proof, ProofItem, Result, Tap};
use serde_json::Value;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::parser::Parser;
use super::secret::Secret;

/// The key of the hashes.
#[derive(Clone)]
pub(super) struct Salt(Zeroizing<[u8; 32]>);

impl Salt {
    pub(super) fn random() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut bytes[..])
            .map_err(|e| Error::new(ErrorKind::Io, "make", "a salt", format!("no random numbers: {e}")))?;
        Ok(Self(bytes))
    }

    pub(super) fn to_hex(&self) -> String {
        hex::encode(&self.0[..])
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text, &mut bytes[..]).ok()?;
        Some(Self(bytes))
    }

    fn hash(&self, fields: &[Option<&[u8]>]) -> Fingerprint {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0[..]).expect("HMAC takes a key of any length");
        for field in fields {
            mac.update(&[u8::from(field.is_some())]);
            let bytes = field.unwrap_or_default();
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        }
        let tag = mac.finalize().into_bytes();
        Fingerprint(u128::from_be_bytes(tag[..16].try_into().expect("it has 32 bytes")))
    }

    /// The hash of what was entered: value, visibility, type and note; without an entered value, of the computed one.
    pub(super) fn of_secret(&self, name: &str, secret: &Secret) -> Fingerprint {
        let kind = secret.raw_value_type.as_ref().map(Value::to_string);
        self.hash(&[
            Some(name.as_bytes()),
            secret.to_upload().map(str::as_bytes),
            secret.raw_visibility.as_deref().map(str::as_bytes),
            kind.as_deref().map(str::as_bytes),
            Some(secret.note().as_bytes()),
        ])
    }

    /// The hash of the value that programs get.
    pub(super) fn of_value(&self, name: &str, value: Option<&str>) -> Fingerprint {
        self.hash(&[Some(name.as_bytes()), value.map(str::as_bytes)])
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(…)")
    }
}

/// The kind of the proof's items.
pub(super) const KIND: &str = "secret";
/// The hashes of computed values, by name, in the proof's details.
pub(super) const VALUES: &str = "values";
/// The names without a value, in the proof's details.
pub(super) const RESTRICTED: &str = "restricted";

/// Takes the proof from a document as it flows.
pub(super) struct SecretsTap {
    parser: Parser,
    /// The salt for a document without one, whose proof is comparable only with itself.
    own_salt: Salt,
    taken: Taken,
}

#[derive(Default)]
struct Taken {
    items: Vec<ProofItem>,
    values: serde_json::Map<String, Value>,
    restricted: Vec<Value>,
}

impl SecretsTap {
    pub(super) fn new(unauthenticated: bool) -> Result<Self> {
        Ok(Self { parser: Parser::new(unauthenticated), own_salt: Salt::random()?, taken: Taken::default() })
    }
}

impl Taken {
    fn add(&mut self, salt: &Salt, name: String, secret: &Secret) {
        let value = secret.value();
        self.values.insert(name.clone(), salt.of_value(&name, value).to_string().into());
        if value.is_none() {
            self.restricted.push(name.clone().into());
        }
        let fingerprint = salt.of_secret(&name, secret);
        self.items.push(ProofItem::new(KIND, name, 1).fingerprint(fingerprint));
    }
}

impl SecretsTap {
    /// Takes the next bytes, and shows each secret that is complete.
    fn look(&mut self, chunk: &[u8], each: &mut dyn FnMut(&str, &Secret) -> Result<()>) -> Result<()> {
        // The salt comes before the first secret, but may come in the same chunk: secrets wait until the chunk is read.
        let mut read: Vec<(String, Secret)> = Vec::new();
        self.parser.push(chunk, &mut |name, secret| read.push((name, secret)))?;
        let salt = self.parser.header().salt.as_ref().unwrap_or(&self.own_salt);
        for (name, secret) in read {
            each(&name, &secret)?;
            self.taken.add(salt, name, &secret);
        }
        Ok(())
    }
}

impl Tap for SecretsTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.look(chunk, &mut |_, _| Ok(()))
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        let header = self.parser.finish()?;
        let mut details: BTreeMap<String, Value> = BTreeMap::new();
        details.insert(VALUES.to_owned(), Value::Object(self.taken.values));
        details.insert(RESTRICTED.to_owned(), Value::Array(self.taken.restricted));
        for (name, value) in [("project", header.project), ("config", header.config)] {
            if let Some(value) = value {
                details.insert(name.to_owned(), value.into());
            }
        }
        Ok(Proof::new(self.taken.items).details(details))
    }

    fn units_done(&self) -> u64 {
        self.parser.count()
    }

    fn units(&self) -> &'static str {
        "secrets"
    }
}

/// Gives out the value of one secret, as a program gets it, while the document is looked at as by its tap.
pub(super) struct SecretValue {
    tap: SecretsTap,
    wanted: String,
    given: bool,
}

impl SecretValue {
    pub(super) fn new(secret: &str, unauthenticated: bool) -> Result<Self> {
        Ok(Self { tap: SecretsTap::new(unauthenticated)?, wanted: secret.to_owned(), given: false })
    }
}

impl Extract for SecretValue {
    fn form(&self) -> String {
        format!("the value of {}, as a program gets it", self.wanted)
    }

    fn take(&mut self, chunk: &[u8], out: &mut Out<'_>) -> Result<()> {
        let Self { tap, wanted, given } = self;
        tap.look(chunk, &mut |name, secret| {
            if name != wanted {
                return Ok(());
            }
            *given = true;
            let Some(value) = secret.value() else {
                let why = format!("the value of {name} is not in the backup: the secret is restricted");
                return Err(Error::new(ErrorKind::Unsupported, "read", "the secrets", why));
            };
            out(value.as_bytes())
        })
    }

    fn end(self: Box<Self>, _: &mut Out<'_>) -> Result<Proof> {
        let proof = Tap::finish(Box::new(self.tap))?;
        if !self.given {
            let near = lifeboat_core::extract::find(&proof.items, &self.wanted, "the secrets")?;
            let why = format!("there is no \"{}\", but {}", self.wanted, near.name);
            return Err(Error::new(ErrorKind::NotFound, "find an item in", "the secrets", why));
        }
        Ok(proof)
    }
}

#[cfg(test)]
mod tests {
    use super::super::api::Scope;
    use super::super::document::Document;
    use super::super::secret::Text;
    use super::*;

    fn secret(raw: &str, computed: &str) -> Secret {
        Secret { raw: Some(Text::from(raw.to_owned())), ..Secret::of_value(computed.to_owned().into()) }
    }

    fn proof_of(bytes: &[u8], size: usize) -> Result<Proof> {
        let mut tap = Box::new(SecretsTap::new(false)?);
        for chunk in bytes.chunks(size) {
            tap.push(chunk)?;
        }
        tap.finish()
    }

    fn document() -> Document {
        let secrets = [
            ("A".to_owned(), secret("a-value", "a-value")),
            ("URL".to_owned(), secret("https://${A}/\n\"quoted\"", "https://a-value/\n\"quoted\"")),
            ("R".to_owned(), Secret::default()),
        ];
        Document::new(&Scope::of("backend", "prd"), Salt::random().unwrap(), secrets.into())
    }

    #[tokio::test]
    async fn a_document_reads_back_as_it_was_written() {
        let document = document();
        let bytes = document.write().unwrap().into_bytes();
        let back = Document::read(lifeboat_core::stream::once(bytes.clone()), false).await.unwrap();
        assert_eq!(back.secrets, document.secrets);
        assert_eq!(back.place(), Some(("backend", "prd")));
        serde_json::from_slice::<Value>(&bytes).expect("it is JSON to everyone");
    }

    #[test]
    fn the_proof_does_not_depend_on_chunks_and_holds_no_value() {
        let bytes = document().write().unwrap().into_bytes();
        let whole = proof_of(&bytes, bytes.len()).unwrap();
        assert_eq!(whole, proof_of(&bytes, 1).unwrap());
        assert_eq!(whole.items.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["A", "R", "URL"]);
        assert!(!serde_json::to_string(&whole).unwrap().contains("a-value"));
        assert_eq!(whole.details[RESTRICTED], serde_json::json!(["R"]));
    }

    #[test]
    fn each_part_of_a_secret_counts() {
        let salt = Salt::random().unwrap();
        let first = secret("x", "x");
        let hash = salt.of_secret("A", &first);
        for other in [
            secret("y", "x"),
            Secret { raw_visibility: Some("masked".to_owned()), ..first.clone() },
            Secret { note: Some("n".to_owned().into()), ..first.clone() },
            Secret { raw_value_type: Some(serde_json::json!({"type": "json"})), ..first.clone() },
        ] {
            assert_ne!(hash, salt.of_secret("A", &other));
        }
        assert_ne!(hash, salt.of_secret("B", &first));
        assert_ne!(hash, Salt::random().unwrap().of_secret("A", &first));
        assert_eq!(hash, salt.of_secret("A", &secret("x", "other")), "what is computed is not what was entered");
    }

    /// Its first byte is the size of the chunks.
    #[test]
    fn the_fuzzers_corpus_is_read_or_refused_however_it_is_cut() {
        let good = lifeboat_testkit::corpus::replay("secrets", |text, size| {
            proof_of(text, size).map(|proof| proof.total_count()).map_err(|error| error.kind())
        });
        assert_eq!(good, ["answer", "computed", "empty", "names", "ours"]);
    }

    #[test]
    fn what_scripts_stored_is_read_and_what_is_cut_is_not() {
        for (text, count) in [
            (r#"{"A":"1","B":"2"}"#, 2),
            (r#"{"A":{"computed":"1","note":""},"B":{"computed":null,"computedVisibility":"restricted"}}"#, 2),
            (r#"{"secrets":{"A":{"raw":"1","computed":"1"}},"success":true}"#, 1),
            ("{}", 0),
        ] {
            assert_eq!(proof_of(text.as_bytes(), 3).unwrap().items.len(), count, "{text}");
        }
        for text in [r#"{"A":1}"#, r#"{"A":"1","A":"2"}"#, r#"{"format":"doppler/2"}"#, "{\"A\":\"\u{1}\"}"] {
            assert_eq!(proof_of(text.as_bytes(), 3).unwrap_err().kind(), ErrorKind::Corrupt, "{text}");
        }
        let bytes = document().write().unwrap().into_bytes();
        for cut in 0..bytes.len() - 1 {
            if !bytes[cut..].trim_ascii().is_empty() {
                assert_eq!(proof_of(&bytes[..cut], 16).unwrap_err().kind(), ErrorKind::Corrupt, "{cut}");
            }
        }
        let fewer = String::from_utf8(bytes.to_vec()).unwrap().replace("\"count\":3", "\"count\":4");
        assert!(proof_of(fewer.as_bytes(), 9).unwrap_err().message().contains("announces 4 secrets"));
    }
}
