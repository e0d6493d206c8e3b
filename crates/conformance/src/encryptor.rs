//! The conformance suite for [`Encryptor`].
//!
//! ```
//! use lifeboat_core::encryptor::Age;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let (secret, public) = Age::generate();
//! let (writer, reader) = (Age::to([public]).unwrap(), Age::default().identities(&secret, "the key").unwrap());
//! lifeboat_conformance::encryptor::all(&writer, &reader).await;
//! lifeboat_conformance::encryptor::what_is_altered_is_an_error(&writer, &reader).await;
//! # });
//! ```

use bytes::Bytes;
use futures::StreamExt;
use lifeboat_core::encryptor::START;
use lifeboat_core::{ArtifactName, Encryptor, ErrorKind, stream};

use crate::content::{bytes, failing_stream, failure};

const LIMIT: usize = 64 << 20;

/// Runs the whole suite: `writer` encrypts and `reader`, which may be the same, decrypts. Encryptors that authenticate
/// must also pass [`what_is_altered_is_an_error`].
pub async fn all(writer: &dyn Encryptor, reader: &dyn Encryptor) {
    its_names_are_read_back(writer, reader);
    knows_its_own(writer, reader).await;
    says_whether_it_can_decrypt(writer, reader).await;
    every_length_comes_back(writer, reader).await;
    chunks_mean_nothing(writer, reader).await;
    an_error_is_passed_on_as_it_is(writer, reader).await;
    a_cut_is_an_error(writer, reader).await;
    the_same_plaintext_is_never_the_same_ciphertext(writer).await;
}

async fn sealed(writer: &dyn Encryptor, plain: Bytes) -> Bytes {
    stream::collect(writer.encrypt(stream::once(plain)).unwrap(), LIMIT, "ciphertext").await.unwrap()
}

/// The name of an encrypted object shows that it is encrypted, and with which encryptor.
pub fn its_names_are_read_back(writer: &dyn Encryptor, reader: &dyn Encryptor) {
    assert_eq!((writer.scheme(), writer.suffix()), (reader.scheme(), reader.suffix()), "two schemes");
    assert!(!writer.scheme().is_empty(), "the scheme has no name");
    let suffix = writer.suffix();
    let name: ArtifactName = format!("shop-20261121-033000.dump.{suffix}").parse().unwrap();
    assert_eq!(name.encryption.as_deref(), Some(suffix), "{name} does not say that it is encrypted");
    let ours = matches!((writer.scheme(), suffix), ("age", "age") | ("openssl", "enc"));
    let other = !matches!(writer.scheme(), "age" | "openssl") && suffix.starts_with("enc-");
    assert!(
        ours || other,
        "the suffix of {} is {suffix}: enc- and a word is for schemes from elsewhere",
        writer.scheme()
    );
}

/// It recognises its own output by the first bytes, and nothing else: no plaintext, and no other scheme.
pub async fn knows_its_own(writer: &dyn Encryptor, reader: &dyn Encryptor) {
    for length in [0, 1, 100_000] {
        let stored = sealed(writer, bytes(6, length)).await;
        let start = &stored[..stored.len().min(START)];
        assert!(writer.recognises(start) && reader.recognises(start), "{length} bytes: it does not know its own");
    }
    let plain: [&[u8]; 5] = [b"", b"{\"a\": 1}", b"PGDMP\x01\x0e\x00", &[0x28, 0xb5, 0x2f, 0xfd, 4], &bytes(7, START)];
    for start in plain {
        assert!(!reader.recognises(start), "it takes {start:?} for its own");
    }
    for (scheme, start) in [("age", &b"age-encryption.org/v1\n"[..]), ("openssl", b"Salted__12345678")] {
        assert!(reader.scheme() == scheme || !reader.recognises(start), "it takes what {scheme} writes for its own");
    }
}

/// An encryptor without a key says so, and does not decrypt.
pub async fn says_whether_it_can_decrypt(writer: &dyn Encryptor, reader: &dyn Encryptor) {
    assert!(reader.can_decrypt(), "the reader says that it cannot decrypt");
    if writer.can_decrypt() {
        return;
    }
    let stored = sealed(writer, bytes(8, 100)).await;
    let error = match writer.decrypt(stream::once(stored)) {
        Ok(decrypted) => stream::collect(decrypted, LIMIT, "plaintext").await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Decrypt, "{error}");
}

/// Plaintexts of lengths around the sizes of blocks, chunks and buffers survive the round trip.
pub async fn every_length_comes_back(writer: &dyn Encryptor, reader: &dyn Encryptor) {
    for length in [0, 1, 15, 16, 17, 65_535, 65_536, 65_537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000] {
        let plain = bytes(1, length);
        let stored = sealed(writer, plain.clone()).await;
        let again = stream::collect(reader.decrypt(stream::once(stored)).unwrap(), LIMIT, "plaintext").await.unwrap();
        assert_eq!(again, plain, "{length} bytes");
    }
}

/// Ciphertext may arrive in pieces of any size.
pub async fn chunks_mean_nothing(writer: &dyn Encryptor, reader: &dyn Encryptor) {
    let plain = bytes(2, 70_000);
    let stored = sealed(writer, plain.clone()).await;
    for size in [3, 97, 4096] {
        let pieces: Vec<_> =
            (0..stored.len()).step_by(size).map(|at| Ok(stored.slice(at..stored.len().min(at + size)))).collect();
        let decrypted = reader.decrypt(futures::stream::iter(pieces).boxed()).unwrap();
        assert_eq!(stream::collect(decrypted, LIMIT, "plaintext").await.unwrap(), plain, "pieces of {size}");
    }
}

/// An error of the input stream is passed on unchanged, in both directions.
pub async fn an_error_is_passed_on_as_it_is(writer: &dyn Encryptor, reader: &dyn Encryptor) {
    for length in [0, 100_000, 3_000_000] {
        let error = stream::collect(writer.encrypt(failing_stream(3, length)).unwrap(), LIMIT, "x").await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (failure().kind(), failure().to_string()));
        let stored = sealed(writer, bytes(3, length)).await;
        let half = stored.slice(..stored.len() / 2);
        let broken = futures::stream::iter([Ok(half), Err(failure())]).boxed();
        let error = stream::collect(reader.decrypt(broken).unwrap(), LIMIT, "x").await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (failure().kind(), failure().to_string()), "{length} bytes");
    }
}

/// Truncated ciphertext never decrypts without an error.
pub async fn a_cut_is_an_error(writer: &dyn Encryptor, reader: &dyn Encryptor) {
    let stored = sealed(writer, bytes(4, 200_000)).await;
    // None of a whole number of blocks: where nothing authenticates, it may be that such a cut cannot be told.
    for cut in [0, 1, 17, 100, stored.len() / 2 / 16 * 16 + 5, stored.len() - 15, stored.len() - 1] {
        let decrypted = reader.decrypt(stream::once(stored.slice(..cut))).unwrap();
        let error = stream::collect(decrypted, LIMIT, "x").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Decrypt), "cut at {cut}: {error}");
    }
}

/// Ciphertext with an altered byte, or cut anywhere, never decrypts without an error. Not part of [`all`], because only
/// encryptors that authenticate promise it: `openssl` does not.
pub async fn what_is_altered_is_an_error(writer: &dyn Encryptor, reader: &dyn Encryptor) {
    let stored = sealed(writer, bytes(9, 200_000)).await;
    let mut damaged: Vec<(String, Bytes)> = Vec::new();
    for at in [0, 10, stored.len() / 3, stored.len() / 2, stored.len() - 1] {
        let mut altered = stored.to_vec();
        altered[at] ^= 1;
        damaged.push((format!("byte {at}"), altered.into()));
    }
    for block in [16, 64, 4096, 65_536] {
        damaged.push((format!("cut by {block}"), stored.slice(..stored.len() - block)));
    }
    let mut longer = stored.to_vec();
    longer.push(0);
    damaged.push(("one byte more".to_owned(), longer.into()));
    for (what, ciphertext) in damaged {
        let error = match reader.decrypt(stream::once(ciphertext)) {
            Ok(decrypted) => stream::collect(decrypted, LIMIT, "x").await.map(drop),
            Err(error) => Err(error),
        };
        let error = error.expect_err(&what);
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Decrypt), "{what}: {error}");
    }
}

/// Salt, nonce and file key are fresh each time.
pub async fn the_same_plaintext_is_never_the_same_ciphertext(writer: &dyn Encryptor) {
    let plain = bytes(5, 1000);
    assert_ne!(sealed(writer, plain.clone()).await, sealed(writer, plain).await);
}
