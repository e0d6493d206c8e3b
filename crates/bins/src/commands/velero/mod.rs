//! What `lifeboat-velero` does with Velero's own backups. Copies of them are artifacts, which the other commands know.

pub(crate) mod backups;
pub(crate) mod judge;
pub(crate) mod restored;
pub(crate) mod schedules;
