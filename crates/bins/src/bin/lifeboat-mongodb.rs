//! `lifeboat-mongodb`: backs up, verifies and restores one MongoDB database, from flags alone.

fn main() -> std::process::ExitCode {
    lifeboat_bins::lifeboat_mongodb()
}
