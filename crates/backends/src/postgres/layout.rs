//! The layouts of WAL archives and base backups by the tools that create them, for copies of them.
//!
//! | kind | what is copied late | why |
//! |---|---|---|
//! | base backups | `backup_manifest`, `*.backup`, the records of pgBackRest, barman and WAL-G | each is what its tool looks for |
//! | WAL archives | `*.history` | a server that finds a new timeline asks for its segments: PostgreSQL, "Timelines" |

use lifeboat_core::pipeline::{TreeLayout, TreeRule};

/// The layout of WAL archives and base backups, for [`TreeCopy::layouts`](lifeboat_core::TreeCopy::layouts).
pub fn archive_layout() -> TreeLayout {
    TreeLayout::new()
        .rule(TreeRule::ending_with(".history", 1))
        .rule(TreeRule::ending_with(".backup", 1))
        .rule(TreeRule::named("backup_manifest", 1))
        .rule(TreeRule::named("backup.manifest", 1))
        .rule(TreeRule::ending_with("_backup_stop_sentinel.json", 1))
        .rule(TreeRule::named("backup.info", 2))
        .rule(TreeRule::named("archive.info", 2))
}

#[cfg(test)]
mod tests {
    use lifeboat_core::pipeline::TreeOrder;

    use super::*;

    #[test]
    fn what_names_segments_comes_after_them() {
        let keys = [
            "wal/00000002.history",
            "wal/000000020000000000000001",
            "wal/000000020000000000000001.00000028.backup",
            "base/1/backup_manifest",
            "base/1/base.tar",
            "backup/main/backup.info",
        ];
        let order = TreeOrder::new([&archive_layout()], keys);
        assert_eq!(keys.map(|key| order.rank(key)), [1, 0, 1, 1, 0, 2]);
    }
}
