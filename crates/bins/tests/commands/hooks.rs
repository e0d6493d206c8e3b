//! Hooks of a job, with real commands: what they are told, what their failure means, and how they end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A folder with a config of one job with these hooks, which backs up what `run` prints.
pub(super) struct Hooked(tempfile::TempDir);

impl Hooked {
    fn new(run: &str, hooks: &str) -> Self {
        Self::with(run, &format!("hooks = {{ {hooks} }}"))
    }

    /// With these lines in the table of the job.
    pub(super) fn with(run: &str, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        let config = format!(
            "[sinks.a]\nurl = \"file://{place}/a\"\n\
             [jobs.note]\nencrypt = \"none\"\nverify = {{ level = \"structure\" }}\n\
             command = {{ run = [\"{run}\"], shell = true }}\n{lines}\n"
        );
        fs::write(folder.path().join("lifeboat.toml"), config).unwrap();
        fs::create_dir_all(folder.path().join("a/_lifeboat")).unwrap();
        fs::write(folder.path().join("a/_lifeboat/sink.json"), "{}").unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(arguments).current_dir(self.0.path()).env("NO_COLOR", "1").env("TOKEN", "hunter2hunter2");
        command
    }

    /// The standard output and error of a run. It must end with this status.
    #[track_caller]
    pub(super) fn run(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.command(arguments).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
        (out, err)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn stored(&self) -> Vec<String> {
        let names =
            fs::read_dir(self.path("a")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("note-")).collect()
    }

    fn records(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("a/_lifeboat/history/note")) else { return Vec::new() };
        entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }
}

/// Waits until a file has something in it.
#[track_caller]
fn wait_for(path: &Path) {
    let begun = Instant::now();
    while fs::read(path).unwrap_or_default().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{} stays empty", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn hooks_are_told_what_runs_and_what_came_of_it_and_nothing_secret() {
    let hook = "echo $LIFEBOAT_HOOK $LIFEBOAT_JOB $LIFEBOAT_DATASET $LIFEBOAT_VERB ${LIFEBOAT_OUTCOME-none} \
                ${LIFEBOAT_KEY-none} ${TOKEN-none} >> log";
    let on = r#"on = ["backup", "verify", "restore"]"#;
    let hooked = Hooked::new("echo remember", &format!("before = \"{hook}\", after = \"{hook}\", shell = true, {on}"));
    hooked.run(0, &["backup", "-q"]);
    let name = hooked.stored().into_iter().find(|name| name.ends_with(".zst")).unwrap();
    assert_eq!(
        hooked.read("log"),
        format!("before note note backup none none none\nafter note note backup good {name} none\n")
    );
    for arguments in [&["verify"][..], &["restore", "note", "--into", "file:out"]] {
        fs::remove_file(hooked.path("log")).unwrap();
        hooked.run(0, arguments);
        let verb = arguments[0];
        assert_eq!(
            hooked.read("log"),
            format!("before note note {verb} none {name} none\nafter note note {verb} good {name} none\n")
        );
    }
    // Without a shell, and of a backup alone.
    let hooked = Hooked::new("echo remember", "after = [\"touch\", \"a b\"], pass_env = [\"TOKEN\"]");
    hooked.run(0, &["backup"]);
    assert!(hooked.path("a b").exists());
    fs::remove_file(hooked.path("a b")).unwrap();
    hooked.run(0, &["verify"]);
    assert!(!hooked.path("a b").exists());
}

#[test]
fn a_before_that_fails_fails_the_backup_before_anything_is_read() {
    let before = "before = \"echo no lock: $TOKEN >&2; exit 3\", pass_env = [\"TOKEN\"]";
    let after = "after = \"echo $LIFEBOAT_OUTCOME > after\", shell = true";
    let hooked = Hooked::new("touch ran; echo remember", &format!("{before}, {after}"));
    let (_, err) = hooked.run(1, &["backup"]);
    assert_eq!(err, "error: cannot run sh, the hook before the backup: it ended with status 3: no lock: ${TOKEN}\n");
    assert!(!hooked.path("ran").exists() && hooked.stored().is_empty());
    assert_eq!(hooked.read("after"), "failed\n");
    let records = hooked.records();
    assert!(records.len() == 1 && records[0].contains("it ended with status 3: no lock: ${TOKEN}"), "{records:?}");
    let missing = Hooked::new("echo remember", "before = [\"no-such-program\"]");
    let (_, err) = missing.run(1, &["backup"]);
    assert!(
        err.contains("cannot run no-such-program, the hook before the backup: no such program is in a folder of PATH"),
        "{err}"
    );
    let (out, _) = missing.run(1, &["check"]);
    assert!(out.contains("hook before"), "{out}");
}

#[test]
fn an_after_that_fails_fails_the_run_and_the_backup_stays() {
    let hooked = Hooked::new("echo remember", "after = \"echo still frozen >&2; exit 4\", shell = true");
    let (out, err) = hooked.run(1, &["backup"]);
    let why = "cannot run sh, the hook after the backup: it ended with status 4: still frozen";
    assert!(
        out.contains("DONE note: note-") && out.contains(&format!("\n     the backup is good, but {why}\n")),
        "{out}"
    );
    assert!(err.contains(&format!(" is good, but {why}\n")), "{err}");
    let (_, quiet) = hooked.run(1, &["backup", "-q"]);
    assert_eq!(quiet.lines().count(), 1, "{quiet}");
    let (out, _) = hooked.run(1, &["backup", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&value[0]["passed"], &value[0]["hook"]["kind"]), (&false.into(), &"tool".into()));
    assert!(hooked.records().iter().all(|record| record.contains("\"warning\"") && record.contains("still frozen")));
    hooked.run(0, &["verify"]);
}

#[test]
fn a_hook_that_ignores_the_end_of_its_time_is_killed_with_what_it_has_started() {
    let before = "before = \"trap '' TERM; echo begun >&2; (sleep 600; echo x) & echo $! > pid; sleep 600\"";
    let hooked = Hooked::new("echo remember", &format!("{before}, timeout = \"1s\", shell = true"));
    let (_, err) = hooked.run(1, &["backup"]);
    assert!(
        err.contains("cannot run sh, the hook before the backup: it had not ended after 1.0s, and was ended: begun"),
        "{err}"
    );
    let pid = hooked.read("pid");
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "what it has started goes on: {stat}");
}

#[test]
fn ctrl_c_ends_before_and_the_backup_and_what_was_frozen_is_thawed() {
    // Longer than a cancelled run may take otherwise.
    let after = "after = \"sleep 5.5; echo $LIFEBOAT_OUTCOME > thawed\", shell = true";
    let slow_before = Hooked::new("echo remember", &format!("before = \"echo x > begun; sleep 600\", {after}"));
    let slow_run = Hooked::new("echo x > begun; sleep 600", &format!("before = \"echo x > frozen\", {after}"));
    let children = [&slow_before, &slow_run].map(|hooked| {
        let child = hooked.command(&["backup"]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        wait_for(&hooked.path("begun"));
        interrupt(&child);
        child
    });
    for (child, hooked) in children.into_iter().zip([&slow_before, &slow_run]) {
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("cancelled"), "{err}");
        assert_eq!(hooked.read("thawed"), "failed\n", "{err}");
        assert!(hooked.stored().is_empty(), "{:?}", hooked.stored());
        assert!(hooked.records().iter().any(|record| record.contains("cancelled")), "{:?}", hooked.records());
    }
}
