//! Valid config files, and the messages about invalid ones.

use std::path::Path;
use std::time::Duration;

use lifeboat_backends::{cloudflare, command, doppler, mongodb, postgres, velero};
use lifeboat_core::pipeline::Deletion;
use lifeboat_core::{Error, ErrorKind, Level, Result, Setting, Status};

use crate::{Config, Encryption, Systems};

/// A recipient that nobody has the key of.
const RECIPIENT: &str = "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z";

/// All of this project's.
pub(crate) fn systems() -> Systems {
    let mut systems = Systems::new();
    systems.add::<cloudflare::CloudflareSystem>();
    systems.add::<command::CommandSystem>();
    systems.add::<doppler::DopplerSystem>();
    systems.add::<mongodb::MongoSystem>();
    systems.add::<postgres::PostgresSystem>();
    systems.add::<velero::VeleroSystem>();
    systems
}

fn read(text: &str) -> Result<Config> {
    Config::parse(text, Path::new("lifeboat.toml"), &systems())
}

/// A file that is right, with these lines in its job.
fn with_job(lines: &str) -> String {
    format!(
        "[sinks.local]\nurl = \"file:///backups\"\n[defaults]\nsinks = [\"local\"]\nencrypt = \"none\"\n[jobs.shop]\npostgres = {{ url = \"${{SHOP_URL}}\" }}\n{lines}\n"
    )
}

fn mistake(text: &str) -> Error {
    match read(text) {
        Ok(_) => panic!("read: {text}"),
        Err(error) => error,
    }
}

#[test]
fn the_file_of_the_design_is_read() {
    let text = format!(
        r#"
[sinks.offsite]
url = "b2://cluster-backups"

[defaults]
sinks = ["offsite"]
compress = "zstd:5"
encrypt = {{ age = {{ recipients = ["{RECIPIENT}"] }} }}
keep = {{ days = 30, at_least = 3 }}
verify = {{ level = "restore", max_age = "2d" }}
sink_grace = "90s"

[jobs.codetalk]
postgres = {{ url = "${{CODETALK_URL}}" }}
prefix = "postgresql-backups"
schedule = "30 3 * * *"
verify_schedule = "0 6 * * 0#1"      # first Sunday of the month
"#
    );
    let config = read(&text).unwrap();
    let job = &config.jobs[0];
    assert_eq!((job.name.as_str(), job.dataset.as_ref().unwrap().as_str()), ("codetalk", "codetalk"));
    assert_eq!(job.compress.to_string(), "zstd:5");
    assert_eq!(job.keep.unwrap().to_string(), "30d,at-least=3");
    assert_eq!(job.limits.max_age, Some(Duration::from_secs(2 * 86_400)));
    assert_eq!(job.sinks, ["offsite"]);
    assert_eq!(job.sink_grace, Some(Duration::from_secs(90)));
    assert!(matches!(&job.encrypt, Some(Encryption::Age { recipients, .. }) if recipients.len() == 1));
}

#[test]
fn what_a_job_says_goes_before_the_defaults() {
    let text = with_job(
        "dataset = \"shop-eu\"\ncompress = \"gzip\"\nverify = { level = \"stored\" }\nkeep = \"last=2\"\nencrypt = \"openssl:env:P\"\nsink_grace = \"2min\"",
    );
    let text = text.replace("[jobs.shop]", "verify = { max_age = \"36h\", age_status = \"warn\" }\n[jobs.shop]");
    let job = read(&text).unwrap().jobs.remove(0);
    assert_eq!(job.dataset.as_ref().unwrap().as_str(), "shop-eu");
    assert_eq!(job.compress.to_string(), "gzip:6");
    // Each of the fields of `verify` stands for itself.
    assert_eq!((job.limits.level, job.limits.age_status), (Level::Stored, Status::Warn));
    assert_eq!(job.limits.max_age, Some(Duration::from_secs(36 * 3600)));
    assert!(matches!(job.encrypt, Some(Encryption::OpenSsl(_))));
    assert_eq!(job.sink_grace, Some(Duration::from_secs(120)));
}

#[test]
fn what_is_said_of_a_dataset_that_shrinks_or_stands_still_reaches_the_job() {
    let read_job = |own: &str, defaults: &str| {
        let text = with_job(own).replace("[jobs.shop]", &format!("{defaults}\n[jobs.shop]"));
        read(&text).map(|config| {
            let job = &config.jobs[0];
            (job.allow_empty, job.max_shrink.to_string(), job.stall_limit.map(|limit| limit.as_secs()))
        })
    };
    assert_eq!(read_job("", "").unwrap(), (false, "50%".to_owned(), None));
    let defaults = "allow_empty = true\nmax_shrink = \"80%\"\nstall_limit = \"30min\"";
    assert_eq!(read_job("", defaults).unwrap(), (true, "80%".to_owned(), Some(1800)));
    let own = "allow_empty = false\nmax_shrink = \"100%\"\nstall_limit = \"6h\"";
    assert_eq!(read_job(own, defaults).unwrap(), (false, "100%".to_owned(), Some(6 * 3600)));
    for wrong in ["max_shrink = \"0%\"", "max_shrink = \"half\""] {
        let error = read_job(wrong, "").unwrap_err().to_string();
        assert!(error.contains("it is not a share from 1% to 100%; write the share"), "{error}");
    }
}

#[test]
fn limits_reach_the_job_and_its_own_come_first() {
    let read_job = |own: &str, defaults: &str| {
        let text = with_job(own).replace("[jobs.shop]", &format!("{defaults}\n[jobs.shop]"));
        read(&text).map(|config| (format!("{:?}", config.jobs[0].limiter), format!("{:?}", config.limiter)))
    };
    let (none, _) = read_job("", "").unwrap();
    assert_eq!(
        none,
        "Limiter { upload: None, download: None, source: None, runs: false, threads: false, mebibytes: None }"
    );
    let defaults = "upload_limit = \"20MB/s\"\nsource_limit = \"50MiB/s\"\nthread_limit = 1\nmemory_limit = \"200MiB\"";
    let (job, all) = read_job("upload_limit = \"5MB/s\"\ndownload_limit = \"1.5MB/s\"", defaults).unwrap();
    assert_eq!(
        job,
        "Limiter { upload: Some(\"5MB/s\"), download: Some(\"1500kB/s\"), source: Some(\"50MiB/s\"), runs: false, threads: true, mebibytes: Some(200) }"
    );
    assert!(all.contains("upload: Some(\"20MB/s\"), download: None"), "{all}");
    for (wrong, why) in [
        ("upload_limit = \"20MB\"", "a rate ends in /s; write bytes per second"),
        ("upload_limit = \"20Mbit/s\"", "is not a unit of bytes"),
        ("uplaod_limit = \"20MB/s\"", "did you mean \"upload_limit\"?"),
        ("memory_limit = \"200\"", "its unit is missing"),
        ("thread_limit = 0", "thread_limit is 1 or more"),
    ] {
        let error = read_job(wrong, "").unwrap_err();
        let text = format!("{error} {}", error.advice().unwrap_or_default());
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn the_example_that_init_writes_is_right() {
    let example = include_str!("../../cli/src/commands/lifeboat.example.toml");
    let text =
        example.replace("{recipients}", &format!("\"{RECIPIENT}\"")).replace("{identity}", "identity = \"key.txt\"");
    let config = read(&text).unwrap();
    assert_eq!(config.jobs.len(), 1);
    // What is commented out is right as well.
    let is_setting =
        |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(k, _)| !k.contains(' '));
    let uncommented = |line: &str| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line).to_owned();
    let text = text.lines().map(uncommented).collect::<Vec<_>>().join("\n");
    let config = read(&text).unwrap();
    assert_eq!((config.jobs.len(), config.sinks.len()), (6, 3));
}

#[test]
fn encryption_is_read_in_all_its_forms() {
    for (text, good) in [
        ("\"none\"", true),
        (&*format!("\"age:{RECIPIENT}\""), true),
        (&*format!("[\"age:{RECIPIENT}\", \"age-file:more.txt\"]"), true),
        ("{ age = { recipients_file = \"keys.txt\" } }", true),
        ("{ age = { passphrase = \"${P}\" } }", true),
        ("{ openssl = { passphrase = \"file:/run/secrets/p\" } }", true),
        ("\"openssl:hunter2\"", false),
        ("{ age = { recipients = [] } }", false),
        ("{ age = { passphrase = \"${P}\", recipients_file = \"k\" } }", false),
        ("{ }", false),
        ("{ openssl = { } }", false),
        ("{ gpg = { } }", false),
        ("7", false),
    ] {
        let made = read(&with_job(&format!("encrypt = {text}")));
        assert_eq!(made.is_ok(), good, "{text}: {:?}", made.err());
    }
}

#[test]
fn all_unknown_keys_are_named_at_once() {
    let lines = "pefix = \"x\"\nverify = { levle = \"stored\", max_agee = \"2d\" }\nkeep = { dyas = 3, lst = 2 }";
    let text = with_job(lines)
        .replace("url = \"$", "ulr = \"$")
        .replace(" }\npefix", ", talbes = [], schemsa = [] }\npefix")
        .replace("/backups\"", "/backups\"\nregoin = \"x\"\nendpiont = \"y\"");
    let error = read(&text).unwrap_err();
    let message = error.message();
    for (key, near) in [
        ("regoin", "region"),
        ("endpiont", "endpoint"),
        ("pefix", "prefix"),
        ("levle", "level"),
        ("max_agee", "max_age"),
        ("dyas", "days"),
        ("lst", "last"),
        ("ulr", "url"),
        ("talbes", "tables"),
        ("schemsa", "schemas"),
    ] {
        let line = text.lines().position(|line| line.contains(key)).unwrap() + 1;
        let told = message
            .lines()
            .find(|told| told.contains(&format!("unknown key \"{key}\"")))
            .unwrap_or_else(|| panic!("{key}: {message}"));
        assert!(
            told.contains(&format!("line {line}, ")) && told.contains(&format!("did you mean \"{near}\"?")),
            "{told}"
        );
    }
    assert!(message.starts_with("10 mistakes"), "what follows from them is not told: {message}");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_a_near_name() {
    for (text, message, hint) in [
        (
            with_job("pefix = \"x\""),
            "line 8, column 1: unknown key \"pefix\" in [jobs.shop]",
            "did you mean \"prefix\"?",
        ),
        (
            with_job("mysql = { url = \"x\" }"),
            "unknown key \"mysql\" in [jobs.shop]",
            "known are cloudflare-dns, command, doppler, mongodb, postgres, velero, dataset",
        ),
        (
            with_job("").replace("url = \"$", "ulr = \"$"),
            "line 7, column 14: unknown key \"ulr\"",
            "did you mean \"url\"?",
        ),
        (with_job("").replace("[jobs.", "[job."), "line 6, column 2: unknown key \"job\"", "did you mean \"jobs\"?"),
        (with_job("").replace("[defaults]", "[default]"), "line 3, column 2: unknown key \"default\"", "\"defaults\"?"),
        (with_job("verify = { levle = \"stored\" }"), "unknown key \"levle\"", "did you mean \"level\"?"),
        (with_job("keep = { dyas = 3 }"), "unknown key \"dyas\"", "did you mean \"days\"?"),
        (
            with_job("").replace("/backups\"", "/backups\"\nregoin = \"x\""),
            "unknown key \"regoin\" in [sinks.local]",
            "\"region\"?",
        ),
    ] {
        let error = mistake(&text);
        assert!(error.message().contains(message), "{error}");
        assert!(error.advice().unwrap_or_default().contains(hint), "{error}: {:?}", error.advice());
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}

#[test]
fn a_wrong_value_says_what_to_write() {
    for (text, message) in [
        (
            with_job("verify = { level = \"restroe\" }"),
            "level \"restroe\": there is no such verify level; the levels are",
        ),
        (with_job("verify = { max_age = \"2 days\" }"), "max_age \"2 days\""),
        (with_job("verify = { age_status = \"maybe\" }"), "age_status is \"warn\" or \"fail\""),
        (with_job("keep = \"30\""), "has no unit"),
        (with_job("keep = { days = 0 }"), "days = 0 would keep nothing"),
        (with_job("compress = \"lz4\""), "unknown compression; write zstd:3"),
        (with_job("schedule = \"30 25 * * *\""), "schedule of [jobs.shop]: its hour \"25\""),
        (with_job("sinks = [\"locl\"]"), "there is no sink \"locl\""),
        (with_job("dataset = \"a/b\""), "dataset of [jobs.shop]"),
        (with_job("encrypt = \"age:age1typo\""), "age recipient \"age1typo\": it is not a valid age recipient"),
        (with_job("").replace("postgres = {", "# {"), "[jobs.shop] does not say what to back up"),
        (with_job("").replace("url = \"file:///backups\"", ""), "the key \"url\" is missing in [sinks.local]"),
        (with_job("prefix = "), "line 8"),
        (with_job("prefix = \"a\"\nprefix = \"b\""), "duplicate key"),
    ] {
        let error = mistake(&text);
        assert!(error.message().contains(message), "{error}");
        assert!(error.message().contains("line "), "{error}");
    }
}

#[test]
fn no_value_of_the_wrong_type_is_printed() {
    let error = mistake(&with_job("").replace("{ url = \"${SHOP_URL}\" }", "\"postgres://u:hunter2@h/d\""));
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    assert!(error.message().contains("line 7"), "{error}");
}

#[test]
fn mistakes_are_told_all_at_once() {
    let text = with_job(
        "schedule = \"no\"\n[jobs.blog]\npsotgres = {}\n[jobs.wiki]\npostgres = { url = \"x\" }\nsinks = [\"locl\"]",
    );
    let error = mistake(&text);
    let lines: Vec<&str> = error.message().lines().collect();
    assert_eq!(lines.len(), 4, "{error}");
    assert!(lines[0].contains("3 mistakes"));
    assert!(lines[1].contains("line 8"), "{error}");
    assert!(lines[2].contains("line 10") && lines[2].contains("did you mean \"postgres\""), "{error}");
    assert!(lines[3].contains("line 13") && lines[3].contains("did you mean \"local\""), "{error}");
}

#[test]
fn one_mistake_does_not_make_others() {
    for text in [
        with_job("").replace("[sinks.", "[sink."),
        with_job("").replace("url = \"file", "ulr = \"file"),
        with_job("").replace("encrypt = ", "encrpyt = "),
    ] {
        assert!(mistake(&text).message().starts_with("line "), "{}", mistake(&text));
    }
}

#[test]
fn a_sink_that_the_defaults_name_wrongly_is_one_mistake() {
    let text = with_job("[jobs.blog]\npostgres = { url = \"x\" }").replace("sinks = [\"local\"]", "sinks = [\"locl\"]");
    assert!(mistake(&text).message().starts_with("line 4"), "{}", mistake(&text));
}

#[test]
fn the_only_sink_needs_no_mention() {
    let text = with_job("").replace("sinks = [\"local\"]\n", "");
    assert_eq!(read(&text).unwrap().jobs[0].sinks, ["local"]);
    let text = format!("{text}[sinks.other]\nurl = \"file:///other\"\n");
    assert!(mistake(&text).message().contains("names no sink"));
}

#[test]
fn two_jobs_cannot_write_the_same_names() {
    let text =
        with_job("prefix = \"x\"\n[jobs.again]\ndataset = \"shop\"\nprefix = \"x/\"\npostgres = { url = \"y\" }");
    assert!(mistake(&text).message().contains("[jobs.again] has the same dataset and folder as [jobs.shop]"));
    assert!(read(&text.replace("x/", "y")).is_ok());
}

#[tokio::test]
async fn secrets_are_looked_up_when_they_are_needed() {
    // The variable is not set, and the file is read all the same.
    let config = read(&with_job("")).unwrap();
    let error = config.jobs[0].system.source().await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "cannot use postgres.url of [jobs.shop] (lifeboat.toml, line 7): the environment variable SHOP_URL is not set"
    );
}

/// A file with two sinks and a copy that has these lines.
fn with_copy(lines: &str) -> String {
    with_job("") + &format!("[sinks.offsite]\nurl = \"b2://offsite\"\n[copies.velero]\n{lines}\n")
}

#[test]
fn a_copy_is_read_with_what_it_takes_for_granted() {
    let config = read(&with_copy("from = \"local\"\nto = [\"offsite\"]\nprefix = \"a/velero/\"")).unwrap();
    let copy = &config.copies[0];
    assert_eq!(
        (copy.name.as_str(), copy.from.as_str(), copy.to.clone()),
        ("velero", "local", vec!["offsite".to_owned()])
    );
    assert_eq!(copy.deletion, Deletion::Never);
    // Nothing else may be written in the tree, and nothing in its copy.
    for (sink, folder, covered) in [
        ("local", "a/velero", true),
        ("local", "a/velero/shop", true),
        ("offsite", "a/velero/shop", true),
        ("local", "a", false),
        ("local", "a/velero2", false),
        ("elsewhere", "a/velero", false),
    ] {
        assert_eq!(copy.covers(sink, folder), covered, "{sink} {folder}");
    }
    let all = read(&with_copy("from = \"local\"\nto = [\"offsite\"]\ndelete_extra = \"all\"")).unwrap();
    assert!(all.copies[0].covers("offsite", "velero/x") && all.copies[0].covers("local", "anything"));
    assert_eq!(all.copies[0].deletion, Deletion::All);
}

#[test]
fn a_wrong_copy_is_told_with_what_to_write() {
    for (lines, message) in [
        ("from = \"locl\"\nto = [\"offsite\"]", "there is no sink \"locl\""),
        ("from = \"local\"\nto = []", "names no sink to copy to"),
        ("from = \"local\"\nto = [\"local\"]", "into itself"),
        ("from = \"local\"\nto = [\"offsite\"]\ninto = \"/\"", "the copy's record would be stored in it"),
        ("from = \"local\"\nto = [\"offsite\"]\ndelete_extra = \"some\"", "delete_extra is true, false or \"all\""),
        ("from = \"local\"\nto = [\"offsite\"]\nprefx = \"x\"", "unknown key \"prefx\""),
        ("to = [\"offsite\"]", "the key \"from\" is missing"),
    ] {
        let error = mistake(&with_copy(lines));
        assert!(error.message().contains(message), "{lines}: {error}");
    }
    let taken =
        with_job("") + "[sinks.offsite]\nurl = \"b2://x\"\n[copies.shop]\nfrom = \"local\"\nto = [\"offsite\"]\n";
    assert!(mistake(&taken).message().contains("has the same name as [jobs.shop]"), "{}", mistake(&taken));
}

#[test]
fn the_example_of_a_cluster_is_right() {
    let config = read(include_str!("../../../examples/velero.toml")).unwrap();
    let velero = config.jobs[0].system.downcast::<velero::VeleroSystem>().unwrap().settings();
    assert_eq!(velero.from_schedule.as_deref(), Some("daily"));
    assert_eq!(velero.must_cover.iter().map(Setting::raw).collect::<Vec<_>>(), ["shop/data"]);
    assert!(velero.test.is_some());
    assert_eq!(velero.location.as_ref().unwrap().raw(), "velero");
    assert_eq!(velero.schedules.len(), 2);
    assert_eq!(config.jobs[0].limits.max_age, Some(Duration::from_secs(2 * 86_400)));
}

#[test]
fn a_wrong_job_of_velero_is_told_with_what_to_write() {
    let with_velero = |table: &str| {
        format!(
            "[sinks.velero]\nurl = \"s3://velero\"\n{}",
            with_job("").replace("postgres = { url = \"${SHOP_URL}\" }", &format!("velero = {{ {table} }}"))
        )
    };
    assert!(read(&with_velero("location = \"velero\"")).is_ok());
    for (table, message) in [
        ("", "the key \"location\" is missing"),
        ("location = \"velro\"", "velero.location of [jobs.shop]: there is no sink \"velro\""),
        ("location = \"local\"", "stores in \"local\", which is Velero's storage location"),
        ("location = \"velero\", must_cover = [\"data\"]", "must_cover of [jobs.shop]: \"data\" is not a claim"),
        ("location = \"velero\", limit = \"2 hours\"", "the time \"2 hours\""),
        (
            "location = \"velero\", schedules.daily = { cron = \"0 25 * * *\" }",
            "velero.schedules.daily.cron of [jobs.shop]",
        ),
        ("location = \"velero\", schedules.daily = { cron = \"0 2 * * 0#1\" }", "Velero knows no #"),
        ("location = \"velero\", test = { namespce = \"shop\" }", "unknown key \"namespce\""),
    ] {
        let error = mistake(&with_velero(table));
        assert!(error.message().contains(message), "{table}: {error}");
        assert!(error.message().contains("line "), "{error}");
    }
    for cron in ["@every 6h", "CRON_TZ=Europe/Berlin 0 2 * * *"] {
        assert!(
            read(&with_velero(&format!("location = \"velero\", schedules.daily = {{ cron = \"{cron}\" }}"))).is_ok()
        );
    }
}
