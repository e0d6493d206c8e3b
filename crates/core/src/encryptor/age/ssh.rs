//! SSH keys as age recipients and identities.

use age::secrecy::SecretString as AgeSecret;
use secrecy::SecretString;

use super::age_secret;

#[derive(Clone)]
pub(super) struct Recipient(age::ssh::Recipient);

impl Recipient {
    /// Parses an SSH public key, or returns what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        use age::ssh::ParseRecipientKeyError as E;
        text.parse().map(Self).map_err(|e| match e {
            E::RsaModulusTooSmall => "the RSA key has less than 2048 bits".to_owned(),
            E::RsaModulusTooLarge => "the RSA key is larger than age supports".to_owned(),
            E::Unsupported(kind) => format!("age does not support SSH keys of type {kind}"),
            _ => "it is not an SSH public key".to_owned(),
        })
    }

    pub(super) fn as_recipient(&self) -> &dyn age::Recipient {
        &self.0
    }
}

#[derive(Clone)]
pub(super) struct Identity(age::ssh::Identity);

impl Identity {
    /// Parses an SSH private key, or returns what is wrong with it. An encrypted key needs a passphrase.
    pub(super) fn parse(text: &str, name: &str, has_passphrase: bool) -> Result<Self, String> {
        let key = age::ssh::Identity::from_buffer(text.as_bytes(), Some(name.to_owned()));
        match key.map_err(|e| format!("the SSH key in it cannot be read ({e})"))? {
            age::ssh::Identity::Unsupported(_) => {
                Err("it holds a kind of SSH key that age does not support".to_owned())
            }
            age::ssh::Identity::Encrypted(_) if !has_passphrase => {
                Err("the SSH key in it is encrypted, but no passphrase for it was given".to_owned())
            }
            key => Ok(Self(key)),
        }
    }

    pub(super) fn into_identity(self, passphrase: Option<SecretString>) -> Box<dyn age::Identity> {
        Box::new(self.0.with_callbacks(KeyPassphrase(passphrase)))
    }
}

/// Gives age the passphrase of an encrypted SSH key, without prompting.
#[derive(Clone)]
struct KeyPassphrase(Option<SecretString>);

impl age::Callbacks for KeyPassphrase {
    fn display_message(&self, _: &str) {}

    fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Option<bool> {
        None
    }

    fn request_public_string(&self, _: &str) -> Option<String> {
        None
    }

    fn request_passphrase(&self, _: &str) -> Option<AgeSecret> {
        self.0.as_ref().map(age_secret)
    }
}
