//! The sink for object stores that speak S3: Amazon S3, MinIO, Backblaze B2 and others.
//!
//! `object_store` handles credentials, signatures and downloads. This module adds the rest: cutting a
//! stream into parts, parallel uploads with retries for each part, locks on new objects, the note that lets a later run clean
//! up after a killed one, listings that survive any key, versions and their deletion, resumed downloads, and errors
//! that say what to do.
//!
//! Stores differ only in their [`Profile`], which is data; no other code asks which store it is.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use lifeboat_core::name::join_key;
use lifeboat_core::sink::{Deleted, Held, Hidden, PutOptions, Upkeep};
use lifeboat_core::{ByteStream, Check, Error, ErrorKind, ObjectInfo, Result, Sink};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::HttpClient;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, RetryConfig};
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;

use crate::address::BucketAddress;
use crate::key::{self, Notes};
use crate::settings::{Credentials, Lock, Settings};
use failure::{Action, Place, says_missing};
use lock::BucketLock;
use retry::Pacing;
use versions::Versioning;
use wire::Wire;

mod adapt;
mod delete;
mod download;
mod failure;
mod inspect;
mod list;
mod lock;
mod look;
mod parts;
mod profile;
mod request;
mod retry;
mod upload;
mod versions;
mod wire;

pub use parts::PartSchedule;
pub use profile::{Profile, Rights};

/// A bucket, or a prefix in one, as a sink.
#[derive(Clone)]
pub struct S3Sink(Arc<Store>);

/// What every request needs.
#[derive(Clone)]
struct Store {
    store: AmazonS3,
    notes: Notes,
    client: HttpClient,
    place: Place,
    pacing: Arc<Pacing>,
    /// For messages and reports.
    url: String,
    /// Where the bucket's own requests go.
    bucket_url: String,
    region: String,
    /// The prefix of every key, without slashes at its ends.
    base: String,
    schedule: PartSchedule,
    memory: u64,
    lock: Option<Lock>,
    known: Arc<Known>,
    /// For a simulation of more bytes than can be hashed.
    #[cfg(test)]
    unhashed: bool,
}

/// What is known about the bucket; each fact is asked for once.
#[derive(Debug, Default)]
struct Known {
    versioning: OnceCell<Versioning>,
    lock: OnceCell<BucketLock>,
    /// This key may not list versions.
    versions_denied: AtomicBool,
    /// The store does not take `If-None-Match`.
    conditions_refused: AtomicBool,
    /// The store does not take `x-amz-checksum-…`.
    checksums_refused: AtomicBool,
    /// The store deletes one object at a time.
    deletes_one_by_one: AtomicBool,
}

impl S3Sink {
    pub(crate) fn open(address: &BucketAddress, settings: &Settings) -> Result<Self> {
        let profile = Profile::of_scheme(&address.scheme);
        let url = address.url();
        let wrong = |why: String| Error::new(ErrorKind::Config, "open", &url, why);
        let environment = &settings.environment;

        let mut builder = AmazonS3Builder::new();
        if profile.scheme == Profile::AWS.scheme {
            for (name, value) in environment.starting_with("AWS_") {
                if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                    builder = builder.with_config(key, value);
                }
            }
        }

        let endpoint = settings.endpoint.clone().or_else(|| address.endpoint.clone());
        let endpoint = match (endpoint, profile.scheme == Profile::AWS.scheme) {
            (None, false) => profile.endpoint_variable.and_then(|name| environment.get(name)),
            (endpoint, _) => endpoint,
        };
        let region = settings.region.clone().or_else(|| address.region.clone());
        let region = region.or_else(|| environment.get(profile.region_variable));
        let region = match region.or_else(|| endpoint.as_deref().and_then(|e| profile.region_of(e))) {
            Some(region) => region,
            None => builder
                .get_config_value(&AmazonS3ConfigKey::Region)
                .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::DefaultRegion))
                .or_else(|| profile.default_region.map(str::to_owned))
                .ok_or_else(|| {
                    let or = profile.endpoint_variable.map(|name| format!(" or {name}")).unwrap_or_default();
                    wrong("the bucket's region is not known".to_owned()).hint(format!(
                        "add ?region=us-west-004 (the middle of the bucket's endpoint) or set {}{or}",
                        profile.region_variable
                    ))
                })?,
        };
        // It becomes part of a host's name.
        if region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(wrong(format!("\"{region}\" is not a region")));
        }

        let scheme = if address.tls { "https" } else { "http" };
        let endpoint = endpoint.unwrap_or_else(|| match (&address.host, profile.scheme) {
            (Some(host), _) => format!("{scheme}://{host}"),
            (None, "b2") => format!("https://s3.{region}.backblazeb2.com"),
            (None, _) => builder
                .get_config_value(&AmazonS3ConfigKey::Endpoint)
                .unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com")),
        });
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        match url::Url::parse(&endpoint) {
            Ok(e) if !e.username().is_empty() || e.password().is_some() => {
                return Err(wrong("the endpoint holds credentials".to_owned()));
            }
            Ok(e) if e.scheme() == "https" => {}
            Ok(e) if e.scheme() == "http" => {
                // Plain http is a decision, not an accident; an explicit setting is one.
                let allowed =
                    builder.get_config_value(&AmazonS3ConfigKey::Client(object_store::ClientConfigKey::AllowHttp));
                if settings.endpoint.is_none() && address.tls && allowed.as_deref() != Some("true") {
                    return Err(wrong(format!("the endpoint {endpoint} does not use TLS"))
                        .hint("add ?tls=false to the URL if that is intended"));
                }
            }
            _ => {
                return Err(wrong(format!("the endpoint \"{endpoint}\" is not a URL")).hint("write https://host:port"));
            }
        }

        let pacing = Pacing::new(settings.retry.limited_by(&settings.environment)?);
        let wire = Wire::new(endpoint.clone(), pacing.clone()).map_err(|e| {
            wrong(format!("no HTTP client: {}", failure::chain(&e))).hint(
                "are there certificates of authorities on this machine? Install ca-certificates, or name a file of them in \
                 SSL_CERT_FILE",
            )
        })?;
        let credentials = match &settings.credentials {
            Some(credentials) => Some(credentials.clone()),
            None => credentials_of(settings, &profile)?,
        };
        let keys = credentials.as_ref().map_or_else(
            || ("the access key".to_owned(), "the secret key".to_owned()),
            |credentials| {
                credentials.places.clone().unwrap_or_else(|| {
                    ("the access key that was given".to_owned(), "the secret key that was given".to_owned())
                })
            },
        );
        match credentials {
            Some(credentials) => {
                builder = builder
                    .with_access_key_id(credentials.access_key)
                    .with_secret_access_key(credentials.secret_key.expose_secret());
                if let Some(token) = &credentials.session_token {
                    builder = builder.with_token(token.expose_secret());
                }
            }
            // Only AWS has more ways: web identity, container and instance roles.
            None if profile.scheme != Profile::AWS.scheme => {
                let names: Vec<_> =
                    profile.variables.iter().map(|(key, secret)| format!("{key} and {secret}")).collect();
                return Err(wrong("no credentials are set".to_owned())
                    .hint(format!("set {} (or <NAME>_FILE)", names.join(", or "))));
            }
            None => {}
        }
        builder = builder
            .with_bucket_name(&address.bucket)
            .with_region(&region)
            .with_endpoint(&endpoint)
            .with_virtual_hosted_style_request(false)
            // Retries are decided in one place, by our own errors.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_http_connector(wire.clone());
        let store = builder.build().map_err(|e| wrong(failure::chain(&e)))?;
        Ok(Self(Arc::new(Store {
            store,
            notes: Notes::default(),
            client: wire.client(),
            bucket_url: format!("{endpoint}/{}", address.bucket),
            place: Place {
                profile,
                endpoint,
                bucket: address.bucket.clone(),
                region: region.clone(),
                prefix: address.prefix.clone(),
                keys,
            },
            pacing,
            url,
            region,
            base: address.prefix.clone(),
            schedule: PartSchedule::new(&profile, settings.first_part),
            memory: settings.memory,
            lock: settings.lock.or(address.lock),
            known: Arc::default(),
            #[cfg(test)]
            unhashed: false,
        })))
    }

    /// How this store differs from others.
    pub fn profile(&self) -> &Profile {
        &self.0.place.profile
    }
}

/// Credentials that the environment holds for this kind of store.
fn credentials_of(settings: &Settings, profile: &Profile) -> Result<Option<Credentials>> {
    let environment = &settings.environment;
    for (key_name, secret_name) in profile.variables {
        match (environment.get_or_file(key_name)?, environment.get_or_file(secret_name)?) {
            (Some(key), Some(secret)) => {
                let place = |name: &str| match environment.get(name) {
                    Some(_) => name.to_owned(),
                    None => format!("the file that {name}_FILE names"),
                };
                let mut credentials = Credentials::new(key, secret).from_places(place(key_name), place(secret_name));
                if let Some(name) = profile.token_variable {
                    credentials.session_token = environment.get_or_file(name)?.map(Into::into);
                }
                return Ok(Some(credentials));
            }
            (None, None) => {}
            (key, _) => {
                let (set, missing) = if key.is_some() { (key_name, secret_name) } else { (secret_name, key_name) };
                return Err(Error::new(
                    ErrorKind::Config,
                    "use",
                    format!("{} credentials", profile.name),
                    format!("{set} is set, but {missing} is not"),
                ));
            }
        }
    }
    Ok(None)
}

impl fmt::Debug for S3Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Sink")
            .field("url", &self.0.url)
            .field("endpoint", &self.0.place.endpoint)
            .field("region", &self.0.region)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// A key or prefix as messages name it.
    fn place_of(&self, key: &str) -> String {
        match key {
            "" => self.url.clone(),
            key => format!("{}/{key}", self.url),
        }
    }

    /// The path of a key in the bucket, used as it is: nothing in it is encoded.
    fn path(&self, action: Action, key: &str) -> Result<Path> {
        key::check(action.verb(), key)?;
        Path::parse(join_key(&self.base, key))
            .map_err(|e| Error::new(ErrorKind::Config, action.verb(), key, e.to_string()))
    }

    async fn head(&self, action: Action, key: &str) -> Result<ObjectInfo> {
        key::check(action.verb(), key)?;
        let seen = self.look_up(action, key, None).await?;
        Ok(ObjectInfo::new(key, seen.bytes, seen.modified))
    }

    /// Fails when the key is taken. A key without the right to look counts as free where the store itself refuses to
    /// overwrite.
    async fn check_free(&self, action: Action, key: &str) -> Result<()> {
        match self.head(action, key).await {
            Ok(_) => {
                Err(Error::new(ErrorKind::AlreadyExists, action.verb(), key, "an object of that name already exists"))
            }
            Err(error) if says_missing(&error) && error.message().starts_with("no such object") => Ok(()),
            Err(error) if error.kind() == ErrorKind::Permission && self.means().conditions => {
                tracing::debug!(%error, "cannot check whether the key is free: the store will tell");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Sink for S3Sink {
    fn url(&self) -> String {
        self.0.url.clone()
    }

    fn read_command(&self, key: &str) -> String {
        let store = &self.0;
        let object = format!("s3://{}/{}", store.place.bucket, join_key(&store.base, key));
        let mut command = format!("aws s3 cp {} -", key::shell_word(&object));
        if !store.place.endpoint.ends_with(".amazonaws.com") {
            command += &format!(" --endpoint-url {}", key::shell_word(&store.place.endpoint));
        }
        command
    }

    async fn put(&self, key: &str, body: ByteStream) -> Result<u64> {
        self.put_with(key, body, PutOptions::new()).await
    }

    async fn put_with(&self, key: &str, body: ByteStream, options: PutOptions) -> Result<u64> {
        upload::put(&self.0, key, body, options).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        download::get(self.0.clone(), key, range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.0.head(Action::LookUp, key).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo>> {
        self.0.clone().list(prefix.to_owned())
    }

    async fn delete(&self, keys: &[String]) -> Result<Deleted> {
        delete::delete(&self.0, keys).await
    }

    fn upkeep(&self) -> Option<&dyn Upkeep> {
        Some(self)
    }
}

#[async_trait]
impl Upkeep for S3Sink {
    async fn held(&self, keys: &[String]) -> Result<Vec<Held>> {
        self.0.held(keys).await
    }

    fn hidden(&self, prefix: &str) -> BoxStream<'_, Result<Hidden>> {
        self.0.clone().hidden(prefix.to_owned())
    }

    async fn inspect(&self, folder: &str, probe: Option<&str>) -> Vec<Check> {
        inspect::inspect(&self.0, folder, probe).await
    }

    async fn abort_uploads_of(&self, key: &str, before: Timestamp, dry_run: bool) -> Result<Vec<String>> {
        upload::abort_uploads_of(&self.0, key, before, dry_run).await
    }

    async fn abort_unfinished(&self, folder: &str, before: Timestamp, dry_run: bool) -> Result<Vec<String>> {
        upload::abort_unfinished(&self.0, folder, before, dry_run).await
    }

    fn notes_in(&self, folder: &str) -> Option<Arc<dyn Sink>> {
        Some(Arc::new(Self(Arc::new(Store { notes: Notes::in_folder(folder), ..Store::clone(&self.0) }))))
    }
}
