//! Sink URLs: the meaning of each part, and what is wrong with an unusable one.

use std::borrow::Cow;
use std::path::PathBuf;

use lifeboat_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::key;
use crate::settings::Lock;

/// The schemes, as an error lists them.
const SCHEMES: &[(&str, &str)] = &[
    ("file", "file:///dir"),
    ("s3", "s3://bucket/prefix"),
    ("minio", "minio://host:port/bucket/prefix"),
    ("b2", "b2://bucket/prefix"),
];

/// A place that a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A local folder.
    Folder(PathBuf),
    /// A bucket and a prefix in it.
    Bucket(BucketAddress),
}

/// A bucket, a prefix in it, and the URL's query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketAddress {
    /// `s3`, `minio` or `b2`.
    pub(crate) scheme: String,
    /// `host:port`, where the scheme has one.
    pub(crate) host: Option<String>,
    pub(crate) bucket: String,
    /// Without slashes at its ends; empty for the bucket itself.
    pub(crate) prefix: String,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) tls: bool,
    pub(crate) lock: Option<Lock>,
}

impl BucketAddress {
    /// The place as a URL, without the query.
    pub(crate) fn url(&self) -> String {
        let host = self.host.as_ref().map(|h| format!("{h}/")).unwrap_or_default();
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("/{}", self.prefix) };
        format!("{}://{host}{}{prefix}", self.scheme, self.bucket)
    }
}

impl Address {
    /// The error for an address whose feature is not compiled in.
    pub(crate) fn not_built(&self) -> Error {
        let (what, feature) = match self {
            Self::Folder(path) => (format!("file://{}", path.display()), "file"),
            Self::Bucket(bucket) => (bucket.url(), "s3"),
        };
        Error::new(ErrorKind::Unsupported, "open", what, format!("this build has no feature \"{feature}\""))
    }
}

/// Reads a sink URL.
pub(crate) fn parse(text: &str) -> Result<Address> {
    let wrong = |subject: &str, why: &str, hint: &str| {
        Error::new(ErrorKind::Config, "use", format!("sink URL {subject}"), why).hint(hint)
    };
    let all_schemes = || {
        let forms: Vec<_> = SCHEMES.iter().map(|(_, form)| *form).collect();
        format!("a sink URL is one of {}", forms.join(", "))
    };
    let Ok(url) = Url::parse(text) else {
        // It may hold a password, so what does not parse is not printed.
        if text.contains('@') {
            return Err(wrong("(not shown)", "it is not a URL", &all_schemes()));
        }
        let hint = if text.starts_with(['/', '.', '~']) {
            format!(
                "for a local folder write its absolute path after file://, as in file:///backups; {}",
                all_schemes()
            )
        } else {
            all_schemes()
        };
        return Err(wrong(&format!("\"{text}\""), "it is not a URL", &hint));
    };
    // From here on only this is printed: no user, no password, no query.
    let shown = format!("\"{}://{}{}\"", url.scheme(), host_and_port(&url), url.path());
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            &shown,
            "it holds credentials",
            "put them in the environment (AWS_*, MINIO_*, B2_*) or in a file that <NAME>_FILE names",
        ));
    }
    if !SCHEMES.iter().any(|(scheme, _)| *scheme == url.scheme()) {
        let near = near(url.scheme(), SCHEMES.iter().map(|(scheme, _)| *scheme));
        let hint = near.map(|n| format!("did you mean {n}://? ")).unwrap_or_default() + &all_schemes();
        return Err(wrong(&shown, &format!("unknown scheme \"{}\"", url.scheme()), &hint));
    }
    if url.fragment().is_some() {
        return Err(wrong(&shown, "it has a '#'", "write %23 for a '#' in a prefix"));
    }
    let path = decode(url.path())
        .filter(|p| !p.contains('\0'))
        .ok_or_else(|| wrong(&shown, "its path is not UTF-8 text", "percent-encode UTF-8"))?;

    let known: &[&str] = match url.scheme() {
        "file" => &[],
        "minio" => &["region", "tls", "lock"],
        _ => &["region", "endpoint", "tls", "lock"],
    };
    let (mut region, mut endpoint, mut tls, mut lock) = (None, None, true, None);
    for (name, value) in url.query_pairs() {
        match &*name {
            name if !known.contains(&name) => {
                let hint = match near(name, known.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None if known.is_empty() => format!("{}:// takes no parameters", url.scheme()),
                    None => format!("{}:// takes {}", url.scheme(), known.join(", ")),
                };
                return Err(wrong(&shown, &format!("unknown parameter \"{name}\""), &hint));
            }
            "tls" => {
                tls = match &*value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(wrong(&shown, "parameter \"tls\" is neither true nor false", "write ?tls=false")),
                }
            }
            "lock" => lock = Some(value.parse()?),
            "region" => region = Some(value.into_owned()),
            _ => endpoint = Some(value.into_owned()),
        }
    }

    if url.scheme() == "file" {
        if url.host_str().is_some_and(|h| !h.is_empty() && h != "localhost") {
            let hint = "an absolute path has three slashes: file:///backups";
            return Err(wrong(&shown, "it names a host", hint));
        }
        if !text.starts_with("file://") {
            return Err(wrong(&shown, "it has no absolute path", "write file:///dir"));
        }
        return Ok(Address::Folder(PathBuf::from(path)));
    }

    let path = path.trim_matches('/');
    let authority = host_and_port(&url);
    let (host, bucket, prefix) = if url.scheme() == "minio" {
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        if authority.is_empty() || bucket.is_empty() {
            let what = if authority.is_empty() { "it names no host" } else { "it names no bucket" };
            return Err(wrong(&shown, what, "write minio://host:port/bucket/prefix"));
        }
        (Some(authority), bucket.to_owned(), prefix)
    } else {
        if authority.is_empty() {
            return Err(wrong(&shown, "it names no bucket", &format!("write {}://bucket/prefix", url.scheme())));
        }
        if url.port().is_some() {
            let hint = "for a store at a host and port write minio://host:port/bucket or set ?endpoint=";
            return Err(wrong(&shown, "a bucket has no port", hint));
        }
        (None, authority, path)
    };
    let prefix = prefix.trim_matches('/').to_owned();
    if !prefix.is_empty() {
        key::check("use", &prefix)?;
    }
    Ok(Address::Bucket(BucketAddress {
        scheme: url.scheme().to_owned(),
        host,
        bucket,
        prefix,
        region,
        endpoint,
        tls,
        lock,
    }))
}

fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The name probably meant.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.map(|k| (strsim::damerau_levenshtein(name, k), k)).filter(|(d, _)| *d <= 2).min().map(|(_, k)| k)
}

/// Undoes percent-encoding. `None` when the result is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(url: &str) -> BucketAddress {
        match parse(url).unwrap() {
            Address::Bucket(b) => b,
            Address::Folder(_) => panic!("{url} is no folder"),
        }
    }

    #[test]
    fn every_form_of_the_design_is_read() {
        assert_eq!(parse("file:///var/my%20backups").unwrap(), Address::Folder("/var/my backups".into()));
        let s3 = bucket("s3://cluster-backups/postgresql-backups/?region=eu-central-1");
        assert_eq!((s3.bucket.as_str(), s3.prefix.as_str()), ("cluster-backups", "postgresql-backups"));
        assert_eq!(
            (s3.region.as_deref(), s3.url().as_str()),
            (Some("eu-central-1"), "s3://cluster-backups/postgresql-backups")
        );
        let minio = bucket("minio://127.0.0.1:9000/backups/a/b?tls=false");
        assert_eq!(
            (minio.host.as_deref(), minio.bucket.as_str(), minio.prefix.as_str()),
            (Some("127.0.0.1:9000"), "backups", "a/b")
        );
        assert!(!minio.tls);
        assert_eq!(minio.url(), "minio://127.0.0.1:9000/backups/a/b");
        assert_eq!(bucket("b2://offsite").prefix, "");
        assert_eq!(bucket("s3://b/%C3%BC%20%25").prefix, "ü %");
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_printed() {
        for url in ["minio://key:hunter2@host:9000/b", "s3://AKIA:hunter2@bucket/p", "s3 key:hunter2@x"] {
            let e = parse(url).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Config);
            assert!(!format!("{e} {e:?}").contains("hunter2"), "{e:?}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_says_what_to_write() {
        for (url, message, hint) in [
            ("min://h/b", "unknown scheme \"min\"", "file:///dir"),
            ("mino://h/b", "unknown scheme \"mino\"", "did you mean minio://?"),
            ("/var/backups", "it is not a URL", "file:///backups"),
            ("file://var/backups", "it names a host", "three slashes"),
            ("minio://h:9000/", "it names no bucket", "minio://host:port/bucket/prefix"),
            ("s3://", "it names no bucket", "s3://bucket/prefix"),
            ("s3://b/p?regoin=x", "unknown parameter \"regoin\"", "\"region\""),
            ("file:///b?tls=false", "unknown parameter \"tls\"", "takes no parameters"),
            ("minio://h/b?tls=no", "neither true nor false", "?tls=false"),
            ("s3://b/a/../c%2F..%2Fd", "a part is \"..\"", ""),
        ] {
            let e = parse(url).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Config, "{url}");
            assert!(e.message().contains(message), "{url}: {e}");
            assert!(e.advice().unwrap_or_default().contains(hint), "{url}: {:?}", e.advice());
        }
    }
}
