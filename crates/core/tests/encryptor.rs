//! Every encryptor keeps what the trait promises.
#![cfg(all(feature = "age", feature = "openssl"))]
#![allow(clippy::unwrap_used, missing_docs)]

use lifeboat_core::encryptor::{Age, OpenSsl};
use lifeboat_testkit::conformance::encryptor;

#[tokio::test(flavor = "multi_thread")]
async fn age_to_recipients() {
    let (secret, public) = Age::generate();
    let (_, other) = Age::generate();
    let reader = Age::default().identities(&secret, "key").unwrap();
    encryptor::all(&Age::to([public, other]).unwrap(), &reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_with_a_passphrase() {
    let openssl = OpenSsl::passphrase("correct horse".to_owned().into()).unwrap();
    encryptor::all(&openssl, &openssl).await;
}
