//! The pipeline: the one place in which stages are composed.
//!
//! Backup: `source → tap (count, fingerprint, plaintext hash) → compress → encrypt → hash → sink(s)`.
//! Replicate: `sink → hash → sink`, as the bytes are stored.
//! Restore and verify: `sink → hash → decrypt → decompress → check → (tap) → target`.
//!
//! Each CPU stage runs on a thread of its own; short bounded channels join them, so a slow stage pushes back on the
//! source. No backend and no sink composes stages by itself.

mod amount;
mod backup;
mod flow;
mod prune;
mod read;
mod receipt;
mod replicate;
mod restore;
mod room;
mod series;
pub mod stage;
mod stall;
mod tree;
mod verify;

pub use backup::Backup;
pub use prune::{Prune, Pruned, Undeleted};
pub use receipt::{Receipt, SinkOutcome};
pub use replicate::{Copied, NotCopied, PlannedCopy, Replicate, ReplicatePlan, Replicated, Step};
pub use restore::{PlannedRestore, Restore, Restored};
pub use tree::{
    Deletion, Extra, PlannedObject, TreeCopied, TreeCopy, TreeLayout, TreeOrder, TreePlan, TreeRule, TreeStep,
};
pub use verify::{AgeLimit, Verify};
