//! `cargo xtask demo`: Lifeboat at work on a real database, with each command and its output.
//!
//! The tour is the table `STEPS`. Nothing is reimplemented here: a reader can type everything that is shown.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::process::{self, Guard};
use crate::requirements;
use crate::services::{self, Session};
use crate::{postgres, signals, workspace};

const SHOP: &str = include_str!("demo/shop.sql");

/// The key file, as `lifeboat init` names it.
const IDENTITY: &str = "lifeboat-identity.txt";

/// The columns of a terminal of default width.
const WIDTH: usize = 80;

/// One step of the tour.
struct Step {
    title: &'static str,
    /// The purpose, as a sentence.
    why: &'static str,
    action: Action,
    /// Programs without which the step is skipped.
    needs: &'static [&'static str],
}

enum Action {
    /// A line for bash, run in the demo's folder, and the expected exit status.
    Run(&'static str, i32),
    /// Writes `lifeboat.toml`, and shows it.
    Configure,
}

const STEPS: &[Step] = &[
    Step {
        title: "What is there to lose",
        why: "A shop's database: orders in partitions, payments, and beside them a schema with every type that is easy \
              to get wrong. It was made for this tour, on a server of its own.",
        action: Action::Run(
            "psql shop -c \"SELECT relname AS table, reltuples::bigint AS rows FROM pg_class\n\
             WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1\"",
            0,
        ),
        needs: &[],
    },
    Step {
        title: "Begin",
        why: "`init` writes a configuration to start from and a fresh age key. The secret key is what you must not lose.",
        action: Action::Run("lifeboat init && ls", 0),
        needs: &[],
    },
    Step {
        title: "Configure",
        why: "One sink, one job, and only the newest backup is kept. The database's URL, with its password, comes from \
              the environment; it is not written down.",
        action: Action::Configure,
        needs: &[],
    },
    Step {
        title: "Check before you trust",
        why: "`check` tries the sink, the database and the key now, and not at half past three at night. The folder is \
              new, which is said once: without a word, an empty folder is taken for a disk that is not mounted.",
        action: Action::Run("lifeboat check --new-sink", 0),
        needs: &[],
    },
    Step {
        title: "Back up",
        why: "One stream from the server into the folder: compressed and encrypted on the way, counted and fingerprinted \
              as it passes.",
        action: Action::Run("lifeboat backup", 0),
        needs: &[],
    },
    Step {
        title: "See what is stored",
        why: "The name says how a file is read back; the manifest beside it was written last.",
        action: Action::Run("lifeboat list && ls -l backups", 0),
        needs: &[],
    },
    Step {
        title: "Know the way back without Lifeboat",
        why: "`show` prints the manifest, and the shell line with stock tools that restores the backup.",
        action: Action::Run("lifeboat show shop", 0),
        needs: &[],
    },
    Step {
        title: "Prove it",
        why: "`verify` restores into a server that it starts and throws away, and compares the content of every table \
              with what was counted during the backup.",
        action: Action::Run("lifeboat verify", 0),
        needs: &[],
    },
    Step {
        title: "Restore",
        why: "Into another database, which is made when it is missing. Its URL holds a password, so the command names \
              the variable that holds the URL: every user of a machine can read the arguments of a command.",
        action: Action::Run("lifeboat restore shop --into env:RESTORED_URL", 0),
        needs: &[],
    },
    Step {
        title: "Compare the two",
        why: "Not our word, pg_dump's: both databases have the same schema, and the oddest table has the same rows.",
        action: Action::Run(
            "schema() { pg_dump --schema-only --no-owner \"$1\" | grep -v restrict; }\n\
             odd() { psql \"$1\" -c 'COPY \"Odd Things\".\"Every \"\"type\"\"\" TO STDOUT'; }\n\
             diff <(schema shop) <(schema restored) && echo 'The schemas are the same.'\n\
             diff <(odd shop) <(odd restored) && echo 'The odd rows are the same.'",
            0,
        ),
        needs: &[],
    },
    Step {
        title: "Restore with stock tools",
        why: "The day that Lifeboat is not at hand: age, zstd and pg_restore read what it wrote.",
        action: Action::Run(
            "createdb stock\n\
             age -d -i lifeboat-identity.txt backups/shop-*.age | zstd -d |\n    pg_restore --no-owner -d stock\n\
             psql stock -c 'SELECT count(*) AS orders FROM orders'",
            0,
        ),
        needs: &["age", "zstd"],
    },
    Step {
        title: "Break a copy",
        why: "One flipped bit in a copy of the stored file, and `verify` has to fail. This is the small binary for \
              PostgreSQL alone, which takes flags and needs no configuration.",
        action: Action::Run(
            "cp -r backups damaged\n\
             file=$(ls damaged/shop-*.age)\n\
             byte=$(od -An -tu1 -j 200000 -N 1 \"$file\")\n\
             printf \"\\\\$(printf %03o $((byte ^ 1)))\" |\n    dd of=\"$file\" bs=1 seek=200000 conv=notrunc status=none\n\
             lifeboat-postgres verify --dataset shop --sink \"file://$PWD/damaged\" \\\n    --identity lifeboat-identity.txt",
            1,
        ),
        needs: &[],
    },
    Step {
        title: "Another day, another backup",
        why: "The configuration keeps the newest. But what was proven last stays too, so long as nothing newer is proven. \
              `prune --dry-run` gives the reason for each.",
        action: Action::Run("lifeboat backup\nlifeboat prune --dry-run", 0),
        needs: &[],
    },
    Step {
        title: "Prove the new one",
        why: "The same proof as before, of the new backup.",
        action: Action::Run("lifeboat verify", 0),
        needs: &[],
    },
    Step {
        title: "Prune",
        why: "Now the old one can go.",
        action: Action::Run("lifeboat prune\nlifeboat list", 0),
        needs: &[],
    },
];

/// Runs the tour; `keep` leaves the folder with the configuration, the key and the backups.
pub(crate) fn run(keep: bool) -> Result<ExitCode> {
    let started = Instant::now();
    let binaries = build()?;
    let mut session = Session::start(&[&postgres::SERVICE])?;
    let folder = session.scratch().folder("demo")?;
    let tour = Tour::new(&session, &folder, &binaries)?;

    process::step("fill the database `shop`", || tour.fill())?;
    for (number, step) in STEPS.iter().enumerate() {
        signals::check()?;
        let title = format!("── {}. {} ", number + 1, step.title);
        let rule = "─".repeat(WIDTH.saturating_sub(title.chars().count()));
        println!("\n{}\n{}\n", bold(&format!("{title}{rule}")), wrapped(step.why));
        if let Some(missing) = step.needs.iter().find(|name| workspace::program(name).is_none()) {
            println!("(left out: `{missing}` is not installed)");
            continue;
        }
        match &step.action {
            Action::Run(line, expected) => tour.show(line, *expected)?,
            Action::Configure => tour.configure()?,
        }
    }

    let end = if keep {
        session.scratch().keep();
        format!("The configuration, the key and the backups are in {}; the server is gone.", folder.display())
    } else {
        "The server and the folder are gone; `cargo xtask demo --keep` leaves the folder.".to_owned()
    };
    drop(session);
    println!("\nDone in {} s. {end}", started.elapsed().as_secs());
    Ok(ExitCode::SUCCESS)
}

/// Builds the binaries while PostgreSQL and the stock tools are installed, and returns their folder.
///
/// Cold, an unoptimised build takes much less time than a release build (which optimises at link time, for each binary); what
/// touches every byte is optimised in both.
fn build() -> Result<PathBuf> {
    let required = services::requirements(&[&postgres::SERVICE]);
    requirements::install_with(&required, requirements::READERS, || {
        let mut build = process::cargo();
        // What the tour shows, and no more: of the systems PostgreSQL, of the sinks the local folder.
        build.args(["build", "-p", "lifeboat-bins", "--no-default-features", "--features", "postgres"]);
        build.args(["--bin", "lifeboat", "--bin", "lifeboat-postgres"]);
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
        let base = server.trim_end_matches("/postgres");
        let (user, password, host, port) =
            postgres::url_parts(&server).context("the services export a URL of another form")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let environment = vec![
            ("PATH", format!("{}:{programs}:{path}", binaries.display())),
            ("LIFEBOAT_PG_BIN", programs),
            ("SHOP_URL", format!("{base}/shop")),
            ("RESTORED_URL", format!("{base}/restored")),
            // For PostgreSQL's own clients: with these they need no password among their arguments.
            ("PGHOST", host.to_owned()),
            ("PGPORT", port.to_owned()),
            ("PGUSER", user.to_owned()),
            ("PGPASSWORD", password.to_owned()),
            ("PAGER", "cat".to_owned()),
        ];
        Ok(Self { folder, environment })
    }

    /// bash with the line, in the demo's folder. It ends when this process does.
    fn shell(&self, line: &str) -> Result<Command> {
        let mut command = process::guarded("bash", Guard::default())?;
        command.args(["--noprofile", "--norc", "-o", "pipefail", "-e", "-c", line]);
        command.current_dir(self.folder).envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    fn fill(&self) -> Result<()> {
        let script = self.folder.with_file_name("shop.sql");
        fs::write(&script, SHOP)?;
        let mut command = self.shell("createdb shop && psql -X -q shop -f ../shop.sql")?;
        process::run_logged(&mut command, &process::fresh_log("shop")?)
    }

    /// Prints the line as a reader would type it, runs it, and compares its exit status with the expected one.
    fn show(&self, line: &str, expected: i32) -> Result<()> {
        for (number, part) in line.lines().enumerate() {
            println!("{}", bold(&format!("{} {part}", if number == 0 { "$" } else { ">" })));
        }
        let status = process::run_attached(&mut self.shell(line)?)?;
        if status.code() != Some(expected) {
            bail!("the demo's command ended with {status}, where exit status {expected} is right:\n{line}");
        }
        if expected != 0 {
            println!("(exit status {expected}, as it should be)");
        }
        Ok(())
    }

    /// Writes the configuration, with the key that `init` made, and shows it.
    fn configure(&self) -> Result<()> {
        let key = self.folder.join(IDENTITY);
        let text = fs::read_to_string(&key).with_context(|| format!("`lifeboat init` wrote no {}", key.display()))?;
        let recipient = text
            .split_whitespace()
            .find(|word| word.starts_with("age1"))
            .context("the key of `lifeboat init` names no recipient")?;
        let config = format!(
            r#"[sinks.local]
url = "file://{folder}/backups"

[defaults]
sinks = ["local"]
compress = "zstd:3"
encrypt = {{ age = {{ recipients = ["{recipient}"] }} }}
identity = "{IDENTITY}"
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

/// Bold on a terminal, unless colours are disabled.
fn bold(text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !io::stdout().is_terminal() { text.to_owned() } else { format!("\x1b[1m{text}\x1b[0m") }
}

/// Wraps the text to a terminal's width.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            lines.push('\n');
            column = 0;
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_the_terminals_width() {
        let lines = wrapped(&"seven77 ".repeat(25));
        assert!(lines.lines().all(|line| line.len() <= WIDTH && !line.ends_with(' ')));
        assert_eq!(lines.lines().next().unwrap().len(), 79);
    }
}
