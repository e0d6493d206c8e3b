//! Protection of plaintext that consists of secrets: wiped memory and no core dumps while it is in memory.
//!
//! Most backups are confidential; a backup of secrets is nothing but secrets. A source, target or verifier of such a system
//! says so ([`Source::is_confidential`](crate::Source::is_confidential)). Then
//!
//! - a backup without an encryptor is refused;
//! - the pipeline's stages wipe the buffers that held plaintext: what the tap, compression, decryption and
//!   decompression emit, and what they collect before that;
//! - the process leaves no core dump, and no other process of the same user can read its memory (Linux).
//!
//! Memory outside of Lifeboat's control is *not* wiped: the tables inside zstd and zlib, the cipher's own buffer in
//! `age` (64 KiB), registers and stacks. To wipe all freed memory, use an allocator that does so, such as
//! `zeroizing-alloc`. Memory is not locked either: turn swap off, or encrypt it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use zeroize::Zeroizing;

/// A guard: while one exists, new stages wipe their buffers, and the process leaves no core dump.
///
/// [`Backup`](crate::Backup), [`Restore`](crate::Restore) and [`Verify`](crate::Verify) create one if needed. A program
/// that reads a [stream](crate::Restore::stream) of secrets itself must create its own.
#[derive(Debug)]
pub struct Confidential {
    _dumps: NoCoreDumps,
}

static WIPING: AtomicUsize = AtomicUsize::new(0);

impl Confidential {
    /// Creates a guard.
    pub fn begin() -> Self {
        let dumps = NoCoreDumps::begin();
        WIPING.fetch_add(1, Ordering::SeqCst);
        Self { _dumps: dumps }
    }

    /// Whether a guard exists.
    pub fn is_held() -> bool {
        WIPING.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Confidential {
    fn drop(&mut self) {
        WIPING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A guard: while one exists, the process leaves no core dump. Dropping the last one restores the state before the
/// first.
///
/// This affects the whole process (a debugger cannot attach, and `/proc/self` belongs to root), so a library should
/// undo it. A program that handles secrets from beginning to end turns core dumps off
/// [for the process](Self::for_the_process).
#[derive(Debug)]
pub struct NoCoreDumps(());

#[derive(Default)]
struct State {
    holders: usize,
    before: Option<Dumps>,
}

static STATE: Mutex<State> = Mutex::new(State { holders: 0, before: None });

impl NoCoreDumps {
    /// Creates a guard.
    pub fn begin() -> Self {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        if state.holders == 0 {
            state.before = Some(Dumps::off());
        }
        state.holders += 1;
        Self(())
    }

    /// Turns core dumps off until the process ends.
    pub fn for_the_process() {
        static HELD: OnceLock<NoCoreDumps> = OnceLock::new();
        HELD.get_or_init(Self::begin);
    }

    #[cfg(test)]
    fn is_held() -> bool {
        STATE.lock().unwrap_or_else(PoisonError::into_inner).holders > 0
    }
}

impl Drop for NoCoreDumps {
    fn drop(&mut self) {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        state.holders -= 1;
        if state.holders == 0
            && let Some(before) = state.before.take()
        {
            before.restore();
        }
    }
}

/// A chunk whose memory is wiped when its last clone is dropped.
pub fn wiped(bytes: Vec<u8>) -> Bytes {
    Bytes::from_owner(Zeroizing::new(bytes))
}

/// The previous state of core dumps.
struct Dumps {
    /// The soft limit of their size.
    limit: rustix::process::Rlimit,
    #[cfg(target_os = "linux")]
    behavior: Option<rustix::process::DumpableBehavior>,
}

impl Dumps {
    /// Turns core dumps off.
    fn off() -> Self {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Core);
        // The hard limit stays: once lowered, it could not be raised again.
        let none = Rlimit { current: Some(0), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Core, none) {
            tracing::warn!(%error, "core dumps cannot be limited");
        }
        // The limit does not apply to dumps piped to a program (core_pattern with a pipe); this does.
        #[cfg(target_os = "linux")]
        let behavior = {
            use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
            let before = dumpable_behavior().ok();
            if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
                tracing::warn!(%error, "core dumps cannot be turned off");
            }
            before
        };
        Self {
            limit,
            #[cfg(target_os = "linux")]
            behavior,
        }
    }

    fn restore(self) {
        let _ = rustix::process::setrlimit(rustix::process::Resource::Core, self.limit);
        #[cfg(target_os = "linux")]
        if let Some(behavior @ rustix::process::DumpableBehavior::Dumpable) = self.behavior {
            let _ = rustix::process::set_dumpable_behavior(behavior);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn core_dumps_are_off_until_the_last_holder_has_gone() {
        let before = getrlimit(Resource::Core);
        let first = NoCoreDumps::begin();
        let second = Confidential::begin();
        drop(first);
        assert!(NoCoreDumps::is_held() && Confidential::is_held());
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        drop(second);
        // Other tests of this process may hold one of their own.
        if !NoCoreDumps::is_held() {
            assert_eq!(getrlimit(Resource::Core), before);
        }
    }

    #[test]
    fn a_wiped_chunk_is_the_bytes_that_it_was_made_of() {
        let chunk = wiped(b"secret".to_vec());
        assert_eq!(&chunk.slice(1..3)[..], b"ec");
    }
}
