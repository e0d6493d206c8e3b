//! Stores that refuse a header of a write: finds out which one, and writes without it.
//!
//! A store says no in several ways: with status 501, or 400 and a code; naming the header in an element, in its words, or not at
//! all. One that does not name it is tried without one header after the other. What was learnt holds as long as the sink is
//! open; `check` tells it.

use std::error::Error as StdError;
use std::sync::atomic::Ordering;

use lifeboat_core::{Error, Result};

use super::Store;
use super::failure::{Answer, Failure};

/// The headers by which the store should refuse a bad write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Means {
    /// `If-None-Match: *`: refused when the key is taken.
    pub(super) conditions: bool,
    /// `x-amz-checksum-…`: refused when bytes are damaged. Without it, `Content-MD5` does that.
    pub(super) checksums: bool,
}

impl Means {
    /// What to try next, in this order, when a write with these was refused.
    fn without(self, named: Option<Named>) -> Vec<Self> {
        let no_conditions = Self { conditions: false, ..self };
        let no_checksums = Self { checksums: false, ..self };
        let mut tries = match named {
            Some(Named::Condition) => vec![no_conditions],
            Some(Named::Checksum) => vec![no_checksums],
            None => vec![no_conditions, no_checksums, Self { conditions: false, checksums: false }],
        };
        // A store that names one header may name the other one next.
        tries.push(Self { conditions: false, checksums: false });
        tries.retain(|other| *other != self);
        tries.dedup();
        tries
    }
}

/// A header that a store has refused by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Condition,
    Checksum,
}

impl Named {
    fn find(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if text.contains("if-none-match") {
            Some(Self::Condition)
        } else if text.contains("x-amz-checksum") || text.contains("x-amz-sdk-checksum") {
            Some(Self::Checksum)
        } else {
            None
        }
    }
}

/// Whether an answer says that a header is unknown, and which.
fn refused(answer: &Answer) -> Option<Option<Named>> {
    if !matches!(answer.status, 400 | 405 | 501) {
        return None;
    }
    let named = answer.header.as_deref().and_then(Named::find).or_else(|| Named::find(&answer.message));
    let is_unknown = answer.status == 501 || answer.code.ends_with("NotImplemented");
    (named.is_some() || (is_unknown && answer.header.is_none())).then_some(named)
}

/// The answer behind an error of ours.
fn answer(error: &Error) -> Option<&Answer> {
    match StdError::source(error)?.downcast_ref::<Failure>()? {
        Failure::Answer(answer) => Some(answer),
        _ => None,
    }
}

/// Whether a store says that it does not know a kind of request.
pub(super) fn is_unknown(error: &Error) -> bool {
    let Some(answer) = answer(error) else { return false };
    // Google takes the deletion of several objects for the making of a bucket.
    let google = answer.status == 400 && answer.message.contains("using a POST");
    matches!(answer.status, 405 | 501)
        || answer.code.ends_with("NotImplemented")
        || answer.code == "MethodNotAllowed"
        || google
}

impl Store {
    /// What the next write carries.
    pub(super) fn means(&self) -> Means {
        let profile = &self.place.profile;
        Means {
            conditions: profile.conditional_create && !self.known.conditions_refused.load(Ordering::Relaxed),
            checksums: profile.checksums && !self.known.checksums_refused.load(Ordering::Relaxed),
        }
    }

    /// Asks with these means and, where the store refuses a header, without it.
    pub(super) async fn adapted<T, F>(&self, means: Means, mut ask: impl FnMut(Means) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let first = match ask(means).await {
            Err(error) => error,
            done => return done,
        };
        let Some(named) = answer(&first).and_then(refused) else { return Err(first) };
        for fewer in means.without(named) {
            match ask(fewer).await {
                Err(again) if answer(&again).and_then(refused).is_some() => {}
                // Neither is anything learnt from a request that failed for another reason.
                Err(again) if again.is_transient() => return Err(again),
                done => {
                    self.learn(means, fewer, &first);
                    return done;
                }
            }
        }
        Err(first)
    }

    fn learn(&self, sent: Means, taken: Means, refusal: &Error) {
        let known = &self.known;
        if sent.conditions && !taken.conditions && !known.conditions_refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = %refusal.message(), "the store refuses If-None-Match: Lifeboat looks for an existing object before and after each write");
        }
        if sent.checksums && !taken.checksums && !known.checksums_refused.swap(true, Ordering::Relaxed) {
            tracing::info!(error = %refusal.message(), "the store refuses x-amz-checksum-…: writes carry a Content-MD5");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str, message: &str, header: Option<&str>) -> Answer {
        let (code, message, header) = (code.to_owned(), message.to_owned(), header.map(str::to_owned));
        Answer { status, code, message, header, ..Answer::default() }
    }

    #[test]
    fn a_refused_header_is_known_however_the_store_says_so() {
        let general = "A header you provided implies functionality that is not implemented";
        for (answer, expected) in [
            (answered(501, "NotImplemented", general, Some("If-None-Match")), Some(Some(Named::Condition))),
            (answered(501, "NotImplemented", general, None), Some(None)),
            (answered(400, "NotImplemented", "A header or query you provided requested …", None), Some(None)),
            (
                answered(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received", None),
                Some(Some(Named::Checksum)),
            ),
            (
                answered(400, "InvalidArgument", "Invalid argument", Some("x-amz-checksum-sha256")),
                Some(Some(Named::Checksum)),
            ),
            // Another header is not ours to leave out.
            (answered(501, "NotImplemented", general, Some("x-amz-object-lock-mode")), None),
            (answered(400, "InvalidRequest", "Bucket is missing Object Lock Configuration", None), None),
            (answered(403, "AccessDenied", "If-None-Match", None), None),
        ] {
            assert_eq!(refused(&answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn one_header_is_left_out_before_both_are() {
        let of = |conditions, checksums| Means { conditions, checksums };
        assert_eq!(of(true, true).without(None), [of(false, true), of(true, false), of(false, false)]);
        assert_eq!(of(true, true).without(Some(Named::Checksum)), [of(true, false), of(false, false)]);
        assert_eq!(of(false, true).without(None), [of(false, false)]);
        assert_eq!(of(false, false).without(None), []);
    }
}
