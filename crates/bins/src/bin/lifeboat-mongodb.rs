//! `lifeboat-mongodb`: backs up, verifies and restores one MongoDB database, from flags alone.

/// glibc's gives the buffers of the server's large replies back and gets them again, a page fault for every 4 KiB of them: see
/// benches/README.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    lifeboat::cli::single::<lifeboat::mongodb::MongoSystem>()
}
