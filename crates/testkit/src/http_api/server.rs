//! The server: a thread with connections on a loopback port.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::message::params;
use super::{Api, Fault, Kind, Request, Response};
use crate::http::decode;

/// Longest request body that is taken, in bytes.
const LONGEST_BODY: usize = 64 << 20;

#[derive(Default)]
struct State {
    record: Vec<Request>,
    faults: Vec<Fault>,
}

struct Shared {
    api: Arc<dyn Api>,
    state: Mutex<State>,
}

/// Serves an imitation until it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts the server on a free loopback port.
    pub fn start(api: Arc<dyn Api>) -> Self {
        let shared = Arc::new(Shared { api, state: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let (told, address) = std::sync::mpsc::channel();
        let serving = shared.clone();
        let thread = std::thread::Builder::new()
            .name("http-api".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    told.send(listener.local_addr().unwrap()).unwrap();
                    tokio::select! {
                        () = accept(listener, serving) => {}
                        _ = stopped => {}
                    }
                });
            })
            .unwrap();
        Self { address: address.recv().unwrap(), shared, stop: Some(stop), thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, in order, including those that got a fault.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state.lock().unwrap().record.clone()
    }

    /// How many requests with this method had this in their path.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.requests().iter().filter(|r| r.method == method && r.path.contains(path)).count()
    }

    /// Clears the record of requests.
    pub fn forget(&self) {
        self.shared.state.lock().unwrap().record.clear();
    }

    /// Adds a fault. If several match a request, the first one added that is not used up applies.
    pub fn fault(&self, fault: Fault) {
        self.shared.state.lock().unwrap().faults.push(fault);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.shared.state.lock().unwrap().faults.clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            // A client that goes away in the middle is its own business.
            let _ = connection(stream, shared).await;
        });
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await? {
        let fault = shared.meet(&request);
        let answer = |request: &Request| shared.api.answer(request);
        match fault {
            None => write(&mut stream, &answer(&request)).await?,
            Some(Kind::Before(act)) => {
                act();
                write(&mut stream, &answer(&request)).await?;
            }
            Some(Kind::Rewrite(rewrite)) => {
                let mut asked = request.clone();
                rewrite(&mut asked);
                write(&mut stream, &answer(&asked)).await?;
            }
            Some(Kind::Alter(alter)) => {
                let mut response = answer(&request);
                let mut body = serde_json::from_slice(&response.body).map_err(io::Error::other)?;
                alter(&mut body);
                response.body = body.to_string().into_bytes();
                write(&mut stream, &response).await?;
            }
            Some(Kind::Answer(response)) => write(&mut stream, &response).await?,
            Some(Kind::Slow { piece, pause }) => {
                let response = answer(&request);
                stream.write_all(head(&response).as_bytes()).await?;
                for part in response.body.chunks(piece.max(1)) {
                    tokio::time::sleep(pause).await;
                    stream.write_all(part).await?;
                    stream.flush().await?;
                }
            }
            Some(Kind::Cut(part)) => {
                let response = answer(&request);
                let cut = (response.body.len() as f64 * part) as usize;
                stream.write_all(head(&response).as_bytes()).await?;
                stream.write_all(&response.body[..cut.min(response.body.len().saturating_sub(1))]).await?;
                return stream.shutdown().await;
            }
            Some(Kind::HangInBody) => {
                stream.write_all(head(&answer(&request)).as_bytes()).await?;
                std::future::pending::<()>().await;
            }
            Some(Kind::Hang) => std::future::pending::<()>().await,
            Some(Kind::Close { done }) => {
                if done {
                    answer(&request);
                }
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Shared {
    /// Notes the request, and says which fault it meets.
    fn meet(&self, request: &Request) -> Option<Kind> {
        let mut state = self.state.lock().unwrap();
        state.record.push(request.clone());
        let mut met = None;
        for fault in &mut state.faults {
            if fault.times == 0 || !fault.meets(request) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if met.is_none() {
                fault.times = fault.times.saturating_sub(usize::from(fault.times != usize::MAX));
                met = Some(fault.kind.clone());
            }
        }
        met
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let line = line.trim_end().to_owned();
    let mut words = line.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        method: method.to_owned(),
        path: decode(path),
        query: params(query),
        headers,
        body: Vec::new(),
        line: line.clone(),
    };
    if request.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        loop {
            let mut size = String::new();
            stream.read_line(&mut size).await?;
            let size = usize::from_str_radix(size.trim().split(';').next().unwrap_or_default(), 16)
                .map_err(io::Error::other)?;
            if request.body.len() + size > LONGEST_BODY {
                return Err(io::Error::other("too large"));
            }
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await?;
            request.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Ok(Some(request));
            }
        }
    }
    let length = request.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    if length > LONGEST_BODY {
        return Err(io::Error::other("too large"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    request.body = body;
    Ok(Some(request))
}

fn head(response: &Response) -> String {
    let mut head = format!("HTTP/1.1 {} Status\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !matches!(response.status, 204 | 304) {
        head.push_str(&format!("Content-Length: {}\r\n", response.body.len()));
    }
    head.push_str("\r\n");
    head
}

async fn write(stream: &mut BufReader<TcpStream>, response: &Response) -> io::Result<()> {
    let mut all = head(response).into_bytes();
    if !matches!(response.status, 204 | 304) {
        all.extend_from_slice(&response.body);
    }
    stream.write_all(&all).await?;
    stream.flush().await
}
