//! The one error type of the workspace.
//!
//! An [`Error`] says what was being done (`operation`), to what (`subject`), what went wrong (`message`), and
//! optionally what to try (`hint`). Programs match on its [`ErrorKind`]. It never contains a secret: whoever creates
//! one redacts the subject first.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use crate::hint::Hint;
use crate::words;

/// The result type of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`], which programs can match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, option, URL or combination of them is wrong. Nothing was started.
    Config,
    /// An object, database, bucket, folder or program does not exist.
    NotFound,
    /// The dataset does not have the requested artifact: nothing failed, there is nothing to work on.
    NoArtifact,
    /// Something already exists and is not overwritten.
    AlreadyExists,
    /// The target is not empty, or a safety rule forbids the operation.
    Refused,
    /// A password, key or token is wrong, or the identity lacks a right.
    Permission,
    /// The other side cannot be reached or did not respond. Usually transient.
    Unavailable,
    /// A local file or stream failed: disk full, broken pipe, missing folder.
    Io,
    /// Data is not what it must be: truncated, altered, not in the right format, not matching the recorded hash.
    Corrupt,
    /// Ciphertext cannot be decrypted: no identity was given, or none matches.
    Decrypt,
    /// A child process failed, such as a dump or restore tool.
    Tool,
    /// Restored content does not match the proof.
    Mismatch,
    /// A version, feature or format is not supported.
    Unsupported,
    /// The run was cancelled from outside.
    Cancelled,
    /// A defect in Lifeboat itself.
    Internal,
}

impl ErrorKind {
    /// The name of the kind in reports and JSON output, in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::NotFound => "not-found",
            Self::NoArtifact => "no-artifact",
            Self::AlreadyExists => "already-exists",
            Self::Refused => "refused",
            Self::Permission => "permission",
            Self::Unavailable => "unavailable",
            Self::Io => "io",
            Self::Corrupt => "corrupt",
            Self::Decrypt => "decrypt",
            Self::Tool => "tool",
            Self::Mismatch => "mismatch",
            Self::Unsupported => "unsupported",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

/// Serializes as [`as_str`](ErrorKind::as_str).
impl serde::Serialize for ErrorKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error: what failed, on what, why, and what to try.
///
/// `Display` prints one level: `cannot <operation> <subject>: <message>`. The chain is in
/// [`source`](StdError::source), the advice in [`advice`](Error::advice).
///
/// ```
/// use lifeboat_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::NotFound, "read", "databases/shop.dump", "there is no such object");
/// let error = error.hint("list what is there");
/// assert_eq!(error.to_string(), "cannot read databases/shop.dump: there is no such object");
/// assert_eq!((error.advice(), error.is_transient()), (Some("list what is there"), false));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Cow<'static, str>,
    subject: String,
    message: String,
    hint: Option<Hint>,
    /// The hint's text, unless the hint itself is a text.
    advice: Option<String>,
    transient: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The text made safe to show, without a copy if it already is.
fn owned(text: String, shown: fn(&str) -> Cow<'_, str>) -> String {
    match shown(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(shown) => shown,
    }
}

impl Error {
    /// Creates an error of `kind`: `operation` is a verb phrase (`"read"`, `"connect to"`), `subject` what it was done
    /// to (a key, a table, a host; without secrets), `message` what went wrong.
    pub fn new(
        kind: ErrorKind,
        operation: impl Into<Cow<'static, str>>,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: operation.into(),
            // It may contain names from a bucket or text from a server.
            subject: owned(subject.into(), words::visible_line),
            message: owned(message.into(), words::visible),
            hint: None,
            advice: None,
            transient: matches!(kind, ErrorKind::Unavailable),
            source: None,
        }))
    }

    /// Replaces the message. Kind, hint, transience and source stay.
    #[must_use]
    pub fn reworded(mut self, message: impl Into<String>) -> Self {
        self.0.message = owned(message.into(), words::visible);
        self
    }

    /// Replaces operation and subject, so that they match what the caller asked for. Everything else stays.
    #[must_use]
    pub fn about(mut self, operation: impl Into<Cow<'static, str>>, subject: impl Into<String>) -> Self {
        self.0.operation = operation.into();
        self.0.subject = owned(subject.into(), words::visible_line);
        self
    }

    /// Removes the underlying error, which may reveal too much.
    #[must_use]
    pub fn without_source(mut self) -> Self {
        self.0.source = None;
        self
    }

    /// Creates an error for an I/O failure of `operation` on `subject`; the kind follows from the I/O error's.
    pub fn io(operation: impl Into<Cow<'static, str>>, subject: impl Into<String>, error: std::io::Error) -> Self {
        // A stage that reads from another sees that one's error wrapped as I/O: return the original.
        if Error::is_within(&error) {
            let inner = error.into_inner().expect("checked above: there is an inner error");
            return *inner.downcast::<Error>().expect("checked above: it is ours");
        }
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            _ => ErrorKind::Io,
        };
        let failure = Self::new(kind, operation, subject, error.to_string());
        if error.kind() == std::io::ErrorKind::StorageFull {
            return failure.hint("free space there, or choose another place");
        }
        failure
    }

    /// Whether an I/O error wraps an [`Error`] that passed through an interface for I/O errors only.
    pub(crate) fn is_within(error: &std::io::Error) -> bool {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).is_some()
    }

    /// Adds what to try: a text, or a [`Hint`] that each program words in its own way.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        let hint = hint.into();
        self.0.advice = if matches!(hint, Hint::Text(_)) { None } else { Some(hint.to_string()) };
        self.0.hint = Some(hint);
        self
    }

    /// Adds the underlying error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets whether a retry can help. By default, only for [`ErrorKind::Unavailable`].
    #[must_use]
    pub fn transient(mut self, transient: bool) -> Self {
        self.0.transient = transient;
        self
    }

    /// The kind, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was being done: a verb phrase.
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// What it was done to.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// What went wrong, without operation and subject.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The advice, if there is any, in words that name neither flags nor commands.
    pub fn advice(&self) -> Option<&str> {
        match &self.0.hint {
            Some(Hint::Text(text)) => Some(text),
            _ => self.0.advice.as_deref(),
        }
    }

    /// The advice, if there is any, for a program that words it in its own way.
    pub fn typed_hint(&self) -> Option<&Hint> {
        self.0.hint.as_ref()
    }

    /// Whether a retry can help. All retries are decided by this.
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// Creates the error for a run that was cancelled from outside during `operation`.
    pub fn cancelled(operation: impl Into<Cow<'static, str>>, subject: impl Into<String>) -> Self {
        Self::new(ErrorKind::Cancelled, operation, subject, "cancelled")
    }

    /// Returns a copy for a second receiver: everything except the source chain, which is kept as text.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            operation: self.0.operation.clone(),
            subject: self.0.subject.clone(),
            message: self.0.message.clone(),
            hint: self.0.hint.clone(),
            advice: self.0.advice.clone(),
            transient: self.0.transient,
            source: self.0.source.as_ref().map(|s| s.to_string().into()),
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.0.operation, self.0.subject, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("subject", &self.0.subject)
            .field("message", &self.0.message)
            .field("hint", &self.0.hint)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_what_failed_on_what() {
        let e = Error::new(ErrorKind::NotFound, "read", "a/b.dump", "no such object").hint("check the prefix");
        assert_eq!(e.to_string(), "cannot read a/b.dump: no such object");
        assert_eq!(e.advice(), Some("check the prefix"));
        assert_eq!(e.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_typed_hint_has_neutral_words_and_is_kept_by_a_duplicate() {
        let e = Error::new(ErrorKind::NoArtifact, "find", "x", "there is none").hint(Hint::ListArtifacts);
        assert_eq!(e.advice(), Some("list the artifacts to see what there is"));
        let copy = e.duplicate();
        assert_eq!((copy.typed_hint(), copy.advice()), (Some(&Hint::ListArtifacts), e.advice()));
        let e = e.hint("look twice");
        assert_eq!((e.typed_hint(), e.advice()), (Some(&Hint::from("look twice")), Some("look twice")));
    }

    #[test]
    fn what_acts_on_a_terminal_does_not_in_an_error() {
        let error = Error::new(ErrorKind::NotFound, "read", "a\x1b[2J\nDONE", "it said \u{9b}31m\r\nand more");
        assert_eq!(error.to_string(), "cannot read a\\x1b[2J\\nDONE: it said \\u{9b}31m\nand more");
        assert_eq!(error.subject(), "a\\x1b[2J\\nDONE");
        let error = Error::io("open", "b\x07", std::io::Error::other("\x1b]0;title\x07"));
        assert_eq!(error.to_string(), "cannot open b\\x07: \\x1b]0;title\\x07");
    }

    #[test]
    fn an_error_that_passed_through_io_comes_back_whole() {
        let first = Error::new(ErrorKind::Decrypt, "decrypt", "x", "wrong key");
        let through = Error::io("read", "y", std::io::Error::from(first));
        assert_eq!(through.kind(), ErrorKind::Decrypt);
        assert_eq!(through.subject(), "x");
    }
}
