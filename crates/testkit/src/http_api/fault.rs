//! Deliberate faults: which requests they apply to, and what happens to those.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Request, Response};

/// What happens to a request that a fault applies to.
#[derive(Clone)]
pub enum Kind {
    /// The imitation is not asked: this is the answer.
    Answer(Response),
    /// The answer comes in pieces of `piece` bytes, with a pause before each.
    Slow {
        /// Bytes of a piece.
        piece: usize,
        /// The pause.
        pause: Duration,
    },
    /// The answer announces its whole length, and the connection closes after this part of it (0 to 1).
    Cut(f64),
    /// The answer's head comes, and then nothing more.
    HangInBody,
    /// No answer ever comes.
    Hang,
    /// The connection is closed without an answer. Whether the imitation has done what was asked is the flag.
    Close {
        /// The imitation does it first.
        done: bool,
    },
    /// Does something before the imitation is asked: changes what it holds between two pages.
    Before(Arc<dyn Fn() + Send + Sync>),
    /// The imitation is asked something else: a server that does not heed a parameter.
    Rewrite(Arc<dyn Fn(&mut Request) + Send + Sync>),
    /// The answer's JSON is altered.
    Alter(Arc<dyn Fn(&mut Value) + Send + Sync>),
}

impl Kind {
    /// A server that uses this value of a parameter, whatever was requested: it caps `per_page`, or repeats a `page`.
    pub fn heeds_not(parameter: &str, value: &str) -> Self {
        let (parameter, value) = (parameter.to_owned(), value.to_owned());
        Self::Rewrite(Arc::new(move |request| {
            let found = request.query.iter_mut().filter(|(name, _)| *name == parameter);
            found.for_each(|(_, asked)| asked.clone_from(&value));
        }))
    }
}

/// A fault. It applies to `times` matching requests after the first `skip`.
#[derive(Clone)]
pub struct Fault {
    pub(super) method: Option<String>,
    pub(super) path: String,
    pub(super) skip: usize,
    pub(super) times: usize,
    pub(super) kind: Kind,
}

impl Fault {
    /// Creates a fault for the first request whose path contains this.
    pub fn on(path: &str, kind: Kind) -> Self {
        Self { method: None, path: path.to_owned(), skip: 0, times: 1, kind }
    }

    /// Limits the fault to a method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Lets the first ones pass.
    #[must_use]
    pub fn after(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// Sets how many requests it applies to.
    #[must_use]
    pub fn times(mut self, requests: usize) -> Self {
        self.times = requests;
        self
    }

    /// Applies to all matching requests.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// `429`, with `Retry-After` when there is one.
    pub fn too_many(path: &str, retry_after: Option<&str>, body: Response) -> Self {
        let mut response = Response { status: 429, ..body };
        if let Some(value) = retry_after {
            response = response.header("Retry-After", value);
        }
        Self::on(path, Kind::Answer(response))
    }

    pub(super) fn meets(&self, request: &Request) -> bool {
        request.path.contains(&self.path) && self.method.as_ref().is_none_or(|m| *m == request.method)
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fault").field("path", &self.path).field("times", &self.times).finish_non_exhaustive()
    }
}
