//! A part of the file as a deserializer: it knows where each value is, and gives a [`Setting`] its place.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::path::Path;

use lifeboat_core::{Setting, setting};
use serde::de::value::{MapDeserializer, StrDeserializer, StringDeserializer};
use serde::de::{
    DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use crate::mistake::position;

/// The file being read.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
    /// The positions of the strings that became settings, by their places.
    places: RefCell<HashMap<String, usize>>,
    /// The positions of all of them: several can have one place.
    settings: RefCell<BTreeSet<usize>>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, places: RefCell::default(), settings: RefCell::default() }
    }

    /// A string of the file at a byte offset.
    pub(crate) fn setting(&self, raw: impl Into<String>, at: usize, key: &str, table: &str) -> Setting {
        let place = self.place(at, key, table);
        Setting::new(raw, place, self.folder())
    }

    fn place(&self, at: usize, key: &str, table: &str) -> String {
        let (line, _) = position(self.text, at);
        let place = format!("{key} of {table} ({}, line {line})", self.path.display());
        self.places.borrow_mut().insert(place.clone(), at);
        self.settings.borrow_mut().insert(at);
        place
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The positions of the strings that have become settings so far.
    pub(crate) fn settings(&self) -> BTreeSet<usize> {
        self.settings.borrow().clone()
    }

    /// The position of this place's setting.
    pub(crate) fn find(&self, place: &str) -> Option<usize> {
        self.places.borrow().get(place).copied()
    }
}

/// A value of the file.
pub(crate) struct Node<'a, 's> {
    value: Spanned<DeValue<'a>>,
    /// Its key, from the job on: `postgres.url`.
    key: String,
    /// The table it is in: `[jobs.shop]`.
    table: &'s str,
    source: &'s Source<'s>,
}

/// What is wrong with a value, and where it is.
#[derive(Debug)]
pub(crate) struct NodeError {
    pub(crate) at: Option<usize>,
    pub(crate) message: String,
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NodeError {}

impl serde::de::Error for NodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { at: None, message: message.to_string() }
    }
}

impl NodeError {
    /// The innermost place is the right one.
    fn within(mut self, span: &Range<usize>) -> Self {
        self.at.get_or_insert(span.start);
        self
    }
}

impl<'a, 's> Node<'a, 's> {
    pub(crate) fn new(
        value: Spanned<DeValue<'a>>,
        key: impl Into<String>,
        table: &'s str,
        source: &'s Source<'s>,
    ) -> Self {
        Self { value, key: key.into(), table, source }
    }

    fn child(&self, value: Spanned<DeValue<'a>>, key: Option<&str>) -> Self {
        let key = key.map_or_else(|| self.key.clone(), |key| format!("{}.{key}", self.key));
        Self { value, key, table: self.table, source: self.source }
    }
}

impl<'de> Deserializer<'de> for Node<'de, '_> {
    type Error = NodeError;

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, NodeError> {
        let span = self.value.span();
        let taken = std::mem::replace(self.value.get_mut(), DeValue::Boolean(false));
        match taken {
            DeValue::Table(table) => {
                let entries: Vec<_> = table.into_iter().collect();
                visitor.visit_map(Entries { parent: &self, rest: entries.into_iter(), next: None })
            }
            DeValue::Array(values) => {
                let values: Vec<_> = values.into_iter().collect();
                visitor.visit_seq(Values { parent: &self, rest: values.into_iter() })
            }
            scalar => ValueDeserializer::from(Spanned::new(span.clone(), scalar))
                .deserialize_any(visitor)
                .map_err(|error| NodeError::custom(error.message())),
        }
        .map_err(|error| error.within(&span))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        let span = self.value.span();
        let raw = match self.value.get_ref() {
            DeValue::String(text) if name == setting::NEWTYPE => text.clone().into_owned(),
            _ => return visitor.visit_newtype_struct(self).map_err(|error| error.within(&span)),
        };
        let place = self.source.place(span.start, &self.key, self.table);
        let folder = self.source.folder().to_string_lossy().into_owned();
        let parts = [("raw", raw), ("place", place), ("folder", folder)];
        visitor.visit_map(MapDeserializer::new(parts.into_iter())).map_err(|error: NodeError| error.within(&span))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        let span = self.value.span();
        let taken = std::mem::replace(self.value.get_mut(), DeValue::Boolean(false));
        match taken {
            DeValue::String(text) => {
                let text: StringDeserializer<NodeError> = text.into_owned().into_deserializer();
                visitor.visit_enum(text)
            }
            DeValue::Table(table) if table.len() == 1 => {
                let (key, value) = table.into_iter().next().expect("it has one entry");
                let node = self.child(value, Some(key.get_ref()));
                visitor.visit_enum(Variant { name: key.get_ref().to_string(), node })
            }
            _ => Err(NodeError::custom("it is neither a string nor a table with one key")),
        }
        .map_err(|error| error.within(&span))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Entries<'de, 'n, 's> {
    parent: &'n Node<'de, 's>,
    rest: std::vec::IntoIter<(Spanned<std::borrow::Cow<'de, str>>, Spanned<DeValue<'de>>)>,
    next: Option<(String, Spanned<DeValue<'de>>)>,
}

impl<'de> MapAccess<'de> for Entries<'de, '_, '_> {
    type Error = NodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, NodeError> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        let span = key.span();
        let name = key.into_inner().into_owned();
        let text: StrDeserializer<'_, NodeError> = name.as_str().into_deserializer();
        let read = seed.deserialize(text).map_err(|error| error.within(&span))?;
        self.next = Some((name, value));
        Ok(Some(read))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, NodeError> {
        let (name, value) = self.next.take().expect("a key is asked for before its value");
        let span = value.span();
        seed.deserialize(self.parent.child(value, Some(&name))).map_err(|error| error.within(&span))
    }
}

struct Values<'de, 'n, 's> {
    parent: &'n Node<'de, 's>,
    rest: std::vec::IntoIter<Spanned<DeValue<'de>>>,
}

impl<'de> SeqAccess<'de> for Values<'de, '_, '_> {
    type Error = NodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, NodeError> {
        let Some(value) = self.rest.next() else { return Ok(None) };
        let span = value.span();
        seed.deserialize(self.parent.child(value, None)).map(Some).map_err(|error| error.within(&span))
    }
}

struct Variant<'de, 's> {
    name: String,
    node: Node<'de, 's>,
}

impl<'de, 's> EnumAccess<'de> for Variant<'de, 's> {
    type Error = NodeError;
    type Variant = Node<'de, 's>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Node<'de, 's>), NodeError> {
        let name: StrDeserializer<'_, NodeError> = self.name.as_str().into_deserializer();
        Ok((seed.deserialize(name)?, self.node))
    }
}

impl<'de> VariantAccess<'de> for Node<'de, '_> {
    type Error = NodeError;

    fn unit_variant(self) -> Result<(), NodeError> {
        Err(NodeError::custom("it takes no value"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, NodeError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_any(visitor)
    }
}
