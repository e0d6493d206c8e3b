//! The published suites, and the whole grammar over a system from outside.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lifeboat::bytes::Bytes;
use lifeboat::catalog::{self, At};
use lifeboat::{
    ArtifactName, Backup, Dataset, Encryptor, Restore, Status, Target, Verifier, Verify, async_trait, stream,
};
use lifeboat_conformance::{encryptor, sink, source, system, target, verifier};
use outside::notebook::{File, Judge, Notes};
use outside::{Notebook, Shelf, Veil};

fn notes(count: usize) -> String {
    (0..count).map(|n| format!("note-{n}=the {n}th of them\n")).collect()
}

fn artifact(count: usize) -> Bytes {
    format!("{}# end of {count} notes\n", notes(count)).into()
}

fn name() -> ArtifactName {
    "shop-20261121-033000.notes".parse().unwrap()
}

/// A notebook in a folder of its own.
fn written(count: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.txt");
    std::fs::write(&file, notes(count)).unwrap();
    (folder, file)
}

fn judge() -> Judge {
    Judge(Notebook::at("/nowhere/notes.txt"))
}

#[tokio::test]
async fn the_sink_keeps_what_a_sink_promises() {
    sink::all(&Shelf::default()).await;
}

#[tokio::test]
async fn the_encryptor_keeps_what_an_encryptor_promises() {
    let veil = Veil::new([7; 32]);
    encryptor::all(&veil, &veil).await;
    encryptor::what_is_altered_is_an_error(&veil, &veil).await;
    let (stored, other) = (veil.encrypt(stream::once("secret")).unwrap(), Veil::new([8; 32]));
    assert!(stream::collect(other.decrypt(stored).unwrap(), 1 << 20, "x").await.is_err());
}

#[tokio::test]
async fn the_source_keeps_what_a_source_promises() {
    let (_folder, file) = written(50_000);
    source::all(&Notes(file)).await;
}

struct InFolder;

struct Place(tempfile::TempDir);

#[async_trait]
impl target::Fixture for InFolder {
    fn name(&self) -> ArtifactName {
        name()
    }
    fn plaintext(&self) -> Bytes {
        artifact(1000)
    }
    async fn place(&self) -> Box<dyn target::Place> {
        Box::new(Place(tempfile::tempdir().unwrap()))
    }
}

#[async_trait]
impl target::Place for Place {
    fn target(&self, replace: bool) -> Box<dyn Target> {
        Box::new(File { path: self.0.path().join("notes.txt"), replace })
    }
    async fn state(&self) -> String {
        let files = std::fs::read_dir(self.0.path()).unwrap().map(|file| file.unwrap());
        let mut files: Vec<_> = files.map(|f| (f.file_name(), std::fs::read_to_string(f.path()).unwrap())).collect();
        files.sort();
        format!("{files:?}")
    }
    async fn fill(&self) {
        std::fs::write(self.0.path().join("notes.txt"), "somebody=else\n").unwrap();
    }
}

#[tokio::test]
async fn the_target_keeps_what_a_target_promises() {
    target::all(&InFolder).await;
}

struct Judged(Judge);

impl verifier::Fixture for Judged {
    fn verifier(&self) -> &dyn Verifier {
        &self.0
    }
    fn name(&self) -> ArtifactName {
        name()
    }
    fn plaintext(&self) -> Bytes {
        artifact(1000)
    }
    fn altered(&self) -> Vec<(String, Bytes)> {
        let text = String::from_utf8(artifact(1000).to_vec()).unwrap();
        vec![("another value".to_owned(), text.replace("the 7th", "the 8th").into())]
    }
}

#[tokio::test]
async fn the_verifier_keeps_what_a_verifier_promises() {
    verifier::all(&Judged(judge())).await;
}

struct Jobs(PathBuf);

impl system::Fixture for Jobs {
    fn job(&self) -> Option<String> {
        Some(format!("file = {:?}", self.0))
    }
    fn locked(&self) -> Option<String> {
        Some(r#"file = "${OUTSIDE_NOT_SET}""#.to_owned())
    }
}

#[tokio::test]
async fn the_system_keeps_what_a_system_promises() {
    let (_folder, file) = written(100);
    system::all::<Notebook>(&Jobs(file)).await;
}

/// Source, sink, encryptor, verifier and target, none of which Lifeboat knows, in one backup.
#[tokio::test]
async fn a_backup_with_nothing_but_parts_from_outside_is_verified_and_restored() {
    let (folder, file) = written(2000);
    let (sink, veil) = (Arc::new(Shelf::default()), Arc::new(Veil::new([3; 32])));
    let receipt = Backup::new(Notes(file.clone())).encrypt(veil.clone()).to(sink.clone()).run().await.unwrap();
    assert_eq!(receipt.rows, 2000);

    let found = catalog::find(&sink, "", &Dataset::new("shop").unwrap(), &At::Latest).await.unwrap();
    let report = Verify::new(sink.clone(), found.clone(), &judge()).key(veil.clone()).run().await.unwrap();
    assert_eq!(report.status(), Status::Pass, "{report:?}");

    let restored = folder.path().join("restored.txt");
    let target = File { path: restored.clone(), replace: false };
    Restore::new(sink, found).key(veil).into(&target).await.unwrap();
    assert_eq!(std::fs::read(restored).unwrap(), std::fs::read(file).unwrap());
}

/// Runs the program in a folder, and gives what it says.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_outside")).args(arguments).current_dir(folder).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn the_whole_grammar_runs_over_a_system_from_outside() {
    let (folder, file) = written(300);
    let at = folder.path();
    let expect = |arguments: &[&str], status: i32, says: &[&str]| {
        let (code, said) = run(at, arguments);
        assert_eq!(code, status, "{arguments:?}: {said}");
        says.iter().for_each(|text| assert!(said.contains(text), "{arguments:?} does not say {text:?}: {said}"));
    };
    let path = |name: &str| at.join(name).display().to_string();
    let config = format!(
        "[sinks.near]\nurl = \"file://{}\"\n[sinks.far]\nurl = \"file://{}\"\n[defaults]\nsinks = [\"near\"]\nidentity = \
         \"lifeboat-identity.txt\"\n[jobs.shop]\nnotebook = {{ file = {file:?} }}\nencrypt = \"age:RECIPIENT\"\nkeep = \"last=1\"\n",
        path("near"),
        path("far"),
    );
    std::fs::create_dir(at.join("near")).unwrap();
    std::fs::create_dir(at.join("far")).unwrap();

    expect(&["init"], 0, &["lifeboat.toml"]);
    let written = std::fs::read_to_string(at.join("lifeboat.toml")).unwrap();
    let recipient = written.split('"').find(|text| text.starts_with("age1")).expect("init writes a recipient");
    std::fs::write(at.join("lifeboat.toml"), config.replace("RECIPIENT", recipient)).unwrap();

    expect(&["--help"], 0, &["backup", "restore", "verify"]);
    expect(&["check", "--new-sink"], 0, &["marked as a sink", "notes"]);
    expect(&["backup", "shop"], 0, &["shop"]);
    expect(&["list"], 0, &["shop"]);
    expect(&["show", "shop", "--items"], 0, &["notebook", "300"]);
    expect(&["verify"], 0, &["PASS", "restore"]);
    expect(&["verify", "shop", "--level", "live"], 0, &["PASS"]);
    std::fs::write(&file, notes(299)).unwrap();
    expect(&["verify", "shop", "--level", "live"], 1, &["FAIL"]);
    expect(&["restore", "shop", "--help"], 0, &["Replace a file that is there"]);
    expect(&["restore", "shop", "--into", &path("again.txt")], 0, &["300 notes"]);
    assert_eq!(std::fs::read_to_string(at.join("again.txt")).unwrap(), notes(300));
    expect(&["restore", "shop", "--into", &path("again.txt")], 1, &["--replace"]);
    expect(&["restore", "shop", "--into", &path("again.txt"), "--replace"], 0, &["300 notes"]);
    expect(&["replicate", "--from", "near", "--to", "far"], 1, &["--new-sink"]);
    expect(&["replicate", "--from", "near", "--to", "far", "--new-sink"], 0, &["far"]);
    expect(&["backup", "shop"], 0, &["shop"]);
    // The newest that has been verified stays.
    expect(&["prune", "shop", "--dry-run"], 0, &["nothing would be deleted"]);
    expect(&["verify", "shop"], 0, &["PASS"]);
    expect(&["prune", "shop", "--dry-run"], 0, &["1 artifact would be deleted"]);
    expect(&["prune", "shop"], 0, &["1 artifact deleted"]);
    expect(&["completions", "bash"], 0, &["complete"]);
    expect(&["backup", "shop", "--database", "x"], 2, &["--database"]);
}
