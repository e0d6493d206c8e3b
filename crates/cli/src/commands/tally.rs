//! How the jobs of a run ended, and the line that says so last.

use lifeboat_core::words::Noun;
use lifeboat_core::{Error, ErrorKind};

use crate::output::Output;

/// What is counted where nothing else is said.
const JOBS: Noun = Noun::new("job", "jobs");

/// The jobs of a run, and those that failed.
#[derive(Debug)]
pub(crate) struct Tally {
    all: usize,
    noun: Noun,
    failed: Vec<String>,
}

impl Tally {
    /// Of so many jobs.
    pub(crate) fn of(all: usize) -> Self {
        Self { all, noun: JOBS, failed: Vec::new() }
    }

    /// Counts something else.
    pub(crate) fn counting(self, noun: Noun) -> Self {
        Self { noun, ..self }
    }

    /// Whether each job has one line: there are several, and not everything was asked for.
    pub(crate) fn is_short(&self, output: &Output) -> bool {
        self.all > 1 && !output.is_verbose()
    }

    /// Notes a job that failed, and why in a word or two. It is told elsewhere.
    pub(crate) fn failed(&mut self, name: &str, why: &str) {
        self.failed.push(format!("{name} ({why})"));
    }

    /// Tells the error of a job. Of one of several it says which.
    pub(crate) fn error(&mut self, output: &Output, name: &str, error: &Error) {
        match self.all {
            ..=1 if !output.is_silent() => output.error(error),
            _ => output.error_of(name, error),
        }
        self.failed(name, &in_a_word(error.kind()));
    }

    /// The last line, where there are several: `9 of 10 jobs backed up; failed: codetalk (permission denied)`.
    pub(crate) fn end(&self, output: &Output, done: &str) {
        if self.all > 1 {
            let good = self.all.saturating_sub(self.failed.len());
            let but =
                if self.failed.is_empty() { String::new() } else { format!("; failed: {}", self.failed.join(", ")) };
            output.line(format!("{good} of {} {done}{but}", self.noun.count(self.all as u64)));
        }
    }
}

/// Why a job failed, where there is room for no more.
fn in_a_word(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::Permission => "permission denied".to_owned(),
        kind => kind.as_str().replace(['_', '-'], " "),
    }
}
