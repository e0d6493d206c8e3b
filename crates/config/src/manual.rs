//! The keys of the config file with their descriptions, as its manual page lists them. The comments of the structs that read the
//! file are the source.

use lifeboat_core::{Field, System};
use serde::de::DeserializeOwned;

use crate::probe;
use crate::systems::Systems;
use crate::{copies, table};

/// A table of the file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Section {
    /// How it is written: `[sinks.NAME]`.
    pub title: String,
    /// What it is, in a sentence.
    pub about: String,
    /// A table of it, as an example; or nothing.
    pub example: String,
    /// Its keys, in the order of its struct.
    pub keys: Vec<Key>,
}

/// A key of a table.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Key {
    /// Its name.
    pub name: String,
    /// What it says.
    pub about: String,
    /// What its value is, in a word or two.
    pub kind: &'static str,
    /// What holds without it; or that it is required.
    pub default: String,
    /// It with a value.
    pub example: String,
}

impl Systems {
    /// Every table and every key that a config file with these systems can have.
    pub fn manual(&self) -> Vec<Section> {
        let general = [
            section::<table::Sink>(
                "[sinks.NAME]",
                "A place where backups are stored, by a name that jobs use.",
                table::Sink::FIELDS,
            ),
            section::<table::Defaults>(
                "[defaults]",
                "What holds for each job that does not say otherwise.",
                table::Defaults::FIELDS,
            ),
            section::<table::Job>(
                "[jobs.NAME]",
                "A dataset that is backed up. One key more names its system, with a table of its own.",
                table::Job::FIELDS,
            ),
            section::<table::Verify>(
                "verify, in [defaults] and [jobs.NAME]",
                "What a verification asks for.",
                table::Verify::FIELDS,
            ),
            section::<table::Hooks>(
                "hooks, in [defaults] and [jobs.NAME]",
                "Commands that run before and after.",
                table::Hooks::FIELDS,
            ),
            section::<table::EncryptTable>("encrypt, as a table", "Exactly one of these.", table::EncryptTable::FIELDS),
            section::<table::AgeTable>("encrypt.age", "Recipients, or a passphrase alone.", table::AgeTable::FIELDS),
            section::<table::OpenSslTable>("encrypt.openssl", "", table::OpenSslTable::FIELDS),
            section::<table::LockTable>(
                "lock, in [sinks.NAME]",
                "Or as a text: governance:30.",
                table::LockTable::FIELDS,
            ),
            rules(),
            section::<copies::Copy>(
                "[copies.NAME]",
                "A tree of objects that another tool wrote, copied as it is.",
                copies::Copy::FIELDS,
            ),
        ];
        general.into_iter().chain(self.entries().flat_map(|entry| (entry.manual)())).collect()
    }
}

fn section<T: DeserializeOwned>(title: &str, about: &str, fields: &[Field]) -> Section {
    let read = probe::keys::<T>().remove("").unwrap_or_default();
    Section {
        title: title.to_owned(),
        about: about.to_owned(),
        example: String::new(),
        keys: read.into_iter().map(|name| key(name, fields)).collect(),
    }
}

/// The rules of `keep` as a table, which is read in core.
const RULES: [(&str, &str, &str); 9] = [
    ("days", "Everything of so many days.", "number"),
    ("within", "Everything of so long a time: 30d, 4w, 6m (months), 1y. Instead of days.", "time"),
    ("last", "The newest so many.", "number"),
    ("hourly", "The newest of each of so many hours.", "number"),
    ("daily", "The newest of each of so many days.", "number"),
    ("weekly", "The newest of each of so many weeks.", "number"),
    ("monthly", "The newest of each of so many months.", "number"),
    ("yearly", "The newest of each of so many years.", "number"),
    ("at_least", "So many in any case, whatever the other rules say. It does not stand alone.", "number"),
];

fn rules() -> Section {
    let keys = RULES.map(|(name, about, kind)| Key {
        name: name.to_owned(),
        about: about.to_owned(),
        kind,
        default: "no such rule".to_owned(),
        example: if kind == "time" { format!("{name} = \"6m\"") } else { format!("{name} = 7") },
    });
    Section {
        title: "keep, as a table".to_owned(),
        about: "What any of the rules keeps is kept.".to_owned(),
        example: String::new(),
        keys: keys.into(),
    }
}

/// The tables of a system: its own, and those in it.
pub(crate) fn of_system<S: System>() -> Vec<Section> {
    let (described, required) = (S::tables(), probe::required::<S::Settings>());
    let sections = probe::keys::<S::Settings>().into_iter().map(|(path, read)| {
        let fields = described.iter().find(|(known, _)| *known == path).map_or(&[][..], |(_, fields)| fields);
        let dot = if path.is_empty() { "" } else { "." };
        Section {
            title: format!("[jobs.NAME.{}{dot}{path}]", S::NAME),
            about: if path.is_empty() { format!("A job of {}.", S::TITLE) } else { String::new() },
            example: if path.is_empty() { S::EXAMPLE.to_owned() } else { String::new() },
            keys: read
                .into_iter()
                .map(|name| {
                    let mut key = key(name, fields);
                    if path.is_empty() && required.as_deref() == Some(name) {
                        key.default = REQUIRED.to_owned();
                    }
                    if let Some(value) = in_example(S::EXAMPLE, name).filter(|_| path.is_empty()) {
                        key.example = format!("{name} = {value}");
                    }
                    key
                })
                .collect(),
        }
    });
    sections.collect()
}

/// The default of a key that has none.
const REQUIRED: &str = "none: it is required";

/// The value of a key in the example of a job: a text or a list.
fn in_example<'a>(example: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) =
        example.split_once(&format!("{{ {name} = ")).or_else(|| example.split_once(&format!(", {name} = ")))?;
    let end = if value.starts_with('[') { value.find(']') } else { value.get(1..)?.find('"').map(|at| at + 1) };
    value.get(..=end?)
}

fn key(name: &str, fields: &[Field]) -> Key {
    let (comment, written) = fields.iter().find(|field| field.name == name).map_or(("", ""), |f| (f.about, f.kind));
    let kind = kind_of(written);
    let words = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    let (words, example) = match words.split_once(" Example: ") {
        Some((before, example)) => (before.to_owned(), example.trim_matches('`').to_owned()),
        None => (words, String::new()),
    };
    let (about, default) = match words.split_once(" Default: ") {
        Some((about, default)) => (about.to_owned(), default.trim_end_matches('.').to_owned()),
        None => match words.strip_suffix(" Required.") {
            Some(about) => (about.to_owned(), REQUIRED.to_owned()),
            None => (words, default_of(written).to_owned()),
        },
    };
    let example = if example.is_empty() { example_of(name, kind, &about) } else { example };
    Key { name: name.to_owned(), about, kind, default, example }
}

/// What a value is, by its type.
fn kind_of(written: &str) -> &'static str {
    let has = |part: &str| written.contains(part);
    match () {
        () if has("BTreeMap")
            || has("RestoreTestOptions")
            || has("Verify")
            || has("AgeTable")
            || has("OpenSslTable")
            || has("Hooks") =>
        {
            "table"
        }
        () if has("Encrypt") || has("Policy") || has("Lock") => "text or table",
        () if has("Texts") => "text or list of texts",
        () if has("Query") || has("Pair") || has("Variable") => "table of texts",
        () if has("Vec") => "list of texts",
        () if has("Deletion") => "true, false or text",
        () if has("bool") => "true or false",
        () if has("u32") || has("u64") || has("usize") || has("NonZeroUsize") => "number",
        () if has("Duration") || has("Length") => "time",
        () => "text",
    }
}

fn default_of(written: &str) -> &'static str {
    match () {
        () if written.starts_with("Option") => "not set",
        () if written == "bool" => "false",
        () if written.contains("Vec") || written.contains("BTreeMap") => "empty",
        () => REQUIRED,
    }
}

/// The key with a value of its kind: the one that its description names, where it does.
fn example_of(name: &str, kind: &str, about: &str) -> String {
    let named = about.split_once("as in ").map(|(_, rest)| rest.split([' ', ',', ';', ')']).next().unwrap_or_default());
    let value = named.filter(|value| !value.is_empty() && !value.starts_with('\'')).unwrap_or("…");
    match kind {
        "true or false" | "true, false or text" => format!("{name} = true"),
        "number" => format!("{name} = 4"),
        "list of texts" => format!("{name} = [\"{value}\"]"),
        "table" | "table of texts" => format!("{name} = {{ … }}"),
        "time" if value == "…" => format!("{name} = \"2h\""),
        _ => format!("{name} = \"{value}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_keep_are_those_that_are_read() {
        let error =
            toml::from_str::<std::collections::BTreeMap<String, lifeboat_core::retention::Policy>>("keep = { x = 1 }");
        let said = error.unwrap_err().to_string();
        let listed = said.split_once("expected one of ").unwrap().1.lines().next().unwrap();
        let mut read: Vec<&str> = listed.split(", ").map(|name| name.trim_matches('`')).collect();
        read.retain(|name| *name != "at-least");
        assert_eq!(read, RULES.map(|(name, ..)| name));
    }

    #[test]
    fn an_example_gives_its_keys_their_values() {
        let example = "command = { run = [\"date\", \"-u\"], format = \"txt\" }";
        let found = ["run", "format", "shell"].map(|name| in_example(example, name));
        assert_eq!(found, [Some("[\"date\", \"-u\"]"), Some("\"txt\""), None]);
    }

    #[test]
    fn every_general_key_is_described_with_type_default_and_example() {
        let sections = Systems::new().manual();
        let keys: Vec<&Key> = sections.iter().flat_map(|section| &section.keys).collect();
        assert!(keys.len() > 45, "{}", keys.len());
        for key in keys {
            let said = [&key.about, &key.default, &key.example].iter().all(|text| !text.is_empty());
            assert!(said && key.example.starts_with(&format!("{} = ", key.name)), "{key:?}");
            assert!(!key.about.contains("Default:") && !key.about.contains("Example:"), "{key:?}");
        }
    }
}
