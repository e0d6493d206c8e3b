//! The order in which the objects of a tree are copied: objects that others refer to come first.
//!
//! A reader of the copy must never find an index whose data does not exist yet, not even after a killed run. Two facts
//! help. An object that refers to others is usually younger than they are, so the oldest come first. And some names are
//! those of commit points; the tools' [layouts](TreeLayout) say which. Core itself knows only Lifeboat's own: the
//! manifest completes an artifact.

use std::collections::HashSet;

use super::layout::{TreeLayout, TreeRule};
use crate::name::{MANIFEST_SUFFIX, split_key};

/// The order in which the objects of one tree are copied.
#[derive(Clone, Debug)]
pub struct TreeOrder {
    rules: Vec<TreeRule>,
    /// The objects that a rule looks for beside others.
    markers: HashSet<String>,
}

impl TreeOrder {
    /// Creates the order for a tree with these keys, written by tools with these layouts.
    pub fn new<'a>(layouts: impl IntoIterator<Item = &'a TreeLayout>, keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut rules: Vec<TreeRule> = layouts.into_iter().flat_map(|layout| layout.rules.iter().cloned()).collect();
        rules.push(TreeRule::ending_with(MANIFEST_SUFFIX, 1));
        let names: HashSet<&str> = rules.iter().filter_map(TreeRule::marker).collect();
        let markers = keys.into_iter().filter(|key| names.contains(split_key(key).1)).map(str::to_owned).collect();
        Self { rules, markers }
    }

    /// The rank of an object, from 0 to 3. Objects that it may refer to have a lower rank.
    pub fn rank(&self, key: &str) -> u8 {
        self.place(key).0
    }

    /// The rank of an object, and the folder that contains everything it may refer to.
    pub(super) fn place(&self, key: &str) -> (u8, String) {
        let (folder, name) = split_key(key);
        match self.rules.iter().find(|rule| rule.fits(folder, name, |marker| self.markers.contains(marker))) {
            Some(rule) => (rule.rank(), rule.scope(folder).to_owned()),
            None => (0, folder.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_refer_to_comes_first() {
        let blobs = TreeLayout::new()
            .rule(TreeRule::starting_with("repo.", 0).with_marker("repo.format", 0))
            .rule(TreeRule::starting_with("r", 1).with_marker("repo.format", 0));
        let files = TreeLayout::new()
            .rule(TreeRule::any(1).in_folder("index").with_marker("config", 1))
            .rule(TreeRule::named("head", 9));
        let keys = [
            "a/repo.format",
            "a/r0123",
            "a/p0123",
            "else/r0123",
            "b/config",
            "b/index/aa",
            "b/data/00/0011",
            "else/index/aa",
            "b/head",
            "own/shop-20261121-033000.dump.manifest.json",
        ];
        let order = TreeOrder::new([&blobs, &files], keys);
        assert_eq!(keys.map(|key| order.rank(key)), [0, 1, 0, 0, 0, 1, 0, 0, 3, 1]);
        assert_eq!(order.place("b/index/aa").1, "b");
        assert_eq!(order.place("a/r0123").1, "a");
        // Without a layout only Lifeboat's own names are known.
        let order = TreeOrder::new([], keys);
        assert_eq!(keys.map(|key| order.rank(key)), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_storage_is_told_by_its_markers() {
        let layout = TreeLayout::new().storage("storage of x", "which breaks it", [("backups", "meta.json")]);
        assert_eq!(layout.storage_root("backups/daily/meta.json"), Some(""));
        assert_eq!(layout.storage_root("a/b/backups/daily/meta.json"), Some("a/b"));
        for key in ["backups/meta.json", "backups/daily/daily.tar.gz", "meta.json", "other/daily/meta.json"] {
            assert_eq!(layout.storage_root(key), None, "{key}");
        }
        assert_eq!(TreeLayout::new().storage_root("backups/daily/meta.json"), None);
    }
}
