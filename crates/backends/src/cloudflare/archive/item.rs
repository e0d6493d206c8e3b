//! One document out of a zone's archive: the records of a type, or a file.

use lifeboat_core::extract::{self, Out};
use lifeboat_core::{Extract, Proof, Result};
use serde_json::Value;

use super::members::Members;
use super::{Content, EXPORT, SETTINGS};

/// Gives out one item of a zone's proof: the records of a type as a JSON list of what the API told, or a file as it is. It holds
/// the files, whose sizes are limited, and gives out at the end.
pub struct ZoneItem {
    members: Members,
    wanted: String,
}

impl std::fmt::Debug for ZoneItem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZoneItem").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl ZoneItem {
    /// What the proof calls so: `A`, `zone_settings.json`.
    pub fn new(item: impl Into<String>) -> Self {
        Self { members: Members::default(), wanted: item.into() }
    }
}

impl Extract for ZoneItem {
    fn form(&self) -> String {
        match self.wanted.contains('.') {
            true => format!("{}, as it is in the backup", self.wanted),
            false => format!("the records of type {}, as JSON", self.wanted),
        }
    }

    fn take(&mut self, chunk: &[u8], _: &mut Out<'_>) -> Result<()> {
        self.members.push(chunk)
    }

    fn end(self: Box<Self>, out: &mut Out<'_>) -> Result<Proof> {
        let files = self.members.finish()?;
        let settings = files.iter().find(|(name, _)| name == SETTINGS).map(|(_, bytes)| bytes.clone());
        let content = Content::read(files)?;
        let proof = content.proof();
        let item = extract::find(&proof.items, &self.wanted, "the archive")?;
        match &*item.name {
            kind if item.kind == "record" => {
                let records = content.records.iter().filter(|record| record.kind() == kind);
                let records: Value = records.map(|record| Value::from(record.all().clone())).collect();
                out(format!("{records:#}\n").as_bytes())?;
            }
            SETTINGS => out(&settings.unwrap_or_default())?,
            EXPORT => out(content.export.as_deref().unwrap_or_default().as_bytes())?,
            name => out(content.others.get(name).map(Vec::as_slice).unwrap_or_default())?,
        }
        Ok(proof)
    }
}
