//! `lifeboat-velero`: Velero's backups of a cluster, made, restore-tested, copied and restored, from flags alone.

fn main() -> std::process::ExitCode {
    lifeboat::cli::single::<lifeboat::velero::VeleroSystem>()
}
