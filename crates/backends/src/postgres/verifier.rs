//! The verifier: parses archives, restores them into a scratch server, and compares with the proof.

use std::path::PathBuf;
use std::time::Instant;

use async_trait::async_trait;
use lifeboat_core::words::Noun;
use lifeboat_core::{
    ArtifactName, Check, Context, Error, ErrorKind, Extract, Proof, ProofItem, RestoreInput, Result, Tap, Verifier,
};

use super::collation;
use super::connection::Connection;
use super::content;
use super::format::{AnyRows, AnyTap};
use super::globals::{self, Global};
use super::load::{Dump, Load, encoding_in_text};
use super::needs::{self, Needs};
use super::scratch::Scratch;
use super::script;
use super::script::run::Rules;
use super::session::{Session, quote_literal};
use super::settings::Settings;
use super::sql::GlobalsTap;
use super::target::left_out;
use super::tools::{self, Tools};
use super::unnamed;
use super::verdict;

/// By how many rows a live table may differ without being reported, in percent of the backup's.
const DRIFT_PERCENT: u64 = 20;

/// Options for verifying artifacts.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifierOptions {
    /// The folder for scratch clusters; if `None`, the system's temporary folder.
    pub scratch_folder: Option<PathBuf>,
    /// The live database, for the level `live`.
    pub live: Option<Connection>,
    /// The number of sessions that compare concurrently; 0 means one per core, at most 4.
    pub jobs: usize,
    /// Whether artifacts whose names do not state a format contain a server's roles instead of a database.
    pub globals: bool,
}

lifeboat_core::setters!(VerifierOptions {
    scratch_folder: Option<PathBuf>,
    live: Option<Connection>,
    jobs: usize,
    globals: bool,
});

/// Judges PostgreSQL artifacts: custom archives, plain SQL and globals.
#[derive(Clone, Debug, Default)]
pub struct PostgresVerifier {
    options: VerifierOptions,
}

impl PostgresVerifier {
    /// Creates a verifier.
    pub fn new(options: VerifierOptions) -> Self {
        Self { options }
    }

    fn jobs(&self) -> usize {
        match self.options.jobs {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(4),
            jobs => jobs,
        }
    }
}

#[async_trait]
impl Verifier for PostgresVerifier {
    fn has_content(&self, item: &ProofItem) -> bool {
        // One without a fingerprint was dumped as statements, or in parts that do not fit together.
        item.kind == "table" && item.fingerprint.is_some()
    }

    fn extract(&self, name: &ArtifactName, item: &str, proof: Option<&Proof>) -> Result<Box<dyn Extract>> {
        if super::format_of(name, self.options.globals) == "globals.sql" {
            let why = format!("{item} cannot be read alone: roles and tablespaces are restored together");
            return Err(Error::new(ErrorKind::Unsupported, "read an item of", name.to_string(), why));
        }
        let relation = proof.and_then(|proof| proof.details.get("copy")?.get(item)?.as_str().map(str::to_owned));
        Ok(Box::new(AnyRows::new(item, relation)))
    }

    fn unit(&self, kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn tap(&self, name: &ArtifactName) -> Result<Box<dyn Tap>> {
        match super::format_of(name, self.options.globals) {
            "globals.sql" => Ok(Box::new(GlobalsTap::new())),
            _ => Ok(Box::new(AnyTap::new())),
        }
    }

    async fn restore_test(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        if super::format_of(&input.name, self.options.globals) == "globals.sql" {
            return self.test_globals(input, cx).await;
        }
        let dump = match Dump::open(input.stream).await {
            Ok(dump) => dump,
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                return Ok(verdict::of_error(&error, false).into_iter().collect());
            }
            Err(error) => return Err(error),
        };
        let tools = server_tools(server_major(&dump, input.proof.as_ref())).await?;
        let begun = Instant::now();
        let needs = match &dump {
            Dump::Archive { toc, .. } => Needs::of(toc),
            Dump::Sql { .. } => Needs::default(),
        };
        let scratch = match Scratch::start(&tools, self.options.scratch_folder.as_deref(), &needs, cx).await {
            Ok(scratch) => scratch,
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                let (Dump::Archive { rest, .. } | Dump::Sql { stream: rest, .. }) = dump;
                drain(rest).await;
                return Ok(vec![Check::untested_for("scratch server", &error)]);
            }
        };
        let mut checks = scratch_checks(&scratch, &tools, begun.elapsed());
        let tested = self.test(&scratch, &tools, dump, input.proof.as_ref(), &mut checks, cx).await;
        let last_words = scratch.stop().await;
        verdict::with_last_words(&mut checks, &last_words);
        tested.map(|()| checks)
    }

    async fn live(&self, expected: Option<&Proof>, cx: &Context) -> Result<Vec<Check>> {
        let Some(live) = &self.options.live else {
            return Err(Error::new(ErrorKind::Config, "compare with", "the live database", "no URL was given for it")
                .hint("the job's postgres.url is compared; from flags, give --from"));
        };
        let Some(expected) = expected else {
            return Ok(vec![Check::warn("live", "not compared", "the artifact has no proof: it is foreign")]);
        };
        let session = Session::open(live).await?;
        let mut checks = Vec::new();
        for item in expected.of_kind("role") {
            let sql = format!(
                "SELECT 1 FROM pg_catalog.pg_roles WHERE pg_catalog.quote_ident(rolname) = {0} OR rolname = {0}",
                quote_literal(&item.name)
            );
            if session.value(&sql).await?.is_none() {
                checks.push(Check::warn(format!("role {}", item.name), "gone", "in the backup, and not live"));
            }
        }
        for item in expected.of_kind("table") {
            if cx.cancel.is_cancelled() {
                return Err(Error::cancelled("compare with", live.redacted()));
            }
            let name = format!("table {}", item.name);
            if unnamed::is_unnamed(&item.name) {
                checks.push(Check::warn(name, "not compared", "its name is not UTF-8, and no statement can name it"));
                continue;
            }
            let there = session.value(&format!("SELECT pg_catalog.to_regclass({})", quote_literal(&item.name))).await?;
            if there.is_none() {
                checks.push(Check::warn(
                    name,
                    "gone",
                    format!("{} in the backup, but no such table live", Noun::ROWS.count(item.count)),
                ));
                continue;
            }
            let count = session.value(&format!("SELECT pg_catalog.count(*) FROM ONLY {}", item.name)).await?;
            let count: u64 = count.and_then(|c| c.parse().ok()).unwrap_or_default();
            let drift = count.abs_diff(item.count);
            if drift * 100 > item.count.max(1) * DRIFT_PERCENT {
                checks.push(Check::warn(
                    name,
                    format!("{count} live"),
                    format!("{} in the backup", Noun::ROWS.count(item.count)),
                ));
            }
        }
        let compared = expected.of_kind("table").count() + expected.of_kind("role").count();
        let drifted = checks.len();
        let detail =
            format!("tables whose live row count is within {DRIFT_PERCENT}% of the backup's, and roles that exist");
        checks.push(Check::pass("live", format!("{} of {compared}", compared - drifted), detail));
        Ok(checks)
    }
}

impl PostgresVerifier {
    async fn test(
        &self,
        scratch: &Scratch,
        tools: &Tools,
        dump: Dump,
        proof: Option<&Proof>,
        checks: &mut Vec<Check>,
        cx: &Context,
    ) -> Result<()> {
        let settings = proof.map(Settings::load).unwrap_or_default().or(&dump);
        let encoding = match &dump {
            Dump::Archive { toc, .. } => toc.encoding().map_or_else(|| "UTF8".to_owned(), std::borrow::Cow::into_owned),
            Dump::Sql { start, .. } => encoding_in_text(start).unwrap_or_else(|| "UTF8".to_owned()),
        };
        let (database, note) = scratch.create_database(&encoding, &settings.locale, tools.major).await?;
        let before = collation::versions(&Session::open(&database).await?, tools.major).await;
        let before = collation::difference(&settings.collations, &before);
        let sorted_otherwise = note.is_some() || before.is_some();
        checks.extend(note.map(|note| Check::warn("locale", settings.locale.label(), note)));
        let begun = Instant::now();
        let options: Vec<(String, String)> = settings
            .session
            .iter()
            // Money is read in the locale that it was written in.
            .filter(|(name, value)| *name == "lc_monetary" && !value.is_empty())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let load = |arguments, list| Load {
            connection: &database,
            tools,
            jobs: 1,
            spool_folder: Some(scratch.folder().to_owned()),
            list,
            arguments,
            options: options.clone(),
            confinement: Some(scratch.confinement()),
            cx,
        };
        let restored = match dump {
            Dump::Archive { toc, head, rest } => {
                if let Some(check) = needs::prepare(scratch, &database, &toc).await? {
                    checks.push(check);
                    drain(rest).await;
                    return Ok(());
                }
                let left = needs::leave_out(&toc);
                checks.extend(left.checks);
                let ended = load(vec!["--exit-on-error", "--no-tablespaces"], left.list).archive(head, rest).await;
                ended.map(|ended| match ended.status.success() && !ended.stderr.contains("ERROR:") {
                    true => None,
                    false => Some(verdict::of_program(&ended, sorted_otherwise)),
                })
            }
            Dump::Sql { stream, .. } => {
                let rules = Rules::default();
                script::run::run(stream, &database, rules, cx).await.map(|done| {
                    checks.extend(left_out(&done));
                    None
                })
            }
        };
        let failed = match restored {
            Ok(failed) => failed,
            Err(error) => Some(verdict::of_error(&error, sorted_otherwise).ok_or(error)?),
        };
        if let Some(check) = failed {
            checks.extend(before);
            checks.push(check.took(begun.elapsed()));
            return Ok(());
        }
        let session = Session::open(&database).await?;
        // With those that the dump makes itself.
        checks.extend(collation::difference(&settings.collations, &collation::versions(&session, tools.major).await));
        checks.push(
            Check::pass("restore", "complete", "into the scratch server, without an error").took(begun.elapsed()),
        );
        let begun = Instant::now();
        match proof {
            Some(proof) => {
                let compared = content::compare(&database, proof, true, self.jobs(), cx).await?;
                checks.extend(compared.into_iter().map(|c| c.took(begun.elapsed())));
                checks.extend(extension_check(&session, &settings).await?);
            }
            None => checks.extend(describe_content(&session).await?),
        }
        Ok(())
    }

    async fn test_globals(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        let mut stream = input.stream;
        let mut first = bytes::Bytes::new();
        if let Some(chunk) = futures::StreamExt::next(&mut stream).await {
            match chunk {
                Ok(chunk) => first = chunk,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    return Ok(vec![Check::from_error("restore", &error)]);
                }
                Err(error) => return Err(error),
            }
        }
        let major = version_in_text(&String::from_utf8_lossy(&first[..first.len().min(64 << 10)]));
        let again = futures::stream::iter([Ok(first)]);
        let all = match globals::read(futures::StreamExt::boxed(futures::StreamExt::chain(again, stream))).await {
            Ok(all) => all,
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(vec![Check::from_error("restore", &error)]),
            Err(error) => return Err(error),
        };
        let tools = server_tools(major).await?;
        let begun = Instant::now();
        let folder = self.options.scratch_folder.as_deref();
        let scratch = match Scratch::start(&tools, folder, &Needs::default(), cx).await {
            Ok(scratch) => scratch,
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => return Ok(vec![Check::untested_for("scratch server", &error)]),
        };
        let started = begun.elapsed();
        let begun = Instant::now();
        let tested = async {
            let session = Session::open(scratch.connection()).await?;
            let mut checks = scratch_checks(&scratch, &tools, started);
            let mut done = 0;
            for Global { sql: statement, tablespace } in &all {
                match session.execute(statement).await {
                    Ok(()) => done += 1,
                    // A tablespace is a folder of the source's machine.
                    Err(_) if *tablespace => {
                        let words: Vec<&str> = statement.split_whitespace().take(3).collect();
                        checks.push(Check::warn(
                            "tablespace",
                            words.join(" "),
                            "its folder is not on this machine: not tried",
                        ));
                    }
                    Err(error) => {
                        let words: Vec<&str> = statement.split_whitespace().take(3).collect();
                        let make = if verdict::is_the_machines(&error) { Check::untested } else { Check::fail };
                        checks.push(make("statement", words.join(" "), error.message()));
                    }
                }
            }
            checks.push(
                Check::pass("restore", format!("{done} statements"), "run in a scratch server").took(begun.elapsed()),
            );
            if let Some(proof) = &input.proof {
                let there = session.rows("SELECT pg_catalog.quote_ident(rolname) FROM pg_catalog.pg_roles").await?;
                let there: Vec<String> = there.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect();
                let missing: Vec<&str> = proof
                    .of_kind("role")
                    .map(|i| &*i.name)
                    .filter(|n| !there.iter().any(|t| t.trim_matches('"') == n.trim_matches('"')))
                    .collect();
                let count = proof.of_kind("role").count();
                checks.push(match missing.is_empty() {
                    true => Check::pass("content: role", count.to_string(), "every role of the backup is there"),
                    false => Check::fail("content: role", format!("{} missing", missing.len()), missing.join(", ")),
                });
            }
            Ok(checks)
        };
        let tested = tested.await;
        scratch.stop().await;
        tested
    }
}

/// Reads the rest, so that earlier stages can tell whether the stream is complete.
async fn drain(mut rest: lifeboat_core::ByteStream) {
    // What is wrong with it is told by the checks of `stored` and `structure`.
    while let Some(Ok(_)) = futures::StreamExt::next(&mut rest).await {}
}

/// The check for a scratch server.
fn scratch_checks(scratch: &Scratch, tools: &Tools, started: std::time::Duration) -> Vec<Check> {
    let confined = scratch.confinement().is_without_network();
    let detail = match confined {
        true => "its own cluster, without network, deleted afterwards",
        false => "its own cluster, deleted afterwards",
    };
    let mut checks = vec![Check::pass("scratch server", format!("PostgreSQL {}", tools.version), detail).took(started)];
    if !confined {
        checks.push(Check::warn(
            "network",
            "not cut off",
            "code that the dump runs in the scratch server could reach the network: neither this user nor root can create a network namespace here, or unshare (util-linux) is missing",
        ));
    }
    checks
}

async fn server_tools(major: Option<u32>) -> Result<Tools> {
    match major {
        Some(major) => tools::exactly("initdb", major).await,
        // A foreign dump that does not say: the newest server reads them all.
        None => {
            tools::newest("initdb").await.ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "find", "initdb", "there is no PostgreSQL server here to restore into")
                    .hint("install it (Debian: postgresql), or name its folder in LIFEBOAT_PG_BIN; --level structure needs none")
            })
        }
    }
}

fn server_major(dump: &Dump, proof: Option<&Proof>) -> Option<u32> {
    let text = match dump {
        Dump::Archive { toc, .. } => String::from_utf8_lossy(&toc.header.server_version).into_owned(),
        Dump::Sql { start, .. } => return version_in_text(&String::from_utf8_lossy(start)),
    };
    let recorded = proof.and_then(|p| p.details.get("server_version")).and_then(|v| v.as_str()).unwrap_or(&text);
    leading_number(recorded)
}

/// pg_dump and pg_dumpall write `-- Dumped from database version 15.18 (Debian …)`.
fn version_in_text(text: &str) -> Option<u32> {
    text.lines().find_map(|l| l.strip_prefix("-- Dumped from database version ")).and_then(leading_number)
}

fn leading_number(text: &str) -> Option<u32> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

async fn extension_check(session: &Session, settings: &Settings) -> Result<Option<Check>> {
    if settings.extensions.is_empty() {
        return Ok(None);
    }
    let mut other = Vec::new();
    for row in session.rows("SELECT extname, extversion FROM pg_catalog.pg_extension").await? {
        if let [Some(name), Some(version)] = &row[..]
            && let Some(recorded) = settings.extensions.get(name).filter(|r| *r != version)
        {
            other.push(format!("{name} {version} here, {recorded} at the source"));
        }
    }
    let count = settings.extensions.len().to_string();
    Ok(Some(match other.is_empty() {
        true => Check::pass("extensions", count, "in the source's versions"),
        false => Check::warn("extensions", count, other.join("; ")),
    }))
}

/// The result of restoring a foreign artifact: tables and rows, as the scripts that wrote it would report.
async fn describe_content(session: &Session) -> Result<Vec<Check>> {
    let from = "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'";
    let tables = unnamed::counted(session, "", from).await?;
    let rows: u64 = tables.iter().map(|(_, count)| count).sum();
    let figure = format!("{} ({})", tables.len(), Noun::ROWS.count(rows));
    Ok(vec![match tables.is_empty() {
        true => Check::warn("tables", "0", "the restored database has no tables: is this the right one?"),
        false => Check::pass("tables", figure, "restored; there is no proof to compare with: the artifact is foreign"),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuzzers_corpus_is_parsed_however_it_is_cut() {
        let verifier = PostgresVerifier::default();
        for (file, name, kind) in
            [("plain", "a-20261121-033000.sql", "table"), ("globals", "a-20261121-033000.globals.sql", "role")]
        {
            let path = format!("{}/../../fuzz/corpus/dump/{file}", env!("CARGO_MANIFEST_DIR"));
            let input = std::fs::read(path).unwrap();
            for size in [1, 3, usize::from(input[0]), input.len()] {
                let mut tap = verifier.tap(&name.parse().unwrap()).unwrap();
                for chunk in input[1..].chunks(size) {
                    tap.push(chunk).unwrap();
                }
                let proof = tap.finish().unwrap();
                assert!(proof.of_kind(kind).count() > 0, "{file} in chunks of {size}");
            }
        }
    }

    #[test]
    fn versions_are_read_from_the_text_of_a_dump() {
        assert_eq!(version_in_text("--\n-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(version_in_text("-- Dumped from database version 9.6.24"), Some(9));
        assert_eq!(version_in_text("SELECT 1;"), None);
    }
}
