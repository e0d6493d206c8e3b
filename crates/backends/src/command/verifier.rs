//! The verifier: compares the content with its hash, and pipes it to the verify command.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use async_trait::async_trait;
use futures::StreamExt;
use lifeboat_core::process::{Ended, words};
use lifeboat_core::proof::WholeStream;
use lifeboat_core::words::Noun;
use lifeboat_core::{
    ArtifactName, ByteStream, Check, Context, Error, ErrorKind, Extract, Proof, ProofItem, RestoreInput, Result, Tap,
    Verifier,
};
use tempfile::TempDir;

use super::ITEM;
use super::process::{Fed, Role, difference, feed, prepare};
use super::system::{CommandSettings, VerifyOptions};

/// The check of the verify command.
const VERIFY: &str = "verify command";

/// Judges backups of command output.
#[derive(Clone, Debug)]
pub struct CommandVerifier {
    settings: CommandSettings,
    scratch_folder: Option<PathBuf>,
}

impl CommandVerifier {
    /// Creates a verifier that runs the verify command of `settings`. Nothing is looked up yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for settings that cannot be combined.
    pub fn new(settings: CommandSettings, options: VerifyOptions) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings, scratch_folder: options.scratch_folder })
    }

    async fn run(&self, stream: &mut ByteStream, proof: Option<&Proof>, cx: &Context) -> Result<Vec<Check>> {
        let begun = Instant::now();
        let prepared = prepare(&self.settings, Role::Verify)?;
        let scratch = self.scratch()?;
        // Declared after the folder, so that a killed command is gone before its folder is removed.
        let process = prepared.in_folder(scratch.path()).start_writing(cx)?;
        let fed = feed(process, stream, proof, false).await;
        let removed = remove(scratch).await;
        let check = match fed {
            Ok(Fed::Ended { ended, whole }) => judged(&ended, whole),
            Ok(Fed::Differs(why)) => Check::fail(VERIFY, "content differs", format!("{why}; it was killed")),
            Ok(Fed::Broken(error)) => broken(error)?,
            // It exceeded its time limit. Whether the artifact is good is still checked.
            Err(error) if error.kind() == ErrorKind::Tool => {
                drain(stream, cx).await?;
                Check::from_error(VERIFY, &error)
            }
            Err(error) => return Err(error),
        };
        Ok([check.took(begun.elapsed())].into_iter().chain(removed).collect())
    }

    fn scratch(&self) -> Result<TempDir> {
        let within = self.scratch_folder.clone().unwrap_or_else(std::env::temp_dir);
        let mut builder = tempfile::Builder::new();
        builder.prefix("lifeboat-verify-").permissions(Permissions::from_mode(0o700));
        builder.tempdir_in(&within).map_err(|e| Error::io("make a scratch folder in", within.display().to_string(), e))
    }
}

#[async_trait]
impl Verifier for CommandVerifier {
    fn unit(&self, kind: &str) -> Option<Noun> {
        super::unit(kind)
    }

    fn has_content(&self, _: &ProofItem) -> bool {
        true
    }

    fn extract(&self, name: &ArtifactName, item: &str, _: Option<&Proof>) -> Result<Box<dyn Extract>> {
        lifeboat_core::extract::find(&[ProofItem::new("stream", ITEM, 1)], item, &name.to_string())?;
        Ok(Box::new(WholeStream::new(ITEM)))
    }

    fn tap(&self, _: &ArtifactName) -> Result<Box<dyn Tap>> {
        Ok(Box::new(WholeStream::new(ITEM)))
    }

    async fn restore_test(&self, mut input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        let (stream, proof) = (&mut input.stream, input.proof.as_ref());
        if !self.settings.verify.is_empty() {
            return self.run(stream, proof, cx).await;
        }
        let mut tap = Box::new(WholeStream::new(ITEM));
        while let Some(item) = next(stream, cx).await? {
            match item {
                Ok(chunk) => tap.push(&chunk)?,
                Err(error) => return broken(error).map(|check| vec![check]),
            }
        }
        if let Some(why) = difference(tap, proof)? {
            return Ok(vec![Check::fail("content", "differs", why)]);
        }
        let proven = match proof {
            Some(_) => "the content hash was compared; nothing was restored",
            None => "it was read to its end; nothing was restored",
        };
        let detail = format!("no verify command is configured: {proven}");
        Ok(vec![Check::warn("restore", "not tested", detail)])
    }

    async fn live(&self, _: Option<&Proof>, _: &Context) -> Result<Vec<Check>> {
        let why = "a command's current output is not compared with its earlier output";
        Err(Error::new(ErrorKind::Unsupported, "verify", "the level live", why)
            .hint("use the level restore, with a verify command that knows what to expect"))
    }
}

async fn next(stream: &mut ByteStream, cx: &Context) -> Result<Option<Result<bytes::Bytes>>> {
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => Err(Error::cancelled("verify", "the artifact")),
        item = stream.next() => Ok(item),
    }
}

/// Reads the rest of the stream, which earlier stages check.
async fn drain(stream: &mut ByteStream, cx: &Context) -> Result<()> {
    while let Some(Ok(_)) = next(stream, cx).await? {}
    Ok(())
}

/// The check of a command that has ended.
fn judged(ended: &Ended, whole: bool) -> Check {
    let mut detail = Vec::new();
    if !whole {
        detail.push("it did not read everything".to_owned());
    }
    for (from, text) in [("it printed", &ended.stdout), ("it said", &ended.stderr)] {
        let said = words(text, &ended.name);
        if !said.is_empty() {
            detail.push(format!("{from}: {said}"));
        }
    }
    if detail.is_empty() {
        detail.push("it printed nothing".to_owned());
    }
    let detail = format!("{}: {}", ended.name, detail.join("; "));
    match ended.is_good() {
        true => Check::pass(VERIFY, ended.how(), detail),
        false => Check::fail(VERIFY, ended.how(), detail),
    }
}

/// The check for content that could not be read to its end because of the artifact itself.
fn broken(error: Error) -> Result<Check> {
    use ErrorKind as K;
    let is_of_artifact = matches!(error.kind(), K::Corrupt | K::Mismatch | K::Unsupported) && !error.is_transient();
    if !is_of_artifact {
        return Err(error);
    }
    Ok(Check::fail(VERIFY, error.kind().as_str(), format!("the content ends before its end: {error}")))
}

/// Removes the scratch folder, which may be large. Returns a warning if it stays.
async fn remove(scratch: TempDir) -> Option<Check> {
    let path = scratch.path().to_owned();
    let removed = tokio::task::spawn_blocking(|| scratch.close()).await;
    let why = match removed {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Some(Check::warn("scratch folder", "stays", format!("{} could not be removed: {why}", path.display())))
}
