//! What is killed, and how it is looked at afterwards.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lifeboat::sinks::{Credentials, Settings};
use lifeboat::{Sink, sinks};
use lifeboat_testkit::minio::Minio;
use lifeboat_testkit::postgres::{Database, psql, try_psql, with_database};
use serde_json::Value;

use super::{Hot, Moment, Point, Verb};
use crate::harness::{Desk, at_work, folders, is_record, stored_in, wait_for};

/// What is backed up.
const CONTENT: &str = "CREATE TABLE t AS SELECT i AS id, md5(i::text) AS x FROM generate_series(1, 5000) i";
/// What is backed up to the store: more than one part.
const LARGE: &str =
    "CREATE TABLE t AS SELECT i AS id, encode(sha512(i::text::bytea), 'hex') AS x FROM generate_series(1, 80000) i";
/// What a restore replaces.
const LIVE: &str = "CREATE TABLE before AS SELECT i AS id, md5(i::text) AS y FROM generate_series(1, 3000) i";
/// What says which of them a database holds, and that it is whole.
const OLD: &str = "SELECT count(*), count(DISTINCT y) FROM before WHERE y = md5(id::text)";
const NEW: &str = "SELECT count(*), count(DISTINCT x) FROM t WHERE x = md5(id::text)";

/// How long a program may take after a signal: five seconds, and some for a machine that does much else.
const END: Duration = Duration::from_secs(8);

/// A desk with databases, a folder and a bucket of its own.
pub struct Bench<'m> {
    desk: Desk,
    source: Database,
    large: Database,
    live: Database,
    minio: &'m Minio,
    bucket: String,
    store: String,
    opened: Arc<dyn Sink>,
    runtime: tokio::runtime::Runtime,
    /// How long each verb takes, as far as is known.
    takes: BTreeMap<Verb, Duration>,
    /// The newest artifact of each sink that was seen to be good.
    good: BTreeMap<String, String>,
    last_second: i64,
    /// How often what was seen.
    pub figures: BTreeMap<&'static str, u64>,
}

impl<'m> Bench<'m> {
    pub fn new(minio: &'m Minio) -> Self {
        let mut desk = Desk::new();
        desk.set("MINIO_ACCESS_KEY", minio.user()).set("MINIO_SECRET_KEY", minio.password());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bucket = runtime.block_on(minio.fresh_bucket());
        let store = minio.sink_url(&bucket);
        let credentials = Some(Credentials::new(minio.user(), minio.password()));
        let opened = sinks::open_with(&store, &Settings::default().credentials(credentials)).unwrap();
        let [source, large, live] = [CONTENT, LARGE, LIVE].map(|content| {
            let database = Database::fresh();
            database.run(content);
            database
        });
        let mut bench = Self {
            desk,
            source,
            large,
            live,
            minio,
            bucket,
            store,
            opened,
            runtime,
            takes: BTreeMap::new(),
            good: BTreeMap::new(),
            last_second: 0,
            figures: BTreeMap::new(),
        };
        for verb in [Verb::BackupToFolder, Verb::BackupToStore, Verb::Verify, Verb::Replace] {
            bench.whole_run(verb, "at the beginning");
        }
        bench.look_at_artifacts(&bench.desk.sink(), "at the beginning");
        bench.look_at_artifacts(&bench.store.clone(), "at the beginning");
        bench
    }

    fn command(&self, verb: Verb) -> Command {
        let (sink, key, encrypt) = (self.desk.sink(), self.desk.key(), self.desk.encrypt());
        let mut command = self.desk.command("lifeboat-postgres");
        match verb {
            Verb::BackupToFolder => {
                command.env("LIFEBOAT_FROM", &self.source.url);
                command.args(["backup", "--dataset", "shop", "--to", &sink, "--encrypt", &encrypt]);
            }
            Verb::BackupToStore => {
                command.env("LIFEBOAT_FROM", &self.large.url);
                command.args(["backup", "--dataset", "shop", "--to", &self.store, "--encrypt", &encrypt]);
                command.args(["--compress", "none"]);
            }
            Verb::Verify => {
                command.args(["verify", "--dataset", "shop", "--to", &sink, "--identity", &key]);
            }
            Verb::Replace => {
                command.env("LIFEBOAT_INTO", &self.live.url);
                command.args(["restore", "--dataset", "shop", "--to", &sink, "--identity", &key]);
                command.arg(format!("--replace={}", self.live.name));
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Names are exact to the second.
    fn next_second(&mut self, verb: Verb) {
        if matches!(verb, Verb::BackupToFolder | Verb::BackupToStore) {
            let second = || jiff::Timestamp::now().as_second();
            wait_for("the next second", || second() > self.last_second);
            self.last_second = second();
        }
    }

    /// Runs it to its end, and says what it said.
    fn whole_run(&mut self, verb: Verb, here: &str) -> String {
        self.next_second(verb);
        let begun = Instant::now();
        let output = self.command(verb).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{here}: the next run failed\n{said}");
        self.took(verb, begun.elapsed());
        if verb == Verb::Replace {
            assert_eq!(self.content(here), Content::New, "{here}");
            self.live.run(&format!("DROP TABLE t; {LIVE}"));
        }
        said
    }

    /// The shortest run counts: a moment that comes after the end is none.
    fn took(&mut self, verb: Verb, time: Duration) {
        let known = self.takes.entry(verb).or_insert(time);
        *known = time.min(*known);
    }

    /// Starts it, kills it at the moment, and looks at what is left. `false` when it had ended before.
    pub fn kill(&mut self, point: Point, here: &str) -> bool {
        self.next_second(point.verb);
        let holder = (point.moment_is(Hot::Renaming)).then(|| self.hold_live());
        let begun = Instant::now();
        let mut child = self.command(point.verb).spawn().unwrap();
        match point.moment {
            Moment::At(part) => std::thread::sleep(self.takes[&point.verb].mul_f64(part as f64 / 1000.0)),
            Moment::Hot(hot, later) => {
                self.wait_until(hot, &mut child);
                std::thread::sleep(Duration::from_micros(later));
            }
        }
        let alive = child.try_wait().unwrap().is_none();
        if alive {
            let pid = child.id().to_string();
            assert!(Command::new("kill").args([&format!("-{}", point.signal), &pid]).status().unwrap().success());
        } else {
            self.took(point.verb, begun.elapsed());
        }
        let signalled = Instant::now();
        let limit = signalled + END;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > limit {
                child.kill().unwrap();
                let said = child.wait_with_output().unwrap();
                panic!("{here}: it goes on {END:?} after the signal: {said:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let code = child.try_wait().unwrap().and_then(|status| status.code());
        if point.signal != "KILL" && alive {
            let longest = self.figures.entry("ms from a signal to the end, at most").or_default();
            *longest = (*longest).max(signalled.elapsed().as_millis() as u64);
        }
        let output = child.wait_with_output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let here = format!("{here}, ended with {code:?}, having said:\n{said}\n");
        if let Some(mut holder) = holder {
            // It may have been ended by the restore.
            let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {}", self.is_held());
            psql(&with_database(&self.live.url, "postgres"), &sql);
            holder.wait().unwrap();
        }
        if alive && point.signal != "KILL" {
            // It may have had nothing left to do, or not have begun: until it looks for signals, they end it.
            let not_begun = code.is_none() && said.is_empty();
            assert!(code == Some(0) || not_begun || (code == Some(1) && said.contains("cancelled")), "{here}");
        }
        let tidy = point.signal != "KILL" || !alive;
        self.sessions_end(&here);
        match point.verb {
            Verb::BackupToFolder => self.after_backup(&self.desk.sink(), code, tidy, &here),
            Verb::BackupToStore => self.after_backup(&self.store.clone(), code, tidy, &here),
            Verb::Verify => self.after_verify(tidy, &here),
            Verb::Replace => self.after_replace(code, tidy, &here),
        }
        alive
    }

    fn count(&mut self, what: &'static str) {
        *self.figures.entry(what).or_default() += 1;
    }

    fn wait_until(&self, hot: Hot, child: &mut Child) {
        let server = with_database(&self.live.url, "postgres");
        let name = &self.live.name;
        let there = |pattern: &str| {
            format!("EXISTS (SELECT FROM pg_database WHERE datname ~ '^{name}_lifeboat_[0-9a-f]+{pattern}$')")
        };
        let sql = match hot {
            Hot::Temporary => there(""),
            Hot::Renamed => there("_replaced"),
            Hot::Renaming => format!(
                "EXISTS (SELECT FROM pg_stat_activity WHERE query ~ 'RENAME TO' AND query ~ '{name}_lifeboat' AND pid <> pg_backend_pid())"
            ),
            _ => String::new(),
        };
        if !sql.is_empty() {
            // The server looks on: a program of ours would come too late.
            let wait = format!(
                "DO $$ BEGIN FOR i IN 1..2500 LOOP EXIT WHEN {sql}; PERFORM pg_stat_clear_snapshot(); PERFORM pg_sleep(0.002); END LOOP; END $$"
            );
            psql(&server, &wait);
            return;
        }
        let sink = self.desk.path("sink");
        let tmp = self.desk.path("tmp");
        let before = stored_in(&sink).len();
        let is_manifest = |file: &String| file.ends_with(".manifest.json");
        let manifests = stored_in(&sink).iter().filter(|file| is_manifest(file)).count();
        while child.try_wait().unwrap().is_none() {
            let come = match hot {
                Hot::Intent => stored_in(&sink).len() > before,
                Hot::Object => stored_in(&sink).iter().filter(|file| !file.contains("_lifeboat/")).count() > before,
                Hot::Manifest => stored_in(&sink).iter().filter(|file| is_manifest(file)).count() > manifests,
                Hot::Folder => !folders(&tmp).is_empty(),
                _ => folders(&tmp).iter().any(|folder| folder.join("data/postmaster.pid").exists()),
            };
            if come {
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// A session in the live database: a rename waits for its end.
    fn hold_live(&self) -> Child {
        let marker = "SELECT 'held', pg_sleep(60)";
        let held = format!("SELECT count(*) FROM pg_stat_activity WHERE {}", self.is_held());
        let child = Command::new(lifeboat_testkit::postgres::programs().join("psql"))
            .args(["--no-psqlrc", "--quiet", "--command", marker, &self.live.url])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = with_database(&self.live.url, "postgres");
        wait_for("a session in the live database", || psql(&server, &held).trim() != "0");
        child
    }

    fn is_held(&self) -> String {
        format!("datname LIKE '{}%' AND query LIKE 'SELECT ''held''%'", self.live.name)
    }

    /// No session of ours stays, and so no snapshot and no lock.
    fn sessions_end(&self, here: &str) {
        let server = with_database(&self.live.url, "postgres");
        // Databases are made, renamed and dropped from another one.
        let names =
            [&self.source, &self.large, &self.live].map(|database| format!("datname LIKE '{}%'", database.name));
        let sql = format!(
            "SELECT pid, datname, application_name, query FROM pg_stat_activity WHERE {} OR (application_name = 'lifeboat' AND pid <> pg_backend_pid() AND strpos(query, '{}') > 0)",
            names.join(" OR "),
            self.live.name
        );
        let begun = Instant::now();
        loop {
            let left = psql(&server, &sql);
            if left.trim().is_empty() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{here}: sessions stay: {left}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn list(&self, sink: &str, here: &str) -> Vec<Value> {
        let run = self.desk.run("lifeboat-postgres", &["list", "--to", sink, "--json"]);
        assert_eq!(run.code, Some(0), "{here}: {}", run.stderr);
        run.json().as_array().unwrap().clone()
    }

    /// Everything that is listed is whole: what is new is read to its end. The newest that was good is still there.
    fn look_at_artifacts(&mut self, sink: &str, here: &str) -> Vec<String> {
        let listed = self.list(sink, here);
        let mut keys = Vec::new();
        for artifact in &listed {
            let key = artifact["key"].as_str().unwrap().to_owned();
            assert_eq!(artifact["kind"], "managed", "{here}: {artifact}");
            if self.good.get(sink).is_none_or(|good| key > *good) {
                let (identity, level) = (self.desk.key(), "structure");
                let look = ["verify", "--dataset", "shop", "--to", sink, "--identity", &identity, "--no-record"];
                let run = self.desk.run("lifeboat-postgres", &[&look[..], &["--level", level, "--at", &key]].concat());
                assert_eq!(run.code, Some(0), "{here}: {key}: {}{}", run.stdout, run.stderr);
            }
            keys.push(key);
        }
        if let Some(good) = self.good.get(sink) {
            assert!(keys.contains(good), "{here}: {good} is lost, there are {keys:?}");
        }
        let newest = keys.iter().max().unwrap_or_else(|| panic!("{here}: nothing is listed")).clone();
        self.good.insert(sink.to_owned(), newest);
        keys
    }

    fn objects(&self, sink: &str) -> Vec<String> {
        if sink == self.desk.sink() {
            return self.desk.stored();
        }
        let listed = ["", "_lifeboat/"]
            .map(|prefix| self.runtime.block_on(futures::StreamExt::collect::<Vec<_>>(self.opened.list(prefix))));
        let keys = listed.into_iter().flatten().map(|object| object.unwrap().key);
        let mut keys: Vec<_> = keys.filter(|key| !is_record(key)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    fn after_backup(&mut self, sink: &str, code: Option<i32>, tidy: bool, here: &str) {
        let before = self.good[sink].clone();
        let keys = self.look_at_artifacts(sink, here);
        let is_new = keys.iter().any(|key| *key > before);
        assert!(is_new || code != Some(0), "{here}: it is said to be done, and is not there");
        self.count(if is_new { "backups that were done" } else { "backups that were not" });
        let belongs = |file: &String| keys.iter().any(|key| file.starts_with(key));
        let left: Vec<_> = self.objects(sink).into_iter().filter(|file| !belongs(file)).collect();
        assert!(left.is_empty() || !tidy, "{here}: {left:?} were left behind");
        if !left.is_empty() {
            self.count("backups that left something");
        }
        let prune = ["prune", "--dataset", "shop", "--to", sink, "--keep", "last=2", "--orphans", "--orphan-age", "0s"];
        let run = self.desk.run("lifeboat-postgres", &prune);
        assert_eq!(run.code, Some(0), "{here}: {}{}", run.stdout, run.stderr);
        let after = self.look_at_artifacts(sink, here);
        let belongs = |file: &String| after.iter().any(|key| file.starts_with(key));
        let stay: Vec<_> = self.objects(sink).into_iter().filter(|file| !belongs(file)).collect();
        assert!(stay.is_empty(), "{here}: {stay:?} stay after prune: {}{}", run.stdout, run.stderr);
        if sink == self.store {
            // MinIO lists the uploads of a key, when it is whole.
            let begun =
                left.iter().filter_map(|key| key.strip_prefix("_lifeboat/uploads/")?.strip_suffix(".intent.json"));
            for key in begun.map(str::to_owned).chain(keys) {
                let uploads = self.runtime.block_on(self.minio.unfinished_uploads(&self.bucket, &key));
                assert!(
                    uploads.is_empty(),
                    "{here}: an upload of {key} stays after prune: {}{}",
                    run.stdout,
                    run.stderr
                );
            }
        }
    }

    fn after_verify(&mut self, tidy: bool, here: &str) {
        let tmp = self.desk.path("tmp");
        wait_for(&format!("{here}: the end of all processes"), || at_work(&tmp) == 0);
        // The keeper removes the folder last. What is killed in the instant before there is one goes with the next run.
        let limit = Duration::from_secs(if tidy { 30 } else { 2 });
        let begun = Instant::now();
        while !folders(&tmp).is_empty() && begun.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        let left = folders(&tmp);
        assert!(left.is_empty() || !tidy, "{here}: {left:?} stay");
        if !left.is_empty() {
            self.count("restore tests that left a folder");
            // One that has no name yet may be somebody's who is making it: it goes after an hour.
            for folder in &left {
                let old = SystemTime::now() - Duration::from_secs(7200);
                std::fs::File::open(folder).unwrap().set_modified(old).unwrap();
            }
            self.whole_run(Verb::Verify, here);
            wait_for(&format!("{here}: the end of {left:?}"), || folders(&tmp).is_empty());
        }
        let bad: Vec<_> = self.desk.stored().into_iter().filter(|file| file.contains("-fail.")).collect();
        assert!(bad.is_empty(), "{here}: a good artifact is told to be bad: {bad:?}");
        self.count("restore tests");
    }

    fn after_replace(&mut self, code: Option<i32>, tidy: bool, here: &str) {
        let content = self.content(here);
        assert!(content == Content::New || code != Some(0), "{here}: it is said to be done, and is not");
        self.count(if content == Content::New { "restores that were done" } else { "restores that were not" });
        let left = self.databases();
        assert!(left.is_empty() || !tidy, "{here}: {left:?} stay");
        if content == Content::New {
            self.live.run(&format!("DROP TABLE t; {LIVE}"));
        }
        if left.is_empty() {
            return;
        }
        self.count("restores that left a database");
        let said = self.whole_run(Verb::Replace, here);
        // What was live until then is never dropped by another run. What was never live goes.
        let (replaced, temporary): (Vec<_>, Vec<_>) = left.into_iter().partition(|name| name.ends_with("_replaced"));
        for name in &temporary {
            assert!(said.contains(name.as_str()), "{here}: nobody says that {name} is gone: {said}");
        }
        assert_eq!(self.databases(), replaced, "{here}");
        for name in &replaced {
            let advice = format!("DROP DATABASE \"{name}\"");
            let advice = if said.contains(&advice) { advice } else { format!("DROP DATABASE {name}") };
            assert!(said.contains(&advice), "{here}: nobody says {advice}: {said}");
            psql(&with_database(&self.live.url, "postgres"), &advice);
        }
        assert_eq!(self.databases(), Vec::<String>::new(), "{here}");
    }

    /// Databases that restores into the live one have made.
    fn databases(&self) -> Vec<String> {
        let sql = format!("SELECT datname FROM pg_database WHERE datname LIKE '{}\\_%'", self.live.name);
        psql(&with_database(&self.live.url, "postgres"), &sql).lines().map(str::to_owned).collect()
    }

    /// What the live database holds: all of the one or all of the other.
    fn content(&self, here: &str) -> Content {
        let tables = try_psql(&self.live.url, "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
            .unwrap_or_else(|error| panic!("{here}: the live database is closed: {error}"));
        match tables.trim() {
            "before" => {
                assert_eq!(self.live.run(OLD).trim(), "3000|3000", "{here}");
                Content::Old
            }
            "t" => {
                assert_eq!(self.live.run(NEW).trim(), "5000|5000", "{here}");
                Content::New
            }
            other => panic!("{here}: the live database holds {other:?}"),
        }
    }

    /// One more run of each, and nothing is left of all of them.
    pub fn finish(&mut self, here: &str) {
        for verb in [Verb::Verify, Verb::Replace, Verb::BackupToFolder, Verb::BackupToStore] {
            self.whole_run(verb, here);
        }
        for sink in [self.desk.sink(), self.store.clone()] {
            self.after_backup(&sink, Some(0), true, here);
        }
        let look = ["verify", "--dataset", "shop", "--to", &self.store, "--identity", &self.desk.key()];
        self.desk.run("lifeboat-postgres", &look).good();
        let tmp = self.desk.path("tmp");
        wait_for("the end of all processes", || at_work(&tmp) == 0 && folders(&tmp).is_empty());
        assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0, "{here}: something stays in the temporary folder");
        assert_eq!(self.databases(), Vec::<String>::new(), "{here}");
        self.sessions_end(here);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    Old,
    New,
}

impl Point {
    fn moment_is(&self, hot: Hot) -> bool {
        matches!(self.moment, Moment::Hot(it, _) if it == hot)
    }
}
