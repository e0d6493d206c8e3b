//! The roles that an archive speaks of: pg_dump does not save them, so a restore must know which it needs.

use std::collections::BTreeSet;

use super::statement::acl_roles;
use super::toc::{Toc, TocEntry};

/// Every role that an archive names: owners, those in grants, and those of policies.
pub fn roles(toc: &Toc) -> BTreeSet<String> {
    let owners = toc.entries.iter().filter_map(|e| e.owner.as_deref()).map(|o| String::from_utf8_lossy(o).into_owned());
    let mut roles: BTreeSet<String> = owners.chain(toc.entries.iter().flat_map(granted_roles)).collect();
    roles.remove("");
    roles
}

/// The roles without which an entry cannot be restored even when owners are left aside: those of a grant or policy.
pub fn granted_roles(entry: &TocEntry) -> Vec<String> {
    match entry.kind() {
        "ACL" | "DEFAULT ACL" => entry.defn.as_deref().map(acl_roles).unwrap_or_default(),
        // dumpPolicy in pg_dump.c: `CREATE POLICY name ON table [AS RESTRICTIVE] [FOR …] [TO roles] [USING (…)] …`. The
        // entry of the table's own ENABLE ROW LEVEL SECURITY names none.
        "POLICY" => entry
            .defn
            .as_deref()
            .map(|sql| sql.split(|b| *b == b'(').next().unwrap_or_default())
            .map(acl_roles)
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}
