//! Any command: what it prints on standard output is the dataset.
//!
//! [`CommandSource`] runs it, [`CommandVerifier`] pipes a backup to a verify command, [`CommandTarget`] to a restore
//! command, to a file or to standard output. All three use [`CommandSettings`]. The proof is the hash of the whole
//! output: only the commands know its structure.

mod process;
mod source;
mod system;
mod target;
mod verifier;

pub use source::CommandSource;
pub use system::{CommandSettings, CommandSystem, RestoreOptions, Variable, VerifyOptions};
pub use target::CommandTarget;
pub use verifier::CommandVerifier;

use lifeboat_core::words::Noun;

/// What the items of a kind hold: [`System::unit`](lifeboat_core::System::unit).
pub(crate) fn unit(kind: &str) -> Option<Noun> {
    match kind {
        "" => Some(Noun::ENTRIES),
        // The output is one thing.
        _ => None,
    }
}

/// The name of this system in manifests.
pub const SYSTEM: &str = "command";

/// The extension of the output if the settings name no format.
pub const FORMAT: &str = "bin";

/// The name of the single item in a proof.
const ITEM: &str = "output";
