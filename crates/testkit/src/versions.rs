//! What a versioned bucket really holds: every version, and every marker that hides one.

use crate::minio::Minio;

/// One version of an object, or a delete marker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The key in the bucket.
    pub key: String,
    /// Its id; `null` in a bucket without versions.
    pub id: String,
    /// Whether it is a delete marker.
    pub is_marker: bool,
    /// Whether it is what a plain read sees.
    pub is_latest: bool,
    /// Bytes; 0 for a marker.
    pub bytes: u64,
}

/// Every version in a bucket, by key, newest first; past any sink.
///
/// # Panics
/// When the server does not list them.
pub async fn of(minio: &Minio, bucket: &str) -> Vec<Version> {
    let mut found = Vec::new();
    let (mut key_marker, mut id_marker) = (String::new(), String::new());
    loop {
        let mut query = vec![("versions", "")];
        if !key_marker.is_empty() {
            query.extend([("key-marker", key_marker.as_str()), ("version-id-marker", id_marker.as_str())]);
        }
        let (status, body) = minio.request("GET", &format!("/{bucket}"), &query, b"").await.unwrap();
        assert_eq!(status, 200, "{body}");
        let mut rest = body.as_str();
        while let Some(at) = rest.find("<Version>").into_iter().chain(rest.find("<DeleteMarker>")).min() {
            rest = &rest[at..];
            let is_marker = rest.starts_with("<DeleteMarker>");
            let end = rest.find(if is_marker { "</DeleteMarker>" } else { "</Version>" }).unwrap();
            let (entry, after) = rest.split_at(end);
            found.push(Version {
                key: unescape(field(entry, "Key").unwrap()),
                id: field(entry, "VersionId").unwrap_or("null").to_owned(),
                is_marker,
                is_latest: field(entry, "IsLatest") == Some("true"),
                bytes: field(entry, "Size").and_then(|s| s.parse().ok()).unwrap_or_default(),
            });
            rest = after;
        }
        match (field(&body, "IsTruncated"), field(&body, "NextKeyMarker")) {
            (Some("true"), Some(key)) => {
                key_marker = unescape(key);
                id_marker = field(&body, "NextVersionIdMarker").unwrap_or_default().to_owned();
            }
            _ => return found,
        }
    }
}

/// Makes a bucket keep versions.
///
/// # Panics
/// When the server does not do so.
pub async fn enable(minio: &Minio, bucket: &str) {
    let body = b"<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
    let (status, answer) = minio.request("PUT", &format!("/{bucket}"), &[("versioning", "")], body).await.unwrap();
    assert_eq!(status, 200, "{answer}");
}

fn field<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0)
}

fn unescape(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&#34;", "\"").replace("&#39;", "'");
    text.replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}
