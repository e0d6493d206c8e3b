//! Retention: which artifacts of a dataset stay and which go, and why.
//!
//! A pure function of (policy, artifacts, now): [`Policy::plan`] decides, [`Plan`] can be shown before anything is done.
//! The caller does the deleting. One call covers the artifacts of *one dataset in one sink*.
//!
//! # Rules
//!
//! An artifact is kept if any rule keeps it. All calendars are UTC; weeks are ISO weeks and start on Monday.
//!
//! | rule | keeps |
//! |---|---|
//! | `within` (or `days`) | every artifact that is at most this old, counted from now |
//! | `last` | the newest N |
//! | `hourly`, `daily`, `weekly`, `monthly`, `yearly` | the newest artifact of each of the last N periods *that have one* |
//! | `at_least` | a floor under the others: if they keep fewer good artifacts than this, the newest of the rest are added |
//!
//! A policy without rules keeps everything. Zero is rejected as the value of a rule in config files and flags, because
//! it reads as "keep none". `at_least = 0` means no floor; `at_least` without a rule is rejected, because a floor alone
//! deletes nothing.
//!
//! # Good and bad
//!
//! An artifact is good when its [`Candidate`] says so, and everything that it depends on, directly or not, is there
//! and good. Only good artifacts fill a slot of `last` or of a period and count toward `at_least`. A bad artifact is
//! evidence and may be partly usable, so it is not deleted right away. It is kept *in addition to* the good ones:
//!
//! - while `within` covers it;
//! - while it is among the newest N of `last`, bad ones included;
//! - while it is the newest of one of the last N periods, bad ones included, that has no good artifact;
//! - as long as there is no good artifact at all: then nothing is deleted.
//!
//! # Empty and shrunken artifacts
//!
//! An artifact that is empty, or much smaller than the one before it, is good but may be the backup of a loss. Such an
//! artifact is called [less](Candidate::less), or lesser. It is kept as long as any other good artifact would be, and
//! never displaces a fuller one: what the rules would keep without the lesser ones is kept as well. An artifact based
//! on a lesser one counts as lesser too.
//!
//! # What no policy deletes
//!
//! - The newest good artifact, however old: a failed or missing newer backup never costs the last good one.
//! - The newest good artifact that is not lesser.
//! - The newest verified artifact: good and passed or, if no good one ever passed, the newest bad one that once did.
//! - An artifact dated in the future. It takes no slot and is not "the newest": a backup stamped 2099 by a machine with a
//!   wrong clock does not displace the real ones.
//! - Anything that a kept artifact, or a backup still being written, depends on, directly or not.
//! - Anything at all while this version does not recognize an object of the dataset: a newer Lifeboat may have written
//!   it to mark something that must be kept.
//!
//! Artifacts are deleted before those they depend on. Executing any part of a plan, or all of it, and planning again
//! with the same `now` deletes nothing beyond the plan.
//!
//! ```
//! use jiff::Timestamp;
//! use lifeboat_core::retention::{Candidate, Policy};
//!
//! let policy: Policy = "last=2,monthly=12".parse()?;
//! let artifacts = ["2026-11-21", "2026-11-20", "2026-11-19", "2026-10-31"]
//!     .map(|day| Candidate::new(format!("shop-{day}"), format!("{day}T03:30:00Z").parse().expect("a time")));
//!
//! let plan = policy.plan(&artifacts, "2026-11-21T12:00:00Z".parse::<Timestamp>().expect("a time"));
//!
//! let table: Vec<String> = plan.decisions.iter().map(ToString::to_string).collect();
//! assert_eq!(table, [
//!     "keep shop-2026-11-21: newest good, last 1/2, monthly 1/12 (2026-11)",
//!     "keep shop-2026-11-20: last 2/2",
//!     "delete shop-2026-11-19: no rule keeps it",
//!     "keep shop-2026-10-31: monthly 2/12 (2026-10)",
//! ]);
//! # Ok::<(), lifeboat_core::Error>(())
//! ```

mod ledger;
mod order;
mod plan;
mod policy;
#[cfg(test)]
mod series_tests;
#[cfg(test)]
mod tests;

pub(crate) use ledger::{Subject, Ties, Verdicts, decide};
pub use plan::{Action, Candidate, Decision, DeleteReason, Plan, Reason, Warning};
pub use policy::{Age, Period, Policy};
