//! [`Replace`]: what a restore may replace.

use std::convert::Infallible;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::error::{Error, ErrorKind, Result};

/// What a restore may replace: the answer to `--replace` and `--replace=NAME`.
///
/// A database that the job itself backs up is replaced by `--replace` alone; any other one is named a second time, so that
/// nobody replaces by a slip in a URL what has nothing to do with the backup.
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
    /// What has this name.
    Named(String),
    /// Whatever the target names: for programs, which name it themselves.
    Any,
}

impl Replace {
    /// What the command line says where the flag has no value. No database is called so.
    pub const OWN: &str = "=";

    /// Whether anything may be replaced.
    pub fn is_given(&self) -> bool {
        *self != Self::Nothing
    }

    /// Whether what is called `name` may be replaced. `own` are the names of what the job backs up.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when something else was meant.
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

    /// Empty for nothing, [`Replace::OWN`], or a name.
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
