//! Without the feature `ssh`, SSH keys are not supported, and using one is an error that says so.

use secrecy::SecretString;

const MISSING: &str = "this program was built without SSH keys for age (the feature `ssh`)";

#[derive(Clone)]
pub(super) enum Recipient {}

impl Recipient {
    pub(super) fn parse(_: &str) -> Result<Self, String> {
        Err(MISSING.to_owned())
    }

    pub(super) fn as_recipient(&self) -> &dyn age::Recipient {
        match *self {}
    }
}

#[derive(Clone)]
pub(super) enum Identity {}

impl Identity {
    pub(super) fn parse(_: &str, _: &str, _: bool) -> Result<Self, String> {
        Err(MISSING.to_owned())
    }

    pub(super) fn into_identity(self, _: Option<SecretString>) -> Box<dyn age::Identity> {
        match self {}
    }
}
