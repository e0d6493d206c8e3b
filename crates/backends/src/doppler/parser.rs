//! Parses a stored document into its secrets, one at a time.

use super::SECRETS;
use std::collections::BTreeSet;

use lifeboat_core::Result;
use serde::de::DeserializeOwned;

use super::content::Salt;
use super::document::VERSION;
use super::secret::{Secret, Text};
use super::splitter::{Level, Splitter, corrupt};

/// The largest number of secrets in a document.
const MOST: usize = 100_000;

/// The fields before the secrets of a document.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    /// Whether it starts like a document by Lifeboat.
    pub(super) is_ours: bool,
    pub(super) project: Option<String>,
    pub(super) config: Option<String>,
    pub(super) salt: Option<Salt>,
    pub(super) count: Option<u64>,
}

/// A push parser for documents. Holds one secret at a time, and the names.
pub(super) struct Parser {
    splitter: Splitter,
    state: State,
}

#[derive(Default)]
struct State {
    header: Header,
    first: bool,
    names: BTreeSet<String>,
}

impl Parser {
    /// `unauthenticated` as for [`Splitter`].
    pub(super) fn new(unauthenticated: bool) -> Self {
        Self { splitter: Splitter::new(unauthenticated), state: State { first: true, ..State::default() } }
    }

    /// Takes the next bytes, and passes on each complete secret.
    pub(super) fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(String, Secret)) -> Result<()> {
        let Self { splitter, state } = self;
        splitter.push(bytes, &mut |level, key, value| state.entry(level, key, value, each))
    }

    /// The header as far as it has been read: completely once the first secret comes.
    pub(super) fn header(&self) -> &Header {
        &self.state.header
    }

    /// Secrets so far.
    pub(super) fn count(&self) -> u64 {
        self.state.names.len() as u64
    }

    /// The end.
    pub(super) fn finish(self) -> Result<Header> {
        self.splitter.finish()?;
        let found = self.count();
        match self.state.header.count {
            Some(count) if count != found => {
                Err(corrupt(format!("it announces {}, but holds {found}", SECRETS.count(count)))
                    .hint("use another artifact"))
            }
            _ => Ok(self.state.header),
        }
    }
}

impl State {
    fn entry(&mut self, level: Level, key: &[u8], value: &[u8], each: &mut dyn FnMut(String, Secret)) -> Result<()> {
        let first = std::mem::replace(&mut self.first, false);
        let key: String = read(key, "a name")?;
        if level == Level::Secrets {
            let secret = match value.first() {
                Some(b'"') => Secret::of_value(read(value, &key)?),
                _ => read(value, &key)?,
            };
            return self.secret(key, secret, each);
        }
        if first && key == "format" {
            let version: String = read(value, "format")?;
            if version != VERSION {
                let why = format!("its format is \"{version}\", but only {VERSION} is known here");
                return Err(corrupt(why).hint("a newer Lifeboat wrote it: use that to read it"));
            }
            self.header.is_ours = true;
            return Ok(());
        }
        if self.header.is_ours {
            match key.as_str() {
                "project" => self.header.project = read(value, "project")?,
                "config" => self.header.config = read(value, "config")?,
                "count" => self.header.count = read(value, "count")?,
                "salt" => {
                    let text: String = read(value, "salt")?;
                    self.header.salt = Some(Salt::from_hex(&text).ok_or_else(|| corrupt("its salt is invalid"))?);
                }
                // Fields added by later versions are ignored.
                _ => {}
            }
            return Ok(());
        }
        // What a script stored: names and values, or names and objects.
        match value.first() {
            Some(b'"') => {
                let value: Text = read(value, &key)?;
                self.secret(key, Secret::of_value(value), each)
            }
            Some(b'{') => {
                let secret: Secret = read(value, &key)?;
                self.secret(key, secret, each)
            }
            // Beside `secrets` in the API's own answer.
            _ if key == "success" => Ok(()),
            Some(b'n') => {
                let _: Option<bool> = read(value, &key)?;
                self.secret(key, Secret::default(), each)
            }
            _ => Err(corrupt(format!("the value of {key} is not a text"))),
        }
    }

    fn secret(&mut self, name: String, secret: Secret, each: &mut dyn FnMut(String, Secret)) -> Result<()> {
        if self.names.len() == MOST {
            return Err(corrupt(format!("it has more than {MOST} secrets")));
        }
        if !self.names.insert(name.clone()) {
            return Err(corrupt(format!("{name} is in it twice")));
        }
        each(name, secret);
        Ok(())
    }
}

/// Parses a piece of JSON. Errors do not contain its content.
fn read<T: DeserializeOwned>(json: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(json).map_err(|e| {
        let what: String = what.chars().filter(|c| !c.is_control()).take(100).collect();
        let why = match e.classify() {
            serde_json::error::Category::Data => "a field is of another type than it should be",
            _ => "it is not good JSON",
        };
        corrupt(format!("{what} cannot be read: {why}")).hint("the stored object is damaged: use another artifact")
    })
}
