//! The artifact: a tar of files, and the parser that takes its proof.
//!
//! | file | what it holds |
//! |---|---|
//! | `all_records.json` | every record, in the API's envelope: `{"success": true, "result": [ … ], …}` |
//! | `zone_settings.json` | the zone as the API tells it, in the envelope, with the zone's settings as `result.settings` |
//! | `zone-export.txt` | the zone as a BIND zone file, as the API exports it, without the line that says when |
//! | `parts.json` | which of the files below there are, and why not where not |
//! | `dnssec.json`, `dns_settings.json`, `page_rules.json`, … | further parts, each in the envelope |
//!
//! Members are in the order of their names, with times and owners at zero, so that equal zones make equal archives.
//!
//! The same parser reads the archives of shell scripts: members may lie in a folder, `all_records.json` may be a bare list or
//! several envelopes one after another (a page each), `zone_settings.json` may be a list of settings or the zone alone.

mod content;
mod item;
mod members;
mod tap;

pub use content::Content;
pub use item::ZoneItem;
pub(crate) use members::write;
pub use tap::{ZoneTap, read};

/// The member with the records.
pub const RECORDS: &str = "all_records.json";
/// The member with the zone and its settings.
pub const SETTINGS: &str = "zone_settings.json";
/// The member with the zone file.
pub const EXPORT: &str = "zone-export.txt";
/// The member that says which parts there are.
pub const PARTS: &str = "parts.json";

#[cfg(test)]
mod tests;
