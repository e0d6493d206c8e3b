//! A string of the configuration, before it is looked up: `${VAR}` stands for a variable of the environment, `file:PATH`,
//! for a secret, for the content of a file.
//!
//! It is looked up when it is needed and not before: a machine that only verifies does not have the password of the
//! database.

use std::fmt;
use std::path::{Path, PathBuf};

use lifeboat::{Error, ErrorKind, Result};
use secrecy::SecretString;

/// A string of the configuration with its place in it. `Debug` does not show the string.
#[derive(Clone)]
pub(crate) struct Setting {
    raw: String,
    place: String,
    folder: PathBuf,
}

impl Setting {
    /// A string that was found at `place` (for errors); relative paths in it start in `folder`.
    pub(crate) fn new(raw: impl Into<String>, place: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        Self { raw: raw.into(), place: place.into(), folder: folder.into() }
    }

    /// An argument of the command line: relative paths start in the working folder.
    pub(crate) fn argument(raw: impl Into<String>, flag: &str) -> Self {
        Self::new(raw, flag, "")
    }

    /// The same place with another string: a part of it.
    pub(crate) fn with(&self, raw: impl Into<String>) -> Self {
        Self { raw: raw.into(), ..self.clone() }
    }

    /// As it is written, for its form; never for printing.
    pub(crate) fn raw(&self) -> &str {
        &self.raw
    }

    /// Where it was written.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// An error about it.
    pub(crate) fn wrong(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::Config, "use", self.place.clone(), why)
    }

    /// The string with its variables.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a variable that is not set.
    pub(crate) fn text(&self) -> Result<String> {
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

    /// The string with its variables, or the content of the file that it names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a variable that is not set or a file that cannot be read.
    pub(crate) fn secret(&self) -> Result<SecretString> {
        let text = self.text()?;
        let Some(path) = self.raw.strip_prefix("file:").and(text.strip_prefix("file:")) else {
            return Ok(text.into());
        };
        let path = self.locate(path.strip_prefix("//").unwrap_or(path));
        let text = read(&path).map_err(|e| {
            self.wrong(format!("{} cannot be read: {e}", path.display()))
                .hint("check the path after file:, and who may read it")
        })?;
        let text = text.trim_end();
        if text.is_empty() {
            return Err(self.wrong(format!("{} is empty", path.display())));
        }
        Ok(text.to_owned().into())
    }

    /// What `parse` makes of its secret. An error says where the string stands.
    ///
    /// # Errors
    /// As [`secret`](Self::secret), and those of `parse`.
    pub(crate) fn read<T>(&self, parse: impl FnOnce(&SecretString) -> Result<T>) -> Result<T> {
        parse(&self.secret()?).map_err(|error| {
            let made = Error::new(error.kind(), "use", self.place(), error.message());
            match error.typed_hint() {
                Some(hint) => made.hint(hint.clone()),
                None => made,
            }
        })
    }

    /// The path that it names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a variable that is not set.
    pub(crate) fn path(&self) -> Result<PathBuf> {
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
            return Err(self.wrong(format!("${{{name}}} names no variable")).hint("write ${NAME}"));
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

/// A small file's text.
pub(crate) fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

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
        let made = |raw: &str| Setting::new(raw, "x", folder.path());
        assert_eq!(made("file:pw").secret().unwrap().expose_secret(), "hunter2");
        let absolute = format!("file://{}/pw", folder.path().display());
        assert_eq!(made(&absolute).secret().unwrap().expose_secret(), "hunter2");
        assert!(made("file:none").secret().unwrap_err().message().contains("cannot be read"));
        assert!(!format!("{:?}", made("hunter2")).contains("hunter2"));
    }

    #[test]
    fn paths_start_in_the_folder_of_the_file() {
        assert_eq!(setting("key.txt").path().unwrap(), Path::new("/etc/lifeboat/key.txt"));
        assert_eq!(setting("/key.txt").path().unwrap(), Path::new("/key.txt"));
    }
}
