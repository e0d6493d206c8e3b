//! Which keys a table accepts, as its deserializer says: nothing that is read can be left out of the manual.

use std::collections::BTreeMap;

use serde::de::value::{Error, MapDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// The keys of tables by the path of the table: `""` the one itself, `test` one in it, `schedules.NAME` each of several.
pub(crate) type Keys = BTreeMap<String, Vec<&'static str>>;

/// What stands for a name that a file chooses.
const NAME: &str = "NAME";

/// The keys that a table accepts, and those of the tables in it.
pub(crate) fn keys<T: DeserializeOwned>() -> Keys {
    let mut found = Keys::new();
    let _ = T::deserialize(Probe { path: String::new(), found: &mut found, within: None });
    for key in found.get("").cloned().unwrap_or_default() {
        let _ = T::deserialize(Probe { path: String::new(), found: &mut found, within: Some(key) });
    }
    found
}

/// The key that a table cannot do without, where there is one: what its deserializer misses first.
pub(crate) fn required<T: DeserializeOwned>() -> Option<String> {
    let empty = MapDeserializer::<_, Error>::new(std::iter::empty::<(&str, &str)>());
    let missed = T::deserialize(empty).err()?.to_string();
    Some(missed.strip_prefix("missing field `")?.split('`').next()?.to_owned())
}

/// A deserializer that notes the keys it is asked for and gives nothing.
struct Probe<'a> {
    path: String,
    found: &'a mut Keys,
    /// The one key that the table has.
    within: Option<&'static str>,
}

fn nothing() -> Error {
    Error::custom("nothing is read")
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.within {
            Some(key) => visitor.visit_map(One { key: Some(key), path: key.to_owned(), found: self.found }),
            None => {
                self.found.insert(self.path, fields.to_vec());
                Err(nothing())
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let path = format!("{}.{NAME}", self.path);
        visitor.visit_map(One { key: Some(NAME), path, found: self.found })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(nothing())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct enum identifier ignored_any
    }
}

/// A table of one key.
struct One<'a> {
    key: Option<&'static str>,
    path: String,
    found: &'a mut Keys,
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let key: Option<StrDeserializer<'_, Error>> = self.key.take().map(IntoDeserializer::into_deserializer);
        key.map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Probe { path: self.path.clone(), found: self.found, within: None })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn keys_are_those_that_are_read_in_every_table() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Inner {
            a: String,
            #[serde(skip)]
            never: String,
        }
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Outer {
            #[serde(rename = "other")]
            one: Option<Inner>,
            each: BTreeMap<String, Inner>,
            plain: u8,
        }
        assert_eq!(required::<Outer>().as_deref(), Some("each"));
        let found = keys::<Outer>();
        assert_eq!(found[""], ["other", "each", "plain"]);
        assert_eq!((&found["other"][..], &found["each.NAME"][..], found.len()), (&["a"][..], &["a"][..], 3));
    }
}
