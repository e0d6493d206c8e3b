//! The MongoDB benchmarks: `lifeboat-mongodb` against mongodump and mongorestore.
//!
//! There are two servers. FerretDB is a real one, but slow: it shows whether anything gets slower. The other one serves
//! canned batches without computing anything (`crates/testkit/examples/mongo-wire.rs`): it shows the speed of the tools
//! themselves.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};

use super::{Bench, Contestant, MOST_MEMORY, mib, ratio};
use crate::mongodb;
use crate::process::{self, Guard};
use crate::services::Session;

/// Collections of the canned database, and of the real one.
const COLLECTIONS: u64 = 4;

/// A folder in memory, for dumps without disk overhead.
const MEMORY: &str = "/dev/shm/lifeboat-bench";

/// The number of documents in the real database: as many as FerretDB accepts in half a minute.
const REAL_DOCUMENTS: u64 = 200_000;

/// What is built, in one go: separately, the same packages would be built with different features.
#[rustfmt::skip]
const BUILD: &[&str] = &[
    "build", "--release", "-p", "lifeboat-bins", "-p", "lifeboat-testkit",
    "--features", "lifeboat-testkit/mongodb",
    "--bin", "lifeboat-mongodb", "--example", "mongodb-read", "--example", "mongo-wire",
];

/// Runs the benchmarks. Returns whether memory stayed within its limit.
pub(super) fn run(gib: f64, runs: usize, binaries: Option<PathBuf>) -> Result<bool> {
    let wanted = ["lifeboat-mongodb", "examples/mongo-wire", "examples/mongodb-read"];
    let binaries = super::build(binaries, &[&mongodb::SERVICE], &[BUILD], &wanted)?;
    let mut session = Session::start(&[&mongodb::SERVICE])?;
    let folder = session.scratch().folder("bench")?;
    let mut within = true;

    let versions = "lifeboat-mongodb --version; echo mongodump $(mongodump --version | head -1)";
    let mut described = false;
    // The last one is near the most that a document may have: there it is about the memory.
    for size in [200, 1024, 100 << 10, 4_000_000, 16_000_000] {
        let canned = Canned::start(&binaries, size, gib, false)?;
        let bench = bench(&session, &folder, &binaries, runs, &canned.url, ("server", canned.child.id()))?;
        if !std::mem::replace(&mut described, true) {
            bench.describe(versions)?;
        }
        let bytes = canned.bytes;
        let title = format!("MongoDB, canned batches: {} of documents of {size} bytes", mib(bytes));
        within &= read(&bench, &title, bytes)?;
        within &= dump(&bench, &title, bytes, Place::Disk, false)?;
        if size == 1024 {
            within &= dump(&bench, &format!("{title}, into memory"), bytes, Place::Memory, false)?;
            within &= dump(&bench, &format!("{title}, gzip"), bytes, Place::Disk, true)?;
            // It swallows what it gets, and has nothing to read back.
            within &= restore(&bench, &title, bytes, false)?;
        }
    }

    let exported = |wanted: &str| {
        let found = session.environment().iter().find(|(name, _)| *name == wanted);
        found.and_then(|(_, value)| value.to_str()).map(str::to_owned).with_context(|| format!("no {wanted}"))
    };
    let ferret = session.process_id("ferretdb").context("there is no FerretDB")?;
    let url = exported("LIFEBOAT_TEST_MONGO_URL")?;
    let bench = bench(&session, &folder, &binaries, runs, &url, ("FerretDB", ferret))?;
    let bytes = {
        let source = Canned::start(&binaries, 1024, REAL_DOCUMENTS as f64 / f64::from(1 << 20), true)?;
        process::step("fill the real server", || {
            bench.quietly(&format!(
                "mongodump --quiet --uri='{}' --archive | mongorestore --quiet --uri=$SERVER --archive",
                source.url
            ))
        })?;
        source.bytes
    };
    let title = format!("MongoDB, FerretDB: {}", mib(bytes));
    within &= dump(&bench, &title, bytes, Place::Disk, false)?;
    within &= restore(&bench, &title, bytes, true)?;
    Ok(within)
}

/// The programs, and the server that they use.
fn bench(
    session: &Session,
    folder: &Path,
    binaries: &Path,
    runs: usize,
    url: &str,
    server: (&'static str, u32),
) -> Result<Bench> {
    let tool = |wanted: &str| {
        let found = session.environment().iter().find(|(name, _)| *name == wanted);
        let path = found.map(|(_, value)| PathBuf::from(value)).with_context(|| format!("no {wanted}"))?;
        path.parent().map(Path::to_path_buf).with_context(|| format!("{wanted} is in no folder"))
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let tools = tool("LIFEBOAT_TEST_MONGODUMP")?;
    let base = url.split('?').next().unwrap_or(url).trim_end_matches('/');
    let environment = vec![
        ("PATH", format!("{0}:{0}/examples:{1}:{path}", binaries.display(), tools.display())),
        ("SERVER", format!("{base}/?directConnection=true")),
        ("FROM_URL", format!("{base}/bench?directConnection=true")),
        ("INTO_URL", format!("{base}/again?directConnection=true")),
    ];
    Ok(Bench { folder: folder.to_path_buf(), runs, environment, servers: vec![server] })
}

/// Reading only: the archive is created and discarded. For Lifeboat, this is the source and its proof, without what a
/// backup does after that (SHA-256 and XXH3-128 of the whole, the store).
fn read(bench: &Bench, title: &str, bytes: u64) -> Result<bool> {
    let mut both = [
        Contestant::new("source and proof, thrown away", "mongodb-read $FROM_URL"),
        Contestant::new("mongodump > /dev/null", "mongodump --quiet --uri=$FROM_URL --archive > /dev/null"),
    ];
    bench.compare(&format!("{title}, to nowhere"), bytes, "true", &mut both)?;
    Ok(verdict(&both))
}

/// The destination of a dump.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The bench's folder, on a disk.
    Disk,
    /// A file system in memory, without disk overhead, but with the kernel's copying for both programs.
    Memory,
}

/// A dump to a local file, compressed in the same way. Lifeboat syncs what it writes; mongodump does not, so it is also
/// measured followed by a sync.
fn dump(bench: &Bench, title: &str, bytes: u64, place: Place, gzip: bool) -> Result<bool> {
    let files = match place {
        Place::Disk => "$PWD/files",
        Place::Memory => MEMORY,
    };
    let empty = format!("rm -rf {files}; mkdir {files}");
    bench.quietly(&empty)?;
    let (ours, theirs) = if gzip { ("gzip:6", "--gzip") } else { ("none", "") };
    let lifeboat = |compress| {
        format!(
            "lifeboat-mongodb backup -q --from env:FROM_URL --to file://{files} --compress {compress} --encrypt none"
        )
    };
    let mongodump = format!("mongodump --quiet --uri=$FROM_URL {theirs} --archive={files}/theirs");
    let mut all =
        vec![Contestant::new("lifeboat-mongodb", lifeboat(ours)), Contestant::new("mongodump", mongodump.clone())];
    if gzip {
        all.push(Contestant::new("lifeboat-mongodb, zstd:3", lifeboat("zstd:3")));
    } else if place == Place::Disk {
        all.push(Contestant::new("mongodump, synced", format!("{mongodump}; sync {files}/theirs")));
    }
    bench.compare(title, bytes, &empty, &mut all)?;
    let within = verdict(&all);
    if let [lifeboat, _, synced] = &all[..]
        && !gzip
    {
        println!("- lifeboat / {}, wall: {}", synced.name, ratio(lifeboat, synced, |f| f.wall));
    }
    bench.quietly(&format!("rm -rf {files}"))?;
    Ok(within)
}

/// A restore of one archive into a database that does not exist.
fn restore(bench: &Bench, title: &str, bytes: u64, read_back: bool) -> Result<bool> {
    bench.quietly(
        "rm -rf files; mkdir files\n\
         lifeboat-mongodb backup -q --from env:FROM_URL --to file://$PWD/files --dataset bench --compress none --encrypt none\n\
         mongodump --quiet --uri=$FROM_URL --archive=theirs",
    )?;
    let lifeboat = "lifeboat-mongodb restore -q --dataset bench --to file://$PWD/files --into env:INTO_URL --replace";
    let mut all = vec![
        Contestant::new("lifeboat-mongodb, not read back", format!("{lifeboat} --skip-proof")),
        Contestant::new(
            "mongorestore",
            "mongorestore --quiet --uri=$SERVER --drop --archive=theirs --nsFrom='bench.*' --nsTo='again.*'",
        ),
    ];
    if read_back {
        all.push(Contestant::new("lifeboat-mongodb, read back and compared", lifeboat));
    }
    bench.compare(&format!("{title}, restore"), bytes, "true", &mut all)?;
    bench.quietly("rm -rf files theirs")?;
    Ok(verdict(&all))
}

/// The ratios of the first two, and whether all of Lifeboat's runs stayed within the memory limit.
fn verdict(all: &[Contestant]) -> bool {
    let ours = all.iter().filter(|c| !c.name.starts_with("mongo"));
    let most = ours.flat_map(|c| &c.figures).map(|f| f.memory).max().unwrap_or(0);
    println!();
    println!("- lifeboat / {}, wall: {}", all[1].name, ratio(&all[0], &all[1], |f| f.wall));
    println!("- lifeboat / {}, CPU of the client: {}", all[1].name, ratio(&all[0], &all[1], |f| f.cpu));
    let within = most < MOST_MEMORY;
    println!("- {}: {} of {}", if within { "within" } else { "ABOVE" }, mib(most << 10), mib(MOST_MEMORY << 10));
    within
}

/// The server of canned batches.
struct Canned {
    child: Child,
    url: String,
    /// Bytes of all documents.
    bytes: u64,
}

impl Canned {
    fn start(binaries: &Path, size: u64, gib: f64, distinct: bool) -> Result<Self> {
        let mib = (gib * 1024.0 / COLLECTIONS as f64).ceil() as u64;
        let mut command = process::guarded(binaries.join("examples/mongo-wire"), Guard::default())?;
        command.args(["127.0.0.1:0".to_owned(), size.to_string(), mib.to_string(), COLLECTIONS.to_string()]);
        if distinct {
            command.arg("distinct");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut url = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut url)?;
        Ok(Self { child, url: url.trim().to_owned(), bytes: (mib << 20) / size * size * COLLECTIONS })
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
