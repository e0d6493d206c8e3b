//! AWS Signature Version 4, as a server checks it and as a client makes it. Only for S3, where a path is encoded once.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use crate::http::Head;
use crate::minio::hmac;

/// What an `Authorization` header says.
#[derive(Clone, Debug)]
pub(crate) struct Authorization {
    pub(crate) key: String,
    day: String,
    region: String,
    service: String,
    signed: String,
    signature: String,
}

impl Authorization {
    /// Reads the header. `None` when there is none, or one of another form.
    pub(crate) fn of(head: &Head) -> Option<Self> {
        let rest = head.header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let field = |name: &str| {
            rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        let credential = field("Credential")?;
        let mut scope = credential.split('/').map(str::to_owned);
        Some(Self {
            key: scope.next()?,
            day: scope.next()?,
            region: scope.next()?,
            service: scope.next()?,
            signed: field("SignedHeaders")?,
            signature: field("Signature")?,
        })
    }

    /// Whether a client that knows `secret` has signed this request for this region.
    pub(crate) fn is_by(&self, head: &Head, secret: &str, region: &str) -> bool {
        let time = head.header("x-amz-date").unwrap_or_default();
        let expected = sign(head, &self.signed, secret, &self.day, time, region, &self.service);
        self.region == region && time.starts_with(&self.day) && expected == self.signature
    }
}

/// Signs a request again for another server, in place of its old signature.
pub(crate) fn resign(head: &mut Head, host: &str, user: &str, secret: &str, region: &str) {
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let (day, time) = (now.strftime("%Y%m%d").to_string(), now.strftime("%Y%m%dT%H%M%SZ").to_string());
    head.set("Host", host);
    head.set("x-amz-date", &time);
    let is_signed = |name: &str| name == "host" || name == "content-md5" || name.starts_with("x-amz-");
    let mut signed: Vec<String> =
        head.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).filter(|name| is_signed(name)).collect();
    signed.sort();
    let signed = signed.join(";");
    let signature = sign(head, &signed, secret, &day, &time, region, "s3");
    let scope = format!("{day}/{region}/s3/aws4_request");
    let value = format!("AWS4-HMAC-SHA256 Credential={user}/{scope}, SignedHeaders={signed}, Signature={signature}");
    head.set("Authorization", value);
}

fn sign(head: &Head, signed: &str, secret: &str, day: &str, time: &str, region: &str, service: &str) -> String {
    let (method, path, query) = head.target();
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    pairs.sort();
    let mut headers = String::new();
    for name in signed.split(';') {
        let value = head.header(name).unwrap_or_default();
        headers += &format!("{name}:{}\n", value.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let hash = head.header("x-amz-content-sha256").unwrap_or_default();
    let canonical = format!("{method}\n{path}\n{}\n{headers}\n{signed}\n{hash}", pairs.join("&"));
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let mut key = format!("AWS4{secret}").into_bytes();
    for step in [day, region, service, "aws4_request"] {
        key = hmac(&key, step.as_bytes());
    }
    hex::encode(hmac(&key, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the S3 API reference, "Signature Calculations for the Authorization Header: GET Object".
    #[test]
    fn the_signature_is_that_of_the_reference() {
        let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut head = Head {
            start: "GET /test.txt HTTP/1.1".to_owned(),
            headers: vec![
                header("Host", "examplebucket.s3.amazonaws.com"),
                header("Range", "bytes=0-9"),
                header("x-amz-content-sha256", hash),
                header("x-amz-date", "20130524T000000Z"),
            ],
        };
        head.set(
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        );
        let authorization = Authorization::of(&head).unwrap();
        assert_eq!(authorization.key, "AKIAIOSFODNN7EXAMPLE");
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        assert!(authorization.is_by(&head, secret, "us-east-1"));
        assert!(!authorization.is_by(&head, secret, "us-west-2"));
        assert!(!authorization.is_by(&head, "another", "us-east-1"));
        head.set("Range", "bytes=0-10");
        assert!(!authorization.is_by(&head, secret, "us-east-1"));
    }
}
