//! MinIO for tests: the shared server, or a private one that a test may kill.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::content::fresh_name;

/// The region of every request.
const REGION: &str = "us-east-1";

/// A MinIO server.
#[derive(Debug)]
pub struct Minio {
    host: String,
    user: String,
    password: String,
    own: Option<Own>,
}

/// Credentials of [`Minio::restricted`].
#[derive(Clone, Debug)]
pub struct TemporaryCredentials {
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
    /// The session token.
    pub session_token: String,
}

/// What belongs to a server of a test's own.
#[derive(Debug)]
struct Own {
    binary: String,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: this test needs MinIO; run `cargo xtask test`, or `cargo xtask services` beside it")
    })
}

impl Minio {
    /// The shared server.
    ///
    /// # Panics
    /// If there is none: a missing service fails a test instead of skipping it.
    pub fn shared() -> Self {
        let url = variable("LIFEBOAT_TEST_MINIO_URL");
        let host = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url} is not http://host:port"));
        Self {
            host: host.trim_end_matches('/').to_owned(),
            user: variable("LIFEBOAT_TEST_MINIO_USER"),
            password: variable("LIFEBOAT_TEST_MINIO_PASSWORD"),
            own: None,
        }
    }

    /// Starts a private server on a free port, with its files in a scratch folder. Dropping it removes both.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Self {
        let binary = variable("LIFEBOAT_TEST_MINIO_BIN");
        let folder = tempfile::Builder::new().prefix("lifeboat-minio-").tempdir().unwrap();
        let (user, password) = (fresh_name("user"), fresh_name("password"));
        let own = Some(Own { binary, folder, process: None });
        let mut server = Self { host: String::new(), user, password, own };
        // Another process can take the port between its choice and the start.
        for _ in 0..5 {
            server.host = format!("127.0.0.1:{}", free_port());
            if server.run().await {
                return server;
            }
        }
        panic!("MinIO does not start; the end of its log:\n{}", server.log());
    }

    /// Kills the server, as a crash does. Its files stay.
    ///
    /// # Panics
    /// When the server is not the test's own.
    pub fn kill(&mut self) {
        let own = self.own.as_mut().expect("only a server of the test's own is killed");
        if let Some(mut process) = own.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts a killed server again, on the same port and files.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.kill();
        assert!(self.run().await, "MinIO does not start again; the end of its log:\n{}", self.log());
    }

    /// `host:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The access key.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The secret key.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The URL of a sink in a bucket of this server.
    pub fn sink_url(&self, bucket: &str) -> String {
        format!("minio://{}/{bucket}?tls=false", self.host)
    }

    /// A new bucket with a random name.
    ///
    /// # Panics
    /// When the server does not make it.
    pub async fn fresh_bucket(&self) -> String {
        let bucket = fresh_name("bucket");
        let (status, body) = self.request("PUT", &format!("/{bucket}"), &[], b"").await.unwrap();
        assert_eq!(status, 200, "{body}");
        bucket
    }

    /// The ids of the unfinished uploads of one key. (MinIO lists them only for a whole key.)
    ///
    /// # Panics
    /// When the server does not list them.
    pub async fn unfinished_uploads(&self, bucket: &str, key: &str) -> Vec<String> {
        let query = [("prefix", key), ("uploads", "")];
        let (status, body) = self.request("GET", &format!("/{bucket}"), &query, b"").await.unwrap();
        assert_eq!(status, 200, "{body}");
        body.split("<UploadId>").skip(1).filter_map(|rest| Some(rest.split_once('<')?.0.to_owned())).collect()
    }

    /// Sends a signed request, and returns the answer's status and body. `path` and `query` are sent as they are but
    /// for percent-encoding.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<(u16, String)> {
        self.request_of("s3", method, path, query, &[], body).await
    }

    /// A new bucket with a random name and Object Lock. With a mode (`GOVERNANCE`, `COMPLIANCE`) it holds everything that is
    /// written for a day.
    ///
    /// # Panics
    /// When the server does not make it.
    pub async fn locked_bucket(&self, default: Option<&str>) -> String {
        let bucket = fresh_name("locked");
        let lock = [("x-amz-bucket-object-lock-enabled", "true".to_owned())];
        let (status, body) = self.request_of("s3", "PUT", &format!("/{bucket}"), &[], &lock, b"").await.unwrap();
        assert_eq!(status, 200, "{body}");
        if let Some(mode) = default {
            let rule = format!("<Rule><DefaultRetention><Mode>{mode}</Mode><Days>1</Days></DefaultRetention></Rule>");
            let enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>";
            let text = format!("<ObjectLockConfiguration>{enabled}{rule}</ObjectLockConfiguration>");
            self.configure(&bucket, "object-lock", &text).await;
        }
        bucket
    }

    /// Sets one of the settings of a bucket or an object (`lifecycle`, `object-lock`, `legal-hold`) to an XML document. A resource
    /// is `bucket` or `bucket/key`.
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn configure(&self, resource: &str, setting: &str, xml: &str) {
        let checksum = BASE64_STANDARD.encode(Sha256::digest(xml));
        let headers = [("x-amz-checksum-sha256", checksum)];
        let query = [(setting, "")];
        let (status, body) =
            self.request_of("s3", "PUT", &format!("/{resource}"), &query, &headers, xml.as_bytes()).await.unwrap();
        assert_eq!(status, 200, "{body}");
    }

    /// Temporary credentials that may do what an IAM policy (JSON) says, and nothing else.
    ///
    /// # Panics
    /// When the server does not give any.
    pub async fn restricted(&self, policy: &str) -> TemporaryCredentials {
        let policy = encode(policy, b"");
        let form = format!("Action=AssumeRole&Version=2011-06-15&DurationSeconds=900&Policy={policy}");
        let (status, body) = self.request_of("sts", "POST", "/", &[], &[], form.as_bytes()).await.unwrap();
        assert_eq!(status, 200, "{body}");
        let field = |name: &str| {
            let (_, rest) = body.split_once(&format!("<{name}>")).unwrap();
            rest.split_once('<').unwrap().0.to_owned()
        };
        TemporaryCredentials {
            access_key: field("AccessKeyId"),
            secret_key: field("SecretAccessKey"),
            session_token: field("SessionToken"),
        }
    }

    async fn request_of(
        &self,
        service: &str,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        unsigned: &[(&str, String)],
        body: &[u8],
    ) -> io::Result<(u16, String)> {
        let more: String = unsigned.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let now = Timestamp::now().to_zoned(TimeZone::UTC);
        let (day, time) = (now.strftime("%Y%m%d").to_string(), now.strftime("%Y%m%dT%H%M%SZ").to_string());
        let mut pairs: Vec<_> = query.iter().map(|(k, v)| format!("{}={}", encode(k, b""), encode(v, b""))).collect();
        pairs.sort();
        let (path, query, hash) = (encode(path, b"/"), pairs.join("&"), hex::encode(Sha256::digest(body)));
        let names = "host;x-amz-content-sha256;x-amz-date";
        let headers = format!("host:{}\nx-amz-content-sha256:{hash}\nx-amz-date:{time}\n", self.host);
        let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{hash}");
        let scope = format!("{day}/{REGION}/{service}/aws4_request");
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
        let mut key = format!("AWS4{}", self.password).into_bytes();
        for step in [day.as_str(), REGION, service, "aws4_request"] {
            key = hmac(&key, step.as_bytes());
        }
        let signature = hex::encode(hmac(&key, text.as_bytes()));
        let user = &self.user;
        let head = format!(
            "{method} {path}?{query} HTTP/1.0\r\nHost: {}\r\nx-amz-content-sha256: {hash}\r\nx-amz-date: {time}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={user}/{scope}, SignedHeaders={names}, Signature={signature}\r\n\
             {more}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        let mut stream = TcpStream::connect(&self.host).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok((status, body.to_owned()))
    }

    /// Starts the process and waits until it answers. `false` when it ends before.
    async fn run(&mut self) -> bool {
        let own = self.own.as_mut().expect("only a server of the test's own is started");
        let log = File::options().create(true).append(true).open(own.folder.path().join("log")).unwrap();
        let mut process = Command::new(&own.binary)
            .args(["server", "--quiet", "--address", &self.host])
            .arg(own.folder.path().join("data"))
            .env("MINIO_ROOT_USER", &self.user)
            .env("MINIO_ROOT_PASSWORD", &self.password)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .env("HOME", own.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", own.binary));
        for _ in 0..600 {
            if process.try_wait().unwrap().is_some() {
                return false;
            }
            if self.request("GET", "/", &[], b"").await.is_ok_and(|(status, _)| status == 200) {
                self.own.as_mut().expect("checked above").process = Some(process);
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let _ = process.kill();
        let _ = process.wait();
        false
    }

    fn log(&self) -> String {
        let own = self.own.as_ref().expect("only a server of the test's own has a log");
        let log = std::fs::read_to_string(own.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        if let Some(mut process) = self.own.as_mut().and_then(|own| own.process.take()) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// An unused port of the loopback interface.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn encode(text: &str, also: &[u8]) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            out.push(byte.into());
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

/// HMAC-SHA-256 (RFC 2104).
pub(crate) fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    match key.len() {
        0..=64 => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let inner = Sha256::new_with_prefix(block.map(|b| b ^ 0x36)).chain_update(text).finalize();
    Sha256::new_with_prefix(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(hmac(b"Jefe", b"what do ya want for nothing?")), expected);
    }
}
