//! The stored document: the secrets of one config, as JSON.
//!
//! ```json
//! {"format":"doppler/1","project":"backend","config":"prd","salt":"9f…","count":2,
//! "secrets":{
//! "API_KEY":{"raw":"abc","computed":"abc","rawVisibility":"masked","computedVisibility":"masked","rawValueType":{"type":"string"},"note":""},
//! "URL":{"raw":"https://${HOST}/","computed":"https://example.org/","rawVisibility":"unmasked"}
//! }}
//! ```
//!
//! | field | content |
//! |---|---|
//! | `format` | `doppler/1`, always first |
//! | `project`, `config` | where it was read |
//! | `salt` | 32 random bytes, hexadecimal: the key of the hashes in the proof. It is encrypted with the rest |
//! | `count` | the number of secrets that follow |
//! | `secrets` | the response of `GET /v3/configs/config/secrets`, sorted by name, one line each |
//!
//! That response itself can also be read, and what scripts store: `{"NAME":"value"}`
//! (`doppler secrets download --format json`) and `{"NAME":{"computed":"value"}}` (`doppler secrets --json`).

use std::collections::BTreeMap;
use std::io::Write;

use futures::StreamExt;
use lifeboat_core::{ByteStream, Error, ErrorKind, Result};

use super::api::Scope;
use super::content::Salt;
use super::parser::{Header, Parser};
use super::secret::Secret;
use crate::http::Body;

/// The value of the first field.
pub(super) const VERSION: &str = "doppler/1";

/// The secrets of one config, in memory that is wiped.
#[derive(Debug, Default)]
pub struct Document {
    /// The fields before the secrets.
    pub(super) header: Header,
    /// The secrets by name.
    pub secrets: BTreeMap<String, Secret>,
}

impl Document {
    pub(super) fn new(scope: &Scope, salt: Salt, secrets: BTreeMap<String, Secret>) -> Self {
        let header = Header {
            is_ours: true,
            project: scope.project.clone(),
            config: scope.config.clone(),
            salt: Some(salt),
            count: Some(secrets.len() as u64),
        };
        Self { header, secrets }
    }

    /// Serializes the document for storage.
    pub(super) fn write(&self) -> Result<Body> {
        let mut body = Body::default();
        let written = (|| -> std::io::Result<()> {
            write!(body, "{{\"format\":\"{VERSION}\",\"project\":")?;
            serde_json::to_writer(&mut body, &self.header.project)?;
            write!(body, ",\"config\":")?;
            serde_json::to_writer(&mut body, &self.header.config)?;
            if let Some(salt) = &self.header.salt {
                write!(body, ",\"salt\":\"{}\"", salt.to_hex())?;
            }
            write!(body, ",\"count\":{},\n\"secrets\":{{", self.secrets.len())?;
            for (index, (name, secret)) in self.secrets.iter().enumerate() {
                body.push(if index == 0 { b"\n" } else { b",\n" });
                serde_json::to_writer(&mut body, name)?;
                body.push(b":");
                serde_json::to_writer(&mut body, secret)?;
            }
            body.push(b"\n}}\n");
            Ok(())
        })();
        written.map_err(|e| Error::new(ErrorKind::Internal, "write", "the secrets", e.to_string()))?;
        Ok(body)
    }

    /// Reads a stored document to its end.
    ///
    /// # Errors
    /// The stream's own error; [`ErrorKind::Corrupt`] if it is not such a document, or not all of one;
    /// [`ErrorKind::Decrypt`] if `unauthenticated` decryption has not produced JSON at all.
    pub async fn read(mut stream: ByteStream, unauthenticated: bool) -> Result<Self> {
        let mut secrets = BTreeMap::new();
        let mut parser = Parser::new(unauthenticated);
        while let Some(chunk) = stream.next().await {
            parser.push(&chunk?, &mut |name, secret| drop(secrets.insert(name, secret)))?;
        }
        Ok(Self { header: parser.finish()?, secrets })
    }

    /// Whether the values are known as entered, with references. Backups by scripts have only computed values.
    pub fn has_raw_values(&self) -> bool {
        self.secrets.values().any(|s| s.raw.is_some())
    }

    /// The project and config that it was read from, if it says so.
    pub fn place(&self) -> Option<(&str, &str)> {
        Some((self.header.project.as_deref()?, self.header.config.as_deref()?))
    }
}
