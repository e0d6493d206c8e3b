//! Ownership of a restored database: owners and privileges are kept if the server has the roles and the connecting role
//! may act for them. What is not kept is reported once, before anything is loaded.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lifeboat_core::{Check, Result};

use super::archive::{Change, Toc, TocEntry, acl_roles, granted_roles, ident_len, quote_ident, rewrite, unquote};
use super::connection::Connection;
use super::script::{Event, Keep, Reader, Statement};
use super::session::{Session, quote_literal};

/// The kinds of entries after which pg_restore writes `ALTER … OWNER TO` (`_getObjectDescription` in pg_backup_archiver.c).
const OWNED: [&str; 27] = [
    "AGGREGATE",
    "BLOB",
    "BLOB METADATA",
    "COLLATION",
    "CONVERSION",
    "DATABASE",
    "DOMAIN",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "FOREIGN TABLE",
    "FUNCTION",
    "MATERIALIZED VIEW",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE",
    "PROCEDURE",
    "PUBLICATION",
    "SCHEMA",
    "SEQUENCE",
    "SERVER",
    "STATISTICS",
    "SUBSCRIPTION",
    "TABLE",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TYPE",
];

/// The roles of a server as seen by the connecting one, and what should be kept.
pub(super) struct Roles {
    me: String,
    superuser: bool,
    there: BTreeSet<String>,
    /// The roles whose rights it has and for which it can act.
    mine: BTreeSet<String>,
    owners: bool,
    privileges: bool,
}

impl Roles {
    /// Queries them in a session.
    pub(super) async fn ask(session: &Session, owners: bool, privileges: bool) -> Result<Self> {
        // Since 16, a membership does not necessarily allow acting for the role.
        let act = if session.major() >= 16 { "SET" } else { "MEMBER" };
        let sql = format!(
            "SELECT rolname, (pg_catalog.pg_has_role(oid, 'USAGE') AND pg_catalog.pg_has_role(oid, '{act}'))::text,
                    (rolname = current_user)::text, rolsuper::text FROM pg_catalog.pg_roles"
        );
        let (there, mine) = (BTreeSet::new(), BTreeSet::new());
        let mut roles = Self { me: String::new(), superuser: false, there, mine, owners, privileges };
        for row in session.rows(&sql).await? {
            let [Some(name), Some(can_act), Some(me), Some(superuser)] = &row[..] else { continue };
            roles.there.insert(name.clone());
            if can_act == "true" {
                roles.mine.insert(name.clone());
            }
            if me == "true" {
                (roles.me, roles.superuser) = (name.clone(), superuser == "true");
            }
        }
        Ok(roles)
    }

    /// The owner of the archive's database, if a new one can be created for it.
    pub(super) fn database_owner(&self, toc: &Toc) -> Option<String> {
        let owner = owner_of(toc.of_kind("DATABASE").next()?)?;
        (self.owners && self.mine.contains(&owner)).then_some(owner)
    }

    fn is_known(&self, role: &str) -> bool {
        self.there.contains(role)
    }

    /// Whether the session can act for this role.
    fn acts_for(&self, role: &str) -> bool {
        self.superuser || role == self.me
    }
}

fn owner_of(entry: &TocEntry) -> Option<String> {
    let owner = entry.owner.as_deref().filter(|owner| !owner.is_empty())?;
    Some(String::from_utf8_lossy(owner).into_owned())
}

/// Whether an entry is about the database as a whole. pg_restore omits it without `--create`, which restores under the
/// original name.
fn is_of_database(entry: &TocEntry) -> bool {
    match entry.kind() {
        "DATABASE" | "DATABASE PROPERTIES" => true,
        "ACL" | "COMMENT" | "SECURITY LABEL" => {
            entry.namespace.as_deref().is_none_or(<[u8]>::is_empty)
                && entry.tag.as_deref().is_some_and(|tag| tag.starts_with(b"DATABASE "))
        }
        _ => false,
    }
}

/// The statements of an entry.
fn statements(sql: &[u8]) -> Result<Vec<(Bytes, Statement)>> {
    let mut found = Vec::new();
    Reader::new(Keep::All).push(&Bytes::copy_from_slice(sql), &mut |event| {
        if let Event::Statement { sql, kind, .. } = event {
            found.push((sql, kind));
        }
    })?;
    Ok(found)
}

/// What is kept of an archive's owners and privileges in one database.
pub(super) struct Kept {
    changes: BTreeMap<i32, Change>,
    /// The numbers of entries that are not restored.
    pub(super) left_out: BTreeSet<i32>,
    missing: BTreeSet<String>,
    /// Existing roles that the connecting one may not act for, with the number of objects they owned.
    unable: BTreeMap<String, usize>,
}

impl Kept {
    /// Decides for the entries to restore. `whole` is whether the database is created for them.
    ///
    /// # Errors
    /// Any error of the server.
    pub(super) async fn decide(
        toc: &Toc,
        head: &[u8],
        roles: &Roles,
        inside: &Session,
        whole: bool,
        restored: impl Fn(i32) -> bool,
    ) -> Result<Self> {
        let (changes, left_out) = (BTreeMap::new(), BTreeSet::new());
        let mut kept = Self { changes, left_out, missing: BTreeSet::new(), unable: BTreeMap::new() };
        let mut places = Places::default();
        for entry in &toc.entries {
            let of_database = is_of_database(entry);
            if (of_database && !whole) || (!of_database && !restored(entry.dump_id)) {
                continue;
            }
            if roles.owners && OWNED.contains(&entry.kind()) {
                kept.owner(entry, roles, inside, &mut places).await?;
            }
            match entry.kind() {
                "ACL" | "DEFAULT ACL" if roles.privileges => kept.privileges(entry, head, toc, roles),
                "POLICY" | "USER MAPPING" => {
                    let named = granted_roles(entry);
                    let missing: Vec<String> = named.into_iter().filter(|role| !roles.is_known(role)).collect();
                    if !missing.is_empty() {
                        kept.left_out.insert(entry.dump_id);
                        kept.missing.extend(missing);
                    }
                }
                _ => {}
            }
        }
        Ok(kept)
    }

    async fn owner(&mut self, entry: &TocEntry, roles: &Roles, inside: &Session, places: &mut Places) -> Result<()> {
        let Some(owner) = owner_of(entry) else { return Ok(()) };
        let able = roles.superuser || owner == roles.me || places.takes(entry, &owner, roles, inside).await?;
        if roles.is_known(&owner) && able {
            if entry.is("SCHEMA") {
                places.made.insert(entry.label().into_owned(), owner);
            }
            return Ok(());
        }
        self.changes.entry(entry.dump_id).or_default().without_owner = true;
        // Every database's own owner has this schema already.
        if owner == "pg_database_owner" {
            return Ok(());
        }
        match roles.is_known(&owner) {
            true => *self.unable.entry(owner).or_default() += 1,
            false => _ = self.missing.insert(owner),
        }
        Ok(())
    }

    /// Removes the grants of an entry that cannot be executed.
    fn privileges(&mut self, entry: &TocEntry, head: &[u8], toc: &Toc, roles: &Roles) {
        let text = entry.defn.as_deref().unwrap_or_default();
        let unknown: Vec<String> = acl_roles(text).into_iter().filter(|role| !roles.is_known(role)).collect();
        let grantor = owner_of(entry).filter(|_| entry.is("DEFAULT ACL"));
        let foreign = grantor.filter(|role| roles.is_known(role) && !roles.mine.contains(role));
        let acting = !roles.superuser && memchr::memmem::find(text, b"SET SESSION AUTHORIZATION").is_some();
        self.missing.extend(unknown.iter().cloned());
        if let Some(role) = foreign {
            *self.unable.entry(role).or_default() += 1;
            self.left_out.insert(entry.dump_id);
            return;
        }
        if unknown.is_empty() && !acting {
            return;
        }
        // The archive's own bytes: its encoding need not be UTF-8.
        let field = usize::try_from(entry.defn_at.start).ok().zip(usize::try_from(entry.defn_at.end).ok());
        let raw = field.and_then(|(start, end)| head.get(start + 1 + usize::from(toc.header.int_size)..end));
        let defn = raw.and_then(|raw| self.without_others(text, raw, roles));
        match defn.filter(|defn| !defn.is_empty()) {
            Some(defn) => self.changes.entry(entry.dump_id).or_default().defn = Some(defn),
            None => _ = self.left_out.insert(entry.dump_id),
        }
    }

    /// The statements that can be executed, in the archive's encoding. `text` is the same in UTF-8.
    fn without_others(&mut self, text: &[u8], raw: &[u8], roles: &Roles) -> Option<Vec<u8>> {
        let (read, written) = (statements(text).ok()?, statements(raw).ok()?);
        if read.len() != written.len() {
            return None;
        }
        let mut defn = Vec::new();
        // Between SET and RESET SESSION AUTHORIZATION.
        let mut skipped = false;
        for ((sql, _), (raw, _)) in read.iter().zip(&written) {
            let named = acl_roles(sql);
            if sql.starts_with(b"SET SESSION AUTHORIZATION") {
                let other = named.iter().find(|role| roles.is_known(role) && !roles.acts_for(role));
                if let Some(role) = other {
                    *self.unable.entry(role.clone()).or_default() += 1;
                }
                skipped = other.is_some() || named.iter().any(|role| !roles.is_known(role));
            }
            let ends = sql.starts_with(b"RESET SESSION AUTHORIZATION");
            if !skipped && named.iter().all(|role| roles.is_known(role)) {
                defn.extend_from_slice(raw);
                defn.extend_from_slice(b";\n");
            }
            skipped &= !ends;
        }
        Some(defn)
    }

    /// The archive's head, reduced to what is kept.
    ///
    /// # Errors
    /// See [`rewrite`].
    pub(super) fn apply(&self, toc: &Toc, head: Bytes) -> Result<Bytes> {
        if self.changes.is_empty() { Ok(head) } else { Ok(rewrite(toc, &head, &self.changes)?.into()) }
    }

    /// Whether an entry keeps its owner.
    pub(super) fn keeps_owner(&self, entry: &TocEntry) -> bool {
        !self.changes.get(&entry.dump_id).is_some_and(|change| change.without_owner)
    }

    /// Reports what is not kept, and how to keep it.
    pub(super) fn checks(&self, roles: &Roles) -> Vec<Check> {
        let mut checks = Vec::new();
        if !self.missing.is_empty() {
            let owned = match roles.owners {
                true => format!("what they owned belongs to {}, and ", roles.me),
                false => String::new(),
            };
            let detail = format!(
                "{}: not on this server, so {owned}their grants, policies and user mappings are left out; to have them, restore the server's globals (or create the roles), and restore again",
                self.missing.iter().cloned().collect::<Vec<_>>().join(", ")
            );
            checks.push(Check::warn("roles", format!("{} missing", self.missing.len()), detail));
        }
        if !self.unable.is_empty() {
            let names: Vec<&str> = self.unable.keys().map(String::as_str).collect();
            let detail = format!(
                "role {me} may not give {} what they owned or granted, so it belongs to {me}: to keep it, restore as a superuser",
                names.join(", "),
                me = roles.me
            );
            checks.push(Check::warn("owners", format!("{} not kept", self.unable.values().sum::<usize>()), detail));
        }
        checks
    }
}

/// Where a role without superuser rights can give objects to others: a new owner must be allowed to create in the
/// schema.
#[derive(Default)]
struct Places {
    /// The schemas that the archive creates, with their owners.
    made: BTreeMap<String, String>,
    asked: BTreeMap<(String, String), bool>,
}

impl Places {
    async fn takes(&mut self, entry: &TocEntry, owner: &str, roles: &Roles, inside: &Session) -> Result<bool> {
        if !roles.mine.contains(owner) {
            return Ok(false);
        }
        let schema = String::from_utf8_lossy(entry.namespace.as_deref().unwrap_or_default()).into_owned();
        if schema.is_empty() {
            return Ok(matches!(entry.kind(), "SCHEMA" | "DATABASE" | "BLOB" | "BLOB METADATA"));
        }
        if let Some(made) = self.made.get(&schema).filter(|_| schema != "public") {
            return Ok(made == owner);
        }
        let key = (owner.to_owned(), schema);
        if let Some(known) = self.asked.get(&key) {
            return Ok(*known);
        }
        let sql = format!(
            "SELECT pg_catalog.has_schema_privilege({}, pg_catalog.to_regnamespace({})::oid, 'CREATE')::text",
            quote_literal(owner),
            quote_literal(&quote_ident(&key.1))
        );
        let takes = inside.value(&sql).await?.as_deref() == Some("true");
        self.asked.insert(key, takes);
        Ok(takes)
    }
}

/// Applies the archive's database-wide properties to a new database: privileges, settings, connection limit, comment.
/// Anything that the server refuses is reported, but does not make the restore fail.
///
/// # Errors
/// The server cannot be reached.
pub(super) async fn dress(toc: &Toc, roles: &Roles, server: &Connection, database: &str) -> Result<Vec<Check>> {
    let Some(name) = toc.of_kind("DATABASE").next().map(|entry| entry.label().into_owned()) else {
        return Ok(Vec::new());
    };
    let session = Session::open(server).await?;
    let mut not_kept = BTreeSet::new();
    for entry in toc.entries.iter().filter(|entry| is_of_database(entry) && !entry.is("DATABASE")) {
        if entry.is("ACL") && !roles.privileges {
            continue;
        }
        let Ok(found) = statements(entry.defn.as_deref().unwrap_or_default()) else {
            not_kept.insert(format!("{} (it cannot be read)", entry.kind()));
            continue;
        };
        let mut skipped = false;
        for (sql, kind) in found {
            let text = String::from_utf8_lossy(&sql).into_owned();
            let named = acl_roles(&sql);
            let acts = sql.starts_with(b"SET SESSION AUTHORIZATION");
            if acts {
                skipped = !named.iter().all(|role| roles.is_known(role) && roles.acts_for(role));
            }
            let ends = sql.starts_with(b"RESET SESSION AUTHORIZATION");
            let run = match &kind {
                _ if skipped => None,
                Statement::Other if acts || ends => Some(text),
                // Those are named already.
                Statement::Database { what: "GRANT or REVOKE ON DATABASE", .. }
                    if !named.iter().all(|role| roles.is_known(role)) =>
                {
                    None
                }
                Statement::Database { what: "ALTER ROLE … IN DATABASE", .. } => match altered_role(&text) {
                    Some(role) if !roles.is_known(&role) => {
                        not_kept.insert(format!("settings of role {role}, which is not on this server"));
                        None
                    }
                    _ => renamed(&text, &name, database),
                },
                Statement::Database { .. } if !text.contains(" IS_TEMPLATE ") => renamed(&text, &name, database),
                _ => {
                    not_kept.insert(format!("a statement of {}", entry.kind()));
                    None
                }
            };
            skipped &= !ends;
            let Some(sql) = run else { continue };
            // By the extended protocol, which accepts only one statement.
            if let Err(error) = session.client().execute(&*sql, &[]).await {
                let what = match kind {
                    Statement::Database { what, .. } => what,
                    _ => "SET SESSION AUTHORIZATION",
                };
                not_kept.insert(format!("{what}: {}", session.error(&error).message()));
            }
        }
    }
    if not_kept.is_empty() {
        return Ok(Vec::new());
    }
    let detail = format!(
        "of the database as a whole: {}; set it by hand",
        not_kept.iter().cloned().collect::<Vec<_>>().join("; ")
    );
    Ok(vec![Check::warn("database", format!("{} not kept", not_kept.len()), detail)])
}

/// The role of `ALTER ROLE role IN DATABASE …`.
fn altered_role(sql: &str) -> Option<String> {
    let rest = sql.strip_prefix("ALTER ROLE ")?;
    Some(unquote(rest.get(..ident_len(rest.as_bytes())?)?))
}

/// Rewrites a statement about the database `from`, `… DATABASE from …`, to be about `to`. `None` if it is about another
/// one.
fn renamed(sql: &str, from: &str, to: &str) -> Option<String> {
    let bytes = sql.as_bytes();
    let (mut at, mut before) = (0, &b""[..]);
    while at < bytes.len() {
        let Some(len) = ident_len(&bytes[at..]) else {
            // The name comes before any literal.
            if bytes[at] == b'\'' {
                return None;
            }
            at += 1;
            continue;
        };
        let word = bytes.get(at..at + len)?;
        if before == b"DATABASE" {
            let same = unquote(sql.get(at..at + len)?) == from;
            return same.then(|| format!("{}{}{}", &sql[..at], quote_ident(to), &sql[at + len..]));
        }
        before = word;
        at += len;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::renamed;

    #[test]
    fn what_is_said_of_a_database_is_said_of_another_one() {
        for (sql, from, expected) in [
            ("ALTER DATABASE shop CONNECTION LIMIT = 5", "shop", Some("ALTER DATABASE \"New\" CONNECTION LIMIT = 5")),
            (
                "ALTER ROLE \"DATABASE x\" IN DATABASE \"a \"\"b\" SET search_path TO 'DATABASE y'",
                "a \"b",
                Some("ALTER ROLE \"DATABASE x\" IN DATABASE \"New\" SET search_path TO 'DATABASE y'"),
            ),
            ("GRANT CONNECT ON DATABASE shop TO app", "shop", Some("GRANT CONNECT ON DATABASE \"New\" TO app")),
            ("ALTER DATABASE other SET a TO 'b'", "shop", None),
            ("COMMENT ON TABLE t IS ' DATABASE shop '", "shop", None),
        ] {
            assert_eq!(renamed(sql, from, "New").as_deref(), expected, "{sql}");
        }
    }
}
