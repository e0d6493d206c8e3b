//! The pipeline: the one place in which stages are composed.
//!
//! Backup: `source → tap (count, fingerprint, plaintext hash) → compress → encrypt → hash → sink(s)`.
//! Replicate: `sink → hash → sink`, as the bytes are stored.
//! Restore and verify: `sink → hash → decrypt → decompress → check → (tap) → target`.
//!
//! Each CPU stage runs on its own thread; short bounded channels join them, so a slow stage slows down the source. No
//! backend or sink composes stages itself.

mod amount;
mod backup;
mod estimate;
mod flow;
mod item;
mod prune;
mod read;
mod receipt;
mod replicate;
mod restore;
mod room;
mod run;
mod series;
pub mod stage;
mod stall;
mod tree;
mod verify;

pub use backup::Backup;
pub use item::Item;
pub use prune::{PlannedPrune, Prune, Pruned, Undeleted};
pub use receipt::{HookFailure, Receipt, SinkOutcome};
pub use replicate::{Copied, NotCopied, PlannedCopy, Replicate, ReplicatePlan, Replicated, Step};
pub use restore::{PlannedRestore, Restore, Restored};
pub use tree::{
    Deletion, Extra, PlannedObject, TreeCopied, TreeCopy, TreeLayout, TreeOrder, TreePlan, TreeRule, TreeStep,
};
pub use verify::{AgeLimit, Verify};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;
    use crate::sink::Sink;
    use crate::target::Target;
    use crate::verifier::Verifier;

    fn can_be_spawned<T: Send>(_: T) {}

    /// Never called: that it compiles is the test.
    #[allow(dead_code, clippy::too_many_arguments, reason = "one parameter for each thing that runs")]
    fn every_run_can_be_spawned(
        backup: Backup,
        (restore, planned, target): ([Restore; 4], PlannedRestore, &dyn Target),
        (verify, verifier): (Verify<'_>, &dyn Verifier),
        (prune, planned_prune): (Prune, &PlannedPrune),
        (replicate, replication): (&Replicate, &ReplicatePlan),
        (tree, copy): (&TreeCopy, TreePlan),
        sink: std::sync::Arc<dyn Sink>,
    ) {
        can_be_spawned(backup.run());
        let [first, second, third, fourth] = restore;
        can_be_spawned(first.into(target));
        can_be_spawned(second.plan(target));
        can_be_spawned(async move { third.stream().await.map(drop) });
        can_be_spawned(async move { fourth.item(verifier, "public.orders").await.map(drop) });
        can_be_spawned(planned.apply());
        can_be_spawned(verify.run());
        can_be_spawned(planned_prune.execute());
        can_be_spawned(planned_prune.held());
        can_be_spawned(prune.plan());
        can_be_spawned(replicate.plan());
        can_be_spawned(replication.execute());
        can_be_spawned(tree.plan());
        can_be_spawned(tree.verify());
        can_be_spawned(copy.execute());
        can_be_spawned(catalog::list(&*sink, "", None));
    }
}
