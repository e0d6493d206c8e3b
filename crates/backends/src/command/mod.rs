//! Any command: what it prints on standard output is the dataset.
//!
//! [`CommandSource`] runs it, [`CommandVerifier`] gives a backup to a verify command, [`CommandTarget`] to a restore command, to a
//! file or to standard output. All three take [`CommandSettings`]. The proof is the hash of the whole output: of what is inside,
//! only the commands know.

mod process;
mod source;
mod system;
mod target;
mod verifier;

pub use source::CommandSource;
pub use system::{CommandSettings, CommandSystem, RestoreOptions, Variable, VerifyOptions};
pub use target::CommandTarget;
pub use verifier::CommandVerifier;

/// The name of this system in manifests.
pub const SYSTEM: &str = "command";

/// The extension of the output where the settings name no format.
pub const FORMAT: &str = "bin";

/// What the one item of a proof is called.
const ITEM: &str = "output";
