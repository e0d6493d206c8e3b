//! Tests of the client against a server that misbehaves in every way.

use std::sync::Arc;

use lifeboat_testkit::http_api::{Api, Fault, Kind, Request as Asked, Response as Answer, Server};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;

const TOKEN: &str = "dp.st.prd.very-secret-token";

/// Answers what was asked.
struct Echo;

impl Api for Echo {
    fn answer(&self, request: &Asked) -> Answer {
        if request.bearer() != Some(TOKEN) {
            return Answer::json(
                401,
                &json!({ "messages": [format!("no: {}", request.bearer().unwrap_or_default())] }),
            );
        }
        Answer::json(200, &json!({ "path": request.path, "query": request.query, "bytes": request.body.len() }))
    }
}

fn explain(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    Some(value["messages"][0].as_str()?.to_owned())
}

fn settings(server: &Server) -> Settings {
    let rate = Rate { interval: Duration::from_millis(1), burst: 100 };
    Settings {
        token_place: "DOPPLER_TOKEN".to_owned(),
        request_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_millis(300),
        max_body: 1 << 20,
        retry: Retry {
            first: Duration::from_millis(2),
            longest: Duration::from_millis(20),
            attempts: 4,
            ..Retry::default()
        },
        ..Settings::new("Doppler", base_url(&server.url()).unwrap(), TOKEN.to_owned().into(), rate, explain)
    }
}

fn client(server: &Server) -> Client {
    Client::new(settings(server)).unwrap()
}

fn server() -> Server {
    Server::start(Arc::new(Echo))
}

fn request() -> Request {
    Request::get(["v3", "a b/c"], "read", "the thing").query("page", 2).query("x", "ä&b")
}

async fn ask(client: &Client, request: &Request) -> Result<Value> {
    client.json(request, &CancellationToken::new()).await
}

/// Meets the next requests with this, and gives the error.
async fn failing(fault: Fault) -> (Error, usize) {
    let server = server();
    server.fault(fault);
    let error = ask(&client(&server), &request()).await.unwrap_err();
    (error, server.requests().len())
}

#[tokio::test]
async fn paths_and_queries_are_encoded() {
    let server = server();
    let value = ask(&client(&server), &request()).await.unwrap();
    assert_eq!(value["path"], "/v3/a b/c");
    assert_eq!(value["query"], json!([["page", "2"], ["x", "ä&b"]]));
    assert!(server.requests()[0].line.contains("/v3/a%20b%2Fc?page=2"));
    assert!(server.requests()[0].header("user-agent").unwrap().starts_with("lifeboat/"));
}

#[tokio::test]
async fn a_limit_of_the_rate_is_waited_for_even_for_what_must_not_be_repeated() {
    let server = server();
    let body = Answer::json(429, &json!({ "messages": ["slow down"] }));
    server.fault(Fault::too_many("/v3", Some("0.2"), body.clone()));
    server.fault(Fault::too_many("/v3", None, body));
    let post = Request::new(Method::POST, ["v3"], "write", "the thing").json(&json!({ "a": 1 })).unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(ask(&client(&server), &post).await.unwrap()["bytes"], 7);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_pause_longer_than_is_sensible_is_an_error_that_says_so() {
    let body = Answer::json(429, &json!({ "messages": ["slow down"] }));
    let (error, requests) = failing(Fault::too_many("/v3", Some("4000"), body).always()).await;
    assert_eq!((error.kind(), requests), (ErrorKind::Unavailable, 1));
    assert!(error.message().contains("it asks to wait 4000 s"), "{error}");
}

#[tokio::test]
async fn what_fails_on_the_other_side_is_tried_again_and_not_for_ever() {
    let server = server();
    server.fault(Fault::on("/v3", Kind::Answer(Answer::html(502, "Bad gateway"))).times(2));
    server.fault(Fault::on("/v3", Kind::Close { done: false }).after(2));
    ask(&client(&server), &request()).await.unwrap();
    assert_eq!(server.requests().len(), 4);

    let (error, requests) = failing(Fault::on("/v3", Kind::Answer(Answer::text(500, "oops"))).always()).await;
    assert_eq!((error.kind(), requests), (ErrorKind::Unavailable, 4));
    assert!(error.message().contains("(status 500)") && error.message().contains("(tried 4 times)"), "{error}");
}

#[tokio::test]
async fn what_changes_something_is_not_sent_twice_unless_it_says_so() {
    for (repeatable, requests) in [(false, 1), (true, 2)] {
        let server = server();
        server.fault(Fault::on("/v3", Kind::Close { done: true }));
        let post = Request::new(Method::POST, ["v3"], "write", "the thing").repeatable(repeatable);
        assert_eq!(ask(&client(&server), &post).await.is_ok(), repeatable);
        assert_eq!(server.requests().len(), requests);
    }
}

#[tokio::test]
async fn each_refusal_says_what_it_means_and_what_to_do() {
    let envelope = |status| Answer::json(status, &json!({ "messages": ["the API's words"] }));
    for (answer, kind, message, hint) in [
        (envelope(401), ErrorKind::Permission, "does not accept the token (status 401): the API's words", "expired"),
        (envelope(403), ErrorKind::Permission, "the token is not allowed to do this (status 403)", "lacks a right"),
        (envelope(404), ErrorKind::NotFound, "does not know it", "cannot see"),
        (envelope(400), ErrorKind::Refused, "refused the request (status 400): the API's words", ""),
        (
            envelope(301).header("Location", "https://elsewhere.example/x?token=abc"),
            ErrorKind::Config,
            "redirects to https://elsewhere.example/x:",
            "never followed",
        ),
        (
            Answer::html(200, "Please log in"),
            ErrorKind::Unavailable,
            "web page (status 200, \"Please log in\")",
            "a proxy",
        ),
        (Answer::html(403, "Blocked"), ErrorKind::Unavailable, "web page (status 403, \"Blocked\")", "a firewall"),
    ] {
        let (error, requests) = failing(Fault::on("/v3", Kind::Answer(answer)).always()).await;
        assert_eq!((error.kind(), requests), (kind, 1), "{error}");
        assert!(error.message().contains(message), "{error}");
        assert!(error.advice().unwrap_or_default().contains(hint), "{:?}", error.advice());
    }
}

#[tokio::test]
async fn what_is_cut_slow_or_silent_is_an_error_and_never_a_short_answer() {
    for (kind, message) in [
        (Kind::Cut(0.5), "broke off in the middle"),
        (Kind::HangInBody, "its answer stopped for 0.3 s"),
        (Kind::Slow { piece: 1, pause: Duration::from_millis(200) }, "no complete answer within 3 s"),
    ] {
        let server = server();
        server.fault(Fault::on("/v3", kind).always());
        let mut settings = settings(&server);
        settings.retry.attempts = 1;
        let error = ask(&Client::new(settings).unwrap(), &request()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains(message), "{error}");
    }
}

#[tokio::test]
async fn an_answer_is_bounded_and_its_content_is_in_no_error() {
    let long = Answer::json(200, &json!("x".repeat(2 << 20)));
    let (error, _) = failing(Fault::on("/v3", Kind::Answer(long)).always()).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt);

    for body in ["{\"a\": hunter2}", "\"hunter2", "[\"hunter2\"]"] {
        let server = server();
        server.fault(Fault::on("/v3", Kind::Answer(Answer::new(200, "application/json", body))));
        let read: Result<u64> = client(&server).json(&request(), &CancellationToken::new()).await;
        let error = read.unwrap_err();
        assert!(error.message().contains("not answer with valid JSON"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn the_token_is_in_no_error_even_when_the_api_repeats_it() {
    let server = server();
    let body = Answer::json(401, &json!({ "messages": [format!("invalid token {TOKEN}")] }));
    server.fault(Fault::on("/v3", Kind::Answer(body)));
    let client = client(&server);
    let error = ask(&client, &request()).await.unwrap_err();
    assert!(error.message().contains("invalid token …"), "{error}");
    assert!(!format!("{error:?}{client:?}{:?}", client.settings()).contains("very-secret"));
}

#[tokio::test]
async fn cancelling_ends_a_request_that_waits() {
    let server = server();
    server.fault(Fault::on("/v3", Kind::Hang));
    let cancel = CancellationToken::new();
    let (client, request) = (client(&server), request());
    let (answer, ()) = tokio::join!(client.send(&request, &cancel), async {
        while server.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn requests_are_not_faster_than_the_rate() {
    let pace = pace::Pace::new(Rate::new(60, Duration::from_secs(60)));
    let begun = tokio::time::Instant::now();
    let turns: Vec<u64> = (0..33).map(|_| (pace.turn() - begun).as_secs()).collect();
    assert_eq!(
        (turns[29], turns[30], turns[31], turns[32]),
        (0, 1, 2, 3),
        "half a minute's at once, then one a second"
    );
    pace.not_before(begun + Duration::from_secs(100));
    assert!(pace.turn() - begun >= Duration::from_secs(100));
}

#[test]
fn a_base_url_that_would_leak_the_token_is_refused() {
    for good in ["https://api.doppler.com", "http://127.0.0.1:80", "http://localhost:1/x", "http://[::1]:3"] {
        base_url(good).unwrap();
    }
    for (bad, why) in [
        ("http://api.doppler.com", "unencrypted"),
        ("http://127.0.0.1.example.com", "unencrypted"),
        ("https://me:pw@api.doppler.com", "credentials"),
        ("dp.st.prd.very-secret-token", "not a URL"),
        ("ftp://a", "https"),
        ("https://a?x=1", "query"),
    ] {
        let error = base_url(bad).unwrap_err();
        assert!(error.message().contains(why), "{bad}: {error}");
        assert!(!format!("{error:?}").contains("very-secret"));
    }
    let server = server();
    for token in ["", "a b", "a\n", "ä"] {
        let error = Client::new(Settings { token: token.to_owned().into(), ..settings(&server) }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}
