//! Any bytes under the name of a backup of secrets are parsed or refused, however they are cut.

use lifeboat_backends::doppler::{DopplerVerifier, VerifierOptions};
use lifeboat_core::{ArtifactName, Proof, Result, Verifier};

fn prove(name: &str, chunks: std::slice::Chunks<'_, u8>) -> Result<Proof> {
    let name: ArtifactName = name.parse().expect("the name of an artifact");
    let mut tap = DopplerVerifier::new(VerifierOptions::default()).tap(&name)?;
    for chunk in chunks {
        tap.push(chunk)?;
    }
    tap.finish()
}

// The first byte is the size of the chunks.
pub fn run(input: &[u8]) {
    let Some((size, document)) = input.split_first() else { return };
    for name in ["a-20261121-033000.json.age", "a-20261121-033000.json.enc"] {
        let cut = prove(name, document.chunks(usize::from(*size).max(1)));
        let whole = prove(name, document.chunks(document.len().max(1)));
        match (cut, whole) {
            // The fingerprints are keyed: each run has its own key.
            (Ok(cut), Ok(whole)) => assert_eq!(cut.total_count(), whole.total_count()),
            (Err(cut), Err(whole)) => assert_eq!(cut.kind(), whole.kind()),
            (cut, whole) => panic!("cut: {cut:?}, whole: {whole:?}"),
        }
    }
}
