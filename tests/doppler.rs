//! Doppler through the binaries, against an imitation of its API: the full circle, the day without Doppler, every failure.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::{Desk, Run, interrupted_at_each_request, wait_for, yesterday};
use lifeboat::Age;
use lifeboat_testkit::doppler::{Access, FakeDoppler};
use lifeboat_testkit::http_api::{Fault, Kind, Response, Server};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const READ: &str = "dp.st.prd.read0000000000000000000000000000000000";
const WRITE: &str = "dp.st.prd.write000000000000000000000000000000000";
const PERSONAL: &str = "dp.pt.personal0000000000000000000000000000000000";
const EXPIRED: &str = "dp.st.prd.expired0000000000000000000000000000000";
const PASSPHRASE: &str = "correct-horse-battery-staple";

/// Values that are long enough to be found nowhere by chance.
const API_KEY: &str = "sk_live_9fQ2mZr7Lw4XnB1vT8yK3cHd";
const PASSWORD: &str = "p4$$w0rd \"quoted\" 'n' \\back\\slash `tick` 7Gh2Kq";
const PEM: &str =
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nUnïcödé/+==\n-----END PRIVATE KEY-----\n";
const NOTE: &str = "rotated by the platform team in 2026-09";
const HIDDEN: &str = "restricted-value-that-no-token-reads-51Zx";

struct Place {
    desk: Desk,
    doppler: FakeDoppler,
    server: Server,
}

impl Place {
    fn new() -> Self {
        let doppler = FakeDoppler::new([
            (READ, Access::ServiceRead("backend", "prd")),
            (WRITE, Access::ServiceWrite("backend", "prd")),
            (PERSONAL, Access::Personal),
            (EXPIRED, Access::Expired),
        ]);
        doppler
            .set("backend", "prd", "API_KEY", API_KEY, "masked")
            .set("backend", "prd", "DB_PASSWORD", PASSWORD, "masked")
            .set(
                "backend",
                "prd",
                "DB_URL",
                "postgres://app:${DB_PASSWORD}@db.example/${shared.prd.DB_NAME}",
                "unmasked",
            )
            .set("backend", "prd", "TLS_KEY", PEM, "masked")
            .set("backend", "prd", "EMPTY", "", "unmasked")
            .set("shared", "prd", "DB_NAME", "orders-production-database", "unmasked")
            .note("backend", "API_KEY", NOTE);
        doppler.set_kind("backend", "prd", "TLS_KEY", "multiline");
        let server = doppler.serve();
        let mut desk = Desk::new();
        desk.set("DOPPLER_TOKEN", READ)
            .set("WRITE_TOKEN", WRITE)
            .set("PERSONAL_TOKEN", PERSONAL)
            .set("EXPIRED_TOKEN", EXPIRED)
            .set("DOPPLER_API_HOST", server.url())
            .set("PASSPHRASE", PASSPHRASE);
        Self { desk, doppler, server }
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.desk.run("lifeboat-doppler", arguments)
    }

    fn backup(&self) -> Run {
        self.run(&["backup", "--to", &self.desk.sink(), "--encrypt", &self.desk.encrypt()])
    }

    fn verify(&self, more: &[&str]) -> Run {
        let (sink, key) = (self.desk.sink(), self.desk.key());
        let base = ["verify", "--dataset", "backend.prd", "--to", &sink, "--identity", &key, "--no-record"];
        self.run(&[&base[..], more].concat())
    }

    fn restore(&self, more: &[&str]) -> Run {
        let (sink, key) = (self.desk.sink(), self.desk.key());
        let base = ["restore", "--dataset", "backend.prd", "--to", &sink, "--identity", &key];
        self.run(&[&base[..], more].concat())
    }

    fn restore_live(&self, more: &[&str]) -> Run {
        self.restore(&[&["--into", "doppler://backend/prd", "--token", "env:WRITE_TOKEN"][..], more].concat())
    }

    /// The one artifact in the sink.
    fn artifact(&self) -> String {
        let is_artifact = |n: &String| !n.contains(".manifest.") && !n.contains(".verified-");
        let found: Vec<String> = self.desk.stored().into_iter().filter(is_artifact).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }

    fn path_of_artifact(&self) -> std::path::PathBuf {
        self.desk.path("sink").join(self.artifact())
    }
}

#[test]
fn an_interrupt_ends_it_at_every_request() {
    let place = Place::new();
    let (sink, key, encrypt) = (place.desk.sink(), place.desk.key(), place.desk.encrypt());
    let stages =
        |arguments: &[&str]| interrupted_at_each_request(&place.server, &place.desk, "lifeboat-doppler", arguments);
    assert!(stages(&["backup", "--to", &sink, "--encrypt", &encrypt]) > 0);
    // One run came to its end.
    place.artifact();
    let dataset = ["--dataset", "backend.prd", "--to", &sink, "--identity", &key];
    assert!(stages(&[&["verify", "--no-record", "--level", "live"], &dataset[..]].concat()) > 0);
    let into = ["--into", "doppler://backend/prd", "--token", "env:WRITE_TOKEN"];
    assert!(stages(&[&["restore"], &dataset[..], &into].concat()) > 0);
}

fn openssl(decrypt: bool, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(["enc", "-aes-256-cbc", "-salt", "-pbkdf2", "-iter", "100000", "-pass", "env:PASSPHRASE"]);
    if decrypt {
        command.arg("-d");
    }
    piped(command.env("PASSPHRASE", PASSPHRASE), input)
}

fn piped(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

#[test]
fn a_config_comes_back_as_it_was_after_it_was_wiped() {
    let place = Place::new();
    place.backup().good().says("backend.prd");
    let before = place.doppler.content("backend", "prd");
    place.verify(&[]).good().says("restore: kubernetes");
    place.verify(&["--level", "live", "--max-drift", "0"]).good();

    place.doppler.wipe("backend", "prd");
    place.doppler.set("backend", "prd", "STRAY", "a-value-of-later", "masked");
    let drifted = place.verify(&["--level", "live"]).good().says("more than 3").says("STRAY").says("API_KEY");
    assert!(!drifted.stdout.contains("a-value-of-later"));

    let plan = place.restore_live(&[]).good().says("5 to create").says("nothing was changed; --apply does it");
    assert!(plan.stdout.contains("+ secret  API_KEY") && plan.stdout.contains("--delete-extra deletes it"));
    assert_eq!(place.doppler.content("backend", "prd").len(), 1, "a plan changes nothing");

    place.restore_live(&["--apply", "--delete-extra"]).good().says("5 created").says("1 deleted").says("read back");
    assert_eq!(place.doppler.content("backend", "prd"), before, "raw references, visibility, type and notes");
    place.restore_live(&["--apply"]).good().says("5 unchanged");
    let uploads: Vec<String> =
        place.server.requests().into_iter().filter(|r| r.method == "POST").map(|r| r.line).collect();
    assert_eq!(uploads.len(), 2, "one upload and one note: {uploads:?}");
    let bodies = place.server.requests().into_iter().filter(|r| r.method == "POST").map(|r| r.json().unwrap());
    assert!(
        !bodies.into_iter().any(|b| b.to_string().contains("DOPPLER_") || b.to_string().contains("orders-production"))
    );

    // Exported again it is the same.
    place.desk.known("again");
    let again = format!("file://{}", place.desk.path("again").display());
    place.run(&["backup", "--to", &again, "--encrypt", &place.desk.encrypt()]).good();
    let read = |sink: &str| {
        let key = place.desk.key();
        let arguments = [
            "restore",
            "--dataset",
            "backend.prd",
            "--to",
            sink,
            "--identity",
            &key,
            "--into",
            "-",
            "--format",
            "json",
        ];
        place.run(&arguments).good().json()
    };
    let (first, second) = (read(&place.desk.sink()), read(&again));
    assert_eq!(first, second);
    assert_eq!(first["DB_URL"], json!(format!("postgres://app:{PASSWORD}@db.example/orders-production-database")));
}

#[test]
fn what_changed_after_the_plan_is_not_overwritten() {
    let place = Place::new();
    place.backup().good();
    place.doppler.set("backend", "prd", "API_KEY", "changed-once-123456", "masked");
    // Between the plan and the upload somebody changes it again.
    let doppler = place.doppler.clone();
    let act = move || {
        doppler.set("backend", "prd", "API_KEY", "changed-again-123456", "masked");
    };
    place.server.fault(Fault::on("/secrets", Kind::Before(std::sync::Arc::new(act))).method("POST"));
    let run = place.restore_live(&["--apply"]).ended(1).says("has changed meanwhile");
    assert!(!run.stderr.contains("changed-once"));
    assert_eq!(place.doppler.content("backend", "prd")["API_KEY"].0, "changed-again-123456");
}

#[test]
fn on_the_day_without_doppler_secrets_are_written_out_with_no_network() {
    let mut place = Place::new();
    place.backup().good();
    place.server.forget();
    place.desk.set("DOPPLER_TOKEN", "").set("DOPPLER_API_HOST", "https://doppler.invalid");

    let file = place.desk.path("app.env");
    let into = format!("file:{}", file.display());
    place.restore(&["--into", &into]).good().says("8");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let written = piped(
        Command::new("sh")
            .arg("-c")
            .arg(format!(". {}; printf '%s|%s|%s' \"$DB_PASSWORD\" \"$TLS_KEY\" \"$EMPTY\"", file.display())),
        b"",
    );
    assert_eq!(String::from_utf8(written).unwrap(), format!("{PASSWORD}|{PEM}|"));

    std::fs::write(&file, "mine").unwrap();
    place.restore(&["--into", &into]).ended(1).says("it already exists").says("--replace");
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    place.restore(&["--into", &into, "--replace", "--format", "json"]).good();
    let value: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(value["TLS_KEY"], PEM);

    let run = place.restore(&["--into", "-", "--format", "kubernetes", "--secret-namespace", "shop"]).good();
    assert!(
        run.stdout
            .starts_with("apiVersion: v1\nkind: Secret\nmetadata:\n  name: \"backend-prd\"\n  namespace: \"shop\"\n")
    );
    assert!(!run.stderr.contains(API_KEY));
    assert!(place.server.requests().is_empty());
}

#[test]
fn without_an_encryptor_nothing_is_asked_and_nothing_is_stored() {
    let place = Place::new();
    let sink = place.desk.sink();
    for choice in [&["--encrypt", "none"][..], &[]] {
        let run = place.run(&[&["backup", "--to", &sink][..], choice].concat());
        let run = run.ended(2).says("never stored unencrypted").says("age:age1");
        assert!(!run.stderr.contains("--encrypt none"), "{}", run.stderr);
    }
    place.run(&["check", "--to", &sink, "--encrypt", "none"]).ended(1).says("never stored unencrypted");
    std::fs::write(
        place.desk.path("lifeboat.toml"),
        format!("[sinks.s]\nurl = \"{sink}\"\n[defaults]\nencrypt = \"none\"\n[jobs.secrets]\ndoppler = {{ token = \"${{DOPPLER_TOKEN}}\" }}\n"),
    )
    .unwrap();
    place.desk.run("lifeboat", &["backup"]).ended(2).says("never stored unencrypted");
    assert!(place.desk.stored().iter().all(|n| n.starts_with("_lifeboat/probe")), "{:?}", place.desk.stored());
    assert_eq!(place.server.count("GET", "/secrets"), place.server.count("GET", "/secrets/names"), "no value was read");
}

#[test]
fn the_openssl_command_reads_ours_and_ours_reads_what_it_wrote() {
    let place = Place::new();
    let sink = place.desk.sink();
    place.run(&["backup", "--to", &sink, "--encrypt", "openssl:env:PASSPHRASE"]).good();
    assert!(place.artifact().ends_with(".json.enc"), "as the scripts name it: {}", place.artifact());
    let plain = openssl(true, &std::fs::read(place.path_of_artifact()).unwrap());
    let value: Value = serde_json::from_slice(&plain).unwrap();
    assert_eq!(value["secrets"]["API_KEY"]["raw"], API_KEY);

    // What a script stored: `doppler secrets download --format json | openssl enc …`.
    let flat = json!({ "API_KEY": API_KEY, "DB_PASSWORD": PASSWORD, "TLS_KEY": PEM }).to_string();
    let theirs = openssl(false, flat.as_bytes());
    let folder = place.desk.path("sink");
    std::fs::write(folder.join(format!("doppler-{}.json.enc", yesterday())), &theirs).unwrap();
    // Older scripts left the format out.
    std::fs::write(folder.join("doppler-secrets-20261119-033000.enc"), &theirs).unwrap();
    let old = ["--dataset", "doppler-secrets", "--to", &sink, "--identity", "openssl:env:PASSPHRASE"];
    place.run(&[&["verify", "--no-record", "--max-age", "5200w"], &old[..]].concat()).good().says("restore: env");
    let restored = place.run(&[&["restore"], &old[..], &["--into", "-", "--format", "json"]].concat()).good().json();
    assert_eq!(restored, serde_json::from_str::<Value>(&flat).unwrap());
    let run = |arguments: &[&str]| {
        let base = ["--dataset", "doppler", "--to", &sink, "--identity", "openssl:env:PASSPHRASE"];
        place.run(&[&arguments[..1], &base[..], &arguments[1..]].concat())
    };
    run(&["verify", "--no-record"]).good().says("computed values only").says("restore: env");
    let restored = run(&["restore", "--into", "-", "--format", "json"]).good().json();
    assert_eq!(restored, serde_json::from_str::<Value>(&flat).unwrap());
    run(&["verify", "--no-record", "--level", "live"]).good().says("live: gone names").says("3 then");
    place.doppler.remove("backend", "prd", "DB_URL");
    run(&["restore", "--into", "doppler://backend/prd"]).good().says("3 unchanged");
}

#[test]
fn the_stock_line_that_show_prints_restores() {
    let place = Place::new();
    place.run(&["backup", "--to", &place.desk.sink(), "--encrypt", "openssl:env:PASSPHRASE"]).good();
    let shown = place
        .run(&["show", "--dataset", "backend.prd", "--to", &place.desk.sink(), "--identity", "openssl:env:PASSPHRASE"])
        .good();
    let line = shown.stdout.lines().last().unwrap().trim().to_owned();
    let script = format!("{line}; . ./secrets.env; printf '%s|%s' \"$DB_PASSWORD\" \"$TLS_KEY\"");
    let run = place.desk.run("sh", &["-c", &script]).good();
    assert_eq!(run.stdout, format!("{PASSWORD}|{PEM}"), "{line}");
    assert_eq!(place.desk.path("secrets.env").metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_wrong_passphrase_a_cut_and_a_flip_each_say_what_is_wrong() {
    let mut place = Place::new();
    let sink = place.desk.sink();
    place.run(&["backup", "--to", &sink, "--encrypt", "openssl:env:PASSPHRASE"]).good();
    let managed = place.path_of_artifact();
    let whole = std::fs::read(&managed).unwrap();
    let foreign = place.desk.path("sink").join(format!("doppler-{}.json.enc", yesterday()));
    std::fs::write(&foreign, &whole).unwrap();
    place.desk.set("WRONG", "another-passphrase");
    let verify = |dataset: &str, key: &str| {
        place.run(&[
            "verify",
            "--dataset",
            dataset,
            "--to",
            &sink,
            "--identity",
            key,
            "--no-record",
            "--level",
            "structure",
        ])
    };
    let right = "openssl:env:PASSPHRASE";
    verify("backend.prd", right).good();
    verify("doppler", right).good();
    for dataset in ["backend.prd", "doppler"] {
        verify(dataset, "openssl:env:WRONG").ended(1).says("the passphrase is wrong");
    }
    let damaged = |bytes: &[u8]| {
        std::fs::write(&managed, bytes).unwrap();
        std::fs::write(&foreign, bytes).unwrap();
    };
    // Within a block, and at the end of one: what a form without a check of its own can say differs.
    damaged(&whole[..whole.len() - 5]);
    verify("backend.prd", right).ended(1).says("was cut short");
    verify("doppler", right).ended(1).says("not a whole number of cipher blocks: it was cut short");
    damaged(&whole[..whole.len() - 32]);
    verify("backend.prd", right).ended(1).says("was cut short");
    verify("doppler", right)
        .ended(1)
        .says("the passphrase is right, because the beginning is readable, but the object was cut short or altered");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    damaged(&flipped);
    verify("backend.prd", right).ended(1).says("the stored bytes were altered");
    let run = verify("doppler", right).ended(1).says("FAIL");
    assert!(run.stdout.contains("cannot read the secrets"), "{}", run.stdout);

    // With age each is found by the form itself.
    let aged = Place::new();
    aged.backup().good();
    let path = aged.path_of_artifact();
    let whole = std::fs::read(&path).unwrap();
    std::fs::remove_file(format!("{}.manifest.json", path.display())).unwrap();
    for damage in ["cut", "flip"] {
        let mut bytes = whole.clone();
        if damage == "cut" {
            bytes.truncate(whole.len() - 9);
        } else {
            bytes[whole.len() - 40] ^= 1;
        }
        std::fs::write(&path, bytes).unwrap();
        aged.verify(&["--level", "structure"]).ended(1).says("FAIL");
    }
}

#[test]
fn each_failure_of_the_api_says_what_it_is_and_leaves_nothing() {
    let mut place = Place::new();
    place.desk.set("EXPIRED", EXPIRED).set("UNKNOWN", "dp.st.prd.unknown").set("LIFEBOAT_RETRY_LIMIT", "2");
    let (sink, encrypt) = (place.desk.sink(), place.desk.encrypt());
    let backup = |more: &[&str]| place.run(&[&["backup", "--to", &sink, "--encrypt", &encrypt][..], more].concat());
    backup(&["--token", "env:EXPIRED"]).ended(1).says("status 401").says("has expired").says("EXPIRED");
    backup(&["--token", "env:UNKNOWN"]).ended(1).says("Invalid Auth token").says("make a new one");
    backup(&["--from", "doppler://other/prd"]).ended(1).says("status 403").says("lacks a right");
    backup(&["--token", "env:PERSONAL_TOKEN", "--from", "doppler://backend/dev"])
        .ended(1)
        .says("Could not find requested config 'dev'");
    backup(&["--token", "env:PERSONAL_TOKEN", "--from", "doppler://nothing/dev"]).ended(1).says("status 404");
    let secret = "dp.st.prd.typed-into-the-shell";
    let run = backup(&["--token", secret]).ended(2).says("does not take a token itself");
    assert!(!run.stderr.contains(secret));

    let html = |status| Kind::Answer(Response::html(status, "Access gateway"));
    let slow = Kind::Slow { piece: 400, pause: Duration::from_millis(20) };
    let envelope = json!({ "messages": ["it did not work"], "success": false });
    let limited = Response::json(429, &json!({ "messages": ["Rate limit exceeded"], "success": false }));
    for (fault, code, says) in [
        (Fault::too_many("/secrets", Some("1"), limited.clone()), 0, "DONE"),
        (Fault::too_many("/secrets", None, limited).times(2), 0, "DONE"),
        (Fault::on("/secrets", html(502)), 0, "DONE"),
        (Fault::on("/secrets", slow), 0, "DONE"),
        (Fault::on("/secrets", Kind::Cut(0.5)), 0, "DONE"),
        (Fault::on("/secrets", html(503)).always(), 1, "web page (status 503, \"Access gateway\")"),
        (Fault::on("/secrets", html(200)).always(), 1, "a proxy, a firewall or a login page"),
        (Fault::on("/secrets", Kind::Cut(0.5)).always(), 1, "broke off in the middle"),
        (Fault::on("/secrets", Kind::Answer(Response::text(500, "oops"))).always(), 1, "Doppler failed (status 500)"),
        (
            Fault::on("/secrets", Kind::Answer(Response::json(200, &envelope))),
            1,
            "Doppler reports a failure: it did not work",
        ),
        (
            Fault::on("/secrets", Kind::Answer(Response::new(200, "application/json", "{\"secrets\":{\"A\""))).always(),
            1,
            "it ends in the middle",
        ),
    ] {
        let stored = place.desk.stored().len();
        place.server.heal();
        place.server.fault(fault);
        let run = backup(&[]).ended(code).says(says);
        assert!(!run.stderr.contains(API_KEY));
        if code != 0 {
            assert_eq!(place.desk.stored().len(), stored, "nothing half-done: {:?}", place.desk.stored());
        }
        for file in place.desk.stored() {
            std::fs::remove_file(place.desk.path("sink").join(file)).unwrap();
        }
    }
    place.server.heal();
    place.desk.set("DOPPLER_API_HOST", "http://doppler.example");
    place.backup().ended(2).says("unencrypted");
}

#[test]
fn a_restore_that_doppler_refuses_says_why() {
    let place = Place::new();
    place.backup().good();
    place.doppler.remove("backend", "prd", "EMPTY");
    let into = ["--into", "doppler://backend/prd", "--apply"];
    place.restore(&into).ended(1).says("does not have write access").says("lacks a right");
    place.doppler.lock("backend", "prd", true);
    place.restore_live(&["--apply"]).ended(1).says("unlock it in Doppler's dashboard");
    place.run(&["check", "--to", &place.desk.sink(), "--encrypt", &place.desk.encrypt()]).good().says("locked");
    place.doppler.lock("backend", "prd", false);
    // Whether it was done is not known when the answer is lost: the next plan tells.
    place.server.fault(Fault::on("/secrets", Kind::Close { done: true }).method("POST"));
    place.restore_live(&["--apply"]).ended(1).says("run it again: the next plan holds the remaining changes");
    place.restore_live(&["--apply"]).good().says("5 unchanged");
    assert_eq!(place.doppler.content("backend", "prd")["EMPTY"].0, "");
}

#[test]
fn restricted_values_are_named_and_everything_else_is_kept() {
    let place = Place::new();
    place.doppler.set("backend", "prd", "LOCKED_AWAY", HIDDEN, "restricted");
    place.backup().good().says("LOCKED_AWAY");
    place.verify(&[]).good().says("without a value, because they are restricted: LOCKED_AWAY");
    place.restore_live(&[]).good().says("the backup has no value of it").says("5 unchanged");
    let run = place.restore(&["--into", "-", "--format", "json"]).good();
    assert!(run.json().get("LOCKED_AWAY").is_none());
    assert!(run.stderr.contains("LOCKED_AWAY"));
}

#[test]
fn a_job_of_all_configs_backs_up_each_and_restores_one() {
    let place = Place::new();
    for n in 0..150 {
        place.doppler.set("backend", &format!("dev_{n:03}"), "A", "a-value", "masked");
    }
    let sink = place.desk.sink();
    let config = format!(
        "[sinks.s]\nurl = \"{sink}\"\n[defaults]\nencrypt = \"{}\"\nidentity = \"key.txt\"\n[jobs.secrets]\n\
         doppler = {{ token = \"${{PERSONAL_TOKEN}}\", project = \"shared\", config = \"*\", api_url = \"${{DOPPLER_API_HOST}}\" }}\n\
         [jobs.one]\ndoppler = {{ token = \"file:token.txt\", project = \"backend\", config = \"prd\", api_url = \"${{DOPPLER_API_HOST}}\" }}\n",
        place.desk.encrypt()
    );
    std::fs::write(place.desk.path("lifeboat.toml"), config).unwrap();
    std::fs::write(place.desk.path("token.txt"), format!("{READ}\n")).unwrap();
    place.doppler.set("shared", "dev", "DB_NAME", "orders-dev", "unmasked");
    place.desk.run("lifeboat", &["check", "-v"]).good().says("service token").says("2 configs").says("personal token");
    place.desk.run("lifeboat", &["backup"]).good().says("shared.dev").says("shared.prd").says("DONE one");
    place.desk.run("lifeboat", &["verify", "--no-record"]).good().says("shared.dev (restore)").says("one (restore)");
    place
        .desk
        .run("lifeboat", &["restore", "secrets", "--dataset", "shared.dev", "--into", "-", "--format", "json"])
        .good()
        .says("orders-dev");
    // More configs than a page holds.
    let run = place.run(&[
        "check",
        "--from",
        "doppler://backend/*",
        "--token",
        "env:PERSONAL_TOKEN",
        "--to",
        &sink,
        "--encrypt",
        &place.desk.encrypt(),
    ]);
    run.good().says("151 configs");
}

#[test]
fn an_old_backup_fails_and_an_empty_one_is_none() {
    let place = Place::new();
    place.backup().good();
    let path = place.path_of_artifact();
    let (manifest, old) =
        (format!("{}.manifest.json", path.display()), place.desk.path("sink/old.prd-20261101-000000.json.age"));
    std::fs::copy(&path, old).unwrap();
    let (sink, key) = (place.desk.sink(), place.desk.key());
    place
        .run(&["verify", "--dataset", "old.prd", "--to", &sink, "--identity", &key, "--no-record"])
        .ended(1)
        .says("older than 8d 0h");
    std::fs::remove_file(manifest).unwrap();
    std::fs::write(place.desk.path("sink/none-20261121-000000.json.enc"), openssl(false, b"{}")).unwrap();
    place
        .run(&[
            "verify",
            "--dataset",
            "none",
            "--to",
            &sink,
            "--identity",
            "openssl:env:PASSPHRASE",
            "--no-record",
            "--max-age",
            "1000d",
        ])
        .ended(1)
        .says("the backup holds none");
}

/// A text in the forms in which it could be written somewhere.
fn traces(secret: &str) -> Vec<String> {
    use std::fmt::Write;
    let base64 = |bytes: &[u8]| {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let bits: Vec<bool> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1 == 1)).collect();
        bits.chunks_exact(6)
            .map(|c| char::from(DIGITS[c.iter().fold(0, |n, b| n << 1 | usize::from(*b))]))
            .collect::<String>()
    };
    let url = secret.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(b.into());
        } else {
            write!(out, "%{b:02X}").unwrap();
        }
        out
    });
    let json = serde_json::to_string(secret).unwrap();
    let mut forms = vec![secret.to_owned(), json[1..json.len() - 1].to_owned(), url, format!("{secret:?}")];
    // Wherever it starts in a longer text, two of three shifts begin within it.
    forms.extend((0..3).map(|shift| base64(&secret.as_bytes()[shift..])));
    forms.push(secret.bytes().map(|b| format!("{b:02x}")).collect());
    // Each line, and the beginning: what is cut is found as well.
    forms.extend(secret.lines().filter(|l| l.len() > 15 && !l.starts_with("---")).map(str::to_owned));
    forms.extend(secret.get(..16).filter(|s| !s.starts_with("---")).map(str::to_owned));
    forms
}

#[test]
fn no_output_manifest_or_temporary_file_holds_a_value_even_at_trace_level() {
    let mut place = Place::new();
    place.doppler.set("backend", "prd", "LATER", "value-of-a-later-day-7Yq2", "masked");
    place.desk.set("RUST_LOG", "trace");
    let (sink, key, encrypt) = (place.desk.sink(), place.desk.key(), place.desk.encrypt());
    let mut said = String::new();
    let mut say = |run: Run| {
        said.push_str(&run.stdout);
        said.push_str(&run.stderr);
    };
    say(place.run(&["backup", "-vv", "--to", &sink, "--encrypt", &encrypt]).good());
    say(place.run(&["backup", "-vv", "--to", &sink, "--prefix", "enc", "--encrypt", "openssl:env:PASSPHRASE"]).good());
    for level in ["stored", "structure", "restore", "live"] {
        say(place.verify(&["-vv", "--level", level]).good());
    }
    say(place.run(&["show", "-vv", "--items", "--dataset", "backend.prd", "--to", &sink, "--identity", &key]).good());
    say(place.run(&["check", "-vv", "--to", &sink, "--encrypt", &encrypt]).good());
    place.doppler.set("backend", "prd", "API_KEY", "changed-in-the-meantime-83Jd", "masked");
    place.doppler.remove("backend", "prd", "TLS_KEY");
    say(place.verify(&["-vv", "--level", "live"]).good());
    say(place.restore_live(&["-vv"]).good());
    say(place.restore_live(&["-vv", "--json"]).good());
    // Errors, too: Doppler repeats what it was sent.
    let repeats = json!({ "messages": [format!("invalid value {API_KEY} and {PEM}")], "success": false });
    place.server.fault(Fault::on("/secrets", Kind::Answer(Response::json(400, &repeats))).method("POST"));
    say(place.restore_live(&["-vv", "--apply"]).ended(1));
    say(place.restore_live(&["-vv", "--apply", "--delete-extra"]).good());
    say(place.restore(&["-vv", "--into", "file:app.env"]).good());
    assert!(said.contains("TRACE") && said.contains("answered"), "it did log");

    let mut files: Vec<std::path::PathBuf> = ["sink", "tmp"]
        .into_iter()
        .flat_map(|f| harness::files(&place.desk.path(f)).into_iter().map(move |n| (f, n)))
        .map(|(f, n)| place.desk.path(f).join(n))
        .collect();
    assert!(files.iter().any(|f| f.to_string_lossy().ends_with(".manifest.json")));
    files.retain(|f| f.exists());
    let values = [
        API_KEY,
        PASSWORD,
        PEM,
        NOTE,
        "orders-production-database",
        "value-of-a-later-day-7Yq2",
        "changed-in-the-meantime-83Jd",
        READ,
        WRITE,
        PASSPHRASE,
    ];
    for secret in values {
        for trace in traces(secret) {
            assert!(!said.contains(&trace), "{trace} is said: {}", around(&said, &trace));
            for file in &files {
                let content = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
                assert!(!content.contains(&trace), "{trace} is in {}", file.display());
            }
        }
    }
    let plain = std::fs::read_to_string(place.desk.path("app.env")).unwrap();
    assert!(plain.contains(API_KEY), "a search that finds: the one file that was asked for has it");
}

fn around(text: &str, what: &str) -> String {
    let at = text.find(what).unwrap_or_default();
    text.get(at.saturating_sub(200)..at).unwrap_or_default().to_owned()
}

#[test]
fn while_secrets_are_in_memory_core_dumps_are_off_and_the_arguments_hold_none() {
    let place = Place::new();
    place.server.fault(Fault::on("/secrets", Kind::HangInBody).after(2));
    let (sink, encrypt) = (place.desk.sink(), place.desk.encrypt());
    // As with `ulimit -c unlimited`.
    let mut command = place.desk.command("sh");
    let script = format!("ulimit -c unlimited; exec {} \"$@\"", env!("CARGO_BIN_EXE_lifeboat-doppler"));
    let arguments = ["-c", &script, "sh", "backup", "--to", &sink, "--encrypt", &encrypt];
    let mut child = command.args(arguments).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the request for the values", || {
        place.server.requests().iter().any(|r| r.path.ends_with("/secrets") && r.param("secrets").is_none())
    });
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap();
    let limits = of("limits");
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let cmdline = of("cmdline");
    assert!(cmdline.contains("lifeboat-doppler") && !cmdline.contains(READ));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_key_that_opens_no_older_backup_is_told_and_the_old_one_can_be_given() {
    let place = Place::new();
    let job = |name: &str, token: &str| {
        format!(
            "[jobs.{name}]\ndoppler = {{ token = \"${{{token}}}\", project = \"backend\", config = \"prd\", api_url = \"${{DOPPLER_API_HOST}}\" }}\n"
        )
    };
    let write = |encrypt: &str, identity: &str, jobs: &str| {
        let head = format!("[sinks.s]\nurl = \"{}\"\n[defaults]\n", place.desk.sink());
        let config = format!("{head}encrypt = \"{encrypt}\"\nidentity = {identity}\n{jobs}");
        std::fs::write(place.desk.path("lifeboat.toml"), config).unwrap();
    };
    let lifeboat = |arguments: &[&str]| place.desk.run("lifeboat", arguments);
    let one = job("one", "DOPPLER_TOKEN");
    write(&place.desk.encrypt(), "\"key.txt\"", &one);
    let quiet = lifeboat(&["-q", "backup"]).good();
    assert_eq!((&*quiet.stdout, &*quiet.stderr), ("", ""));
    lifeboat(&["check"]).good();

    let (secret, recipient) = Age::generate();
    std::fs::write(place.desk.path("new.txt"), secret.expose_secret()).unwrap();
    std::fs::set_permissions(place.desk.path("new.txt"), PermissionsExt::from_mode(0o600)).unwrap();
    let encrypt = format!("age:{recipient}");
    write(&encrypt, "\"new.txt\"", &one);
    let old = place.desk.encrypt();
    let old = old.strip_prefix("age:").unwrap();
    lifeboat(&["check"]).ended(1).says("old backups").says("0 of 1 open").says(old);
    let quiet = lifeboat(&["-q", "check"]).ended(1);
    assert_eq!((&*quiet.stdout, quiet.stderr.lines().count()), ("", 1), "{}", quiet.stderr);

    // The hint's own flag is there.
    let verify = ["verify", "one", "--level", "structure", "--no-record"];
    lifeboat(&verify).ended(1).says("--identity PATH");
    let quiet = lifeboat(&[&["-q"], &verify[..]].concat()).ended(1);
    assert_eq!((&*quiet.stdout, quiet.stderr.lines().count()), ("", 1), "{}", quiet.stderr);
    lifeboat(&[&verify[..], &["--identity", "key.txt"]].concat()).good();
    let restored = lifeboat(&["restore", "one", "--into", "-", "--format", "json", "--identity", "key.txt"]).good();
    assert_eq!(restored.json()["API_KEY"], API_KEY);
    lifeboat(&["show", "one", "--items", "--identity", "key.txt"]).good().says("API_KEY");
    write(&encrypt, "[\"new.txt\", \"key.txt\"]", &one);
    lifeboat(&["check"]).good();

    // One line a job, and one at the end.
    write(&encrypt, "\"new.txt\"", &format!("{one}{}", job("two", "EXPIRED_TOKEN")));
    let run = lifeboat(&["backup"]).ended(1);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("DONE one: one-"), "{lines:?}");
    assert_eq!(lines[1], "1 of 2 jobs backed up; failed: two (permission denied)");
    let quiet = lifeboat(&["-q", "backup"]).ended(1);
    assert_eq!((&*quiet.stdout, quiet.stderr.lines().count()), ("", 1), "{}", quiet.stderr);
    assert!(quiet.stderr.starts_with("error: ") && quiet.stderr.contains("two"), "{}", quiet.stderr);
}
