//! Any bytes under the name of a manifest are read or refused; any name is read or refused, and reads back as itself.

use lifeboat_core::catalog::At;
use lifeboat_core::retention::Policy;
use lifeboat_core::{ArtifactName, Manifest};

pub fn run(input: &[u8]) {
    if let Ok(manifest) = Manifest::parse(input, "fuzz") {
        let again = Manifest::parse(&manifest.to_bytes(), "fuzz").expect("what was read can be written and read");
        assert_eq!(manifest, again);
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(name) = ArtifactName::parse(text) {
        assert_eq!(name.to_string(), text);
    }
    let _ = text.parse::<At>();
    let _ = text.parse::<Policy>();
}
