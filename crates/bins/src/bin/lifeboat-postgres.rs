//! `lifeboat-postgres`: backs up, verifies and restores one PostgreSQL database, from flags alone.

fn main() -> std::process::ExitCode {
    lifeboat::cli::single::<lifeboat::postgres::PostgresSystem>()
}
