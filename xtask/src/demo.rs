//! `cargo xtask demo`: Lifeboat at work on a real database, each command shown with what it answers.
//!
//! The tour is the table `STEPS`. Nothing here is a second implementation: what is shown is what a reader can type.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::process::{self, Guard};
use crate::requirements;
use crate::services::{self, Session};
use crate::{postgres, signals, workspace};

const SHOP: &str = include_str!("demo/shop.sql");

/// One thing that the tour shows.
struct Step {
    title: &'static str,
    /// Why one does it: a sentence.
    why: &'static str,
    action: Action,
    /// Programs without which the step is left out.
    needs: &'static [&'static str],
}

enum Action {
    /// A line for bash, run in the demo's folder, and the exit status that it has to end with.
    Run(&'static str, i32),
    /// Writes `lifeboat.toml`, and shows it.
    Configure,
}

const STEPS: &[Step] = &[
    Step {
        title: "What is there to lose",
        why: "A shop's database: orders in partitions, payments, and a schema with every type that is easy to get wrong.",
        action: Action::Run(
            "psql \"$SHOP_URL\" -c \"SELECT relname AS table, reltuples::bigint AS rows FROM pg_class \
             WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1\"",
            0,
        ),
        needs: &[],
    },
    Step {
        title: "Begin",
        why: "`init` writes a configuration to start from and a fresh age key. The key's secret half is what you must not lose.",
        action: Action::Run("lifeboat init && ls", 0),
        needs: &[],
    },
    Step {
        title: "Configure",
        why: "One sink, one job. The database's URL comes from the environment; it is not written down.",
        action: Action::Configure,
        needs: &[],
    },
    Step {
        title: "Check before you trust",
        why: "`check` tries the sink and the database now, and not at half past three at night.",
        action: Action::Run("lifeboat check", 0),
        needs: &[],
    },
    Step {
        title: "Back up",
        why: "One stream from the server into the folder: compressed and encrypted on the way, counted and fingerprinted as it passes.",
        action: Action::Run("lifeboat backup", 0),
        needs: &[],
    },
    Step {
        title: "See what is stored",
        why: "The names say how each file is read back; the manifest beside it was written last.",
        action: Action::Run("lifeboat list && ls -l backups", 0),
        needs: &[],
    },
    Step {
        title: "Know the way back without Lifeboat",
        why: "`show` prints the manifest, and the shell line with stock tools that restores it.",
        action: Action::Run("lifeboat show shop", 0),
        needs: &[],
    },
    Step {
        title: "Prove it",
        why: "`verify` restores into a server that it starts and throws away, and compares the content of every table.",
        action: Action::Run("lifeboat verify", 0),
        needs: &[],
    },
    Step {
        title: "Restore",
        why: "Into another database, which is made when it is missing.",
        action: Action::Run("lifeboat restore shop --into \"$RESTORED_URL\"", 0),
        needs: &[],
    },
    Step {
        title: "Compare the two",
        why: "Not our word, pg_dump's: the schemas of both databases are the same, and so are the rows of the oddest table.",
        action: Action::Run(
            "schema() { pg_dump --schema-only --no-owner \"$1\" | grep -v restrict; }\n\
             diff <(schema \"$SHOP_URL\") <(schema \"$RESTORED_URL\") && echo 'The schemas are the same.'\n\
             odd() { psql \"$1\" -c 'COPY \"Odd Things\".\"Every \"\"type\"\"\" TO STDOUT'; }\n\
             diff <(odd \"$SHOP_URL\") <(odd \"$RESTORED_URL\") && echo 'The odd rows are the same.'",
            0,
        ),
        needs: &[],
    },
    Step {
        title: "Restore with stock tools",
        why: "The day that Lifeboat is not at hand: age, zstd and pg_restore read what it wrote.",
        action: Action::Run(
            "createdb --maintenance-db \"$SERVER_URL\" stock\n\
             age -d -i \"$IDENTITY\" backups/shop-*.dump.zst.age | zstd -d | pg_restore --no-owner -d \"$STOCK_URL\"\n\
             psql \"$STOCK_URL\" -c 'SELECT count(*) AS orders FROM orders'",
            0,
        ),
        needs: &["age", "zstd"],
    },
    Step {
        title: "Break a copy",
        why: "One flipped bit in a copy of the stored file. A backup tool that does not notice is worse than none.",
        action: Action::Run(
            "cp -r backups damaged\n\
             file=$(ls damaged/shop-*.dump.zst.age)\n\
             byte=$(od -An -tu1 -j 200000 -N1 \"$file\")\n\
             printf \"\\\\$(printf %03o $((byte ^ 1)))\" | dd of=\"$file\" bs=1 seek=200000 conv=notrunc status=none\n\
             lifeboat-postgres verify --dataset shop --to \"file://$PWD/damaged\" --identity \"$IDENTITY\"",
            1,
        ),
        needs: &[],
    },
    Step {
        title: "Another day, another backup",
        why: "The configuration keeps the last one. (Verified: what was proven last is never pruned.)",
        action: Action::Run("lifeboat backup && lifeboat verify --level structure && lifeboat list", 0),
        needs: &[],
    },
    Step {
        title: "What would go",
        why: "Each artifact with the reason why it stays or goes; nothing is deleted yet.",
        action: Action::Run("lifeboat prune --dry-run", 0),
        needs: &[],
    },
    Step { title: "Prune", why: "Now it is.", action: Action::Run("lifeboat prune && lifeboat list", 0), needs: &[] },
];

/// Runs the tour; `keep` leaves the folder with the configuration, the key and the backups.
pub(crate) fn run(keep: bool) -> Result<ExitCode> {
    let started = Instant::now();
    let binaries = build()?;
    requirements::install_stock_tools_if_possible();
    let mut session = Session::start(&[&postgres::SERVICE])?;
    let folder = session.scratch().folder("demo")?;
    let tour = Tour::new(&session, &folder, &binaries)?;

    process::step("fill the database `shop`", || tour.fill())?;
    for (number, step) in STEPS.iter().enumerate() {
        signals::check()?;
        let title = format!("── {}. {} ", number + 1, step.title);
        println!("\n{title}{}", "─".repeat(80_usize.saturating_sub(title.chars().count())));
        println!("{}\n", step.why);
        if let Some(missing) = step.needs.iter().find(|name| workspace::program(name).is_none()) {
            println!("(left out: `{missing}` is not installed)");
            continue;
        }
        match &step.action {
            Action::Run(line, expected) => tour.show(line, *expected)?,
            Action::Configure => tour.configure()?,
        }
    }

    println!("\nDone in {} s.", started.elapsed().as_secs());
    if keep {
        session.scratch().keep();
        println!("The configuration, the key and the backups are in {}; the server is gone.", folder.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the binaries while PostgreSQL is installed, and returns their folder.
fn build() -> Result<PathBuf> {
    let required = services::requirements(&[&postgres::SERVICE]);
    requirements::install(&required, || {
        let mut build = process::cargo();
        build.args(["build", "-p", "lifeboat-bins", "--bin", "lifeboat", "--bin", "lifeboat-postgres"]);
        let status = process::run_attached(&mut build)?;
        if !status.success() {
            bail!("Lifeboat does not build");
        }
        Ok(())
    })?;
    // Cargo put us beside them.
    let ours = std::env::current_exe().context("cannot find our own program")?;
    Ok(ours.parent().map_or_else(PathBuf::new, Path::to_owned))
}

struct Tour<'a> {
    folder: &'a Path,
    environment: Vec<(&'static str, String)>,
}

impl<'a> Tour<'a> {
    fn new(session: &Session, folder: &'a Path, binaries: &Path) -> Result<Self> {
        let exported = |wanted: &str| {
            let found = session.environment().iter().find(|(name, _)| *name == wanted);
            let value = found.and_then(|(_, value)| value.to_str());
            value.map(str::to_owned).with_context(|| format!("the services export no {wanted}"))
        };
        let server = exported("LIFEBOAT_TEST_PG_URL")?;
        let programs = exported("LIFEBOAT_PG_BIN")?;
        let base = server.trim_end_matches("/postgres").to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let environment = vec![
            ("PATH", format!("{}:{programs}:{path}", binaries.display())),
            ("LIFEBOAT_PG_BIN", programs),
            ("SHOP_URL", format!("{base}/shop")),
            ("RESTORED_URL", format!("{base}/restored")),
            ("STOCK_URL", format!("{base}/stock")),
            ("SERVER_URL", server),
            ("PGAPPNAME", "lifeboat demo".to_owned()),
            ("PAGER", "cat".to_owned()),
        ];
        Ok(Self { folder, environment })
    }

    /// bash with the line, in the demo's folder. It ends when we do.
    fn shell(&self, line: &str) -> Result<Command> {
        let mut command = process::guarded("bash", Guard::default())?;
        command.args(["--noprofile", "--norc", "-o", "pipefail", "-e", "-c", line]);
        command.current_dir(self.folder).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(identity) = self.identity() {
            command.env("IDENTITY", identity);
        }
        Ok(command)
    }

    fn fill(&self) -> Result<()> {
        let script = self.folder.with_file_name("shop.sql");
        fs::write(&script, SHOP)?;
        let mut command =
            self.shell("createdb --maintenance-db \"$SERVER_URL\" shop && psql -X -q \"$SHOP_URL\" -f ../shop.sql")?;
        process::run_logged(&mut command, &process::fresh_log("shop")?)
    }

    /// Prints the line as a reader would type it, runs it, and holds its exit status against what it should be.
    fn show(&self, line: &str, expected: i32) -> Result<()> {
        let mut typed = String::new();
        for (number, part) in line.lines().enumerate() {
            let _ = writeln!(typed, "{} {part}", if number == 0 { "$" } else { ">" });
        }
        print!("{typed}");
        let status = process::run_attached(&mut self.shell(line)?)?;
        if status.code() != Some(expected) {
            bail!("the demo's command ended with {status}, where exit status {expected} is right:\n{typed}");
        }
        if expected != 0 {
            println!("(exit status {expected})");
        }
        Ok(())
    }

    /// The key file that `init` wrote.
    fn identity(&self) -> Option<String> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.folder).ok()?.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let file = files.into_iter().find(|path| {
            path.is_file() && fs::read_to_string(path).is_ok_and(|text| text.contains("AGE-SECRET-KEY-"))
        })?;
        file.file_name()?.to_str().map(str::to_owned)
    }

    /// Writes the configuration, with the key that `init` made, and shows it.
    fn configure(&self) -> Result<()> {
        let identity = self.identity().context("`lifeboat init` wrote no age identity")?;
        let texts =
            [&identity, "lifeboat.toml"].map(|name| fs::read_to_string(self.folder.join(name)).unwrap_or_default());
        let recipient = texts
            .iter()
            .flat_map(|text| text.split(|character: char| !character.is_ascii_alphanumeric()))
            .find(|word| word.starts_with("age1") && word.len() > 50)
            .context("`lifeboat init` named no age recipient")?;
        let config = format!(
            r#"[sinks.local]
url = "file://{folder}/backups"

[defaults]
sinks = ["local"]
compress = "zstd:3"
encrypt = {{ age = {{ recipients = ["{recipient}"] }} }}
identity = "{identity}"
keep = {{ last = 1 }}

[jobs.shop]
postgres = {{ url = "${{SHOP_URL}}" }}
schedule = "30 3 * * *"
"#,
            folder = self.folder.display(),
        );
        fs::create_dir_all(self.folder.join("backups"))?;
        fs::write(self.folder.join("lifeboat.toml"), config)?;
        self.show("cat lifeboat.toml", 0)
    }
}
