//! A proxy between a sink and its store that injects faults, deliberately and reproducibly.
//!
//! It talks to real servers and passes requests on as they were signed. Which fault a request gets depends on a seed,
//! on what it asks for and on how often the same was asked before, but not on the order in which concurrent requests
//! arrive, so that a seed reproduces the same faults.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::content::Random;
use crate::http::{self, Answer, Head, Reader, parameter};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Stores a whole object.
    Put,
    /// Begins a multipart upload.
    Begin,
    /// Stores a part.
    PutPart,
    /// Completes a multipart upload.
    Complete,
    /// Aborts a multipart upload.
    Abort,
    /// Reads an object.
    Get,
    /// Looks an object up.
    Head,
    /// Lists objects, versions or uploads.
    List,
    /// Deletes objects.
    Delete,
    /// Anything else: settings of a bucket.
    Other,
}

/// What is known about a request when its fault is decided.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What it asks for.
    pub call: Call,
    /// The path, decoded: `/bucket/key`.
    pub path: String,
    /// Path and query, without random parts.
    pub identity: String,
    /// How often the same was asked before.
    pub attempt: u32,
    /// The number of earlier requests of all kinds, which depends on the order of concurrent ones.
    pub earlier: u64,
    /// The length of the body.
    pub length: u64,
}

impl Asked {
    pub(crate) fn new(head: &Head) -> Self {
        let (method, path, query) = head.target();
        let has = |name: &str| parameter(query, name).is_some();
        let path = http::decode(path);
        let in_bucket = path.trim_end_matches('/').matches('/').count() == 1;
        let call = match method {
            "PUT" if has("partNumber") => Call::PutPart,
            "PUT" if !in_bucket && !has("retention") => Call::Put,
            "POST" if has("uploads") => Call::Begin,
            "POST" if has("uploadId") => Call::Complete,
            "POST" if has("delete") => Call::Delete,
            "DELETE" if has("uploadId") => Call::Abort,
            "DELETE" => Call::Delete,
            "HEAD" => Call::Head,
            "GET" if has("list-type") || has("prefix") || has("uploads") || has("versions") => Call::List,
            "GET" if !in_bucket => Call::Get,
            _ => Call::Other,
        };
        let part = parameter(query, "partNumber").unwrap_or_default();
        let range = head.header("range").unwrap_or_default();
        let kind = if call == Call::List { query } else { "" };
        let identity = format!("{call:?} {} {part}{kind} {range}", hide_hex(&path));
        Self { call, path, identity, attempt: 0, earlier: 0, length: head.length().unwrap_or_default() }
    }
}

/// FNV-1a: the same for ever, unlike the hash of a library.
pub(crate) fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Puts `*` for each run of 16 hexadecimal digits: they are random.
fn hide_hex(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        out += if run.len() == 16 { "*" } else { &run };
        run.clear();
        out.push(c);
    }
    out.pop();
    out
}

/// A fault of one request. Bytes are counted in its body, or in that of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The response is late.
    Late(Duration),
    /// The connection is reset before the store sees anything.
    Reset,
    /// The connection is reset after this many bytes of the request's body. The store sees the same.
    ResetInRequest(u64),
    /// After this many bytes, the rest of the request's body is not read, and there is no response.
    StallInRequest(u64),
    /// The store responds with this status, as `InternalError` (500), `SlowDown` (503) or `ServiceUnavailable`.
    Refuse {
        /// 500 or 503.
        status: u16,
        /// The number of seconds that it asks the client to wait.
        retry_after: Option<u32>,
    },
    /// One bit of the request's body is flipped.
    Corrupt(u64),
    /// The store carries out the request, but its response is lost: the connection is reset.
    LoseAnswer,
    /// The store carries out the request, but its response never arrives.
    StallAnswer,
    /// The response's body ends after this many bytes, with the connection closed as if that were all.
    Truncate(u64),
    /// The connection is reset after this many bytes of the response's body.
    ResetInAnswer(u64),
    /// Nothing follows after this many bytes of the response's body.
    StallInAnswer(u64),
    /// One bit of the response's body is flipped.
    CorruptAnswer(u64),
    /// Status 200 with an error in the body, as in S3 for a completion that fails late.
    ErrorInside {
        /// Whether the store has carried out the request anyway.
        done: bool,
    },
}

/// Decides which fault a request gets, if any.
type Decide<T> = Arc<dyn Fn(&Asked) -> Option<T> + Send + Sync>;

/// Decides what happens to requests: [faults](Schedule) on the way, or [lies](crate::s3::Lies) of the store.
#[derive(Clone)]
pub struct Script<T> {
    decide: Decide<T>,
    text: String,
}

/// Decides which requests get which faults.
pub type Schedule = Script<Fault>;

impl<T> fmt::Debug for Script<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T> Script<T> {
    /// Creates a script without faults.
    pub fn none() -> Self {
        Self::of("none", |_| None)
    }

    /// Creates a script from a function.
    pub fn of(text: impl Into<String>, decide: impl Fn(&Asked) -> Option<T> + Send + Sync + 'static) -> Self {
        Self { decide: Arc::new(decide), text: text.into() }
    }

    pub(crate) fn decide(&self, asked: &Asked) -> Option<T> {
        (self.decide)(asked)
    }
}

impl Script<Fault> {
    /// Creates a schedule with a fault for the first request of a kind whose path ends like this.
    pub fn once(call: Call, ending: &'static str, fault: Fault) -> Self {
        Self::of(format!("{call:?} {ending}: {fault:?}"), move |asked| {
            (asked.call == call && asked.path.ends_with(ending) && asked.attempt == 0).then_some(fault)
        })
    }

    /// Creates a schedule of random faults from a seed: few or many, short or persistent, sometimes with a store that
    /// is gone for a while or for good.
    pub fn seeded(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let percent = [4, 12, 25, 50][random.below(4) as usize];
        // A request is hit at most so often in a row.
        let stubborn = [1, 2, 4, u32::MAX][random.below(4) as usize];
        let from = random.below(25);
        let outage = match random.below(8) {
            0 => Some(from..u64::MAX),
            1 => Some(from..from + 1 + random.below(12)),
            _ => None,
        };
        let text = format!("seed {seed}: {percent} % of requests, at most {stubborn} times, outage {outage:?}");
        Self::of(text, move |asked| {
            if outage.as_ref().is_some_and(|outage| outage.contains(&asked.earlier)) {
                return Some(Fault::Reset);
            }
            let mut random = Random::new(seed ^ fnv(&asked.identity).rotate_left(asked.attempt % 64));
            (asked.attempt < stubborn && random.below(100) < percent).then(|| Self::any(asked, &mut random))
        })
    }

    fn any(asked: &Asked, random: &mut Random) -> Fault {
        // The length of an answer is not known yet: often within the first bytes, sometimes far in.
        let in_answer = if random.below(2) == 0 { random.below(200) } else { random.below(4 << 20) };
        let in_request = random.below(asked.length);
        // Stalls are rare: they cost time and show little else.
        let fault = match random.below(20) {
            0 => Fault::Late(Duration::from_millis(random.below(150))),
            1 => Fault::Reset,
            2 | 3 | 16 => Fault::ResetInRequest(in_request),
            4 | 17 => Fault::Refuse { status: 500, retry_after: None },
            5 => Fault::Refuse { status: 503, retry_after: None },
            6 => Fault::Refuse { status: 503, retry_after: Some(u32::from(random.below(4) == 0)) },
            7 => Fault::StallInRequest(in_request),
            8 | 9 | 18 => Fault::Corrupt(in_request),
            10 | 11 | 19 => Fault::LoseAnswer,
            12 => Fault::StallAnswer,
            13 => Fault::Truncate(in_answer),
            14 => Fault::ResetInAnswer(in_answer),
            15 => Fault::StallInAnswer(in_answer),
            _ => unreachable!("below 20"),
        };
        match (asked.call, fault) {
            (Call::Complete, Fault::Truncate(_) | Fault::ResetInAnswer(_)) => Fault::ErrorInside { done: true },
            (Call::Complete, Fault::Reset | Fault::Corrupt(_)) => Fault::ErrorInside { done: false },
            (_, fault) => fault,
        }
    }
}

/// The proxy. Clones share it; it stops with the last one.
#[derive(Clone, Debug)]
pub struct FaultProxy(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Shared {
    store: String,
    schedule: Mutex<Schedule>,
    attempts: Mutex<HashMap<String, u32>>,
    requests: AtomicU64,
    /// What was done to whom.
    log: Mutex<Vec<String>>,
    calls: Mutex<BTreeMap<Call, u64>>,
}

/// What becomes of a connection after a request.
enum Next {
    Keep,
    Close,
    Reset,
}

impl FaultProxy {
    /// Starts a proxy to the store at `host:port`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(store: &str, schedule: Schedule) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            store: store.to_owned(),
            schedule: Mutex::new(schedule),
            attempts: Mutex::default(),
            requests: AtomicU64::new(0),
            log: Mutex::default(),
            calls: Mutex::default(),
        });
        let served = shared.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => {
                        connections.spawn(served.clone().serve(stream));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self(Arc::new(Handle { shared, port, task }))
    }

    /// `host:port` of the proxy.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.0.port)
    }

    /// The URL of a sink in a bucket of the store, through the proxy.
    pub fn sink_url(&self, bucket: &str) -> String {
        format!("minio://{}/{bucket}?tls=false", self.host())
    }

    /// Replaces the schedule.
    pub fn set(&self, schedule: Schedule) {
        *self.0.shared.schedule.lock().unwrap() = schedule;
    }

    /// Stops all faults.
    pub fn heal(&self) {
        self.set(Schedule::none());
    }

    /// The faults so far, one line each.
    pub fn log(&self) -> Vec<String> {
        self.0.shared.log.lock().unwrap().clone()
    }

    /// The number of requests of a kind so far.
    pub fn count(&self, call: Call) -> u64 {
        self.0.shared.calls.lock().unwrap().get(&call).copied().unwrap_or_default()
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let (read, mut write) = stream.into_split();
        let mut reader = Reader::new(read);
        while let Ok(Some(head)) = reader.head().await {
            match self.pass(&head, &mut reader, &mut write).await {
                Ok(Next::Keep) => {}
                Ok(Next::Close) => return drop(write.shutdown().await),
                Ok(Next::Reset) | Err(_) => {
                    // The connection goes with an RST, and what was not sent yet with it.
                    let _ = write.as_ref().set_zero_linger();
                    return;
                }
            }
        }
    }

    fn decide(&self, head: &Head) -> Option<Fault> {
        let mut asked = Asked::new(head);
        let mut attempts = self.attempts.lock().unwrap();
        let attempt = attempts.entry(asked.identity.clone()).or_default();
        asked.attempt = *attempt;
        *attempt += 1;
        asked.earlier = self.requests.fetch_add(1, Ordering::SeqCst);
        *self.calls.lock().unwrap().entry(asked.call).or_default() += 1;
        let fault = self.schedule.lock().unwrap().decide(&asked);
        if let Some(fault) = fault {
            let line = format!("{} (attempt {}): {fault:?}", asked.identity, asked.attempt);
            self.log.lock().unwrap().push(line);
        }
        fault
    }

    async fn pass(
        &self,
        head: &Head,
        client: &mut Reader<OwnedReadHalf>,
        to_client: &mut OwnedWriteHalf,
    ) -> io::Result<Next> {
        assert!(head.header("transfer-encoding").is_none(), "a store wants the length of a body: {head:?}");
        let method = head.target().0.to_owned();
        let length = head.length().unwrap_or_default();
        let fault = self.decide(head);
        match fault {
            Some(Fault::Reset) => return Ok(Next::Reset),
            Some(Fault::Late(time)) => tokio::time::sleep(time).await,
            Some(Fault::Refuse { status, retry_after }) => {
                client.body(Some(length)).await?;
                let (code, message) = match status {
                    503 => ("SlowDown", "Please reduce your request rate."),
                    _ => ("InternalError", "We encountered an internal error, please try again."),
                };
                let mut answer = Answer::error(status, code, message);
                if let Some(seconds) = retry_after {
                    answer = answer.with("Retry-After", seconds.to_string());
                }
                answer.send(to_client, &method).await?;
                return Ok(Next::Keep);
            }
            Some(Fault::ErrorInside { done: false }) => {
                client.body(Some(length)).await?;
                late_error().send(to_client, &method).await?;
                return Ok(Next::Keep);
            }
            _ => {}
        }

        let mut store = http::begin(&self.store, head).await?;
        let mut sent = 0;
        let mut refused = false;
        while sent < length {
            let most = match fault {
                Some(Fault::ResetInRequest(after)) if sent >= after => return Ok(Next::Reset),
                Some(Fault::StallInRequest(after)) if sent >= after => std::future::pending().await,
                Some(Fault::ResetInRequest(after) | Fault::StallInRequest(after)) => after.min(length) - sent,
                _ => length - sent,
            };
            let mut some = client.some(most).await?;
            if some.is_empty() {
                return Ok(Next::Close);
            }
            if let Some(Fault::Corrupt(at)) = fault {
                some = flipped(some, sent, at);
            }
            sent += some.len() as u64;
            // It has said no already, and reads no further.
            refused = refused || store.write_all(&some).await.is_err();
        }
        if let Some(Fault::ResetInRequest(_)) = fault {
            return Ok(Next::Reset);
        }

        let mut store = Reader::new(store);
        let Some(mut answer) = store.head().await? else { return Ok(Next::Reset) };
        let bodiless = method == "HEAD" || matches!(answer.status(), 204 | 304);
        match fault {
            Some(Fault::LoseAnswer | Fault::StallAnswer | Fault::ErrorInside { .. }) => {
                // Only what is read to its end is done for certain.
                if !bodiless {
                    store.body(answer.length()).await?;
                }
                return match fault {
                    Some(Fault::StallAnswer | Fault::StallInRequest(_)) => std::future::pending().await,
                    Some(Fault::ErrorInside { .. }) => {
                        late_error().send(to_client, &method).await?;
                        Ok(Next::Keep)
                    }
                    _ => Ok(Next::Reset),
                };
            }
            Some(Fault::StallInRequest(_)) => std::future::pending().await,
            _ => {}
        }
        answer.start = answer.start.replace("HTTP/1.0", "HTTP/1.1");
        answer.remove("connection");
        let mut whole = None;
        if !bodiless && answer.length().is_none() {
            let body = store.body(None).await?;
            answer.set("Content-Length", body.len().to_string());
            whole = Some(body);
        }
        let length = if bodiless { 0 } else { answer.length().unwrap_or_default() };
        to_client.write_all(&answer.to_bytes()).await?;
        let mut passed = 0;
        while passed < length {
            let most = match fault {
                Some(Fault::Truncate(after)) if passed >= after => return Ok(Next::Close),
                Some(Fault::ResetInAnswer(after)) if passed >= after => return Ok(Next::Reset),
                Some(Fault::StallInAnswer(after)) if passed >= after => {
                    to_client.flush().await?;
                    std::future::pending().await
                }
                Some(Fault::Truncate(after) | Fault::ResetInAnswer(after) | Fault::StallInAnswer(after)) => {
                    after.min(length) - passed
                }
                _ => length - passed,
            };
            let mut some = match &mut whole {
                Some(body) => body.split_to(usize::try_from(most).unwrap_or(usize::MAX).min(body.len())),
                None => store.some(most).await?,
            };
            if some.is_empty() {
                return Ok(Next::Reset);
            }
            if let Some(Fault::CorruptAnswer(at)) = fault {
                some = flipped(some, passed, at);
            }
            passed += some.len() as u64;
            to_client.write_all(&some).await?;
        }
        Ok(if refused { Next::Close } else { Next::Keep })
    }
}

fn late_error() -> Answer {
    let error = Answer::error(200, "InternalError", "We encountered an internal error. Please try again.");
    Answer::xml(200, error.body)
}

/// Flips a bit of the byte at place `at` of a stream, when it is in this chunk, which begins at `from`.
fn flipped(chunk: Bytes, from: u64, at: u64) -> Bytes {
    if !(from..from + chunk.len() as u64).contains(&at) {
        return chunk;
    }
    let mut bytes = chunk.to_vec();
    bytes[usize::try_from(at - from).unwrap_or_default()] ^= 0x10;
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Asked {
        Asked::new(&Head { start: format!("{line} HTTP/1.1"), headers: Vec::new() })
    }

    #[test]
    fn a_request_is_told_by_its_method_and_query() {
        for (line, call) in [
            ("PUT /b/k", Call::Put),
            ("PUT /b/k?partNumber=3&uploadId=x", Call::PutPart),
            ("POST /b/k?uploads=", Call::Begin),
            ("POST /b/k?uploadId=x", Call::Complete),
            ("DELETE /b/k?uploadId=x", Call::Abort),
            ("POST /b?delete", Call::Delete),
            ("GET /b?list-type=2&prefix=", Call::List),
            ("GET /b?prefix=k&uploads=", Call::List),
            ("GET /b?marker=k&prefix=", Call::List),
            ("GET /b/k", Call::Get),
            ("HEAD /b/k", Call::Head),
            ("GET /b?versioning", Call::Other),
        ] {
            assert_eq!(asked(line).call, call, "{line}");
        }
    }

    #[test]
    fn what_is_random_in_a_request_does_not_choose_its_fault() {
        let (a, b) = (
            asked("PUT /b/_lifeboat/uploads/x.0123456789abcdef.json"),
            asked("PUT /b/_lifeboat/uploads/x.fedcba9876543210.json"),
        );
        assert_eq!(a.identity, b.identity);
        assert_eq!(
            asked("PUT /b/k?partNumber=3&uploadId=x").identity,
            asked("PUT /b/k?partNumber=3&uploadId=y").identity
        );
        assert_ne!(
            asked("PUT /b/k?partNumber=3&uploadId=x").identity,
            asked("PUT /b/k?partNumber=4&uploadId=x").identity
        );
    }

    #[test]
    fn a_seed_says_the_same_twice_and_another_one_something_else() {
        let faults = |seed| {
            let schedule = Schedule::seeded(seed);
            let fate = |n| schedule.decide(&asked(&format!("PUT /b/k?partNumber={n}&uploadId=x")));
            (0..200).map(fate).collect::<Vec<_>>()
        };
        assert_eq!(faults(7), faults(7));
        assert_ne!(faults(7), faults(8));
    }
}
