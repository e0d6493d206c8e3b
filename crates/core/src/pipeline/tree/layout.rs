//! What a copy of a tree needs to know about the tool that wrote it, supplied as data by code that knows the tool.

use std::borrow::Cow;

use crate::name::{join_key, split_key};

/// Objects of a lower rank are copied before those of a higher one.
pub(super) const RANKS: u8 = 4;

/// How a tool lays out its tree: which objects refer to others, and whether it tolerates foreign objects.
///
/// ```
/// use lifeboat_core::pipeline::{TreeLayout, TreeOrder, TreeRule};
///
/// // A tool with `data/…` and `index/…`, which refers to the data, beside a file called `repository`.
/// let layout = TreeLayout::new().rule(TreeRule::any(1).in_folder("index").with_marker("repository", 1));
/// let keys = ["db/repository", "db/data/1", "db/index/1", "else/index/1"];
/// let order = TreeOrder::new([&layout], keys);
/// assert_eq!(keys.map(|key| order.rank(key)), [0, 0, 1, 0]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeLayout {
    pub(super) rules: Vec<TreeRule>,
    pub(super) storage: Option<Storage>,
}

/// A storage whose tool tolerates nothing else at the top level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    /// `storage location of …`.
    pub(super) name: String,
    /// `which makes it …`.
    pub(super) consequence: String,
    /// An object `<folder>/<anything>/<name>` means that a storage begins above the folder.
    markers: Vec<(String, String)>,
}

impl TreeLayout {
    /// Creates a layout without rules: the oldest objects are copied first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule. The first rule that matches an object decides, those of earlier layouts first.
    #[must_use]
    pub fn rule(mut self, rule: TreeRule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Declares that the tool tolerates nothing else at the top of its storage. A copy whose record would be stored
    /// there is then refused.
    ///
    /// `name` is what the tool calls such a place, `consequence` what would happen (a clause that begins with `which`).
    /// A storage is recognized by its objects: for each pair `(folder, name)` of `markers`, an object
    /// `<folder>/<anything>/<name>` is in a storage that begins above the folder.
    #[must_use]
    pub fn storage<'a>(
        mut self,
        name: impl Into<String>,
        consequence: impl Into<String>,
        markers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let markers = markers.into_iter().map(|(folder, name)| (folder.to_owned(), name.to_owned())).collect();
        self.storage = Some(Storage { name: name.into(), consequence: consequence.into(), markers });
        self
    }

    /// The folder at which the storage begins that `key` is a marker of.
    pub fn storage_root<'k>(&self, key: &'k str) -> Option<&'k str> {
        let (below, name) = split_key(key);
        let (folder, _) = split_key(below);
        let (above, folder) = split_key(folder);
        let is_marker = |(top, marker): &(String, String)| top == folder && marker == name;
        self.storage.as_ref()?.markers.iter().any(is_marker).then_some(above)
    }
}

/// How a name is matched.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Any,
    Is(Cow<'static, str>),
    Starts(Cow<'static, str>),
    Ends(Cow<'static, str>),
}

/// A rule of a [`TreeLayout`]: matching objects get its rank, and are copied after all objects of a lower rank. Ranks
/// range from 0, for objects without a rule, to 3; a larger number counts as 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeRule {
    name: Name,
    rank: u8,
    /// The name of an object, and how many folders up it is.
    marker: Option<(Cow<'static, str>, usize)>,
    folder: Option<Cow<'static, str>>,
}

impl TreeRule {
    fn new(name: Name, rank: u8) -> Self {
        Self { name, rank: rank.min(RANKS - 1), marker: None, folder: None }
    }

    /// Creates a rule for objects of any name.
    pub fn any(rank: u8) -> Self {
        Self::new(Name::Any, rank)
    }

    /// Creates a rule for objects whose last part of the key is `name`.
    pub fn named(name: impl Into<Cow<'static, str>>, rank: u8) -> Self {
        Self::new(Name::Is(name.into()), rank)
    }

    /// Creates a rule for objects whose last part of the key starts with `start`.
    pub fn starting_with(start: impl Into<Cow<'static, str>>, rank: u8) -> Self {
        Self::new(Name::Starts(start.into()), rank)
    }

    /// Creates a rule for objects whose key ends with `end`.
    pub fn ending_with(end: impl Into<Cow<'static, str>>, rank: u8) -> Self {
        Self::new(Name::Ends(end.into()), rank)
    }

    /// Restricts the rule to objects with an object called `marker` in their folder, or `up` folders above it.
    /// Everything they refer to is below the folder of the marker.
    #[must_use]
    pub fn with_marker(self, marker: impl Into<Cow<'static, str>>, up: usize) -> Self {
        Self { marker: Some((marker.into(), up)), ..self }
    }

    /// Restricts the rule to objects in folders of this name.
    #[must_use]
    pub fn in_folder(self, folder: impl Into<Cow<'static, str>>) -> Self {
        Self { folder: Some(folder.into()), ..self }
    }

    pub(super) fn rank(&self) -> u8 {
        self.rank
    }

    /// The name of the marker, if any.
    pub(super) fn marker(&self) -> Option<&str> {
        self.marker.as_ref().map(|(marker, _)| &**marker)
    }

    /// The folder that contains everything an object in `folder` refers to.
    pub(super) fn scope<'k>(&self, folder: &'k str) -> &'k str {
        above(folder, self.marker.as_ref().map_or(0, |(_, up)| *up))
    }

    /// Whether the rule matches the object `name` in `folder`. `is_there` tells which markers exist.
    pub(super) fn fits(&self, folder: &str, name: &str, is_there: impl Fn(&str) -> bool) -> bool {
        let named = match &self.name {
            Name::Any => true,
            Name::Is(is) => name == is,
            Name::Starts(start) => name.starts_with(&**start),
            Name::Ends(end) => name.ends_with(&**end),
        };
        named
            && self.folder.as_ref().is_none_or(|f| split_key(folder).1 == f)
            && self.marker.as_ref().is_none_or(|(marker, up)| is_there(&join_key(above(folder, *up), marker)))
    }
}

fn above(folder: &str, up: usize) -> &str {
    (0..up).fold(folder, |folder, _| split_key(folder).0)
}
