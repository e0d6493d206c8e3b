//! In which order the objects of a tree are copied: what others refer to comes first.
//!
//! A reader that comes upon the copy at any moment, also after a run that was killed, must not find an index whose data is
//! not there yet. Two things are known. An object that refers to others is as a rule younger than they are, so the oldest come
//! first; and some names are those of commit points, which are the rules below.
//!
//! | tool | what comes late | source |
//! |---|---|---|
//! | kopia | index blobs `n…`, `m…`, `l…`, `x…` after packs `p…`, `q…` | kopia `repo/content/content_manager.go`, `internal/epoch/epoch_manager.go` |
//! | restic | `index/`, then `snapshots/`, after `data/` | restic `doc/design.rst` |
//! | Velero | all of `backups/NAME/` after the repositories, `velero-backup.json` last | it is uploaded before the tarball and rewritten at the end |
//! | base backups | `backup_manifest`, `*.backup`, pgBackRest's, barman's and WAL-G's records | each is what its tool looks for |
//! | WAL archives | `*.history`: a server that finds a new timeline asks for its segments | PostgreSQL, "Timelines" |
//! | Lifeboat | `*.manifest.json` | the manifest makes an artifact one |

use std::collections::HashSet;

use crate::name::{join_key, split_key};

/// How a name is told.
enum Name {
    Any,
    Is(&'static str),
    Starts(&'static str),
    Ends(&'static str),
}

/// A rule: objects that fit have this rank. The first rule that fits decides; without one the rank is 0.
struct Rule {
    /// An object that is in the same folder, so many folders up.
    beside: Option<(&'static str, usize)>,
    /// The name of the folder that it is in.
    folder: Option<&'static str>,
    name: Name,
    rank: u8,
}

/// Objects of a lower rank are copied before those of a higher one.
pub(super) const RANKS: u8 = 4;

const KOPIA: Option<(&str, usize)> = Some(("kopia.repository", 0));
const RESTIC: Option<(&str, usize)> = Some(("config", 1));
const VELERO: Option<(&str, usize)> = Some(("velero-backup.json", 0));

const fn rule(beside: Option<(&'static str, usize)>, folder: Option<&'static str>, name: Name, rank: u8) -> Rule {
    Rule { beside, folder, name, rank }
}

const RULES: &[Rule] = &[
    rule(None, None, Name::Is("velero-backup.json"), 3),
    rule(VELERO, None, Name::Any, 2),
    rule(KOPIA, None, Name::Starts("kopia."), 0),
    rule(KOPIA, None, Name::Starts("n"), 1),
    rule(KOPIA, None, Name::Starts("m"), 1),
    rule(KOPIA, None, Name::Starts("l"), 1),
    rule(KOPIA, None, Name::Starts("x"), 1),
    rule(RESTIC, Some("index"), Name::Any, 1),
    rule(RESTIC, Some("snapshots"), Name::Any, 2),
    rule(None, None, Name::Ends(".history"), 1),
    rule(None, None, Name::Ends(".backup"), 1),
    rule(None, None, Name::Is("backup_manifest"), 1),
    rule(None, None, Name::Is("backup.manifest"), 1),
    rule(None, None, Name::Ends("_backup_stop_sentinel.json"), 1),
    rule(None, None, Name::Is("backup.info"), 2),
    rule(None, None, Name::Is("archive.info"), 2),
    rule(None, None, Name::Ends(".manifest.json"), 1),
];

/// Names that a rule looks for beside an object.
const MARKERS: &[&str] = &["kopia.repository", "config", "velero-backup.json"];

/// The ranks of the objects of one tree.
#[derive(Debug, Default)]
pub(super) struct Order {
    markers: HashSet<String>,
}

impl Order {
    /// The order of a tree with these keys.
    pub(super) fn of<'a>(keys: impl Iterator<Item = &'a str>) -> Self {
        Self { markers: keys.filter(|key| MARKERS.contains(&split_key(key).1)).map(str::to_owned).collect() }
    }

    /// The rank of an object, and the folder below which is what it may refer to.
    pub(super) fn place(&self, key: &str) -> (u8, String) {
        let (folder, name) = split_key(key);
        let rule = RULES.iter().find(|rule| self.fits(rule, folder, name));
        let up = rule.and_then(|rule| rule.beside).map_or(0, |(_, up)| up);
        (rule.map_or(0, |rule| rule.rank), above(folder, up).to_owned())
    }

    fn fits(&self, rule: &Rule, folder: &str, name: &str) -> bool {
        let named = match rule.name {
            Name::Any => true,
            Name::Is(is) => name == is,
            Name::Starts(start) => name.starts_with(start),
            Name::Ends(end) => name.ends_with(end),
        };
        let beside = |(marker, up)| self.markers.contains(&join_key(above(folder, up), marker));
        named && rule.beside.is_none_or(beside) && rule.folder.is_none_or(|f| split_key(folder).1 == f)
    }
}

fn above(folder: &str, up: usize) -> &str {
    (0..up).fold(folder, |folder, _| split_key(folder).0)
}

/// The folder of the Velero or kopia storage that a key belongs to, when it looks like one: nothing else may be at its top.
pub(super) fn storage_root(key: &str) -> Option<&str> {
    let parts: Vec<&str> = key.split('/').collect();
    let [.., top, _, name] = parts[..] else { return None };
    let marks =
        matches!((top, name), ("backups", "velero-backup.json") | ("kopia", "kopia.repository") | ("restic", "config"));
    let above = parts[..parts.len() - 3].join("/").len();
    marks.then(|| &key[..above])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_refer_to_comes_first() {
        let keys = [
            "backups/daily/daily.tar.gz",
            "backups/daily/velero-backup.json",
            "kopia/shop/kopia.repository",
            "kopia/shop/p0123",
            "kopia/shop/q0123",
            "kopia/shop/xn0_0123",
            "kopia/shop/n0123",
            "kopia/shop/_log_2026",
            "restic/shop/config",
            "restic/shop/data/00/0011",
            "restic/shop/index/aa",
            "restic/shop/snapshots/bb",
            "restores/r/r-logs.gz",
            "wal/00000002.history",
            "wal/000000020000000000000001",
            "files/xylophone.txt",
        ];
        let order = Order::of(keys.iter().copied());
        let ranks: Vec<u8> = keys.iter().map(|key| order.place(key).0).collect();
        assert_eq!(ranks, [2, 3, 0, 0, 0, 1, 1, 0, 0, 0, 1, 2, 0, 1, 0, 0]);
        assert!(ranks.iter().all(|rank| *rank < RANKS));
        assert_eq!(order.place("restic/shop/index/aa").1, "restic/shop");
        assert_eq!(order.place("kopia/shop/xn0_0123").1, "kopia/shop");
    }

    #[test]
    fn a_storage_of_velero_is_told_by_what_it_holds() {
        assert_eq!(storage_root("backups/daily/velero-backup.json"), Some(""));
        assert_eq!(storage_root("a/b/backups/daily/velero-backup.json"), Some("a/b"));
        assert_eq!(storage_root("velero/kopia/shop/kopia.repository"), Some("velero"));
        for key in ["backups/velero-backup.json", "backups/daily/daily.tar.gz", "velero-backup.json", "kopia/shop/p01"]
        {
            assert_eq!(storage_root(key), None, "{key}");
        }
    }
}
