//! An imitation of Backblaze B2's S3 interface in front of MinIO.
//!
//! B2 itself cannot be reached from a test. This server is a proxy for a versioned bucket of a real MinIO and enforces
//! the documented differences of B2. What is imitated, and the sources:
//!
//! | behaviour | source |
//! |---|---|
//! | signature version 4 only; keys are application keys, with capabilities and, if wanted, a name prefix | Backblaze docs, "S3-Compatible API", "Application Keys" |
//! | `501 NotImplemented` for `If-None-Match`/`If-Match` on writes | sathinduga/obsidian-s3-sync-and-backup #78, papra-hq/papra #1166 |
//! | `400 InvalidArgument`, "Unsupported header '…' received for this API call." for `x-amz-checksum-…` and its kin | Backblaze docs, "S3-Compatible API", unsupported features; iterate-ch/cyberduck #16107 |
//! | always versioned: a plain delete only hides | Backblaze docs, "Lifecycle Rules", "File Versions" |
//! | a write into a locked bucket wants `Content-MD5`, and so does DeleteObjects | zmanda/amanda #275, S3 API reference |
//! | `403 AccessDenied`, "not entitled" where a key may not | iterate-ch/cyberduck #14103 |
//! | `503 ServiceUnavailable`, "no tomes available" when busy | mastodon/mastodon #30030 |
//! | `403 AccessDenied` with "… cap exceeded" when a cap of the account is reached | Backblaze docs, "Data Caps and Alerts" |
//! | 10,000 parts; no tags, no policies, no storage classes | Backblaze docs, "S3-Compatible API" |
//!
//! Some of B2's documents, and some reports, say that checksum headers are accepted since 2025. Refusing them is the stricter
//! reading: a client that works here also works there. Not imitated: TLS, other calls for accounts, and that B2 accepts
//! parts of 5,000,000 bytes (MinIO requires 5 MiB).

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::content::fresh_name;
use crate::http::{self, Answer, Head, Reader, parameter};
use crate::minio::Minio;
use crate::signature::{Authorization, resign};
use crate::versions;

/// The region of the imitation, as B2 names its own.
pub const REGION: &str = "us-west-004";

/// Every capability of a key that concerns a bucket's objects.
pub const ALL: &[&str] = &[
    "listBuckets",
    "readBuckets",
    "listFiles",
    "readFiles",
    "writeFiles",
    "deleteFiles",
    "readBucketRetentions",
    "readFileRetentions",
    "writeFileRetentions",
    "bypassGovernance",
];

/// Headers that B2 documents as not supported.
const UNSUPPORTED: &[&str] = &[
    "x-amz-checksum-algorithm",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-mode",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-trailer",
];

/// Settings of a bucket that B2 does not have.
const NOT_IMPLEMENTED: &[&str] =
    &["tagging", "policy", "website", "notification", "accelerate", "requestPayment", "inventory", "metrics", "select"];

/// An application key.
#[derive(Clone, Debug)]
pub struct ApplicationKey {
    /// `keyID`.
    pub id: String,
    /// `applicationKey`.
    pub secret: String,
    capabilities: Vec<String>,
    prefix: String,
}

/// A cap of the account that has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// The cap on stored bytes: writes fail.
    Storage,
    /// The cap on downloaded bytes: reads fail.
    Download,
    /// The cap on calls: everything fails.
    Transactions,
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<String, ApplicationKey>,
    /// How many more calls are refused, and for how many seconds.
    busy: (u64, Option<u32>),
    cap: Option<Cap>,
    lifecycle: Option<String>,
    refused: Vec<String>,
    calls: u64,
}

/// The imitation, with one bucket. It stops when dropped.
#[derive(Debug)]
pub struct B2 {
    port: u16,
    bucket: String,
    key: ApplicationKey,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for B2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Front {
    store: String,
    user: String,
    password: String,
    bucket: String,
    is_locked: bool,
    state: Arc<Mutex<State>>,
}

impl B2 {
    /// Starts the imitation in front of a new bucket of this MinIO, which is versioned like every bucket of B2.
    ///
    /// # Panics
    /// If the bucket cannot be created.
    pub async fn start(minio: &Minio) -> Self {
        let bucket = minio.fresh_bucket().await;
        versions::enable(minio, &bucket).await;
        Self::before(minio, bucket, false).await
    }

    /// The same with a bucket with Object Lock and a default retention of `days` days in governance mode.
    ///
    /// # Panics
    /// If the bucket cannot be created.
    pub async fn start_locked(minio: &Minio, days: u32) -> Self {
        let bucket = fresh_name("bucket");
        let mut head = Head { start: format!("PUT /{bucket} HTTP/1.1"), headers: Vec::new() };
        head.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        head.set("x-amz-bucket-object-lock-enabled", "true");
        head.set("Content-Length", "0");
        resign(&mut head, minio.host(), minio.user(), minio.password(), "us-east-1");
        let reply = http::ask(minio.host(), &head, b"").await.unwrap();
        assert_eq!(reply.head.status(), 200, "{reply:?}");
        let rule = format!(
            "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>{days}</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
        );
        let path = format!("/{bucket}");
        let (status, answer) = minio.request("PUT", &path, &[("object-lock", "")], rule.as_bytes()).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        Self::before(minio, bucket, true).await
    }

    async fn before(minio: &Minio, bucket: String, is_locked: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let front = Arc::new(Front {
            store: minio.host().to_owned(),
            user: minio.user().to_owned(),
            password: minio.password().to_owned(),
            bucket: bucket.clone(),
            is_locked,
            state: state.clone(),
        });
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => {
                        let front = front.clone();
                        connections.spawn(async move { front.serve(stream).await });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        let key = new_key(&state, ALL, "");
        Self { port, bucket, key, state, task }
    }

    /// The endpoint, as an URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The URL of a sink in the bucket. The endpoint goes beside it.
    pub fn sink_url(&self) -> String {
        format!("b2://{}?region={REGION}", self.bucket)
    }

    /// A key that may do everything in the bucket.
    pub fn key(&self) -> &ApplicationKey {
        &self.key
    }

    /// A key with these capabilities, for names that begin with `prefix`.
    pub fn restricted(&self, capabilities: &[&str], prefix: &str) -> ApplicationKey {
        new_key(&self.state, capabilities, prefix)
    }

    /// Refuses the next calls as B2 does when busy.
    pub fn be_busy(&self, calls: u64, retry_after: Option<u32>) {
        self.state.lock().unwrap().busy = (calls, retry_after);
    }

    /// Sets which cap has been reached, if any.
    pub fn reach(&self, cap: Option<Cap>) {
        self.state.lock().unwrap().cap = cap;
    }

    /// Sets the response of `GET ?lifecycle`: the XML of a `LifecycleConfiguration`.
    pub fn set_lifecycle(&self, xml: Option<String>) {
        self.state.lock().unwrap().lifecycle = xml;
    }

    /// What was refused because B2 does not support it, one line each. Must be empty for requests meant for B2.
    pub fn refused(&self) -> Vec<String> {
        self.state.lock().unwrap().refused.clone()
    }

    /// The number of calls so far: B2 charges for them.
    pub fn calls(&self) -> u64 {
        self.state.lock().unwrap().calls
    }
}

fn new_key(state: &Mutex<State>, capabilities: &[&str], prefix: &str) -> ApplicationKey {
    let mut random = [0; 26];
    getrandom::fill(&mut random).expect("the system has randomness");
    let key = ApplicationKey {
        id: format!("004{}", hex::encode(&random[..11])),
        secret: format!("K004{}", hex::encode(&random[11..])),
        capabilities: capabilities.iter().map(|&c| c.to_owned()).collect(),
        prefix: prefix.to_owned(),
    };
    state.lock().unwrap().keys.insert(key.id.clone(), key.clone());
    key
}

impl Front {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.into_split();
        let mut reader = Reader::new(read);
        while let Some(head) = reader.head().await? {
            let body = reader.body(Some(head.length().unwrap_or_default())).await?;
            let method = head.target().0.to_owned();
            let answer = match self.refuse(&head, &body) {
                Some(refusal) => refusal,
                None => self.ask(head, &body).await?,
            };
            // B2 says nothing beside the status where there is no body.
            answer.send(&mut write, &method).await?;
        }
        Ok(())
    }

    async fn ask(&self, mut head: Head, body: &[u8]) -> io::Result<Answer> {
        resign(&mut head, &self.store, &self.user, &self.password, "us-east-1");
        let mut answer = http::ask(&self.store, &head, body).await?;
        answer.head.headers.retain(|(name, _)| {
            let name = name.to_ascii_lowercase();
            !name.starts_with("x-minio-") && !name.starts_with("x-amz-checksum-") && name != "server"
        });
        Ok(answer)
    }

    /// What B2 answers instead of doing it.
    fn refuse(&self, head: &Head, body: &[u8]) -> Option<Answer> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        let (left, retry_after) = state.busy;
        if left > 0 {
            state.busy.0 -= 1;
            let busy = Answer::error(503, "ServiceUnavailable", "no tomes available");
            return Some(match retry_after {
                Some(seconds) => busy.with("Retry-After", seconds.to_string()),
                None => busy,
            });
        }
        if head.header("authorization").is_some_and(|a| a.starts_with("AWS ")) {
            let why = "The V2 signature authorization mechanism is not supported. Please use AWS4-HMAC-SHA256.";
            return Some(Answer::error(400, "InvalidRequest", why));
        }
        let Some(authorization) = Authorization::of(head) else {
            return Some(Answer::error(403, "AccessDenied", "Unauthenticated requests are not allowed for this api"));
        };
        let Some(key) = state.keys.get(&authorization.key).cloned() else {
            let well_formed = authorization.key.len() == 25 && authorization.key.bytes().all(|b| b.is_ascii_hexdigit());
            let why = match well_formed {
                true => format!("The key '{}' is not valid", authorization.key),
                false => "Malformed Access Key Id".to_owned(),
            };
            return Some(Answer::error(403, "InvalidAccessKeyId", &why));
        };
        if !authorization.is_by(head, &key.secret, REGION) {
            return Some(Answer::error(403, "SignatureDoesNotMatch", "Signature validation failed"));
        }
        if let Some(answer) = unsupported(head) {
            let (method, path, query) = head.target();
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            state.refused.push(format!("{method} {path}?{query}: {text}"));
            return Some(answer);
        }
        self.not_entitled(head, body, &key).or_else(|| capped(head, state.cap)).or_else(|| {
            let (method, _, query) = head.target();
            if parameter(query, "lifecycle").is_some() && method == "GET" {
                return Some(match &state.lifecycle {
                    Some(xml) => Answer::xml(200, xml.clone()),
                    None => Answer::error(
                        404,
                        "NoSuchLifecycleConfiguration",
                        "The lifecycle configuration does not exist.",
                    ),
                });
            }
            self.lacks_hash(head)
        })
    }

    /// A key that may not, a name outside of its prefix, another bucket.
    fn not_entitled(&self, head: &Head, body: &[u8], key: &ApplicationKey) -> Option<Answer> {
        let (method, path, query) = head.target();
        let has = |name: &str| parameter(query, name).is_some();
        let path = http::decode(path);
        let (bucket, name) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        let denied = || Some(Answer::error(403, "AccessDenied", "not entitled"));
        let may = |capability: &str| key.capabilities.iter().any(|c| c == capability);
        if bucket.is_empty() {
            return if may("listBuckets") { None } else { denied() };
        }
        if bucket != self.bucket {
            // A key of one bucket learns nothing of another one.
            let why = format!("The specified bucket does not exist: {bucket}");
            return Some(Answer::error(404, "NoSuchBucket", &why));
        }
        let sets_lock = head.headers.iter().any(|(n, _)| n.to_ascii_lowercase().starts_with("x-amz-object-lock-"));
        let mut needed: Vec<&str> = match (method, name.is_empty()) {
            ("POST", true) if has("delete") => vec!["writeFiles", "deleteFiles"],
            ("GET" | "HEAD", true) if has("object-lock") => vec!["readBucketRetentions"],
            ("GET", true) if has("versioning") || has("lifecycle") || has("location") || has("acl") => {
                vec!["listBuckets"]
            }
            ("HEAD", true) => vec!["listBuckets"],
            ("GET", true) => vec!["listFiles"],
            (_, true) => vec!["writeBuckets"],
            ("GET", false) if has("retention") => vec!["readFileRetentions"],
            ("PUT", false) if has("retention") => vec!["writeFileRetentions"],
            ("GET" | "HEAD", false) => vec!["readFiles"],
            ("DELETE", false) if has("uploadId") => vec!["writeFiles"],
            ("DELETE", false) => vec!["writeFiles", "deleteFiles"],
            _ => vec!["writeFiles"],
        };
        if head.header("x-amz-copy-source").is_some() {
            needed.push("readFiles");
        }
        if sets_lock {
            needed.push("writeFileRetentions");
        }
        if head.header("x-amz-bypass-governance-retention").is_some() {
            needed.push("bypassGovernance");
        }
        if !needed.into_iter().all(may) {
            return denied();
        }
        let mut names = Vec::new();
        if !name.is_empty() {
            names.push(name.to_owned());
        } else if needs_prefix(method, query) {
            names.push(parameter(query, "prefix").unwrap_or_default());
        } else if has("delete") {
            let text = String::from_utf8_lossy(body);
            names.extend(text.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once('<')?.0.to_owned())));
        }
        if names.iter().all(|name| name.starts_with(&key.prefix)) { None } else { denied() }
    }

    fn lacks_hash(&self, head: &Head) -> Option<Answer> {
        let (method, path, query) = head.target();
        let has = |name: &str| parameter(query, name).is_some();
        let has_md5 = head.header("content-md5").is_some();
        let writes = method == "PUT" && path.trim_start_matches('/').contains('/') && !has("retention");
        let is_copy = head.header("x-amz-copy-source").is_some();
        let sets_lock = head.headers.iter().any(|(n, _)| n.to_ascii_lowercase().starts_with("x-amz-object-lock-"));
        if writes && !is_copy && !has_md5 && (self.is_locked || sets_lock) {
            let why = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
            return Some(Answer::error(400, "InvalidRequest", why));
        }
        if method == "POST" && has("delete") && !has_md5 {
            let why = "Missing required header for this request: Content-MD5";
            return Some(Answer::error(400, "InvalidRequest", why));
        }
        None
    }
}

fn needs_prefix(method: &str, query: &str) -> bool {
    let has = |name: &str| parameter(query, name).is_some();
    method == "GET" && !["versioning", "lifecycle", "location", "acl", "object-lock"].into_iter().any(has)
}

/// What B2 does not have.
fn unsupported(head: &Head) -> Option<Answer> {
    let (method, path, query) = head.target();
    let bucket_only = !path.trim_matches('/').contains('/');
    for (name, _) in &head.headers {
        let name = name.to_ascii_lowercase();
        if UNSUPPORTED.contains(&name.as_str()) {
            let why = format!("Unsupported header '{name}' received for this API call.");
            return Some(Answer::error(400, "InvalidArgument", &why));
        }
        let conditional = matches!(name.as_str(), "if-none-match" | "if-match") && matches!(method, "PUT" | "POST");
        if conditional || name == "x-amz-tagging" || name == "x-amz-copy-source-if-none-match" {
            let why = "A header you provided implies functionality that is not implemented";
            return Some(Answer::error(501, "NotImplemented", why));
        }
        if name == "x-amz-storage-class" && head.header(&name) != Some("STANDARD") {
            return Some(Answer::error(400, "InvalidStorageClass", "The storage class you specified is not valid"));
        }
    }
    let is_post_form = method == "POST" && bucket_only && parameter(query, "delete").is_none();
    if is_post_form || NOT_IMPLEMENTED.iter().any(|name| parameter(query, name).is_some()) {
        let why = "A header or query you provided requested a function that is not implemented";
        return Some(Answer::error(501, "NotImplemented", why));
    }
    if let Some(number) = parameter(query, "partNumber")
        && !number.parse::<u32>().is_ok_and(|n| (1..=10_000).contains(&n))
    {
        let why = "Part number must be an integer between 1 and 10000, inclusive";
        return Some(Answer::error(400, "InvalidArgument", why));
    }
    None
}

fn capped(head: &Head, cap: Option<Cap>) -> Option<Answer> {
    let method = head.target().0;
    let why = match cap? {
        Cap::Transactions => "Transaction cap exceeded. See the Caps & Alerts page to increase your cap.",
        Cap::Storage if matches!(method, "PUT" | "POST") => {
            "Cannot upload files, storage cap exceeded. See the Caps & Alerts page to increase your cap."
        }
        Cap::Download if method == "GET" => {
            "Cannot download file, download bandwidth or transaction (Class B) cap exceeded. See the Caps & Alerts page to increase your cap."
        }
        _ => return None,
    };
    Some(Answer::error(403, "AccessDenied", &why.replace('&', "&amp;")))
}
