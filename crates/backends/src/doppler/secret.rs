//! A secret, in memory that is wiped.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A text that is wiped when it is dropped, and that `Debug` does not show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text(Zeroizing<String>);

impl Text {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(…)")
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(text.to_owned().into())
            }

            fn visit_string<E>(self, text: String) -> Result<Text, E> {
                Ok(text.into())
            }
        }
        d.deserialize_str(Visitor)
    }
}

/// A secret as Doppler's API lists it (`GET /v3/configs/config/secrets`), in the same shape.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// The value as entered, with references as `${OTHER}`. `None` if it is restricted, so that the token may not read
    /// it.
    #[serde(default)]
    pub raw: Option<Text>,
    /// The value that programs get, with references resolved.
    #[serde(default)]
    pub computed: Option<Text>,
    /// `masked`, `unmasked` or `restricted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_visibility: Option<String>,
    /// The visibility of the computed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_visibility: Option<String>,
    /// The type of the value: `{"type": "string"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_value_type: Option<serde_json::Value>,
    /// The type of the computed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_value_type: Option<serde_json::Value>,
    /// The note of the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Text>,
}

impl Secret {
    /// Creates a secret with only the value that programs get, as in the output of `doppler secrets download`.
    pub fn of_value(value: Text) -> Self {
        Self { computed: Some(value), ..Self::default() }
    }

    /// The value to put back into Doppler: the entered one or, for backups by scripts, which lack it, the computed one.
    pub fn to_upload(&self) -> Option<&str> {
        self.raw.as_ref().or(self.computed.as_ref()).map(Text::expose)
    }

    /// The value that programs get.
    pub fn value(&self) -> Option<&str> {
        self.computed.as_ref().or(self.raw.as_ref()).map(Text::expose)
    }

    /// The note; empty if there is none.
    pub fn note(&self) -> &str {
        self.note.as_ref().map_or("", Text::expose)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let secret =
            Secret { note: Some("hunter3".to_owned().into()), ..Secret::of_value("hunter2".to_owned().into()) };
        assert_eq!(format!("{secret:?} {:?}", secret.computed), "Secret(…) Some(Text(…))");
    }

    #[test]
    fn the_shape_is_dopplers() {
        let text =
            r#"{"raw":"${A}","computed":"x","rawVisibility":"masked","rawValueType":{"type":"string"},"note":""}"#;
        let secret: Secret = serde_json::from_str(text).unwrap();
        assert_eq!((secret.to_upload(), secret.value(), secret.note()), (Some("${A}"), Some("x"), ""));
        assert_eq!(serde_json::to_string(&secret).unwrap(), text);
        let restricted: Secret =
            serde_json::from_str(r#"{"raw":null,"computed":null,"rawVisibility":"restricted"}"#).unwrap();
        assert_eq!(restricted.value(), None);
    }
}
