//! A stream of 5 TiB through the real upload, to a store that keeps nothing.
//!
//! What is real: the cut of the stream into parts, the room that parts take in memory, their sending side by side, the signed
//! requests, the completion. What is simulated: the wire and the store, which count each part's bytes and
//! forget them; and the bytes, which are all views of one mebibyte, so that no memory of 5 TiB is touched. Payloads are not
//! hashed here: that of 5 TiB would take an hour.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, StatusCode};
use lifeboat_core::{ErrorKind, Sink};
use object_store::ClientOptions;
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};

use crate::s3::failure::{Answer, Failure};
use crate::s3::{S3Sink, Store};
use crate::{Credentials, Environment, Settings};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

static MEBIBYTE: [u8; 1 << 20] = [0x5a; 1 << 20];

/// What the store remembers of an upload: the length of each part by its number, and what was on its way at once.
#[derive(Debug, Default)]
struct Counted {
    parts: Mutex<BTreeMap<u32, u64>>,
    on_the_way: AtomicU64,
    most_on_the_way: AtomicU64,
    side_by_side: AtomicU64,
    most_side_by_side: AtomicU64,
    completed: Mutex<Option<usize>>,
    aborted: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Swallow(Arc<Counted>);

impl HttpConnector for Swallow {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn answer(status: StatusCode, body: String) -> HttpResponse {
    http::Response::builder()
        .status(status)
        .header("ETag", "\"0123456789abcdef\"")
        .body(Bytes::from(body).into())
        .unwrap()
}

#[async_trait]
impl HttpService for Swallow {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Counted { parts, on_the_way, most_on_the_way, side_by_side, most_side_by_side, completed, aborted } =
            &*self.0;
        let query = request.uri().query().unwrap_or_default().to_owned();
        let length = request.body().content_length() as u64;
        match (request.method(), parameter(&query, "partNumber")) {
            (&Method::PUT, Some(number)) => {
                let all = on_the_way.fetch_add(length, Ordering::SeqCst) + length;
                most_on_the_way.fetch_max(all, Ordering::SeqCst);
                most_side_by_side.fetch_max(side_by_side.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Long enough for others to be sent beside it.
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(
                    parts.lock().unwrap().insert(number.parse().unwrap(), length),
                    None,
                    "part {number} comes twice"
                );
                on_the_way.fetch_sub(length, Ordering::SeqCst);
                side_by_side.fetch_sub(1, Ordering::SeqCst);
                Ok(answer(StatusCode::OK, String::new()))
            }
            (&Method::PUT, None) => Ok(answer(StatusCode::OK, String::new())),
            (&Method::POST, _) if parameter(&query, "uploadId").is_some() => {
                let body = HttpResponseBody::new(request.into_body()).bytes().await.unwrap();
                let text = String::from_utf8(body.to_vec()).unwrap();
                *completed.lock().unwrap() = Some(text.matches("<Part>").count());
                let done = "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>";
                Ok(answer(StatusCode::OK, done.to_owned()))
            }
            (&Method::POST, _) if query.starts_with("uploads") => {
                let begun = "<InitiateMultipartUploadResult><UploadId>x</UploadId></InitiateMultipartUploadResult>";
                Ok(answer(StatusCode::OK, begun.to_owned()))
            }
            (&Method::POST, _) => Ok(answer(StatusCode::OK, "<DeleteResult></DeleteResult>".to_owned())),
            (&Method::DELETE, _) => {
                aborted.fetch_add(u64::from(parameter(&query, "uploadId").is_some()), Ordering::SeqCst);
                Ok(answer(StatusCode::NO_CONTENT, String::new()))
            }
            (&Method::GET, _) if query.starts_with("versioning") => {
                Ok(answer(StatusCode::OK, "<VersioningConfiguration></VersioningConfiguration>".to_owned()))
            }
            // What was put together is there; notes are not looked for.
            (&Method::HEAD, _)
                if completed.lock().unwrap().is_some() && !request.uri().path().contains("_lifeboat") =>
            {
                let bytes: u64 = parts.lock().unwrap().values().sum();
                let seen = http::Response::builder()
                    .header("ETag", "\"x\"")
                    .header("Content-Length", bytes)
                    .header("Last-Modified", "Sat, 21 Nov 2026 03:30:00 GMT");
                Ok(seen.body(Bytes::new().into()).unwrap())
            }
            _ => {
                let missing = Answer { status: 404, ..Answer::default() };
                Err(HttpError::new(HttpErrorKind::Unknown, Failure::Answer(missing)))
            }
        }
    }
}

/// The real sink before the store that keeps nothing.
fn sink(settings: &Settings) -> (S3Sink, Arc<Counted>) {
    let swallow = Swallow::default();
    let counted = swallow.0.clone();
    let settings = Settings {
        environment: Environment::empty(),
        credentials: Some(Credentials::new("user", "not-a-secret")),
        ..settings.clone()
    };
    let crate::address::Address::Bucket(address) = crate::address::parse("s3://bucket").unwrap() else { panic!() };
    let S3Sink(store) = S3Sink::open(&address, &settings).unwrap();
    let store = Arc::into_inner(store).unwrap();
    let client = HttpClient::new(swallow.clone());
    let builder = AmazonS3Builder::new()
        .with_access_key_id("user")
        .with_secret_access_key("not-a-secret")
        .with_region("us-east-1")
        .with_bucket_name("bucket")
        .with_http_connector(swallow);
    (S3Sink(Arc::new(Store { store: builder.build().unwrap(), client, unhashed: true, ..store })), counted)
}

/// So many bytes, all of them views of one mebibyte.
fn views(bytes: u64) -> lifeboat_core::ByteStream {
    let whole = stream::iter(0..bytes / MIB).map(|_| Ok(Bytes::from_static(&MEBIBYTE)));
    let rest = &MEBIBYTE[..usize::try_from(bytes % MIB).unwrap()];
    whole.chain(stream::iter((!rest.is_empty()).then(|| Ok(Bytes::from_static(rest))))).boxed()
}

#[tokio::test]
async fn five_tebibytes_fit_into_one_object() {
    let settings = Settings::default();
    let (sink, counted) = sink(&settings);
    assert_eq!(sink.put("large", views(5 * TIB)).await.unwrap(), 5 * TIB);

    let parts = counted.parts.lock().unwrap();
    assert!(parts.keys().copied().eq(1..=u32::try_from(parts.len()).unwrap()), "each part once, none left out");
    assert_eq!(parts.values().sum::<u64>(), 5 * TIB);
    assert!(parts.len() <= 10_000, "{} parts", parts.len());
    assert_eq!(*counted.completed.lock().unwrap(), Some(parts.len()));
    let (last, others) =
        parts.values().copied().collect::<Vec<_>>().split_last().map(|(l, o)| (*l, o.to_vec())).unwrap();
    assert!(last <= 5 * GIB && others.iter().all(|part| (5 * MIB..=5 * GIB).contains(part)));
    // What was on its way never took more room than it may: the budget, or one part where that alone is larger.
    let (most, largest) = (counted.most_on_the_way.load(Ordering::SeqCst), *parts.values().max().unwrap());
    assert!(most <= settings.memory.max(largest), "{most} bytes on their way, the largest part has {largest}");
    assert!(largest < 4 * GIB, "the largest part has {largest} bytes");
    assert!(counted.most_side_by_side.load(Ordering::SeqCst) > 1);
}

#[tokio::test]
async fn a_hundred_gibibytes_take_no_more_memory_than_a_hundred_mebibytes() {
    let mut seen = Vec::new();
    for bytes in [100 * MIB, 100 * GIB] {
        let settings = Settings::default();
        let (sink, counted) = sink(&settings);
        assert_eq!(sink.put("x", views(bytes)).await.unwrap(), bytes);
        let most = counted.most_on_the_way.load(Ordering::SeqCst);
        assert!(most <= settings.memory, "{bytes}: {most} bytes on their way");
        seen.push(most);
    }
    assert!(seen[1] <= seen[0] + 16 * MIB, "{seen:?}");
}

#[tokio::test]
async fn a_stream_that_is_longer_than_an_object_can_be_ends_with_an_error_and_an_abort() {
    let (S3Sink(store), counted) = sink(&Settings::default());
    let mut store = Arc::into_inner(store).unwrap();
    // A smaller store shows the same, sooner.
    store.place.profile.most_object = GIB;
    let sink = S3Sink(Arc::new(store));
    sink.put("just-fits", views(GIB)).await.unwrap();
    counted.parts.lock().unwrap().clear();
    counted.completed.lock().unwrap().take();
    let error = sink.put("too-large", views(GIB + 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("longer than an object"), "{error}");
    assert_eq!((*counted.completed.lock().unwrap(), counted.aborted.load(Ordering::SeqCst)), (None, 1));
}
