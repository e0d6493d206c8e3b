//! The systems that a program registers and that the jobs of a file name.

use std::fmt;
use std::sync::Arc;

use lifeboat_core::pipeline::TreeLayout;
use lifeboat_core::{AnySystem, Error, Opening, System};
use serde::Deserialize;

use crate::manual::{self, Section};
use crate::node::{Node, NodeError};

/// The systems that the jobs of a config file can name.
///
/// ```
/// use lifeboat_config::Systems;
///
/// let systems = Systems::new();
/// // systems.add::<lifeboat::postgres::Server>();
/// assert_eq!(systems.names().count(), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Systems(Vec<Entry>);

/// Opens a system with the table of a job.
type Open = fn(Node<'_, '_>, &Opening<'_>) -> Opened;
/// The system, or why there is none.
type Opened = Result<Arc<dyn AnySystem>, Unopened>;

#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) example: &'static str,
    layouts: fn() -> Vec<TreeLayout>,
    plain: fn() -> &'static [&'static str],
    pub(crate) open: Open,
    pub(crate) manual: fn() -> Vec<Section>,
}

/// Why a system could not be opened.
pub(crate) enum Unopened {
    /// Its table does not have the shape of its settings.
    Shape(NodeError),
    /// The settings contradict each other.
    Settings(Error),
}

impl Systems {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a system. An existing one with the same name is replaced.
    pub fn add<S: System>(&mut self) {
        self.0.retain(|entry| entry.name != S::NAME);
        self.0.push(Entry {
            name: S::NAME,
            example: S::EXAMPLE,
            layouts: S::layouts,
            plain: S::plain_settings,
            open: open::<S>,
            manual: manual::of_system::<S>,
        });
        self.0.sort_by_key(|entry| entry.name);
    }

    /// The names of all systems, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|entry| entry.name)
    }

    /// The layouts of the trees that these systems' tools write, for copies of them.
    pub fn layouts(&self) -> Vec<TreeLayout> {
        self.0.iter().flat_map(|entry| (entry.layouts)()).collect()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// The settings of a system that hold no secret.
    pub(crate) fn plain(&self, system: &str) -> &'static [&'static str] {
        self.find(system).map_or(&[], |entry| (entry.plain)())
    }

    pub(crate) fn find(&self, name: &str) -> Option<Entry> {
        self.0.iter().find(|entry| entry.name == name).copied()
    }

    /// The table of a job, as an example.
    pub(crate) fn example(&self) -> Option<&'static str> {
        self.0.first().map(|entry| entry.example)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn open<S: System>(node: Node<'_, '_>, opening: &Opening<'_>) -> Opened {
    let settings = S::Settings::deserialize(node).map_err(Unopened::Shape)?;
    let system = S::open(settings, opening).map_err(Unopened::Settings)?;
    Ok(Arc::new(system))
}
