//! One item of an artifact, without the rest: the rows of a table, the documents of a collection.
//!
//! The whole artifact is read for it, as for everything that proves something; but nothing is kept except what stands in the
//! parser. [`Restore::item`](crate::Restore::item) does it, with an [`Extract`] that a [`Verifier`](crate::Verifier) makes.

use crate::error::{Error, ErrorKind, Result};
use crate::proof::{Proof, ProofItem, Tap, WholeStream};
use crate::words::count;

/// Where the bytes of an item go, in pieces of any size.
pub type Out<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Takes one item out of the plaintext of an artifact that streams past: a [`Tap`] that gives out what belongs to it.
///
/// `lifeboat_conformance::verifier` checks what is promised here.
pub trait Extract: Send {
    /// What the bytes are, for a person, in one line: `rows for COPY public.orders (id, total) FROM STDIN`. Known from the
    /// beginning or when the item has begun.
    fn form(&self) -> String;

    /// Takes the next bytes, and gives out those of the item. Chunk boundaries mean nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the bytes are not of the format; [`ErrorKind::NotFound`] as soon as it is known that the item
    /// is not there; [`ErrorKind::Unsupported`] for one that cannot be read alone; what `out` fails with, as it is.
    fn take(&mut self, chunk: &[u8], out: &mut Out<'_>) -> Result<()>;

    /// The stream has ended. Gives out what is left of the item, and returns the proof of the whole artifact, as its tap does.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when this cannot be the end; [`ErrorKind::NotFound`] when the item has not come, as [`find`] says it;
    /// what `out` fails with.
    fn end(self: Box<Self>, out: &mut Out<'_>) -> Result<Proof>;
}

/// A stream without structure is one item: all of it.
impl Extract for WholeStream {
    fn form(&self) -> String {
        "everything, as it was".to_owned()
    }

    fn take(&mut self, chunk: &[u8], out: &mut Out<'_>) -> Result<()> {
        Tap::push(self, chunk)?;
        out(chunk)
    }

    fn end(self: Box<Self>, _: &mut Out<'_>) -> Result<Proof> {
        Tap::finish(self)
    }
}

/// The item that is meant by a name, among those that can be read alone: the one that is called so, with its quotes or without;
/// or else the only one that is called so in its schema or database.
///
/// # Errors
/// [`ErrorKind::NotFound`], with how many there are and the names that are near it; [`ErrorKind::Config`] when several are meant.
///
/// ```
/// use lifeboat_core::{ProofItem, extract};
///
/// let items = ["public.\"Orders\"", "public.people"].map(|name| ProofItem::new("table", name, 1));
/// assert_eq!(extract::find(&items, "public.Orders", "the backup")?.name, "public.\"Orders\"");
/// assert_eq!(extract::find(&items, "people", "the backup")?.name, "public.people");
/// let error = extract::find(&items, "public.peopel", "the backup").unwrap_err();
/// assert!(error.advice().unwrap().contains("public.people"));
/// # Ok::<(), lifeboat_core::Error>(())
/// ```
pub fn find<'a>(items: impl IntoIterator<Item = &'a ProofItem>, wanted: &str, subject: &str) -> Result<&'a ProofItem> {
    let items: Vec<&ProofItem> = items.into_iter().collect();
    let plain = |name: &str| name.replace('"', "");
    let inner =
        |item: &ProofItem| plain(&item.name).strip_suffix(&plain(wanted)).is_some_and(|rest| rest.ends_with('.'));
    let same = |fits: &dyn Fn(&ProofItem) -> bool| -> Vec<&'a ProofItem> {
        items.iter().copied().filter(|item| fits(item)).collect()
    };
    let mut found = same(&|item| item.name == wanted || item.shown() == wanted);
    if found.is_empty() {
        found = same(&|item| plain(&item.name) == plain(wanted));
    }
    if found.is_empty() {
        found = same(&inner);
    }
    match found[..] {
        [one] => Ok(one),
        [] => Err(missing(&items, wanted, subject)),
        ref several => {
            let names: Vec<String> = several.iter().take(NAMED).map(|item| item.shown().into_owned()).collect();
            let why = format!("\"{wanted}\" can be any of {} items", several.len());
            Err(Error::new(ErrorKind::Config, "find an item in", subject, why)
                .hint(format!("name one of them in full: {}", names.join(", "))))
        }
    }
}

/// Names that an error lists.
const NAMED: usize = 5;

fn missing(items: &[&ProofItem], wanted: &str, subject: &str) -> Error {
    if items.is_empty() {
        let why = format!("there is no \"{wanted}\": nothing in it can be read alone");
        return Error::new(ErrorKind::NotFound, "find an item in", subject, why);
    }
    let plain = |name: &str| name.replace('"', "").to_lowercase();
    let bare = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    // As far from it as a typo may be, or infinitely.
    let distance = |wanted: &str, name: &str| {
        let distance = strsim::damerau_levenshtein(wanted, name);
        if distance <= (wanted.chars().count() / 3).max(2) { distance } else { usize::MAX }
    };
    let asked = plain(wanted);
    let mut near: Vec<(usize, &str)> = items
        .iter()
        .map(|item| {
            let name = plain(&item.name);
            (distance(&asked, &name).min(distance(&bare(&asked), &bare(&name))), item.name.as_str())
        })
        .filter(|(distance, _)| *distance < usize::MAX)
        .collect();
    near.sort_unstable();
    near.dedup();
    let count = count(items.len(), "item");
    let why = format!("there is no \"{wanted}\"; {count} of it can be read alone");
    let error = Error::new(ErrorKind::NotFound, "find an item in", subject, why);
    let (lead, names): (_, Vec<&str>) = match near.is_empty() {
        false => ("near it", near.iter().take(NAMED).map(|(_, name)| *name).collect()),
        true => ("there are", items.iter().take(NAMED).map(|item| item.name.as_str()).collect()),
    };
    let more = if near.is_empty() && items.len() > NAMED { ", …" } else { "" };
    error.hint(format!("{lead}: {}{more}; `lifeboat show JOB --items` lists them all", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn items(names: &[&str]) -> Vec<ProofItem> {
        names.iter().map(|name| ProofItem::new("table", *name, 0)).collect()
    }

    #[test]
    fn a_name_means_one_item_or_none() {
        let all = items(&["public.orders", "public.\"Order\"", "sales.people", "public.people", "shop.a.b"]);
        for (wanted, name) in [
            ("public.orders", "public.orders"),
            ("public.Order", "public.\"Order\""),
            ("orders", "public.orders"),
            ("Order", "public.\"Order\""),
            ("a.b", "shop.a.b"),
            ("b", "shop.a.b"),
        ] {
            assert_eq!(find(&all, wanted, "it").unwrap().name, name, "{wanted}");
        }
        for (wanted, kind, says) in [
            ("people", ErrorKind::Config, "sales.people, public.people"),
            ("public.oders", ErrorKind::NotFound, "near it: public.orders"),
            ("rders", ErrorKind::NotFound, "near it: public."),
            ("something.else", ErrorKind::NotFound, "there are: public.orders"),
        ] {
            let error = find(&all, wanted, "it").unwrap_err();
            assert_eq!(error.kind(), kind, "{wanted}: {error}");
            assert!(error.advice().unwrap().contains(says), "{wanted}: {:?}", error.advice());
        }
        assert!(find(&all, "x", "it").unwrap_err().message().contains("5 items"));
        assert!(find(&[], "x", "it").unwrap_err().message().contains("nothing"));
    }

    proptest! {
        #[test]
        fn every_item_is_found_by_its_own_name(names in proptest::collection::btree_set("[a-c]\\.\"?[a-cA-C]{1,3}\"?", 1..8)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let all = items(&names);
            for name in &names {
                prop_assert_eq!(&find(&all, name, "it").unwrap().name, name);
            }
        }
    }
}
