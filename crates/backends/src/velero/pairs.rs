//! Pairs: labels, and mappings of namespaces. A table in a config file, `KEY=VALUE` after a flag.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// A key with its value: the label `app=web`, or the namespace `shop` that becomes `shop-again`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The part before the `=`.
    pub key: String,
    /// The part after it.
    pub value: String,
}

impl Pair {
    /// Creates a pair.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into() }
    }
}

/// Pairs as a Kubernetes map.
pub(crate) fn map(pairs: &[Pair]) -> BTreeMap<String, String> {
    pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect()
}

/// Reads pairs from a table.
pub(crate) fn table<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Pair>, D::Error> {
    Ok(BTreeMap::deserialize(d)?.into_iter().map(|(key, value): (String, String)| Pair { key, value }).collect())
}

/// Reads a label that was given after a flag.
#[cfg(feature = "cli")]
pub(crate) fn label(text: &str) -> Result<Pair, String> {
    read(text, "--label app=web")
}

/// Reads a mapping of a namespace that was given after a flag.
#[cfg(feature = "cli")]
pub(crate) fn mapping(text: &str) -> Result<Pair, String> {
    read(text, "--map shop=shop-again")
}

#[cfg(feature = "cli")]
fn read(text: &str, example: &str) -> Result<Pair, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok(Pair::new(key, value)),
        _ => Err(format!("it is not a pair: write {example}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "cli")]
    #[test]
    fn pairs_are_read_and_what_is_none_is_told_with_an_example() {
        assert_eq!(mapping("shop=again"), Ok(Pair::new("shop", "again")));
        assert_eq!(label("app=a=b"), Ok(Pair::new("app", "a=b")));
        for wrong in ["shop", "=again", "shop="] {
            assert!(mapping(wrong).unwrap_err().contains("--map shop=shop-again"), "{wrong}");
        }
    }

    #[test]
    fn a_table_is_a_list_of_pairs() {
        let read = table(serde_json::json!({"tier": "x", "app": "web"})).unwrap();
        assert_eq!(read, [Pair::new("app", "web"), Pair::new("tier", "x")]);
        assert_eq!(map(&read)["app"], "web");
    }
}
