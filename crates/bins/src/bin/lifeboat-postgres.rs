//! `lifeboat-postgres`: backs up, verifies and restores one PostgreSQL database, from flags alone.

fn main() -> std::process::ExitCode {
    lifeboat_bins::lifeboat_postgres()
}
