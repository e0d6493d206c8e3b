//! The artifact: a tar of files, and the parser that takes its proof.
//!
//! | file | content |
//! |---|---|
//! | `all_records.json` | every record, in the API's envelope: `{"success": true, "result": [ … ], …}` |
//! | `zone_settings.json` | the zone as the API returns it, in the envelope, with the zone's settings as `result.settings` |
//! | `zone-export.txt` | the zone as a BIND zone file, as the API exports it, without the line with the time |
//! | `parts.json` | which of the files below exist, and why others do not |
//! | `dnssec.json`, `dns_settings.json`, `page_rules.json`, … | further parts, each in the envelope |
//!
//! Members are sorted by name, and times and owners are zero, so that equal zones give equal archives.
//!
//! The same parser reads the archives of shell scripts: members may be in a folder, `all_records.json` may be a bare
//! list or a sequence of envelopes (one per page), `zone_settings.json` may be a list of settings or the zone alone.

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
/// The member that lists the further parts.
pub const PARTS: &str = "parts.json";

#[cfg(test)]
mod tests;
