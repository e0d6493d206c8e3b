//! What an archive contains about a collection besides its documents: options, indexes, UUID.

use bson::raw::RawDocumentBuf;
use lifeboat_core::{Error, ErrorKind, Result};

use super::element::Elements;
use super::extended_json::{self, to_extended_json};
use super::extended_json_read::Json;

/// A collection's options and indexes, as returned by `listCollections` and `listIndexes`. The order of keys is kept,
/// because that of an index's keys is significant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// `options` from `listCollections`; `None` if there are none.
    pub options: Option<RawDocumentBuf>,
    /// The documents from `listIndexes`, including that of `_id_`; none for a view.
    pub indexes: Vec<RawDocumentBuf>,
    /// `info.uuid` of `listCollections`: 32 lower-case hexadecimal digits.
    pub uuid: Option<String>,
    /// The collection's name.
    pub collection_name: String,
    /// `type` of `listCollections`: `collection`, `view` or `timeseries`. Empty in archives of old tools.
    pub kind: String,
}

impl Metadata {
    /// The JSON text as mongodump writes it: compact canonical Extended JSON v2, keys in the order `options`, `indexes`,
    /// `uuid`, `collectionName`, `type`.
    ///
    /// # Behaviour
    /// - The text is parsed again and compared: a value that Extended JSON cannot express (a NaN with a payload) is an
    ///   error, as in mongodump.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with the collection's name.
    pub fn to_json(&self) -> Result<String> {
        let unsupported = |what: &str, why: String| {
            Error::new(
                ErrorKind::Unsupported,
                "write",
                format!("{what} of the collection {}", self.collection_name),
                why,
            )
        };
        let mut out = String::from("{");
        if let Some(options) = self.options.as_ref().filter(|options| options.as_bytes().len() > super::MIN_DOCUMENT) {
            out.push_str("\"options\":");
            out.push_str(&exact(options).map_err(|why| unsupported("the options", why))?);
            out.push(',');
        }
        out.push_str("\"indexes\":[");
        for (number, index) in self.indexes.iter().enumerate() {
            if number > 0 {
                out.push(',');
            }
            out.push_str(&exact(index).map_err(|why| unsupported("an index", why))?);
        }
        out.push(']');
        let mut text = |name: &str, value: &str| {
            out.push_str(name);
            extended_json::quote(&mut out, value);
        };
        if let Some(uuid) = &self.uuid {
            text(",\"uuid\":", uuid);
        }
        text(",\"collectionName\":", &self.collection_name);
        if !self.kind.is_empty() {
            text(",\"type\":", &self.kind);
        }
        out.push('}');
        Ok(out)
    }

    /// Parses the JSON text, canonical or in the relaxed forms of old tools. Unknown keys are skipped.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(json: &str) -> Result<Self, String> {
        let mut metadata = Self::default();
        let mut json = Json::new(json);
        json.object(|json, key| {
            match key {
                "options" => metadata.options = json.optional_document()?,
                "indexes" => json.array(|json| {
                    metadata.indexes.push(json.document()?);
                    Ok(())
                })?,
                "uuid" => metadata.uuid = json.text()?,
                "collectionName" => metadata.collection_name = json.text()?.unwrap_or_default(),
                "type" => metadata.kind = json.text()?.unwrap_or_default(),
                _ => json.skip()?,
            }
            Ok(())
        })?;
        json.end()?;
        Ok(metadata)
    }

    /// Whether it is a capped collection. Servers before 3.2 stored numbers for booleans.
    pub(crate) fn is_capped(&self) -> bool {
        match self.option("capped") {
            Some((0x01 | 0x08 | 0x10 | 0x12, value)) => value.iter().any(|byte| *byte != 0),
            _ => false,
        }
    }

    /// Whether the options have a key, and the bytes of its value with the BSON type.
    pub(crate) fn option(&self, name: &str) -> Option<(u8, &[u8])> {
        let options = self.options.as_ref()?;
        Elements::of(options.as_bytes())
            .ok()?
            .filter_map(std::result::Result::ok)
            .find(|element| element.name == name.as_bytes())
            .map(|element| (element.kind, element.value))
    }
}

/// A document's Extended JSON, from which the exact bytes can be recovered.
fn exact(document: &RawDocumentBuf) -> Result<String, String> {
    let text = to_extended_json(document.as_bytes())?;
    let back = super::from_extended_json(&text)?;
    if back.as_bytes() != document.as_bytes() {
        return Err("it holds a value that Extended JSON cannot express".to_owned());
    }
    Ok(text)
}
