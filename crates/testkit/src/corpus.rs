//! The inputs of the fuzzer, replayed by ordinary tests.

use std::fmt::Debug;

/// Replays the corpus of a fuzz target whose first byte is the size of the chunks: `prove` gets the rest of each input, cut as that
/// byte says, into single bytes, and not at all. Returns the names of those that are good, sorted.
///
/// # Panics
/// When what comes of an input depends on how it is cut, or there is no corpus.
pub fn replay<T, E>(target: &str, prove: impl Fn(&[u8], usize) -> Result<T, E>) -> Vec<String>
where
    T: Debug + PartialEq,
    E: Debug + PartialEq,
{
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut good = Vec::new();
    for seed in std::fs::read_dir(folder).expect("the corpus is part of the repository") {
        let path = seed.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        let (size, rest) = input.split_first().unwrap();
        let outcomes = [usize::from(*size), 1, usize::MAX].map(|size| prove(rest, size));
        assert_eq!(outcomes[0], outcomes[1], "{}", path.display());
        assert_eq!(outcomes[0], outcomes[2], "{}", path.display());
        good.extend(outcomes[0].is_ok().then(|| path.file_name().unwrap().to_string_lossy().into_owned()));
    }
    good.sort();
    good
}
