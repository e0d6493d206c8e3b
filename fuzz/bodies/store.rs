//! Any answers of a store to questions about a bucket are read or refused, and what a listing gives is in order and below the sink.
//!
//! Answers are apart by zero bytes; the last one is given for ever.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use lifeboat_core::Sink;
use lifeboat_core::sink::upkeep;
use lifeboat_sinks::{Credentials, Environment, Retry, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// More objects than any input can list without the end of the listing being an error.
const MOST: usize = 1 << 20;

struct Place {
    runtime: Runtime,
    sink: Arc<dyn Sink>,
    answers: Arc<Mutex<Vec<Vec<u8>>>>,
}

fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("minio://{}/bucket/pg?tls=false", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(Vec::new()));
        let served = answers.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, served.clone()));
            }
        });
        let moment = Duration::from_millis(1);
        let retry = Retry::default().limit(moment).first_contact(moment).first(moment).longest(moment);
        let settings = Settings::default()
            .environment(Environment::empty())
            .credentials(Some(Credentials::new("user", "password")))
            .retry(retry);
        let sink = lifeboat_sinks::open_with(&url, &settings).unwrap();
        Place { runtime, sink, answers }
    })
}

/// Answers every request with the next body, and status 200.
async fn serve(mut stream: TcpStream, answers: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut received = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let whole = head + length.unwrap_or(0);
        while received.len() < whole {
            if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
                return;
            }
        }
        received.drain(..whole);
        let body = {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.remove(0) } else { answers.first().cloned().unwrap_or_default() }
        };
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
            return;
        }
    }
}

fn is_in_order(keys: &[String]) {
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
}

pub fn run(input: &[u8]) {
    let place = place();
    let give = || *place.answers.lock().unwrap() = input.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    place.runtime.block_on(async {
        give();
        let listed: Vec<String> = place
            .sink
            .list("")
            .take(MOST)
            .filter_map(async |object| object.ok().map(|object| object.key))
            .collect()
            .await;
        is_in_order(&listed);
        give();
        let upkeep = upkeep(&*place.sink);
        let hidden = upkeep.hidden("").take(MOST).try_collect::<Vec<_>>().await;
        is_in_order(&hidden.unwrap_or_default().into_iter().map(|hidden| hidden.key).collect::<Vec<_>>());
        give();
        let keys = ["a".to_owned(), "b".to_owned()];
        if let Ok(deleted) = place.sink.delete(&keys).await {
            // Each key has one outcome.
            let outcomes = deleted.keys.len() + deleted.failed.len() + deleted.held.len();
            assert_eq!(outcomes, keys.len(), "{deleted:?}");
        }
        give();
        let _ = upkeep.abort_uploads_of("a", Timestamp::MAX, true).await;
        give();
        upkeep.inspect("", None).await;
    });
}
