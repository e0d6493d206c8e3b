//! An encryptor of one's own: XChaCha20-Poly1305 over blocks of 64 KiB, each with its number and whether it is the last, so that
//! nothing can be altered, moved or cut off unseen (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
//!
//! | bytes | what |
//! |---|---|
//! | 8 | the magic `OUTSIDE1` |
//! | 19 | the start of every nonce, random |
//! | 65,536 + 16 each | a block and its tag; the last one is shorter or as long, and may be empty |

use std::sync::Arc;

use chacha20poly1305::aead::{Aead, AeadCore, KeyInit, OsRng};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use lifeboat::bytes::{Bytes, BytesMut};
use lifeboat::futures::stream::{self, StreamExt};
use lifeboat::{ByteStream, Encryptor, Error, ErrorKind, Result};

const MAGIC: &[u8] = b"OUTSIDE1";
const BLOCK: usize = 64 << 10;
const TAG: usize = 16;
const PREFIX: usize = 19;

/// Encrypts and decrypts with a key of 32 bytes.
#[derive(Clone)]
pub struct Veil(Arc<XChaCha20Poly1305>);

impl Veil {
    /// Uses this key.
    pub fn new(key: [u8; 32]) -> Self {
        Self(Arc::new(XChaCha20Poly1305::new(&Key::from(key))))
    }
}

impl std::fmt::Debug for Veil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Veil").finish_non_exhaustive()
    }
}

/// A stream, cut into pieces of one size.
struct Pieces {
    stream: ByteStream,
    held: BytesMut,
    ended: bool,
}

impl Pieces {
    fn new(stream: ByteStream) -> Self {
        Self { stream, held: BytesMut::new(), ended: false }
    }

    /// The next `size` bytes, fewer at the end, and whether these are the last.
    async fn next(&mut self, size: usize) -> Result<(Bytes, bool)> {
        // One more, to know whether there is more.
        while !self.ended && self.held.len() <= size {
            match self.stream.next().await {
                Some(chunk) => self.held.extend_from_slice(&chunk?),
                None => self.ended = true,
            }
        }
        let last = self.held.len() <= size;
        Ok((self.held.split_to(size.min(self.held.len())).freeze(), last))
    }
}

/// Works on one block after the other until the last one.
struct Blocks {
    pieces: Pieces,
    key: Arc<XChaCha20Poly1305>,
    nonce: XNonce,
    number: u32,
    decrypts: bool,
}

impl Blocks {
    async fn next(&mut self) -> Result<(Bytes, bool)> {
        let size = if self.decrypts { BLOCK + TAG } else { BLOCK };
        let (piece, last) = self.pieces.next(size).await?;
        self.nonce[PREFIX..PREFIX + 4].copy_from_slice(&self.number.to_be_bytes());
        self.nonce[PREFIX + 4] = u8::from(last);
        let (key, nonce, decrypts) = (self.key.clone(), self.nonce, self.decrypts);
        // Not within a poll: other streams wait there.
        let work = move || if decrypts { key.decrypt(&nonce, &*piece) } else { key.encrypt(&nonce, &*piece) };
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.map_err(|e| Error::new(ErrorKind::Internal, "run", "a thread", e.to_string()))?;
        let done = done.map_err(|_| corrupt("a block was altered, is missing, or was made with another key"))?;
        let next = self.number.checked_add(1);
        self.number = next.ok_or_else(|| Error::new(ErrorKind::Unsupported, "use", "veil", "more than 256 TiB"))?;
        Ok((done.into(), last))
    }

    fn stream(self) -> ByteStream {
        let step = |state: Option<Self>| async move {
            let mut blocks = state?;
            Some(match blocks.next().await {
                Ok((block, last)) => (Ok(block), (!last).then_some(blocks)),
                Err(error) => (Err(error), None),
            })
        };
        stream::unfold(Some(self), step).boxed()
    }
}

fn corrupt(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "decrypt", "the artifact", why)
}

impl Encryptor for Veil {
    fn scheme(&self) -> &'static str {
        "veil"
    }

    fn suffix(&self) -> &'static str {
        "enc-veil"
    }

    fn recognises(&self, start: &[u8]) -> bool {
        start.starts_with(MAGIC)
    }

    fn can_decrypt(&self) -> bool {
        true
    }

    fn encrypt(&self, plaintext: ByteStream) -> Result<ByteStream> {
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let header = Bytes::from([MAGIC, &nonce[..PREFIX]].concat());
        let (key, pieces) = (self.0.clone(), Pieces::new(plaintext));
        let blocks = Blocks { pieces, key, nonce, number: 0, decrypts: false };
        Ok(stream::iter([Ok(header)]).chain(blocks.stream()).boxed())
    }

    fn decrypt(&self, ciphertext: ByteStream) -> Result<ByteStream> {
        let key = self.0.clone();
        let opened = async move {
            let mut pieces = Pieces::new(ciphertext);
            match pieces.next(MAGIC.len() + PREFIX).await {
                Err(error) => stream::iter([Err(error)]).boxed(),
                Ok((header, _)) if header.len() < MAGIC.len() + PREFIX || !header.starts_with(MAGIC) => {
                    stream::iter([Err(corrupt("it does not start as veil writes it"))]).boxed()
                }
                Ok((header, _)) => {
                    let mut nonce = XNonce::default();
                    nonce[..PREFIX].copy_from_slice(&header[MAGIC.len()..]);
                    Blocks { pieces, key, nonce, number: 0, decrypts: true }.stream()
                }
            }
        };
        Ok(stream::once(opened).flatten().boxed())
    }
}
