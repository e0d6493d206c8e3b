//! How a run ends: the exit status.

use lifeboat_core::{Error, ErrorKind};

/// The exit status. When several jobs end differently, the greatest of these wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// 0.
    #[default]
    Good,
    /// 3: nothing to do where something was asked for.
    Nothing,
    /// 2: usage or configuration.
    Usage,
    /// 1: a backup, restore or check failed.
    Failed,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Nothing => 3,
        }
    }

    /// Takes the worse of both.
    pub(crate) fn and(&mut self, other: Self) {
        *self = (*self).max(other);
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Config => Self::Usage,
            ErrorKind::NoArtifact => Self::Nothing,
            _ => Self::Failed,
        }
    }
}

/// The error for artifacts that are not there. `whose` completes "artifacts of …".
pub(crate) fn no_artifact(whose: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::NoArtifact, "find", format!("an artifact of {whose}"), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_jobs_decides() {
        let mut exit = Exit::default();
        for (next, code) in
            [(Exit::Nothing, 3), (Exit::Good, 3), (Exit::Usage, 2), (Exit::Failed, 1), (Exit::Nothing, 1)]
        {
            exit.and(next);
            assert_eq!(exit.code(), code);
        }
    }

    #[test]
    fn a_missing_bucket_is_a_failure_and_a_missing_artifact_is_not() {
        let bucket = Error::new(ErrorKind::NotFound, "list", "s3://b", "no such bucket");
        assert_eq!(Exit::from(&bucket), Exit::Failed);
        assert_eq!(Exit::from(&no_artifact("shop", "none")), Exit::Nothing);
        let config = Error::new(ErrorKind::Config, "use", "x", "wrong");
        assert_eq!(Exit::from(&config), Exit::Usage);
    }
}
