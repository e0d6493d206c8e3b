//! The grammar of the command line: `COMMAND [--with NAME]... [FLAG]... [-- TAIL...]`.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use anyhow::Result;

/// An invalid command line: exit status 2.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl fmt::Display for UsageError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// The arguments not parsed yet.
pub(crate) struct Arguments {
    rest: std::vec::IntoIter<OsString>,
}

/// The arguments of a command.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) help: bool,
    /// Names of services, from `--with`.
    pub(crate) with: Vec<String>,
    /// Everything after `--`.
    pub(crate) tail: Vec<OsString>,
    flags: Vec<String>,
    values: Vec<(String, String)>,
}

impl Options {
    /// The value of `--flag VALUE`; the last one counts.
    pub(crate) fn value(&self, flag: &str) -> Option<&str> {
        self.values.iter().rev().find(|(given, _)| given == flag).map(|(_, value)| value.as_str())
    }

    /// A number, or `default` if not given.
    pub(crate) fn number<T: FromStr>(&self, flag: &str, default: T) -> Result<T> {
        let Some(text) = self.value(flag) else { return Ok(default) };
        text.parse().map_err(|_| UsageError(format!("{flag}: `{text}` is not such a number")).into())
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }
}

impl Arguments {
    pub(crate) fn new(arguments: Vec<OsString>) -> Self {
        Self { rest: arguments.into_iter() }
    }

    /// The command's name, the first argument. `--help` and `-h` read as `help`.
    pub(crate) fn command(&mut self) -> Result<Option<String>> {
        let Some(word) = self.rest.next() else { return Ok(None) };
        let word = text(word)?;
        Ok(Some(if matches!(word.as_str(), "--help" | "-h") { "help".to_owned() } else { word }))
    }

    /// The rest: the named flags and, with `services`, `--with NAME` and whatever follows `--`.
    pub(crate) fn parse(self, flags: &[&str], services: bool) -> Result<Options> {
        self.parse_all(flags, &[], services)
    }

    /// The rest: the named flags, with and without values.
    pub(crate) fn parse_with_values(self, flags: &[&str], valued: &[&str]) -> Result<Options> {
        self.parse_all(flags, valued, false)
    }

    fn parse_all(mut self, flags: &[&str], valued: &[&str], services: bool) -> Result<Options> {
        let mut options = Options::default();
        while let Some(argument) = self.rest.next() {
            let argument = text(argument)?;
            if argument == "--help" || argument == "-h" {
                options.help = true;
            } else if flags.contains(&argument.as_str()) {
                options.flags.push(argument);
            } else if valued.contains(&argument.as_str()) {
                let value = self.rest.next().ok_or_else(|| UsageError(format!("{argument} needs a value")))?;
                options.values.push((argument, text(value)?));
            } else if let Some((flag, value)) = argument.split_once('=').filter(|(flag, _)| valued.contains(flag)) {
                options.values.push((flag.to_owned(), value.to_owned()));
            } else if services && argument == "--" {
                options.tail = self.rest.collect();
                break;
            } else if services && argument == "--with" {
                let names =
                    self.rest.next().ok_or_else(|| UsageError("--with needs the name of a service".to_owned()))?;
                options.with.extend(text(names)?.split(',').map(str::to_owned));
            } else if let Some(names) = argument.strip_prefix("--with=").filter(|_| services) {
                options.with.extend(names.split(',').map(str::to_owned));
            } else {
                let hint = if services && !argument.starts_with('-') { "; a command comes after `--`" } else { "" };
                return Err(UsageError(format!("unexpected argument `{argument}`{hint}; see --help")).into());
            }
        }
        Ok(options)
    }
}

fn text(argument: OsString) -> Result<String> {
    argument.into_string().map_err(|word| UsageError(format!("{} is not UTF-8", word.display())).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Arguments::new(words.iter().map(OsString::from).collect()).parse(&["--keep"], true)
    }

    #[test]
    fn services_are_named_by_repetition_and_by_commas() {
        let options = parse(&["--with", "a,b", "--with=c", "--keep", "--", "run", "--with"]).unwrap();
        assert_eq!(options.with, ["a", "b", "c"]);
        assert_eq!(options.tail, ["run", "--with"]);
        assert!(options.has("--keep"));
    }

    #[test]
    fn values_follow_their_flag_or_an_equals_sign() {
        let words = ["--runs", "5", "--gib=4", "--gib", "x"].iter().map(OsString::from).collect();
        let options = Arguments::new(words).parse_with_values(&[], &["--runs", "--gib"]).unwrap();
        assert_eq!(options.number("--runs", 3).unwrap(), 5);
        assert_eq!(options.number("--other", 3).unwrap(), 3);
        assert!(options.number::<u32>("--gib", 1).unwrap_err().is::<UsageError>());
    }

    #[test]
    fn stray_word_is_a_usage_error() {
        assert!(parse(&["run"]).unwrap_err().is::<UsageError>());
        assert!(parse(&["--with"]).unwrap_err().is::<UsageError>());
    }
}
