//! The roles that an archive refers to: pg_dump does not save them, so a restore must know which ones it needs.

use std::collections::BTreeSet;

use super::ident::{ident_len, unquote};
use super::statement::acl_roles;
use super::toc::{Toc, TocEntry};

/// Every role that an archive names: owners, those in grants, and those of policies and user mappings.
pub fn roles(toc: &Toc) -> BTreeSet<String> {
    let owners = toc.entries.iter().filter_map(|e| e.owner.as_deref()).map(|o| String::from_utf8_lossy(o).into_owned());
    let mut roles: BTreeSet<String> = owners.chain(toc.entries.iter().flat_map(granted_roles)).collect();
    roles.remove("");
    roles
}

/// The roles without which an entry cannot be restored, even without owners: those of a grant, policy or user mapping.
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
        // `CREATE USER MAPPING FOR role SERVER …` (dumpUserMappings in pg_dump.c).
        "USER MAPPING" => {
            let sql = entry.defn.as_deref().map(<[u8]>::trim_ascii_start).unwrap_or_default();
            let name = sql.strip_prefix(b"CREATE USER MAPPING FOR ").unwrap_or_default();
            let len = ident_len(name).unwrap_or_default();
            let role = unquote(&String::from_utf8_lossy(&name[..len]));
            if role.is_empty() || name[..len].eq_ignore_ascii_case(b"public") { Vec::new() } else { vec![role] }
        }
        _ => Vec::new(),
    }
}
