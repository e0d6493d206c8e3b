//! `cargo xtask bench`: compares Lifeboat with the shell pipeline that does the same with stock tools.
//!
//! Both run alternately, against the same servers: what counts are the ratios. Figures are for whole processes as
//! measured by `/usr/bin/time` (including start, end and all children), and for the servers as counted by the kernel.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::arguments::{Options, UsageError};
use crate::debian::Package;
use crate::process::{self, Guard};
use crate::requirements::{self, Requirement};
use crate::services::{self, Service, Session};
use crate::{minio, postgres, python, signals, workspace};

mod mongodb;

/// The benchmarks, in order.
pub(crate) const CASES: &[(&str, &str)] = &[
    ("backup", "PostgreSQL to MinIO, against pg_dump | zstd | age | aws, and each stage of that alone"),
    ("file", "PostgreSQL to a local folder, against pg_dump | zstd | age"),
    ("verify", "verify --level structure, against age -d | zstd -d; and the parser alone"),
    ("restore", "verify --level restore, against initdb and pg_restore and a count"),
    ("memory", "peak memory of a backup to MinIO, and of one of four times the data"),
    ("mongodb", "MongoDB, against mongodump and mongorestore: on FerretDB, and on a server of canned batches"),
];

/// The limit for a backup's peak memory, in KiB.
const MOST_MEMORY: u64 = 128 << 10;

/// Rows of benches/data.sql that make a GiB in COPY text form.
const ROWS_PER_GIB: f64 = 5_220_000.0;

const TIME: Requirement =
    Requirement::Debian(Package { name: "time", present: || Ok(workspace::is_executable(Path::new("/usr/bin/time"))) });

/// The stock tools' equivalent of Lifeboat's default compression and encryption.
const PACK: &str = "zstd -q -3 -T2 | age -r $RECIPIENT";

/// Runs the chosen cases.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let gib: f64 = options.number("--gib", 1.0)?;
    let runs: usize = options.number("--runs", 3)?;
    ensure!(gib > 0.0 && runs > 0, UsageError("--gib and --runs have to be greater than 0".to_owned()));
    let chosen: Vec<&str> = match options.value("--only") {
        Some(names) => names.split(',').collect(),
        None => CASES.iter().map(|(name, _)| *name).collect(),
    };
    if let Some(unknown) = chosen.iter().find(|name| !CASES.iter().any(|(known, _)| known == *name)) {
        return Err(UsageError(format!("there is no case `{unknown}`; see --help")).into());
    }
    let is_chosen = |name: &str| chosen.contains(&name);

    let binaries = options.value("--binaries").map(PathBuf::from);
    let mut within = true;
    if chosen.iter().any(|name| *name != "mongodb") {
        within &= postgres_cases(gib, runs, &is_chosen, binaries.clone())?;
    }
    if is_chosen("mongodb") {
        within &= mongodb::run(gib, runs, binaries)?;
    }
    println!("\nLoad average: {}.", load_average());
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the cases for PostgreSQL. Returns whether memory stayed within its limit.
fn postgres_cases(gib: f64, runs: usize, is_chosen: &dyn Fn(&str) -> bool, binaries: Option<PathBuf>) -> Result<bool> {
    let services: [&Service; 2] = [&postgres::SERVICE, &minio::SERVICE];
    let build = ["build", "--release", "-p", "lifeboat-bins", "--bin", "lifeboat-postgres"];
    let binaries = self::build(binaries, &services, &[&build], &["lifeboat-postgres"])?;
    let aws = python::program("aws", "awscli", AWSCLI)?;
    let mut session = Session::start(&services)?;
    let folder = session.scratch().folder("bench")?;
    let bench = Bench::new(&session, folder, &binaries, &aws, runs)?;
    bench.describe(
        "lifeboat-postgres --version; pg_dump --version; zstd --version; echo age $(age --version); aws --version",
    )?;

    let rows = (gib * ROWS_PER_GIB) as u64;
    process::step(&format!("load {rows} rows"), || bench.load(1, rows))?;
    let size = bench.prepare()?;
    println!("\n{} of plaintext, {runs} runs of each in turns.", mib(size));

    if is_chosen("backup") {
        bench.backup(size)?;
    }
    if is_chosen("file") {
        bench.file(size)?;
    }
    if is_chosen("verify") {
        bench.verify(size)?;
    }
    if is_chosen("restore") {
        bench.restore(size)?;
    }
    let within = if is_chosen("memory") { bench.memory(size, rows)? } else { true };
    drop(session);
    Ok(within)
}

/// The version of the PyPI package `awscli` to use if no `aws` is on the path.
const AWSCLI: &str = "1.45.11";

/// Builds the release binaries, unless they are given, while the rest is installed. Returns their folder.
fn build(given: Option<PathBuf>, services: &[&Service], builds: &[&[&str]], wanted: &[&str]) -> Result<PathBuf> {
    let mut required = services::requirements(services);
    required.extend(requirements::READERS);
    required.push(TIME);
    requirements::install(&required, || {
        if given.is_some() {
            return Ok(());
        }
        for arguments in builds {
            let mut build = process::cargo();
            build.args(*arguments);
            ensure!(process::run_attached(&mut build)?.success(), "Lifeboat does not build");
        }
        Ok(())
    })?;
    let folder = match given {
        Some(folder) => folder,
        None => {
            let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
            workspace::root().join(target).join("release")
        }
    };
    let folder = folder.canonicalize().with_context(|| format!("cannot open {}", folder.display()))?;
    for name in wanted {
        ensure!(workspace::is_executable(&folder.join(name)), "there is no {name} in {}", folder.display());
    }
    Ok(folder)
}

/// The resources that one run took.
#[derive(Clone, Debug, Default)]
struct Figures {
    /// Seconds from start to end.
    wall: f64,
    /// CPU seconds of the command and of all its children.
    cpu: f64,
    /// CPU seconds of each server meanwhile.
    servers: Vec<f64>,
    /// The peak memory of any one process, in KiB.
    memory: u64,
}

/// A command and the resources it took, run by run.
struct Contestant {
    name: String,
    line: String,
    figures: Vec<Figures>,
}

impl Contestant {
    fn new(name: &str, line: impl Into<String>) -> Self {
        Self { name: name.to_owned(), line: line.into(), figures: Vec::new() }
    }

    fn median(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        median(self.figures.iter().map(of).collect())
    }

    fn wall(&self) -> f64 {
        self.median(|figures| figures.wall)
    }
}

struct Bench {
    folder: PathBuf,
    runs: usize,
    environment: Vec<(&'static str, String)>,
    /// The name and process of each server.
    servers: Vec<(&'static str, u32)>,
}

impl Bench {
    fn new(session: &Session, folder: PathBuf, binaries: &Path, aws: &Path, runs: usize) -> Result<Self> {
        let exported = |wanted: &str| {
            let found = session.environment().iter().find(|(name, _)| *name == wanted);
            let value = found.and_then(|(_, value)| value.to_str());
            value.map(str::to_owned).with_context(|| format!("the services export no {wanted}"))
        };
        let programs = exported("LIFEBOAT_PG_BIN")?;
        let server = exported("LIFEBOAT_TEST_PG_URL")?;
        let (user, password, host, port) =
            postgres::url_parts(&server).context("the services export a URL of another form")?;
        let endpoint = exported("LIFEBOAT_TEST_MINIO_URL")?;
        let (key, secret) = (exported("LIFEBOAT_TEST_MINIO_USER")?, exported("LIFEBOAT_TEST_MINIO_PASSWORD")?);

        let identity = folder.join("identity.txt");
        process::output(process::command("age-keygen").arg("-o").arg(&identity))?;
        let recipient = process::output(process::command("age-keygen").arg("-y").arg(&identity))?;

        let path = std::env::var("PATH").unwrap_or_default();
        let aws = aws.parent().unwrap_or(Path::new("")).display();
        let environment = vec![
            ("PATH", format!("{}:{programs}:{aws}:{path}", binaries.display())),
            ("LIFEBOAT_PG_BIN", programs),
            ("BENCH_URL", format!("postgres://{user}:{password}@{host}:{port}/bench")),
            ("PGHOST", host.to_owned()),
            ("PGPORT", port.to_owned()),
            ("PGUSER", user.to_owned()),
            ("PGPASSWORD", password.to_owned()),
            ("STORE", format!("{}/bench", endpoint.replace("http://", "minio://"))),
            ("MINIO_ACCESS_KEY", key.clone()),
            ("MINIO_SECRET_KEY", secret.clone()),
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", key),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("RECIPIENT", recipient.trim().to_owned()),
        ];
        let id = |name| session.process_id(name).with_context(|| format!("there is no server {name}"));
        let servers = vec![("PostgreSQL", id("postgres")?), ("MinIO", id("minio")?)];
        Ok(Self { servers, folder, runs, environment })
    }

    fn shell(&self, line: &str) -> Result<Command> {
        let mut command = process::guarded("bash", Guard::default())?;
        command.args(["--noprofile", "--norc", "-o", "pipefail", "-e", "-c", line]);
        self.prepare_command(&mut command);
        Ok(command)
    }

    fn prepare_command(&self, command: &mut Command) {
        command.current_dir(&self.folder).envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    /// Runs a line without measuring it.
    fn quietly(&self, line: &str) -> Result<()> {
        process::run_logged(&mut self.shell(line)?, &process::fresh_log("bench")?)
    }

    /// Runs a line and measures it.
    fn measure(&self, line: &str) -> Result<Figures> {
        signals::check()?;
        let report = self.folder.join("time");
        let mut command = process::guarded("/usr/bin/time", Guard::default())?;
        command.args(["-f", "%e %U %S %M", "-o"]).arg(&report);
        command.args(["bash", "--noprofile", "--norc", "-o", "pipefail", "-e", "-c", line]);
        self.prepare_command(&mut command);
        let cpu = || self.servers.iter().map(|(_, id)| server_cpu(*id)).collect::<Result<Vec<f64>>>();
        let before = cpu()?;
        process::run_logged(&mut command, &process::fresh_log("bench")?).with_context(|| format!("in: {line}"))?;
        // The postmaster has to reap the session's process before it counts.
        std::thread::sleep(Duration::from_millis(200));
        let text = fs::read_to_string(&report)?;
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [wall, user, system, memory] = numbers[..] else { bail!("/usr/bin/time wrote {text:?}") };
        Ok(Figures {
            wall,
            cpu: user + system,
            servers: cpu()?.iter().zip(before).map(|(now, before)| now - before).collect(),
            memory: memory as u64,
        })
    }

    /// Runs all of them alternately, `runs` times, with `between` after each, and prints the table.
    fn compare(&self, title: &str, size: u64, between: &str, contestants: &mut [Contestant]) -> Result<()> {
        let started = Instant::now();
        for _ in 0..self.runs {
            for contestant in &mut *contestants {
                contestant.figures.push(self.measure(&contestant.line)?);
                self.quietly(between)?;
            }
        }
        eprintln!("xtask: {title}: {:.0} s", started.elapsed().as_secs_f64());
        println!("\n### {title}\n");
        print!("{}", self.table(size, contestants));
        Ok(())
    }

    /// The machine and the versions, which `versions` prints.
    fn describe(&self, versions: &str) -> Result<()> {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or("")
            .trim_start_matches([' ', '\t', ':']);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let versions = process::output(&mut self.shell(&format!("date -u +%F; uname -sr; {versions}"))?)?;
        println!("{cores} × {model}; load average before: {}", load_average());
        println!("{}", versions.trim().replace('\n', "; "));
        Ok(())
    }

    fn table(&self, size: u64, contestants: &[Contestant]) -> String {
        let names: String = self.servers.iter().map(|(name, _)| format!(" {name} |")).collect();
        let columns = "---:|".repeat(self.servers.len());
        let mut out = format!(
            "| command | wall, median (range) | plaintext | CPU client |{names} largest process |\n\
             |---|---:|---:|---:|{columns}---:|\n",
        );
        for contestant in contestants {
            let wall = contestant.wall();
            let least = contestant.figures.iter().map(|f| f.wall).fold(f64::INFINITY, f64::min);
            let most = contestant.figures.iter().map(|f| f.wall).fold(0.0, f64::max);
            let memory = contestant.figures.iter().map(|f| f.memory).max().unwrap_or(0);
            let servers: String = (0..self.servers.len())
                .map(|number| format!(" {:.2} s |", contestant.median(|f| f.servers[number])))
                .collect();
            let _ = writeln!(
                out,
                "| {} | {wall:.2} s ({least:.2}–{most:.2}) | {:.0} MB/s | {:.2} s |{servers} {} |",
                contestant.name,
                size as f64 / wall / 1e6,
                contestant.median(|f| f.cpu),
                mib(memory << 10),
            );
        }
        out
    }

    fn load(&self, first: u64, last: u64) -> Result<()> {
        let sql = workspace::root().join("benches/data.sql");
        let create = if first == 1 { "createdb bench && " } else { "" };
        self.quietly(&format!(
            "{create}psql -X -q bench -v first={first} -v last={last} -f '{}' && psql -X -q bench -c 'VACUUM ANALYZE' -c CHECKPOINT",
            sql.display()
        ))
    }

    /// Creates the bucket and the stages' inputs, and returns the plaintext's size. (It also fills the page cache.)
    fn prepare(&self) -> Result<u64> {
        process::step("prepare the stages' inputs", || {
            self.quietly(
                "aws s3 mb s3://bench\npg_dump -Fc -Z0 bench > plain\nzstd -q -3 -T2 < plain > packed\n\
                 age -r $RECIPIENT < packed > sealed\nmkdir files\nsync",
            )
        })?;
        Ok(fs::metadata(self.folder.join("plain"))?.len())
    }

    fn backup(&self, size: u64) -> Result<()> {
        let empty = "aws s3 rm --quiet --recursive s3://bench/";
        let mut whole = [Contestant::new("lifeboat-postgres", BACKUP), Contestant::new("pipeline", PIPELINE)];
        self.compare("Whole backup to MinIO", size, empty, &mut whole)?;
        let mut stages = [
            Contestant::new("pg_dump -Fc -Z0", "pg_dump -Fc -Z0 bench > /dev/null"),
            Contestant::new("zstd -3 -T2", "zstd -q -3 -T2 < plain > /dev/null"),
            Contestant::new("age -r", "age -r $RECIPIENT < packed > /dev/null"),
            Contestant::new("aws s3 cp", "aws s3 cp --quiet - s3://bench/stage < sealed"),
        ];
        self.compare("Its stages alone", size, empty, &mut stages)?;
        let Some(slowest) = stages.iter().max_by(|a, b| a.wall().total_cmp(&b.wall())) else { return Ok(()) };
        println!();
        println!("- lifeboat / pipeline, wall: {}", ratio(&whole[0], &whole[1], |f| f.wall));
        println!("- lifeboat / pipeline, CPU of the client: {}", ratio(&whole[0], &whole[1], |f| f.cpu));
        println!("- lifeboat / slowest stage alone ({}): {:.2}", slowest.name, whole[0].wall() / slowest.wall());
        println!("- pipeline / slowest stage alone: {:.2}", whole[1].wall() / slowest.wall());
        let all = whole[0].median(|f| f.cpu + f.servers.iter().sum::<f64>());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        println!(
            "- all CPU of a lifeboat run, servers included: {all:.1} s, so {:.1} s is the least that {cores} cores can do",
            all / cores as f64
        );
        Ok(())
    }

    fn file(&self, size: u64) -> Result<()> {
        let mut both = [
            Contestant::new(
                "lifeboat-postgres",
                "lifeboat-postgres backup -q --from env:BENCH_URL --to file://$PWD/files --encrypt age:$RECIPIENT",
            ),
            Contestant::new("pipeline", format!("pg_dump -Fc -Z0 bench | {PACK} > files/bench.dump.zst.age")),
            Contestant::new(
                "lifeboat-postgres, compress none, encrypt none",
                "lifeboat-postgres backup -q --from env:BENCH_URL --to file://$PWD/files --compress none --encrypt none",
            ),
            Contestant::new("pg_dump -Fc -Z0", "pg_dump -Fc -Z0 bench > files/bench.dump"),
        ];
        self.compare(
            "Whole backup to a local folder",
            size,
            "rm -rf files; mkdir -p files/_lifeboat; echo {} > files/_lifeboat/sink.json",
            &mut both,
        )?;
        println!("\n- lifeboat / pipeline, wall: {}", ratio(&both[0], &both[1], |f| f.wall));
        println!("- lifeboat / pg_dump, both unpacked, wall: {}", ratio(&both[2], &both[3], |f| f.wall));
        Ok(())
    }

    fn verify(&self, size: u64) -> Result<()> {
        self.quietly(
            "lifeboat-postgres backup -q --from env:BENCH_URL --to file://$PWD/files/packed --encrypt age:$RECIPIENT --new-sink\n\
             lifeboat-postgres backup -q --from env:BENCH_URL --to file://$PWD/files/plain --compress none --encrypt none --new-sink",
        )?;
        let verify = "lifeboat-postgres verify -q --no-record --dataset bench --level structure";
        let mut all = [
            Contestant::new(
                "verify --level structure",
                format!("{verify} --to file://$PWD/files/packed --identity identity.txt"),
            ),
            Contestant::new("age -d, zstd -d", "age -d -i identity.txt sealed | zstd -d > /dev/null"),
            Contestant::new("verify, compress none, encrypt none", format!("{verify} --to file://$PWD/files/plain")),
            Contestant::new("sha256sum of the same", "sha256sum plain > /dev/null"),
        ];
        self.compare("Verify: structure", size, "true", &mut all)?;
        println!("\n- verify / stock tools that only unpack, wall: {}", ratio(&all[0], &all[1], |f| f.wall));
        self.quietly("rm -rf files; mkdir files")
    }

    fn restore(&self, size: u64) -> Result<()> {
        self.quietly(
            "lifeboat-postgres backup -q --from env:BENCH_URL --to file://$PWD/files --encrypt age:$RECIPIENT --new-sink",
        )?;
        let mut both = [
            Contestant::new(
                "verify --level restore",
                "lifeboat-postgres verify -q --no-record --dataset bench --to file://$PWD/files --identity identity.txt",
            ),
            Contestant::new(
                "pg_restore and count(*)",
                "createdb again\nage -d -i identity.txt sealed | zstd -d | pg_restore -d again\n\
                 psql -X -q again -c 'SELECT count(*) FROM orders'",
            ),
        ];
        self.compare("Verify: restore", size, "dropdb --if-exists again", &mut both)?;
        println!("\n- verify / pg_restore, wall: {}", ratio(&both[0], &both[1], |f| f.wall));
        self.quietly("rm -rf files; mkdir files")
    }

    /// Whether memory stays within its limit, for this amount of data and for four times as much.
    fn memory(&self, size: u64, rows: u64) -> Result<bool> {
        println!("\n### Peak memory of a backup to MinIO\n");
        println!("| plaintext | peak RSS | wall |\n|---:|---:|---:|");
        let mut within = true;
        for factor in [1, 4] {
            if factor > 1 {
                process::step(&format!("load {} more rows", rows * 3), || self.load(rows + 1, rows * factor))?;
            }
            let figures = self.measure(BACKUP)?;
            self.quietly("aws s3 rm --quiet --recursive s3://bench/")?;
            println!("| {} | {} | {:.1} s |", mib(size * factor), mib(figures.memory << 10), figures.wall);
            within &= figures.memory < MOST_MEMORY;
        }
        let said = if within { "within" } else { "ABOVE" };
        println!("\n- {said} the limit of {}", mib(MOST_MEMORY << 10));
        Ok(within)
    }
}

const BACKUP: &str =
    "lifeboat-postgres backup -q --from env:BENCH_URL --to \"$STORE/lifeboat?tls=false\" --encrypt age:$RECIPIENT";

const PIPELINE: &str = "pg_dump -Fc -Z0 bench | zstd -q -3 -T2 | age -r $RECIPIENT | \
                        aws s3 cp --quiet - s3://bench/pipeline/bench.dump.zst.age";

/// CPU seconds of a server and of its children that have ended.
fn server_cpu(id: u32) -> Result<f64> {
    // In /proc these times are in hundredths of a second (USER_HZ), whatever the kernel counts in.
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).context("the server is gone")?;
    let (_, after_name) = stat.rsplit_once(')').context("/proc/PID/stat has another form")?;
    // The fields 14 to 17; the first one after the name is the third.
    let ticks: Vec<f64> = after_name.split_whitespace().skip(11).take(4).filter_map(|t| t.parse().ok()).collect();
    ensure!(ticks.len() == 4, "/proc/PID/stat has another form");
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The median of the runs' ratios, and their range: adjacent runs see the same noise.
fn ratio(one: &Contestant, other: &Contestant, of: impl Fn(&Figures) -> f64) -> String {
    let mut ratios: Vec<f64> = one.figures.iter().zip(&other.figures).map(|(a, b)| of(a) / of(b)).collect();
    ratios.sort_by(f64::total_cmp);
    let (least, most) = (ratios.first().copied().unwrap_or(f64::NAN), ratios.last().copied().unwrap_or(f64::NAN));
    format!("{:.2} ({least:.2} to {most:.2})", median(ratios))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_count_lies_between() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn own_cpu_time_can_be_read() {
        assert!(server_cpu(std::process::id()).is_ok_and(|seconds| seconds >= 0.0));
    }
}
