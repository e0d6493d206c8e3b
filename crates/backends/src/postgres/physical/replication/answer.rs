//! What a server answers: rows, errors and notices.

use bytes::{Buf, Bytes};
use lifeboat_core::{Error, ErrorKind};

use super::super::super::redact;
use super::refusal::{Command, Refusal};

/// A server's notice or warning, without the values that it may quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `WARNING`, `NOTICE` or another.
    pub severity: String,
    /// Its SQLSTATE.
    pub code: String,
    /// What it says.
    pub message: String,
}

/// An error or notice as it comes (the manual's "Error and Notice Message Fields").
#[derive(Clone, Debug, Default)]
pub(super) struct ServerError {
    pub(super) severity: String,
    pub(super) code: String,
    message: String,
    detail: Option<String>,
    file: Option<String>,
}

impl ServerError {
    /// Of the body of an `E` or `N` message.
    pub(super) fn read(body: &[u8]) -> Self {
        let mut found = Self::default();
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { break };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                // The one that is not translated, if there is one.
                b'V' => found.severity = text,
                b'S' if found.severity.is_empty() => found.severity = text,
                b'C' => found.code = text,
                b'M' => found.message = text,
                b'D' => found.detail = Some(text),
                b'F' => found.file = Some(text),
                _ => {}
            }
        }
        found
    }

    fn words(&self) -> String {
        crate::whole_words::keep("PostgreSQL", &format!("{self:?}"));
        let told = redact::told(&self.message, &self.code, self.file.as_deref());
        // Where a timeline was left, which process holds a slot.
        let detail = self.detail.as_deref().filter(|_| matches!(self.code.get(..2), Some("53" | "55" | "58" | "XX")));
        match detail.map(|detail| redact::told(detail, &self.code, self.file.as_deref())) {
            Some(detail) => format!("{told} ({detail})"),
            None => told,
        }
    }

    pub(super) fn notice(&self) -> Notice {
        Notice { severity: self.severity.clone(), code: self.code.clone(), message: self.words() }
    }

    /// The error of a command.
    pub(super) fn error(&self, command: Command, subject: &str) -> Error {
        let refusal = Refusal::from(self, command);
        let kind = match &refusal {
            Refusal::SlotBusy | Refusal::NoSenderLeft => ErrorKind::Unavailable,
            Refusal::NoSuchSlot | Refusal::LogGone | Refusal::NoHistory => ErrorKind::NotFound,
            Refusal::SlotExists => ErrorKind::AlreadyExists,
            Refusal::NoSlotLeft | Refusal::Position => ErrorKind::Refused,
            Refusal::DamagedPages => ErrorKind::Corrupt,
            Refusal::Permission => ErrorKind::Permission,
            Refusal::Other(code) if code.starts_with("57P") || code.starts_with("08") => ErrorKind::Unavailable,
            Refusal::Other(code) if code == "42601" => ErrorKind::Unsupported,
            Refusal::Other(_) => ErrorKind::Tool,
        };
        let error = Error::new(kind, command.verb(), subject, self.words());
        let error = match &refusal {
            Refusal::NoSlotLeft => error.hint("raise max_replication_slots, or drop a slot that nobody uses"),
            Refusal::NoSenderLeft => error.hint("raise max_wal_senders"),
            Refusal::Permission => error.hint("the role needs REPLICATION: ALTER ROLE … REPLICATION"),
            Refusal::LogGone => {
                error.hint("what the server has removed can only come from an archive: take a new base backup")
            }
            _ => error,
        };
        error.with_source(refusal)
    }
}

/// The values of a row, as text or bytes.
pub(super) type Row = Vec<Option<Bytes>>;

/// Of the body of a `D` message. `None` if it is none.
pub(super) fn row(mut body: Bytes) -> Option<Row> {
    let count = body.try_get_u16().ok()?;
    let mut row = Vec::with_capacity(usize::from(count).min(64));
    for _ in 0..count {
        row.push(match body.try_get_i32().ok()? {
            -1 => None,
            length => {
                let length = usize::try_from(length).ok().filter(|length| *length <= body.len())?;
                Some(body.split_to(length))
            }
        });
    }
    body.is_empty().then_some(row)
}

/// A value as text. `None` for NULL, for what is missing, and for what is no UTF-8.
pub(super) fn text(row: &Row, at: usize) -> Option<&str> {
    std::str::from_utf8(row.get(at)?.as_ref()?).ok()
}
