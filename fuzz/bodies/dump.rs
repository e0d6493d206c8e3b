//! Any bytes under the name of a dump, plain SQL and globals included, are parsed or refused, however they are cut.

use lifeboat_backends::postgres::{PostgresVerifier, VerifierOptions};
use lifeboat_core::{ArtifactName, Proof, Result, Verifier};

fn prove(name: &str, chunks: std::slice::Chunks<'_, u8>) -> Result<Proof> {
    let name: ArtifactName = name.parse().expect("the name of an artifact");
    let mut tap = PostgresVerifier::new(VerifierOptions::default()).tap(&name)?;
    for chunk in chunks {
        tap.push(chunk)?;
    }
    tap.finish()
}

// The first byte is the size of the chunks.
pub fn run(input: &[u8]) {
    let Some((size, dump)) = input.split_first() else { return };
    for name in ["a-20261121-033000.dump", "a-20261121-033000.globals.sql"] {
        let cut = prove(name, dump.chunks(usize::from(*size).max(1)));
        let whole = prove(name, dump.chunks(dump.len().max(1)));
        match (cut, whole) {
            (Ok(cut), Ok(whole)) => assert_eq!(cut, whole),
            (Err(cut), Err(whole)) => assert_eq!(cut.kind(), whole.kind()),
            (cut, whole) => panic!("cut: {cut:?}, whole: {whole:?}"),
        }
    }
}
