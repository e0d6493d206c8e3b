//! Cloudflare DNS through the binaries, against an imitation of its API: the full circle, the day without Cloudflare, every
//! failure.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Desk, Run, interrupted_at_each_request};
use lifeboat_testkit::cloudflare::{ALL, Cloudflare, Right};
use lifeboat_testkit::http_api::{Fault, Kind, Response, Server};
use serde_json::{Value, json};

const TOKEN: &str = "cfTokenThatMayDoEverything_0123456789abcd";
const READER: &str = "cfTokenThatReadsRecordsOnly_0123456789abc";
const ZONE: &str = "example.org";

struct Place {
    desk: Desk,
    cloudflare: Arc<Cloudflare>,
    server: Server,
    url: String,
}

impl Place {
    /// With an empty zone.
    fn empty() -> Self {
        let cloudflare = Cloudflare::new();
        cloudflare.token(TOKEN, &ALL);
        cloudflare.token(READER, &[Right::Zone, Right::DnsRead]);
        cloudflare.zone(ZONE);
        let (server, url) = cloudflare.serve();
        let mut desk = Desk::new();
        desk.set("CLOUDFLARE_API_TOKEN", TOKEN).set("CLOUDFLARE_API_URL", &*url).set("LIFEBOAT_RETRY_LIMIT", "1");
        Self { desk, cloudflare, server, url }
    }

    /// With a zone that has one record of each type, and everything that is easy to get wrong.
    fn new() -> Self {
        let place = Self::empty();
        place.cloudflare.set_plan(ZONE, "pro");
        for record in every_type() {
            place.cloudflare.add(ZONE, record);
        }
        place
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.desk.run("lifeboat-cloudflare-dns", arguments)
    }

    fn backup(&self) -> Run {
        self.run(&["backup", "--zone", ZONE, "--to", &self.desk.sink(), "--encrypt", &self.desk.encrypt()])
    }

    fn verify(&self, more: &[&str]) -> Run {
        let (sink, key) = (self.desk.sink(), self.desk.key());
        let base = ["verify", "--zone", ZONE, "--to", &sink, "--identity", &key, "--no-record"];
        self.run(&[&base[..], more].concat())
    }

    fn restore(&self, more: &[&str]) -> Run {
        let (sink, key) = (self.desk.sink(), self.desk.key());
        let base = ["restore", "--dataset", ZONE, "--to", &sink, "--identity", &key];
        self.run(&[&base[..], more].concat())
    }

    fn restore_live(&self, more: &[&str]) -> Run {
        self.restore(&[&["--into", "cloudflare://example.org"], more].concat())
    }

    /// What the newest backup's proof says of the records.
    fn proof(&self) -> Vec<Value> {
        let (sink, key) = (self.desk.sink(), self.desk.key());
        let run = self.run(&["show", "--dataset", ZONE, "--to", &sink, "--identity", &key, "--items", "--json"]).good();
        let items = run.json()["items"].as_array().unwrap().clone();
        items.into_iter().filter(|i| i["kind"] == "record" || i["kind"] == "setting").collect()
    }
}

/// Every type that Cloudflare documents; Unicode, wildcards, long text, several strings, comments, tags.
fn every_type() -> Vec<Value> {
    let long = "k=rsa; p=".to_owned() + &"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A".repeat(14);
    let (first, second) = long.split_at(255);
    let plain =
        |kind: &str, name: &str, content: &str| json!({"type": kind, "name": name, "content": content, "ttl": 300});
    let made = |kind: &str, name: &str, data: Value| json!({"type": kind, "name": name, "data": data, "ttl": 3600});
    vec![
        json!({"type": "A", "name": "@", "content": "192.0.2.1", "ttl": 1, "proxied": true, "comment": "the shop; do not touch"}),
        json!({"type": "A", "name": "@", "content": "192.0.2.2", "ttl": 1, "proxied": true}),
        json!({"type": "AAAA", "name": "@", "content": "2001:db8::1", "ttl": 1, "proxied": true, "tags": ["team:web", "tier"]}),
        json!({"type": "CNAME", "name": "www", "content": "example.org", "ttl": 1, "proxied": true}),
        json!({"type": "CNAME", "name": "flat", "content": "target.example.net", "ttl": 300, "settings": {"flatten_cname": true}}),
        plain("A", "*.wild", "192.0.2.3"),
        plain("CNAME", "bücher", "xn--bcher-kva.example.net"),
        plain("CNAME", "*.日本語", "example.net"),
        plain("NS", "delegated", "ns1.other.example"),
        plain("NS", "delegated", "ns2.other.example"),
        plain("NS", "@", "ns.secondary.example"),
        json!({"type": "MX", "name": "@", "content": "mail.example.org", "priority": 10, "ttl": 300}),
        json!({"type": "MX", "name": "nomail", "content": ".", "priority": 0, "ttl": 300}),
        plain("PTR", "4", "host.example.org"),
        plain("OPENPGPKEY", "8fb1._openpgpkey", "aGVsbG8gd29ybGQ="),
        plain("TXT", "@", "\"v=spf1 include:_spf.example.net -all\""),
        plain("TXT", "dkim._domainkey", &format!("\"{first}\" \"{second}\"")),
        plain("TXT", "quotes", "\"say \\\"hi\\\"; and \\\\ too\""),
        plain("TXT", "unicode", "\"grüße 日本\""),
        plain("TXT", "bare", "unquoted = content"),
        made("CAA", "@", json!({"flags": 0, "tag": "issue", "value": "letsencrypt.org"})),
        made("CERT", "cert", json!({"type": 1, "key_tag": 9, "algorithm": 8, "certificate": "aGVsbG8="})),
        made("DNSKEY", "sub", json!({"flags": 257, "protocol": 3, "algorithm": 13, "public_key": "aGVsbG8="})),
        made(
            "DS",
            "delegated",
            json!({"key_tag": 60485, "algorithm": 5, "digest_type": 1,
            "digest": "2bb183af5f22588179a53b0a98631fad1a292118"}),
        ),
        made("HTTPS", "svc", json!({"priority": 1, "target": ".", "value": "alpn=\"h3,h2\""})),
        made("SVCB", "_dns", json!({"priority": 1, "target": "dns.example.net", "value": "port=\"853\""})),
        made(
            "LOC",
            "hq",
            json!({"lat_degrees": 52, "lat_minutes": 22, "lat_seconds": 23.5, "lat_direction": "N",
            "long_degrees": 4, "long_minutes": 53, "long_seconds": 32, "long_direction": "E", "altitude": -2.5, "size": 1,
            "precision_horz": 10000, "precision_vert": 10}),
        ),
        made(
            "NAPTR",
            "sip",
            json!({"order": 100, "preference": 10, "flags": "S", "service": "SIP+D2U", "regex": "",
            "replacement": "_sip._udp.example.org"}),
        ),
        made(
            "SMIMEA",
            "8fb1._smimecert",
            json!({"usage": 3, "selector": 1, "matching_type": 1, "certificate": "abcdef"}),
        ),
        made("SRV", "_sip._tcp", json!({"priority": 10, "weight": 5, "port": 5060, "target": "sip.example.org"})),
        made("SSHFP", "host", json!({"algorithm": 4, "type": 2, "fingerprint": "abcdef0123"})),
        made("TLSA", "_25._tcp.mail", json!({"usage": 3, "selector": 1, "matching_type": 1, "certificate": "00ff"})),
        json!({"type": "URI", "name": "_ftp._tcp", "priority": 10, "ttl": 300, "data": {"weight": 1, "target": "ftp://ftp.example.org/public"}}),
    ]
}

#[test]
fn a_zone_that_was_wiped_comes_back_as_it_was() {
    let place = Place::new();
    let before = place.cloudflare.content(ZONE);
    place.backup().good();
    let proof = place.proof();
    place.verify(&[]).good().says("PASS");
    place.cloudflare.wipe(ZONE);

    let plan = place.restore_live(&[]).good().says("nothing was changed; --apply does it");
    assert!(plan.stdout.contains("+ CNAME"), "{}", plan.stdout);
    assert_eq!(place.cloudflare.content(ZONE), Vec::<String>::new(), "a plan changes nothing");

    let count = before.len();
    place.restore_live(&["--apply"]).good().says(&format!("{count} created, 0 updated, 0 deleted"));
    assert_eq!(place.cloudflare.content(ZONE), before);
    place.restore_live(&["--apply"]).good().says(&format!("{count} as in the backup"));
    assert_eq!(place.server.count("POST", "/batch"), 1, "the second time there was nothing to do");

    place
        .run(&[
            "backup",
            "--zone",
            ZONE,
            "--dataset",
            "again",
            "--to",
            &place.desk.sink(),
            "--encrypt",
            &place.desk.encrypt(),
        ])
        .good();
    let (sink, key) = (place.desk.sink(), place.desk.key());
    let again =
        place.run(&["show", "--dataset", "again", "--to", &sink, "--identity", &key, "--items", "--json"]).good();
    let items: Vec<Value> = again.json()["items"].as_array().unwrap().clone();
    let items: Vec<Value> = items.into_iter().filter(|i| i["kind"] == "record" || i["kind"] == "setting").collect();
    assert_eq!(items, proof);
}

#[test]
fn equal_zones_make_equal_archives() {
    let place = Place::new();
    let hash = |dataset: &str| {
        let sink = place.desk.sink();
        place
            .run(&[
                "backup",
                "--zone",
                ZONE,
                "--dataset",
                dataset,
                "--to",
                &sink,
                "--encrypt",
                "none",
                "--compress",
                "none",
            ])
            .good();
        let file = place.desk.stored().into_iter().find(|f| f.starts_with(dataset) && f.ends_with(".tar")).unwrap();
        std::fs::read(place.desk.path("sink").join(file)).unwrap()
    };
    assert_eq!(hash("one"), hash("two"));
}

#[test]
fn the_name_of_the_scripts_is_kept_and_tar_opens_it() {
    let place = Place::new();
    let sink = place.desk.sink();
    place.run(&["backup", "--zone", ZONE, "--dataset", "dns-zone", "--to", &sink, "--encrypt", "none"]).good();
    let file = place.desk.stored().into_iter().find(|f| f.ends_with(".tar.gz")).unwrap();
    assert!(file.starts_with("dns-zone-"), "{file}");
    let listed = place.desk.run("tar", &["-tzf", &format!("sink/{file}")]).good().stdout;
    for member in
        ["all_records.json", "zone_settings.json", "zone-export.txt", "dnssec.json", "rulesets.json", "parts.json"]
    {
        assert!(listed.lines().any(|l| l == member), "{member} is not in\n{listed}");
    }
    let line = place.run(&["show", "--dataset", "dns-zone", "--to", &sink, "--json"]).good().json();
    let shell = line["restore_command"].as_str().unwrap().to_owned();
    let zone = place.desk.run("sh", &["-c", &shell]).good().stdout;
    assert!(zone.contains("IN\tSOA") && !zone.contains(";; Exported"), "{zone}");
}

#[test]
fn what_was_changed_is_shown_as_a_diff_and_changed_back() {
    let place = Place::new();
    place.backup().good();
    let before = place.cloudflare.content(ZONE);
    let ids = place.cloudflare.ids(ZONE);
    place.cloudflare.edit(ZONE, &ids[0], "content", "203.0.113.9".into());
    place.cloudflare.edit(ZONE, &ids[3], "proxied", false.into());
    place.cloudflare.edit(ZONE, &ids[3], "ttl", 600.into());
    place.cloudflare.remove(ZONE, &ids[11]);
    place.cloudflare.add(ZONE, json!({"type": "A", "name": "new", "content": "192.0.2.99"}));
    let plan = place.restore_live(&[]).good();
    for line in [
        "~ A      example.org",
        "    - 203.0.113.9 ttl=auto proxied",
        "    + 192.0.2.1 ttl=auto proxied comment=\"the shop; do not touch\"",
        "+ MX     example.org",
        "(not in the backup; --delete-extra deletes it)",
        "1 to create, 2 to update, 0 to delete",
    ] {
        assert!(plan.stdout.contains(line), "{line}\nis not in\n{}", plan.stdout);
    }
    let json = place.restore_live(&["--json"]).good().json();
    assert_eq!((&json["applied"], &json["plan"]["counts"]["update"]), (&json!(false), &json!(2)));
    let live = place.verify(&["--level", "live"]).good();
    for words in ["drift of records", "is 203.0.113.9", "new", "gone"] {
        assert!(live.stdout.contains(words), "{words}\n{}", live.stdout);
    }

    place.restore_live(&["--apply"]).good();
    let after = place.cloudflare.content(ZONE);
    assert_eq!(after.len(), before.len() + 1, "what was not told about stays");
    place.restore_live(&["--apply", "--delete-extra"]).good().says("1 deleted");
    assert_eq!(place.cloudflare.content(ZONE), before);
}

#[test]
fn a_record_in_the_way_is_deleted_only_when_told() {
    let place = Place::new();
    place.backup().good();
    let before = place.cloudflare.content(ZONE);
    let ids = place.cloudflare.ids(ZONE);
    place.cloudflare.remove(ZONE, &ids[3]);
    place.cloudflare.add(ZONE, json!({"type": "A", "name": "www", "content": "192.0.2.77"}));
    place.restore_live(&["--apply"]).good().says("is in the way");
    place.restore_live(&["--apply", "--delete-extra"]).good();
    assert_eq!(place.cloudflare.content(ZONE), before);
}

#[test]
fn what_cloudflare_manages_is_left_alone_and_said() {
    let place = Place::new();
    let mx = json!({"type": "MX", "name": "@", "content": "route1.mx.cloudflare.net", "priority": 5});
    place.cloudflare.add_managed(ZONE, mx, json!({"email_routing": true, "read_only": true}));
    place.cloudflare.add(ZONE, json!({"type": "NS", "name": "@", "content": "ada.ns.cloudflare.com"}));
    place.backup().good();
    place.verify(&[]).good();
    let before = place.cloudflare.content(ZONE);
    let plan = place.restore_live(&["--apply", "--delete-extra"]).good();
    for words in ["Cloudflare's e-mail routing manages it", "Cloudflare chooses its name servers itself"] {
        assert!(plan.stdout.contains(words), "{}", plan.stdout);
    }
    assert_eq!(place.cloudflare.content(ZONE), before);
}

#[test]
fn settings_are_restored_when_told_where_they_can_be() {
    let place = Place::new();
    place.backup().good();
    place.cloudflare.set(ZONE, "ssl", "off".into());
    place.cloudflare.set(ZONE, "waf", "on".into());
    place.restore_live(&["--apply"]).good();
    assert_eq!(place.cloudflare.setting(ZONE, "ssl"), "off", "nobody said --settings");
    place.restore_live(&["--apply", "--settings"]).good().says("the zone's plan does not allow changing it");
    assert_eq!(place.cloudflare.setting(ZONE, "ssl"), "full");
    assert_eq!(place.cloudflare.setting(ZONE, "waf"), "on");
}

#[test]
fn five_thousand_records_go_round_in_batches() {
    let place = Place::empty();
    place.cloudflare.set_plan(ZONE, "pro");
    for n in 0..5000 {
        let record = json!({"type": "A", "name": format!("h{n}"), "content": format!("10.0.{}.{}", n / 250, n % 250), "ttl": 300});
        place.cloudflare.add(ZONE, record);
    }
    let before = place.cloudflare.content(ZONE);
    place.backup().good();
    assert_eq!(place.server.count("GET", "/dns_records"), 6, "five pages and the export");
    place.verify(&[]).good().says("5000 A");
    place.cloudflare.wipe(ZONE);
    place.restore_live(&["--apply"]).good().says("5000 created");
    assert_eq!(place.server.count("POST", "/batch"), 2, "3,500 at once");
    assert_eq!(place.cloudflare.content(ZONE), before);
}

#[test]
fn one_refused_record_does_not_hold_up_the_others() {
    let place = Place::new();
    place.backup().good();
    let count = place.cloudflare.content(ZONE).len();
    place.cloudflare.wipe(ZONE);
    // Tags need a plan that is paid for.
    place.cloudflare.set_plan(ZONE, "free");
    let run = place.restore_live(&["--apply"]).ended(1);
    for words in [
        format!("{} created", count - 1),
        "exceeding the quota".to_owned(),
        "AAAA example.org".to_owned(),
        "PART".to_owned(),
    ] {
        assert!(run.stdout.contains(&words), "{words}\n{}", run.stdout);
    }
    assert_eq!(place.cloudflare.content(ZONE).len(), count - 1);
}

#[test]
fn a_restore_that_was_cut_off_is_finished_by_the_next_one() {
    let place = Place::empty();
    for n in 0..450 {
        place.cloudflare.add(ZONE, json!({"type": "A", "name": format!("h{n}"), "content": "192.0.2.1"}));
    }
    let before = place.cloudflare.content(ZONE);
    place.backup().good();
    place.cloudflare.wipe(ZONE);
    // The second batch is done, but the answer is lost.
    place.server.fault(Fault::on("/batch", Kind::Close { done: true }).after(1));
    place.restore_live(&["--apply"]).ended(1).says("run the same command again");
    assert_eq!(place.cloudflare.content(ZONE).len(), 400);
    place.restore_live(&["--apply"]).good().says("50 created");
    assert_eq!(place.cloudflare.content(ZONE), before);
}

#[test]
fn on_the_worst_day_the_zone_becomes_a_file_for_another_provider() {
    let place = Place::new();
    place.backup().good();
    place.server.fault(Fault::on("/", Kind::Answer(Response::html(502, "Bad gateway"))).always());
    let run =
        place.restore(&["--into", "file:zone.txt"]).good().says("an independent DNS library reads the same records");
    assert!(run.stdout.contains("behind Cloudflare's proxy"), "{}", run.stdout);
    assert_eq!(place.server.requests().iter().filter(|r| r.method != "GET").count(), 0);
    let path = place.desk.path("zone.txt");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    for line in [
        "$ORIGIN example.org.",
        "_sip._tcp.example.org.\t3600\tIN\tSRV\t10 5 5060 sip.example.org.",
        "*.xn--wgv71a119e.example.org.",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    place.restore(&["--into", "file:zone.txt"]).ended(1).says("already exists");
    place.restore(&["--into", "file:zone.txt", "--replace"]).good();
    let piped = place.restore(&["--into", "-"]).good();
    assert_eq!(piped.stdout, text, "standard output holds the zone and nothing else");
    place.restore(&["--into", "-", "--json"]).ended(2).says("--into file:PATH");
    place.restore(&["--into", "file:x", "--apply"]).ended(2);
    place.restore(&["--into", "file:x", "--settings"]).ended(2);
}

#[test]
fn all_zones_of_a_token_are_one_job() {
    let mut place = Place::new();
    place.cloudflare.zone("example.net");
    place.cloudflare.add("example.net", json!({"type": "A", "name": "@", "content": "192.0.2.50"}));
    place.cloudflare.zone("own.example");
    let config = format!(
        "[sinks.local]\nurl = \"{}\"\n[defaults]\nencrypt = \"none\"\nprefix = \"dns\"\nkeep = \"last=1\"\n\
         [jobs.dns]\ncloudflare-dns = {{ zone = \"*\", api_url = \"{}\" }}\n\
         [jobs.own]\ncloudflare-dns = {{ zone = \"own.example\", token = \"${{CLOUDFLARE_API_TOKEN}}\", api_url = \"{}\" }}\n",
        place.desk.sink(),
        place.url,
        place.url
    );
    std::fs::write(place.desk.path("lifeboat.toml"), config).unwrap();
    place.desk.set("CLOUDFLARE_API_URL", "");
    let lifeboat = |arguments: &[&str]| place.desk.run("lifeboat", arguments);
    let backup = lifeboat(&["backup", "dns", "--json"]).good().json();
    let keys: Vec<&str> = backup.as_array().unwrap().iter().map(|r| r["dataset"].as_str().unwrap()).collect();
    assert_eq!(keys, ["example.net", "example.org"], "own.example has a job of its own");
    lifeboat(&["backup", "own"]).good();
    let of = |job: &str| {
        let rows = lifeboat(&["list", job, "--json"]).good().json();
        rows.as_array().unwrap().iter().map(|r| r["dataset"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("own"), ["own.example"]);
    assert_eq!(of("dns").len(), 2);
    assert_eq!(lifeboat(&["verify", "dns", "--json"]).good().json().as_array().unwrap().len(), 2);
    lifeboat(&["verify", "dns", "--level", "live"]).good();
    lifeboat(&["prune", "dns", "--dry-run"]).good().says("dns/example.net: nothing to delete");
    let offsite = place.desk.path("offsite");
    place.desk.known("offsite");
    lifeboat(&["replicate", "dns", "--to", &format!("file://{}", offsite.display())]).good();
    let copied = harness::stored_in(&offsite);
    assert!(copied.iter().any(|key| key.contains("example.net")), "{copied:?}");
    assert!(!copied.iter().any(|key| key.contains("own.example")), "it is another job's: {copied:?}");
    lifeboat(&["restore", "dns", "--into", "cloudflare://"]).ended(2).says("example.net, example.org");
    place.cloudflare.wipe("example.net");
    lifeboat(&["restore", "dns", "--dataset", "example.net", "--into", "cloudflare://", "--apply"])
        .good()
        .says("1 created");
    let key = place.desk.stored().into_iter().find(|k| k.contains("example.net") && k.ends_with(".tar.gz")).unwrap();
    lifeboat(&["show", &key]).good().says("cloudflare-dns");
    lifeboat(&["restore", "dns", "--at", &key, "--into", "cloudflare://example.org"])
        .ended(1)
        .says("is not in example.org");
    lifeboat(&["check", "-v"]).good().says("zone example.net");
}

#[test]
fn archives_of_shell_scripts_are_verified_and_restored() {
    let place = Place::new();
    let live = place.cloudflare.content(ZONE);
    let sink = place.desk.path("sink");
    let curl = |path: &str| {
        let output = place
            .desk
            .command("sh")
            .arg("-c")
            .arg(format!("curl -sf -H \"Authorization: Bearer $CLOUDFLARE_API_TOKEN\" \"{}{path}\"", place.url))
            .output()
            .unwrap();
        assert!(output.status.success(), "curl {path}");
        String::from_utf8(output.stdout).unwrap()
    };
    let zones: Value = serde_json::from_str(&curl("/zones?name=example.org")).unwrap();
    let id = zones["result"][0]["id"].as_str().unwrap();
    let folder = place.desk.path("dns-backup");
    std::fs::create_dir(&folder).unwrap();
    let pages: String = (1..=2).map(|n| curl(&format!("/zones/{id}/dns_records?page={n}&per_page=20"))).collect();
    std::fs::write(folder.join("all_records.json"), pages).unwrap();
    std::fs::write(folder.join("zone_settings.json"), curl(&format!("/zones/{id}"))).unwrap();
    std::fs::write(folder.join("zone-export.txt"), curl(&format!("/zones/{id}/dns_records/export"))).unwrap();
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let archive = sink.join(format!("dns-zone-{stamp}.tar.gz"));
    place.desk.run("tar", &["-czf", archive.to_str().unwrap(), "dns-backup"]).good();

    let to = place.desk.sink();
    let verify = |level: &str| {
        place.run(&["verify", "--from", ZONE, "--dataset", "dns-zone", "--to", &to, "--no-record", "--level", level])
    };
    verify("restore").good().says("of the zone example.org");
    verify("live").good().says("every record is unchanged");
    place.cloudflare.wipe(ZONE);
    verify("live").good().says("WARN");
    place.run(&["restore", "--dataset", "dns-zone", "--to", &to, "--into", "cloudflare://", "--apply"]).good();
    assert_eq!(place.cloudflare.content(ZONE), live);
}

#[test]
fn an_archive_whose_parts_do_not_agree_is_found() {
    let place = Place::new();
    let (sink, to) = (place.desk.path("sink"), place.desk.sink());
    place.run(&["backup", "--zone", ZONE, "--to", &to, "--encrypt", "none"]).good();
    let file = place.desk.stored().into_iter().find(|f| f.ends_with(".tar.gz")).unwrap();
    let unpacked = place.desk.path("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    place.desk.run("tar", &["-xzf", &format!("sink/{file}"), "-C", "unpacked"]).good();
    let export = std::fs::read_to_string(unpacked.join("zone-export.txt")).unwrap();
    let pack = |name: &str, export: &str, member: &str| {
        std::fs::write(unpacked.join(member), export).unwrap();
        let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
        let archive = sink.join(format!("{name}-{stamp}.tar.gz"));
        place.desk.run("tar", &["-czf", archive.to_str().unwrap(), "-C", "unpacked", "."]).good();
        place.run(&["verify", "--dataset", name, "--to", &to, "--no-record"])
    };
    let without = export.lines().filter(|l| !l.contains("sip.example.org")).collect::<Vec<_>>().join("\n");
    pack("missing", &without, "zone-export.txt").ended(1).says("SRV _sip._tcp.example.org is not in zone-export.txt");
    let other = export.replace("letsencrypt.org", "other.example");
    pack("other", &other, "zone-export.txt").ended(1).says("CAA example.org");
    pack("unreadable", "example.org. IN A (\n", "zone-export.txt").ended(1).says("a ( has no )");
    std::fs::write(unpacked.join("zone-export.txt"), &export).unwrap();
    let records = std::fs::read_to_string(unpacked.join("all_records.json")).unwrap();
    pack("cut", &records[..records.len() / 2], "all_records.json").ended(1).says("all_records.json in the archive");
    pack("error", "{\"success\":false,\"errors\":[],\"result\":null}", "all_records.json")
        .ended(1)
        .says("an API error");
}

#[test]
fn an_old_backup_fails_after_eight_days() {
    let place = Place::new();
    let to = place.desk.sink();
    place.run(&["backup", "--zone", ZONE, "--to", &to, "--encrypt", "none"]).good();
    let file = place.desk.stored().into_iter().find(|f| f.ends_with(".tar.gz")).unwrap();
    let sink = place.desk.path("sink");
    for (days, code) in [(7, 0), (9, 1)] {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
        let name = format!("old{days}-{}.tar.gz", at.strftime("%Y%m%d-%H%M%S"));
        std::fs::copy(sink.join(&file), sink.join(name)).unwrap();
        place.run(&["verify", "--dataset", &format!("old{days}"), "--to", &to, "--no-record"]).ended(code);
    }
}

#[test]
fn an_interrupt_ends_it_at_every_request() {
    let place = Place::new();
    let (sink, key, encrypt) = (place.desk.sink(), place.desk.key(), place.desk.encrypt());
    let stages = |arguments: &[&str]| {
        interrupted_at_each_request(&place.server, &place.desk, "lifeboat-cloudflare-dns", arguments)
    };
    let backup = ["backup", "--zone", ZONE, "--to", &sink, "--encrypt", &encrypt];
    assert!(stages(&backup) > 0);
    let artifacts = place.desk.stored().into_iter().filter(|key| key.ends_with(".manifest.json")).count();
    assert_eq!(artifacts, 1, "{:?}", place.desk.stored());
    let live = ["verify", "--zone", ZONE, "--to", &sink, "--identity", &key, "--no-record", "--level", "live"];
    assert!(stages(&live) > 0);
    let before = place.cloudflare.content(ZONE);
    let restore =
        ["restore", "--dataset", ZONE, "--to", &sink, "--identity", &key, "--into", "cloudflare://example.org"];
    assert!(stages(&restore) > 0);
    assert_eq!(place.cloudflare.content(ZONE), before);
}

#[test]
fn a_list_that_changes_while_it_is_read_is_read_again() {
    let place = Place::empty();
    for n in 0..1500 {
        place.cloudflare.add(ZONE, json!({"type": "A", "name": format!("h{n}"), "content": "192.0.2.1"}));
    }
    let cloudflare = place.cloudflare.clone();
    let mutate = Kind::Before(Arc::new(move || {
        cloudflare.add(ZONE, json!({"type": "A", "name": "aaa-late", "content": "192.0.2.1"}));
    }));
    place.server.fault(Fault::on("/dns_records", mutate).after(1));
    place.backup().good();
    assert_eq!(place.server.count("GET", "/dns_records"), 5, "two pages, twice, and the export");
    assert_eq!(place.proof()[0]["count"], 1501);
    let cloudflare = place.cloudflare.clone();
    let n = std::sync::atomic::AtomicUsize::new(0);
    let always = Kind::Before(Arc::new(move || {
        let n = n.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        cloudflare.add(ZONE, json!({"type": "A", "name": format!("busy{n}"), "content": "192.0.2.1"}));
    }));
    place.server.fault(Fault::on("/dns_records", always).always());
    let sink = place.desk.sink();
    // Under another name: two backups in one second would have the same.
    let again = place.run(&["backup", "--zone", ZONE, "--dataset", "busy", "--to", &sink, "--encrypt", "none"]);
    again.ended(1).says("changed 5 times while it was read");
}

#[test]
fn a_limit_of_the_rate_is_waited_for() {
    let place = Place::new();
    let refused = || {
        Response::json(
            429,
            &json!({"success": false, "errors": [{"code": 10429, "message": "Rate limited"}], "result": null}),
        )
    };
    place.server.fault(Fault::too_many("/dns_records", Some("1"), refused()));
    place.server.fault(Fault::too_many("/settings", None, refused()));
    let begun = Instant::now();
    place.backup().good();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    place.verify(&[]).good();
}

#[test]
fn what_breaks_once_on_the_way_is_asked_again() {
    for kind in [
        Kind::Answer(Response::html(502, "Bad gateway")),
        Kind::Cut(0.5),
        Kind::Close { done: false },
        Kind::Slow { piece: 16 << 10, pause: Duration::from_millis(1) },
    ] {
        let place = Place::new();
        place.server.fault(Fault::on("/dns_records", kind));
        place.backup().good();
        place.verify(&[]).good();
    }
}

#[test]
fn each_failure_says_what_it_is_and_leaves_nothing() {
    let envelope = |code: u32, message: &str| {
        Response::json(
            200,
            &json!({"success": false, "errors": [{"code": code, "message": message}], "messages": [], "result": null}),
        )
    };
    for (path, kind, says) in [
        ("/dns_records", Kind::Answer(Response::html(503, "Origin down")), "status 503"),
        ("/dns_records", Kind::Answer(Response::html(200, "Sign in to the proxy")), "Sign in to the proxy"),
        ("/export", Kind::Answer(Response::html(200, "Sign in to the proxy")), "not plain text"),
        ("/dns_records", Kind::Cut(0.3), "broke off"),
        ("/dns_records", Kind::Answer(Response::json(200, &json!({"success": true}))), "the answer has no list"),
        ("/dns_records", Kind::Answer(Response::json(200, &json!([]))), "not answer with valid JSON"),
        ("/dns_records", Kind::Answer(envelope(7003, "Could not route")), "Could not route (code 7003)"),
    ] {
        let place = Place::new();
        place.server.fault(Fault::on(path, kind).always());
        place.backup().ended(1).says(says);
        assert_eq!(place.desk.stored(), Vec::<String>::new(), "{says}");
    }
}

#[test]
fn tokens_that_expired_or_may_not_are_explained() {
    let mut place = Place::new();
    place.desk.set("CLOUDFLARE_API_TOKEN", "cfTokenThatNobodyKnows");
    place.backup().ended(1).says("Invalid access token").says("CLOUDFLARE_API_TOKEN").says("revoked or is mistyped");
    place.desk.set("CLOUDFLARE_API_TOKEN", TOKEN);
    place
        .run(&["backup", "--zone", "absent.example", "--to", &place.desk.sink(), "--encrypt", "none"])
        .ended(1)
        .says("sees no such zone");
    place.cloudflare.expire(TOKEN);
    place.backup().ended(1).says("Invalid access token");
    let check = ["check", "--zone", ZONE, "--to", &place.desk.sink(), "--encrypt", "none"];
    place.run(&check).ended(1).says("it ran until 2026-01-01T00:00:00Z");

    // One that reads records only: the rest is left out, and said.
    place.desk.set("CLOUDFLARE_API_TOKEN", READER);
    place.run(&check).good().says("not in the backups");
    let run = place.backup().good();
    assert!(run.stderr.contains("zone settings, certificate packs"), "{}", run.stderr);
    place.verify(&[]).good();
    place.restore_live(&["--apply"]).good().says("0 changed");
    place.cloudflare.wipe(ZONE);
    place.restore_live(&["--apply"]).ended(1).says("Authentication error").says("--token env:NAME");
    place.restore_live(&["--settings"]).ended(2).says("has no settings");
}

#[test]
fn the_token_is_nowhere() {
    let mut place = Place::new();
    place.desk.set("RUST_LOG", "trace");
    let (sink, key) = (place.desk.sink(), place.desk.key());
    let mut said = String::new();
    for arguments in [
        &["backup", "--zone", ZONE, "--to", &sink, "--encrypt", "none", "-vv"][..],
        &["verify", "--zone", ZONE, "--to", &sink, "--level", "live"],
        &["restore", "--dataset", ZONE, "--to", &sink, "--into", "cloudflare://", "--apply"],
        &["check", "--zone", ZONE, "--to", &sink, "--encrypt", "none", "--identity", &key],
    ] {
        let run = place.run(arguments).good();
        said += &run.stdout;
        said += &run.stderr;
    }
    place.run(&["backup", "--zone", ZONE, "--token", TOKEN, "--to", &sink, "--encrypt", "none"]).ended(2);
    for folder in ["sink", "tmp"] {
        for file in harness::files(&place.desk.path(folder)) {
            said += &String::from_utf8_lossy(&std::fs::read(place.desk.path(folder).join(file)).unwrap());
        }
    }
    assert!(said.len() > 10_000);
    assert!(!said.contains(TOKEN));
    std::fs::write(place.desk.path("token"), format!("{TOKEN}\n")).unwrap();
    place.desk.set("CLOUDFLARE_API_TOKEN", "");
    place.run(&["check", "--zone", ZONE, "--token", "file:token", "--to", &sink, "--encrypt", "none"]).good();
}
