//! What the targets of the fuzzer do, done with every input in `fuzz/corpus`. So they are also compiled with everything else.
#![allow(unreachable_pub)]

use std::collections::BTreeSet;
use std::path::Path;

use lifeboat_testkit::content::Random;

#[path = "../../fuzz/bodies/archive.rs"]
mod archive;
#[path = "../../fuzz/bodies/config.rs"]
mod config;
#[path = "../../fuzz/bodies/dump.rs"]
mod dump;
#[path = "../../fuzz/bodies/manifest.rs"]
mod manifest;
#[path = "../../fuzz/bodies/mongo_archive.rs"]
mod mongo_archive;
#[path = "../../fuzz/bodies/names.rs"]
mod names;
#[path = "../../fuzz/bodies/records.rs"]
mod records;
#[path = "../../fuzz/bodies/script.rs"]
mod script;
#[path = "../../fuzz/bodies/secrets.rs"]
mod secrets;
#[path = "../../fuzz/bodies/service.rs"]
mod service;
#[path = "../../fuzz/bodies/urls.rs"]
mod urls;
#[path = "../../fuzz/bodies/velero.rs"]
mod velero;
#[path = "../../fuzz/bodies/wal.rs"]
mod wal;
#[path = "../../fuzz/bodies/zone.rs"]
mod zone;

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("archive", archive::run),
    ("config", config::run),
    ("dump", dump::run),
    ("manifest", manifest::run),
    ("mongo_archive", mongo_archive::run),
    ("names", names::run),
    ("records", records::run),
    ("script", script::run),
    ("secrets", secrets::run),
    ("service", service::run),
    ("urls", urls::run),
    ("velero", velero::run),
    ("wal", wal::run),
    ("zone", zone::run),
];

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn names_in(folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(repository().join("fuzz").join(folder)).unwrap().flatten();
    entries.map(|entry| entry.path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// An input with a few of its bytes changed, cut, doubled or made up.
fn altered(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let to = at + random.below((bytes.len() - at).min(64) as u64 + 1) as usize;
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..to)),
            2 => bytes.insert(at, random.next() as u8),
            3 => drop(bytes.splice(at..at, bytes[at..to].to_vec())),
            // What numbers and lengths are made of.
            4 => bytes[at..to.min(at + 4)].fill([0, 0xff, b'9', b'-'][random.below(4) as usize]),
            _ => bytes[at..to].iter_mut().take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        }
    }
    bytes
}

/// `LIFEBOAT_FUZZ_ALTERED` says how many alterations of each input are tried as well, `LIFEBOAT_FUZZ_SEED` which.
#[test]
fn every_input_of_the_fuzzers_corpus_is_read_or_refused() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let seed = number("LIFEBOAT_FUZZ_SEED", u64::from(std::process::id()));
    let alterations = number("LIFEBOAT_FUZZ_ALTERED", 30);
    println!("LIFEBOAT_FUZZ_ALTERED={alterations} LIFEBOAT_FUZZ_SEED={seed}");
    for (name, run) in TARGETS {
        let begun = std::time::Instant::now();
        let mut random = Random::new(seed);
        let mut inputs: Vec<_> = std::fs::read_dir(repository().join("fuzz/corpus").join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(inputs.len() > 1, "{name} has no corpus");
        for path in inputs {
            let input = std::fs::read(&path).unwrap();
            run(&input);
            for number in 0..alterations {
                let altered = altered(&input, &mut random);
                if let Err(panicked) = std::panic::catch_unwind(|| run(&altered)) {
                    let found = std::env::temp_dir().join(format!("lifeboat-fuzz-{name}"));
                    std::fs::write(&found, &altered).unwrap();
                    println!("seed {seed}, alteration {number} of {}: it is in {}", path.display(), found.display());
                    std::panic::resume_unwind(panicked);
                }
            }
        }
        println!("{name}: {:.1} s", begun.elapsed().as_secs_f32());
    }
}

#[test]
fn every_target_of_the_fuzzer_is_built_replayed_and_told() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in("fuzz_targets"), targets);
    assert_eq!(names_in("bodies"), targets);
    let cargo = std::fs::read_to_string(repository().join("fuzz/Cargo.toml")).unwrap();
    let security = std::fs::read_to_string(repository().join("docs/security.md")).unwrap();
    for name in targets {
        assert!(cargo.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in fuzz/Cargo.toml");
        assert!(security.contains(&format!("| `{name}` |")), "{name} is not in docs/security.md");
    }
}
