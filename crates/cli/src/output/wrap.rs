//! Lines that fit: how wide they may be, and where longer ones are broken.
//!
//! A terminal is as wide as it is; elsewhere `COLUMNS` says how wide lines may be. Without both, messages are not broken: whoever
//! searches a log finds each in one line. Tables fit into [`COLUMNS`] then.

use std::io;
use std::os::fd::AsFd;

use clap::Command;
use unicode_width::UnicodeWidthStr;

/// What everything fits into.
pub(crate) const COLUMNS: usize = 80;
/// What a narrower terminal breaks by itself.
const LEAST: usize = 40;

/// How wide the lines of a stream may be.
pub(crate) fn columns(stream: &(impl AsFd + io::IsTerminal)) -> Option<usize> {
    let terminal = if stream.is_terminal() { terminal_size::terminal_size_of(stream) } else { None };
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let columns = terminal.map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0).or_else(told);
    columns.map(|columns| columns.max(LEAST))
}

/// Width on the terminal; colour escapes take none.
pub(super) fn width(text: &str) -> usize {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain += before;
        rest = after.split_once('m').map_or("", |(_, tail)| tail);
    }
    plain += rest;
    plain.width()
}

/// A text whose lines are at most `columns` wide: broken between words, and indented by two more where a line goes on. A longer
/// word has a line of its own.
pub(super) fn text(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return text.to_owned() };
    let each = |line: &str| {
        let indent = line.len() - line.trim_start_matches(' ').len();
        lines(line, columns, indent + 2).join("\n")
    };
    text.split('\n').map(each).collect::<Vec<_>>().join("\n")
}

/// One line as several of at most `columns`; those after the first are indented.
pub(super) fn lines(line: &str, columns: usize, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut current, mut used, mut has_words) = (String::new(), 0, false);
    for word in line.split_inclusive(' ') {
        let seen = width(word.trim_end_matches(' '));
        if has_words && seen > 0 && used + seen > columns {
            lines.push(current.trim_end().to_owned());
            (current, used) = (" ".repeat(indent), indent);
        }
        current += word;
        used += width(word);
        has_words |= seen > 0;
    }
    lines.push(current.trim_end().to_owned());
    lines
}

/// A program whose help fits, examples included.
pub(crate) fn help(program: Command) -> Command {
    let program = match columns(&io::stdout()) {
        Some(_) => program,
        None => program.term_width(COLUMNS),
    };
    examples(program)
}

fn examples(command: Command) -> Command {
    let after = command.get_after_help().map(|text| example(&text.to_string()));
    let command = match after {
        Some(after) => command.after_help(after),
        None => command,
    };
    command.mut_subcommands(examples)
}

/// A line of shell that goes on after a pipe: it can be copied as it stands.
pub(crate) fn pipeline(line: &str, columns: Option<usize>) -> String {
    match columns {
        Some(columns) if width(line) > columns => {
            let steps = line.replace(" | ", " |\n");
            let steps = steps.split('\n').map(|step| match width(step) + 4 > columns && !step.contains('\'') {
                true => step.replacen(' ', " \\\n      ", 1),
                false => step.to_owned(),
            });
            steps.collect::<Vec<_>>().join("\n    ")
        }
        _ => line.to_owned(),
    }
}

/// The lines of an example that are too wide, as one who types them would break them.
fn example(text: &str) -> String {
    let each = |line: &str| match line.strip_prefix("  ") {
        Some(command) if width(line) > COLUMNS && command.contains(" --") => broken(command),
        _ => line.to_owned(),
    };
    text.split('\n').map(each).collect::<Vec<_>>().join("\n")
}

fn broken(command: &str) -> String {
    let mut lines = vec![String::from(" ")];
    let mut words = command.split(' ').peekable();
    while let Some(word) = words.next() {
        // A flag stays with its value.
        let mut part = word.to_owned();
        if word.starts_with("--")
            && let Some(value) = words.next_if(|next| !next.starts_with("--"))
        {
            part = format!("{part} {value}");
        }
        let last = lines.last_mut().expect("there is one from the beginning");
        if width(last) + width(&part) + 3 > COLUMNS {
            *last += " \\";
            lines.push(format!("      {part}"));
        } else {
            *last += " ";
            *last += &part;
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::seen;
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_by_what_is_seen() {
        assert_eq!(text("  hint: one two three", Some(12)), "  hint: one\n    two\n    three");
        assert_eq!(text("short", Some(12)), "short");
        assert_eq!(text("no end of words", None), "no end of words");
        assert_eq!(text("a\nb c", Some(3)), "a\nb c");
        let painted = format!("{}error{}: it is so", seen::mark(31), seen::mark(0));
        assert_eq!(text(&painted, Some(12)).lines().count(), 2);
    }

    #[test]
    fn a_longer_word_stands_alone() {
        let url = "https://example.org/very/long";
        assert_eq!(text(&format!("see {url} there"), Some(16)), format!("see\n  {url}\n  there"));
        assert_eq!(text(&format!("  {url}"), Some(16)), format!("  {url}"));
    }

    #[test]
    fn what_is_broken_can_be_copied() {
        assert_eq!(pipeline("cat x | age -d | gzip -d", Some(20)), "cat x |\n    age -d |\n    gzip -d");
        assert_eq!(pipeline("cat x | age -d", None), "cat x | age -d");
        let long = format!("Examples:\n  lifeboat-x backup --dataset shop --sink {0} --other {0}", "x".repeat(30));
        let lines = format!("  lifeboat-x backup --dataset shop --sink {0} \\\n      --other {0}", "x".repeat(30));
        assert_eq!(example(&long), format!("Examples:\n{lines}"));
        assert_eq!(example("  lifeboat-x backup --dataset shop"), "  lifeboat-x backup --dataset shop");
    }
}
