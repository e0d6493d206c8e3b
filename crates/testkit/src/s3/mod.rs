//! A store in memory that speaks S3: it can answer as other stores do, refuse what they refuse, and lie. What it truly
//! holds is seen past the protocol.
//!
//! It believes every signature. It is for what a client makes of answers; whether requests are right, MinIO says.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::faulty::{Asked, Call};
use crate::http::{self, Answer, Head, Reader, parameter};
use state::State;

mod lie;
mod listing;
mod objects;
mod state;

pub use lie::{Lie, Lies};

/// How a store says that it does not know a header.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// The header's name, or its beginning; in lower case.
    pub header: &'static str,
    /// The answer's status.
    pub status: u16,
    /// The answer's code.
    pub code: &'static str,
    /// The answer's message.
    pub message: &'static str,
    /// The element that names the header, where one does.
    pub element: Option<&'static str>,
}

/// How a store does what others do in another way.
#[derive(Clone, Debug)]
pub struct Ways {
    /// Most keys, versions or uploads of a page.
    pub page: usize,
    /// It knows the first version of the listing only.
    pub lists_as_of_old: bool,
    /// Headers that it refuses.
    pub refuses: Vec<Refusal>,
    /// How it refuses to delete several objects in one request: status, code, message.
    pub deletes_one_by_one: Option<(u16, &'static str, &'static str)>,
    /// The region in which its buckets are; requests that are signed for another are sent there with this status.
    pub region: Option<(&'static str, u16)>,
    /// Its buckets keep versions.
    pub is_versioned: bool,
    /// It keeps no metadata.
    pub forgets_metadata: bool,
    /// It knows no conditions, and does what was asked all the same.
    pub ignores_conditions: bool,
}

impl Default for Ways {
    fn default() -> Self {
        Self {
            page: 1000,
            lists_as_of_old: false,
            refuses: Vec::new(),
            deletes_one_by_one: None,
            region: None,
            is_versioned: false,
            forgets_metadata: false,
            ignores_conditions: false,
        }
    }
}

/// The store. It ends when it is dropped.
#[derive(Debug)]
pub struct S3 {
    shared: Arc<Shared>,
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Shared {
    ways: Ways,
    lies: Mutex<Lies>,
    state: Mutex<State>,
    attempts: Mutex<HashMap<String, u32>>,
    log: Mutex<Vec<String>>,
}

/// A request, read to its end.
struct Question {
    head: Head,
    call: Call,
    /// `bucket/key`, or `bucket`.
    path: String,
    query: String,
    body: Bytes,
    lie: Option<Lie>,
}

impl Question {
    fn has(&self, name: &str) -> bool {
        parameter(&self.query, name).is_some()
    }

    fn value(&self, name: &str) -> Option<String> {
        parameter(&self.query, name).filter(|value| !value.is_empty())
    }

    fn lies(&self, lie: Lie) -> bool {
        self.lie == Some(lie)
    }
}

impl S3 {
    /// A store without quirks that says the truth.
    pub async fn honest() -> Self {
        Self::start(Ways::default(), Lies::none()).await
    }

    /// A store of these ways and lies, with every bucket that is asked for.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(ways: Ways, lies: Lies) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State { is_versioned: ways.is_versioned, ..State::default() };
        let shared = Arc::new(Shared {
            ways,
            lies: Mutex::new(lies),
            state: Mutex::new(state),
            attempts: Mutex::default(),
            log: Mutex::default(),
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
        Self { shared, port, task }
    }

    /// Where it is, for a client that is told of an endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// `host:port`, for a proxy before it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of a sink in a bucket, as of a MinIO. It takes any credentials.
    pub fn sink_url(&self, place: &str) -> String {
        format!("minio://127.0.0.1:{}/{place}?tls=false", self.port)
    }

    /// Lies in another way from now on.
    pub fn set(&self, lies: Lies) {
        *self.shared.lies.lock().unwrap() = lies;
    }

    /// Says the truth from now on.
    pub fn be_honest(&self) {
        self.set(Lies::none());
    }

    /// Holds nothing any more, and forgets what it was asked and has said.
    pub fn clear(&self) {
        let mut state = self.shared.state.lock().unwrap();
        *state = State { is_versioned: state.is_versioned, ..State::default() };
        self.shared.attempts.lock().unwrap().clear();
        self.shared.log.lock().unwrap().clear();
        self.be_honest();
    }

    /// The lies that it has told, a line each.
    pub fn log(&self) -> Vec<String> {
        self.shared.log.lock().unwrap().clone()
    }

    /// What it truly holds at `bucket/key`.
    pub fn bytes(&self, path: &str) -> Option<Bytes> {
        self.shared.state.lock().unwrap().newest(path).map(|object| object.bytes.clone())
    }

    /// Hides what is at `bucket/key`, as a deletion by a key does that may not delete versions.
    pub fn hide(&self, path: &str) {
        self.shared.state.lock().unwrap().delete(path, None);
    }

    /// Every `bucket/key` that a plain read finds.
    pub fn paths(&self) -> BTreeSet<String> {
        let state = self.shared.state.lock().unwrap();
        state.objects.keys().filter(|path| state.newest(path).is_some()).cloned().collect()
    }

    /// How many versions and delete markers it holds.
    pub fn versions(&self) -> usize {
        self.shared.state.lock().unwrap().objects.values().map(Vec::len).sum()
    }

    /// How many uploads are unfinished.
    pub fn unfinished(&self) -> usize {
        self.shared.state.lock().unwrap().uploads.len()
    }

    /// Stores an object past the protocol.
    pub fn place(&self, path: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let tags = (state::e_tag(&bytes), state::sha256(&bytes));
        self.shared.state.lock().unwrap().store(path, bytes, tags, Vec::new());
    }

    /// Begins an upload past the protocol.
    pub fn begin(&self, path: &str) {
        let mut state = self.shared.state.lock().unwrap();
        let (id, path) = (state.id("u"), path.to_owned());
        let upload = state::Upload { path, begun: Timestamp::now(), metadata: Vec::new(), parts: Default::default() };
        state.uploads.insert(id, upload);
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let (read, mut write) = stream.into_split();
        let mut reader = Reader::new(read);
        while let Ok(Some(head)) = reader.head().await {
            let answered: io::Result<()> = async {
                let body = reader.body(Some(head.length().unwrap_or_default())).await?;
                let method = head.target().0.to_owned();
                self.answer(self.question(head, body)).send(&mut write, &method).await
            }
            .await;
            if answered.is_err() {
                return;
            }
        }
    }

    fn question(&self, head: Head, body: Bytes) -> Question {
        let mut asked = Asked::new(&head);
        let mut attempts = self.attempts.lock().unwrap();
        let attempt = attempts.entry(asked.identity.clone()).or_default();
        asked.attempt = *attempt;
        *attempt += 1;
        let lie = self.lies.lock().unwrap().decide(&asked);
        if let Some(lie) = lie {
            self.log.lock().unwrap().push(format!("{} (attempt {}): {lie:?}", asked.identity, asked.attempt));
        }
        let (_, path, query) = head.target();
        let path = http::decode(path).trim_matches('/').to_owned();
        Question { call: asked.call, path, query: query.to_owned(), head, body, lie }
    }

    fn answer(&self, ask: Question) -> Answer {
        match ask.lie {
            Some(Lie::SaysNothing) => return Answer::xml(200, ""),
            Some(Lie::ErrorInside) => {
                let error = Answer::error(200, "InternalError", "We encountered an internal error. Please try again.");
                return Answer::xml(200, error.body);
            }
            Some(Lie::PageForPeople) => {
                return Answer::xml(
                    200,
                    "<html><head><title>Welcome</title></head><body><p>It works</p></body></html>",
                );
            }
            _ => {}
        }
        if let Some(refused) = self.refusal(&ask) {
            return refused;
        }
        let answer = self.truth(&ask);
        match ask.lie {
            Some(Lie::DoesAndSaysNothing) if answer.head.status() < 300 => Answer::xml(200, ""),
            _ => answer,
        }
    }

    fn refusal(&self, ask: &Question) -> Option<Answer> {
        if let Some((region, status)) = self.ways.region {
            let signed = ask.head.header("authorization").unwrap_or_default();
            if !signed.contains(&format!("/{region}/s3/")) {
                let words = "The bucket you are attempting to access must be addressed using the specified endpoint.";
                let code = if status == 301 { "PermanentRedirect" } else { "AuthorizationHeaderMalformed" };
                return Some(Answer::error(status, code, words).with("x-amz-bucket-region", region));
            }
        }
        let sent = |refusal: &&Refusal| {
            ask.head.headers.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with(refusal.header))
        };
        if let Some(refusal) = self.ways.refuses.iter().find(sent) {
            let Refusal { header, status, code, message, element } = *refusal;
            let named = element.map(|e| format!("<{e}>{header}</{e}>")).unwrap_or_default();
            let body = format!("<Error><Code>{code}</Code><Message>{message}</Message>{named}</Error>");
            return Some(Answer::xml(status, body));
        }
        let (status, code, message) = self.ways.deletes_one_by_one?;
        (ask.head.target().0 == "POST" && ask.has("delete")).then(|| Answer::error(status, code, message))
    }

    fn truth(&self, ask: &Question) -> Answer {
        let mut state = self.state.lock().unwrap();
        let answer = match ask.call {
            Call::Put => self.put(&mut state, ask),
            Call::Begin => self.begin(&mut state, ask),
            Call::PutPart => objects::put_part(&mut state, ask),
            Call::Complete => self.complete(&mut state, ask),
            Call::Abort => objects::abort(&mut state, ask),
            Call::Get | Call::Head if ask.path.contains('/') && !ask.has("retention") && !ask.has("legal-hold") => {
                self.read(&state, ask)
            }
            Call::Head => Answer::xml(200, ""),
            Call::List if ask.has("versions") => listing::versions(&state, ask, &self.ways),
            Call::List if ask.has("uploads") => listing::uploads(&state, ask, &self.ways),
            Call::Delete if ask.head.target().0 == "POST" => objects::delete_several(&mut state, ask),
            Call::Delete => objects::delete_one(&mut state, ask),
            Call::List => listing::objects(&state, ask, &self.ways),
            Call::Other if ask.has("versioning") => {
                let status = if state.is_versioned { "<Status>Enabled</Status>" } else { "" };
                Answer::xml(200, format!("<VersioningConfiguration>{status}</VersioningConfiguration>"))
            }
            Call::Get | Call::Other => Answer::error(404, "NoSuchConfiguration", "There is none."),
        };
        answer.with("Date", http_date(Timestamp::now()))
    }
}

/// A time as headers have it.
fn http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A text in an XML document.
fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
