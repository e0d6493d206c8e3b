use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use clap::builder::ValueParser;
use clap::{ArgMatches, Args, FromArgMatches, Subcommand};
use lifeboat_core::cli::{CONNECTION, Jobs};
use lifeboat_core::system::Sinks;
use lifeboat_core::{AnySystem, Context, Place, Setting};
use serde_json::{Value, json};

use super::super::{RestoreOptions, RestoreTestOptions};
use super::*;

/// Remembers what was said, as text.
#[derive(Default)]
struct Heard {
    json: bool,
    context: Context,
    said: Mutex<Vec<String>>,
}

impl Sinks for Heard {
    fn place(&self, named: &Setting) -> Result<Place> {
        Ok(Place::new(named.raw(), || Err(Error::new(ErrorKind::Internal, "open", "the sink", "this is a test"))))
    }
}

impl Console for Heard {
    fn say(&self, part: Part) {
        self.said.lock().unwrap().push(match part {
            Part::Line(text) | Part::Toned(text, _) => text,
            Part::Failure(error) => format!("error: {error}"),
            other => format!("{other:?}"),
        });
    }

    fn result(&self, value: Value) {
        self.said.lock().unwrap().push(value.to_string());
    }

    fn item(&self, value: Value) {
        self.result(value);
    }

    fn end_of_items(&self) {}

    fn is_json(&self) -> bool {
        self.json
    }

    fn context(&self) -> &Context {
        &self.context
    }

    fn failure(&self, error: &Error) -> Value {
        error.to_string().into()
    }

    fn jobs(&self, _: Option<&Path>) -> Result<Jobs> {
        Ok(Jobs::new("lifeboat.toml", Vec::new()))
    }
}

impl Heard {
    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }
}

fn program() -> Command {
    Verb::augment_subcommands(Command::new("lifeboat-velero"))
}

fn parse(arguments: &[&str]) -> Result<Verb, clap::Error> {
    let matches = program().try_get_matches_from([&["lifeboat-velero"], arguments].concat())?;
    Verb::from_arg_matches(&matches)
}

async fn run(arguments: &[&str]) -> Result<Outcome> {
    parse(arguments).unwrap().run(&Heard::default()).await
}

fn matches<T: Args>(arguments: &[&str]) -> ArgMatches {
    T::augment_args(Command::new("x").no_binary_name(true)).try_get_matches_from(arguments).unwrap()
}

#[test]
fn the_commands_and_each_struct_hold_together() {
    program().debug_assert();
    for augment in [VeleroSettings::augment_args, RestoreOptions::augment_args, RestoreTestOptions::augment_args] {
        augment(Command::new("x")).debug_assert();
    }
    let commands = ["backup", "list", "show", "verify", "restore", "prune", "replicate", "check", ""];
    for name in commands {
        VeleroSystem::shape(Command::new(name)).debug_assert();
    }
    for verb in program().get_subcommands().flat_map(|verb| [verb].into_iter().chain(verb.get_subcommands())) {
        for arg in verb.get_arguments() {
            assert!(arg.get_help().is_some(), "{}: {} has no help", verb.get_name(), arg.get_id());
            let values = arg.get_possible_values();
            let is_short = arg.get_long_help().is_none() && values.iter().all(|value| value.get_help().is_none());
            assert!(is_short, "{}: {} makes --help differ from -h", verb.get_name(), arg.get_id());
        }
    }
}

/// As crates/cli merges them: by id, and by the long name.
#[test]
fn a_flag_of_one_name_has_one_id_and_one_type() {
    let program = program();
    for (name, structs) in [
        ("verify", [VeleroSettings::augment_args as fn(Command) -> Command, RestoreTestOptions::augment_args]),
        ("restore", [VeleroSettings::augment_args, RestoreOptions::augment_args]),
    ] {
        let mut all: Vec<clap::Arg> = program.find_subcommand(name).unwrap().get_arguments().cloned().collect();
        for augment in structs {
            all.extend(augment(Command::new(name)).get_arguments().cloned());
        }
        for arg in all.iter().filter(|arg| arg.get_long().is_some()) {
            for other in all.iter().filter(|other| other.get_long() == arg.get_long()) {
                // The command's own schedule: that of the settings cannot be given to `restore`.
                let same = arg.get_id() == other.get_id() || arg.get_long() == Some("from-schedule");
                assert!(same, "{name}: --{}", arg.get_long().unwrap());
                let kind = |arg: &clap::Arg| ValueParser::type_id(arg.get_value_parser());
                assert_eq!(kind(arg), kind(other), "{name}: {}", arg.get_id());
            }
        }
    }
}

#[test]
fn settings_are_read_from_flags() {
    let arguments = [
        "--location",
        "env:VELERO",
        "--kubeconfig",
        "k.yaml",
        "--namespace",
        "a",
        "--namespace",
        "b",
        "--label",
        "app=web",
        "--ttl",
        "30d",
        "--snapshot-volumes",
        "--default-volumes-to-fs-backup=false",
        "--limit",
        "6h",
        "--test",
        "shop",
    ];
    let settings = VeleroSettings::from_arg_matches(&matches::<VeleroSettings>(&arguments)).unwrap();
    assert_eq!(settings.location.as_ref().unwrap().raw(), "${VELERO}");
    assert_eq!((&*settings.namespaces.concat(), &*settings.labels[0].key), ("ab", "app"));
    assert_eq!((settings.snapshot_volumes, settings.default_volumes_to_fs_backup), (Some(true), Some(false)));
    assert_eq!(settings.ttl.unwrap().0.as_secs(), 30 * 86_400);
    assert_eq!(settings.check_test_of.as_deref(), Some("shop"));
    let chosen = matches::<RestoreOptions>(&["--map", "a=b", "--existing", "update", "--cluster-resources"]);
    let chosen = RestoreOptions::from_arg_matches(&chosen).unwrap();
    assert_eq!((chosen.namespace_mapping[0].value.as_str(), chosen.cluster_resources), ("b", Some(true)));
    let none = VeleroSettings::from_arg_matches(&matches::<VeleroSettings>(&[])).unwrap();
    assert!(none.namespaces.is_empty() && none.limit.is_none());
}

#[test]
fn the_way_to_velero_is_read_from_the_flags_of_the_settings() {
    let Verb::Show(show) = parse(&["show", "daily-1", "--location", "s3://b", "--cacert", "ca.pem"]).unwrap() else {
        panic!()
    };
    assert_eq!(show.files.reach.settings.location.unwrap().raw(), "s3://b");
    assert!(parse(&["list", "--location", "s3://b"]).is_err());
    let ids = |name: &str| -> BTreeSet<String> {
        let program = program();
        let arguments = program.find_subcommand(name).unwrap().get_arguments();
        arguments.filter(|arg| arg.get_help_heading() == Some(CONNECTION)).map(|arg| arg.get_id().to_string()).collect()
    };
    let both = ["context", "kubeconfig", "location", "velero_namespace"].map(str::to_owned);
    assert_eq!(ids("verify"), both.into());
    let cluster = ["context", "kubeconfig", "velero_namespace"].map(str::to_owned);
    assert_eq!(ids("delete"), cluster.into());
}

#[tokio::test]
async fn what_was_not_said_is_asked_for() {
    let hint = async |arguments: &[&str]| run(arguments).await.unwrap_err().advice().unwrap().to_owned();
    assert!(hint(&["verify"]).await.contains("--namespace"));
    assert!(hint(&["verify", "--namespace", "x", "--level", "structure"]).await.contains("--sink"));
    assert!(hint(&["verify", "--namespace", "x", "--at", "2026-01-01"]).await.contains("--backup"));
    assert!(hint(&["show"]).await.contains("lifeboat-velero list"));
    assert!(hint(&["restore"]).await.contains("lifeboat-velero list"));
    assert!(hint(&["judge", "--location", ""]).await.contains("--location s3://bucket/prefix"));
    assert!(hint(&["schedules", "apply"]).await.contains("velero.schedules.daily"));
    let error = run(&["verify", "--namespace", "x", "--backup", "b", "--from-schedule", "s"]).await.unwrap_err();
    assert_eq!(error.subject(), "--backup");
    let error = parse(&["restore", "x", "--map", "shop"]).unwrap_err().to_string();
    assert!(error.contains("--map shop=shop-again"), "{error}");
    let error = parse(&["judge", "--must-cover", "shop"]).unwrap_err().to_string();
    assert!(error.contains("namespace/name"), "{error}");
}

#[test]
fn the_worst_outcome_ends_a_command() {
    let missing = |name: &str| Error::new(ErrorKind::NoArtifact, "find", name, "none");
    let console = Heard::default();
    let mut outcomes = Outcomes::new(&console);
    outcomes.error(missing("a"));
    outcomes.error(Error::new(ErrorKind::Config, "use", "b", "wrong"));
    outcomes.error(missing("c"));
    assert!(!outcomes.is_good());
    assert_eq!(outcomes.end().unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(console.said(), ["error: cannot find a: none", "error: cannot find c: none"]);

    let mut outcomes = Outcomes::new(&console);
    outcomes.error(missing("a"));
    outcomes.note(false);
    assert_eq!(outcomes.end().unwrap(), Outcome::Failed);
    assert_eq!(console.said(), ["error: cannot find a: none"]);
    assert_eq!(Outcomes::new(&console).end().unwrap(), Outcome::Good);
}

#[test]
fn a_log_is_printed_in_whole_lines() {
    for json in [false, true] {
        let console = Heard { json, ..Heard::default() };
        let mut lines = backups::Lines { console: &console, rest: Vec::new() };
        for chunk in ["a\nb", "c\nd"] {
            lines.take(chunk.as_bytes());
        }
        lines.end();
        let expected = if json { ["\"a\"", "\"bc\"", "\"d\""] } else { ["a", "bc", "d"] };
        assert_eq!(console.said(), expected);
    }
}

#[test]
fn the_job_with_schedules_is_found() {
    let job = |schedules: &str| -> Arc<dyn AnySystem> {
        let table = json!({"location": "s3://b", "schedules": serde_json::from_str::<Value>(schedules).unwrap()});
        Arc::new(open(serde_json::from_value(table).unwrap(), &Heard::default()).unwrap())
    };
    let daily = r#"{"daily": {"cron": "@daily"}}"#;
    let jobs = |jobs: &[(&str, &str)]| {
        Jobs::new("lifeboat.toml", jobs.iter().map(|(name, text)| ((*name).to_owned(), job(text))).collect())
    };
    let one = jobs(&[("plain", "{}"), ("prod", daily)]);
    assert_eq!(schedules::of_config(&one, None).unwrap().0, "prod");
    assert!(schedules::of_config(&one, Some("plain")).is_err());
    let error = schedules::of_config(&jobs(&[("a", daily), ("b", daily)]), None).unwrap_err();
    assert_eq!(error.advice(), Some("name one with --job: a, b"));
}
