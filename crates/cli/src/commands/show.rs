//! `show`: what is known about an artifact, and how to restore it without Lifeboat.

use lifeboat_config::{Encryption, Job};
use lifeboat_core::catalog::{self, Amount, Artifact, At};
use lifeboat_core::manifest::{Manifest, Private, PrivatePart};
use lifeboat_core::name::split_key;
use lifeboat_core::report::human_bytes;
use lifeboat_core::{ArtifactName, Error, ErrorKind, Result, Sink, history};
use serde_json::json;

use super::list::Row;
use super::place;
use crate::arguments::ShowArgs;
use crate::exit::{Exit, no_artifact};
use crate::jobs::Jobs;
use crate::output::report::{old, size, time};
use crate::output::table::Table;
use crate::output::wrap::pipeline;
use crate::session::Session;

/// Whether the word names an artifact and not a job.
pub(crate) fn is_key(what: &str) -> bool {
    ArtifactName::parse(split_key(what).1).is_some()
}

/// The job that a key belongs to.
///
/// # Errors
/// An artifact that no job has.
pub(crate) fn job_of_key(jobs: Jobs, key: &str) -> Result<(Job, At)> {
    let (folder, name) = split_key(key);
    let artifact = ArtifactName::parse(name);
    let claims = |job: &Job| artifact.as_ref().is_some_and(|name| job.claims(name));
    let dataset = artifact.as_ref().map(|n| n.dataset.clone());
    let mut fitting: Vec<Job> = jobs.into_iter().filter_map(|(_, job)| job.ok()).filter(claims).collect();
    // A job of this very dataset goes before one of many.
    fitting.sort_by_key(|job| job.dataset.is_none());
    let exact = fitting.iter().position(|job| job.prefix == folder).unwrap_or(0);
    if fitting.is_empty() {
        let whose = dataset.map_or_else(|| key.to_owned(), |d| d.to_string());
        let error = no_artifact(&whose, "no job has that dataset");
        return Err(error.hint("`lifeboat list` shows the artifacts of all jobs"));
    }
    let mut job = fitting.swap_remove(exact);
    if !folder.is_empty() {
        job.prefix = folder.to_owned();
    }
    Ok((job, At::Key(key.to_owned())))
}

/// Shows one artifact of a job, or one item of it.
pub(crate) async fn run(session: &Session, job: &Job, at: &At, args: &ShowArgs) -> Result<Exit> {
    match &args.item {
        Some(item) => super::item::run(session, job, at, item).await,
        None => artifact(session, job, at, args.items).await,
    }
}

async fn artifact(session: &Session, job: &Job, at: &At, items: bool) -> Result<Exit> {
    session.begin("show", &job.name)?;
    let store = job.store()?;
    let artifact = match catalog::find(&store.sink, &job.prefix, job.dataset()?, at).await {
        Ok(artifact) => artifact,
        Err(error) => {
            if let (ErrorKind::NoArtifact, At::Key(key)) = (error.kind(), at) {
                tell_of_what_is_gone(session, job, &*store.sink, key).await?;
            }
            return Err(place::explain(error, job, store).await);
        }
    };
    let manifest = artifact.read_manifest(&*store.sink).await?;
    let private = match &manifest {
        Some(manifest) => open_private(session, job, manifest, items).await?,
        None if items => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "list what is in",
                artifact.key(),
                "it is foreign and has no manifest",
            )
            .hint("`lifeboat verify --level structure` reads and counts it"));
        }
        None => None,
    };
    let line = restore_line(job, &*store.sink, &artifact, manifest.as_ref());
    let caution = job.system.stock_caution(&artifact.name, manifest.as_ref());
    let mut row = Row::of(&artifact, &store.name);
    let mut unread = Vec::new();
    for other in job.stores.iter().skip(1) {
        match catalog::find(&other.sink, &job.prefix, job.dataset()?, &At::Key(artifact.key())).await {
            Ok(copy) => row.merge(Row::of(&copy, &other.name)),
            Err(error) if error.kind() == ErrorKind::NoArtifact => unread.push((&other.name, "not there".to_owned())),
            Err(error) => unread.push((&other.name, error.to_string())),
        }
    }
    if session.output.is_json() {
        let mut value = json!(row);
        value["manifest"] = json!(manifest);
        value["restore_command"] = line.into();
        if let Some(caution) = caution {
            value["restore_caution"] = caution.into();
        }
        value["verifications"] = artifact
            .verifications
            .iter()
            .map(|v| json!({ "at": v.at, "level": v.level, "passed": v.passed }))
            .collect();
        if items {
            value["items"] = json!(private.map(|p| p.proof.items));
        }
        session.output.result(&value);
        return Ok(Exit::Good);
    }
    print(session, job, &artifact, &row, manifest.as_ref(), private.as_ref());
    for (sink, why) in unread {
        session.output.field("also in", &format!("{sink}: {why}"));
    }
    if let (true, Some(private)) = (items, &private) {
        print_items(session, private);
    }
    session.output.line("\nTo restore it without Lifeboat:\n");
    session.output.as_it_is(format!("  {}", pipeline(&line, session.output.columns())));
    if let Some(caution) = caution {
        session.output.line(format!("\n{caution}"));
    }
    Ok(Exit::Good)
}

/// What the history knows of an artifact that is not there: who made, verified and deleted it.
async fn tell_of_what_is_gone(session: &Session, job: &Job, sink: &dyn Sink, key: &str) -> Result<()> {
    let Some(name) = ArtifactName::parse(split_key(key).1) else { return Ok(()) };
    let runs = history::of_artifact(sink, &job.prefix, &name).await?;
    if runs.is_empty() {
        return Ok(());
    }
    let output = &session.output;
    output.line(format!("{key} is not there. Its history:\n"));
    let mut table = Table::new(["AT", "RUN", "OUTCOME", "WHAT"]);
    for run in &runs {
        let deleted = run.deleted.iter().flatten().find(|deleted| deleted.artifact == name.to_string());
        let what = match (deleted, run.level) {
            (Some(deleted), _) if deleted.verified.is_empty() => "deleted it; it was never verified".to_owned(),
            (Some(deleted), _) => format!("deleted it; verified: {}", deleted.verified.join(", ")),
            (None, Some(level)) => format!("level {level}"),
            (None, None) => run.error.as_ref().map(|error| error.message.clone()).unwrap_or_default(),
        };
        table.row([time(run.finished_at), run.verb.to_string(), run.outcome.to_string(), what]);
    }
    output.table(table, 2);
    output.result(&json!({ "key": key, "gone": true, "history": runs }));
    Ok(())
}

/// The private part, if there is a key here. A missing key is an error when the items were asked for.
async fn open_private(session: &Session, job: &Job, manifest: &Manifest, needed: bool) -> Result<Option<Private>> {
    if let PrivatePart::Open(private) = &manifest.private {
        return Ok(Some((**private).clone()));
    }
    let opened = match job.keys() {
        Ok(keys) => manifest.private(&keys).await,
        Err(error) => Err(error),
    };
    match opened {
        Ok(private) => Ok(Some(private)),
        Err(error) if needed => Err(error),
        Err(error) => {
            tracing::debug!(%error, "the private part stays closed");
            if !job.identities.is_empty() {
                session.output.note(&format!("the contents cannot be listed: {error}"));
            }
            Ok(None)
        }
    }
}

fn print(
    session: &Session,
    job: &Job,
    artifact: &Artifact,
    row: &Row,
    manifest: Option<&Manifest>,
    private: Option<&Private>,
) {
    let now = session.context.now();
    let line = |name: &str, value: String| session.output.field(name, &value);
    line("key", row.key.clone());
    line("dataset", row.dataset.to_string());
    line("taken at", format!("{} ({})", time(row.taken_at), old(row.taken_at, now)));
    for (at, held) in row.copies.iter().enumerate() {
        if at == 0 {
            line("stored", size(artifact.bytes()));
            line("sink", held.sink.clone());
            line("verified", held.verified(now));
        } else {
            line("also in", format!("{}: {}, verified: {}", held.sink, held.kind(), held.verified(now)));
        }
    }
    if let Some(amount) = artifact.less() {
        line(
            "holds",
            format!("{}: {}", amount.in_words(job.system.unit("").unwrap_or_default()), less_in_words(amount)),
        );
    }
    let Some(manifest) = manifest else {
        line("kind", "foreign: it has no manifest; Lifeboat did not write it".to_owned());
        line("format", artifact.name.format_or("the job's: its name does not say it").to_owned());
        line("compression", artifact.name.compression.clone().unwrap_or_else(|| "none by its name".to_owned()));
        line("encryption", artifact.name.encryption.clone().unwrap_or_else(|| "none by its name".to_owned()));
        return;
    };
    line("kind", artifact.kind.as_str().to_owned());
    line("finished at", time(manifest.finished_at));
    line("plaintext", size(manifest.plaintext_bytes));
    line("format", manifest.source.format.clone());
    line("compression", manifest.compression.clone());
    line(
        "encryption",
        match &manifest.encryption {
            None => "none".to_owned(),
            Some(note) if note.recipients.is_empty() => format!("{} with a passphrase", note.scheme),
            Some(note) => format!("{} to {}", note.scheme, note.recipients.join(", ")),
        },
    );
    line("system", {
        let source = &manifest.source;
        let parts = [source.server_version.as_deref(), source.tool.as_deref()];
        let known: Vec<&str> = parts.into_iter().flatten().collect();
        if known.is_empty() { source.system.clone() } else { format!("{} ({})", source.system, known.join(", ")) }
    });
    for (name, value) in &manifest.source.facts {
        line(name, value.clone());
    }
    line("written by", manifest.written_by.clone());
    for object in &manifest.objects {
        line("sha256", format!("{}  {}", object.sha256, object.name));
    }
    line(
        "content",
        match private {
            Some(private) => private.proof.in_words(|kind| job.system.unit(kind)).join(", "),
            None => "sealed: give the key to see it".to_owned(),
        },
    );
}

fn less_in_words(amount: Amount) -> &'static str {
    if amount.is_empty() {
        "empty; retention keeps a fuller one"
    } else {
        "much less than before; retention keeps a fuller one"
    }
}

fn print_items(session: &Session, private: &Private) {
    let mut table = Table::new(["KIND", "COUNT", "SIZE", "FINGERPRINT", "NAME"]).right(1).right(2);
    for item in &private.proof.items {
        table.row([
            item.kind.clone(),
            item.count.to_string(),
            human_bytes(item.bytes),
            item.fingerprint.map(|f| f.to_string()).or_else(|| item.value.clone()).unwrap_or_else(|| "-".to_owned()),
            item.shown().into_owned(),
        ]);
    }
    session.output.line("");
    session.output.table(table, 0);
}

/// The shell line that restores the artifact with stock tools: the suffixes of its name in reverse.
fn restore_line(job: &Job, sink: &dyn Sink, artifact: &Artifact, manifest: Option<&Manifest>) -> String {
    let reads: Vec<String> = artifact.objects.iter().map(|o| sink.read_command(&o.key)).collect();
    let read = match &reads[..] {
        [one] => one.clone(),
        // Volumes are joined.
        many => format!("{{ {}; }}", many.join("; ")),
    };
    let mut steps = vec![read];
    match artifact.name.encryption.as_deref() {
        Some("age") => {
            let by_passphrase =
                manifest.and_then(|m| m.encryption.as_ref()).is_some_and(|note| note.recipients.is_empty());
            steps.push(if by_passphrase { "age -d".to_owned() } else { format!("age -d -i {}", identity(job)) });
        }
        Some("enc") => steps.push(format!(
            "openssl enc -d -aes-256-cbc -pbkdf2 -iter 100000 -pass env:{}",
            passphrase_variable(job).unwrap_or("PASSPHRASE")
        )),
        _ => {}
    }
    match artifact.name.compression.as_deref() {
        Some("zst") => steps.push("zstd -d".to_owned()),
        Some("gz") => steps.push("gzip -d".to_owned()),
        _ => {}
    }
    steps.push(job.system.stock_restore(&artifact.name, manifest));
    steps.join(" | ")
}

/// The identity's file, where one is configured.
fn identity(job: &Job) -> String {
    let file =
        job.identities.iter().find(|i| !i.raw().starts_with("openssl:") && !i.raw().starts_with("age-passphrase:"));
    match file.and_then(|f| f.path().ok()) {
        Some(path) => quote(&path.display().to_string()),
        None => "KEY".to_owned(),
    }
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The variable that holds the passphrase, where it is in one.
fn passphrase_variable(job: &Job) -> Option<&str> {
    let named = job.identities.iter().find_map(|i| i.raw().strip_prefix("openssl:env:"));
    named.or(match &job.encrypt {
        Some(Encryption::OpenSsl(place)) => place.raw().strip_prefix("${")?.strip_suffix('}'),
        _ => None,
    })
}
