//! Failures of a request: what the store or the wire reported, and the [`Error`] made from it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use lifeboat_core::{Error, ErrorKind};

use super::profile::Profile;

/// What went wrong with one request, as it was seen on the wire.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The store answered with an error.
    Answer(Answer),
    /// No connection.
    Connect(String),
    /// A connection, but no agreement on its encryption.
    Tls(String),
    /// Nothing moved for so long.
    Stalled(Duration),
    /// The connection broke.
    Broken(String),
}

/// An answer that is an error.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The code of the XML body, or of MinIO's header.
    pub(super) code: String,
    pub(super) message: String,
    /// The header that the error is about, where the answer says so.
    pub(super) header: Option<String>,
    /// The region in which the bucket is, where the answer says so.
    pub(super) region: Option<String>,
    pub(super) retry_after: Option<Duration>,
    /// Seconds by which the store's clock is ahead of ours.
    pub(super) clock_ahead: Option<i64>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(a) if a.code.is_empty() => write!(f, "the store answered {}", a.status),
            Self::Answer(a) => write!(f, "the store answered {} {}: {}", a.status, a.code, a.message),
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Tls(why) => write!(f, "no TLS connection: {why}"),
            Self::Stalled(time) => write!(f, "nothing was transferred for {} s", time.as_secs()),
            Self::Broken(why) => write!(f, "the connection broke: {why}"),
        }
    }
}

impl StdError for Failure {}

impl Failure {
    /// The failure inside an error of `object_store`, if there is one.
    pub(super) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(failure) = error.downcast_ref::<Self>() {
                return Some(failure);
            }
            next = error.source();
        }
        None
    }

    /// Whether the store said that the object (or the upload) is not there.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Answer(a) if a.status == 404)
    }
}

/// What was being done, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Write,
    Read,
    LookUp,
    List,
    Delete,
    Abort,
    /// Like [`Write`](Action::Write), with a lock on the object.
    WriteLocked,
    ListUploads,
    ListVersions,
    LookUpLock,
    /// Of the bucket.
    ReadSettings,
}

impl Action {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Write | Self::WriteLocked => "write",
            Self::Read => "read",
            Self::LookUp => "look up",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Abort => "abort the upload of",
            Self::ListUploads => "list the unfinished uploads of",
            Self::ListVersions => "list the versions of",
            Self::LookUpLock => "look up the lock of",
            Self::ReadSettings => "read the settings of",
        }
    }

    fn right(self, profile: &Profile) -> String {
        let rights = &profile.rights;
        let right = match self {
            Self::WriteLocked => return format!("{} and {}", rights.write, rights.lock),
            Self::Write => rights.write,
            Self::Read | Self::LookUp => rights.read,
            Self::List => rights.list,
            Self::Delete => rights.delete,
            Self::Abort => rights.abort,
            Self::ListUploads => rights.list_uploads,
            Self::ListVersions => rights.list_versions,
            Self::LookUpLock => rights.look_up_lock,
            Self::ReadSettings => rights.versioning,
        };
        right.to_owned()
    }
}

/// Where requests go, for messages.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) profile: Profile,
    pub(super) endpoint: String,
    pub(super) bucket: String,
    /// To which requests are signed.
    pub(super) region: String,
    /// Of every key, without slashes at its ends.
    pub(super) prefix: String,
    /// Where the access key and the secret key came from.
    pub(super) keys: (String, String),
}

impl Place {
    /// The error for a request of `object_store` that failed.
    pub(super) fn store_error(&self, action: Action, subject: &str, error: object_store::Error) -> Error {
        match Failure::find(&error) {
            Some(failure) => {
                let failure = failure.clone();
                self.error(action, subject, failure)
            }
            None => self.other_error(action, subject, &error),
        }
    }

    /// The error for a request that failed.
    pub(super) fn error(&self, action: Action, subject: &str, failure: Failure) -> Error {
        let make = |kind, message: String| Error::new(kind, action.verb(), subject, message);
        let name = self.profile.name;
        let error = match &failure {
            Failure::Connect(why) => {
                make(ErrorKind::Unavailable, format!("cannot connect to {}: {why}", self.endpoint))
                    .hint("is the store running, and is the address correct?")
            }
            Failure::Tls(why) => {
                let error = make(ErrorKind::Unavailable, format!("no TLS connection to {}: {why}", self.endpoint));
                error.transient(false).hint(if why.contains("ertificate") || why.contains("UnknownIssuer") {
                    "SSL_CERT_FILE names a file with the certificates of your own certificate authority"
                } else {
                    "for a store that speaks plain http, add ?tls=false to the URL"
                })
            }
            Failure::Stalled(_) | Failure::Broken(_) => {
                make(ErrorKind::Unavailable, format!("{failure} ({})", self.endpoint))
            }
            Failure::Answer(answer) => self.answer_error(action, subject, answer, name),
        };
        error.with_source(failure)
    }

    fn answer_error(&self, action: Action, subject: &str, answer: &Answer, name: &str) -> Error {
        let make = |kind, message: String| Error::new(kind, action.verb(), subject, message);
        let (key, secret) = &self.keys;
        match (answer.status, answer.code.as_str()) {
            (_, "NoSuchBucket") => {
                make(ErrorKind::NotFound, format!("the bucket \"{}\" does not exist at {}", self.bucket, self.endpoint))
                    .hint("check the bucket's name in the URL, or create the bucket")
            }
            // B2 says so of its master key, and of the account's id.
            (_, _) if answer.message.contains("Malformed Access Key Id") => {
                make(ErrorKind::Permission, format!("{name} does not accept this key for its S3 interface"))
                    .hint(format!("make an application key (not the master key), and check that {key} is its keyID"))
            }
            (_, "SignatureDoesNotMatch") => {
                let error =
                    make(ErrorKind::Permission, format!("{name} refused the signature: the secret key is wrong"));
                // With a region of its own, the store signs otherwise, and cannot tell the one from the other.
                let region = match self.profile.default_region {
                    None => format!(", and that ?region= or {} is the bucket's", self.profile.region_variable),
                    Some(_) => String::new(),
                };
                error.hint(format!("check {secret}{region}"))
            }
            (_, "InvalidAccessKeyId") => {
                make(ErrorKind::Permission, format!("{name} does not know the access key")).hint(format!("check {key}"))
            }
            (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
                make(ErrorKind::Permission, format!("the session token is no longer valid: {}", answer.message))
            }
            (_, "RequestTimeTooSkewed") => {
                let by = answer.clock_ahead.map(|s| {
                    let side = if s > 0 { "behind" } else { "ahead of" };
                    format!(": this clock is {} s {side} that of the store", s.abs())
                });
                let message = format!("the clocks differ too much{}", by.unwrap_or_default());
                make(ErrorKind::Config, message).hint("set this machine's clock (NTP)")
            }
            (301 | 307, _) | (_, "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed") => {
                self.another_region(answer, make)
            }
            // The answer to HEAD has no body: what it says stands in a header.
            (400 | 403, "") if answer.region.as_ref().is_some_and(|region| *region != self.region) => {
                self.another_region(answer, make)
            }
            (_, "InvalidRequest" | "ObjectLockConfigurationNotFoundError") if action == Action::WriteLocked => make(
                ErrorKind::Config,
                format!("the bucket \"{}\" cannot lock objects: {}", self.bucket, answer.message),
            )
            .hint("enable Object Lock on the bucket (with most stores, only when it is created), or remove `lock`"),
            // Backblaze B2: of bytes stored, bytes downloaded, or calls.
            (403, _) if answer.message.contains("cap exceeded") => {
                make(ErrorKind::Io, format!("{name} refuses more: {}", answer.message)).hint(
                    "raise the account's cap, or wait until it is reset (at midnight GMT for downloads and calls)",
                )
            }
            (409 | 412, _) => make(ErrorKind::AlreadyExists, "an object of that name already exists".to_owned()),
            (_, "NoSuchUpload") => {
                make(ErrorKind::NotFound, "the store no longer knows the upload: something else aborted it".to_owned())
            }
            (_, "InvalidPart") => {
                make(ErrorKind::Corrupt, "the store has lost a part that it had confirmed".to_owned())
                    .hint("run it again")
            }
            (404, _) => make(
                ErrorKind::NotFound,
                format!("no such object in the bucket \"{}\" at {}", self.bucket, self.endpoint),
            ),
            (
                _,
                "BadDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                | "InvalidDigest"
                | "IncompleteBody"
                | "RequestTimeout",
            ) => {
                let why = format!("bytes were damaged on their way to the store: {}", answer.message);
                make(ErrorKind::Corrupt, why).transient(true)
            }
            (_, "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "storage_cap_exceeded") => {
                make(ErrorKind::Io, format!("{name} has no room left: {}", answer.message))
                    .hint("free space there, or raise the quota")
            }
            (401 | 403, _) => {
                let why = if answer.message.is_empty() { String::new() } else { format!(" ({})", answer.message) };
                let right = action.right(&self.profile);
                let error = make(ErrorKind::Permission, format!("{name} denies access{why}"));
                if self.profile.restricted_keys {
                    return error.hint(self.restricted_key(&right));
                }
                error.hint(format!("the key needs the right {right} here; a wrong key can cause the same error"))
            }
            (501, _) | (_, "NotImplemented") => make(
                ErrorKind::Unsupported,
                match &answer.header {
                    Some(header) => format!("the store does not know the header {header}: {}", answer.message),
                    None => format!("the store cannot do this: {}", answer.message),
                },
            ),
            (408 | 429 | 500.., _) => {
                let answer = Failure::Answer(answer.clone());
                make(ErrorKind::Unavailable, format!("{answer} ({})", self.endpoint))
            }
            _ => make(ErrorKind::Io, Failure::Answer(answer.clone()).to_string()),
        }
    }

    /// The error for a bucket that is not in the region to which the request was signed.
    fn another_region(&self, answer: &Answer, make: impl Fn(ErrorKind, String) -> Error) -> Error {
        let (bucket, variable) = (&self.bucket, self.profile.region_variable);
        match &answer.region {
            Some(region) => make(ErrorKind::Config, format!("the bucket \"{bucket}\" is in the region {region}"))
                .hint(format!("add ?region={region} to the URL or set {variable}")),
            None => {
                let words = if answer.message.is_empty() { String::new() } else { format!(": {}", answer.message) };
                let message = format!("the bucket \"{bucket}\" is not in the region {}{words}", self.region);
                make(ErrorKind::Config, message).hint(format!("add ?region= to the URL or set {variable}"))
            }
        }
    }

    /// What may be wrong with a key that is limited to a bucket and a prefix.
    fn restricted_key(&self, capability: &str) -> String {
        let (bucket, prefix) = (&self.bucket, &self.prefix);
        let names = match prefix.as_str() {
            "" => "to names with a prefix".to_owned(),
            prefix => format!("to names that do not begin with \"{prefix}/\""),
        };
        format!(
            "the application key needs the capability {capability} (one that can list but not do this is read-only, or lacks \
             just that), and must not be restricted to another bucket than \"{bucket}\" or {names}; `b2 key list --long` \
             shows what it may do"
        )
    }

    /// Other failures: credentials that could not be obtained, a body that could not be read.
    fn other_error(&self, action: Action, subject: &str, error: &object_store::Error) -> Error {
        let text = chain(error);
        if text.contains("169.254.169.254") {
            let (key, secret) = self.profile.variables[0];
            return Error::new(ErrorKind::Permission, action.verb(), subject, "no credentials were found")
                .hint(format!("set {key} and {secret}, or give this machine or pod a role"))
                .with_source(text);
        }
        Error::new(ErrorKind::Io, action.verb(), subject, text)
    }

    /// The error for an answer that Lifeboat does not understand.
    pub(super) fn strange_answer(&self, action: Action, subject: &str, why: impl fmt::Display) -> Error {
        let message = format!("{} does not answer as an S3 store does: {why}", self.endpoint);
        Error::new(ErrorKind::Unsupported, action.verb(), subject, message)
            .hint("is this the address of the store's S3 interface rather than of its console?")
    }
}

/// An error and its causes in one line, without repeating a cause that its parent has already printed.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

/// Whether an error comes from an answer that the object does not exist.
pub(super) fn says_missing(error: &Error) -> bool {
    StdError::source(error).and_then(|s| s.downcast_ref::<Failure>()).is_some_and(Failure::is_missing)
}

/// Whether an error comes from an answer with this status.
pub(super) fn is_answer(error: &Error, wanted: u16) -> bool {
    status(error) == Some(wanted)
}

/// Seconds by which the store's clock is ahead of ours, from the answer behind an error.
pub(super) fn clock_ahead(error: &Error) -> Option<i64> {
    match StdError::source(error)?.downcast_ref::<Failure>()? {
        Failure::Answer(answer) => answer.clock_ahead,
        _ => None,
    }
}

/// The status of the answer behind an error.
pub(super) fn status(error: &Error) -> Option<u16> {
    match StdError::source(error)?.downcast_ref::<Failure>()? {
        Failure::Answer(answer) => Some(answer.status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            profile: Profile::AWS,
            endpoint: "https://s3.example".into(),
            bucket: "backups".into(),
            region: "us-east-1".into(),
            prefix: "pg".into(),
            keys: ("access_key of [sinks.s]".into(), "secret_key of [sinks.s]".into()),
        }
    }

    fn answered(status: u16, code: &str) -> Error {
        let answer = Answer { status, code: code.into(), message: "words".into(), ..Answer::default() };
        place().error(Action::Write, "a/b", Failure::Answer(answer))
    }

    #[test]
    fn answers_become_kinds_and_words() {
        for (status, code, kind, text) in [
            (404, "NoSuchBucket", ErrorKind::NotFound, "bucket \"backups\" does not exist"),
            (404, "NoSuchKey", ErrorKind::NotFound, "no such object"),
            (403, "SignatureDoesNotMatch", ErrorKind::Permission, "the secret key is wrong"),
            (403, "InvalidAccessKeyId", ErrorKind::Permission, "does not know the access key"),
            (403, "AccessDenied", ErrorKind::Permission, "denies access"),
            (403, "RequestTimeTooSkewed", ErrorKind::Config, "clocks differ"),
            (400, "AuthorizationHeaderMalformed", ErrorKind::Config, "is not in the region"),
            (412, "PreconditionFailed", ErrorKind::AlreadyExists, "already exists"),
            (503, "SlowDown", ErrorKind::Unavailable, "503 SlowDown"),
            (507, "XMinioStorageFull", ErrorKind::Io, "no room left"),
            (400, "XAmzContentSHA256Mismatch", ErrorKind::Corrupt, "damaged"),
            (501, "NotImplemented", ErrorKind::Unsupported, "cannot do this"),
            (400, "InvalidPart", ErrorKind::Corrupt, "lost a part"),
            (400, "Whatever", ErrorKind::Io, "400 Whatever: words"),
        ] {
            let e = answered(status, code);
            assert_eq!(e.kind(), kind, "{code}");
            assert!(e.to_string().contains(text), "{code}: {e}");
            let retried = kind == ErrorKind::Unavailable || text == "damaged";
            assert_eq!(e.is_transient(), retried, "{code}");
        }
        assert!(answered(403, "AccessDenied").advice().unwrap().contains("s3:PutObject"));
        for (code, advice) in [
            ("SignatureDoesNotMatch", "check secret_key of [sinks.s]"),
            ("InvalidAccessKeyId", "check access_key of [sinks.s]"),
        ] {
            assert_eq!(answered(403, code).advice(), Some(advice));
        }
    }

    #[test]
    fn an_application_key_that_may_not_is_explained() {
        let place = Place { profile: Profile::B2, ..place() };
        let answer = |code: &str, message: &str| {
            let (code, message) = (code.to_owned(), message.to_owned());
            Failure::Answer(Answer { status: 403, code, message, ..Answer::default() })
        };
        let e = place.error(Action::Write, "a/b", answer("AccessDenied", "not entitled"));
        let hint = e.advice().unwrap();
        for word in ["writeFiles", "read-only", "\"backups\"", "begin with \"pg/\""] {
            assert!(hint.contains(word), "{hint}");
        }
        let e = place.error(Action::List, "a/b", answer("InvalidAccessKeyId", "Malformed Access Key Id"));
        assert!(e.advice().unwrap().contains("not the master key"), "{e:?}");
    }

    #[test]
    fn the_region_and_the_clock_are_named() {
        let answer = Answer { status: 301, region: Some("eu-central-1".into()), ..Answer::default() };
        let e = place().error(Action::List, "x", Failure::Answer(answer));
        assert!(e.advice().unwrap().contains("?region=eu-central-1"));
        // Without a body, as HEAD is answered.
        let answer = |region: &str| Answer { status: 400, region: Some(region.into()), ..Answer::default() };
        let e = place().error(Action::LookUp, "x", Failure::Answer(answer("eu-central-1")));
        assert_eq!(e.kind(), ErrorKind::Config);
        assert!(e.message().contains("in the region eu-central-1"), "{e}");
        let e = place().error(Action::LookUp, "x", Failure::Answer(answer("us-east-1")));
        assert_eq!(e.kind(), ErrorKind::Io, "{e}");
        let code = "RequestTimeTooSkewed".to_owned();
        let answer = Answer { status: 403, code, clock_ahead: Some(7200), ..Answer::default() };
        assert!(place().error(Action::List, "x", Failure::Answer(answer)).message().contains("7200 s behind"));
    }
}
