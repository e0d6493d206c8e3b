//! Cloudflare DNS: a zone through the API, version 4.
//!
//! - [`CloudflareZone`] reads a zone as a tar of JSON files and a BIND zone file ([`archive`]).
//! - [`CloudflareTarget`] plans how to bring a live zone back to its state in the backup, and does it in batches;
//!   [`ZoneFileTarget`] writes a zone file for any other DNS server.
//! - [`CloudflareVerifier`] parses an artifact, rebuilds the zone as a zone file, reads that back with an independent
//!   DNS library, and compares; at the level `live`, it compares record by record with the live zone.
//!
//! [`http`](crate::http) handles requests, retries and rate limits. The API is documented at
//! <https://developers.cloudflare.com/api/>.

mod api;
pub mod archive;
mod check;
mod dns;
mod paging;
mod plan;
mod record;
mod source;
mod system;
mod target;
mod verifier;
mod zone;
mod zone_file;

use lifeboat_core::ArtifactName;

pub use api::{Api, DEFAULT_URL};
pub use check::check;
pub use record::Extra;
pub use source::CloudflareZone;
pub use system::{CloudflareSystem, RestoreOptions, VerifyOptions, ZoneSettings};
pub use target::CloudflareTarget;
pub use verifier::{CloudflareVerifier, VerifierOptions};
pub use zone::{Zone, ZoneRef};
pub use zone_file::ZoneFileTarget;

use lifeboat_core::words::Noun;

/// What a zone holds.
pub(crate) const RECORDS: Noun = Noun::new("record", "records");

/// What the items of a kind hold: [`System::unit`](lifeboat_core::System::unit).
pub(crate) fn unit(kind: &str) -> Option<Noun> {
    match kind {
        "" | "record" => Some(RECORDS),
        // Settings, and what is kept as it came.
        _ => None,
    }
}

/// The name of the system in manifests.
pub const SYSTEM: &str = "cloudflare-dns";

/// The extension of the artifacts' format.
pub const FORMAT: &str = "tar";

/// The end of the shell line that restores an artifact with stock tools: it gives the zone file, which any DNS provider
/// imports.
pub fn stock_restore(_: &ArtifactName) -> &'static str {
    "tar -xOf - zone-export.txt"
}
