//! What every run has around it: its span and its limits.

use tracing::{Instrument, Span};

use crate::context::Context;
use crate::error::Result;
use crate::history::Outcome;
use crate::span;

/// Does the work of a run in its span and within its limits.
pub(super) async fn within<T>(
    span: Span,
    cx: &Context,
    judge: impl FnOnce(&T) -> Outcome,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    // On the heap: each layer around it would hold a copy of its own on the stack.
    let done = cx.limiter.govern(Box::pin(work)).instrument(span.clone()).await;
    span::end(&span, done.as_ref().map_or(Outcome::Failed, judge));
    done
}
