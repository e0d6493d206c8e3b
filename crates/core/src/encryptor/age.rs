//! The `age` encryptor: <https://c2sp.org/age>, through the `age` crate.
//!
//! The format authenticates every 64 KiB and its end: truncation, reordering and alteration are always found. It does
//! not say who wrote a file: anyone who knows a public recipient can make one.

use std::fmt;
use std::io::{self, BufReader, Write};

use secrecy::{ExposeSecret, SecretString};

use super::Encryptor;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::pipeline::stage;
use crate::stream::ByteStream;

#[cfg_attr(not(feature = "ssh"), path = "age/no_ssh.rs")]
mod ssh;

#[derive(Clone)]
enum Recipient {
    X25519(age::x25519::Recipient),
    Ssh(ssh::Recipient),
}

#[derive(Clone)]
enum Identity {
    X25519(age::x25519::Identity),
    Ssh(ssh::Identity),
}

/// Encrypts to age recipients, decrypts with age identities.
///
/// Recipients are X25519 (`age1…`) and, with the feature `ssh`, SSH public keys (`ssh-ed25519 …`, `ssh-rsa …`); identities are
/// `AGE-SECRET-KEY-1…` and SSH private keys. A passphrase cannot be combined with keys, for encrypting or decrypting.
///
/// ```
/// # fn main() -> lifeboat_core::Result<()> {
/// use lifeboat_core::Encryptor;
/// use lifeboat_core::encryptor::Age;
/// let (secret, public) = Age::generate();
/// let writer = Age::to([public.as_str()])?;
/// assert!(!writer.can_decrypt());
/// let reader = Age::default().identities(&secret, "the new key")?;
/// assert!(reader.can_decrypt());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Age {
    recipients: Vec<Recipient>,
    written: Vec<String>,
    identities: Vec<Identity>,
    passphrase: Option<SecretString>,
    key_passphrase: Option<SecretString>,
}

impl Age {
    /// Encrypts to these recipients. Each of them can decrypt alone.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid recipient, or if there is none.
    pub fn to<I, S>(recipients: I) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut age = Self::default();
        for recipient in recipients {
            age.add_recipient(recipient.as_ref())?;
        }
        if age.recipients.is_empty() {
            return Err(
                Error::new(ErrorKind::Config, "encrypt with", "age", "there is no recipient").hint(Hint::NameRecipient)
            );
        }
        Ok(age)
    }

    /// Encrypts to the recipients in the text of a file: one per line; `#` starts a comment. `name` names the file in
    /// errors.
    ///
    /// # Errors
    /// Those of [`to`](Age::to).
    pub fn to_file(text: &str, name: &str) -> Result<Self> {
        Self::to(text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')))
            .map_err(|e| Error::new(e.kind(), "read recipients from", name, e.message()).with_source(e))
    }

    /// Encrypts and decrypts with a passphrase (scrypt, about a second of work each time).
    pub fn passphrase(passphrase: SecretString) -> Self {
        Self { passphrase: Some(passphrase), ..Self::default() }
    }

    /// Generates an X25519 identity and its recipient.
    pub fn generate() -> (SecretString, String) {
        let identity = age::x25519::Identity::generate();
        (identity.to_string(), identity.to_public().to_string())
    }

    /// Sets the passphrase for encrypted SSH private keys. Call it before [`identities`](Age::identities).
    #[must_use]
    pub fn key_passphrase(mut self, passphrase: SecretString) -> Self {
        self.key_passphrase = Some(passphrase);
        self
    }

    /// Adds the identities in the text of a file, to decrypt with: `AGE-SECRET-KEY-1…` lines, or one SSH private key in
    /// PEM form. `name` names the file in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it contains no identity, or an invalid one. The error does not contain the text.
    pub fn identities(mut self, text: &SecretString, name: &str) -> Result<Self> {
        let wrong =
            |why: &str| Error::new(ErrorKind::Config, "read identities from", name, why).hint(Hint::WriteIdentity);
        let text = text.expose_secret();
        let before = self.identities.len();
        if text.contains("-----BEGIN ") {
            let key = ssh::Identity::parse(text, name, self.key_passphrase.is_some());
            self.identities.push(Identity::Ssh(key.map_err(|why| wrong(&why))?));
        } else {
            for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
                let identity = line.parse::<age::x25519::Identity>().map_err(|_| {
                    if line.starts_with("age1") || line.starts_with("ssh-") {
                        return wrong("it holds a public recipient; decrypting takes the secret identity");
                    }
                    wrong("one of its lines is not an age identity")
                })?;
                self.identities.push(Identity::X25519(identity));
            }
        }
        if self.identities.len() == before {
            return Err(wrong("it holds no identity"));
        }
        Ok(self)
    }

    /// The recipients as written: public keys, nothing secret.
    pub fn recipients(&self) -> &[String] {
        &self.written
    }

    fn add_recipient(&mut self, text: &str) -> Result<()> {
        let text = text.trim();
        let wrong = |why: &str| {
            Error::new(ErrorKind::Config, "use", format!("age recipient \"{}\"", redact(text)), why)
                .hint(Hint::WriteRecipient)
        };
        let recipient = if text.starts_with("ssh-") {
            Recipient::Ssh(ssh::Recipient::parse(text).map_err(|why| wrong(&why))?)
        } else if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err(wrong("that is a secret identity; encrypting takes its public recipient"));
        } else {
            Recipient::X25519(text.parse().map_err(|_| wrong("it is not a valid age recipient"))?)
        };
        self.recipients.push(recipient);
        self.written.push(text.to_owned());
        Ok(())
    }

    fn encryptor(&self) -> Result<age::Encryptor> {
        if let Some(passphrase) = &self.passphrase {
            return Ok(age::Encryptor::with_user_passphrase(age_secret(passphrase)));
        }
        let recipients = self.recipients.iter().map(|r| match r {
            Recipient::X25519(r) => r as &dyn age::Recipient,
            Recipient::Ssh(r) => r.as_recipient(),
        });
        age::Encryptor::with_recipients(recipients).map_err(|e| {
            Error::new(ErrorKind::Config, "encrypt with", "age", e.to_string()).hint("name at least one recipient")
        })
    }
}

/// Hides an identity that was given in place of a recipient: it must not be printed.
fn redact(text: &str) -> String {
    if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
        return "AGE-SECRET-KEY-…".to_owned();
    }
    text.chars().take(100).collect()
}

fn age_secret(secret: &SecretString) -> age::secrecy::SecretString {
    age::secrecy::SecretString::from(secret.expose_secret().to_owned())
}

impl fmt::Debug for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Age")
            .field("recipients", &self.written)
            .field("identities", &self.identities.len())
            .field("passphrase", &self.passphrase.is_some())
            .finish()
    }
}

impl Encryptor for Age {
    fn scheme(&self) -> &'static str {
        "age"
    }

    fn suffix(&self) -> &'static str {
        "age"
    }

    fn recognises(&self, start: &[u8]) -> bool {
        super::starts_like_age(start)
    }

    fn can_decrypt(&self) -> bool {
        !self.identities.is_empty() || self.passphrase.is_some()
    }

    fn recipients(&self) -> Vec<String> {
        self.written.clone()
    }

    fn encrypt(&self, plaintext: ByteStream) -> Result<ByteStream> {
        let encryptor = self.encryptor()?;
        Ok(stage::spawn("age", plaintext, move |input, output| {
            let failed = |e| Error::io("encrypt", "the stream", e);
            let mut writer = encryptor.wrap_output(output).map_err(failed)?;
            while let Some(chunk) = input.next_chunk()? {
                writer.write_all(&chunk).map_err(failed)?;
            }
            // Without finish the last chunk is missing, and the file does not decrypt.
            writer.finish().map(drop).map_err(failed)
        }))
    }

    fn decrypt(&self, ciphertext: ByteStream) -> Result<ByteStream> {
        if !self.can_decrypt() {
            return Err(Error::new(
                ErrorKind::Decrypt,
                "decrypt",
                "the artifact",
                "it is encrypted with age, but no identity was given",
            )
            .hint(Hint::GiveKey { scheme: "age".to_owned() }));
        }
        let keys = self.identities.clone();
        let key_passphrase = self.key_passphrase.clone();
        let passphrase = self.passphrase.clone();
        Ok(stage::spawn("age", ciphertext, move |input, output| {
            let armored = age::armor::ArmoredReader::new(BufReader::with_capacity(128 << 10, &mut *input));
            let decryptor = age::Decryptor::new(armored).map_err(open_error)?;
            let mut identities: Vec<Box<dyn age::Identity>> = Vec::new();
            for key in keys {
                identities.push(match key {
                    Identity::X25519(key) => Box::new(key),
                    Identity::Ssh(key) => key.into_identity(key_passphrase.clone()),
                });
            }
            if let Some(passphrase) = passphrase {
                let mut scrypt = age::scrypt::Identity::new(age_secret(&passphrase));
                // A file from another machine may ask for more work than this one would have chosen.
                scrypt.set_max_work_factor(22);
                identities.push(Box::new(scrypt));
            }
            let mut reader = decryptor.decrypt(identities.iter().map(|i| &**i)).map_err(open_error)?;
            io::copy(&mut reader, output).map(drop).map_err(read_error)
        }))
    }
}

fn open_error(error: age::DecryptError) -> Error {
    use age::DecryptError as E;
    let corrupt = |why: &str| {
        Error::new(ErrorKind::Corrupt, "decrypt", "the artifact", why)
            .hint("the stored object is damaged or is not an age file: use another artifact")
    };
    match error {
        E::NoMatchingKeys => Error::new(
            ErrorKind::Decrypt,
            "decrypt",
            "the artifact",
            "none of the given identities fits: it was encrypted to other recipients",
        )
        .hint(Hint::GiveFittingIdentity),
        E::DecryptionFailed | E::KeyDecryptionFailed => {
            Error::new(ErrorKind::Decrypt, "decrypt", "the artifact", "the passphrase or key does not fit")
        }
        E::ExcessiveWork { required, .. } => Error::new(
            ErrorKind::Decrypt,
            "decrypt",
            "the artifact",
            format!("its passphrase work factor 2^{required} is too high"),
        ),
        E::InvalidHeader => corrupt("its age header is damaged"),
        E::InvalidMac => corrupt("its age header was altered"),
        E::UnknownFormat => corrupt("it is not an age file, or has a newer version"),
        E::Io(e) => read_error(e),
    }
}

fn read_error(error: io::Error) -> Error {
    if Error::is_within(&error) {
        return Error::io("decrypt", "the artifact", error);
    }
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the age data ends in the middle: it was cut short".to_owned(),
        _ => format!("the age data was altered or cut short ({error})"),
    };
    Error::new(ErrorKind::Corrupt, "decrypt", "the artifact", why)
        .hint("the stored object is damaged: use another artifact")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::stream::{collect, once};

    fn data(len: usize) -> Bytes {
        (0..len).map(|i| (i % 253) as u8).collect::<Vec<_>>().into()
    }

    async fn sealed(age: &Age, data: Bytes) -> Bytes {
        collect(age.encrypt(once(data)).unwrap(), 1 << 26, "x").await.unwrap()
    }

    async fn opened(age: &Age, data: Bytes) -> Result<Bytes> {
        collect(age.decrypt(once(data))?, 1 << 26, "x").await
    }

    fn pair() -> (Age, Age) {
        let (secret, public) = Age::generate();
        (Age::to([public]).unwrap(), Age::default().identities(&secret, "k").unwrap())
    }

    #[tokio::test]
    async fn each_of_several_recipients_can_decrypt() {
        let (a, b) = (Age::generate(), Age::generate());
        let writer = Age::to([&a.1, &b.1]).unwrap();
        for len in [0, 1, 65_536, 200_000] {
            let stored = sealed(&writer, data(len)).await;
            for secret in [&a.0, &b.0] {
                let reader = Age::default().identities(secret, "k").unwrap();
                assert_eq!(opened(&reader, stored.clone()).await.unwrap(), data(len));
            }
        }
    }

    #[tokio::test]
    async fn every_truncation_is_found() {
        let (writer, reader) = pair();
        let stored = sealed(&writer, data(150_000)).await;
        for cut in [10, 100, 300, 70_000, stored.len() - 65_536, stored.len() - 17, stored.len() - 1] {
            let error = opened(&reader, stored.slice(..cut)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{cut}: {error}");
        }
    }

    #[tokio::test]
    async fn a_flipped_bit_is_found() {
        let (writer, reader) = pair();
        let stored = sealed(&writer, data(150_000)).await;
        for at in [3, 60, 120, 400, 100_000, stored.len() - 1] {
            let mut altered = stored.to_vec();
            altered[at] ^= 1;
            let error = opened(&reader, altered.into()).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Decrypt), "{at}: {error}");
        }
    }

    #[tokio::test]
    async fn a_wrong_identity_says_so() {
        let (writer, _) = pair();
        let (_, other) = pair();
        let error = opened(&other, sealed(&writer, data(10)).await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decrypt);
        assert!(error.message().contains("none of the given identities fits"), "{error}");
    }

    #[tokio::test]
    async fn no_identity_says_so() {
        let (writer, _) = pair();
        let error = opened(&writer, sealed(&writer, data(10)).await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decrypt);
        assert_eq!(error.typed_hint(), Some(&Hint::GiveKey { scheme: "age".to_owned() }));
    }

    #[tokio::test]
    async fn a_passphrase_opens_what_it_closed_and_nothing_else() {
        let right = Age::passphrase("correct horse".to_owned().into());
        let stored = sealed(&right, data(1000)).await;
        assert_eq!(opened(&right, stored.clone()).await.unwrap(), data(1000));
        let wrong = Age::passphrase("battery staple".to_owned().into());
        assert_eq!(opened(&wrong, stored).await.unwrap_err().kind(), ErrorKind::Decrypt);
    }

    #[test]
    fn a_secret_key_pasted_as_a_recipient_is_not_printed() {
        let (secret, _) = Age::generate();
        let error = Age::to([secret.expose_secret()]).unwrap_err();
        assert!(!format!("{error:?}{error}").contains(secret.expose_secret()));
        assert!(error.message().contains("secret identity"), "{error}");
    }

    #[test]
    fn wrong_recipients_and_identities_say_what_is_wrong() {
        for text in ["", "age1nonsense", "ssh-ed25519 AAAA", "ssh-dss AAAAB3NzaC1kc3MAAACBAP", "hello"] {
            assert_eq!(Age::to([text]).unwrap_err().kind(), ErrorKind::Config, "{text}");
        }
        let (_, public) = Age::generate();
        for (text, part) in [
            ("", "no identity"),
            (public.as_str(), "public recipient"),
            ("x", "not an age identity"),
            ("-----BEGIN X-----", "SSH key"),
        ] {
            let error = Age::default().identities(&text.to_owned().into(), "key.txt").unwrap_err();
            assert!(error.to_string().contains(part) && error.to_string().contains("key.txt"), "{error}");
        }
    }

    #[cfg(not(feature = "ssh"))]
    #[test]
    fn without_the_feature_an_ssh_key_is_refused_by_its_name() {
        let error =
            Age::to(["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN"]).unwrap_err();
        assert!(error.message().contains("the feature `ssh`"), "{error}");
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned().into();
        let error = Age::default().identities(&key, "key").unwrap_err();
        assert!(error.message().contains("the feature `ssh`"), "{error}");
    }
}
