//! The choice of encryption, and the keys to decrypt with.
//!
//! | text | meaning |
//! |---|---|
//! | `none` | no encryption: whoever can read the sink can read the backup |
//! | `age:age1…`, `age:ssh-ed25519 …` | an age recipient; may be given several times |
//! | `age-file:PATH` | the recipients in a file; can be combined with the others |
//! | `age-passphrase:env:NAME` | an age passphrase; also `file:PATH` |
//! | `openssl:env:NAME` | `openssl enc -aes-256-cbc -pbkdf2`; also `file:PATH` |

use std::sync::Arc;

use lifeboat_core::encryptor::{Age, OpenSsl};
use lifeboat_core::{Encryptor, Error, ErrorKind, Result, Setting, setting};
use secrecy::SecretString;

const FORMS: &str = "write age:age1…, age-file:PATH, age-passphrase:env:NAME, openssl:env:NAME or none";

/// The variable with the passphrase of an encrypted SSH key.
const KEY_PASSPHRASE: &str = "LIFEBOAT_IDENTITY_PASSPHRASE";

/// How a backup is encrypted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Encryption {
    /// No encryption: whoever can read the sink can read the backup.
    None,
    /// To age recipients.
    Age {
        /// Each as written: `age1…`, `ssh-ed25519 …`.
        recipients: Vec<Setting>,
        /// Files with recipients.
        files: Vec<Setting>,
    },
    /// With an age passphrase.
    AgePassphrase(Setting),
    /// As `openssl enc` does, with a passphrase.
    OpenSsl(Setting),
}

impl Encryption {
    /// Parses the given texts.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid choice, and for several that cannot be combined.
    pub fn parse(texts: &[Setting]) -> Result<Self> {
        let (mut recipients, mut files, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for text in texts {
            match text.raw().split_once(':') {
                None if text.raw() == "none" => others.push(Self::None),
                Some(("age", recipient)) => recipients.push(text.with(recipient)),
                Some(("age-file", path)) => files.push(text.with(path)),
                Some(("age-passphrase", place)) => {
                    others.push(Self::AgePassphrase(reference(text, "age-passphrase", place)?));
                }
                Some(("openssl", place)) => others.push(Self::OpenSsl(reference(text, "openssl", place)?)),
                None if text.raw().starts_with("age1") => {
                    return Err(text
                        .wrong("write \"age:\" before a recipient")
                        .hint(format!("write age:{}", text.raw())));
                }
                // Not printed: it may be a passphrase.
                _ => return Err(text.wrong("unknown kind of encryption").hint(FORMS)),
            }
        }
        let has_age = !recipients.is_empty() || !files.is_empty();
        match (others.len(), has_age) {
            (0, true) => Ok(Self::Age { recipients, files }),
            (1, false) => Ok(others.remove(0)),
            (0, false) => Err(undecided("the dataset")),
            _ => {
                let place = texts.first().map_or("--encrypt", Setting::place);
                Err(Error::new(ErrorKind::Config, "use", place, "only age recipients can be combined")
                    .hint("choose one kind of encryption, or several age recipients"))
            }
        }
    }

    /// Checks the recipients in the config itself, so that reading the config finds a typo.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid one.
    pub fn check_literals(&self) -> Result<()> {
        let Self::Age { recipients, .. } = self else { return Ok(()) };
        let literal: Vec<&str> = recipients.iter().map(Setting::raw).filter(|r| !r.contains("${")).collect();
        if literal.is_empty() { Ok(()) } else { Age::to(literal).map(drop) }
    }

    /// The encryptor; `None` when no encryption was chosen explicitly.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid recipient, file or variable.
    pub fn encryptor(&self) -> Result<Option<Arc<dyn Encryptor>>> {
        Ok(match self {
            Self::None => None,
            Self::Age { recipients, files } => {
                let mut all = recipients.iter().map(Setting::text).collect::<Result<Vec<_>>>()?;
                for file in files {
                    let path = file.path()?;
                    let text = setting::read(&path).map_err(|e| {
                        Error::new(ErrorKind::Config, "read recipients from", path.display().to_string(), e.to_string())
                    })?;
                    all.extend(Age::to_file(&text, &path.display().to_string())?.recipients().iter().cloned());
                }
                Some(Arc::new(Age::to(all)?))
            }
            Self::AgePassphrase(passphrase) => Some(Arc::new(Age::passphrase(not_empty(passphrase)?))),
            Self::OpenSsl(passphrase) => Some(Arc::new(OpenSsl::passphrase(passphrase.secret()?)?)),
        })
    }
}

/// The error for a backup without a choice of encryption.
pub fn undecided(what: &str) -> Error {
    Error::new(ErrorKind::Config, "back up", what, "no encryption was chosen").hint(
        "choose, as in --encrypt age:age1… or, in the config, encrypt = \"age:age1…\" (`lifeboat init` makes a key); \
         to store it readable by everyone who can read the sink, give --encrypt none",
    )
}

/// The error for an unencrypted backup of secrets; `why` says what is secret in it.
pub fn demanded(what: &str, why: &str) -> Error {
    let why = format!("{why} and is never stored unencrypted");
    Error::new(ErrorKind::Config, "back up", what, why).hint(
        "choose an encryptor, as in --encrypt age:age1… or, in the config, encrypt = \"age:age1…\" (`lifeboat init` makes a \
         key)",
    )
}

/// A reference to a passphrase; never the passphrase itself, which would show up in argv or in a file.
fn reference(text: &Setting, scheme: &str, place: &str) -> Result<Setting> {
    match place.split_once(':') {
        Some(("env", name)) if !name.is_empty() => Ok(text.with(format!("${{{name}}}"))),
        Some(("file", path)) if !path.is_empty() => Ok(text.with(format!("file:{path}"))),
        _ => Err(text.wrong(format!("{scheme}: takes a reference to a passphrase, not the passphrase itself")).hint(
            format!("put the passphrase into a variable or file, and write {scheme}:env:NAME or {scheme}:file:PATH"),
        )),
    }
}

fn not_empty(passphrase: &Setting) -> Result<SecretString> {
    use secrecy::ExposeSecret;
    let secret = passphrase.secret()?;
    if secret.expose_secret().is_empty() { Err(passphrase.wrong("the passphrase is empty")) } else { Ok(secret) }
}

/// The keys to decrypt with: every named identity, and the encryption's own passphrase if it has one.
///
/// All age identities form one key: age finds the one that fits.
///
/// # Errors
/// [`ErrorKind::Config`] for a missing or invalid identity.
pub fn keys(identities: &[Setting], choice: Option<&Encryption>) -> Result<Vec<Arc<dyn Encryptor>>> {
    let mut passphrase = None;
    let mut openssl: Option<Arc<dyn Encryptor>> = None;
    let mut files = Vec::new();
    for identity in identities {
        match identity.raw().split_once(':') {
            Some(("age-passphrase", place)) => {
                passphrase = Some(not_empty(&reference(identity, "age-passphrase", place)?)?);
            }
            Some(("openssl", place)) => {
                openssl = Some(Arc::new(OpenSsl::passphrase(reference(identity, "openssl", place)?.secret()?)?));
            }
            _ if identity.raw().starts_with("AGE-SECRET-KEY-") => {
                return Err(identity
                    .wrong("it is a secret key, not a file")
                    .hint("put the key into a file of mode 0600, and name that file"));
            }
            _ => files.push(identity),
        }
    }
    match choice {
        Some(Encryption::AgePassphrase(setting)) if passphrase.is_none() => passphrase = Some(not_empty(setting)?),
        Some(Encryption::OpenSsl(setting)) if openssl.is_none() => {
            openssl = Some(Arc::new(OpenSsl::passphrase(setting.secret()?)?));
        }
        _ => {}
    }
    let mut keys: Vec<Arc<dyn Encryptor>> = Vec::new();
    if passphrase.is_some() || !files.is_empty() {
        let mut age = passphrase.map(Age::passphrase).unwrap_or_default();
        if let Some(passphrase) = std::env::var(KEY_PASSPHRASE).ok().filter(|p| !p.is_empty()) {
            age = age.key_passphrase(passphrase.into());
        }
        for identity in files {
            let path = identity.path()?;
            let name = path.display().to_string();
            let text = setting::read(&path).map_err(|e| {
                let why = match e.kind() {
                    std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
                    _ => e.to_string(),
                };
                Error::new(ErrorKind::Config, "read identities from", &name, why).hint(
                    "name the file that holds the secret key: --identity PATH, or identity = \"PATH\" in the config",
                )
            })?;
            age = age.identities(&text.into(), &name)?;
        }
        keys.push(Arc::new(age));
    }
    keys.extend(openssl);
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Encryption> {
        Encryption::parse(&texts.iter().map(|t| Setting::argument(*t, "--encrypt")).collect::<Vec<_>>())
    }

    #[test]
    fn the_forms_are_read() {
        assert!(matches!(parse(&["none"]).unwrap(), Encryption::None));
        let Encryption::Age { recipients, files } = parse(&["age:a", "age-file:b", "age:ssh-rsa x:y"]).unwrap() else {
            panic!("age")
        };
        assert_eq!((recipients.len(), files.len()), (2, 1));
        assert_eq!(recipients[1].raw(), "ssh-rsa x:y");
        let Encryption::OpenSsl(place) = parse(&["openssl:env:PASS"]).unwrap() else { panic!("openssl") };
        assert_eq!(place.raw(), "${PASS}");
        let Encryption::AgePassphrase(place) = parse(&["age-passphrase:file:/p"]).unwrap() else {
            panic!("passphrase")
        };
        assert_eq!(place.raw(), "file:/p");
    }

    #[test]
    fn a_passphrase_that_was_written_out_is_refused_and_not_printed() {
        for text in ["openssl:hunter2", "age-passphrase:hunter2", "hunter2", "openssl:env:"] {
            let error = parse(&[text]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        let key = Setting::argument("AGE-SECRET-KEY-1ABC", "--identity");
        let error = keys(&[key], None).unwrap_err();
        assert!(!format!("{error:?}").contains("1ABC"));
    }

    #[test]
    fn ways_that_do_not_go_together_are_refused() {
        for texts in [&["none", "age:a"][..], &["none", "none"], &["openssl:env:A", "age:a"]] {
            assert!(parse(texts).unwrap_err().message().contains("only age recipients"), "{texts:?}");
        }
        assert!(parse(&["age1abc"]).unwrap_err().advice().unwrap().contains("age:age1abc"));
        assert!(parse(&[]).unwrap_err().message().contains("no encryption was chosen"));
    }

    #[test]
    fn all_age_identities_are_one_key() {
        use secrecy::ExposeSecret;
        let folder = tempfile::tempdir().unwrap();
        let pairs: Vec<(Setting, String)> = (0..2)
            .map(|n| {
                let (secret, public) = Age::generate();
                let path = folder.path().join(n.to_string());
                std::fs::write(&path, secret.expose_secret()).unwrap();
                (Setting::argument(path.to_str().unwrap(), "--identity"), public)
            })
            .collect();
        let identities: Vec<Setting> = pairs.iter().map(|(s, _)| s.clone()).collect();
        let keys = keys(&identities, None).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(keys[0].can_decrypt());
    }
}
