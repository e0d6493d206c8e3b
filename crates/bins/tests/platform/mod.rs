//! A platform of ten jobs, two sinks and five folders: what its people read each night.

use std::fs;
use std::process::Command;

use lifeboat::Age;
use secrecy::ExposeSecret;

/// What a terminal has, and no more.
const COLUMNS: usize = 80;

const JOBS: [(&str, &str, &str); 10] = [
    ("authentik", "authentik", "databases"),
    ("codetalk", "codetalk", "databases"),
    ("gitea", "gitea", "databases"),
    ("matrix", "synapse", "databases"),
    ("nextcloud", "nextcloud", "databases"),
    ("dns", "zone.with-a-long-name.example.org", "zones"),
    ("secrets", "backend.prd", "secrets"),
    ("cluster", "production", "cluster"),
    ("notes", "notes", ""),
    ("registry-of-container-images", "registry-of-container-images", "databases"),
];

pub(crate) struct Platform(tempfile::TempDir);

/// What a run said.
struct Said {
    out: String,
    err: String,
}

impl Said {
    /// Without what is said of the disk of this machine: it may be nearly full.
    fn lines(&self) -> Vec<&str> {
        let of_disk = |line: &&str| line.starts_with("  space  WARN") || line.starts_with("PASS ready; look at");
        self.out.lines().chain(self.err.lines()).filter(|line| !of_disk(line)).collect()
    }
}

impl Platform {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (secret, public) = Age::generate();
        let platform = Self(folder);
        platform.write("key.txt", &format!("{}\n", secret.expose_secret()));
        let config = |name: &str, codetalk: &str, more: &str| {
            let place = platform.0.path().display();
            let mut text = format!(
                "[sinks.minio]\nurl = \"file://{place}/minio\"\n[sinks.offsite]\nurl = \"file://{place}/offsite\"\n\
                 [defaults]\nsinks = [\"minio\", \"offsite\"]\nencrypt = \"age:{public}\"\nidentity = \"key.txt\"\n\
                 keep = \"last=9\"\nverify = {{ level = \"structure\" }}\n"
            );
            for (job, dataset, prefix) in JOBS {
                let prefix = if job == "codetalk" { codetalk } else { prefix };
                text += &format!("[jobs.{job}]\ndataset = \"{dataset}\"\nprefix = \"{prefix}\"\n");
                text += "command = { run = [\"/bin/echo\", \"remember\"], verify = [\"/bin/cat\"] }\n";
            }
            platform.write(name, &(text + more));
        };
        config("lifeboat.toml", "databases", "");
        // One job that cannot be opened.
        config("one-fails.toml", "${LIFEBOAT_TEST_UNSET}", "");
        config("systems.toml", "databases", SYSTEMS);
        platform
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        // A key that others can read is a warning.
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// What `lifeboat` says, in a pipe.
    #[track_caller]
    fn run(&self, code: i32, columns: Option<usize>, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(arguments).current_dir(self.0.path()).env("NO_COLOR", "1").env_remove("COLUMNS");
        command.env("HOME", "/nonexistent").env("LIFEBOAT_RETRY_LIMIT", "0").env_remove("KUBECONFIG");
        if let Some(columns) = columns {
            command.env("COLUMNS", columns.to_string());
        }
        let output = command.output().unwrap();
        let said =
            Said { out: String::from_utf8(output.stdout).unwrap(), err: String::from_utf8(output.stderr).unwrap() };
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{}{}", said.out, said.err);
        said
    }
}

/// A job of each system, at places where nobody answers.
const SYSTEMS: &str = "\
[jobs.far-postgres]
postgres = { url = \"postgres://a-rather-long-user@127.0.0.1:1/a_database_with_a_long_name\" }
[jobs.far-mongodb]
mongodb = { url = \"mongodb://127.0.0.1:1/a_database_with_a_long_name?serverSelectionTimeoutMS=100\" }
[jobs.far-dns]
cloudflare-dns = { zone = \"example.org\", token = \"file:key.txt\", api_url = \"http://127.0.0.1:1/client/v4\" }
[jobs.far-doppler]
doppler = { token = \"file:key.txt\", project = \"backend\", config = \"prd\", api_url = \"http://127.0.0.1:1\" }
[jobs.far-velero]
velero = { location = \"file:///nonexistent/velero\", kubeconfig = \"/nonexistent/kubeconfig\", from_schedule = \"daily\" }
";

/// Lines that do not fit, and could.
fn too_wide(said: &Said) -> Vec<String> {
    let could = |line: &&str| {
        let longest = line.split(' ').map(|word| word.chars().count()).max().unwrap_or_default();
        // Behind a pipe or a backslash, what is longer still stands on a line of its own.
        let alone = line.trim().trim_end_matches([' ', '|', '\\']).split(' ').count() == 1;
        line.chars().count() > COLUMNS && !(alone && longest + 6 > COLUMNS)
    };
    said.lines().into_iter().filter(could).map(str::to_owned).collect()
}

const NIGHTLY: [(&str, &str); 5] = [
    ("backup", "10 of 10 jobs backed up"),
    ("verify", "10 of 10 jobs verified"),
    ("replicate", "10 of 10 copies done"),
    ("prune", "10 of 10 jobs pruned"),
    ("check", "10 of 10 jobs ready"),
];

#[test]
fn a_good_night_is_a_line_a_job_and_with_q_nothing() {
    let platform = Platform::new();
    platform.run(0, None, &["-q", "backup", "--new-sink"]);
    for (command, last) in NIGHTLY {
        let said = platform.run(0, None, &[command]);
        let most = if command == "check" { JOBS.len() + 3 } else { JOBS.len() + 1 };
        assert!(said.lines().len() == most, "{command}: {:#?}", said.lines());
        assert_eq!(said.lines().last(), Some(&last));
        assert_eq!(too_wide(&said), [""; 0], "{command}, in a pipe");
        let quiet = platform.run(0, None, &[command, "-q"]);
        assert_eq!(quiet.lines(), [""; 0], "{command} -q");
    }
    // A sink's folders are one line, as long as the same is true of them.
    let check = platform.run(0, None, &["check"]);
    assert!(check.out.contains(" sink minio, 5 folders: "), "{}", check.out);
    assert!(platform.run(0, None, &["check", "-v"]).out.lines().count() > 80);
}

#[test]
fn a_failure_is_one_line_and_the_last_one_says_what_failed() {
    let platform = Platform::new();
    platform.run(0, None, &["-q", "backup", "--new-sink"]);
    for (command, _) in NIGHTLY {
        let arguments = ["--config", "one-fails.toml", command];
        let code = if command == "check" { 1 } else { 2 };
        let said = platform.run(code, None, &arguments);
        let last = said.out.lines().find(|line| line.starts_with("9 of 10 ")).unwrap_or_else(|| panic!("{}", said.out));
        assert!(last.contains("; failed: codetalk (config"), "{command}: {last}");
        let quiet = platform.run(code, None, &[&arguments[..], &["-q"]].concat());
        let lines = quiet.lines();
        assert!(lines.len() == 1 && lines[0].starts_with("error: ") && lines[0].contains("codetalk"), "{lines:?}");
    }
    // A failure never folds away: a folder in which another tool keeps its backups.
    let foreign = platform.0.path().join("offsite/zones/backups/daily-1");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("velero-backup.json"), "{}").unwrap();
    let check = platform.run(1, None, &["check"]);
    let failed: Vec<&str> = check.out.lines().filter(|line| line.starts_with("FAIL sink ")).collect();
    assert!(failed.len() == 1 && failed[0].starts_with("FAIL sink offsite, folder zones: "), "{}", check.out);
    assert!(check.out.contains(" sink offsite, 4 folders: "), "{}", check.out);
    // What an artifact lost is one line too.
    let folder = platform.0.path().join("minio/databases");
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let artifact = names.into_iter().find(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("codetalk-") && name.ends_with(".age")
    });
    fs::write(artifact.unwrap(), "x").unwrap();
    let said = platform.run(1, None, &["verify", "--level", "stored", "--no-record"]);
    assert_eq!(said.out.lines().last(), Some("9 of 10 jobs verified; failed: codetalk (stored)"));
    let quiet = platform.run(1, None, &["verify", "-q", "--level", "stored", "--no-record"]);
    assert!(quiet.lines().len() == 1, "{:?}", quiet.lines());
}

#[test]
fn every_command_fits_into_80_columns() {
    let platform = Platform::new();
    platform.run(0, None, &["-q", "backup", "--new-sink"]);
    platform.run(0, None, &["-q", "backup", "dns", "notes"]);
    let commands: [(i32, &[&str]); 22] = [
        (0, &["list"]),
        (0, &["list", "-v"]),
        (0, &["list", "codetalk", "--sink", "offsite"]),
        (0, &["show", "dns"]),
        (0, &["show", "dns", "--items"]),
        (0, &["verify"]),
        (0, &["verify", "dns"]),
        (0, &["verify", "--sink", "all", "--level", "stored"]),
        (0, &["check"]),
        (0, &["check", "-v"]),
        (0, &["replicate"]),
        (0, &["replicate", "dns", "--dry-run"]),
        (0, &["prune", "--dry-run", "-v"]),
        (0, &["prune", "dns"]),
        (0, &["restore", "dns", "--into", "file:restored.txt"]),
        (1, &["restore", "dns", "--into", "file:restored.txt"]),
        (0, &["backup"]),
        (1, &["--config", "systems.toml", "backup"]),
        (1, &["--config", "systems.toml", "check"]),
        (3, &["--config", "systems.toml", "verify"]),
        (2, &["--config", "one-fails.toml", "show", "codetalk"]),
        (2, &["--config", "nothing.toml", "list"]),
    ];
    for (code, arguments) in commands {
        let said = platform.run(code, Some(COLUMNS), arguments);
        assert_eq!(too_wide(&said), [""; 0], "{arguments:?}");
    }
    // Without a terminal and COLUMNS, tables fit all the same, and a message is one line.
    assert_eq!(too_wide(&platform.run(0, None, &["list"])), [""; 0]);
    for command in ["backup", "list", "show", "verify", "restore", "prune", "replicate", "check", "init"] {
        let said = platform.run(0, None, &[command, "--help"]);
        let wide = too_wide(&said).into_iter().filter(|line| !line.starts_with("Usage: "));
        assert_eq!(wide.collect::<Vec<_>>(), [""; 0], "{command} --help");
    }
}

#[test]
fn what_list_leaves_out_is_in_its_long_form() {
    let platform = Platform::new();
    platform.run(0, None, &["-q", "backup", "--new-sink"]);
    let list = platform.run(0, None, &["list", "codetalk"]).out;
    let head: Vec<&str> = list.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["AGE", "SIZE", "VERIFIED", "SINKS", "KEY"]);
    let long = platform.run(0, None, &["list", "codetalk", "-v"]).out;
    assert!(long.starts_with("TAKEN AT") && long.contains("managed"), "{long}");
    // The sinks are told where there are several.
    let one = platform.run(0, None, &["list", "codetalk", "--sink", "minio"]).out;
    assert!(!one.contains("SINKS") && one.contains("databases/codetalk-"), "{one}");
    // What does not fit with its folder is a name, and as good as a key.
    let row = list.lines().last().unwrap();
    let key = row.split_whitespace().last().unwrap();
    assert!(platform.run(0, None, &["show", key]).out.contains("key          databases/codetalk-"));
    // What was proven, and how long ago; of a failure, that it failed.
    platform.run(0, None, &["verify", "codetalk"]);
    let verified = platform.run(0, None, &["list", "codetalk"]).out;
    assert!(verified.contains("structure ") && verified.contains("never"), "{verified}");
}

#[test]
fn a_dataset_names_its_job_and_a_job_its_dataset() {
    let platform = Platform::new();
    platform.run(0, None, &["-q", "backup", "--new-sink"]);
    for command in [&["list", "synapse"][..], &["verify", "synapse"], &["show", "synapse"], &["prune", "synapse"]] {
        let said = platform.run(0, None, command);
        assert!(said.out.contains("synapse"), "{command:?}: {}", said.out);
    }
    platform.run(0, None, &["show", "matrix", "--dataset", "matrix"]);
    platform.run(0, None, &["restore", "synapse", "--dataset", "matrix", "--into", "file:restored.txt"]);
    platform.run(0, None, &["replicate", "synapse"]);
    let wrong = platform.run(2, None, &["list", "synapsis"]);
    assert!(wrong.err.contains("has no such job"), "{}", wrong.err);
}

/// What bash offers after these words, with the script of this program.
fn offered(platform: &Platform, program: &str, words: &[&str]) -> Vec<String> {
    let path = std::path::Path::new(program);
    let name = path.file_name().unwrap().to_str().unwrap();
    let function = name.replace('-', "_");
    let script = format!(
        "eval \"$({name} completions bash)\"\nCOMP_WORDS=({name} \"$@\")\nCOMP_CWORD=$#\n_{function}\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    );
    let folders = format!("{}:{}", path.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["--norc", "--noprofile", "-c", &script, "bash"]).args(words);
    let output = command.current_dir(platform.0.path()).env("PATH", folders).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn completions_in_bash_know_jobs_sinks_and_artifacts() {
    let platform = Platform::new();
    platform.run(0, None, &["-q", "backup", "--new-sink"]);
    let lifeboat = env!("CARGO_BIN_EXE_lifeboat");
    let offered = |words: &[&str]| offered(&platform, lifeboat, words);
    assert_eq!(offered(&["backup", "c"]), ["codetalk", "cluster"]);
    assert_eq!(offered(&["verify", "--sink", ""]), ["minio", "offsite", "all"]);
    assert_eq!(offered(&["list", "--sink", "=", "m"]), ["minio"]);
    assert_eq!(offered(&["--config", "systems.toml", "restore", "far-v"]), ["far-velero"]);
    let artifacts = offered(&["restore", "codetalk", "--at", "data"]);
    assert!(artifacts.len() == 1 && artifacts[0].starts_with("databases/codetalk-"), "{artifacts:?}");
    assert!(offered(&["restore", "codetalk", "--"]).contains(&"--into".to_owned()));
    assert_eq!(offered(&["comp"]), ["completions"]);
    // A file: what nobody knows is the shell's.
    assert_eq!(offered(&["--config", ""]), [""; 0]);

    // A program of another name completes its own.
    let other = platform.0.path().join("safeboat");
    std::os::unix::fs::symlink(lifeboat, &other).unwrap();
    assert_eq!(self::offered(&platform, other.to_str().unwrap(), &["backup", "gi"]), ["gitea"]);

    // And one of a single system the datasets of the sink that is named.
    let single = env!("CARGO_BIN_EXE_lifeboat-command");
    let sink = format!("{}/minio", platform.0.path().display());
    let words = ["verify", "--prefix", "databases", "--sink", "file", ":", &format!("//{sink}"), "--dataset", "g"];
    assert_eq!(self::offered(&platform, single, &words), ["gitea"]);
}

#[test]
fn every_key_that_is_read_is_in_the_manual_of_the_config() {
    let systems = lifeboat::systems();
    let sections = systems.manual();
    for name in systems.names() {
        assert!(sections.iter().any(|section| section.title == format!("[jobs.NAME.{name}]")), "{name}");
    }
    let platform = Platform::new();
    platform.run(0, None, &["-q", "man", "pages"]);
    let page = fs::read_to_string(platform.0.path().join("pages/lifeboat.toml.5")).unwrap();
    for (section, key) in sections.iter().flat_map(|section| section.keys.iter().map(move |key| (section, key))) {
        let said =
            !key.about.is_empty() && !key.default.is_empty() && key.example.starts_with(&format!("{} = ", key.name));
        assert!(said, "{}: {key:?}", section.title);
        let item = format!("\\fB{}\\fR (", key.name.replace('-', "\\-"));
        assert!(page.contains(&item), "{}: {}", section.title, key.name);
    }
    let zone = sections.iter().find(|section| section.title == "[jobs.NAME.cloudflare-dns]").unwrap();
    assert_eq!((&*zone.keys[0].default, &*zone.keys[0].example), ("none: it is required", "zone = \"example.org\""));
    // From tables within tables as well.
    let test = sections.iter().find(|section| section.title == "[jobs.NAME.velero.test]").unwrap();
    assert!(test.keys.iter().any(|key| key.name == "scratch_namespace"), "{test:?}");
}

#[test]
fn a_flag_of_other_commands_is_told_of_them() {
    let platform = Platform::new();
    let said = platform.run(2, None, &["prune", "codetalk", "--identity", "key.txt"]);
    assert!(said.err.contains("check, ") && said.err.contains("identity = \"PATH\""), "{}", said.err);
    assert!(!said.err.contains("similar"), "{}", said.err);
}
