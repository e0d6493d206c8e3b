//! The source keeps what the trait promises, and a plan what it says, against an imitation of the API.
#![cfg(feature = "cloudflare-dns")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use lifeboat_backends::cloudflare::{Api, CloudflareTarget, CloudflareZone, ZoneRef};
use lifeboat_core::{Action, ArtifactName, Context, RestoreInput, Source, Target};
use lifeboat_testkit::cloudflare::{ALL, Cloudflare};
use lifeboat_testkit::conformance::source;
use lifeboat_testkit::http_api::{Fault, Kind, Server};
use serde_json::json;

const TOKEN: &str = "a-token";

fn place() -> (Arc<Cloudflare>, Server, Api) {
    let cloudflare = Cloudflare::new();
    cloudflare.token(TOKEN, &ALL);
    cloudflare.zone("example.org");
    for n in 0..50 {
        cloudflare.add("example.org", json!({"type": "A", "name": format!("h{n}"), "content": "192.0.2.1"}));
    }
    let (server, url) = cloudflare.serve();
    let api = Api::new(TOKEN.to_owned().into(), "TOKEN", Some(&url)).unwrap();
    (cloudflare, server, api)
}

fn zone() -> ZoneRef {
    ZoneRef::parse("example.org").unwrap()
}

async fn input(api: &Api) -> RestoreInput {
    let reading = CloudflareZone::new(api.clone(), zone()).open(&Context::default()).await.unwrap();
    let name: ArtifactName = "example.org-20261121-033000.tar".parse().unwrap();
    RestoreInput::new(reading.stream, name, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone() {
    let (_cloudflare, _server, api) = place();
    source::all(&CloudflareZone::new(api, zone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_changes_nothing_until_it_is_applied() {
    let (cloudflare, server, api) = place();
    let before = cloudflare.content("example.org");
    let input = input(&api).await;
    cloudflare.wipe("example.org");
    let target = CloudflareTarget::new(api, ZoneRef::Any);
    assert!(target.plans());
    let prepared = target.plan(input, &Context::default()).await.unwrap();
    assert_eq!(prepared.plan().counts().create, 50);
    assert!(prepared.plan().changes.iter().all(|c| c.action == Action::Create));
    assert!(server.requests().iter().all(|r| r.method == "GET"));
    let checks = prepared.apply(&Context::default()).await.unwrap();
    assert_eq!(checks[0].detail, "50 created, 0 updated, 0 deleted");
    assert_eq!(cloudflare.content("example.org"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_sends_nothing_more() {
    let (cloudflare, server, api) = place();
    let input = input(&api).await;
    cloudflare.wipe("example.org");
    let context = Context::default();
    let cancel = context.cancel.clone();
    let target = CloudflareTarget::new(api, zone());
    let prepared = target.plan(input, &context).await.unwrap();
    server.fault(Fault::on("/batch", Kind::Before(Arc::new(move || cancel.cancel()))));
    let error = prepared.apply(&context).await.unwrap_err();
    assert_eq!(error.kind(), lifeboat_core::ErrorKind::Cancelled);
    assert_eq!(server.count("POST", "/batch"), 1);
}
