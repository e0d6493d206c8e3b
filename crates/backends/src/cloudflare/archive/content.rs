//! The content of an archive: records, settings, zone file.

use std::collections::BTreeMap;

use lifeboat_core::{Error, ErrorKind, Fingerprint, Proof, ProofItem, Result};
use serde::Deserialize;
use serde_json::Value;

use super::super::dns;
use super::super::record::Record;
use super::{EXPORT, PARTS, RECORDS, SETTINGS};

/// The content of an artifact.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Every record.
    pub records: Vec<Record>,
    /// The zone as the API returned it, if the artifact has it.
    pub zone: Option<Value>,
    /// The settings, each `{id, value, editable, …}`.
    pub settings: Vec<Value>,
    /// The zone file, if the artifact has it.
    pub export: Option<String>,
    /// The other files.
    pub others: BTreeMap<String, Vec<u8>>,
}

impl Content {
    /// Reads the files of an archive.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], naming the file, if one is missing or invalid.
    pub fn read(members: Vec<(String, Vec<u8>)>) -> Result<Self> {
        let mut content = Self::default();
        let mut has_records = false;
        for (name, bytes) in members {
            match name.as_str() {
                RECORDS => {
                    content.records = records(&bytes)?;
                    has_records = true;
                }
                SETTINGS => (content.zone, content.settings) = settings(&bytes)?,
                EXPORT => {
                    content.export = Some(String::from_utf8(bytes).map_err(|_| corrupt(EXPORT, "it is not UTF-8"))?);
                }
                _ => {
                    if name.ends_with(".json")
                        && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
                    {
                        return Err(corrupt(&name, format!("it is not JSON (line {})", error.line())));
                    }
                    content.others.insert(name, bytes);
                }
            }
        }
        if !has_records {
            return Err(corrupt(RECORDS, "it is not in the archive"));
        }
        Ok(content)
    }

    /// The zone's name, from the settings or the zone file.
    pub fn zone_name(&self) -> Option<String> {
        if let Some(name) = self.zone.as_ref().and_then(|z| z["name"].as_str()) {
            return Some(dns::lower(name));
        }
        // Some scripts wrote settings without the zone; the owner of the SOA is the zone's name.
        let entries = dns::read_file(self.export.as_deref()?, "").ok()?;
        entries.into_iter().find(|e| e.kind == "SOA").map(|e| e.name).filter(|n| !n.is_empty())
    }

    /// The number of records of each type.
    pub fn breakdown(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for record in &self.records {
            *counts.entry(record.kind()).or_default() += 1;
        }
        counts
    }

    /// The proof: everything that must be the same after a restore.
    pub fn proof(&self) -> Proof {
        let mut kinds: BTreeMap<&str, ProofItem> = BTreeMap::new();
        for record in &self.records {
            let item = kinds.entry(record.kind()).or_insert_with(|| item("record", record.kind()));
            add(item, record.proven().as_bytes());
        }
        let mut items: Vec<ProofItem> = kinds.into_values().collect();
        if !self.settings.is_empty() {
            let mut settings = item("setting", SETTINGS);
            for setting in &self.settings {
                add(&mut settings, serde_json::json!([setting["id"], setting["value"]]).to_string().as_bytes());
            }
            items.push(settings);
        }
        if let Some(export) = &self.export {
            let mut lines = item("line", EXPORT);
            for line in export.lines().filter(|l| !l.trim().is_empty() && !l.starts_with(';')) {
                add(&mut lines, line.as_bytes());
            }
            items.push(lines);
        }
        for (name, bytes) in &self.others {
            let mut file = item("file", name);
            add(&mut file, bytes);
            items.push(file);
        }
        let zone = self.zone_name().map(|name| ("zone".to_owned(), Value::from(name)));
        let failed = self.failed_parts();
        let failed = (!failed.is_empty()).then(|| ("parts that could not be read".to_owned(), Value::from(failed)));
        Proof::new(items).details(zone.into_iter().chain(failed).collect::<BTreeMap<_, _>>())
    }

    /// Further parts of the zone that could not be read although token and plan allow it, with the reason.
    pub fn failed_parts(&self) -> Vec<String> {
        let list = self.others.get(PARTS).and_then(|bytes| serde_json::from_slice::<Vec<Value>>(bytes).ok());
        let text = |part: &Value, key: &str| part[key].as_str().unwrap_or_default().to_owned();
        let failed = list.into_iter().flatten().filter(|part| part["failed"] == true);
        failed.map(|part| format!("{} ({})", text(&part, "part"), text(&part, "why"))).collect()
    }
}

fn item(kind: &str, name: &str) -> ProofItem {
    ProofItem::new(kind, name, 0).fingerprint(Fingerprint::default())
}

fn add(item: &mut ProofItem, row: &[u8]) {
    item.count += 1;
    item.bytes += row.len() as u64;
    item.fingerprint.get_or_insert_default().add(row);
}

pub(super) fn corrupt(file: &str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, "read", format!("{file} in the archive"), why)
}

/// The JSON values in a file, in sequence.
fn values(file: &str, bytes: &[u8]) -> Result<Vec<Value>> {
    let read: Result<Vec<Value>, serde_json::Error> = serde_json::Deserializer::from_slice(bytes).into_iter().collect();
    let read = read.map_err(|e| corrupt(file, format!("it is not JSON (line {}, column {})", e.line(), e.column())))?;
    if read.is_empty() { Err(corrupt(file, "it is empty")) } else { Ok(read) }
}

/// The content of an envelope; a value without an envelope is returned unchanged.
fn opened(file: &str, value: Value) -> Result<Value> {
    #[derive(Deserialize)]
    struct Envelope {
        success: Option<bool>,
        result: Value,
    }
    if value.get("success").is_none() && value.get("result").is_none() {
        return Ok(value);
    }
    match serde_json::from_value(value) {
        // An error that a script has stored as if it were data.
        Ok(Envelope { success: Some(false), .. }) => Err(corrupt(file, "it holds an API error instead of data")),
        Ok(Envelope { result, .. }) => Ok(result),
        Err(_) => Err(corrupt(file, "it holds an API error instead of data")),
    }
}

fn records(bytes: &[u8]) -> Result<Vec<Record>> {
    let mut all = Vec::new();
    for value in values(RECORDS, bytes)? {
        let Value::Array(list) = opened(RECORDS, value)? else {
            return Err(corrupt(RECORDS, "it is not a list of records"));
        };
        for value in list {
            let number = all.len() + 1;
            // A list of pages.
            if let Value::Array(page) = &value {
                let read: Option<Vec<Record>> = page.iter().cloned().map(Record::read).collect();
                all.extend(
                    read.ok_or_else(|| {
                        corrupt(RECORDS, format!("what follows record {} is not a record", number - 1))
                    })?,
                );
                continue;
            }
            let why = || corrupt(RECORDS, format!("record {number} has no type or no name"));
            all.push(Record::read(value).ok_or_else(why)?);
        }
    }
    Ok(all)
}

/// The zone and its settings.
fn settings(bytes: &[u8]) -> Result<(Option<Value>, Vec<Value>)> {
    let (mut zone, mut settings) = (None, Vec::new());
    for value in values(SETTINGS, bytes)? {
        match opened(SETTINGS, value)? {
            Value::Array(list) => settings.extend(list),
            Value::Object(mut map) => {
                if let Some(Value::Array(list)) = map.remove("settings") {
                    settings.extend(list);
                }
                if map.contains_key("name") {
                    zone = Some(Value::Object(map));
                }
            }
            _ => return Err(corrupt(SETTINGS, "it is neither a zone nor a list of settings")),
        }
    }
    Ok((zone, settings))
}
