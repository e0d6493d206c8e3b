//! What every [`Encryptor`] promises.

use bytes::Bytes;
use futures::StreamExt;
use lifeboat_core::{Encryptor, ErrorKind, stream};

use crate::content::{bytes, failing_stream, failure};

const LIMIT: usize = 64 << 20;

/// Runs all of it: `writer` encrypts and `reader`, which may be the same, decrypts.
pub async fn all(writer: &dyn Encryptor, reader: &dyn Encryptor) {
    every_length_comes_back(writer, reader).await;
    chunks_mean_nothing(writer, reader).await;
    an_error_is_passed_on_as_it_is(writer, reader).await;
    a_cut_is_an_error(writer, reader).await;
    the_same_plaintext_is_never_the_same_ciphertext(writer).await;
}

async fn sealed(writer: &dyn Encryptor, plain: Bytes) -> Bytes {
    stream::collect(writer.encrypt(stream::once(plain)).unwrap(), LIMIT, "ciphertext").await.unwrap()
}

/// Around the sizes of blocks, chunks and buffers.
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

/// A source that fails is heard at the other end, in both directions.
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

/// Ciphertext that ends early never decrypts to plaintext that ends well.
pub async fn a_cut_is_an_error(writer: &dyn Encryptor, reader: &dyn Encryptor) {
    let stored = sealed(writer, bytes(4, 200_000)).await;
    for cut in [0, 1, 16, 100, stored.len() / 2, stored.len() - 16, stored.len() - 1] {
        let decrypted = reader.decrypt(stream::once(stored.slice(..cut))).unwrap();
        let error = stream::collect(decrypted, LIMIT, "x").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Decrypt), "cut at {cut}: {error}");
    }
}

/// Salt, nonce and file key are fresh each time.
pub async fn the_same_plaintext_is_never_the_same_ciphertext(writer: &dyn Encryptor) {
    let plain = bytes(5, 1000);
    assert_ne!(sealed(writer, plain.clone()).await, sealed(writer, plain).await);
}
