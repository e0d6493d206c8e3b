//! Chooses the entries of an archive that restore some tables or schemas: a list file for `pg_restore -L`.
//!
//! `pg_restore -t` restores a table without its indexes, constraints and defaults; `-L` restores what the list names.
//! The selection follows the entries' dependencies: forwards to what belongs to a chosen relation, and backwards to
//! what it cannot be created without.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use lifeboat_core::{Error, ErrorKind, Result};

use super::ident::{ident_len, quote_qualified, unquote};
use super::toc::{Toc, TocEntry};

/// Which tables and schemas to restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Tables, views, materialized views and sequences: `name` or `schema.name`, quoted as in SQL or not.
    pub tables: Vec<String>,
    /// Schemas, with everything in them.
    pub schemas: Vec<String>,
    /// The numbers of entries that already exist: their rows are not restored just because a chosen relation reads
    /// them.
    pub present: BTreeSet<i32>,
}

/// The entries that restore what is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Numbers of the entries to restore.
    pub ids: BTreeSet<i32>,
    /// Those among them that were requested by name or schema.
    pub chosen: BTreeSet<i32>,
    /// Relations that are included with their rows, because a chosen materialized view is computed from them.
    pub read: BTreeSet<i32>,
    /// Relations that are included only because a chosen one needs them (a view's tables, a parent of an inheriting
    /// table): only their definition, without data or indexes.
    pub bare: BTreeSet<i32>,
    /// Entries that belong to a chosen relation but cannot be restored, because they also need one that is not chosen:
    /// a foreign key to another table.
    pub left_out: BTreeSet<i32>,
}

impl Selection {
    /// The list file: one `<number>; …` per line, in the order of the archive.
    pub fn list(&self, toc: &Toc) -> String {
        let mut list = String::new();
        for entry in toc.entries.iter().filter(|e| self.ids.contains(&e.dump_id)) {
            let text = |t: &Option<Vec<u8>>| match t {
                Some(t) if !t.is_empty() => String::from_utf8_lossy(t).replace(['\n', '\r'], " "),
                _ => "-".to_owned(),
            };
            // pg_restore reads the number and treats the rest as a comment (SortTocFromFile).
            let parts = [&entry.namespace, &entry.tag, &entry.owner].map(text);
            let _ = writeln!(list, "{}; {} {}", entry.dump_id, entry.kind(), parts.join(" "));
        }
        list
    }
}

/// Always restored: they set the session, and the SQL of all others is written for it.
const SESSION: &[&str] = &["ENCODING", "STDSTRINGS", "SEARCHPATH"];

/// Kinds of entries that can be requested by name.
const RELATIONS: &[&str] = &["TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE"];

/// Kinds of entries that are included with the relation that they belong to.
const DEPENDENTS: &[&str] = &[
    "ACL",
    "CHECK CONSTRAINT",
    "COMMENT",
    "CONSTRAINT",
    "DEFAULT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "MATERIALIZED VIEW DATA",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "SECURITY LABEL",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "STATISTICS",
    "STATISTICS DATA",
    "TABLE ATTACH",
    "TABLE DATA",
    "TRIGGER",
];

/// Kinds of entries that only describe another one, and are included with it.
const REMARKS: &[&str] = &["ACL", "COMMENT", "SECURITY LABEL"];

const SECTION_PRE_DATA: i32 = 2;

/// Selects the entries to restore: the named relations, their data, everything that belongs to them and needs nothing
/// else, and everything that these cannot be created without (schemas, types, functions, extensions).
///
/// A partitioned table includes its partitions, and a table those that inherit from it: their rows are its rows. A
/// materialized view includes the rows that it is computed from, unless they already exist.
///
/// # Errors
/// [`ErrorKind::Config`] if nothing is requested, or if a name is ambiguous; [`ErrorKind::NotFound`] if a name matches
/// nothing, with similar names.
pub fn select(toc: &Toc, wanted: &Wanted) -> Result<Selection> {
    if wanted.tables.is_empty() && wanted.schemas.is_empty() {
        return Err(Error::new(ErrorKind::Config, "select", "tables", "neither a table nor a schema is named"));
    }
    let mut choice = Choice::new(toc);
    for name in &wanted.schemas {
        choice.add_schema(name)?;
    }
    for name in &wanted.tables {
        let index = find_relation(toc, name)?;
        choice.full.insert(index);
    }
    choice.add_children();
    let chosen: BTreeSet<i32> = choice.full.iter().map(|i| toc.entries[*i].dump_id).collect();
    choice.add_read(&wanted.present);
    let full = choice.full.iter().map(|i| toc.entries[*i].dump_id);
    let read = full.filter(|id| !chosen.contains(id)).collect();
    choice.close();
    let left_out = choice.left_out();
    let bare = choice.set.iter().filter(|i| choice.is_table_like(**i) && !choice.full.contains(i));
    let bare = bare.map(|i| toc.entries[*i].dump_id).collect();
    let session = toc.entries.iter().filter(|e| SESSION.contains(&e.kind())).map(|e| e.dump_id);
    let ids = choice.set.iter().map(|i| toc.entries[*i].dump_id).chain(session).collect();
    Ok(Selection { ids, chosen, read, bare, left_out })
}

/// Works on indices of entries, and grows until nothing more follows.
struct Choice<'a> {
    toc: &'a Toc,
    /// Index → indices of the entries that it depends on. Numbers of no entry are dropped.
    deps: Vec<Vec<usize>>,
    /// Schema → index of its entry.
    schemas: HashMap<&'a [u8], usize>,
    /// (Partition, parent) of each attached partition.
    attached: HashSet<(usize, usize)>,
    /// Entries restored with everything that belongs to them.
    full: HashSet<usize>,
    /// All entries to restore: `full`, what belongs to it, and what it needs.
    set: HashSet<usize>,
}

impl<'a> Choice<'a> {
    fn new(toc: &'a Toc) -> Self {
        let deps: Vec<Vec<usize>> = toc
            .entries
            .iter()
            .map(|e| {
                let mut deps: Vec<_> = e.dependencies.iter().filter_map(|id| toc.index_of(*id)).collect();
                deps.sort_unstable();
                deps.dedup();
                deps
            })
            .collect();
        let mut attached = HashSet::new();
        for entry in toc.of_kind("TABLE ATTACH") {
            // Partition and parent, in this order (dumpTableAttach in pg_dump.c).
            if let [partition, parent, ..] = entry.dependencies[..]
                && let (Some(partition), Some(parent)) = (toc.index_of(partition), toc.index_of(parent))
            {
                attached.insert((partition, parent));
            }
        }
        let schemas = toc.entries.iter().enumerate().filter(|(_, e)| e.is("SCHEMA"));
        let schemas = schemas.filter_map(|(i, e)| Some((e.tag.as_deref()?, i))).collect();
        Self { toc, deps, schemas, attached, full: HashSet::new(), set: HashSet::new() }
    }

    fn kind(&self, index: usize) -> &'a str {
        self.toc.entries[index].kind()
    }

    /// Whether it is a relation with rows, its own or others': not a sequence.
    fn is_table_like(&self, index: usize) -> bool {
        let kind = self.kind(index);
        RELATIONS.contains(&kind) && kind != "SEQUENCE"
    }

    fn add_schema(&mut self, wanted: &str) -> Result<()> {
        let names: BTreeSet<&[u8]> = self
            .toc
            .entries
            .iter()
            .filter_map(|e| e.namespace.as_deref())
            .chain(self.schemas.keys().copied())
            .filter(|n| !n.is_empty())
            .collect();
        let folded = unquote(wanted);
        let Some(name) = [wanted, &folded].into_iter().find(|n| names.contains(n.as_bytes())) else {
            let names = names.iter().map(|n| String::from_utf8_lossy(n).into_owned());
            return Err(not_found("schema", wanted, names));
        };
        let name = name.as_bytes();
        for (index, entry) in self.toc.entries.iter().enumerate() {
            let inside = entry.namespace.as_deref() == Some(name);
            let whole =
                entry.section == SECTION_PRE_DATA && (entry.is("SEQUENCE") || !DEPENDENTS.contains(&entry.kind()));
            if inside && (whole || entry.is("DEFAULT ACL")) {
                self.full.insert(index);
            }
        }
        self.full.extend(self.schemas.get(name));
        Ok(())
    }

    /// Adds the tables whose rows also belong to a chosen one, directly or not.
    fn add_children(&mut self) {
        let inherits = |index: usize| {
            let defn = self.toc.entries[index].defn.as_deref().unwrap_or_default();
            self.kind(index) == "TABLE" && memchr::memmem::find(defn, b"\nINHERITS (").is_some()
        };
        let heirs: Vec<usize> = (0..self.deps.len()).filter(|index| inherits(*index)).collect();
        let heirs = heirs.iter().flat_map(|heir| self.deps[*heir].iter().map(move |parent| (*heir, *parent)));
        let tables = |(_, parent): &(usize, usize)| self.kind(*parent) == "TABLE";
        let pairs: Vec<(usize, usize)> = self.attached.iter().copied().chain(heirs.filter(tables)).collect();
        loop {
            let before = self.full.len();
            for (child, parent) in &pairs {
                if self.full.contains(parent) {
                    self.full.insert(*child);
                }
            }
            if self.full.len() == before {
                return;
            }
        }
    }

    /// Adds what chosen materialized views are computed from, except what already exists.
    fn add_read(&mut self, present: &BTreeSet<i32>) {
        let views = self.full.iter().copied().filter(|index| self.kind(*index) == "MATERIALIZED VIEW");
        let mut open: Vec<usize> = views.collect();
        let mut seen = HashSet::new();
        while let Some(index) = open.pop() {
            if !seen.insert(index) {
                continue;
            }
            if self.is_table_like(index) && !present.contains(&self.toc.entries[index].dump_id) {
                self.full.insert(index);
            }
            // A view's rules are separate entries only if it could not be created in one step.
            open.extend(self.deps[index].iter().filter(|dep| self.is_table_like(**dep)));
        }
        self.add_children();
    }

    /// Adds what belongs to the chosen entries, and what all of them need, until nothing changes.
    fn close(&mut self) {
        for index in self.full.clone() {
            self.add(index);
        }
        let dependents: Vec<usize> = (0..self.deps.len()).filter(|i| DEPENDENTS.contains(&self.kind(*i))).collect();
        loop {
            let before = self.set.len();
            for index in &dependents {
                if !self.set.contains(index) && self.admits(*index) {
                    // A sequence that a chosen table owns counts as chosen itself.
                    self.full.insert(*index);
                    self.add(*index);
                }
            }
            if self.set.len() == before {
                return;
            }
        }
    }

    /// Adds an entry and everything that it cannot be created without.
    fn add(&mut self, index: usize) {
        let mut open = vec![index];
        while let Some(index) = open.pop() {
            if !self.set.insert(index) {
                continue;
            }
            open.extend(self.deps[index].iter().filter(|dep| self.needs(index, **dep)));
            let namespace = self.toc.entries[index].namespace.as_deref().unwrap_or_default();
            open.extend(self.schemas.get(namespace));
        }
    }

    /// Whether an entry really needs what it depends on, or must only be restored after it.
    fn needs(&self, index: usize, dep: usize) -> bool {
        match self.kind(index) {
            // A partition is created separately and attached later.
            "TABLE" => !self.attached.contains(&(index, dep)),
            // An owned sequence is created separately; that of an identity column by ALTER TABLE.
            "SEQUENCE" => !(self.is_table_like(dep) && is_created_alone(&self.toc.entries[index])),
            // The index or key of a partition comes after its parent's, and is attached to it later.
            "INDEX" | "CONSTRAINT" => !matches!(self.kind(dep), "INDEX" | "CONSTRAINT") || self.set.contains(&dep),
            _ => true,
        }
    }

    /// Whether everything that a dependent entry belongs to is included.
    fn admits(&self, index: usize) -> bool {
        let deps = &self.deps[index];
        let kind = self.kind(index);
        if !deps.iter().any(|dep| self.set.contains(dep)) {
            return false;
        }
        if REMARKS.contains(&kind) {
            return deps.iter().all(|dep| self.set.contains(dep));
        }
        let mut tables = deps.iter().filter(|dep| self.is_table_like(**dep)).peekable();
        if tables.peek().is_some() && !tables.any(|dep| self.full.contains(dep)) {
            return false;
        }
        // The statement names the table too, which only the sequence depends on.
        if kind == "SEQUENCE OWNED BY" {
            let owners = deps.iter().flat_map(|dep| &self.deps[*dep]);
            if owners.filter(|owner| self.is_table_like(**owner)).any(|owner| !self.full.contains(owner)) {
                return false;
            }
        }
        deps.iter().all(|dep| {
            if self.set.contains(dep) {
                return true;
            }
            let entry = &self.toc.entries[*dep];
            match entry.kind() {
                "INDEX" | "CONSTRAINT" => {
                    // A partition's: a parent that is not restored does not prevent it.
                    matches!(kind, "INDEX" | "CONSTRAINT")
                        && self.deps[*dep].iter().any(|d| self.is_table_like(*d) && !self.set.contains(d))
                }
                "DATABASE" => false,
                _ => entry.section == SECTION_PRE_DATA && !self.is_table_like(*dep),
            }
        })
    }

    fn left_out(&self) -> BTreeSet<i32> {
        let belongs = |i: &usize| self.deps[*i].iter().any(|d| self.full.contains(d) && self.is_table_like(*d));
        (0..self.deps.len())
            .filter(|i| !self.set.contains(i) && DEPENDENTS.contains(&self.kind(*i)) && belongs(i))
            .map(|i| self.toc.entries[i].dump_id)
            .collect()
    }
}

fn is_created_alone(sequence: &TocEntry) -> bool {
    let defn = sequence.defn.as_deref().unwrap_or_default().trim_ascii_start();
    defn.starts_with(b"CREATE SEQUENCE") || defn.starts_with(b"CREATE UNLOGGED SEQUENCE")
}

/// The index of the relation that a name refers to.
fn find_relation(toc: &Toc, wanted: &str) -> Result<usize> {
    let relations: Vec<(usize, &TocEntry)> =
        toc.entries.iter().enumerate().filter(|(_, e)| RELATIONS.contains(&e.kind())).collect();
    let matching = |schema: Option<&str>, name: &str| -> Vec<usize> {
        relations
            .iter()
            .filter(|(_, e)| e.tag.as_deref() == Some(name.as_bytes()))
            .filter(|(_, e)| schema.is_none_or(|s| e.namespace.as_deref() == Some(s.as_bytes())))
            .map(|(i, _)| *i)
            .collect()
    };
    // First as written, then as SQL reads it: users write mixed-case names without quotes.
    let mut readings: Vec<(Option<String>, String)> = vec![(None, wanted.to_owned())];
    if let Some((schema, name)) = wanted.split_once('.') {
        readings.push((Some(schema.to_owned()), name.to_owned()));
    }
    readings.extend(read_name(wanted));
    let found = readings.iter().map(|(schema, name)| matching(schema.as_deref(), name)).find(|f| !f.is_empty());
    match found.as_deref() {
        Some([one]) => Ok(*one),
        Some(several) => {
            let names: Vec<String> = several.iter().map(|i| full_name(&toc.entries[*i])).collect();
            Err(Error::new(
                ErrorKind::Config,
                "select",
                format!("\"{wanted}\""),
                format!("more than one schema has it: {}", names.join(", ")),
            )
            .hint("name it with its schema"))
        }
        None => Err(not_found("table", wanted, relations.iter().map(|(_, e)| full_name(e)))),
    }
}

fn full_name(entry: &TocEntry) -> String {
    quote_qualified(entry.namespace.as_deref(), entry.tag.as_deref().unwrap_or_default())
}

/// A name as SQL reads it, with its schema when it has one.
fn read_name(sql: &str) -> Option<(Option<String>, String)> {
    let len = ident_len(sql.as_bytes())?;
    let first = unquote(&sql[..len]);
    match sql.get(len..)? {
        "" => Some((None, first)),
        rest => {
            let second = rest.strip_prefix('.')?;
            (ident_len(second.as_bytes())? == second.len()).then(|| (Some(first), unquote(second)))
        }
    }
}

fn not_found(what: &str, wanted: &str, names: impl Iterator<Item = String>) -> Error {
    let wanted_plain = wanted.replace('"', "").to_lowercase();
    let bare = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let mut near: Vec<(usize, usize, String)> = names
        .map(|name| {
            let plain = name.replace('"', "").to_lowercase();
            let whole = strsim::damerau_levenshtein(&wanted_plain, &plain);
            (whole.min(strsim::damerau_levenshtein(&bare(&wanted_plain), &bare(&plain))), whole, name)
        })
        .filter(|(distance, ..)| *distance <= (wanted_plain.chars().count() / 3).max(2))
        .collect();
    near.sort();
    near.dedup();
    let error =
        Error::new(ErrorKind::NotFound, "select", format!("{what} \"{wanted}\""), "the archive has none of this name");
    if near.is_empty() {
        return error;
    }
    let near: Vec<String> = near.into_iter().take(5).map(|(.., name)| name).collect();
    error.hint(format!("near it: {}", near.join(", ")))
}
