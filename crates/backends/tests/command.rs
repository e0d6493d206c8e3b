//! Any command as a system, with real processes.
#![cfg(feature = "command")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use lifeboat_backends::command::{CommandSettings, CommandSource, CommandTarget, CommandVerifier, VerifyOptions};
use lifeboat_core::catalog;
use lifeboat_core::progress::Tally;
use lifeboat_core::proof::WholeStream;
use lifeboat_core::{
    ArtifactName, Backup, Check, Compression, Context, Dataset, Error, ErrorKind, Level, Proof, Restore, RestoreInput,
    Result, Sink, Source, Status, Tap, Target, Verifier, Verify, stream,
};
use lifeboat_testkit::conformance::source;
use lifeboat_testkit::memory::MemorySink;
use serde_json::{Value, json};

/// What would take too long if anything hung.
const SOON: Duration = Duration::from_secs(20);

fn settings(table: Value) -> CommandSettings {
    serde_json::from_value(table).unwrap()
}

fn shell(line: &str) -> CommandSettings {
    settings(json!({ "run": [line], "shell": true, "format": "txt" }))
}

fn source(settings: CommandSettings) -> CommandSource {
    CommandSource::new(settings).unwrap()
}

/// All that it prints, or the error at its end.
async fn read(source: &CommandSource, cx: &Context) -> Result<Vec<u8>> {
    let mut reading = source.open(cx).await?;
    let mut all = Vec::new();
    while let Some(chunk) = reading.stream.next().await {
        all.extend_from_slice(&chunk?);
    }
    reading.tap.push(&all)?;
    reading.tap.finish()?;
    Ok(all)
}

async fn output(settings: CommandSettings) -> String {
    String::from_utf8(read(&source(settings), &Context::default()).await.unwrap()).unwrap()
}

async fn failure(settings: CommandSettings) -> Error {
    tokio::time::timeout(SOON, read(&source(settings), &Context::default())).await.unwrap().unwrap_err()
}

/// Everything that an error would show anywhere.
fn shown(error: &Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error}\n{error:?}\n{:?}\n{source}", error.advice())
}

async fn pid_in(path: &Path) -> u32 {
    let begun = Instant::now();
    loop {
        if let Some(pid) = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()) {
            return pid;
        }
        assert!(begun.elapsed() < SOON, "{} never held a pid", path.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a process is gone, or has ended and nobody has waited for it.
async fn gone(pid: u32) {
    let begun = Instant::now();
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        let state = stat.ok().and_then(|stat| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()));
        if matches!(state, None | Some('Z' | 'X')) {
            return;
        }
        assert!(begun.elapsed() < SOON, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn name() -> ArtifactName {
    ArtifactName::parse("api-20261121-033000.txt").unwrap()
}

fn proof_of(bytes: &[u8]) -> Proof {
    let mut tap = Box::new(WholeStream::new("output"));
    tap.push(bytes).unwrap();
    tap.finish().unwrap()
}

/// Content in two chunks, with the proof of `proven`.
fn input(bytes: &[u8], proven: &[u8]) -> RestoreInput {
    let (one, two) = bytes.split_at(bytes.len() / 2);
    let chunks: Vec<Result<Bytes>> = [one, two].iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    RestoreInput::new(futures::stream::iter(chunks).boxed(), name(), Some(proof_of(proven)))
}

/// Content that ends with an error.
fn broken_input(bytes: &'static [u8]) -> RestoreInput {
    let error = Error::new(ErrorKind::Corrupt, "read", "api", "it was cut short");
    let stream = futures::stream::iter([Ok(Bytes::from_static(bytes)), Err(error)]).boxed();
    RestoreInput::new(stream, name(), None)
}

fn verifier(verify: Value) -> CommandVerifier {
    let settings = settings(json!({ "run": ["true"], "verify": verify }));
    CommandVerifier::new(settings, VerifyOptions::default()).unwrap()
}

fn verify_line(line: &str) -> CommandVerifier {
    let settings = settings(json!({ "run": ["true"], "verify": [line], "shell": true }));
    CommandVerifier::new(settings, VerifyOptions::default()).unwrap()
}

async fn verified(verifier: &CommandVerifier, input: RestoreInput) -> Vec<Check> {
    let cx = Context::default();
    tokio::time::timeout(SOON, verifier.restore_test(input, &cx)).await.unwrap().unwrap()
}

fn restore_line(line: &str, into: &str) -> CommandTarget {
    CommandTarget::command(settings(json!({ "run": ["true"], "restore": [line], "shell": true })), into).unwrap()
}

async fn restored(target: &CommandTarget, input: RestoreInput) -> Result<Vec<Check>> {
    tokio::time::timeout(SOON, target.restore(input, &Context::default())).await.unwrap()
}

mod backups {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_source_keeps_what_the_trait_promises() {
        source::all(&source(shell("head -c 3000000 /dev/zero | tr '\\0' x"))).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_it_prints_is_stored_verified_and_restored() {
        let sink: Arc<dyn Sink> = Arc::new(MemorySink::new());
        let made = settings(json!({
            "run": ["printf", "%s", "{\"items\":[1,2]}"], "format": "json",
            "verify": ["grep", "-q", "items"], "restore": ["cat"],
        }));
        let receipt = Backup::new(source(made.clone()))
            .unencrypted()
            .dataset(Dataset::new("api").unwrap())
            .to(sink.clone())
            .run()
            .await
            .unwrap();
        assert!(receipt.key.ends_with(".json.zst"), "{}", receipt.key);
        let found = catalog::find(&sink, "", &Dataset::new("api").unwrap(), &"latest".parse().unwrap()).await.unwrap();
        let manifest = found.read_manifest(&*sink).await.unwrap().unwrap();
        assert_eq!((manifest.source.system.as_str(), manifest.source.tool.as_deref()), ("command", Some("printf")));

        let verifier = CommandVerifier::new(made.clone(), VerifyOptions::default()).unwrap();
        for level in [Level::Stored, Level::Structure, Level::Restore] {
            let report =
                Verify::new(sink.clone(), found.clone(), &verifier).level(level).record(false).run().await.unwrap();
            assert!(report.passed, "{report:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.json");
        Restore::new(sink.clone(), found.clone()).into(&CommandTarget::file(&path, false)).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"items\":[1,2]}");
        let target = CommandTarget::command(made, "").unwrap();
        let checks = Restore::new(sink, found).into(&target).await.unwrap().checks;
        assert!(checks[0].detail.contains("it printed: {\"items\":[1,2]}"), "{checks:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_that_fails_after_its_output_stores_nothing_and_says_why() {
        let sink = Arc::new(MemorySink::new());
        let source =
            source(shell("head -c 3000000 /dev/zero; echo 'sh: the \x1b[31mdatabase\x1b[0m is locked' >&2; exit 3"));
        let backup = Backup::new(source).unencrypted().compress(Compression::None).to(sink.clone()).history(false);
        let error = backup.run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tool);
        assert_eq!(error.to_string(), "cannot run sh: it ended with status 3: the database is locked");
        assert!(sink.keys().is_empty(), "{:?}", sink.keys());
    }

    #[tokio::test]
    async fn the_output_before_a_failure_is_no_backup() {
        let mut reading = source(shell("echo all; exit 3")).open(&Context::default()).await.unwrap();
        let items: Vec<_> = reading.stream.by_ref().collect().await;
        assert!(items.last().unwrap().is_err(), "{items:?}");
        reading.tap.push(b"all\n").unwrap();
        assert_eq!(reading.tap.finish().unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[tokio::test]
    async fn one_that_closes_its_output_and_then_fails_has_failed() {
        let error = failure(shell("echo all; exec >&-; sleep 0.1; echo 'too late' >&2; exit 7")).await;
        assert!(error.message().contains("status 7: too late"), "{error}");
    }

    #[tokio::test]
    async fn one_that_is_killed_says_by_what() {
        let error = failure(shell("echo half; kill -KILL $$")).await;
        assert_eq!(error.message(), "it was killed by signal 9 (SIGKILL)");
        let error = failure(shell("echo half; kill -TERM $$")).await;
        assert_eq!(error.message(), "it was killed by signal 15 (SIGTERM)");
    }

    #[tokio::test]
    async fn the_last_64_kib_of_what_it_says_are_in_the_error() {
        let error = failure(shell("seq 1 20000 >&2; exit 1")).await;
        assert!(error.message().ends_with("19999; 20000"), "{error}");
        assert!(!error.message().contains("19988;"), "a message has the last 12 lines");
        let all = std::error::Error::source(&error).unwrap().to_string();
        assert!(all.len() > 63 << 10 && all.len() <= 64 << 10, "{}", all.len());
        assert!(all.ends_with("\n20000"));
    }

    #[tokio::test]
    async fn an_empty_output_is_refused_unless_it_is_allowed() {
        let backup = |allow: bool, sink: MemorySink, tally: Arc<Tally>| {
            let source = CommandSource::new(shell("echo 'nothing to export' >&2")).unwrap();
            let backup = Backup::new(source).dataset(Dataset::new("shop").unwrap()).unencrypted().allow_empty(allow);
            backup.to(Arc::new(sink)).history(false).progress(tally).run()
        };
        let (sink, tally) = (MemorySink::new(), Arc::new(Tally::default()));
        let error = backup(false, sink.clone(), tally.clone()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Tool, "its source ended successfully but gave nothing: 0 bytes")
        );
        assert!(tally.notes().iter().any(|note| note.contains("nothing to export")), "{:?}", tally.notes());
        assert_eq!(sink.keys(), Vec::<String>::new());
        let receipt = backup(true, sink.clone(), tally).await.unwrap();
        assert_eq!((receipt.plaintext_bytes, receipt.warnings), (0, Vec::<String>::new()));
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_killed() {
        let made = json!({ "run": ["echo begun; sleep 1000"], "shell": true, "timeout": "1s" });
        let error = failure(settings(made)).await;
        assert_eq!((error.kind(), error.message()), (ErrorKind::Tool, "it had not ended after 1.0s, and was killed"));
        assert!(error.advice().unwrap().contains("timeout"));
    }

    #[tokio::test]
    async fn what_it_leaves_in_the_background_cannot_hold_a_failure_up() {
        let error = failure(shell("sleep 1000 & echo x; exit 4")).await;
        assert!(error.message().contains("status 4"), "{error}");
    }

    #[tokio::test]
    async fn an_output_that_stays_open_after_a_good_end_is_no_backup() {
        let error = failure(shell("sleep 1000 & echo x")).await;
        assert!(error.message().contains("holds its output open"), "{error}");
    }

    #[tokio::test]
    async fn what_comes_late_through_a_background_process_is_read() {
        assert_eq!(output(shell("(sleep 0.3; echo late) & echo early")).await, "early\nlate\n");
    }

    #[tokio::test]
    async fn what_comes_after_its_end_is_told() {
        // The second one fails in the middle, and nobody asks for its status.
        for (line, late) in [("(sleep 0.3; echo late; exit 1) & echo early", 5), ("echo early", 0), ("seq 1 90000", 0)]
        {
            let tally = Arc::new(Tally::default());
            let cx = Context::default().progress(tally.clone());
            read(&source(shell(line)), &cx).await.unwrap();
            match late {
                0 => assert_eq!(tally.notes(), Vec::<String>::new(), "{line}"),
                late => assert!(
                    tally.notes()[0].starts_with(&format!("sh: {late} bytes came after it had ended")),
                    "{line}"
                ),
            }
        }
    }

    #[tokio::test]
    async fn a_short_word_of_one_that_ended_well_is_passed_on_and_a_long_one_is_not() {
        for (line, notes) in [
            ("echo x; echo 'sh: warning: 2 rows were skipped' >&2", vec!["sh: warning: 2 rows were skipped"]),
            ("echo x; seq 1 4 >&2", vec![]),
            (
                "echo x; (seq 1 4; echo 'table orders: ERROR: no such table'; seq 5 9) >&2",
                vec!["sh succeeded, but among 10 lines it printed: table orders: ERROR: no such table"],
            ),
            ("echo x", vec![]),
        ] {
            let tally = Arc::new(Tally::default());
            let cx = Context::default().progress(tally.clone());
            read(&source(shell(line)), &cx).await.unwrap();
            assert_eq!(tally.notes(), notes, "{line}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_started_says_so_before_anything_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plain"), "x").unwrap();
        let plain = folder.path().join("plain").display().to_string();
        for (table, kind, why) in [
            (json!({ "run": ["lifeboat-no-such-program", "hunter2"] }), ErrorKind::NotFound, "PATH"),
            (json!({ "run": ["/no/such/program", "hunter2"] }), ErrorKind::NotFound, "No such file"),
            (json!({ "run": [plain, "hunter2"] }), ErrorKind::Permission, "not an executable file"),
            (json!({ "run": ["echo", "hunter2"], "folder": "/no/such" }), ErrorKind::NotFound, "not a folder"),
            (
                json!({ "run": ["echo", "hunter2"], "env": { "A": "${LIFEBOAT_NOT_SET}" } }),
                ErrorKind::Config,
                "not set",
            ),
            (
                json!({ "run": ["echo", "hunter2"], "env": { "A": "file:/no/such" } }),
                ErrorKind::Config,
                "cannot be read",
            ),
        ] {
            let source = source(settings(table.clone()));
            for error in [source.describe().await.unwrap_err(), source.open(&Context::default()).await.unwrap_err()] {
                assert_eq!(error.kind(), kind, "{table}: {error}");
                assert!(error.message().contains(why), "{table}: {error}");
                assert!(!shown(&error).contains("hunter2"), "{error:?}");
            }
        }
    }

    #[tokio::test]
    async fn it_works_in_its_folder_and_is_found_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("/bin/pwd", path.join("where")).unwrap();
        let table = json!({ "run": ["./where"], "folder": path.display().to_string() });
        assert_eq!(output(settings(table)).await.trim_end(), path.display().to_string());
    }

    #[tokio::test]
    async fn without_a_shell_arguments_are_what_they_are() {
        let table = json!({ "run": ["printf", "%s|", "a b", "$HOME", "*", "; exit 1"] });
        assert_eq!(output(settings(table)).await, "a b|$HOME|*|; exit 1|");
        assert_eq!(output(shell("printf 'a|b' | tr '|' ';'")).await, "a;b");
    }
}

mod endings {
    use super::*;

    /// A line that leaves a process in the background, and the file with its pid.
    fn with_background(folder: &Path, rest: &str) -> String {
        format!("sleep 1000 & echo $! > {}/pid; {rest}", folder.display())
    }

    #[tokio::test]
    async fn cancelling_kills_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let cx = Context::default();
        let mut reading = source(shell(&with_background(folder.path(), "wait"))).open(&cx).await.unwrap();
        let cancel = async {
            let pid = pid_in(&folder.path().join("pid")).await;
            cx.cancel.cancel();
            pid
        };
        let (item, pid) = tokio::join!(reading.stream.next(), cancel);
        assert_eq!(item.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(reading.stream.next().await.is_none());
        gone(pid).await;
    }

    #[tokio::test]
    async fn a_dropped_stream_kills_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let mut reading =
            source(shell(&with_background(folder.path(), "wait"))).open(&Context::default()).await.unwrap();
        let pid = pid_in(&folder.path().join("pid")).await;
        assert!(reading.stream.next().now_or_never().is_none());
        drop(reading);
        gone(pid).await;
    }

    #[tokio::test]
    async fn a_timeout_and_a_failure_kill_the_whole_group() {
        for (rest, why) in [("wait", "had not ended"), ("exit 5", "status 5")] {
            let folder = tempfile::tempdir().unwrap();
            let made = json!({ "run": [with_background(folder.path(), rest)], "shell": true, "timeout": "1s" });
            let error = failure(settings(made)).await;
            assert!(error.message().contains(why), "{error}");
            gone(pid_in(&folder.path().join("pid")).await).await;
        }
    }

    #[tokio::test]
    async fn what_a_good_command_leaves_in_its_group_is_ended_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("sleep 1000 > /dev/null 2>&1 & echo $! > {}/pid; echo x", folder.path().display());
        assert_eq!(output(shell(&line)).await, "x\n");
        gone(pid_in(&folder.path().join("pid")).await).await;
    }

    #[tokio::test]
    async fn a_cancelled_verification_kills_its_command_and_removes_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let line = with_background(folder.path(), "wait");
        let made = settings(json!({ "run": ["true"], "verify": [line], "shell": true }));
        let options = VerifyOptions::default().scratch_folder(scratch.clone());
        let verifier = CommandVerifier::new(made, options).unwrap();
        let cx = Context::default();
        let cancel = async {
            let pid = pid_in(&folder.path().join("pid")).await;
            assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 1);
            cx.cancel.cancel();
            pid
        };
        let (tested, pid) = tokio::join!(verifier.restore_test(input(b"x", b"x"), &cx), cancel);
        assert_eq!(tested.unwrap_err().kind(), ErrorKind::Cancelled);
        gone(pid).await;
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
    }
}

mod environment {
    use super::*;

    #[tokio::test]
    async fn nothing_is_inherited_but_what_is_named() {
        // Cargo sets it for every test.
        let variable = "CARGO_MANIFEST_DIR";
        assert!(std::env::var_os(variable).is_some());
        let names = |text: String| text.lines().map(|l| l.split('=').next().unwrap().to_owned()).collect::<Vec<_>>();
        let bare = names(output(settings(json!({ "run": ["env"] }))).await);
        let allowed = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL"];
        assert!(bare.iter().all(|name| allowed.contains(&name.as_str()) || name.starts_with("LC_")), "{bare:?}");
        assert!(bare.contains(&"PATH".to_owned()));
        let table =
            json!({ "run": ["env"], "pass_env": [variable, "LIFEBOAT_NOT_SET"], "env": { "B": "${CARGO_PKG_NAME}" } });
        let text = output(settings(table)).await;
        assert!(text.contains(&format!("{variable}=/")), "{text}");
        assert!(text.lines().any(|line| line == "B=lifeboat-backends"), "{text}");
        assert!(!text.contains("NOT_SET"), "what is not set is not passed");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn secrets_reach_the_command_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "hunter2-of-the-api\n").unwrap();
        let with = |line: &str| {
            let env = json!({ "TOKEN": format!("file:{}", file.display()) });
            settings(json!({ "run": [line], "shell": true, "env": env, "verify": [line], "restore": [line] }))
        };
        assert_eq!(output(with("printf %s \"$TOKEN\"")).await, "hunter2-of-the-api");

        let loud = "echo \"$TOKEN\" >&2; echo \"Authorization: Bearer $TOKEN\" >&2; echo done; exit 22";
        let made = with(loud);
        assert!(!format!("{made:?} {:?}", source(made.clone())).contains("hunter2"));
        let error = failure(made.clone()).await;
        assert!(error.message().ends_with("${TOKEN}; Authorization: Bearer ${TOKEN}"), "{error}");
        assert!(!shown(&error).contains("hunter2"));

        let verifier = CommandVerifier::new(made.clone(), VerifyOptions::default()).unwrap();
        let checks = verified(&verifier, input(b"x", b"x")).await;
        assert!(!format!("{checks:?} {verifier:?}").contains("hunter2"), "{checks:?}");
        let target = CommandTarget::command(made, "into-hunter2").unwrap();
        let error = restored(&target, input(b"x", b"x")).await.unwrap_err();
        assert!(!shown(&error).contains("hunter2") && !format!("{target:?} {}", target.name()).contains("hunter2"));

        let sink = Arc::new(MemorySink::new());
        let backup = Backup::new(source(with("printf x; echo $TOKEN >&2"))).unencrypted().to(sink.clone());
        backup.compress(Compression::None).run().await.unwrap();
        for key in sink.keys() {
            let text = String::from_utf8_lossy(&sink.bytes(&key).unwrap()).into_owned();
            assert!(!text.contains("hunter2") && !text.contains("printf"), "{key}: {text}");
        }
    }
}

mod verifications {
    use super::*;

    #[tokio::test]
    async fn the_command_gets_the_content_in_an_empty_folder_of_its_own() {
        let checks = verified(&verify_line("ls -A; cat; touch left; pwd >&2"), input(b"one two", b"one two")).await;
        let [check] = &checks[..] else { panic!("{checks:?}") };
        assert_eq!((check.status, check.figure.as_str()), (Status::Pass, "status 0"));
        let (printed, folder) = check.detail.split_once("; it said: ").unwrap();
        assert_eq!(printed, "sh: it printed: one two");
        assert!(folder.contains("lifeboat-verify-") && !Path::new(folder).exists(), "{folder}");
    }

    #[tokio::test]
    async fn a_command_that_refuses_is_a_failed_check() {
        let checks =
            verified(&verify_line("cat > /dev/null; echo 'no table users' >&2; exit 4"), input(b"x", b"x")).await;
        assert_eq!((checks[0].status, checks[0].figure.as_str()), (Status::Fail, "status 4"));
        assert_eq!(checks[0].detail, "sh: it said: no table users");
        let checks = verified(&verify_line("kill -SEGV $$"), input(b"x", b"x")).await;
        assert_eq!((checks[0].status, checks[0].figure.as_str()), (Status::Fail, "signal 11 (SIGSEGV)"));
    }

    #[tokio::test]
    async fn a_command_that_does_not_read_is_fine() {
        let content = vec![7; 5 << 20];
        for line in ["true", "head -c 3 > /dev/null", "exec 0<&-; sleep 0.2"] {
            let checks = verified(&verify_line(line), input(&content, &content)).await;
            assert_eq!(checks[0].status, Status::Pass, "{line}: {checks:?}");
            assert!(checks[0].detail.contains("did not read everything"), "{line}: {checks:?}");
        }
        let held = verified(&verify_line("sleep 1000 <&0 & exit 0"), input(&content, &content)).await;
        assert_eq!(held[0].status, Status::Pass, "what holds the pipe after the end does not hold it up");
    }

    #[tokio::test]
    async fn truncated_content_is_found_whatever_the_command_says() {
        let folder = tempfile::tempdir().unwrap();
        let end = folder.path().join("end");
        let line = format!("cat > /dev/null; touch {}", end.display());
        for verifier in [verify_line(&line), verify_line("true"), verifier(json!([]))] {
            let checks = verified(&verifier, input(b"one tw", b"one two")).await;
            assert_eq!(checks[0].status, Status::Fail, "{checks:?}");
            assert!(checks[0].detail.contains("6 bytes were read, but the proof says 7"), "{checks:?}");
            let checks = verified(&verifier, input(b"one twO", b"one two")).await;
            assert_eq!(checks[0].status, Status::Fail, "{checks:?}");
            assert!(checks[0].detail.contains("content differs"), "{checks:?}");
            let checks = verified(&verifier, broken_input(b"one")).await;
            assert_eq!(checks[0].status, Status::Fail, "{checks:?}");
        }
        assert!(!end.exists(), "it never saw an end");
    }

    #[tokio::test]
    async fn what_is_not_the_artifacts_fault_is_no_check() {
        let error = Error::new(ErrorKind::Unavailable, "read", "api", "no answer");
        let stream = futures::stream::iter([Ok(Bytes::from_static(b"x")), Err(error)]).boxed();
        let input = RestoreInput::new(stream, name(), None);
        let error = verify_line("cat").restore_test(input, &Context::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let missing = verifier(json!(["lifeboat-no-such-program"]));
        let error = missing.restore_test(super::input(b"x", b"x"), &Context::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn without_a_command_it_says_what_it_proves() {
        let checks = verified(&verifier(json!([])), input(b"x", b"x")).await;
        assert_eq!(checks[0].status, Status::Warn);
        let expected = "no verify command is configured: the content hash was compared; nothing was restored";
        assert_eq!(checks[0].detail, expected);
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_a_failed_check_and_the_content_is_read() {
        let made = json!({ "run": ["true"], "verify": ["sleep", "1000"], "timeout": "1s" });
        let verifier = CommandVerifier::new(settings(made), VerifyOptions::default()).unwrap();
        let content = vec![7; 5 << 20];
        let mut input = input(&content, &content);
        let (seen, counted) = (Arc::new(std::sync::Mutex::new(0)), content.len());
        let counter = seen.clone();
        input.stream = input.stream.inspect(move |c| *counter.lock().unwrap() += c.as_ref().unwrap().len()).boxed();
        let checks = verified(&verifier, input).await;
        assert_eq!(checks[0].status, Status::Fail);
        assert!(checks[0].detail.contains("had not ended after 1.0s"), "{checks:?}");
        assert_eq!(*seen.lock().unwrap(), counted);
    }

    #[tokio::test]
    async fn the_level_live_is_told_to_be_none() {
        let error = verify_line("cat").live(None, &Context::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

mod restores {
    use super::*;

    #[tokio::test]
    async fn the_command_gets_exactly_the_bytes_and_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.db");
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let target = restore_line("cat > \"$LIFEBOAT_INTO\"; echo restored", path.to_str().unwrap());
        let checks = restored(&target, input(&content, &content)).await.unwrap();
        assert_eq!((checks.len(), checks[0].status), (1, Status::Pass));
        assert_eq!(checks[0].detail, "sh: it printed: restored");
        assert!(std::fs::read(&path).unwrap() == content);
    }

    #[tokio::test]
    async fn a_stream_that_breaks_never_looks_like_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (begun, end) = (folder.path().join("begun"), folder.path().join("end"));
        let target = restore_line("cat > \"$LIFEBOAT_INTO\"; touch \"$LIFEBOAT_INTO.end\"", begun.to_str().unwrap());
        let error = restored(&target, broken_input(b"half")).await.unwrap_err();
        assert_eq!(error.message(), "it was cut short");
        let error = restored(&target, input(b"one tw", b"one two")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(!end.exists() && !begun.with_extension("end").exists());
    }

    /// Left in the middle, by a dropped future and by a cancelled run, again and again: a command that saw an end in between
    /// would leave its file.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_restore_that_is_given_up_never_looks_like_the_end() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let into = folder.path().join(round.to_string());
            let line = "echo $$ > \"$LIFEBOAT_INTO.pid\"; cat > /dev/null; touch \"$LIFEBOAT_INTO\"";
            let target = restore_line(line, into.to_str().unwrap());
            let chunk = Bytes::from(vec![0; 1 << 20]);
            let stream = futures::stream::repeat_with(move || Ok(chunk.clone())).boxed();
            let input = RestoreInput::new(stream, name(), None);
            let cx = Context::default();
            let cancel = cx.cancel.clone();
            let running = tokio::spawn(async move { target.restore(input, &cx).await });
            let pid = pid_in(&into.with_extension("pid")).await;
            if round % 2 == 0 {
                running.abort();
                assert!(running.await.unwrap_err().is_cancelled());
            } else {
                cancel.cancel();
                assert_eq!(running.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
            }
            gone(pid).await;
            assert!(!into.exists(), "round {round}");
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_is_an_error_and_ends_the_reading() {
        let target = restore_line("head -c 1 > /dev/null; echo 'duplicate key' >&2; exit 9", "");
        let chunk = Bytes::from(vec![0; 1 << 20]);
        // Without an end: it is not read to it.
        let stream = futures::stream::repeat_with(move || Ok(chunk.clone())).boxed();
        let error = restored(&target, RestoreInput::new(stream, name(), None)).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot run sh: it ended with status 9: duplicate key");
        assert!(error.advice().is_some());
    }

    #[tokio::test]
    async fn a_command_that_leaves_some_of_it_is_told() {
        let content = vec![7; 5 << 20];
        let checks = restored(&restore_line("head -c 1 > /dev/null", ""), input(&content, &content)).await.unwrap();
        assert_eq!((checks[1].status, checks[1].figure.as_str()), (Status::Warn, "not read to its end"));
    }

    #[tokio::test]
    async fn a_file_appears_whole_or_not_at_all() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.txt");
        for bad in [broken_input(b"half"), input(b"one tw", b"one two")] {
            restored(&CommandTarget::file(&path, false), bad).await.unwrap_err();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
        restored(&CommandTarget::file(&path, false), input(b"one", b"one")).await.unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let error = restored(&CommandTarget::file(&path, false), input(b"two", b"two")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        restored(&CommandTarget::file(&path, true), broken_input(b"half")).await.unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        restored(&CommandTarget::file(&path, true), input(b"two", b"two")).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn a_stream_without_a_proof_is_restored_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let input = RestoreInput::new(stream::once(Bytes::from_static(b"foreign")), name(), None);
    restored(&CommandTarget::file(&path, false), input).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"foreign");
}
