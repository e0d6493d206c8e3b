//! The layout of a storage location, for copies of it: by Velero and the tools that it stores volumes with.
//!
//! | tool | what is copied late | source |
//! |---|---|---|
//! | Velero | all of `backups/NAME/` after the repositories, `velero-backup.json` last | it is uploaded before the tarball and rewritten at the end |
//! | kopia | index blobs `n…`, `m…`, `l…`, `x…` after packs `p…`, `q…` | kopia `repo/content/content_manager.go`, `internal/epoch/epoch_manager.go` |
//! | restic | `index/`, then `snapshots/`, after `data/` | restic `doc/design.rst` |

use lifeboat_core::pipeline::{TreeLayout, TreeRule};

const METADATA: &str = "velero-backup.json";
const KOPIA: &str = "kopia.repository";
/// A file of a restic repository, beside its folders.
const RESTIC: &str = "config";

/// The layouts of Velero's storage locations, for [`TreeCopy::layouts`](lifeboat_core::TreeCopy::layouts): Velero's own
/// and those of kopia and restic repositories. They also apply to such repositories elsewhere.
pub fn layouts() -> Vec<TreeLayout> {
    let location = [("backups", METADATA), ("kopia", KOPIA), ("restic", RESTIC)];
    let velero = TreeLayout::new()
        .rule(TreeRule::named(METADATA, 3))
        .rule(TreeRule::any(2).with_marker(METADATA, 0))
        .storage("storage location of Velero", "which makes the location Unavailable", location);
    let kopia = ["n", "m", "l", "x"]
        .into_iter()
        .fold(TreeLayout::new().rule(TreeRule::starting_with("kopia.", 0).with_marker(KOPIA, 0)), |layout, start| {
            layout.rule(TreeRule::starting_with(start, 1).with_marker(KOPIA, 0))
        });
    let restic = TreeLayout::new()
        .rule(TreeRule::any(1).in_folder("index").with_marker(RESTIC, 1))
        .rule(TreeRule::any(2).in_folder("snapshots").with_marker(RESTIC, 1));
    vec![velero, kopia, restic]
}

#[cfg(test)]
mod tests {
    use lifeboat_core::pipeline::TreeOrder;

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
            "files/xylophone.txt",
        ];
        let order = TreeOrder::new(&layouts(), keys);
        assert_eq!(keys.map(|key| order.rank(key)), [2, 3, 0, 0, 0, 1, 1, 0, 0, 0, 1, 2, 0, 0]);
    }

    #[test]
    fn a_storage_location_is_told_by_what_it_holds() {
        let velero = &layouts()[0];
        assert_eq!(velero.storage_root("backups/daily/velero-backup.json"), Some(""));
        assert_eq!(velero.storage_root("a/b/backups/daily/velero-backup.json"), Some("a/b"));
        assert_eq!(velero.storage_root("velero/kopia/shop/kopia.repository"), Some("velero"));
        for key in ["backups/velero-backup.json", "backups/daily/daily.tar.gz", "velero-backup.json", "kopia/shop/p01"]
        {
            assert_eq!(velero.storage_root(key), None, "{key}");
        }
    }
}
