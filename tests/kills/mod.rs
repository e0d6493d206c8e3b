//! Kills at random moments: backups, restore tests and restores that replace a live database, by INT, TERM, HUP, QUIT and KILL.
//!
//! `LIFEBOAT_KILL_POINTS` says how many (48 without it), `LIFEBOAT_KILL_SEED` which. The seed decides what is killed, by what, and
//! at which part of a run; how far the run has come by then depends on the machine.
#![allow(unreachable_pub)]

mod bench;

use std::collections::BTreeMap;

use bench::Bench;
use lifeboat_testkit::content::Random;
use lifeboat_testkit::minio::Minio;

/// What is killed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verb {
    /// A backup to a folder.
    BackupToFolder,
    /// A backup to a store, in several parts.
    BackupToStore,
    /// A restore test.
    Verify,
    /// A restore that replaces a live database.
    Replace,
}

/// When it is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// After so many thousandths of the time that it takes.
    At(u64),
    /// When this has come about, and so many microseconds later.
    Hot(Hot, u64),
}

/// What a verb leaves behind for somebody who looks on, at the moments that matter most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hot {
    /// The note of a run is there.
    Intent,
    /// The artifact has its name, and no manifest yet.
    Object,
    /// The manifest is there.
    Manifest,
    /// The scratch folder is there.
    Folder,
    /// The scratch server is starting.
    Server,
    /// The database of the restore is there.
    Temporary,
    /// The databases are being renamed; sessions of the old one make that last.
    Renaming,
    /// The restored database has the name, and the old one is still there.
    Renamed,
}

/// One kill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub verb: Verb,
    pub signal: &'static str,
    pub moment: Moment,
}

impl Point {
    fn random(random: &mut Random) -> Self {
        // A restore test takes the longest.
        let verb = match random.below(10) {
            0..=2 => Verb::BackupToFolder,
            3..=4 => Verb::BackupToStore,
            5..=6 => Verb::Verify,
            _ => Verb::Replace,
        };
        let signal = match random.below(10) {
            0..=4 => "KILL",
            5..=6 => "INT",
            7 => "TERM",
            8 => "HUP",
            _ => "QUIT",
        };
        let hot: &[Hot] = match verb {
            Verb::BackupToFolder => &[Hot::Intent, Hot::Object, Hot::Manifest],
            Verb::BackupToStore => &[],
            Verb::Verify => &[Hot::Folder, Hot::Server],
            Verb::Replace => &[Hot::Temporary, Hot::Renaming, Hot::Renamed],
        };
        let moment = if !hot.is_empty() && random.below(3) == 0 {
            Moment::Hot(hot[random.below(hot.len() as u64) as usize], random.below(3000))
        } else {
            Moment::At(random.below(1000))
        };
        Self { verb, signal, moment }
    }
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn whatever_is_killed_whenever_nothing_is_lost_and_nothing_is_left() {
    let points = variable("LIFEBOAT_KILL_POINTS", 48);
    let seed = variable("LIFEBOAT_KILL_SEED", u64::from(std::process::id()));
    let side_by_side = variable("LIFEBOAT_KILL_SIDE_BY_SIDE", 2);
    println!("LIFEBOAT_KILL_POINTS={points} LIFEBOAT_KILL_SEED={seed}");
    let minio = Minio::shared();
    let work = |worker: u64| {
        let mut random = Random::new(seed.wrapping_add(worker << 32));
        let mut bench = Bench::new(&minio);
        let mut killed: BTreeMap<(Verb, &'static str), u64> = BTreeMap::new();
        let wanted = points / side_by_side + u64::from(worker < points % side_by_side);
        // Those that ended before they could be killed do not count, and there are few of them.
        let (mut counted, mut tried) = (0, 0);
        while counted < wanted {
            let point = Point::random(&mut random);
            tried += 1;
            assert!(tried < 2 * wanted + 20, "{counted} of {tried} were killed: the moments are badly chosen");
            let here = format!("seed {seed}, worker {worker}, attempt {tried}: {point:?}");
            if bench.kill(point, &here) {
                counted += 1;
                *killed.entry((point.verb, point.signal)).or_default() += 1;
            }
        }
        bench.finish(&format!("seed {seed}, worker {worker}, at the end"));
        (killed, tried, bench.figures)
    };
    let work = &work;
    let done: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..side_by_side).map(|worker| scope.spawn(move || work(worker))).collect();
        workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    for (killed, tried, figures) in done.into_iter().map(Result::unwrap) {
        println!("{tried} tried, killed: {killed:?}\n  {figures:?}");
    }
}
