//! A system of one's own: a file of notes, one `key=value` in each line. Its artifacts are the notes in order, each line as it is,
//! and a last line `# end of N notes`, by which a short one is told.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use lifeboat::cli::{Commands, NoVerbs};
use lifeboat::{
    ArtifactName, Check, Context, Dataset, Description, Error, ErrorKind, Fingerprint, Level, Manifest, NamedTarget,
    Opening, Proof, ProofItem, Reading, RestoreInput, Result, Setting, Source, System, Tap, Target, Verifier,
    async_trait, setting, stream,
};
use serde::Deserialize;

/// The format in the names of artifacts.
const FORMAT: &str = "notes";
/// The largest notebook, in bytes: it is read whole.
const LARGEST: usize = 256 << 20;

/// The table of a job, and the flags of `backup`.
#[derive(Args, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The file of notes
    #[serde(deserialize_with = "setting::required")]
    #[arg(long = "from", value_name = "PATH", env = "OUTSIDE_FROM")]
    file: Option<Setting>,
}

/// The options of a restore.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestoreOptions {
    /// Replace a file that is there
    #[arg(long)]
    replace: bool,
}

/// The options of a verification: none.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyOptions {}

/// Notes, with the settings of a job.
#[derive(Clone, Debug)]
pub struct Notebook(Option<Setting>);

impl Notebook {
    /// The notes in a file.
    pub fn at(path: impl Into<String>) -> Self {
        Self(Some(Setting::new(path, "the file", ".")))
    }

    fn path(&self) -> Result<PathBuf> {
        let missing =
            || Error::new(ErrorKind::Config, "find", "the notes", "no file was given").hint("give --from PATH");
        self.0.as_ref().ok_or_else(missing)?.path()
    }
}

#[async_trait]
impl System for Notebook {
    const NAME: &'static str = "notebook";
    const TITLE: &'static str = "Notebook";
    const ABOUT: &'static str = "Backs up a file of notes, and proves that each backup is good";
    const EXAMPLE: &'static str = "notebook = { file = \"/home/ann/notes.txt\" }";

    type Settings = Settings;
    type Restore = RestoreOptions;
    type Verify = VerifyOptions;

    fn open(settings: Settings, _: &Opening<'_>) -> Result<Self> {
        Ok(Self(settings.file))
    }

    fn dataset(&self) -> Result<Option<Dataset>> {
        let Some(file) = &self.0 else { return Ok(None) };
        file.path()?.file_stem().map(|stem| Dataset::new(stem.to_string_lossy())).transpose()
    }

    async fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(Notes(self.path()?)))
    }

    async fn target(&self, into: &Setting, choices: RestoreOptions, _: &Dataset) -> Result<NamedTarget> {
        let path = into.path()?;
        let name = path.display().to_string();
        Ok(NamedTarget::new(File { path, replace: choices.replace }, name).replaces(choices.replace))
    }

    async fn verifier(&self, _: Level, _: VerifyOptions) -> Result<Box<dyn Verifier>> {
        Ok(Box::new(Judge(self.clone())))
    }

    async fn check(&self) -> Vec<Check> {
        vec![match self.path().and_then(|path| read(&path)) {
            Ok(notes) => Check::pass("notes", notes.lines().count().to_string(), ""),
            Err(error) => Check::from_error("notes", &error),
        }]
    }

    fn stock_restore(&self, _: &ArtifactName, _: Option<&Manifest>) -> String {
        "grep -v '^# end of' > notes.txt".to_owned()
    }
}

impl Commands for Notebook {
    type Verbs = NoVerbs;
}

/// The notes, each a line that ends.
fn read(path: &Path) -> Result<String> {
    let subject = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", &subject, e))?;
    match text.lines().find(|line| !is_note(line)) {
        Some(line) => Err(Error::new(ErrorKind::Corrupt, "read", subject, format!("{line:?} is not key=value"))),
        None if text.is_empty() || text.ends_with('\n') => Ok(text),
        None => Ok(text + "\n"),
    }
}

fn is_note(line: &str) -> bool {
    line.contains('=') && !line.starts_with('#')
}

/// The file of a job.
pub struct Notes(pub PathBuf);

#[async_trait]
impl Source for Notes {
    async fn describe(&self) -> Result<Description> {
        read(&self.0)?;
        let dataset = self.0.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Description::new(Notebook::NAME, FORMAT).dataset(dataset))
    }

    async fn open(&self, _: &Context) -> Result<Reading> {
        let notes = read(&self.0)?;
        let end = format!("# end of {} notes\n", notes.lines().count());
        Ok(Reading::new(stream::once(notes + &end), Box::new(NotesTap::default())))
    }
}

/// Parses an artifact, and takes its proof.
#[derive(Default)]
struct NotesTap {
    held: Vec<u8>,
    count: u64,
    bytes: u64,
    fingerprint: Fingerprint,
    ended: bool,
}

impl NotesTap {
    fn line(&mut self, line: &[u8]) -> Result<()> {
        let line = std::str::from_utf8(line).map_err(|_| corrupt("a line is no text"))?;
        if self.ended {
            return Err(corrupt("there is more after the end"));
        }
        if line == format!("# end of {} notes", self.count) {
            self.ended = true;
            return Ok(());
        }
        if !is_note(line) {
            return Err(corrupt("a line is not key=value"));
        }
        self.count += 1;
        self.bytes += line.len() as u64 + 1;
        self.fingerprint.add(line.as_bytes());
        Ok(())
    }
}

fn corrupt(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "read", "the notes", why)
}

impl Tap for NotesTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.held.extend_from_slice(chunk);
        let mut lines = std::mem::take(&mut self.held);
        let whole = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.held = lines.split_off(whole);
        lines.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| self.line(&line[..line.len() - 1]))
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        if !self.ended || !self.held.is_empty() {
            return Err(corrupt("the last line is missing"));
        }
        let item = ProofItem::new("notebook", "notes", self.count).bytes(self.bytes).fingerprint(self.fingerprint);
        Ok(Proof::new([item]))
    }

    fn units_done(&self) -> u64 {
        self.count
    }

    fn units(&self) -> &'static str {
        "notes"
    }
}

/// Reads an artifact to its end: its notes, and their proof.
async fn take(input: RestoreInput) -> Result<(String, Proof)> {
    let text = stream::collect(input.stream, LARGEST, "the notes").await?;
    let mut tap = Box::new(NotesTap::default());
    tap.push(&text)?;
    let proof = tap.finish()?;
    let text = String::from_utf8(text.to_vec()).map_err(|_| corrupt("it is no text"))?;
    let end = text.rfind("# end of").unwrap_or(text.len());
    Ok((text[..end].to_owned(), proof))
}

/// A file that notes are restored into.
pub struct File {
    /// Which.
    pub path: PathBuf,
    /// Whether one that is there is replaced.
    pub replace: bool,
}

#[async_trait]
impl Target for File {
    async fn restore(&self, input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        let subject = self.path.display().to_string();
        if self.path.exists() && !self.replace {
            let error = Error::new(ErrorKind::Refused, "restore into", subject, "there is a file already");
            return Err(error.hint("choose another place, or replace it with --replace"));
        }
        let (notes, proof) = take(input).await?;
        let failed = |e| Error::io("write", &subject, e);
        let beside = self.path.with_extension("restored");
        let written = std::fs::File::create_new(&beside)
            .and_then(|mut file| file.write_all(notes.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&beside, &self.path));
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        written.map_err(failed)?;
        Ok(vec![Check::pass("restored", format!("{} notes", proof.total_count()), "")])
    }
}

/// Judges artifacts.
pub struct Judge(pub Notebook);

#[async_trait]
impl Verifier for Judge {
    fn tap(&self, name: &ArtifactName) -> Result<Box<dyn Tap>> {
        if name.format == FORMAT {
            return Ok(Box::new(NotesTap::default()));
        }
        Err(Error::new(ErrorKind::Unsupported, "parse", name.to_string(), "these are no notes"))
    }

    async fn restore_test(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        let expected = input.proof.clone();
        // The test holds nothing: to end it, it is dropped.
        let taken = tokio::select! {
            taken = take(input) => taken,
            () = cx.cancel.cancelled() => Err(Error::cancelled("restore", "the notes")),
        };
        Ok(match taken {
            Err(error) => vec![Check::from_error("restore", &error)],
            Ok((_, found)) => {
                let mut checks = vec![Check::pass("restore", format!("{} notes", found.total_count()), "")];
                checks.extend(expected.iter().flat_map(|expected| expected.compare(&found)));
                checks
            }
        })
    }

    async fn live(&self, expected: Option<&Proof>, cx: &Context) -> Result<Vec<Check>> {
        let Some(expected) = expected else {
            return Err(Error::new(ErrorKind::Unsupported, "compare", "the notes", "the backup has no proof"));
        };
        let mut reading = Notes(self.0.path()?).open(cx).await?;
        reading.tap.push(&stream::collect(reading.stream, LARGEST, "the notes").await?)?;
        Ok(expected.compare(&reading.tap.finish()?))
    }
}
