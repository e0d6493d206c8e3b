//! The documents in a BSON array, such as a batch of a cursor, as slices of it.

/// The documents of an array. Only their lengths are examined; the last item may be the reason why it is not an array
/// of documents.
pub(crate) fn documents(array: &[u8]) -> Documents<'_> {
    Documents { array, at: 4, ended: false }
}

/// See [`documents`].
pub(crate) struct Documents<'a> {
    array: &'a [u8],
    at: usize,
    ended: bool,
}

impl<'a> Documents<'a> {
    fn step(&mut self) -> Option<Result<&'a [u8], &'static str>> {
        let rest = self.array.get(self.at..)?;
        let (kind, rest) = rest.split_first()?;
        if *kind == 0 {
            return rest.is_empty().then_some(()).map_or(Some(Err("bytes follow the end of an array")), |()| None);
        }
        if *kind != 0x03 {
            return Some(Err("an element of a batch is not a document"));
        }
        // The keys are "0", "1", …: a loop beats a call.
        let Some(key) = rest.iter().position(|b| *b == 0) else { return Some(Err("a key has no end")) };
        let body = &rest[key + 1..];
        let Some(length) = body.first_chunk::<4>().map(|raw| i32::from_le_bytes(*raw)) else {
            return Some(Err("a document ends within its length"));
        };
        let document = usize::try_from(length).ok().filter(|l| *l >= 5).and_then(|l| body.get(..l));
        let Some(document) = document.filter(|d| d.last() == Some(&0)) else {
            return Some(Err("a document has an impossible length"));
        };
        self.at += 1 + key + 1 + document.len();
        Some(Ok(document))
    }
}

impl<'a> Iterator for Documents<'a> {
    type Item = Result<&'a [u8], &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended = !matches!(step, Some(Ok(_)));
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_slices_of_the_array() {
        let written: Vec<bson::RawDocumentBuf> =
            (0..11).map(|n| bson::rawdoc! { "n": n, "a": [1, { "b": 2 }] }).collect();
        let mut array = bson::RawArrayBuf::new();
        written.iter().for_each(|d| array.push(d.clone()));
        let found: Vec<&[u8]> = documents(array.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(found, written.iter().map(|d| d.as_bytes()).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_array_of_documents_is_said_and_ends() {
        let mut array = bson::RawArrayBuf::new();
        array.push(5);
        assert!(documents(array.as_bytes()).next().unwrap().is_err());
        let mut good = bson::RawArrayBuf::new();
        good.push(bson::rawdoc! { "a": 1 });
        for cut in 5..good.as_bytes().len() {
            let found: Vec<_> = documents(&good.as_bytes()[..cut]).collect();
            assert!(found.len() <= 2, "{cut}");
        }
        let mut long = good.as_bytes().to_vec();
        long[7..11].copy_from_slice(&i32::MAX.to_le_bytes());
        assert!(documents(&long).next().unwrap().is_err());
    }
}
