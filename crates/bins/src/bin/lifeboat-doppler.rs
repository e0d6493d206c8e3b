//! `lifeboat-doppler`: backs up, verifies and restores the secrets of one Doppler config, from flags alone.

/// Whatever is freed is wiped: what libraries kept of a secret is gone when they let go of it.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> std::process::ExitCode {
    lifeboat::cli::single::<lifeboat::doppler::DopplerSystem>()
}
