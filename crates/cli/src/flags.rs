//! Adds the flags of systems to a command: one system's, or those of several side by side.

use std::ffi::OsStr;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use url::Url;

use crate::session::Session;

/// Adds the arguments of `from` that `command` does not have yet and that `takes` accepts. The others exist only so that the
/// whole struct can be read; they cannot be given.
pub(crate) fn add(command: Command, from: &Command, takes: impl Fn(&Arg) -> bool) -> Command {
    let (given, withheld): (Vec<&Arg>, Vec<&Arg>) = from.get_arguments().partition(|arg| takes(arg));
    let given = given.into_iter().cloned();
    let withheld = withheld.into_iter().cloned().map(withhold);
    given.chain(withheld).fold(command, |command, arg| if has(&command, &arg) { command } else { command.arg(arg) })
}

/// Whether a command already has an argument with this id, or one with the same spelling.
pub(crate) fn has(command: &Command, arg: &Arg) -> bool {
    command.get_arguments().any(|known| {
        known.get_id() == arg.get_id() || (known.get_long().is_some() && known.get_long() == arg.get_long())
    })
}

/// An argument that nobody can give.
fn withhold(arg: Arg) -> Arg {
    let name = format!("withheld:{}", arg.get_id());
    arg.long(name)
        .short(None)
        .alias(None)
        .visible_alias(None)
        .env(None::<&str>)
        .required(false)
        .hide(true)
        .default_values(Vec::<&OsStr>::new())
}

/// Warns about passwords among the arguments, which every user of the machine can read in `/proc`.
pub(crate) fn warn_of_passwords(session: &Session, command: &Command, matches: &ArgMatches) {
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        let is_argument = matches.value_source(id) == Some(ValueSource::CommandLine);
        let values = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
        let Some(long) = arg.get_long().filter(|_| is_argument) else { continue };
        if values.filter_map(|value| value.to_str()).any(holds_password) {
            let or = arg.get_env().map(|name| format!(", or set {}", name.to_string_lossy())).unwrap_or_default();
            session.output.warn(&format!(
                "the URL of --{long} holds a password, which every user of this machine can read while this runs: put it into \
                 a variable and write --{long} env:NAME{or}"
            ));
        }
    }
    if let Some((name, matches)) = matches.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        warn_of_passwords(session, command, matches);
    }
}

fn holds_password(text: &str) -> bool {
    // Several hosts, as MongoDB has them, are no URL.
    let user = text.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    user.is_some_and(|(user, _)| user.contains(':'))
        || Url::parse(text)
            .is_ok_and(|url| url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_found() {
        assert!(holds_password("postgres://u:hunter2@h/d"));
        assert!(holds_password("postgres://u@h/d?password=hunter2"));
        assert!(!holds_password("postgres://u@h/d?sslmode=require"));
        assert!(holds_password("mongodb://u:hunter2@a:27017,b:27017/d"));
        assert!(!holds_password("mongodb://u@a:27017,b:27017/d"));
        assert!(!holds_password("env:NAME"));
    }

    #[test]
    fn what_is_withheld_cannot_be_given_and_reads_as_absent() {
        let from = Command::new("x")
            .arg(Arg::new("a").long("a").env("LIFEBOAT_TEST_A"))
            .arg(Arg::new("b").long("b").visible_alias("bee").default_value("7").required(false));
        let command = add(Command::new("y"), &from, |arg| arg.get_id() == "a");
        command.clone().debug_assert();
        for flag in ["--b=1", "--bee=1"] {
            let error = command.clone().try_get_matches_from(["y", flag]).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::UnknownArgument, "{flag}");
        }
        let matches = command.try_get_matches_from(["y", "--a=1"]).unwrap();
        assert_eq!(matches.get_one::<String>("a").map(String::as_str), Some("1"));
        assert_eq!(matches.get_one::<String>("b"), None);
    }
}
