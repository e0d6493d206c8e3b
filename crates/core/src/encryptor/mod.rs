//! The [`Encryptor`] trait.

use std::fmt;

use crate::error::Result;
use crate::stream::ByteStream;

/// Turns a plaintext stream into ciphertext and back.
///
/// Both directions run on a thread of their own and hold a bounded amount of data. An implementation that was
/// built with recipients only can encrypt and not decrypt: the machine that backs up then cannot read its own
/// backups.
pub trait Encryptor: Send + Sync + fmt::Debug {
    /// The scheme's name as the manifest and the configuration write it: `age`, `openssl`.
    fn scheme(&self) -> &'static str;

    /// The suffix that an encrypted object's name gets, without the dot: `age`, `enc`.
    fn suffix(&self) -> &'static str;

    /// Whether this can decrypt: it was given an identity or passphrase.
    fn can_decrypt(&self) -> bool;

    /// The public recipients, as the manifest names them. Empty for a passphrase.
    fn recipients(&self) -> Vec<String> {
        Vec::new()
    }

    /// Encrypts.
    ///
    /// # Behaviour
    /// - The ciphertext stream ends well only after the plaintext stream has.
    /// - An error of the plaintext stream is passed on as it is.
    ///
    /// # Errors
    /// When there is nothing to encrypt to.
    fn encrypt(&self, plaintext: ByteStream) -> Result<ByteStream>;

    /// Decrypts.
    ///
    /// # Behaviour
    /// - Plaintext is emitted as soon as it is authentic (`age`), or at once (`openssl`, which authenticates nothing): it
    ///   counts only when the stream has ended well.
    ///
    /// # Errors
    /// [`Decrypt`](crate::ErrorKind::Decrypt) without an identity. What is wrong with the bytes is an item of the
    /// stream: no identity fits ([`Decrypt`](crate::ErrorKind::Decrypt)), truncated or altered
    /// ([`Corrupt`](crate::ErrorKind::Corrupt)).
    fn decrypt(&self, ciphertext: ByteStream) -> Result<ByteStream>;
}

#[cfg(feature = "age")]
mod age;
#[cfg(feature = "openssl")]
mod openssl;

#[cfg(feature = "age")]
pub use self::age::Age;
#[cfg(feature = "openssl")]
pub use self::openssl::OpenSsl;
