//! The binaries as their users see them: `tests/cmd/*.trycmd`. No server is needed: the sink is a local folder with artifacts
//! as shell scripts write them.
//!
//! `TRYCMD=overwrite cargo test -p lifeboat-bins --test commands` writes what is answered now into the files.
#![allow(clippy::unwrap_used)]

#[path = "commands/hooks.rs"]
mod hooks;
#[path = "commands/limits.rs"]
mod limits;
#[path = "commands/public.rs"]
mod public;

use std::fs;
use std::path::Path;
use std::process::Command;

mod platform;

/// A sink with artifacts of several datasets; foreign, as nothing but their names makes them.
fn sink(folder: &Path) {
    let databases = folder.join("databases");
    fs::create_dir_all(&databases).unwrap();
    fs::create_dir_all(folder.join("empty")).unwrap();
    for (name, content) in [
        ("shop-20260901-030000.sql.gz.enc", "old"),
        ("shop-20261001-030000.dump.zst.age", "sealed"),
        ("shop-20261101-030000.dump.zst", "hello world"),
        ("sealed-20261001-030000.dump.zst.age", "no age at all"),
        // Another dataset whose name begins alike.
        ("shop-eu-20261101-030000.dump", "other"),
        ("blog-20261020-030000.globals.sql.gz", "roles"),
        // Things that are no artifacts.
        ("shop-readme.txt", "x"),
        ("notes.txt", "x"),
    ] {
        fs::write(databases.join(name), content).unwrap();
    }
    fs::create_dir_all(folder.join("locked")).unwrap();
    fs::write(folder.join("locked/locked-20261101-030000.dump.age"), sealed()).unwrap();
    fs::create_dir_all(folder.join("future")).unwrap();
    fs::write(folder.join("future/clock-20261101-030000.dump"), "x").unwrap();
    fs::write(folder.join("future/clock-22261101-030000.dump"), "x").unwrap();
    fs::create_dir_all(folder.join("volumes")).unwrap();
    fs::write(folder.join("volumes/big-20261101-030000.dump.zst.000"), "a").unwrap();
    fs::write(folder.join("volumes/big-20261101-030000.dump.zst.001"), "b").unwrap();
}

/// Something encrypted to a key that nobody here has.
fn sealed() -> Vec<u8> {
    use lifeboat::{Age, Encryptor, stream};
    let age = Age::to(["age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z"]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sealed = runtime.block_on(async { stream::collect(age.encrypt(stream::once("secret"))?, 1 << 20, "x").await });
    sealed.unwrap().to_vec()
}

#[test]
fn commands_answer_as_they_are_documented_to() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    sink(&place);
    // A key that fits nothing here, and a file that is no key.
    let identity = place.join("identity.txt");
    fs::write(&identity, "AGE-SECRET-KEY-14DS45Z6690DNESLXLFVDHQ44NN256PKUMCLKRNNAK3C4GTWA5QMQNA5F0G\n").unwrap();
    fs::write(place.join("no-identity.txt"), "hello\n").unwrap();

    let cases = trycmd::TestCases::new();
    cases
        .env("PLACE", place.to_str().unwrap())
        .env("LIFEBOAT_SINK", format!("file://{}", place.display()))
        .env("HOME", "/nonexistent")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("NO_COLOR", "1")
        .env("RUST_LOG", "")
        .env("COLUMNS", "")
        .insert_var("[PLACE]", place.to_str().unwrap().to_owned())
        .unwrap();
    cases.case("tests/cmd/*.trycmd");
    cases.run();
}

/// What is on the standard output with `--json`, whatever happens.
#[test]
fn json_output_is_one_value_even_when_the_command_fails() {
    for arguments in [
        &["--json", "list"][..],
        &["--json", "--config", "/nonexistent.toml", "backup"],
        &["--json", "verify", "--level", "foo"],
        &["--json", "frobnicate"],
        &["--json", "restore", "shop"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
            .args(arguments)
            .env("HOME", "/nonexistent")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("LIFEBOAT_INTO")
            .current_dir("/")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["error"]["kind"], "config", "{arguments:?}");
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(error, value, "{arguments:?}");
    }
}

/// A pod that is told to go has to be gone: SIGTERM ends a backup whose server never answers.
#[test]
fn a_signal_ends_a_run_within_five_seconds() {
    use std::io::Read;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("_lifeboat")).unwrap();
    fs::write(folder.path().join("_lifeboat/sink.json"), "{}").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lifeboat-postgres"))
        .args(["backup", "--encrypt", "none", "--to", &format!("file://{}", folder.path().display())])
        .env(
            "LIFEBOAT_FROM",
            format!("postgres://u@127.0.0.1:{}/d?connect_timeout=600", silent.local_addr().unwrap().port()),
        )
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It has connected: it waits for an answer now.
    let (connection, _) = silent.accept().unwrap();
    let begun = Instant::now();
    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let status = child.wait().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(status.code(), Some(1));
    let mut text = String::new();
    child.stderr.unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("cancelled"), "{text}");
    drop(connection);
}

/// Two folders as sinks, and a job that stores in both.
struct Platform(tempfile::TempDir);

impl Platform {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        let config = format!(
            "[sinks.a]\nurl = \"file://{place}/a\"\n[sinks.b]\nurl = \"file://{place}/b\"\n\
             [defaults]\nsinks = [\"a\", \"b\"]\nencrypt = \"none\"\nkeep = \"last=9\"\n\
             [jobs.note]\ncommand = {{ run = [\"/bin/echo\", \"remember\"] }}\nverify = {{ level = \"structure\" }}\n\
             [jobs.old]\ncommand = {{ run = [\"/bin/echo\"] }}\nsinks = [\"a\"]\nverify = {{ level = \"structure\", max_age = \"2d\" }}\n"
        );
        fs::write(folder.path().join("lifeboat.toml"), config).unwrap();
        Self(folder)
    }

    /// What a run says on both outputs. It must end with this status.
    #[track_caller]
    fn run(&self, code: i32, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
            .args(arguments)
            .current_dir(self.0.path())
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    #[track_caller]
    fn says(&self, code: i32, arguments: &[&str], parts: &[&str]) {
        let said = self.run(code, arguments);
        assert!(parts.iter().all(|part| said.contains(part)), "{arguments:?}, {parts:?}: {said}");
    }

    /// The names of the artifacts of the job `note` in a sink, oldest first.
    fn artifacts(&self, sink: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join(sink)).unwrap().map(|entry| entry.unwrap().file_name());
        let names = entries.map(|name| name.into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("note-") && name.ends_with(".zst")).collect();
        names.sort();
        names
    }
}

#[test]
fn what_each_sink_holds_is_told_of_each_and_a_bad_copy_is_mended() {
    let platform = Platform::new();
    platform.run(0, &["backup", "note", "--new-sink"]);
    platform.says(0, &["verify", "note", "--sink", "all"], &["PASS note in a", "PASS note in b"]);
    let name = platform.artifacts("b").pop().unwrap();
    let copy = platform.0.path().join("b").join(&name);
    let mut bytes = fs::read(&copy).unwrap();
    bytes[9] ^= 1;
    fs::write(&copy, &bytes).unwrap();
    platform.says(1, &["verify", "note", "--sink", "all", "--level", "stored"], &["PASS note in a", "FAIL note in b"]);
    let listed = platform.run(0, &["list", "note", "-v"]);
    let rows: Vec<&str> = listed.lines().filter(|line| line.contains(&name)).collect();
    assert!(rows.len() == 2 && rows[0].contains("structure") && !rows[0].contains("FAILED"), "{listed}");
    assert!(rows[1].contains("FAILED stored") && rows[1].contains("  b  "), "{listed}");
    let listed: serde_json::Value = serde_json::from_str(&platform.run(0, &["list", "note", "--json"])).unwrap();
    assert_eq!(listed[0]["sinks"], serde_json::json!(["a", "b"]));
    assert_eq!(
        (&listed[0]["copies"][0]["failed_level"], &listed[0]["copies"][1]["failed_level"]),
        (&serde_json::Value::Null, &"stored".into())
    );
    platform.says(0, &["show", "note"], &["also in", "b: managed, verified: FAILED stored"]);

    platform.says(0, &["replicate", "note"], &["mended", "1 mended"]);
    platform.says(0, &["verify", "note", "--sink", "b"], &["PASS note"]);
    assert!(!platform.run(0, &["list", "note"]).contains("FAILED"));
    // What nobody has noticed yet is found by reading.
    fs::write(&copy, &bytes).unwrap();
    platform.says(0, &["replicate", "note"], &["1 there already"]);
    platform.says(0, &["replicate", "note", "--reread"], &["1 mended"]);
    platform.says(0, &["replicate", "note", "--reread"], &["1 there already, 1 of them read again"]);
}

#[test]
fn a_newest_backup_that_is_missing_is_told_and_the_older_one_taken_when_it_is_named() {
    let platform = Platform::new();
    platform.run(0, &["backup", "note", "--new-sink"]);
    platform.run(0, &["backup", "note"]);
    let names = platform.artifacts("a");
    let (older, newest) = (&*names[0], &*names[1]);
    for entry in fs::read_dir(platform.0.path().join("a")).unwrap().flatten() {
        if entry.file_name().to_str().unwrap().starts_with(newest) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let told = [newest, "is missing from file://", older, "--at "];
    platform.says(1, &["verify", "note"], &told);
    platform.says(0, &["list", "note"], &told[..3]);
    platform.says(1, &["show", "note"], &told);
    platform.says(1, &["restore", "note", "--into", "file:out"], &told);
    platform.says(0, &["verify", "note", "--sink", "b"], &["PASS"]);
    platform.says(0, &["verify", "note", "--at", older], &["PASS"]);
    platform.says(0, &["restore", "note", "--at", older, "--into", "file:out"], &["DONE"]);
    platform.says(3, &["show", newest, "--sink", "a"], &["Its history", "backup", "good"]);
    platform.run(0, &["replicate", "note", "--from", "b", "--to", "a"]);
    platform.says(0, &["verify", "note"], &[newest, "PASS"]);
    // An age limit is for the newest.
    fs::write(platform.0.path().join("a/old-20200101-000000.bin"), "x").unwrap();
    platform.says(1, &["verify", "old"], &["older than 2d"]);
    for at in ["2020-01-02", "yesterday", "3d", "old-20200101-000000.bin"] {
        platform.says(0, &["verify", "old", "--at", at], &["PASS"]);
    }
    platform.says(1, &["verify", "old", "--at", "yesterday", "--max-age", "1w"], &["older than 7d"]);
}

#[test]
fn a_disk_that_is_not_mounted_is_not_written_to() {
    let platform = Platform::new();
    let (a, away) = (platform.0.path().join("a"), platform.0.path().join("away"));
    let unmounted = "is its disk not mounted?";
    platform.says(1, &["backup", "note"], &[unmounted, "--new-sink"]);
    platform.says(1, &["check", "note"], &[unmounted]);
    assert!(!a.exists());
    platform.says(0, &["check", "note", "--new-sink"], &["is marked as a sink"]);
    platform.says(2, &["backup", "note", "--new-sink"], &["leave it out"]);
    platform.run(0, &["backup", "note"]);
    fs::rename(&a, &away).unwrap();
    fs::create_dir(&a).unwrap();
    // The other sink has it, and the way back is named.
    platform.says(1, &["backup", "note"], &[unmounted, "lifeboat replicate note --from b --to a"]);
    platform.says(1, &["prune", "note"], &[unmounted]);
    platform.says(1, &["replicate", "note"], &[unmounted]);
    platform.says(0, &["list", "note"], &[unmounted]);
    assert_eq!(fs::read_dir(&a).unwrap().count(), 0);
    fs::remove_dir(&a).unwrap();
    fs::rename(&away, &a).unwrap();
    platform.says(0, &["replicate", "note", "--from", "b", "--to", "a"], &["1 artifact copied"]);
    assert_eq!(platform.artifacts("a"), platform.artifacts("b"));
}

/// `lifeboat list | head -1` is no failure.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let output = Command::new("sh")
        .arg("-c")
        .arg("\"$0\" completions bash | head -c 1 >/dev/null")
        .arg(env!("CARGO_BIN_EXE_lifeboat"))
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Every command has a manual page, and every shell a script.
#[test]
fn manual_pages_and_completions_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let status =
        Command::new(env!("CARGO_BIN_EXE_lifeboat")).args(["--quiet", "man"]).arg(&pages).output().unwrap().status;
    assert!(status.success());
    for page in ["lifeboat.1", "lifeboat-backup.1", "lifeboat-verify.1", "lifeboat-restore.1", "lifeboat-check.1"] {
        assert!(fs::read_to_string(pages.join(page)).unwrap().contains(".SH"), "{page}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_lifeboat-postgres")).args(["completions", shell]).output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("lifeboat-postgres"), "{shell}");
    }
}

/// The targets of the links in a text of Markdown, outside of its blocks of code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        let mut rest = if in_code { "" } else { line };
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, tail)) = after.split_once(')') else { break };
            found.push(target.to_owned());
            rest = tail;
        }
    }
    found
}

/// How a heading is linked to.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).chain([root.join("README.md")]);
    let (mut broken, mut count) = (Vec::new(), 0);
    for page in pages {
        for link in links(&fs::read_to_string(&page).unwrap()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, part) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let there = match fs::read_to_string(&target) {
                _ if target.is_dir() => part.is_empty(),
                Ok(text) => {
                    let headings = text.lines().filter(|line| line.starts_with('#'));
                    part.is_empty() || headings.map(|h| anchor(h.trim_start_matches('#').trim())).any(|a| a == part)
                }
                Err(_) => false,
            };
            if !there {
                broken.push(format!("{}: {link}", page.file_name().unwrap().to_string_lossy()));
            }
        }
    }
    assert!(count > 100, "{count} links were found");
    assert_eq!(broken, Vec::<String>::new());
}

/// A page without its code blocks.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap();
    let mut code = false;
    let kept = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        code ^= fence;
        !code && !fence
    });
    kept.map(|line| format!("{line}\n")).collect()
}

/// The anchors of a page's headings, as GitHub forms them.
fn anchors(page: &Path) -> Vec<String> {
    let prose = prose(page);
    let headings = prose
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ');
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn links_between_pages_lead_to_files_and_headings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let mut pages: Vec<_> = ["README.md", "CHANGELOG.md", "benches/README.md"].map(|page| root.join(page)).into();
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));

    let (mut seen, mut wrong) = (0, Vec::new());
    for page in &pages {
        for part in prose(page).split("](").skip(1) {
            let link = part.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let found = target.exists() && (anchor.is_empty() || anchors(&target).iter().any(|known| known == anchor));
            if !found {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(seen > 100, "only {seen} links were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Flags of other programs, which hints name as such.
const OF_OTHERS: [&str; 3] = ["--lock-wait-timeout", "--encoding", "--create"];

#[test]
fn a_hint_names_no_flag_that_does_not_exist() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let flags = |text: &str| -> Vec<String> {
        let starts = text.match_indices("--").map(|(at, _)| &text[at..]);
        let words = starts.map(|rest| {
            let end = rest[2..].find(|c: char| !c.is_ascii_lowercase() && c != '-').map_or(rest.len(), |end| end + 2);
            rest[..end].trim_end_matches('-').to_owned()
        });
        words.filter(|word| word.len() > 3).collect()
    };
    let mut known: std::collections::BTreeSet<String> = OF_OTHERS.map(str::to_owned).into();
    let answers = fs::read_dir(crates.join("bins/tests/cmd")).unwrap();
    for file in answers.map(|file| file.unwrap().path()) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        // The helps, and what is run elsewhere; but no answers, in which hints stand.
        match file.file_name().unwrap().to_string_lossy() {
            name if name.starts_with("help") => known.extend(flags(&text)),
            name if name == "replicate.trycmd" => {
                text.lines().filter(|line| line.starts_with("$ ")).for_each(|line| known.extend(flags(line)));
            }
            _ => {}
        }
    }
    let mut open = ["backends", "cli", "config", "core", "sinks"].map(|name| crates.join(name).join("src")).to_vec();
    let (mut hints, mut wrong) = (0, Vec::new());
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.file_name().unwrap() == "tests.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        // What the tests of a module say is not said to anybody.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (at, _) in text.match_indices("hint(") {
            hints += 1;
            let said = text[at..].split(";\n").next().unwrap();
            wrong.extend(flags(said).into_iter().filter(|flag| !known.contains(flag)).map(|flag| (flag, path.clone())));
        }
    }
    assert!(hints > 300, "{hints} hints were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `lifeboat` in a folder, without anything of the environment that speaks of jobs.
fn lifeboat(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
        .args(arguments)
        .current_dir(folder)
        .env("HOME", "/nonexistent")
        .env("NO_COLOR", "1")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("LIFEBOAT_IDENTITY")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[track_caller]
fn ends(folder: &Path, arguments: &[&str], code: i32, says: &[&str]) -> String {
    let (ended, said) = lifeboat(folder, arguments);
    assert_eq!(ended, Some(code), "{arguments:?}\n{said}");
    for text in says {
        assert!(said.contains(text), "{arguments:?} does not say \"{text}\":\n{said}");
    }
    said
}

/// A folder with a sink, a key that fits and one that does not. Returns the recipient.
fn desk(folder: &Path) -> String {
    use secrecy::ExposeSecret;
    fs::create_dir_all(folder.join("sink/_lifeboat")).unwrap();
    fs::write(folder.join("sink/_lifeboat/sink.json"), "{}").unwrap();
    let ((secret, recipient), (other, _)) = (lifeboat::Age::generate(), lifeboat::Age::generate());
    fs::write(folder.join("key.txt"), secret.expose_secret()).unwrap();
    fs::write(folder.join("other.txt"), other.expose_secret()).unwrap();
    recipient
}

/// Of an artifact in a folder: its key.
fn artifact(folder: &Path, within: &str) -> String {
    let names = fs::read_dir(folder.join("sink").join(within)).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names = names.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".age"));
    format!("{within}/{}", names.next().unwrap())
}

#[test]
fn what_a_sink_holds_is_restored_with_nothing_but_its_url_and_the_key() {
    let desk_folder = tempfile::tempdir().unwrap();
    let folder = desk_folder.path();
    let recipient = desk(folder);
    let jobs = [("a", "notes"), ("b", "notes"), ("b", "single")].map(|(within, dataset)| {
        format!(
            "[jobs.{dataset}-{within}]\ndataset = \"{dataset}\"\nprefix = \"{within}\"\n\
             command = {{ run = [\"printf\", \"{dataset} of {within}\"], format = \"txt\" }}\n"
        )
    });
    let config =
        format!("[sinks.s]\nurl = \"file://{}/sink\"\n[defaults]\nencrypt = \"age:{recipient}\"\n", folder.display());
    fs::write(folder.join("lifeboat.toml"), config + &jobs.concat()).unwrap();
    ends(folder, &["backup"], 0, &["3 of 3 jobs backed up"]);
    fs::remove_file(folder.join("lifeboat.toml")).unwrap();
    let url = format!("file://{}/sink", folder.display());
    let from = ["--from-sink", url.as_str()];
    let with = |verb: &'static str, more: &[&'static str]| [&[verb][..], &from, more].concat();

    let listed = ends(folder, &with("list", &[]), 0, &["a/notes-", "b/notes-", "b/single-"]);
    assert!(!listed.contains("_lifeboat"), "{listed}");
    ends(folder, &with("list", &["b/notes"]), 0, &["b/notes-"]);
    ends(folder, &with("list", &["nots"]), 3, &["did you mean \"notes\"?"]);
    ends(folder, &with("show", &["single"]), 0, &["system       command", "age -d -i KEY"]);
    ends(
        folder,
        &with("verify", &["--identity", "key.txt", "--level", "structure"]),
        0,
        &["PASS a/notes (structure)", "PASS b/notes (structure)", "PASS b/single (structure)"],
    );

    // A name that several folders hold is told with them.
    let into = ["--into", "file:out", "--identity", "key.txt"];
    ends(folder, &[&with("restore", &["notes"])[..], &into].concat(), 2, &["a/notes or b/notes"]);
    for (named, content) in [("a/notes", "notes of a"), ("b/notes", "notes of b"), ("single", "single of b")] {
        ends(folder, &[&with("restore", &[]), &[named][..], &into].concat(), 0, &["DONE"]);
        assert_eq!(fs::read_to_string(folder.join("out")).unwrap(), content);
        fs::remove_file(folder.join("out")).unwrap();
    }
    let key = artifact(folder, "a");
    ends(folder, &[&with("restore", &[]), &[key.as_str()][..], &into].concat(), 0, &["DONE"]);
    assert_eq!(fs::read_to_string(folder.join("out")).unwrap(), "notes of a");

    // The second reading knows the flags of that system, and no others.
    let command = ["--restore-command", "sh", "--restore-command=-c", "--restore-command", "cat > by-command"];
    ends(
        folder,
        &[&with("restore", &["single", "--into", "command", "--identity", "key.txt"])[..], &command].concat(),
        0,
        &["DONE"],
    );
    assert_eq!(fs::read_to_string(folder.join("by-command")).unwrap(), "single of b");
    ends(
        folder,
        &[&with("restore", &["single"])[..], &into, &["--keep-replaced"]].concat(),
        2,
        &["unexpected argument '--keep-replaced'"],
    );
    let help = ends(folder, &with("restore", &["single", "--help"]), 0, &["--restore-command"]);
    assert!(!help.contains("--keep-replaced"), "{help}");

    // No key, a wrong one, nothing there, and what nobody can tell.
    let place = ["--into", "file:none"];
    ends(folder, &[&with("restore", &["single"])[..], &place].concat(), 1, &["--identity PATH"]);
    ends(
        folder,
        &[&with("restore", &["single", "--identity", "other.txt"])[..], &place].concat(),
        1,
        &["give the identity of one of them"],
    );
    fs::write(folder.join("sink/b/stray-20260101-030000.tar"), "x").unwrap();
    ends(folder, &[&with("restore", &["stray"])[..], &place].concat(), 2, &["no manifest", "--system cloudflare-dns"]);
    ends(
        folder,
        &[&with("restore", &["stray", "--system", "comand"])[..], &place].concat(),
        2,
        &["did you mean \"command\"?"],
    );
    ends(folder, &with("restore", &["stray", "--system", "command", "--into", "file:stray"]), 0, &["DONE"]);
    assert_eq!(fs::read_to_string(folder.join("stray")).unwrap(), "x");
    fs::create_dir(folder.join("empty")).unwrap();
    let empty = format!("file://{}/empty", folder.display());
    for verb in ["list", "verify"] {
        ends(folder, &[verb, "--from-sink", &empty], 3, &["there is none in", "nor in any folder of it"]);
    }
    ends(folder, &["list", "--from-sink", &empty, "--sink", "s"], 2, &["cannot be used with"]);
    ends(folder, &["verify", "--system", "command"], 2, &["--from-sink"]);
}

#[test]
fn the_config_lies_beside_the_backups_without_its_secrets_and_comes_back() {
    let desk_folder = tempfile::tempdir().unwrap();
    let folder = desk_folder.path();
    let recipient = desk(folder);
    let url = format!("file://{}/sink", folder.display());
    let text = format!(
        "# Ours.\n[sinks.s]\nurl = \"{url}\"\n\n[defaults]\nencrypt = \"age:{recipient}\"\nidentity = \"elsewhere.txt\"\n\
         keep = \"last=1\"\n\n[jobs.notes]   # every night\nprefix = \"a\"\n\
         command = {{ run = [\"printenv\", \"IT\"], format = \"txt\", env = {{ IT = \"hunter2\" }} }}\n\
         hooks = {{ before = [\"echo\", \"to be\"] }}\n"
    );
    let config = folder.join("lifeboat.toml");
    fs::write(&config, &text).unwrap();
    let stored = || {
        let names = fs::read_dir(folder.join("sink/a/_lifeboat/config")).unwrap();
        let mut names: Vec<String> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    ends(folder, &["backup"], 0, &[]);
    assert_eq!(stored().len(), 1);
    assert!(stored()[0].ends_with(".toml.age"), "{:?}", stored());
    // The same again is not stored; another one is, and the older one stays.
    ends(folder, &["backup"], 0, &[]);
    assert_eq!(stored().len(), 1);
    fs::write(&config, text.replace("Ours", "Mine")).unwrap();
    ends(
        folder,
        &["backup", "-v"],
        0,
        &["the config is stored in s: a/_lifeboat/config/", "1 secret in it became a variable"],
    );
    assert_eq!(stored().len(), 2);
    // It is no artifact, and keeps nothing from being deleted.
    ends(folder, &["prune"], 0, &["2 artifacts deleted"]);
    let listed = ends(folder, &["list"], 0, &[]);
    assert_eq!(listed.matches("a/notes-").count(), 1, "{listed}");
    for second in 10..30 {
        fs::write(folder.join(format!("sink/a/_lifeboat/config/202601{second}-000000-00112233445566aa.toml")), "x")
            .unwrap();
    }
    ends(folder, &["prune"], 0, &["older configs in s deleted"]);
    assert_eq!(stored().len(), 10);
    assert!(stored()[9].ends_with(".toml.age"), "the newest stay");

    // Never over another one, never without the key.
    let from = ["init", "--from-sink", url.as_str()];
    ends(folder, &[&from[..], &["--identity", "key.txt"]].concat(), 1, &["already exists"]);
    assert_eq!(fs::read_to_string(&config).unwrap(), text.replace("Ours", "Mine"));
    fs::remove_file(&config).unwrap();
    ends(folder, &from, 1, &["--identity PATH"]);
    ends(folder, &[&from[..], &["--identity", "other.txt"]].concat(), 1, &["error: cannot"]);
    assert!(!config.exists());
    let said = ends(
        folder,
        &[&from[..], &["--identity", "key.txt"]].concat(),
        0,
        &[
            "wrote lifeboat.toml",
            "read it before you run anything with it",
            "it RUNS:\n  notes: run: printenv IT\n  notes: hook before: echo 'to be'",
            "not set in the environment:\n  NOTES_IT",
            "not there:\n  elsewhere.txt",
            "next: ",
        ],
    );
    assert!(!said.contains("hunter2"), "{said}");
    let expected = text.replace("Ours", "Mine").replace("\"hunter2\"", "\"${NOTES_IT}\"");
    assert_eq!(fs::read_to_string(&config).unwrap(), expected);
    // Somebody may have stored a newer one: the others can be had too.
    let older = format!("a/_lifeboat/config/{}", stored()[8]);
    let at = ["--config", "older.toml", "init", "--from-sink", url.as_str(), "--identity", "key.txt", "--at"];
    ends(folder, &[&at[..], &[older.as_str()]].concat(), 0, &[older.as_str()]);
    assert!(fs::read_to_string(folder.join("older.toml")).unwrap().starts_with("# Ours."));
    ends(folder, &[&at[..], &["2020-01-01"]].concat(), 1, &["already exists"]);
    fs::remove_file(folder.join("older.toml")).unwrap();
    ends(folder, &[&at[..], &["2020-01-01"]].concat(), 3, &["a stored config of 2020-01-01"]);
    // With what it names it works.
    fs::copy(folder.join("key.txt"), folder.join("elsewhere.txt")).unwrap();
    ends(folder, &["verify"], 0, &["PASS"]);

    // What may be a secret in an argument cannot be taken out: the config stays here, and that is said.
    let unsure = expected
        .replace(", env = { IT = \"${NOTES_IT}\" }", "")
        .replace("\"printenv\", \"IT\"", "\"echo\", \"--password=x1\"");
    fs::write(&config, unsure).unwrap();
    let before = stored();
    ends(folder, &["check"], 0, &["it is not stored beside the backups: lifeboat.toml (line 12)"]);
    ends(folder, &["backup"], 0, &["the config is not stored beside the backups: lifeboat.toml (line 12)"]);
    assert_eq!(ends(folder, &["-q", "backup"], 0, &[]), "");
    assert_eq!(stored(), before);
}

#[test]
fn each_sink_keeps_what_it_is_to_keep() {
    let desk_folder = tempfile::tempdir().unwrap();
    let folder = desk_folder.path();
    for sink in ["near", "far", "third"] {
        fs::create_dir(folder.join(sink)).unwrap();
        for day in 1..=9 {
            fs::write(folder.join(sink).join(format!("notes-2026010{day}-030000.txt")), "x").unwrap();
        }
    }
    // Of what only one holds, the newest good one stays, whatever is kept there.
    for day in 4..=9 {
        fs::remove_file(folder.join(format!("far/notes-2026010{day}-030000.txt"))).unwrap();
    }
    let sinks =
        ["near", "far", "third"].map(|sink| format!("[sinks.{sink}]\nurl = \"file://{}/{sink}\"\n", folder.display()));
    let text = format!(
        "{}{}keep = \"last=1\"\n{}keep = \"last=2\"\n[jobs.notes]\nsinks = [\"near\", \"far\", \"third\"]\nencrypt = \"none\"\n\
         keep = \"last=4\"\nkeep_in = {{ third = \"last=3\" }}\ncommand = {{ run = [\"printf\", \"x\"], format = \"txt\" }}\n",
        sinks[0], sinks[1], sinks[2]
    );
    fs::write(folder.join("lifeboat.toml"), &text).unwrap();
    ends(
        folder,
        &["prune", "--dry-run"],
        0,
        &[
            "notes in near, keep last=4:",
            "5 artifacts would be deleted, 5 B freed; 4 kept",
            "notes in far, keep last=1:",
            "2 artifacts would be deleted, 2 B freed; 1 kept",
            "notes in third, keep last=3:",
            "6 artifacts would be deleted, 6 B freed; 3 kept",
        ],
    );
    ends(folder, &["check"], 0, &["near: last=4; far: last=1; third: last=3"]);
    // What the next prune would delete there is not copied.
    ends(folder, &["replicate", "--to", "far", "--dry-run"], 0, &["1 artifact would be copied"]);
    ends(folder, &["prune"], 0, &[]);
    let left =
        |sink: &str| fs::read_dir(folder.join(sink)).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count();
    assert_eq!((left("near"), left("far"), left("third")), (4, 1, 3));
    assert!(folder.join("far/notes-20260103-030000.txt").exists());
    ends(folder, &["replicate"], 0, &[]);
    ends(folder, &["replicate"], 0, &["0 artifacts copied"]);
    fs::write(folder.join("lifeboat.toml"), text.replace("third = \"last=3\"", "thrid = \"last=3\"")).unwrap();
    ends(
        folder,
        &["prune"],
        2,
        &["keep_in of [jobs.notes]: the job does not store in \"thrid\"", "did you mean \"third\"?"],
    );
}
