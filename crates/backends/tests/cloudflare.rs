//! The source keeps what the trait promises, and a plan what it says, against an imitation of the API.
#![cfg(feature = "cloudflare-dns")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use lifeboat_backends::cloudflare::{
    Api, CloudflareSystem, CloudflareTarget, CloudflareVerifier, CloudflareZone, Extra, ZoneRef,
};
use lifeboat_core::system::System;
use lifeboat_core::{Action, ArtifactName, Context, ErrorKind, RestoreInput, Source, Status, Target, Verifier};
use lifeboat_testkit::cloudflare::{ALL, Cloudflare, Right};
use lifeboat_testkit::conformance::source;
use lifeboat_testkit::http_api::{Fault, Kind, Request, Response, Server};
use serde_json::{Value, json};

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

/// The members of what is read from a zone.
async fn archive(api: &Api, zone: ZoneRef) -> lifeboat_core::Result<Vec<u8>> {
    use futures::TryStreamExt;
    let reading = CloudflareZone::new(api.clone(), zone).open(&Context::default()).await?;
    reading.stream.try_fold(Vec::new(), |all, chunk| async move { Ok([&all[..], &chunk].concat()) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_ends_where_the_api_says_and_not_with_a_short_page() {
    let (cloudflare, server, api) = place();
    let rulesets: Vec<_> = (0..45).map(|n| json!({"id": format!("r{n}"), "kind": "managed"})).collect();
    cloudflare.set_part("example.org", "rulesets", json!(rulesets));
    server.fault(Fault::on("/dns_records", Kind::heeds_not("per_page", "20")).always());
    let read = String::from_utf8_lossy(&archive(&api, zone()).await.unwrap()).into_owned();
    assert!(read.contains("\"h49.example.org\"") && read.contains("\"r44\""));
    for n in 0..45 {
        cloudflare.zone(&format!("z{n}.example"));
    }
    server.fault(Fault::on("/zones", Kind::heeds_not("per_page", "20")).always());
    assert_eq!(api.zones(&tokio_util::sync::CancellationToken::new()).await.unwrap().len(), 46);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_does_not_say_its_end_or_does_not_fit_is_refused() {
    let (_cloudflare, server, api) = place();
    let short: fn(&mut Value) = |body| {
        body["result"].as_array_mut().unwrap().truncate(20);
        body["result_info"] = Value::Null;
    };
    let miscounted: fn(&mut Value) = |body| body["result"].as_array_mut().unwrap().truncate(20);
    let without_totals: fn(&mut Value) = |body| {
        let info = body["result_info"].as_object_mut().unwrap();
        info.remove("total_count");
        info.remove("total_pages");
    };
    let one_too_many: fn(&mut Value) = |body| body["result_info"]["total_count"] = 51.into();
    for (alter, says) in [
        (short, "no result_info"),
        (miscounted, "announces 50 entries on a page, but 20 came"),
        (without_totals, "neither total_count nor total_pages"),
        (one_too_many, "51 entries announced, 50 read"),
    ] {
        server.heal();
        server.fault(Fault::on("/dns_records", Kind::Alter(Arc::new(alter))).always());
        let error = archive(&api, zone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains(says), "{error}");
    }
    server.heal();
    server.fault(Fault::on("/dns_records", Kind::heeds_not("page", "1")).always());
    server.fault(Fault::on("/dns_records", Kind::heeds_not("per_page", "20")).always());
    let both = Kind::Rewrite(Arc::new(|request: &mut Request| {
        for (name, value) in &mut request.query {
            match name.as_str() {
                "page" => *value = "1".to_owned(),
                "per_page" => *value = "20".to_owned(),
                _ => {}
            }
        }
    }));
    server.heal();
    server.fault(Fault::on("/dns_records", both).always());
    let error = archive(&api, zone()).await.unwrap_err();
    assert!(error.message().contains("page 2 was requested, but page 1 came"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_part_that_cannot_be_read_ends_no_backup_and_is_named() {
    let (_cloudflare, server, api) = place();
    let miscounted: fn(&mut Value) = |body| body["result_info"]["total_count"] = 7.into();
    server.fault(Fault::on("/email/routing/rules", Kind::Alter(Arc::new(miscounted))).always());
    let failed = json!({"success": false, "errors": [{"code": 10013, "message": "An unknown error has occurred"}]});
    server.fault(Fault::on("/pagerules", Kind::Answer(Response::json(501, &failed))).always());
    let said = Arc::new(lifeboat_core::progress::Tally::default());
    let context = Context::default().progress(said.clone());
    let mut reading = CloudflareZone::new(api.clone(), zone()).open(&context).await.unwrap();
    let mut read = Vec::new();
    while let Some(chunk) = futures::StreamExt::next(&mut reading.stream).await {
        read.extend_from_slice(&chunk.unwrap());
    }
    reading.tap.push(&read).unwrap();
    let proof = reading.tap.finish().unwrap();
    let missing = proof.details["parts that could not be read"].to_string();
    assert!(missing.contains("e-mail routing rules (") && missing.contains("7 entries announced, 0 read"), "{missing}");
    let notes = said.notes().join("\n");
    assert!(notes.contains("because it could not be read: e-mail routing rules ("), "{notes}");
    assert!(notes.contains("the plan does not have it: page rules"), "{notes}");

    let name: ArtifactName = "example.org-20261121-033000.tar".parse().unwrap();
    let stream = lifeboat_core::stream::once(bytes::Bytes::from(read));
    let checks = CloudflareVerifier::default()
        .restore_test(RestoreInput::new(stream, name, Some(proof)), &Context::default())
        .await
        .unwrap();
    let told = checks.iter().find(|check| check.name == "further parts").unwrap();
    assert!(told.status == Status::Warn && told.detail.contains("e-mail routing rules"), "{told:?}");
    assert!(checks.iter().all(|check| check.status != Status::Fail), "{checks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_larger_plan_come_back_without_what_a_smaller_one_refuses() {
    let (cloudflare, server, api) = place();
    cloudflare.set_plan("example.org", "pro");
    let tagged = json!({"type": "A", "name": "tagged", "content": "192.0.2.7", "comment": "c", "tags": ["a:b"]});
    cloudflare.add("example.org", tagged);
    let whole = input(&api).await;
    let again = input(&api).await;
    cloudflare.wipe("example.org");
    cloudflare.set_plan("example.org", "free");
    let target = CloudflareTarget::new(api.clone(), zone());
    let checks = target.plan(whole, &Context::default()).await.unwrap().apply(&Context::default()).await.unwrap();
    let refused = checks.iter().find(|check| check.figure == "refused").unwrap();
    assert!(
        refused.name == "A tagged.example.org" && refused.detail.ends_with("--without tags,comment"),
        "{refused:?}"
    );
    assert_eq!(cloudflare.ids("example.org").len(), 50);

    let target = target.without(vec![Extra::Tags]);
    let checks = target.plan(again, &Context::default()).await.unwrap().apply(&Context::default()).await.unwrap();
    assert!(checks.iter().all(|check| check.status == Status::Pass), "{checks:#?}");
    assert!(cloudflare.content("example.org").iter().any(|r| r.contains("tagged") && r.contains("\"comment\":\"c\"")));
    // What the live zone has of it is no difference either.
    cloudflare.set_plan("example.org", "pro");
    let id = cloudflare.ids("example.org").pop().unwrap();
    cloudflare.edit("example.org", &id, "tags", json!(["x:y"]));
    let input = input(&api).await;
    let prepared = target.plan(input, &Context::default()).await.unwrap();
    assert_eq!(prepared.plan().counts().to_do(), 0);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_batches_are_not_served_each_record_is_sent_by_itself() {
    for status in [404, 405, 501] {
        let (cloudflare, server, api) = place();
        for n in 0..160 {
            cloudflare.add("example.org", json!({"type": "A", "name": format!("m{n}"), "content": "192.0.2.1"}));
        }
        let before = cloudflare.content("example.org");
        let input = input(&api).await;
        cloudflare.wipe("example.org");
        let none =
            json!({"success": false, "errors": [{"code": 7000, "message": "No route for that URI"}], "result": null});
        server.fault(Fault::on("/batch", Kind::Answer(Response::json(status, &none))).always());
        let target = CloudflareTarget::new(api, zone());
        target.restore(input, &Context::default()).await.unwrap();
        assert_eq!(cloudflare.content("example.org"), before);
        let batches = server.count("POST", "/batch");
        assert!(batches == 1 || status == 405 && batches == 2, "{status}: {batches}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_write_is_told_how_to_name_another() {
    let (cloudflare, _server, api) = place();
    let input = input(&api).await;
    cloudflare.wipe("example.org");
    cloudflare.token(TOKEN, &[Right::Zone, Right::DnsRead]);
    let error = CloudflareTarget::new(api, zone()).restore(input, &Context::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    let advice = error.advice().unwrap();
    assert!(advice.contains("--token env:NAME") && !advice.contains("run the same command again"), "{advice}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_zones_with_one_name_the_active_one_is_read_and_said() {
    let (cloudflare, server, api) = place();
    let left_behind = cloudflare.zone("example.org");
    cloudflare.set_status(&left_behind, "moved");
    // The API gives the one that was left behind first.
    let reversed: fn(&mut Value) = |body| body["result"].as_array_mut().unwrap().reverse();
    server.fault(Fault::on("/zones", Kind::Alter(Arc::new(reversed))).method("GET").times(1));
    let said = Arc::new(lifeboat_core::progress::Tally::default());
    let context = Context::default().progress(said.clone());
    CloudflareZone::new(api.clone(), zone()).open(&context).await.unwrap();
    assert_eq!(server.requests()[1].segments()[3..], [&*cloudflare.zones("example.org")[0], "dns_records"]);
    let said = said.notes().join("; ");
    assert!(said.contains(&format!("instead of {left_behind} (moved")), "{said}");

    let settings = json!({"zone": "*", "token": TOKEN, "api_url": server.url() + "/client/v4"});
    let opening = lifeboat_core::system::Opening::of_table(&lifeboat_core::system::NoSinks);
    let system = CloudflareSystem::open(serde_json::from_value(settings).unwrap(), &opening).unwrap();
    let datasets = system.datasets().await.unwrap();
    assert_eq!(datasets.iter().map(lifeboat_core::Dataset::as_str).collect::<Vec<_>>(), ["example.org"]);

    cloudflare.set_status(&left_behind, "active");
    let error = archive(&api, zone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("2 zones of that name") && error.message().contains(&left_behind), "{error}");
    archive(&api, ZoneRef::parse(&left_behind).unwrap()).await.unwrap();
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
