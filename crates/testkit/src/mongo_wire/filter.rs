//! Which documents a filter takes: equality, comparisons, `$in`, `$ne`, `$exists`, `$and` and `$or` over top-level fields.

use std::cmp::Ordering;

use bson::{Bson, Document};

/// Whether the filter takes the document.
pub(super) fn matches(filter: &Document, document: &Document) -> bool {
    filter.iter().all(|(key, wanted)| match key.as_str() {
        "$and" => each(wanted).iter().all(|filter| matches(filter, document)),
        "$or" => each(wanted).iter().any(|filter| matches(filter, document)),
        _ => field(document.get(key), wanted),
    })
}

fn each(filters: &Bson) -> Vec<&Document> {
    filters.as_array().map(|all| all.iter().filter_map(Bson::as_document).collect()).unwrap_or_default()
}

fn field(found: Option<&Bson>, wanted: &Bson) -> bool {
    let operators = wanted.as_document().filter(|d| d.keys().next().is_some_and(|key| key.starts_with('$')));
    let Some(operators) = operators else { return found == Some(wanted) };
    operators.iter().all(|(operator, wanted)| {
        let order = found.and_then(|found| order(found, wanted));
        match operator.as_str() {
            "$eq" => found == Some(wanted),
            "$ne" => found != Some(wanted),
            "$gt" => order == Some(Ordering::Greater),
            "$gte" => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            "$lt" => order == Some(Ordering::Less),
            "$lte" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            "$in" => wanted.as_array().is_some_and(|all| found.is_some_and(|found| all.contains(found))),
            "$exists" => wanted.as_bool() == Some(found.is_some()),
            other => panic!("the server of the tests does not know {other}"),
        }
    })
}

/// The order of two values of one type.
fn order(one: &Bson, other: &Bson) -> Option<Ordering> {
    let number = |value: &Bson| match value {
        Bson::Int32(n) => Some(f64::from(*n)),
        Bson::Int64(n) => Some(*n as f64),
        Bson::Double(n) => Some(*n),
        _ => None,
    };
    match (one, other) {
        (Bson::Timestamp(a), Bson::Timestamp(b)) => Some((a.time, a.increment).cmp(&(b.time, b.increment))),
        (Bson::String(a), Bson::String(b)) => Some(a.cmp(b)),
        (Bson::ObjectId(a), Bson::ObjectId(b)) => Some(a.cmp(b)),
        (Bson::DateTime(a), Bson::DateTime(b)) => Some(a.cmp(b)),
        _ => number(one)?.partial_cmp(&number(other)?),
    }
}
