//! All unknown keys of a table, not only the first: serde stops at each, so the table is read again without it.

use toml::Spanned;
use toml::de::DeValue;

/// What is wrong with a table, and where, as a deserializer says it.
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) at: Option<usize>,
}

impl Fault {
    /// The key, where it is one that nobody knows.
    fn unknown(&self) -> Option<&str> {
        self.message.strip_prefix("unknown field `")?.split('`').next()
    }
}

/// Reads a table. With an unknown key, the rest of it is read for its faults only: what is missing may be what is misspelt.
///
/// # Errors
/// All unknown keys, in the order in which they are found, and what else is wrong with its shape.
pub(crate) fn read<'a, T, E>(
    mut value: Spanned<DeValue<'a>>,
    mut read: impl FnMut(Spanned<DeValue<'a>>) -> Result<T, E>,
    fault: impl Fn(&E) -> Option<Fault>,
) -> Result<T, Vec<E>> {
    let mut failed: Vec<E> = Vec::new();
    loop {
        let error = match read(value.clone()) {
            Ok(table) if failed.is_empty() => return Ok(table),
            Ok(_) => return Err(failed),
            Err(error) => error,
        };
        let Some(found) = fault(&error) else {
            // About what the settings mean together, and not about one key.
            if failed.is_empty() {
                failed.push(error);
            }
            return Err(failed);
        };
        let Some(name) = found.unknown() else {
            if failed.is_empty() || !found.message.starts_with("missing field") {
                failed.push(error);
            }
            return Err(failed);
        };
        // Where a parser of its own reads a table, the place is that of the whole table.
        let gone = remove(&mut value, name, found.at) || remove(&mut value, name, None);
        failed.push(error);
        if !gone {
            return Err(failed);
        }
    }
}

/// Takes a key out, by its name and its place.
fn remove(value: &mut Spanned<DeValue<'_>>, name: &str, at: Option<usize>) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => {
            let before = table.len();
            let (known, rest) = std::mem::take(table).into_iter().partition::<Vec<_>, _>(|(key, _)| {
                !(key.get_ref() == name && at.is_none_or(|at| key.span().start == at))
            });
            *table = known.into_iter().collect();
            if !rest.is_empty() {
                return table.len() < before;
            }
            table.iter_mut().any(|(_, value)| remove(value, name, at))
        }
        DeValue::Array(values) => values.iter_mut().any(|value| remove(value, name, at)),
        _ => false,
    }
}
