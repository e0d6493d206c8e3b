//! Encryptors and compressions that core does not know: read back by whoever has them, and by nobody else as plaintext.
#![allow(clippy::unwrap_used, missing_docs)]

mod doubles;

use std::sync::Arc;

use doubles::*;
use futures::StreamExt;
use lifeboat_core::catalog::Kind;
use lifeboat_core::encryptor::{Age, OpenSsl};
use lifeboat_core::{ByteStream, Encryptor, ErrorKind, Restore, Result, Sink, stream};
use lifeboat_testkit::memory::MemorySink;

const SEALED: &str = "db/shop-20261121-033000.dump.zst.enc-xor";

/// Turns every bit around, behind a magic.
#[derive(Debug)]
struct Xor {
    scheme: &'static str,
    suffix: &'static str,
    magic: &'static [u8],
}

const XOR: Xor = Xor { scheme: "xor", suffix: "enc-xor", magic: b"XOR1" };

fn turned(input: ByteStream) -> ByteStream {
    input.map(|chunk| chunk.map(|c| c.iter().map(|b| !b).collect::<Vec<u8>>().into())).boxed()
}

impl Encryptor for Xor {
    fn scheme(&self) -> &'static str {
        self.scheme
    }
    fn suffix(&self) -> &'static str {
        self.suffix
    }
    fn can_decrypt(&self) -> bool {
        true
    }
    fn recognises(&self, start: &[u8]) -> bool {
        start.starts_with(b"XOR1")
    }
    fn encrypt(&self, plaintext: ByteStream) -> Result<ByteStream> {
        Ok(stream::once(self.magic).chain(turned(plaintext)).boxed())
    }
    fn decrypt(&self, ciphertext: ByteStream) -> Result<ByteStream> {
        let magic = self.magic.len();
        let whole = async move {
            let all = stream::collect(ciphertext, 1 << 20, "it").await?;
            Ok(turned(stream::once(all.slice(magic..))))
        };
        Ok(futures::stream::once(whole).map(|s: Result<_>| s.unwrap()).flatten().boxed())
    }
}

async fn sealed() -> MemorySink {
    let sink = MemorySink::new();
    backup(FakeSource::of("what is inside")).encrypt(XOR).to(Arc::new(sink.clone())).run().await.unwrap();
    sink
}

async fn text_of(sink: &MemorySink, keys: Vec<Arc<dyn Encryptor>>) -> Result<String> {
    let restore = Restore::new(Arc::new(sink.clone()), the_artifact(sink).await).keys(keys);
    let all = stream::collect(restore.stream().await?, 1 << 20, "it").await?;
    Ok(String::from_utf8_lossy(&all).into_owned())
}

fn keys() -> Vec<Arc<dyn Encryptor>> {
    let (secret, public) = Age::generate();
    let age = Age::to([public]).unwrap().identities(&secret, "k").unwrap();
    vec![Arc::new(age), Arc::new(XOR)]
}

fn only_ours() -> Vec<Arc<dyn Encryptor>> {
    keys().into_iter().take(1).collect()
}

#[tokio::test]
async fn what_a_foreign_encryptor_wrote_is_read_back_with_it_and_without_it_by_nobody() {
    let sink = sealed().await;
    let artifact = the_artifact(&sink).await;
    assert_eq!((artifact.key().as_str(), artifact.kind), (SEALED, Kind::Managed));
    let manifest = artifact.read_manifest(&sink).await.unwrap().unwrap();
    assert_eq!(manifest.encryption.unwrap().scheme, "xor");
    assert!(!String::from_utf8_lossy(&sink.bytes(&format!("{SEALED}.manifest.json")).unwrap()).contains(ITEM));
    assert_eq!(text_of(&sink, keys()).await.unwrap(), "what is inside");
    for without in [only_ours(), Vec::new()] {
        let error = text_of(&sink, without).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decrypt);
        assert!(error.message().contains("encrypted with xor"), "{error}");
    }
}

#[tokio::test]
async fn without_a_manifest_the_magic_tells_and_then_the_name() {
    let sink = sealed().await;
    sink.delete(&[format!("{SEALED}.manifest.json")]).await.unwrap();
    assert_eq!(text_of(&sink, keys()).await.unwrap(), "what is inside");
    let error = text_of(&sink, only_ours()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decrypt);
    assert!(error.message().contains("encrypted with xor"), "{error}");
    // Something else under that name is not passed on as if it were plaintext, with the key or without.
    sink.place(SEALED, "plain", at("2026-11-21T03:30:00Z"));
    assert_eq!(text_of(&sink, keys()).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(text_of(&sink, only_ours()).await.unwrap_err().kind(), ErrorKind::Decrypt);
}

#[tokio::test]
async fn the_manifest_goes_before_the_magic() {
    // An object that is an age file, put in the place of one that is not.
    let sink = sealed().await;
    let keys = keys();
    let age = stream::collect(keys[0].encrypt(stream::once("forged")).unwrap(), 1 << 20, "it").await.unwrap();
    sink.place(SEALED, age.clone(), at("2026-11-21T03:30:00Z"));
    let error = text_of(&sink, keys).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    // And content that is an age file by itself is given back as it is.
    let plain = MemorySink::new();
    backup(FakeSource::of(age.clone())).to(Arc::new(plain.clone())).run().await.unwrap();
    let restore = Restore::new(Arc::new(plain.clone()), the_artifact(&plain).await);
    assert_eq!(stream::collect(restore.stream().await.unwrap(), 1 << 20, "it").await.unwrap(), age);
}

#[tokio::test]
async fn an_encryptor_that_would_not_recognise_what_it_writes_is_refused() {
    let sink = MemorySink::new();
    let run = backup(FakeSource::of("abc")).encrypt(Xor { magic: b"????", ..XOR }).to(Arc::new(sink.clone()));
    let error = run.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.subject().contains("xor"), "{error}");
    assert_eq!(sink.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn an_encryptor_whose_names_would_be_misread_is_refused_before_anything_starts() {
    for (scheme, suffix) in [("xor", "age"), ("xor", "xor"), ("age", "enc-age"), ("xor", "enc-"), ("xor", "enc-X")] {
        let source = FakeSource::of("abc");
        let opens = source.opens.clone();
        let sink = MemorySink::new();
        let run = backup(source).encrypt(Xor { scheme, suffix, ..XOR }).to(Arc::new(sink.clone()));
        assert_eq!(run.run().await.unwrap_err().kind(), ErrorKind::Config, "{scheme} {suffix}");
        assert_eq!((opens.load(std::sync::atomic::Ordering::SeqCst), sink.keys().len()), (0, 0));
    }
}

#[tokio::test]
async fn a_manifest_that_hides_the_encryption_is_refused() {
    let sink = sealed().await;
    let key = format!("{SEALED}.manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&sink.bytes(&key).unwrap()).unwrap();
    manifest.as_object_mut().unwrap().remove("encryption");
    sink.place(&key, manifest.to_string(), at("2026-11-21T03:30:00Z"));
    assert_eq!(text_of(&sink, keys()).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_compression_that_is_not_known_here_is_refused_by_name() {
    let sink = MemorySink::new();
    backup(FakeSource::of("abc")).to(Arc::new(sink.clone())).run().await.unwrap();
    let key = format!("{KEY}.manifest.json");
    let text = String::from_utf8(sink.bytes(&key).unwrap().to_vec()).unwrap().replace("zstd:3", "xz:6");
    sink.place(&key, text, at("2026-11-21T03:30:00Z"));
    let error = text_of(&sink, Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("xz:6"), "{error}");
}

#[test]
fn ours_recognise_what_is_theirs() {
    let (_, public) = Age::generate();
    let age = Age::to([public]).unwrap();
    let openssl = OpenSsl::passphrase("passphrase".to_owned().into()).unwrap();
    for (start, by_age, by_openssl) in [
        (&b"age-encryption.org/v1\n"[..], true, false),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n", true, false),
        (b"Salted__12345678", false, true),
        (b"", false, false),
        (b"PGDMP", false, false),
    ] {
        assert_eq!((age.recognises(start), openssl.recognises(start)), (by_age, by_openssl));
    }
}
