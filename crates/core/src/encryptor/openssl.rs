//! The `openssl` encryptor: the layout of `openssl enc -aes-256-cbc -salt -pbkdf2 -iter 100000`.
//!
//! | bytes | content |
//! |---|---|
//! | 0–7 | `Salted__` |
//! | 8–15 | salt |
//! | 16– | AES-256-CBC blocks with PKCS#7 padding |
//!
//! Key (32 bytes) and IV (16 bytes) are PBKDF2-HMAC-SHA256(passphrase, salt, 100,000), as `apps/enc.c` of OpenSSL
//! derives them. **This format authenticates nothing**: an altered block decrypts to garbage without an error. Only the
//! manifest's SHA-256 of the stored bytes reveals it. Use `age` if you have the choice.

use std::fmt;
use std::io::{Read, Write};

use aes::Aes256;
use aes::cipher::{Block, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Encryptor;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::pipeline::stage::{self, StageInput, StageOutput};
use crate::stream::ByteStream;

const MAGIC: &[u8; 8] = b"Salted__";
const ITERATIONS: u32 = 100_000;
const BLOCK: usize = 16;
/// The number of bytes processed at once: a whole number of blocks.
const BUFFER: usize = 64 << 10;

/// Encrypts and decrypts with a passphrase, byte-compatible with
/// `openssl enc -aes-256-cbc -salt -pbkdf2 -iter 100000` (SHA-256 digest) in both directions.
#[derive(Clone)]
pub struct OpenSsl {
    passphrase: SecretString,
}

impl OpenSsl {
    /// Creates an encryptor with a passphrase.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is empty.
    pub fn passphrase(passphrase: SecretString) -> Result<Self> {
        if passphrase.expose_secret().is_empty() {
            return Err(Error::new(ErrorKind::Config, "encrypt with", "openssl", "the passphrase is empty")
                .hint(Hint::GivePassphrase));
        }
        Ok(Self { passphrase })
    }
}

impl fmt::Debug for OpenSsl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSsl").finish_non_exhaustive()
    }
}

fn derive(passphrase: &SecretString, salt: &[u8]) -> Zeroizing<[u8; 48]> {
    let mut key = Zeroizing::new([0; 48]);
    pbkdf2::pbkdf2_hmac::<Sha256>(passphrase.expose_secret().as_bytes(), salt, ITERATIONS, &mut key[..]);
    key
}

/// The blocks of a buffer whose length is a whole number of them.
fn blocks(buffer: &mut [u8]) -> &mut [Block<Aes256>] {
    let (blocks, rest) = Block::<Aes256>::slice_as_chunks_mut(buffer);
    debug_assert!(rest.is_empty(), "the caller passes whole blocks");
    blocks
}

/// Reads until `buffer` is full or the stream has ended.
fn read_full(input: &mut StageInput, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]).map_err(|e| Error::io("read", "the stream", e))? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Whether the first plaintext block looks familiar: text, or a format with magic bytes. With a wrong key, the block is
/// random and looks like text with a probability of about 10^-5.
fn is_readable(first: &[u8]) -> bool {
    const MAGICS: [&[u8]; 4] = [&[0x28, 0xb5, 0x2f, 0xfd], &[0x1f, 0x8b, 0x08], b"PGDMP", &[0x6d, 0xe2, 0x99, 0x81]];
    // A multi-byte character may continue in the next block.
    let text = match std::str::from_utf8(first) {
        Err(error) if error.error_len().is_some() => false,
        _ => first.iter().all(|b| !b.is_ascii_control() || b.is_ascii_whitespace()),
    };
    text || MAGICS.iter().any(|magic| first.starts_with(magic))
}

fn encrypt(passphrase: &SecretString, input: &mut StageInput, output: &mut StageOutput) -> Result<()> {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt)
        .map_err(|e| Error::new(ErrorKind::Io, "encrypt with", "openssl", format!("no random numbers: {e}")))?;
    encrypt_salted(passphrase, &salt, input, output)
}

fn encrypt_salted(
    passphrase: &SecretString,
    salt: &[u8; 8],
    input: &mut StageInput,
    output: &mut StageOutput,
) -> Result<()> {
    let failed = |e| Error::io("encrypt", "the stream", e);
    let key = derive(passphrase, salt);
    let mut cipher = cbc::Encryptor::<Aes256>::new_from_slices(&key[..32], &key[32..]).expect("32 and 16 bytes");
    output.write_all(MAGIC).and_then(|()| output.write_all(salt)).map_err(failed)?;
    let mut buffer = Zeroizing::new(vec![0; BUFFER + BLOCK]);
    loop {
        let filled = read_full(input, &mut buffer[..BUFFER])?;
        let mut end = filled;
        if filled < BUFFER {
            // PKCS#7: always at least one byte of padding; each byte is the number of padding bytes.
            let padding = BLOCK - filled % BLOCK;
            buffer[filled..filled + padding].fill(padding as u8);
            end += padding;
        }
        cipher.encrypt_blocks(blocks(&mut buffer[..end]));
        output.write_all(&buffer[..end]).map_err(failed)?;
        if filled < BUFFER {
            return Ok(());
        }
    }
}

fn decrypt(passphrase: &SecretString, input: &mut StageInput, output: &mut StageOutput) -> Result<()> {
    let corrupt = |why: &str| {
        Error::new(ErrorKind::Corrupt, "decrypt", "the artifact", why).hint(
            "the stored object is damaged or was not written by `openssl enc -aes-256-cbc -salt -pbkdf2 -iter 100000`",
        )
    };
    let mut head = [0; 16];
    let got = read_full(input, &mut head)?;
    if got < head.len() || &head[..8] != MAGIC {
        return Err(corrupt("it does not start like the output of `openssl enc -salt`"));
    }
    let key = derive(passphrase, &head[8..]);
    let mut cipher = cbc::Decryptor::<Aes256>::new_from_slices(&key[..32], &key[32..]).expect("32 and 16 bytes");
    let mut buffer = Zeroizing::new(vec![0; BUFFER]);
    // The last block may be padding, so a block is held back until it is known whether more follow.
    let mut held: Option<Zeroizing<[u8; BLOCK]>> = None;
    let mut begins_readable = None;
    let failed = |e| Error::io("decrypt", "the artifact", e);
    loop {
        let filled = read_full(input, &mut buffer)?;
        if filled % BLOCK != 0 {
            return Err(corrupt("its length is not a whole number of cipher blocks: it was cut short"));
        }
        if filled > 0 {
            cipher.decrypt_blocks(blocks(&mut buffer[..filled]));
            begins_readable.get_or_insert_with(|| is_readable(&buffer[..filled.min(BLOCK)]));
            if let Some(block) = held.take() {
                output.write_all(&block[..]).map_err(failed)?;
            }
            output.write_all(&buffer[..filled - BLOCK]).map_err(failed)?;
            let mut last = Zeroizing::new([0; BLOCK]);
            last.copy_from_slice(&buffer[filled - BLOCK..filled]);
            held = Some(last);
        }
        if filled < BUFFER {
            break;
        }
    }
    let Some(last) = held else { return Err(corrupt("it has no data after its header: it was cut short")) };
    let padding = usize::from(last[BLOCK - 1]);
    if !(1..=BLOCK).contains(&padding) || last[BLOCK - padding..].iter().any(|b| usize::from(*b) != padding) {
        // The format has no checksum; the only evidence is what the first block decrypts to.
        if begins_readable == Some(true) {
            return Err(corrupt(
                "its last block is invalid: the passphrase is right, because the beginning is readable, but the object was cut short or altered",
            ));
        }
        return Err(Error::new(
            ErrorKind::Decrypt,
            "decrypt",
            "the artifact",
            "nothing in it can be read: the passphrase is wrong (or the object was altered from the start)",
        )
        .hint(Hint::CheckPassphrase));
    }
    output.write_all(&last[..BLOCK - padding]).map_err(failed)
}

impl Encryptor for OpenSsl {
    fn scheme(&self) -> &'static str {
        "openssl"
    }

    fn suffix(&self) -> &'static str {
        "enc"
    }

    fn recognises(&self, start: &[u8]) -> bool {
        super::starts_like_openssl(start)
    }

    fn can_decrypt(&self) -> bool {
        true
    }

    fn encrypt(&self, plaintext: ByteStream) -> Result<ByteStream> {
        let passphrase = self.passphrase.clone();
        Ok(stage::spawn("openssl", plaintext, move |input, output| encrypt(&passphrase, input, output)))
    }

    fn decrypt(&self, ciphertext: ByteStream) -> Result<ByteStream> {
        let passphrase = self.passphrase.clone();
        Ok(stage::spawn("openssl", ciphertext, move |input, output| decrypt(&passphrase, input, output)))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use bytes::Bytes;
    use futures::StreamExt;

    use super::*;
    use crate::stream::{collect, once};

    fn with(passphrase: &str) -> OpenSsl {
        OpenSsl::passphrase(passphrase.to_owned().into()).unwrap()
    }

    fn data(len: usize) -> Bytes {
        (0..len).map(|i| (i % 253) as u8).collect::<Vec<_>>().into()
    }

    async fn sealed(len: usize) -> Bytes {
        collect(with("secret").encrypt(once(data(len))).unwrap(), 1 << 26, "x").await.unwrap()
    }

    async fn opened(passphrase: &str, stored: Bytes) -> Result<Bytes> {
        collect(with(passphrase).decrypt(once(stored)).unwrap(), 1 << 26, "x").await
    }

    fn openssl(decrypt: bool, input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("openssl");
        command
            .args(["enc", "-aes-256-cbc", "-salt", "-pbkdf2", "-iter", "100000", "-pass", "env:PW"])
            .env("PW", "secret");
        if decrypt {
            command.arg("-d");
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the openssl command is installed");
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[tokio::test]
    async fn the_openssl_command_reads_ours_and_we_read_its() {
        for len in [0, 1, 15, 16, 17, BUFFER - 1, BUFFER, BUFFER + 1, 300_000] {
            assert_eq!(openssl(true, &sealed(len).await), data(len), "theirs reads ours, {len} bytes");
            let theirs = openssl(false, &data(len));
            assert_eq!(opened("secret", theirs.into()).await.unwrap(), data(len), "ours reads theirs, {len} bytes");
        }
    }

    #[tokio::test]
    async fn chunk_boundaries_mean_nothing() {
        let stored = sealed(1000).await;
        let small =
            futures::stream::iter(stored.chunks(7).map(|c| Ok(Bytes::copy_from_slice(c))).collect::<Vec<_>>()).boxed();
        let plain = collect(with("secret").decrypt(small).unwrap(), 1 << 20, "x").await.unwrap();
        assert_eq!(plain, data(1000));
    }

    /// The same salt each time, so that a wrong passphrase always fails in the same way.
    async fn sealed_text() -> Bytes {
        let text = once("{\"A\": \"some text\"}\n".repeat(60));
        let passphrase = SecretString::from("secret");
        let stored =
            stage::spawn("openssl", text, move |input, output| encrypt_salted(&passphrase, b"12345678", input, output));
        collect(stored, 1 << 26, "x").await.unwrap()
    }

    #[tokio::test]
    async fn a_wrong_passphrase_and_a_cut_are_told_apart() {
        let stored = sealed_text().await;
        // One in 256 wrong passphrases gives bytes that look like padding; these do not.
        for wrong in ["wrong", "Secret", "secret "] {
            let error = opened(wrong, stored.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decrypt);
            assert!(error.message().contains("the passphrase is wrong"), "{error}");
        }
        for cut in [0, 10, 16, 17, 500] {
            let error = opened("secret", stored.slice(..cut)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{cut}: {error}");
            assert!(error.message().contains("cut short") || cut < 16, "{cut}: {error}");
        }
        let error = opened("secret", stored.slice(..stored.len() - 16)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("the passphrase is right"), "{error}");
    }
}
