//! Doppler: the secrets of a config, through the API v3.
//!
//! [`Doppler`] is the source, [`DopplerTarget`] puts secrets back into Doppler, [`SecretsFile`] writes them to a file
//! in case Doppler is unavailable, [`DopplerVerifier`] judges artifacts.
//!
//! The data consists of secrets: a backup without an encryptor is refused, values are never shown (only names, and
//! whether a value has changed), and they are kept in memory that is wiped ([`lifeboat_core::memory`]).
//!
//! The stored [`document`] is JSON in the shape of Doppler's own answer; the two flat shapes that shell scripts store
//! (`doppler secrets download --format json`, `doppler secrets --json`) are read as well.

mod api;
mod check;
mod content;
pub mod document;
mod drift;
mod form;
mod parser;
mod plan;
mod secret;
mod source;
mod splitter;
mod system;
mod target;
mod verifier;

use lifeboat_core::ArtifactName;

pub use api::{API_URL, Connection, Scope};
pub use check::check;
pub use form::{Form, KubernetesName};
pub use plan::DopplerTarget;
pub use secret::{Secret, Text};
pub use source::{Doppler, datasets};
pub use system::{DopplerSettings, DopplerSystem, RestoreOptions, VerifyOptions};
pub use target::SecretsFile;
pub use verifier::{DopplerVerifier, VerifierOptions};

use lifeboat_core::words::Noun;

use self::content::KIND;

/// What a config holds.
pub(crate) const SECRETS: Noun = Noun::new("secret", "secrets");

/// What the items of a kind hold: [`System::unit`](lifeboat_core::System::unit).
pub(crate) fn unit(kind: &str) -> Option<Noun> {
    match kind {
        "" | KIND => Some(SECRETS),
        _ => None,
    }
}

/// The name of this system in manifests.
pub const SYSTEM: &str = "doppler";

/// The format of the plaintext, in names of artifacts.
pub const FORMAT: &str = "json";

/// The end of the shell line that restores without Lifeboat: it writes a `.env` file with values quoted for a shell.
pub fn stock_restore(_: &ArtifactName) -> &'static str {
    r#"(umask 077; jq -r '(.secrets // .) | to_entries[] | (.value.computed? // .value) as $v | select($v | type == "string") | "\(.key)=\($v | @sh)"' > secrets.env)"#
}

/// Whether Doppler sets this name itself in every config: it is never uploaded.
fn is_dopplers_own(name: &str) -> bool {
    name.starts_with("DOPPLER_")
}
