//! Looking at objects: what a store reports about one, and whether it is what was just written.
//!
//! A write succeeds when the store says so and the whole object is seen to be there: proxies and stores have answered status
//! 200 to writes that they did not carry out.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use http::header::{CONTENT_LENGTH, ETAG, LAST_MODIFIED};
use jiff::Timestamp;
use lifeboat_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

use super::Store;
use super::failure::{Action, is_answer, says_missing};
use super::request::{Reply, Request};

/// The metadata name of the mark by which an upload recognises its own object: a request whose answer was lost may have
/// succeeded.
pub(super) const MARK_HEADER: &str = "x-amz-meta-lifeboat-upload";

/// The id of the version that a write has made, where the bucket keeps versions.
pub(super) const VERSION_HEADER: &str = "x-amz-version-id";

/// How often an object that was just written is looked for. What a store has confirmed is there at once; a store of several
/// sites may take a moment.
const LOOKS: u32 = 4;

/// What a store reports about an object.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) bytes: u64,
    pub(super) modified: Timestamp,
    /// Without its quotes.
    e_tag: Option<String>,
    pub(super) mark: Option<String>,
    sha256: Option<String>,
}

/// What was sent, to recognise it.
#[derive(Clone, Debug)]
pub(super) struct Written<'a> {
    pub(super) key: &'a str,
    pub(super) mark: &'a str,
    pub(super) bytes: u64,
    pub(super) sha256: Option<Checksum>,
    /// The ETag in the answer.
    pub(super) e_tag: Option<String>,
    /// The version that the answer names.
    pub(super) version: Option<String>,
    /// Whether the key was free before.
    pub(super) was_free: bool,
}

/// A SHA-256 as the checksum headers have it: of an object, or of the SHA-256s of so many parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checksum {
    base64: String,
    parts: Option<usize>,
}

impl Checksum {
    /// Of an object that was sent whole.
    pub(super) fn whole(base64: String) -> Self {
        Self { base64, parts: None }
    }

    /// Of an object that was sent in parts with these checksums.
    pub(super) fn of_parts<'a>(parts: impl IntoIterator<Item = Option<&'a str>>) -> Option<Self> {
        let (mut all, mut count) = (Sha256::new(), 0);
        for part in parts {
            all.update(BASE64_STANDARD.decode(part?).ok()?);
            count += 1;
        }
        Some(Self { base64: BASE64_STANDARD.encode(all.finalize()), parts: Some(count) })
    }

    /// Whether the store's checksum contradicts it. A checksum of another kind proves nothing.
    pub(super) fn contradicts(&self, said: &str) -> bool {
        match (said.rsplit_once('-'), self.parts) {
            (Some((digest, count)), Some(parts)) => {
                count.parse::<usize>().is_ok_and(|count| count != parts || digest != self.base64)
            }
            (None, None) => said != self.base64,
            _ => false,
        }
    }
}

/// An ETag without its quotes. `None` for one that is empty.
pub(super) fn bare(e_tag: &str) -> Option<String> {
    let bare = e_tag.trim().trim_start_matches("W/").trim_matches('"');
    (!bare.is_empty()).then(|| bare.to_owned())
}

/// How many parts the ETag of a completed upload names, in the form of S3: 32 digits and a number.
pub(super) fn parts_in(e_tag: &str) -> Option<usize> {
    let (digest, count) = e_tag.rsplit_once('-')?;
    (digest.len() == 32 && digest.bytes().all(|b| b.is_ascii_hexdigit())).then(|| count.parse().ok())?
}

impl Reply {
    /// The ETag, without its quotes.
    pub(super) fn e_tag(&self) -> Option<String> {
        bare(self.header(ETAG.as_str())?)
    }
}

impl Store {
    /// What the store reports about an object, or about one version of it.
    pub(super) async fn look_up(&self, action: Action, key: &str, version: Option<&str>) -> Result<Seen> {
        self.look(action, key, version, false).await
    }

    async fn look(&self, action: Action, key: &str, version: Option<&str>, checksum: bool) -> Result<Seen> {
        let request = Request::object(action, key, Method::HEAD, self.full_key(key));
        let request = match version {
            Some(id) => request.query("versionId", id),
            None => request,
        };
        let request = if checksum { request.header("x-amz-checksum-mode", "ENABLED") } else { request };
        let reply = self.send(request).await?;
        let strange = |why: &str| self.place.strange_answer(action, key, why);
        let bytes = reply.header(CONTENT_LENGTH.as_str()).and_then(|text| text.trim().parse().ok());
        let modified = reply.header(LAST_MODIFIED.as_str()).and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
        Ok(Seen {
            bytes: bytes.ok_or_else(|| strange("it does not say how long the object is (no Content-Length)"))?,
            modified: modified
                .ok_or_else(|| strange("it does not say when the object was written (no Last-Modified)"))?
                .timestamp(),
            e_tag: reply.e_tag(),
            mark: reply.header(MARK_HEADER).filter(|mark| !mark.is_empty()).map(str::to_owned),
            sha256: reply.header("x-amz-checksum-sha256").map(str::to_owned),
        })
    }

    /// Makes sure that the written object is there and whole. An identity that may not look trusts the store.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is missing or differs from what was sent; then any remains are removed.
    /// [`ErrorKind::AlreadyExists`] when another writer wrote the key at the same time.
    pub(super) async fn see_that_it_is_there(self: &Arc<Self>, written: &Written<'_>) -> Result<()> {
        let key = written.key;
        let mut pause = self.pacing.retry().first;
        // What takes the place of another may itself have been replaced since.
        let version = written.version.as_deref().filter(|_| !written.was_free);
        for look in 1..=LOOKS {
            let checksum = written.sha256.is_some();
            let seen = match self.look(Action::LookUp, key, version, checksum).await {
                // It may be the wish for a checksum that is not known. The answer to HEAD cannot say.
                Err(error) if is_answer(&error, 400) || is_answer(&error, 501) => {
                    self.look(Action::LookUp, key, version, false).await
                }
                Err(error) if error.kind() == ErrorKind::Permission && version.is_some() => {
                    self.look(Action::LookUp, key, None, checksum).await
                }
                seen => seen,
            };
            let (wrong, is_ours) = match seen {
                Ok(seen) => match self.compare(written, &seen) {
                    Ok(()) => return Ok(()),
                    Err((wrong, is_ours)) => (wrong, is_ours),
                },
                Err(error) if says_missing(&error) => ("it is not there".to_owned(), false),
                Err(error) if error.kind() == ErrorKind::Permission => {
                    tracing::debug!(%error, "cannot check the written object: trusting the store");
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            if look < LOOKS {
                tokio::time::sleep(pause).await;
                pause *= 2;
                continue;
            }
            let left = if is_ours { self.take_away(written).await } else { String::new() };
            let why = format!("{} confirmed it, but {wrong}{left}", self.place.endpoint);
            return Err(Error::new(ErrorKind::Corrupt, "write", key, why)
                .hint("the store, or a proxy in front of it, confirms writes that it does not carry out"));
        }
        Ok(())
    }

    /// What is wrong with the stored object, and whether this write made it.
    fn compare(&self, written: &Written<'_>, seen: &Seen) -> Result<(), (String, bool)> {
        let is_ours = match (&seen.mark, &seen.e_tag, &written.e_tag) {
            (Some(mark), _, _) if !written.mark.is_empty() => mark == written.mark,
            // A store without metadata.
            (_, Some(there), Some(said)) => there == said,
            _ => true,
        };
        if !is_ours {
            return Err(("another object is there".to_owned(), false));
        }
        if seen.bytes != written.bytes {
            return Err((format!("the stored object has {} bytes of the {} sent", seen.bytes, written.bytes), true));
        }
        match (&written.sha256, &seen.sha256) {
            (Some(sent), Some(there)) if sent.contradicts(there) => {
                Err(("the stored object's SHA-256 differs from that of the bytes sent".to_owned(), true))
            }
            _ => Ok(()),
        }
    }

    /// Removes a written object that differs from what was sent. Returns what remains, in words.
    pub(super) async fn take_away(self: &Arc<Self>, written: &Written<'_>) -> String {
        let key = written.key;
        let stays = match &written.version {
            Some(id) => super::delete::versions(self, key, vec![id.clone()])
                .await
                .map(|stays| stays.map(|why| (key.to_owned(), why))),
            // What was there before is replaced already: this is all there is.
            None if !written.was_free => return "; it remains".to_owned(),
            None => super::delete::delete(self, &[key.to_owned()]).await.map(|d| d.failed.into_iter().next()),
        };
        match stays {
            Ok(None) => String::new(),
            Ok(Some((_, why))) => format!("; it remains: {why}"),
            Err(error) => format!("; it remains: {}", error.message()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_compared_only_with_one_of_its_kind() {
        let digest = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
        let whole = Checksum::whole(digest("ab"));
        assert!(!whole.contradicts(&digest("ab")) && whole.contradicts(&digest("ac")));
        assert!(!whole.contradicts(&format!("{}-2", digest("x"))));
        let parts = [digest("a"), digest("b")];
        let of_parts = Checksum::of_parts(parts.iter().map(|p| Some(p.as_str()))).unwrap();
        let expected = BASE64_STANDARD.encode(Sha256::digest([Sha256::digest("a"), Sha256::digest("b")].concat()));
        assert!(!of_parts.contradicts(&format!("{expected}-2")));
        assert!(of_parts.contradicts(&format!("{expected}-1")) && of_parts.contradicts(&format!("{}-2", digest("a"))));
        assert!(!of_parts.contradicts(&digest("ab")));
        assert_eq!(Checksum::of_parts([Some(parts[0].as_str()), None]), None);
    }

    #[test]
    fn an_e_tag_tells_how_many_parts_were_put_together() {
        assert_eq!(parts_in("0123456789abcdef0123456789abcdef-12"), Some(12));
        for other in ["0123456789abcdef0123456789abcdef", "x-2", "CJ-12", ""] {
            assert_eq!(parts_in(other), None, "{other}");
        }
        assert_eq!((bare("\"x\"").as_deref(), bare("W/\"x\"").as_deref(), bare("\"\"")), (Some("x"), Some("x"), None));
    }
}
