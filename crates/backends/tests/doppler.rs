//! The Doppler backend as a library, against the imitation of Doppler's API.
#![cfg(feature = "doppler")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use lifeboat_backends::doppler::{Connection, Doppler, DopplerTarget, Scope, datasets};
use lifeboat_core::memory::Confidential;
use lifeboat_core::{Backup, Context, ErrorKind, RestoreInput, Source, Status, Target};
use lifeboat_testkit::conformance::source;
use lifeboat_testkit::doppler::{Access, FakeDoppler};
use lifeboat_testkit::http_api::{Fault, Kind, Server};
use lifeboat_testkit::memory::MemorySink;
use serde_json::{Value, json};

const TOKEN: &str = "dp.pt.personal000000000000000000000000000000000000";

fn doppler() -> (FakeDoppler, Server) {
    let doppler = FakeDoppler::new([(TOKEN, Access::Personal)]);
    let server = doppler.serve();
    (doppler, server)
}

fn connection(server: &Server) -> Connection {
    Connection::new(TOKEN.to_owned().into(), "DOPPLER_TOKEN", Some(&server.url())).unwrap()
}

fn config(server: &Server) -> Doppler {
    Doppler::new(connection(server), Scope::of("backend", "prd")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_keeps_what_the_trait_promises() {
    let (doppler, server) = doppler();
    for n in 0..400 {
        doppler.set("backend", "prd", &format!("SECRET_{n}"), &format!("{n}-{}", "x".repeat(3000)), "masked");
    }
    source::all(&config(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_an_encryptor_is_refused_before_anything_is_asked() {
    let (_, server) = doppler();
    let source = config(&server);
    assert!(source.is_confidential());
    let error = Backup::new(source).unencrypted().to(Arc::new(MemorySink::new())).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(server.requests().is_empty() && !Confidential::is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_changes_between_two_pages_is_read_again() {
    let (doppler, server) = doppler();
    for n in 0..150 {
        doppler.set("backend", &format!("c{n:03}"), "A", "a", "masked");
    }
    // One that comes before all others moves each of the rest by one: c099 is on the second page then, too.
    let changing = doppler.clone();
    let act = move || {
        changing.set("backend", "a000", "A", "a", "masked");
    };
    server.fault(Fault::on("/v3/configs", Kind::Before(Arc::new(act))).after(1));
    let found = datasets(&connection(&server), Some("backend")).await.unwrap();
    assert_eq!(found.len(), 151);
    assert!(found.iter().any(|d| d.as_str() == "backend.a000"));
    assert_eq!(
        server.count("GET", "/v3/configs"),
        8,
        "the first walk meets c099 twice; the second and the third agree"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_ends_with_an_empty_page_and_not_with_a_short_one() {
    let (doppler, server) = doppler();
    for n in 0..45 {
        doppler.set("backend", &format!("c{n:02}"), "A", "a", "masked");
    }
    for n in 0..8 {
        doppler.set(&format!("p{n}"), "prd", "A", "a", "masked");
    }
    // Less on a page than is asked for.
    server.fault(Fault::on("/v3/configs", Kind::heeds_not("per_page", "20")).always());
    server.fault(Fault::on("/v3/projects", Kind::heeds_not("per_page", "4")).always());
    let connection = connection(&server);
    assert_eq!(datasets(&connection, Some("backend")).await.unwrap().len(), 45);
    assert_eq!(datasets(&connection, None).await.unwrap().len(), 45 + 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_whose_pages_do_not_fit_is_refused() {
    let (doppler, server) = doppler();
    for n in 0..45 {
        doppler.set("backend", &format!("c{n:02}"), "A", "a", "masked");
    }
    let connection = connection(&server);
    let other = || Kind::heeds_not("page", "1");
    for (kind, says) in [
        // A server that gives the first page whatever is asked for, and says so.
        (other(), "page 2 was requested, but page 1 came"),
        // The same, and it does not say so.
        (
            Kind::Alter(Arc::new(|body: &mut Value| {
                body["page"] = Value::Null;
                body["configs"] = json!([{"name": "a"}, {"name": "b"}]);
            })),
            "a came twice",
        ),
        // Two configs of one name on one page.
        (
            Kind::Alter(Arc::new(|body: &mut Value| body["configs"] = json!([{"name": "a"}, {"name": "a"}]))),
            "a came twice",
        ),
    ] {
        server.heal();
        server.fault(Fault::on("/v3/configs", kind).always());
        let error = datasets(&connection, Some("backend")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_takes_five_hundred_changes_at_once_and_the_rest_after() {
    let (doppler, server) = doppler();
    for n in 0..1200 {
        doppler.set("backend", "prd", &format!("SECRET_{n}"), &format!("value-{n}"), "masked");
    }
    let before = doppler.content("backend", "prd");
    let reading = config(&server).open(&Context::default()).await.unwrap();
    doppler.wipe("backend", "prd");
    let name = "backend.prd-20261121-033000.json.age".parse().unwrap();
    let input = RestoreInput::new(reading.stream, name, None);
    let target = DopplerTarget::new(connection(&server), Scope::of("backend", "prd"));
    target.restore(input, &Context::default()).await.unwrap();
    assert_eq!(doppler.content("backend", "prd"), before);
    assert_eq!(server.count("POST", "/secrets"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_leaves_different_is_said_at_its_end() {
    let (doppler, server) = doppler();
    doppler.set("backend", "prd", "A", "a-value", "masked").set("backend", "prd", "R", "r-value", "restricted");
    let reading = config(&server).open(&Context::default()).await.unwrap();
    doppler.wipe("backend", "prd");
    doppler.set("backend", "prd", "STRAY", "s-value", "masked");
    let name = "backend.prd-20261121-033000.json.age".parse().unwrap();
    let input = RestoreInput::new(reading.stream, name, None);
    let target = DopplerTarget::new(connection(&server), Scope::of("backend", "prd"));
    let checks = target.restore(input, &Context::default()).await.unwrap();
    let last = checks.last().unwrap();
    assert_eq!((last.name.as_str(), last.status), ("read back", Status::Warn));
    let says = "the rest of the backup is in Doppler; 1 of the backup could not be restored: R; 1 more, which are not in the \
                backup: STRAY";
    assert_eq!(last.detail, says);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_secret_that_doppler_does_not_take_does_not_hold_up_the_others() {
    let (doppler, server) = doppler();
    doppler.set("backend", "prd", "A", "a-value", "masked");
    let content = bytes::Bytes::from_static(br#"{"A":"b-value","lower-case":"c-value"}"#);
    let name = "backend.prd-20261121-033000.json.age".parse().unwrap();
    let input = RestoreInput::new(lifeboat_core::stream::once(content), name, None);
    let target = DopplerTarget::new(connection(&server), Scope::of("backend", "prd"));
    let prepared = target.plan(input, &Context::default()).await.unwrap();
    let named = prepared.plan().changes.iter().find(|change| change.name == "lower-case").unwrap();
    assert!(named.note.as_deref().unwrap().contains("does not accept this name"), "{named:?}");
    assert_eq!(server.count("POST", "/secrets"), 0);
    let checks = prepared.apply(&Context::default()).await.unwrap();
    assert!(checks.last().unwrap().detail.contains("lower-case"), "{checks:?}");
    assert_eq!(doppler.content("backend", "prd")["A"].0, "b-value");
}
