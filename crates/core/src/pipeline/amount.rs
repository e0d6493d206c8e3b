//! How much a run found in a dataset: compared with earlier artifacts in a sink, and recorded there in a name.

use std::sync::Arc;

use serde_json::json;

use crate::catalog::{Amount, Artifact, Judged, Less, MaxShrink, fuller_before, holds_name};
use crate::context::Context;
use crate::error::{ErrorKind, Result};
use crate::hint::Hint;
use crate::name::{ArtifactName, join_key};
use crate::progress::Event;
use crate::report::Check;
use crate::sink::{PutOptions, Sink};
use crate::stream;
use crate::words::Noun;

/// The rules for how much a backup should hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AmountRules {
    /// Whether the dataset may be empty.
    pub(super) allow_empty: bool,
    pub(super) max_shrink: MaxShrink,
}

/// The result of the comparison.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub(super) amount: Amount,
    pub(super) judged: Judged,
    /// Why the backup holds less than it should, if it does.
    pub(super) less: Option<Less>,
    /// Why it could not be compared, if so.
    pub(super) failure: Option<String>,
}

impl AmountRules {
    /// Compares with the newest fuller artifact in the folder. If the sink cannot be read, the backup is still stored.
    pub(super) async fn judge(self, sink: &dyn Sink, folder: &str, name: &ArtifactName, amount: Amount) -> Judgement {
        match fuller_before(sink, folder, name).await {
            Ok(fuller) => {
                let shrank = fuller.as_ref().is_some_and(|(_, before)| amount.shrank(*before, self.max_shrink));
                let less = (amount.is_empty() || shrank).then_some(Less { amount, fuller });
                Judgement {
                    amount,
                    judged: if less.is_some() { Judged::Less } else { Judged::Whole },
                    less,
                    failure: None,
                }
            }
            // The first artifact creates the folder.
            Err(error) if error.kind() == ErrorKind::NotFound => Self::unjudged(amount, None),
            Err(error) => Self::unjudged(amount, Some(error.to_string())),
        }
    }

    /// The judgement if there is nothing to compare with.
    pub(super) fn unjudged(amount: Amount, failure: Option<String>) -> Judgement {
        let less = amount.is_empty().then_some(Less { amount, fuller: None });
        let judged = match (&less, &failure) {
            (Some(_), _) => Judged::Less,
            (None, None) => Judged::Whole,
            (None, Some(_)) => Judged::Unjudged,
        };
        Judgement { amount, judged, less, failure }
    }

    /// What to tell the user about a backup, as a warning or note.
    pub(super) fn words(self, name: &ArtifactName, sink: &str, unit: Noun, judgement: &Judgement) -> Option<Told> {
        if let Some(less) = &judgement.less {
            let expected = less.amount.is_empty() && self.allow_empty && less.fuller.is_none();
            let hint = if less.fuller.is_none() { Hint::AllowEmpty } else { Hint::AllowShrink };
            return (!expected).then(|| Told::Warning(format!("{} is {}", name.dataset, less.in_words(unit)), hint));
        }
        let failure = judgement.failure.as_ref()?;
        Some(Told::Note(format!(
            "the amount in {name} could not be compared with earlier ones in {sink}: {failure}; a verification with a key that can read compares it"
        )))
    }
}

/// Something to tell the user.
pub(super) enum Told {
    Warning(String, Hint),
    Note(String),
}

/// The key of the sidecar whose name says how much the artifact holds.
pub(super) fn sidecar(folder: &str, name: &ArtifactName, judgement: &Judgement) -> String {
    join_key(folder, &holds_name(name, judgement.amount, judgement.judged))
}

/// Writes the sidecar whose name says how much the artifact holds.
///
/// # Errors
/// Any error of the sink, except that the sidecar already exists.
pub(super) async fn leave(
    sink: &Arc<dyn Sink>,
    folder: &str,
    name: &ArtifactName,
    judgement: &Judgement,
) -> Result<()> {
    let Judgement { amount, judged, less, .. } = judgement;
    let fuller = less.as_ref().and_then(|less| less.fuller.as_ref()).map(|(fuller, _)| fuller.to_string());
    let body = json!({ "artifact": name.to_string(), "holds": amount, "judged": judged, "less_than": fuller });
    let key = sidecar(folder, name, judgement);
    match sink.put_with(&key, stream::once(format!("{body:#}\n")), PutOptions::new().lock(true)).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        put => put.map(drop),
    }
}

/// The name of the check of how much an artifact holds.
const CHECK: &str = "amount";

/// Compares what was read from an artifact with what its sidecars say. If the backup could not compare it with earlier
/// ones, this does, and records the result beside it if `record` is set.
pub(super) async fn check(
    sink: &Arc<dyn Sink>,
    artifact: &Artifact,
    found: Option<Amount>,
    record: bool,
    unit: Noun,
    cx: &Context,
) -> Option<Check> {
    let (said, judged) = artifact.amount()?;
    match (found, judged) {
        (Some(found), _) if found != said => {
            let (said, found) = (said.in_words(unit), found.in_words(unit));
            let why =
                format!("a name beside it says {said}, but it holds {found}: that name belongs to another backup");
            Some(Check::warn(CHECK, "differs", why))
        }
        (_, Judged::Whole) | (None, Judged::Unjudged) => None,
        (_, Judged::Less) => {
            let less = Less { amount: said, fuller: None }.in_words(unit);
            let why = format!("it is {less}: was anything lost at the source?");
            Some(Check::warn(CHECK, said.less_word(), why))
        }
        (Some(found), Judged::Unjudged) => {
            let judgement = AmountRules::default().judge(&**sink, &artifact.folder, &artifact.name, found).await;
            if record
                && judgement.failure.is_none()
                && let Err(error) = leave(sink, &artifact.folder, &artifact.name, &judgement).await
            {
                let note = format!("the amount in {} could not be written beside it: {error}", artifact.key());
                cx.progress.event(Event::Note(note));
            }
            let less = judgement.less?.in_words(unit);
            Some(Check::warn(CHECK, found.less_word(), format!("it is {less}: was anything lost at the source?")))
        }
    }
}
