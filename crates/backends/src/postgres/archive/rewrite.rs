//! Rewrites a table of contents: entries without their owner, or with fewer statements.
//!
//! pg_restore keeps all owners or none (`--no-owner`), and all statements of an entry or none (`--use-list`). On a server that
//! lacks only one of many roles, the grants of all would be lost.

use std::collections::BTreeMap;
use std::ops::Range;

use lifeboat_core::{Error, ErrorKind, Result};

use super::toc::{DataOffset, Toc};

/// A change to an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Whether to remove the owner, so that the object belongs to the restoring role.
    pub without_owner: bool,
    /// The new SQL, in the archive's encoding.
    pub defn: Option<Vec<u8>>,
}

/// Changes entries in header and table of contents (`head`). Data offsets that are set are adjusted.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if `head` is not what `toc` was read from.
pub fn rewrite(toc: &Toc, head: &[u8], changes: &BTreeMap<i32, Change>) -> Result<Vec<u8>> {
    if head.len() as u64 != toc.byte_len {
        return Err(refused(format!("{} bytes are given where there are {}", head.len(), toc.byte_len)));
    }
    let int = usize::from(toc.header.int_size);
    // WriteStr: a sign byte, a little-endian length, the text.
    let field = |text: &[u8]| {
        let length = (text.len() as u64).to_le_bytes();
        [&[0], &length[..int.min(length.len())], text].concat()
    };
    let mut fields: Vec<(Range<u64>, Vec<u8>)> = Vec::new();
    let mut grown = 0i64;
    for entry in &toc.entries {
        let Some(change) = changes.get(&entry.dump_id) else { continue };
        let defn = change.defn.as_deref().map(|defn| (entry.defn_at.clone(), field(defn)));
        let owner = change.without_owner.then(|| (entry.owner_at.clone(), field(b"")));
        for (at, text) in defn.into_iter().chain(owner) {
            grown += text.len() as i64 - at.end.saturating_sub(at.start) as i64;
            fields.push((at, text));
        }
    }
    for entry in &toc.entries {
        let DataOffset::At(offset) = entry.offset else { continue };
        let size = usize::from(toc.header.off_size);
        let moved = offset.checked_add_signed(grown).ok_or_else(|| refused(format!("an offset of {offset}")))?;
        let bytes = moved.to_le_bytes();
        // The flag stays.
        let start = entry.offset_position + 1;
        fields.push((start..start + size as u64, bytes[..size.min(bytes.len())].to_vec()));
    }
    fields.sort_by_key(|(at, _)| at.start);
    let mut out = Vec::with_capacity(head.len());
    let mut from = 0;
    for (at, bytes) in fields {
        let ends = usize::try_from(at.start).ok().zip(usize::try_from(at.end).ok());
        let (start, end) = ends
            .filter(|(start, end)| from <= *start && start < end && *end <= head.len())
            .ok_or_else(|| refused("an entry has no place in it".to_owned()))?;
        out.extend_from_slice(&head[from..start]);
        out.extend_from_slice(&bytes);
        from = end;
    }
    out.extend_from_slice(&head[from..]);
    Ok(out)
}

fn refused(why: String) -> Error {
    Error::new(ErrorKind::Corrupt, "change", "the archive's table of contents", why)
}
