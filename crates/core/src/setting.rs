//! Configuration strings before they are resolved: `${VAR}` stands for an environment variable and, for a secret,
//! `file:PATH` for the content of a file.
//!
//! A string is resolved only when needed: a machine that only verifies does not have the password of the database.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, ErrorKind, Result};

/// The newtype name by which a deserializer recognizes a [`Setting`]. A deserializer that knows where its strings are
/// (as for a config file) returns a map of `raw`, `place` and `folder`; any other returns the string.
pub const NEWTYPE: &str = "$lifeboat::Setting";

/// A configuration string and its place in the configuration. `Debug` does not show the string.
///
/// Serde reads it as a string. After a command-line flag it is a literal, `env:NAME` (the variable that holds the
/// value) or `file:PATH` (for a secret: the file that holds it).
///
/// ```
/// use lifeboat_core::Setting;
///
/// let url = Setting::new("https://${HOST_THAT_IS_NOT_SET}/", "jobs.shop.url", "/etc/lifeboat");
/// // It is resolved when needed, and the error names its place.
/// let error = url.text().unwrap_err();
/// assert!(error.to_string().contains("jobs.shop.url"), "{error}");
/// ```
#[derive(Clone)]
pub struct Setting {
    raw: String,
    place: String,
    folder: PathBuf,
}

impl Setting {
    /// Creates a setting found at `place` (for errors). Relative paths in it are relative to `folder`.
    pub fn new(raw: impl Into<String>, place: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        Self { raw: raw.into(), place: place.into(), folder: folder.into() }
    }

    /// Creates a setting from a command-line argument, or from a program. Paths are relative to the working folder.
    pub fn argument(raw: impl Into<String>, flag: &str) -> Self {
        Self::new(raw, flag, "")
    }

    /// Creates a setting from the value of a flag: `env:NAME` stands for a variable, `file:PATH` (for a secret) for a
    /// file. In any other value, `${VAR}` has no special meaning.
    pub fn given(text: &str, flag: &str) -> Self {
        match text.strip_prefix("env:") {
            Some(name) => Self::argument(format!("${{{name}}}"), flag),
            None => Self::argument(text.replace("${", "$${"), flag),
        }
    }

    /// Creates a setting that names an environment variable.
    pub fn variable_named(name: &str) -> Self {
        Self::argument(format!("${{{name}}}"), name)
    }

    /// Whether this is the value itself, not the name of a variable or file. A secret should not be, because it is then
    /// readable wherever it was written.
    pub fn is_literal(&self) -> bool {
        !self.raw.starts_with("file:") && !self.raw.replace("$${", "").contains("${")
    }

    /// Creates a setting with the same place but another string, such as a part of it.
    pub fn with(&self, raw: impl Into<String>) -> Self {
        Self { raw: raw.into(), ..self.clone() }
    }

    /// The unresolved string, to examine its form. Never print it.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// Where it was written.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Creates an error about this setting.
    pub fn wrong(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::Config, "use", self.place.clone(), why)
    }

    /// Resolves the string with its variables.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a variable that is not set.
    pub fn text(&self) -> Result<String> {
        let mut text = String::new();
        let mut rest = self.raw.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            // `$${` stands for `${` itself.
            if let Some(before) = before.strip_suffix('$') {
                text += before;
                text += "${";
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}') else {
                return Err(self
                    .wrong("a ${ in it has no }")
                    .hint("write ${NAME}; for the characters ${ themselves, $${"));
            };
            text += before;
            text += &self.variable(name)?;
            rest = after;
        }
        text += rest;
        Ok(text)
    }

    /// Resolves the string with its variables, or reads the file that it names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a variable that is not set or a file that cannot be read.
    pub fn secret(&self) -> Result<SecretString> {
        let text = self.text()?;
        let Some(path) = self.raw.strip_prefix("file:").and(text.strip_prefix("file:")) else {
            return Ok(text.into());
        };
        let path = self.locate(path.strip_prefix("//").unwrap_or(path));
        let text = read(&path).map_err(|e| {
            self.wrong(format!("{} cannot be read: {e}", path.display()))
                .hint("check the path after file: and its permissions")
        })?;
        let text = text.trim_end();
        if text.is_empty() {
            return Err(self.wrong(format!("{} is empty", path.display())));
        }
        Ok(text.to_owned().into())
    }

    /// Resolves the secret and parses it with `parse`. Errors name the setting's place.
    ///
    /// # Errors
    /// Those of [`secret`](Self::secret) and of `parse`.
    pub fn read<T>(&self, parse: impl FnOnce(&SecretString) -> Result<T>) -> Result<T> {
        parse(&self.secret()?).map_err(|error| error.about("use", self.place()).without_source())
    }

    /// Resolves the string as a path.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a variable that is not set.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(self.locate(&self.text()?))
    }

    fn locate(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
            (Some(rest), Some(home)) => Path::new(&home).join(rest),
            _ => self.folder.join(path),
        }
    }

    fn variable(&self, name: &str) -> Result<String> {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(self.wrong(format!("${{{name}}} does not name a variable")).hint("write ${NAME}"));
        }
        match std::env::var(name) {
            Ok(value) if !value.is_empty() => Ok(value),
            Ok(_) => Err(self.wrong(format!("the environment variable {name} is empty"))),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(self.wrong(format!("the environment variable {name} is not UTF-8")))
            }
            Err(std::env::VarError::NotPresent) => Err(self
                .wrong(format!("the environment variable {name} is not set"))
                .hint(format!("set it before lifeboat starts, as in: export {name}=…"))),
        }
    }
}

/// Reads a small text file.
pub fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

/// Converts a parser's error into a deserializer's, with the advice in the text, the only place for it.
pub fn with_advice<E: serde::de::Error>(error: &Error) -> E {
    match error.advice() {
        Some(hint) => E::custom(format_args!("{}: {}; {hint}", error.subject(), error.message())),
        None => E::custom(format_args!("{}: {}", error.subject(), error.message())),
    }
}

/// Deserializes an `Option` that must be present in a configuration table: for `#[serde(deserialize_with = …)]`,
/// without `default`.
///
/// # Errors
/// Those of the deserializer.
pub fn required<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Parts {
            raw: String,
            place: String,
            folder: PathBuf,
        }
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Setting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Setting, E> {
                Ok(Setting::new(text, "the settings", ""))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Setting, D::Error> {
                d.deserialize_str(self)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Setting, A::Error> {
                let Parts { raw, place, folder } = Parts::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Setting { raw, place, folder })
            }
        }
        d.deserialize_newtype_struct(NEWTYPE, Form)
    }
}

#[cfg(feature = "cli")]
mod cli {
    use std::ffi::OsStr;

    use clap::builder::{StringValueParser, TypedValueParser, ValueParserFactory};
    use clap::parser::ValueSource;
    use clap::{Arg, Command};

    use super::Setting;

    impl ValueParserFactory for Setting {
        type Parser = SettingParser;

        fn value_parser() -> SettingParser {
            SettingParser
        }
    }

    /// Parses a [`Setting`] from a flag or a variable, whose name becomes its place.
    #[derive(Clone, Copy, Debug)]
    pub struct SettingParser;

    impl TypedValueParser for SettingParser {
        type Value = Setting;

        fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Setting, clap::Error> {
            self.parse_ref_(command, arg, value, ValueSource::CommandLine)
        }

        fn parse_ref_(
            &self,
            command: &Command,
            arg: Option<&Arg>,
            value: &OsStr,
            source: ValueSource,
        ) -> Result<Setting, clap::Error> {
            let text = StringValueParser::new().parse_ref(command, arg, value)?;
            let variable = arg.and_then(Arg::get_env).map(|name| name.to_string_lossy().into_owned());
            let flag = arg.and_then(Arg::get_long).map(|name| format!("--{name}"));
            let place = match source {
                ValueSource::EnvVariable => variable.or(flag),
                _ => flag,
            };
            Ok(Setting::given(&text, place.as_deref().unwrap_or("the argument")))
        }
    }
}

#[cfg(feature = "cli")]
pub use cli::SettingParser;

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Setting").field(&self.place).finish()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn setting(raw: &str) -> Setting {
        Setting::new(raw, "url of [jobs.shop] (line 3)", "/etc/lifeboat")
    }

    #[test]
    fn variables_are_put_in() {
        // Cargo sets it for every test.
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(setting("a-${CARGO_PKG_VERSION}-b").text().unwrap(), format!("a-{version}-b"));
        assert_eq!(setting("pa$$word $${X} $").text().unwrap(), "pa$$word ${X} $");
    }

    #[test]
    fn a_missing_variable_is_named_with_its_place() {
        let error = setting("${LIFEBOAT_TEST_NOT_SET}").text().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot use url of [jobs.shop] (line 3): the environment variable LIFEBOAT_TEST_NOT_SET is not set"
        );
        assert!(setting("${X").text().unwrap_err().message().contains("has no }"));
    }

    #[test]
    fn a_secret_may_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), "hunter2\n").unwrap();
        let setting_in = |raw: &str| Setting::new(raw, "x", folder.path());
        assert_eq!(setting_in("file:pw").secret().unwrap().expose_secret(), "hunter2");
        let absolute = format!("file://{}/pw", folder.path().display());
        assert_eq!(setting_in(&absolute).secret().unwrap().expose_secret(), "hunter2");
        assert!(setting_in("file:none").secret().unwrap_err().message().contains("cannot be read"));
        assert!(!format!("{:?}", setting_in("hunter2")).contains("hunter2"));
    }

    #[test]
    fn paths_start_in_the_folder_of_the_file() {
        assert_eq!(setting("key.txt").path().unwrap(), Path::new("/etc/lifeboat/key.txt"));
        assert_eq!(setting("/key.txt").path().unwrap(), Path::new("/key.txt"));
    }
}
