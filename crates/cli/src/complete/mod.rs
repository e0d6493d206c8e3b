//! Completions in a shell: the program itself says what can stand where, so they know jobs, sinks and artifacts.
//!
//! The script of `completions SHELL` calls the program with [`WORD`], the shell's name and the words up to the cursor. It answers
//! with one candidate a line, for fish and zsh with a tab and its description. Nothing at all means a path. Jobs and sinks
//! come from the config alone; for datasets and artifacts a sink is listed, for a moment at most.

mod names;
mod script;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Arg, ArgAction, Command};

pub(crate) use names::{Configured, Names, Single};
pub(crate) use script::script;

/// The command that is not in any help.
pub(crate) const WORD: &str = "__complete";

/// What an argument's value is one of, besides the values that clap knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A job of the config.
    Job,
    /// A job or a copy.
    JobOrCopy,
    /// A sink of the config.
    Sink,
    /// A sink, or all of them.
    SinkOrAll,
    /// A dataset of the job, or of the sink.
    Dataset,
    /// An artifact of the job, or of the dataset.
    Artifact,
}

/// The kinds of values by the ids of the arguments and the commands that have them.
fn kind(command: &str, id: &str) -> Option<Kind> {
    Some(match (command, id) {
        ("replicate", "names") => Kind::JobOrCopy,
        ("replicate", "from" | "to") => Kind::Sink,
        ("verify", "sink") => Kind::SinkOrAll,
        (_, "sink") => Kind::Sink,
        (_, "jobs" | "names" | "job" | "what") => Kind::Job,
        (_, "dataset") => Kind::Dataset,
        (_, "at") => Kind::Artifact,
        _ => return None,
    })
}

/// The words up to the cursor, as far as they say what was given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    options: Vec<(String, String)>,
    positionals: Vec<String>,
}

impl Given {
    /// The last value of an option, by its id.
    pub(crate) fn one(&self, id: &str) -> Option<&str> {
        self.options.iter().rev().find(|(known, _)| known == id).map(|(_, value)| value.as_str())
    }

    /// What stands without an option.
    pub(crate) fn positionals(&self) -> &[String] {
        &self.positionals
    }
}

/// Whether these are the arguments of a completion.
pub(crate) fn is_asked(arguments: &[OsString]) -> bool {
    arguments.get(1).is_some_and(|argument| argument == WORD)
}

/// Answers a completion on standard output. Whatever is wrong, a shell's line is no place to say so.
pub(crate) fn run(mut program: Command, arguments: &[OsString], names: &dyn Names) -> ExitCode {
    program.build();
    let _ = std::io::stdout().write_all(answer(&program, arguments, names).as_bytes());
    ExitCode::SUCCESS
}

/// Answers a completion: the lines for the shell.
fn answer(program: &Command, arguments: &[OsString], names: &dyn Names) -> String {
    let mut words: Vec<String> = arguments.iter().skip(2).map(|word| word.to_string_lossy().into_owned()).collect();
    if words.is_empty() {
        return String::new();
    }
    let shell = words.remove(0);
    let (words, typed) = joined(words);
    // bash replaces only what follows its last word break.
    let cut = if shell == "bash" { typed.rfind(['=', ':']).map_or(0, |at| at + 1) } else { 0 };
    let described = matches!(shell.as_str(), "fish" | "zsh");
    let mut lines = String::new();
    for (candidate, about) in candidates(program, &words, &typed, names) {
        if !candidate.starts_with(&typed) || !candidate.chars().all(is_plain) {
            continue;
        }
        let _ = match about.lines().next().filter(|about| described && !about.is_empty()) {
            Some(about) => writeln!(lines, "{}\t{about}", &candidate[cut..]),
            None => writeln!(lines, "{}", &candidate[cut..]),
        };
    }
    lines
}

/// Whether a character means nothing to a shell. A name from a bucket becomes part of a command line: others are not offered.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "._-/:@%+,=".contains(c)
}

/// The words before the cursor, and the one at it. bash breaks words at `=` and `:`, which are put together again.
fn joined(words: Vec<String>) -> (Vec<String>, String) {
    let mut whole: Vec<String> = Vec::new();
    let mut open = false;
    for word in words {
        let breaks = !word.is_empty() && word.chars().all(|c| matches!(c, '=' | ':'));
        match whole.last_mut() {
            Some(last) if (breaks || open) && !last.is_empty() => *last += &word,
            _ => whole.push(word),
        }
        open = breaks;
    }
    let typed = whole.pop().unwrap_or_default();
    (whole, typed)
}

type Candidates = Vec<(String, String)>;

/// Where the walk over the words has arrived.
struct Place<'a> {
    command: &'a Command,
    globals: Vec<&'a Arg>,
    given: Given,
    /// The option whose value comes next.
    open: Option<&'a Arg>,
    only_values: bool,
}

fn candidates(program: &Command, words: &[String], typed: &str, names: &dyn Names) -> Candidates {
    let globals = program.get_arguments().filter(|arg| arg.is_global_set()).collect();
    let mut place = Place { command: program, globals, given: Given::default(), open: None, only_values: false };
    for word in words {
        place.take(word);
    }
    let name = place.command.get_name();
    if let Some(arg) = place.open {
        return values(name, arg, &place.given, names);
    }
    if let Some((option, _)) = typed.split_once('=').filter(|_| typed.starts_with("--") && !place.only_values) {
        let found = place.option(option).map(|arg| values(name, arg, &place.given, names)).unwrap_or_default();
        return found.into_iter().map(|(value, about)| (format!("{option}={value}"), about)).collect();
    }
    if typed.starts_with('-') && !place.only_values {
        return place.options();
    }
    if place.command.has_subcommands() && !place.only_values {
        let shown = place.command.get_subcommands().filter(|command| !command.is_hide_set());
        return shown.map(|command| (command.get_name().to_owned(), about(command.get_about()))).collect();
    }
    let positionals: Vec<&Arg> = place.command.get_positionals().collect();
    let given = &place.given.positionals;
    let arg = positionals.get(given.len()).or(positionals.last().filter(|arg| takes_several(arg)));
    let mut found = arg.map(|arg| values(name, arg, &place.given, names)).unwrap_or_default();
    found.retain(|(value, _)| !given.contains(value));
    found
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

fn takes_several(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append) || arg.get_num_args().is_some_and(|n| n.max_values() > 1)
}

impl<'a> Place<'a> {
    fn arguments(&self) -> impl Iterator<Item = &'a Arg> {
        let command = self.command;
        command.get_arguments().chain(self.globals.clone())
    }

    /// The option that is written like this.
    fn option(&self, word: &str) -> Option<&'a Arg> {
        match word.strip_prefix("--") {
            Some(long) => self.arguments().find(|arg| {
                arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
            }),
            None => {
                let short = word.strip_prefix('-')?.chars().next_back()?;
                self.arguments().find(|arg| arg.get_short() == Some(short))
            }
        }
    }

    fn take(&mut self, word: &str) {
        if let Some(arg) = self.open.take() {
            self.given.options.push((arg.get_id().to_string(), word.to_owned()));
        } else if self.only_values || !word.starts_with('-') || word == "-" {
            match self.command.find_subcommand(word).filter(|_| !self.only_values) {
                Some(command) => self.command = command,
                None => self.given.positionals.push(word.to_owned()),
            }
        } else if word == "--" {
            self.only_values = true;
        } else if let Some((option, value)) = word.split_once('=') {
            if let Some(arg) = self.option(option) {
                self.given.options.push((arg.get_id().to_string(), value.to_owned()));
            }
        } else {
            self.open = self.option(word).filter(|arg| takes_value(arg) && !arg.is_require_equals_set());
        }
    }

    fn options(&self) -> Candidates {
        let used =
            |arg: &Arg| takes_value(arg) && !takes_several(arg) && self.given.one(arg.get_id().as_str()).is_some();
        let shown = self.arguments().filter(|arg| !arg.is_hide_set() && !used(arg));
        let mut found: Candidates =
            shown.filter_map(|arg| Some((format!("--{}", arg.get_long()?), about(arg.get_help())))).collect();
        found.push(("--help".to_owned(), "Print help".to_owned()));
        found.sort();
        found.dedup_by(|a, b| a.0 == b.0);
        found
    }
}

fn values(command: &str, arg: &Arg, given: &Given, names: &dyn Names) -> Candidates {
    let possible = arg.get_possible_values();
    match kind(command, arg.get_id().as_str()) {
        Some(kind) if possible.is_empty() => names.of(kind, given),
        _ => {
            let shown = possible.iter().filter(|value| !value.is_hide_set());
            shown.map(|value| (value.get_name().to_owned(), about(value.get_help()))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::CONFIG;

    struct Known;

    impl Names for Known {
        fn of(&self, kind: Kind, given: &Given) -> Candidates {
            let names: &[&str] = match kind {
                Kind::Job => &["blog", "shop"],
                Kind::Sink => &["local", "offsite", "$(reboot)", "a b", "x\ny"],
                Kind::Artifact if given.positionals() == ["shop"] => &["latest", "shop-20261101-030000.dump"],
                _ => &[],
            };
            names.iter().map(|name| ((*name).to_owned(), String::new())).collect()
        }
    }

    fn program() -> Command {
        let value = |id: &'static str| Arg::new(id).long(id).action(ArgAction::Set);
        let jobs = Arg::new("jobs").num_args(0..).action(ArgAction::Append);
        let restore = Command::new("restore").about("Restore").arg(Arg::new("job")).arg(value("at")).arg(value("sink"));
        let mut program = Command::new("tool")
            .arg(Arg::new("json").long("json").global(true).action(ArgAction::SetTrue))
            .arg(Arg::new(CONFIG).short('c').long("config").global(true).action(ArgAction::Set))
            .subcommand(Command::new("backup").arg(jobs).arg(value("level").value_parser(["stored", "live"])))
            .subcommand(restore)
            .subcommand(Command::new("secret").hide(true));
        program.build();
        program
    }

    fn ask(shell: &str, words: &[&str]) -> Vec<String> {
        let words = ["tool", WORD, shell].iter().chain(words).map(OsString::from).collect::<Vec<_>>();
        answer(&program(), &words, &Known).lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_can_stand_at_the_cursor_is_offered() {
        assert_eq!(ask("bash", &["r"]), ["restore"]);
        assert_eq!(ask("fish", &["rest"]), ["restore\tRestore"]);
        assert!(!ask("bash", &[""]).contains(&"secret".to_owned()));
        assert_eq!(ask("bash", &["backup", ""]), ["blog", "shop"]);
        assert_eq!(ask("bash", &["backup", "shop", ""]), ["blog"]);
        assert_eq!(ask("bash", &["-c", "backup", "backup", "sh"]), ["shop"]);
        assert_eq!(ask("bash", &["restore", "shop", ""]), [""; 0]);
        assert_eq!(ask("bash", &["restore", "shop", "--at", ""]), ["latest", "shop-20261101-030000.dump"]);
        assert_eq!(ask("bash", &["restore", "--sink", "o"]), ["offsite"]);
        assert_eq!(ask("bash", &["backup", "--le"]), ["--level"]);
        assert_eq!(ask("bash", &["backup", "--level", ""]), ["stored", "live"]);
        assert_eq!(ask("bash", &["backup", "--", "--"]), [""; 0]);
        assert!(ask("bash", &["restore", "--"]).contains(&"--json".to_owned()));
    }

    #[test]
    fn a_value_after_an_equals_sign_is_what_the_shell_replaces() {
        // zsh and fish replace the whole word, bash what follows the break.
        assert_eq!(ask("zsh", &["restore", "--sink=lo"]), ["--sink=local"]);
        assert_eq!(ask("bash", &["restore", "--sink", "=", "lo"]), ["local"]);
        assert_eq!(ask("bash", &["restore", "--sink", "="]), ["local", "offsite"]);
        let words = ["--sink", "file", ":", "///x", "--at", ""].map(str::to_owned).to_vec();
        let expected = ["--sink", "file:///x", "--at"].map(str::to_owned).to_vec();
        assert_eq!(joined(words), (expected, String::new()));
    }
}
