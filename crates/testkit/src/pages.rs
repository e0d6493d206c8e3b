//! A bucket that lists any number of artifacts without storing them: each page of its listing is generated on request.
//!
//! For tests of reading listings: storing fifty thousand artifacts would take minutes. It answers listings, reports
//! every object as missing, and accepts no objects.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::http::{Answer, Reader, parameter};

/// Keys of one page.
const PAGE: u64 = 1000;

/// The bucket. It ends when it is dropped.
#[derive(Debug)]
pub struct Pages {
    port: u16,
    served: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pages {
    /// A bucket with so many artifacts of `dataset`, an hour between them, each an object and its manifest.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(dataset: &str, artifacts: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::new(AtomicU64::new(0));
        let (dataset, counted) = (dataset.to_owned(), served.clone());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => {
                        let (dataset, served) = (dataset.clone(), counted.clone());
                        connections.spawn(async move { serve(stream, &dataset, artifacts, &served).await });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { port, served, task }
    }

    /// The URL of a sink in it. Any credentials do.
    pub fn sink_url(&self) -> String {
        format!("minio://127.0.0.1:{}/bucket?tls=false", self.port)
    }

    /// How many pages were asked for.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, dataset: &str, artifacts: u64, served: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut reader = Reader::new(read);
    while let Some(head) = reader.head().await? {
        reader.body(Some(head.length().unwrap_or_default())).await?;
        let (method, path, query) = head.target();
        let in_bucket = !path.trim_matches('/').contains('/');
        let answer = match parameter(query, "list-type") {
            Some(_) if method == "GET" && in_bucket => {
                served.fetch_add(1, Ordering::SeqCst);
                page(query, dataset, artifacts)
            }
            _ if in_bucket && parameter(query, "versioning").is_some() => {
                Answer::xml(200, "<VersioningConfiguration></VersioningConfiguration>")
            }
            _ => Answer::error(404, "NoSuchKey", "The specified key does not exist."),
        };
        answer.send(&mut write, method).await?;
    }
    Ok(())
}

/// The key of the object, or of the manifest, with this number.
fn key(dataset: &str, number: u64) -> String {
    let hour = Duration::from_secs(3600 * (number / 2));
    let taken = "2020-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + hour;
    let stamp = taken.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M%S").to_string();
    let suffix = if number.is_multiple_of(2) { "" } else { ".manifest.json" };
    format!("{dataset}-{stamp}.dump.zst.age{suffix}")
}

fn page(query: &str, dataset: &str, artifacts: u64) -> Answer {
    let prefix = parameter(query, "prefix").unwrap_or_default();
    let from: u64 = parameter(query, "continuation-token").map_or(0, |token| token.parse().unwrap());
    // The only prefixes under which there is something.
    let all = if format!("{dataset}-").starts_with(&prefix) { 2 * artifacts } else { 0 };
    let to = (from + PAGE).min(all);
    let mut xml =
        String::from("<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bucket</Name>");
    if to < all {
        xml += &format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{to}</NextContinuationToken>");
    } else {
        xml += "<IsTruncated>false</IsTruncated>";
    }
    for number in from..to {
        let size = if number.is_multiple_of(2) { 1_000_000 } else { 900 };
        xml += &format!(
            "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&#34;x&#34;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            key(dataset, number)
        );
    }
    xml += "</ListBucketResult>";
    Answer::xml(200, xml)
}
