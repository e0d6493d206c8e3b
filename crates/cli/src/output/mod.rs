//! Everything that is printed goes through here: results to standard output, the rest to standard error.

use std::collections::HashSet;
use std::error::Error as _;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};
use lifeboat_config::hint;
use lifeboat_core::words::visible_line;
use lifeboat_core::{Error, Status};
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) mod report;
mod seen;
pub(crate) mod table;

/// How results, notes and errors are written in this run.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    color_out: bool,
    color_err: bool,
    bars: Option<MultiProgress>,
    /// Whether everything is shown, and not only what is new or wrong.
    verbose: bool,
    /// Only what failed is told, each in one line.
    silent: AtomicBool,
    printed: Mutex<Printed>,
}

/// Bytes of items that are written together.
const ITEMS_TOGETHER: usize = 64 << 10;

#[derive(Default)]
struct Printed {
    /// Whether the one JSON value of this run has been written.
    result: bool,
    notes: HashSet<String>,
    /// Buffered items of a result that is written as it comes.
    items: Option<Vec<u8>>,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool, no_color: bool) -> Self {
        let no_color = no_color || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let terminal = io::stderr().is_terminal() && !dumb;
        Self {
            json,
            quiet,
            color_out: !no_color && !dumb && io::stdout().is_terminal(),
            color_err: !no_color && terminal,
            bars: (terminal && !quiet).then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            verbose: false,
            silent: AtomicBool::new(false),
            printed: Mutex::default(),
        }
    }

    /// With all that there is to show.
    pub(crate) fn verbose(self, verbose: bool) -> Self {
        Self { verbose, ..self }
    }

    /// Whether everything is to be shown.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// From now on a quiet run says only what failed, each in one line: for commands that are run for what they do. Results
    /// that were asked for (`list`, `show`, a restore) are told all the same.
    pub(crate) fn only_failures(&self) {
        self.silent.store(self.quiet, Ordering::Relaxed);
    }

    /// Whether nothing is said but what failed.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// One line about something that failed and is no error of its own: only in a run that says nothing else.
    pub(crate) fn failure(&self, text: &str) {
        if self.is_silent() && !self.json {
            self.write_err(&format!("{}: {}", self.paint_err("error", RED), visible_line(text)));
        }
    }

    /// The progress bars, when standard error is a terminal.
    pub(crate) fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_ref()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A line of a human result. Nothing with `--json`.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        if !self.json && !self.is_silent() {
            self.write_out(text.as_ref());
        }
    }

    /// A line of a human result that goes to standard error, because standard output holds something else.
    pub(crate) fn aside(&self, text: &str) {
        if !self.quiet {
            self.write_err(text);
        }
    }

    /// The result of a command as JSON. Nothing without `--json`; nothing the second time.
    pub(crate) fn result(&self, value: &impl Serialize) {
        if !self.json || std::mem::replace(&mut self.lock().result, true) {
            return;
        }
        let text = serde_json::to_string_pretty(value)
            .unwrap_or_else(|e| json!({ "error": { "kind": "internal", "message": e.to_string() } }).to_string());
        self.write_out(&text);
    }

    /// One item of a result that is an array, written as its items come: memory does not grow with their number. Nothing
    /// without `--json`. Call [`end_of_items`](Self::end_of_items) afterwards.
    pub(crate) fn item(&self, value: &impl Serialize) {
        if !self.json {
            return;
        }
        let mut text = {
            let mut printed = self.lock();
            let begun = std::mem::replace(&mut printed.result, true);
            let mut text = printed.items.take().unwrap_or_default();
            text.extend_from_slice(if begun { b",\n  " } else { b"[\n  " });
            text
        };
        let written = serde_json::to_writer_pretty(Indented { output: self, text: &mut text }, value);
        written.expect("nothing here fails to become JSON, and the writer never fails");
        self.lock().items = Some(text);
    }

    /// Ends the array of [`item`](Self::item)s, of which there may be none.
    pub(crate) fn end_of_items(&self) {
        if !self.json {
            return;
        }
        let items = {
            let mut printed = self.lock();
            printed.result = true;
            printed.items.take()
        };
        match items {
            Some(mut items) => {
                items.extend_from_slice(b"\n]\n");
                self.write_json(&items);
            }
            None => self.write_part("[]\n"),
        }
    }

    /// Something the user should know that is not an error. The same text is printed only once.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && self.lock().notes.insert(text.to_owned()) {
            self.write_err(&format!("{}: {}", self.paint_err("note", CYAN), visible_line(text)));
        }
    }

    /// Something that is probably wrong.
    pub(crate) fn warn(&self, text: &str) {
        self.write_err(&format!("{}: {}", self.paint_err("warning", YELLOW), visible_line(text)));
    }

    /// An error: what failed, the chain below it, and what to try. With `--json`, one line of JSON.
    pub(crate) fn error(&self, error: &Error) {
        if self.json {
            self.write_err(&seen::json(&json!({ "error": error_value(error) }).to_string()));
        } else if self.is_silent() {
            self.failure(&error.to_string());
        } else {
            self.write_err(&format!("{}: {error}", self.paint_err("error", RED)));
            for cause in chain(error) {
                self.write_err(&format!("  caused by: {cause}"));
            }
            if let Some(hint) = hint::advice(error) {
                self.write_err(&format!("  hint: {hint}"));
            }
        }
    }

    /// The error of one of several things that are done. In one line it would not say which.
    pub(crate) fn error_of(&self, what: &str, error: &Error) {
        if self.is_silent() && !self.json {
            self.failure(&format!("{what}: {error}"));
        } else {
            self.error(error);
        }
    }

    /// The error that ended the command. With `--json` it is the result too, when there was none.
    pub(crate) fn fatal(&self, error: &Error) {
        self.result(&json!({ "error": error_value(error) }));
        self.error(error);
    }

    /// The name of a status, coloured on a terminal.
    pub(crate) fn status(&self, status: Status) -> String {
        let color = match status {
            Status::Pass => GREEN,
            Status::Warn | Status::Untested => YELLOW,
            _ => RED,
        };
        self.paint(&status.to_string(), color)
    }

    /// A word of a result, coloured on a terminal.
    pub(crate) fn paint(&self, text: &str, color: Color) -> String {
        paint(text, color, self.color_out)
    }

    fn paint_err(&self, text: &str, color: Color) -> String {
        paint(text, color, self.color_err)
    }

    /// A line to standard error, above the bars.
    pub(crate) fn write_err(&self, text: &str) {
        // Whoever closed standard error does not want it.
        let text = seen::text(text);
        let write = || drop(writeln!(io::stderr(), "{text}"));
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    fn write_out(&self, text: &str) {
        let text = if self.json { seen::json(text) } else { seen::text(text) };
        self.write_part(&format!("{text}\n"));
    }

    /// Writes JSON; every piece must be whole UTF-8.
    fn write_json(&self, text: &[u8]) {
        self.write_part(&seen::json(&String::from_utf8_lossy(text)));
    }

    fn write_part(&self, text: &str) {
        let write = || {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
        let written = match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        };
        if let Err(error) = written {
            // A reader that has seen enough (`lifeboat list | head`) is no failure.
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.write_err(&format!("error: cannot write the result: {error}"));
                std::process::exit(1);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Printed> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes an item of an array with the array's indent, and flushes the buffer when it is large.
struct Indented<'a> {
    output: &'a Output,
    text: &'a mut Vec<u8>,
}

impl Write for Indented<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A line's end in a text of JSON is escaped: every other one is layout.
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            self.text.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.text.extend_from_slice(b"  ");
            }
        }
        if self.text.len() > ITEMS_TOGETHER {
            self.output.write_json(self.text);
            self.text.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A colour of the terminal: the number of its ANSI escape.
pub(crate) type Color = u8;
pub(crate) const RED: Color = 31;
pub(crate) const GREEN: Color = 32;
pub(crate) const YELLOW: Color = 33;
const CYAN: Color = 36;

fn paint(text: &str, color: Color, enabled: bool) -> String {
    if enabled { format!("{}{text}{}", seen::mark(color), seen::mark(0)) } else { text.to_owned() }
}

/// The errors below this one, each in one line.
fn chain(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}

/// An error as JSON output has it.
pub(crate) fn error_value(error: &Error) -> Value {
    json!({
        "kind": error.kind().as_str(),
        "message": error.to_string(),
        "operation": error.operation(),
        "subject": error.subject(),
        "hint": hint::advice(error),
        "chain": chain(error),
    })
}

#[cfg(test)]
mod tests {
    use lifeboat_core::ErrorKind;

    use super::*;

    #[test]
    fn an_error_as_json_has_its_chain_and_hint() {
        let inner = Error::new(ErrorKind::Io, "open", "b", "inner");
        let error = Error::new(ErrorKind::Config, "read", "a", "outer").with_source(inner).hint("try");
        assert_eq!(
            error_value(&error),
            json!({
                "kind": "config", "message": "cannot read a: outer", "operation": "read", "subject": "a",
                "hint": "try", "chain": ["cannot open b: inner"],
            })
        );
    }
}
