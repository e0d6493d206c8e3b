//! `cargo xtask ci`: everything that CI checks besides the tests.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{process, signals, workspace};

/// The package whose features select backends and sinks.
const FACADE: &str = "lifeboat";

/// Which dependencies belong to which feature of the facade: without the feature none of them may be in the tree. A
/// backend, sink or encryptor that brings a dependency of its own has its line here. A version tells ours from the older
/// one of the same name that another feature's dependency brings.
const OWNED: &[(&str, &[&str])] = &[
    ("mongodb", &["mongodb", "bson"]),
    ("postgres", &["tokio-postgres", "tokio-postgres-rustls"]),
    ("cloudflare-dns", &["domain", "reqwest"]),
    ("doppler", &["reqwest"]),
    ("velero", &["kube", "k8s-openapi", "reqwest"]),
    ("s3", &["object_store", "reqwest"]),
    ("age", &["age"]),
    ("openssl", &["aes v0.9", "cbc v0.2"]),
];

/// Sets of features of the facade, and how many crates each may compile at most, the facade among them. `none` is no feature at
/// all. How many there are now stands in [`COUNTS`].
const LIMITS: &[(&str, usize)] =
    &[("none", 70), ("file", 80), ("age", 150), ("postgres,file,age", 200), ("cli", 210), ("default", 330)];

/// The page whose table says how many crates each set of features compiles.
const COUNTS: &str = "docs/architecture.md";

/// A package outside of the workspace, which uses only what everyone can.
const OUTSIDE: &str = "examples/outside/Cargo.toml";

/// The outcome of a check.
enum Outcome {
    Passed,
    Failed(String),
    NotRun(String),
}

/// A check: its title, outcome and duration.
type Row = (String, Outcome, Duration);

/// Runs all checks and reports the outcome of each.
pub(crate) fn run() -> Result<ExitCode> {
    let mut rows: Vec<Row> = Vec::new();

    run_cargo(&mut rows, "formatting", &["fmt", "--all", "--check"], &[])?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    run_cargo(&mut rows, "lints", &clippy, &[])?;
    let doc = ["doc", "--workspace", "--all-features", "--no-deps"];
    run_cargo(&mut rows, "documentation", &doc, &[("RUSTDOCFLAGS", "-D warnings")])?;
    if workspace::root().join("examples").read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        run_cargo(&mut rows, "examples with the default features", &["check", "-p", FACADE, "--examples"], &[])?;
    }

    for (package, features) in packages()? {
        if features.is_empty() {
            continue;
        }
        run_cargo(
            &mut rows,
            &format!("{package} with no feature"),
            &["check", "-p", &package, "--no-default-features"],
            &[],
        )?;
        for feature in features.iter().filter(|feature| *feature != "default") {
            let arguments = ["check", "-p", &package, "--no-default-features", "--features", feature];
            run_cargo(&mut rows, &format!("{package} with only `{feature}`"), &arguments, &[])?;
        }
        if package == FACADE {
            let started = Instant::now();
            let outcome = match check_leaks(&features) {
                Ok(()) => Outcome::Passed,
                Err(error) => Outcome::Failed(format!("{error:#}")),
            };
            rows.push(("features leak no dependency".to_owned(), outcome, started.elapsed()));
        }
    }
    let started = Instant::now();
    let outcome = match check_counts() {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    rows.push(("crates by feature".to_owned(), outcome, started.elapsed()));
    // In the workspace's own folder, so that what is built stays with what is cached.
    let outside = ["test", "--locked", "--manifest-path", OUTSIDE, "--target-dir", "target/outside"];
    run_cargo(&mut rows, "a package outside of the workspace", &outside, &[])?;

    // What each package would be published with; that it compiles, the other checks say.
    let publish = ["publish", "--dry-run", "--workspace", "--no-verify", "--allow-dirty"];
    run_cargo(&mut rows, "packages can be published", &publish, &[])?;
    check_oldest_rust(&mut rows)?;
    check_dependencies(&mut rows)?;

    let failed = summarize(&rows);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn summarize(rows: &[Row]) -> bool {
    println!("\nChecks:");
    let mut failed = false;
    for (title, outcome, time) in rows {
        let seconds = time.as_secs_f64();
        match outcome {
            Outcome::Passed => println!("  ok       {title} ({seconds:.1} s)"),
            Outcome::NotRun(why) => println!("  not run  {title}: {why}"),
            Outcome::Failed(why) => {
                failed = true;
                println!("  FAILED   {title} ({seconds:.1} s): {why}");
            }
        }
    }
    failed
}

/// Runs cargo with visible output, after printing the command line.
fn run_cargo(rows: &mut Vec<Row>, title: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let mut command = process::cargo();
    command.args(arguments).envs(environment.iter().copied());
    let mut line = String::from("$");
    for (name, value) in environment {
        line.push_str(&format!(" {name}='{value}'"));
    }
    line.push_str(&format!(" cargo {}", arguments.join(" ")));
    run_shown(rows, title, &line, &mut command)
}

fn run_shown(rows: &mut Vec<Row>, title: &str, line: &str, command: &mut Command) -> Result<()> {
    signals::check()?;
    eprintln!("{line}");
    let started = Instant::now();
    let status = process::run_attached(command)?;
    let outcome = if status.success() { Outcome::Passed } else { Outcome::Failed(format!("{status}, see above")) };
    rows.push((title.to_owned(), outcome, started.elapsed()));
    Ok(())
}

/// The workspace's packages with their features, as Cargo sees them.
fn packages() -> Result<Vec<(String, Vec<String>)>> {
    let mut tree = process::cargo();
    tree.args(["tree", "--workspace", "--all-features", "--depth", "0", "--prefix", "none", "--format", "{p}|{f}"]);
    parse_packages(&process::output(&mut tree)?)
}

/// Reads lines such as `lifeboat v0.1.0 (/folder)|age,default,file`.
fn parse_packages(tree: &str) -> Result<Vec<(String, Vec<String>)>> {
    let mut packages = Vec::new();
    for line in tree.lines().filter(|line| !line.trim().is_empty()) {
        let (package, features) = line.split_once('|').with_context(|| format!("`cargo tree` printed {line:?}"))?;
        let name = package.split_whitespace().next().unwrap_or_default().to_owned();
        let features = features.split_whitespace().next().unwrap_or_default();
        let features = features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned).collect();
        packages.push((name, features));
    }
    ensure!(packages.iter().any(|(name, _)| name == FACADE), "`cargo tree` does not name the package {FACADE}");
    Ok(packages)
}

/// With one feature alone, the tree holds the dependencies of that feature and of those that it enables, and none of
/// another's.
fn check_leaks(features: &[String]) -> Result<()> {
    for (feature, _) in OWNED {
        ensure!(
            features.iter().any(|known| known == feature),
            "the table in checks.rs names `{feature}`, which is no feature"
        );
    }
    let mut leaks = Vec::new();
    for chosen in std::iter::once(None).chain(features.iter().filter(|name| *name != "default").map(Some)) {
        let mut tree = process::cargo();
        tree.args(["tree", "-e", "normal", "-p", FACADE, "--no-default-features"]);
        tree.args(["--prefix", "none", "--format", "{p}|{f}"]);
        if let Some(feature) = chosen {
            tree.args(["--features", feature]);
        }
        let tree = process::output(&mut tree)?;
        let holds = |dependency: &str| {
            let is_it = |line: &str| line.strip_prefix(dependency).is_some_and(|rest| rest.starts_with([' ', '.']));
            tree.lines().any(is_it)
        };
        let shown = chosen.map_or("no feature", String::as_str);
        // `config` enables `age`: what Cargo says is enabled, not what was asked for.
        let enabled = parse_packages(&tree)?.swap_remove(0);
        ensure!(enabled.0 == FACADE, "the tree of {FACADE} begins with {}", enabled.0);
        for (owner, dependencies) in OWNED {
            for dependency in *dependencies {
                // Several features may bring the same one.
                let brings = |(owner, all): &(&str, &[&str])| {
                    enabled.1.iter().any(|feature| feature == owner) && all.contains(dependency)
                };
                let own = OWNED.iter().any(brings);
                match (own, holds(dependency)) {
                    (true, false) => {
                        leaks.push(format!("{dependency} is not in the tree of `{owner}`: mend the table"));
                    }
                    (false, true) => {
                        leaks.push(format!("{dependency}, which belongs to `{owner}`, comes with {shown}"));
                    }
                    _ => {}
                }
            }
        }
    }
    if !leaks.is_empty() {
        bail!("{}", leaks.join("; "));
    }
    Ok(())
}

/// Checks that as many crates are compiled as the documentation says, and no more than are allowed.
fn check_counts() -> Result<()> {
    let page = workspace::root().join(COUNTS);
    let page = std::fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let said = said_counts(&page);
    let mut wrong = Vec::new();
    for (features, limit) in LIMITS {
        let mut tree = process::cargo();
        tree.args(["tree", "--locked", "-e", "normal", "-p", FACADE, "--no-default-features", "--prefix", "none"]);
        if *features != "none" {
            tree.args(["--features", features]);
        }
        let count = count_crates(&process::output(&mut tree)?);
        if count > *limit {
            wrong.push(format!("{features} compiles {count} crates, more than {limit}"));
        }
        match said.iter().find(|(name, _)| name == features) {
            Some((_, said)) if *said == count => {}
            Some((_, said)) => wrong.push(format!("{features} compiles {count} crates, and {COUNTS} says {said}")),
            None => wrong.push(format!("{features} compiles {count} crates, and {COUNTS} says nothing of it")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// Reads the rows "| `postgres,file,age` | 198 |" of a page.
fn said_counts(page: &str) -> Vec<(String, usize)> {
    let row = |line: &str| {
        let (features, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        Some((features.to_owned(), rest.split(' ').next()?.parse().ok()?))
    };
    page.lines().filter_map(row).collect()
}

/// How many crates a tree names, each once.
fn count_crates(tree: &str) -> usize {
    let crates = tree.lines().filter(|line| !line.trim().is_empty());
    let versions = crates.map(|line| line.split(" (").next().unwrap_or(line).trim());
    versions.collect::<std::collections::BTreeSet<_>>().len()
}

/// Checks that the `rust-version` is right, if that toolchain is available.
fn check_oldest_rust(rows: &mut Vec<Row>) -> Result<()> {
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    let title = format!("Rust {oldest}, the oldest supported");
    let installed = process::output(process::command("rustup").args(["toolchain", "list"])).unwrap_or_default();
    let toolchain = installed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|name| name.strip_prefix(oldest).is_some_and(|rest| rest.starts_with(['.', '-'])));
    let Some(toolchain) = toolchain else {
        let why = format!("the toolchain is not installed; `rustup toolchain install {oldest}` brings it");
        rows.push((title, Outcome::NotRun(why), Duration::ZERO));
        return Ok(());
    };
    let mut command = process::command("rustup");
    command.current_dir(workspace::root()).env_remove("RUSTUP_TOOLCHAIN");
    command.args(["run", toolchain, "cargo", "check", "--workspace", "--all-features"]);
    run_shown(rows, &title, &format!("$ cargo +{toolchain} check --workspace --all-features"), &mut command)
}

/// Licences, advisories, sources: `deny.toml`.
fn check_dependencies(rows: &mut Vec<Row>) -> Result<()> {
    if process::output(process::cargo().args(["deny", "--version"])).is_err() {
        let why = "cargo-deny is not installed, and building it takes minutes; `cargo install --locked cargo-deny`";
        rows.push(("cargo deny".to_owned(), Outcome::NotRun(why.to_owned()), Duration::ZERO));
        return Ok(());
    }
    run_cargo(rows, "cargo deny", &["deny", "check"], &[])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_counts_once_however_often_it_is_named() {
        let tree = "lifeboat v0.1.0 (/x)\nserde v1.0.1\nserde v1.0.1 (*)\nsyn v2.0.1\nserde_derive v1.0.1 (proc-macro)\nsyn v3.0.1\n";
        assert_eq!(count_crates(tree), 5);
    }

    #[test]
    fn counts_are_read_from_the_page() {
        let page = "| features | crates |\n|---|---|\n| `none` | 62 |\n| `postgres,file,age` | 198 | what for |\n| `x` | many |\n";
        assert_eq!(said_counts(page), [("none".to_owned(), 62), ("postgres,file,age".to_owned(), 198)]);
    }

    #[test]
    fn packages_and_features_are_read_from_the_tree() {
        let tree = "lifeboat v0.1.0 (/some where/x)|age,default\n\nxtask v0.1.0 (/y)|\nlifeboat v0.1.0 (/x)|file (*)\n";
        let packages = parse_packages(tree).unwrap();
        assert_eq!(packages[0], ("lifeboat".to_owned(), vec!["age".to_owned(), "default".to_owned()]));
        assert_eq!(packages[1], ("xtask".to_owned(), vec![]));
        assert!(parse_packages("other v1.0.0|\n").is_err());
    }
}
