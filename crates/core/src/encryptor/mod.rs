//! The [`Encryptor`] trait.

use std::fmt;
use std::sync::Arc;

use futures::StreamExt;

use crate::error::{Error, ErrorKind, Result};
use crate::name::is_foreign_encryption;
use crate::stream::{self, ByteStream};

/// How many bytes of a ciphertext an encryptor gets to recognise it. Fewer if the ciphertext is shorter.
pub const START: usize = 64;

/// Turns a plaintext stream into ciphertext and back.
///
/// Both directions run on separate threads and hold a bounded amount of data. An encryptor with recipients only can
/// encrypt but not decrypt: the machine that backs up then cannot read its own backups.
///
/// `lifeboat_conformance::encryptor` checks this contract; `examples/outside` contains a complete encryptor.
pub trait Encryptor: Send + Sync + fmt::Debug {
    /// The scheme's name in the manifest and the configuration: `age`, `openssl`. Other implementations choose another.
    fn scheme(&self) -> &'static str;

    /// The suffix of an encrypted object's name, without the dot: `age`, `enc`. Third-party encryptors use `enc-` and a
    /// word of lower-case letters, digits, `_` and `-`, as in `enc-gpg`, so that every reader knows that the object is
    /// encrypted.
    fn suffix(&self) -> &'static str;

    /// Whether a ciphertext with this start is of this scheme. `start` is the first [`START`] bytes, or all if there
    /// are fewer.
    ///
    /// A ciphertext must begin with magic bytes that no plaintext has, by which it is recognised when read back. A
    /// format without them needs a header. [`Backup`](crate::Backup) refuses an encryptor that does not recognise its
    /// own output.
    fn recognises(&self, start: &[u8]) -> bool;

    /// Whether this can decrypt: it has an identity or a passphrase.
    fn can_decrypt(&self) -> bool;

    /// The public recipients, as the manifest names them. Empty for a passphrase.
    fn recipients(&self) -> Vec<String> {
        Vec::new()
    }

    /// Encrypts.
    ///
    /// # Behaviour
    /// - The ciphertext stream ends without an error only after the plaintext stream has.
    /// - An error of the plaintext stream is passed on unchanged.
    /// - Salts, nonces and keys are fresh: the same plaintext never gives the same ciphertext.
    ///
    /// # Errors
    /// If there is nothing to encrypt to.
    fn encrypt(&self, plaintext: ByteStream) -> Result<ByteStream>;

    /// Decrypts.
    ///
    /// # Behaviour
    /// - Plaintext is emitted as soon as it is authenticated (`age`), or at once (`openssl`, which authenticates
    ///   nothing): it can be trusted only when the stream has ended without an error.
    /// - An error of the ciphertext stream is passed on unchanged.
    ///
    /// # Errors
    /// [`Decrypt`](crate::ErrorKind::Decrypt) without an identity. Errors in the data are items of the stream:
    /// [`Decrypt`](crate::ErrorKind::Decrypt) if no identity matches, [`Corrupt`](crate::ErrorKind::Corrupt) if it was
    /// truncated or altered.
    fn decrypt(&self, ciphertext: ByteStream) -> Result<ByteStream>;
}

/// Whether this is an age file, binary or armoured.
pub(crate) fn starts_like_age(start: &[u8]) -> bool {
    let age = [&b"age-encryption.org/"[..], b"-----BEGIN AGE ENCRYPTED FILE-----"];
    age.iter().any(|magic| start.starts_with(magic))
}

/// Whether this was written by `openssl enc -salt`.
pub(crate) fn starts_like_openssl(start: &[u8]) -> bool {
    start.starts_with(b"Salted__")
}

/// Makes sure that objects named with the encryptor's suffix will be found and read again.
///
/// # Errors
/// [`ErrorKind::Config`].
pub(crate) fn check_names(encryptor: &dyn Encryptor) -> Result<()> {
    let (scheme, suffix) = (encryptor.scheme(), encryptor.suffix());
    let ours = matches!((scheme, suffix), ("age", "age") | ("openssl", "enc"));
    if ours || (!matches!(scheme, "age" | "openssl") && is_foreign_encryption(suffix)) {
        return Ok(());
    }
    let why = format!("its objects end in .{suffix}, and would not be read back as encrypted with {scheme}");
    Err(Error::new(ErrorKind::Config, "use", format!("the encryptor {scheme}"), why)
        .hint("age has the suffix age, openssl has enc, and every other encryptor enc- and a word, as in enc-gpg"))
}

/// Encrypts, and makes sure that the output will be recognised.
///
/// # Errors
/// Those of [`Encryptor::encrypt`]. If the output is not recognised, an error item comes before any of it.
pub(crate) fn seal(encryptor: &Arc<dyn Encryptor>, plaintext: ByteStream) -> Result<ByteStream> {
    let sealed = encryptor.encrypt(plaintext)?;
    let encryptor = encryptor.clone();
    let checked = async move {
        let (start, sealed) = match stream::peek(sealed, START).await {
            Ok(peeked) => peeked,
            Err(error) => return stream::failed(error),
        };
        if encryptor.recognises(&start[..start.len().min(START)]) {
            return sealed;
        }
        let why = "it does not recognise its own output, so nobody could read it back";
        let subject = format!("the encryptor {}", encryptor.scheme());
        stream::failed(Error::new(ErrorKind::Unsupported, "use", subject, why))
    };
    Ok(futures::stream::once(checked).flatten().boxed())
}

#[cfg(feature = "age")]
mod age;
#[cfg(feature = "openssl")]
mod openssl;

#[cfg(feature = "age")]
pub use self::age::Age;
#[cfg(feature = "openssl")]
pub use self::openssl::OpenSsl;

/// Implements the trait for pointers.
macro_rules! pointers {
    ($($pointer:ident),*) => {$(
        impl<T: Encryptor + ?Sized> Encryptor for $pointer<T> {
            fn scheme(&self) -> &'static str {
                (**self).scheme()
            }

            fn suffix(&self) -> &'static str {
                (**self).suffix()
            }

            fn recognises(&self, start: &[u8]) -> bool {
                (**self).recognises(start)
            }

            fn can_decrypt(&self) -> bool {
                (**self).can_decrypt()
            }

            fn recipients(&self) -> Vec<String> {
                (**self).recipients()
            }

            fn encrypt(&self, plaintext: ByteStream) -> Result<ByteStream> {
                (**self).encrypt(plaintext)
            }

            fn decrypt(&self, ciphertext: ByteStream) -> Result<ByteStream> {
                (**self).decrypt(ciphertext)
            }
        }
    )*};
}
pointers!(Arc, Box);
