//! Texts of the general commands, where the common ones do not fit.

use clap::{Arg, Command};
use lifeboat_core::cli::{AT, CONTENTS};

use super::super::system::INTO;

/// The heading of flags that do not apply to Velero's own backups.
const COPY: &str = "Of a copy";

/// Sets the texts of a command.
pub(crate) fn shape(command: Command) -> Command {
    let name = command.get_name().to_owned();
    // Among the system's own commands, not those for a config file.
    let is_own = has(&command, "to");
    match &*name {
        "" => command.after_help(PROGRAM),
        "backup" => of_contents(command).about("Have Velero make a backup, and copy it").after_help(
            "\
Examples:
  lifeboat-velero backup --from-schedule daily --location s3://velero --sink b2://offsite --prefix copies --encrypt age:age1…
  lifeboat-velero backup --namespace shop --ttl 7d --location s3://velero --sink file:///backups --encrypt age-file:keys.txt",
        ),
        "list" if is_own => with(command, "schedule", |arg| arg.conflicts_with("to")),
        "show" if is_own => {
            let items = "Also list the contents (resources with their objects); needs the key if it is encrypted";
            let command = with(command, "items", |arg| arg.help(items));
            let command = with(command, "backup", |arg| arg.conflicts_with("to"));
            of_copy(command, &["dataset", "to", "prefix", "identity", "at", "items"])
        }
        "verify" if is_own => {
            let schedule = "The latest Completed backup of this schedule; without it, of any";
            let command = with(command, "from_schedule", |arg| arg.help(schedule).help_heading("Restore test"));
            of_copy(command, &["dataset", "to", "prefix", "identity", "no_record"])
        }
        "restore" if is_own => {
            let at = format!("Which copy: {AT}");
            let mut command = with(command, "at", |arg| arg.help(at));
            // There is only one possible place.
            command = with(command, "into", |arg| arg.required(false).env(None::<&str>).default_value(INTO).hide(true));
            for id in ["backup", "schedule"] {
                command = with(command, id, |arg| arg.conflicts_with("to"));
            }
            of_copy(command, &["dataset", "to", "prefix", "identity", "at"])
        }
        "prune" => command.about("Delete the copies that a policy no longer keeps").after_help(
            "\
Velero deletes its own backups when they expire; --ttl and the schedules say when.

Examples:
  lifeboat-velero prune --dataset daily --sink b2://offsite --prefix copies --keep 30d,at-least=3 --dry-run
  lifeboat-velero prune --dataset daily --sink b2://offsite --prefix copies --orphans",
        ),
        "replicate" => {
            let into =
                "Copy everything in --location, including the volumes' repositories, object by object into this folder of the sink";
            let about = "Copy the first sink's copies to the others; with --into, Velero's whole bucket as it is";
            with(command, "into", |arg| arg.help(into)).about(about).after_help(
                "\
Examples:
  lifeboat-velero replicate --dataset daily --sink minio://minio:9000/backups --sink b2://offsite
  lifeboat-velero replicate --location minio://minio:9000/velero --sink b2://offsite --into velero
  lifeboat-velero replicate --location minio://minio:9000/velero --sink b2://offsite --into velero --reread",
            )
        }
        "check" => of_contents(command)
            .about("Check the cluster, Velero's storage location, the rights, the sink and the keys")
            .after_help(
                "\
Examples:
  lifeboat-velero check --location s3://velero --sink b2://offsite --prefix copies --encrypt age:age1…
  lifeboat-velero check --test shop --location s3://velero --sink file:///backups --encrypt age-file:keys.txt",
            ),
        _ => command,
    }
}

const PROGRAM: &str = "\
list, show, verify and restore work on the backups that Velero keeps; with --sink SINK-URL, on copies of them.

Examples:
  export LIFEBOAT_LOCATION=minio://minio:9000/velero
  lifeboat-velero verify --from-schedule daily --namespace shop
  lifeboat-velero backup --from-schedule daily --sink b2://offsite --prefix copies --encrypt age:age1…
  lifeboat-velero restore daily-20261121030000 --namespace shop --map shop=shop-again
  lifeboat-velero judge --location s3://velero/production

Exit status:
  0  good
  1  a backup, restore or check failed, or the run was cancelled
  2  usage or configuration
  3  nothing to do where something was asked for (no backup found)";

fn has(command: &Command, id: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == id)
}

/// Changes an argument, if the command has it.
fn with(command: Command, id: &str, change: impl FnOnce(Arg) -> Arg) -> Command {
    if has(&command, id) { command.mut_arg(id, change) } else { command }
}

/// The schedule also determines what is backed up; in `verify`, it determines what is tested.
fn of_contents(command: Command) -> Command {
    with(command, "from_schedule", |arg| arg.help_heading(CONTENTS))
}

fn of_copy(command: Command, ids: &[&str]) -> Command {
    ids.iter().fold(command, |command, id| with(command, id, |arg| arg.help_heading(COPY)))
}
