//! [`Replace`]: what a restore may replace.

use std::convert::Infallible;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::error::{Error, ErrorKind, Result};

/// What a restore may replace: the answer to `--replace` and `--replace=NAME`.
///
/// `--replace` alone allows replacing a database that the job itself backs up. Any other database must be named a
/// second time, so that a slip in a URL cannot replace something unrelated to the backup.
///
/// ```
/// use lifeboat_core::Replace;
///
/// let own = ["shop"];
/// assert!(Replace::Own.allows("shop", &own).unwrap());
/// let error = Replace::Own.allows("blog", &own).unwrap_err();
/// assert_eq!(error.advice(), Some("to replace it, name it: --replace=blog"));
/// assert!(Replace::Named("blog".to_owned()).allows("blog", &own).unwrap());
/// assert!(!Replace::Nothing.allows("shop", &own).unwrap());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replace {
    /// Nothing.
    #[default]
    Nothing,
    /// What the job itself backs up.
    Own,
    /// The database with this name.
    Named(String),
    /// Whatever the target names, for programs that choose it themselves.
    Any,
}

impl Replace {
    /// The value that the command line uses for the flag without a value. No database has this name.
    pub const OWN: &str = "=";

    /// Whether anything may be replaced.
    pub fn is_given(&self) -> bool {
        *self != Self::Nothing
    }

    /// Whether the database `name` may be replaced. `own` are the names of those that the job backs up.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if replacing something else was allowed.
    pub fn allows(&self, name: &str, own: &[&str]) -> Result<bool> {
        let why = match self {
            Self::Nothing => return Ok(false),
            Self::Any => return Ok(true),
            Self::Own if own.contains(&name) => return Ok(true),
            Self::Named(named) if named == name => return Ok(true),
            Self::Own => format!("it would replace \"{name}\", which is not what was backed up ({})", own.join(", ")),
            Self::Named(named) => format!("the restore goes into \"{name}\", and not into \"{named}\""),
        };
        Err(Error::new(ErrorKind::Config, "use", "--replace", why)
            .hint(format!("to replace it, name it: --replace={name}")))
    }
}

impl From<bool> for Replace {
    fn from(any: bool) -> Self {
        if any { Self::Any } else { Self::Nothing }
    }
}

impl FromStr for Replace {
    type Err = Infallible;

    /// Parses an empty text for nothing, [`Replace::OWN`], or a name.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "" => Self::Nothing,
            Self::OWN => Self::Own,
            name => Self::Named(name.to_owned()),
        })
    }
}

/// `true`, `false` or a name.
impl<'de> Deserialize<'de> for Replace {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Own(bool),
            Named(String),
        }
        Ok(match Written::deserialize(d)? {
            Written::Own(false) => Self::Nothing,
            Written::Own(true) => Self::Own,
            Written::Named(name) => Self::Named(name),
        })
    }
}
