//! Listings of objects, versions and uploads, page by page.

use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::state::{Object, State};
use super::{Lie, Question, Ways, xml};
use crate::http::Answer;

fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// One thing that is listed: by what it is ordered, and its element.
struct Item {
    place: (String, String),
    element: String,
}

/// A page of items after a place, and the place after which the next one begins.
fn page(
    items: Vec<Item>,
    after: Option<(String, String)>,
    ask: &Question,
    ways: &Ways,
) -> (String, usize, Option<(String, String)>) {
    // A repeated page is the first one again.
    let after = after.filter(|_| !ask.lies(Lie::RepeatsPage));
    let mut rest: Vec<Item> =
        items.into_iter().filter(|item| after.as_ref().is_none_or(|after| item.place > *after)).collect();
    let more = rest.len() > ways.page;
    rest.truncate(ways.page);
    let next = rest.last().filter(|_| more).map(|item| item.place.clone());
    if ask.lies(Lie::Disorder) {
        rest.reverse();
    }
    let text = rest.iter().map(|item| item.element.as_str()).collect();
    (text, rest.len(), next)
}

fn is_truncated(ask: &Question, next: bool) -> String {
    match ask.lie {
        Some(Lie::NoEnd) => String::new(),
        Some(Lie::NoToken) => "<IsTruncated>true</IsTruncated>".to_owned(),
        _ => format!("<IsTruncated>{next}</IsTruncated>"),
    }
}

/// The key of an item that was not asked for. None without a prefix: then everything is asked for.
fn stranger(ask: &Question) -> Option<String> {
    (ask.lies(Lie::Stranger) && ask.value("prefix").is_some()).then(|| "~stranger".to_owned())
}

pub(super) fn objects(state: &State, ask: &Question, ways: &Ways) -> Answer {
    let is_new = ask.has("list-type") && !ways.lists_as_of_old;
    let start = format!("{}/", ask.path);
    let prefix = ask.value("prefix").unwrap_or_default();
    let element = |key: &str, object: &Object| {
        let (bytes, modified) = (object.bytes.len(), time(object.modified));
        let bytes = if ask.lies(Lie::OtherSize) { bytes + 1000 } else { bytes };
        format!(
            "<Contents><Key>{}</Key><Size>{bytes}</Size><LastModified>{modified}</LastModified></Contents>",
            encoded(key)
        )
    };
    let mut items: Vec<Item> = state
        .objects
        .keys()
        .filter_map(|path| Some((path.strip_prefix(&start)?, state.newest(path)?)))
        .filter(|(key, _)| key.starts_with(&prefix))
        .map(|(key, object)| Item { place: (key.to_owned(), String::new()), element: element(key, object) })
        .collect();
    if let Some(key) = stranger(ask) {
        let element = format!(
            "<Contents><Key>{}</Key><Size>1</Size><LastModified>{}</LastModified></Contents>",
            encoded(&key),
            time(Timestamp::now())
        );
        items.push(Item { place: (key, String::new()), element });
    }
    let token = if is_new { ask.value("continuation-token") } else { ask.value("marker") };
    let (text, count, next) = page(items, token.clone().map(|token| (token, String::new())), ask, ways);
    let mut body = format!("<EncodingType>url</EncodingType>{text}{}", is_truncated(ask, next.is_some()));
    if is_new {
        body += &format!("<KeyCount>{count}</KeyCount>");
        let next = match ask.lie {
            Some(Lie::NoToken) => None,
            Some(Lie::RepeatsToken) => next.map(|(key, _)| token.unwrap_or(key)),
            _ => next.map(|(key, _)| key),
        };
        body += &next
            .map(|key| format!("<NextContinuationToken>{}</NextContinuationToken>", xml(&key)))
            .unwrap_or_default();
    } else {
        body += &format!("<Marker>{}</Marker>", encoded(&token.unwrap_or_default()));
    }
    Answer::xml(200, format!("<ListBucketResult>{body}</ListBucketResult>"))
}

pub(super) fn versions(state: &State, ask: &Question, ways: &Ways) -> Answer {
    let start = format!("{}/", ask.path);
    let prefix = ask.value("prefix").unwrap_or_default();
    let mut items = Vec::new();
    for (path, versions) in &state.objects {
        let Some(key) = path.strip_prefix(&start).filter(|key| key.starts_with(&prefix)) else { continue };
        for (age, object) in versions.iter().rev().enumerate() {
            let name = if object.is_marker { "DeleteMarker" } else { "Version" };
            let element = format!(
                "<{name}><Key>{}</Key><VersionId>{}</VersionId><IsLatest>{}</IsLatest><Size>{}</Size><LastModified>{}</LastModified></{name}>",
                encoded(key),
                object.version,
                age == 0,
                object.bytes.len(),
                time(object.modified)
            );
            items.push(Item { place: (key.to_owned(), format!("{age:06}")), element });
        }
    }
    if let Some(key) = stranger(ask) {
        let element = format!(
            "<Version><Key>{}</Key><VersionId>x</VersionId><IsLatest>true</IsLatest><Size>1</Size><LastModified>{}</LastModified></Version>",
            encoded(&key),
            time(Timestamp::now())
        );
        items.push(Item { place: (key, String::new()), element });
    }
    let asked = ask.value("key-marker").map(|key| (key, ask.value("version-id-marker").unwrap_or_default()));
    let (text, _, next) = page(items, asked.clone(), ask, ways);
    let body = format!("<EncodingType>url</EncodingType>{text}{}", is_truncated(ask, next.is_some()));
    let next = match ask.lie {
        Some(Lie::NoToken) => None,
        Some(Lie::RepeatsToken) => next.map(|next| asked.unwrap_or(next)),
        _ => next,
    };
    let next = next.map(|(key, id)| {
        format!("<NextKeyMarker>{}</NextKeyMarker><NextVersionIdMarker>{id}</NextVersionIdMarker>", encoded(&key))
    });
    Answer::xml(200, format!("<ListVersionsResult>{body}{}</ListVersionsResult>", next.unwrap_or_default()))
}

pub(super) fn uploads(state: &State, ask: &Question, ways: &Ways) -> Answer {
    let start = format!("{}/", ask.path);
    let prefix = ask.value("prefix").unwrap_or_default();
    let mut items: Vec<Item> = state
        .uploads
        .iter()
        .filter_map(|(id, upload)| Some((id, upload.path.strip_prefix(&start)?, upload)))
        .filter(|(_, key, _)| key.starts_with(&prefix))
        .map(|(id, key, upload)| Item {
            place: (key.to_owned(), id.clone()),
            element: format!(
                "<Upload><Key>{}</Key><UploadId>{id}</UploadId><Initiated>{}</Initiated></Upload>",
                xml(key),
                time(upload.begun)
            ),
        })
        .collect();
    items.sort_by(|a, b| a.place.cmp(&b.place));
    let asked = ask.value("key-marker").map(|key| (key, ask.value("upload-id-marker").unwrap_or_default()));
    let (text, _, next) = page(items, asked.clone(), ask, ways);
    let next = match ask.lie {
        Some(Lie::NoToken) => None,
        Some(Lie::RepeatsToken) => next.map(|next| asked.unwrap_or(next)),
        _ => next,
    };
    let truncated = is_truncated(ask, next.is_some());
    let next = next.map(|(key, id)| {
        format!("<NextKeyMarker>{}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>", xml(&key))
    });
    let body = format!("{text}{truncated}{}", next.unwrap_or_default());
    Answer::xml(200, format!("<ListMultipartUploadsResult>{body}</ListMultipartUploadsResult>"))
}
