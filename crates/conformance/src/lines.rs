//! A minimal system for tests of code that uses targets and verifiers, and as an example of both: a table of keys and
//! values. Its format is lines `key=value`, followed by a line `end`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use lifeboat_core::extract::Out;
use lifeboat_core::{
    ArtifactName, ByteStream, Check, Context, Error, ErrorKind, Extract, Fingerprint, Proof, ProofItem, RestoreInput,
    Result, Tap, Target, Verifier, async_trait,
};

/// The name of the format in artifact names.
pub const FORMAT: &str = "lines";
/// The name of the table in proofs.
const ITEM: &str = "lines";

/// The content of a table.
pub type Content = BTreeMap<String, String>;

/// Parses the format.
#[derive(Debug, Default)]
pub struct LinesTap {
    rest: Vec<u8>,
    content: Content,
    ended: bool,
}

impl LinesTap {
    fn line(&mut self, line: &[u8]) -> Result<()> {
        let corrupt = |why: &str| Err(Error::new(ErrorKind::Corrupt, "read", "the lines", why));
        if self.ended {
            return corrupt("there is more after the end");
        }
        match std::str::from_utf8(line).ok().map(|line| (line, line.split_once('='))) {
            Some(("end", _)) => self.ended = true,
            Some((_, Some((key, value)))) => drop(self.content.insert(key.to_owned(), value.to_owned())),
            _ => return corrupt("a line is not key=value"),
        }
        Ok(())
    }

    fn content(self) -> Result<Content> {
        if !self.ended || !self.rest.is_empty() {
            return Err(Error::new(ErrorKind::Corrupt, "read", "the lines", "the last line is missing"));
        }
        Ok(self.content)
    }
}

impl LinesTap {
    /// Takes the next bytes, and shows each line that is complete, with its end.
    fn look(&mut self, chunk: &[u8], each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.rest.extend_from_slice(chunk);
        while let Some(at) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=at).collect();
            self.line(&line[..at])?;
            if !self.ended {
                each(&line)?;
            }
        }
        Ok(())
    }
}

/// Gives out the lines of the table, without the one that says that it ends.
#[derive(Debug, Default)]
pub struct LinesItem(LinesTap);

impl Extract for LinesItem {
    fn form(&self) -> String {
        "lines key=value".to_owned()
    }

    fn take(&mut self, chunk: &[u8], out: &mut Out<'_>) -> Result<()> {
        self.0.look(chunk, out)
    }

    fn end(self: Box<Self>, _: &mut Out<'_>) -> Result<Proof> {
        Tap::finish(Box::new(self.0))
    }
}

impl Tap for LinesTap {
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.look(chunk, &mut |_| Ok(()))
    }

    fn finish(self: Box<Self>) -> Result<Proof> {
        Ok(proof(&self.content()?))
    }
}

/// The proof of some content.
pub fn proof(content: &Content) -> Proof {
    let mut fingerprint = Fingerprint::default();
    content.iter().for_each(|(key, value)| fingerprint.add(format!("{key}={value}").as_bytes()));
    let bytes: u64 = content.iter().map(|(key, value)| (key.len() + value.len() + 2) as u64).sum();
    let item = ProofItem::new("table", ITEM, content.len() as u64).bytes(bytes).fingerprint(fingerprint);
    Proof::new([item])
}

/// Serializes content in the format.
pub fn format(content: &Content) -> String {
    let lines: String = content.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    format!("{lines}end\n")
}

async fn read(mut stream: ByteStream) -> Result<Content> {
    let mut tap = LinesTap::default();
    while let Some(chunk) = stream.next().await {
        tap.push(&chunk?)?;
    }
    tap.content()
}

/// A table in memory. Clones share their content.
#[derive(Clone, Debug, Default)]
pub struct Table(Arc<Mutex<Content>>);

impl Table {
    /// The content of the table.
    pub fn content(&self) -> Content {
        self.0.lock().unwrap().clone()
    }

    /// Replaces the content.
    pub fn set(&self, content: Content) {
        *self.0.lock().unwrap() = content;
    }
}

/// Restores into a [`Table`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinesTarget {
    /// The table to restore into.
    pub table: Table,
    /// Whether existing content may be replaced.
    pub replace: bool,
}

impl LinesTarget {
    /// A target that adds to this table.
    pub fn new(table: Table) -> Self {
        Self { table, replace: false }
    }

    /// Whether it replaces what is in the table.
    #[must_use]
    pub fn replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }
}

#[async_trait]
impl Target for LinesTarget {
    async fn restore(&self, input: RestoreInput, _: &Context) -> Result<Vec<Check>> {
        if !self.replace && !self.table.content().is_empty() {
            return Err(Error::new(ErrorKind::Refused, "restore into", "the table", "it is not empty"));
        }
        let content = read(input.stream).await?;
        let check = Check::pass("lines", content.len().to_string(), "restored");
        self.table.set(content);
        Ok(vec![check])
    }
}

/// Judges artifacts of the format.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinesVerifier;

#[async_trait]
impl Verifier for LinesVerifier {
    fn tap(&self, name: &ArtifactName) -> Result<Box<dyn Tap>> {
        if name.format != FORMAT {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "read",
                name.to_string(),
                "it is not of the format `lines`",
            ));
        }
        Ok(Box::new(LinesTap::default()))
    }

    fn has_content(&self, item: &ProofItem) -> bool {
        item.name == ITEM
    }

    fn extract(&self, name: &ArtifactName, item: &str, _: Option<&Proof>) -> Result<Box<dyn Extract>> {
        lifeboat_core::extract::find(&[ProofItem::new("table", ITEM, 0)], item, &name.to_string())?;
        Ok(Box::new(LinesItem::default()))
    }

    async fn restore_test(&self, input: RestoreInput, cx: &Context) -> Result<Vec<Check>> {
        let table = Table::default();
        let target = LinesTarget { table: table.clone(), replace: false };
        let expected = input.proof.clone();
        match target.restore(input, cx).await {
            Ok(mut checks) => {
                checks.extend(expected.iter().flat_map(|expected| expected.compare(&proof(&table.content()))));
                Ok(checks)
            }
            Err(error) => Ok(vec![Check::from_error("restore", &error)]),
        }
    }

    async fn live(&self, _: Option<&Proof>, _: &Context) -> Result<Vec<Check>> {
        Err(Error::new(ErrorKind::Unsupported, "compare", "the live table", "there is none"))
    }
}
