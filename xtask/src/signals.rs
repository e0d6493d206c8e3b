//! Ctrl-C, SIGTERM and SIGHUP set a flag that every wait checks, and the exit path stops everything that was started.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Starts to listen. The first signal requests an orderly end; the second one ends this process at once, and the
/// servers with it (`process::Guard`).
pub(crate) fn listen() -> Result<()> {
    let received = RECEIVED.get_or_init(Arc::default);
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
        flag::register(signal, Arc::clone(&again))?;
        flag::register_usize(signal, Arc::clone(received), signal.unsigned_abs() as usize)?;
    }
    Ok(())
}

/// The number of the signal that requested the end, if one has arrived.
pub(crate) fn received() -> Option<u8> {
    let number = RECEIVED.get()?.load(Ordering::SeqCst);
    u8::try_from(number).ok().filter(|number| *number != 0)
}

/// An error once a signal has arrived.
pub(crate) fn check() -> Result<()> {
    if received().is_some() {
        bail!("interrupted");
    }
    Ok(())
}
