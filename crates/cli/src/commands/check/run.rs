//! What a check has found, and how it is told: of one job everything, of several what differs.

use std::collections::BTreeMap;

use lifeboat_core::words::Noun;
use lifeboat_core::{Check, Status};
use serde_json::{Value, json};

use crate::commands::tally::Tally;
use crate::exit::Exit;
use crate::output::report::checks;
use crate::output::{GREEN, RED, YELLOW};
use crate::session::Session;

const CHECKS: Noun = Noun::new("check", "checks");
const FOLDERS: Noun = Noun::new("folder", "folders");

/// A run of `check`.
pub(super) struct Run<'a> {
    session: &'a Session,
    tally: Tally,
    /// Whether each sink and each job has one line, and more only for what did not pass.
    short: bool,
    /// Of the sinks of several jobs: what was found in each folder.
    sinks: BTreeMap<String, Vec<(String, Vec<Check>)>>,
    jobs: Vec<(String, Vec<Check>)>,
    failed: Vec<String>,
    warned: bool,
    results: Vec<Value>,
}

impl<'a> Run<'a> {
    /// A check of so many jobs.
    pub(super) fn new(session: &'a Session, jobs: usize) -> Self {
        let tally = Tally::of(jobs);
        let short = tally.is_short(&session.output);
        let (sinks, jobs) = (BTreeMap::new(), Vec::new());
        Self { session, tally, short, sinks, jobs, failed: Vec::new(), warned: false, results: Vec::new() }
    }

    pub(super) fn config(&mut self, found: Vec<Check>) {
        self.note("config", &found);
        if !self.short {
            self.tell("config", &found);
        }
    }

    /// What was found in a folder of a sink. In short, it is told with the sink's other folders.
    pub(super) fn sink(&mut self, name: &str, folder: &str, found: Vec<Check>) {
        let place = if folder.is_empty() { String::new() } else { format!(", folder {folder}") };
        let subject = format!("sink {name}{place}");
        self.note(&subject, &found);
        if self.short {
            self.sinks.entry(name.to_owned()).or_default().push((folder.to_owned(), found));
        } else {
            self.tell(&subject, &found);
        }
    }

    pub(super) fn job(&mut self, name: &str, found: Vec<Check>) {
        let subject = format!("job {name}");
        if let Some(why) = self.note(&subject, &found) {
            self.tally.failed(name, &why);
        }
        if self.short {
            self.jobs.push((subject, found));
        } else {
            self.tell(&subject, &found);
        }
    }

    pub(super) fn copy(&mut self, name: &str, found: Vec<Check>) {
        let subject = format!("copy {name}");
        self.note(&subject, &found);
        if self.short {
            self.jobs.push((subject, found));
        } else {
            self.tell(&subject, &found);
        }
    }

    /// Counts what was found, and keeps it for the result. Returns the names of the checks that failed, if any did.
    fn note(&mut self, subject: &str, found: &[Check]) -> Option<String> {
        let worst = worst(found);
        self.warned |= matches!(worst, Status::Warn | Status::Untested);
        let failed: Vec<&Check> = found.iter().filter(|check| check.status == Status::Fail).collect();
        for check in &failed {
            let text = format!("{subject}: {} {}: {}", check.name, check.figure, check.detail);
            self.session.output.failure(&text);
        }
        self.results.push(json!({ "subject": subject, "passed": worst != Status::Fail, "checks": found }));
        let names: Vec<&str> = failed.iter().map(|check| &*check.name).collect();
        let why = (!names.is_empty()).then(|| names.join(", "))?;
        self.failed.push(subject.to_owned());
        Some(why)
    }

    fn tell(&self, subject: &str, found: &[Check]) {
        self.session.output.line(subject);
        self.session.output.table(checks(&self.session.output, found).without_head(), 2);
    }

    /// One line, and below it what did not pass.
    fn tell_in_short(&self, subject: &str, found: &[Check]) {
        let output = &self.session.output;
        let remarkable: Vec<&Check> = found.iter().filter(|check| check.status != Status::Pass).collect();
        let passed = found.len() - remarkable.len();
        let figure = match remarkable.len() {
            0 => CHECKS.count(passed as u64),
            _ => format!("{passed} of {} passed", CHECKS.count(found.len() as u64)),
        };
        let status = worst(found);
        let color = match status {
            Status::Pass => GREEN,
            Status::Warn | Status::Untested => YELLOW,
            _ => RED,
        };
        output.line(format!("{} {subject}: {figure}", output.paint(&status.to_string(), color)));
        output.table(checks(output, remarkable).without_head(), 2);
    }

    /// A sink in one line for all the folders in which the same was found, and one for each other.
    fn tell_sink(&self, name: &str, folders: &[(String, Vec<Check>)]) {
        let outcome = |found: &[Check]| -> Vec<(String, Status)> {
            found.iter().map(|check| (check.name.clone(), check.status)).collect()
        };
        let mut groups: Vec<Vec<&(String, Vec<Check>)>> = Vec::new();
        for folder in folders {
            // A failure names its place: it stands for itself.
            let alike = |group: &&mut Vec<&(String, Vec<Check>)>| {
                worst(&folder.1) != Status::Fail && outcome(&group[0].1) == outcome(&folder.1)
            };
            match groups.iter_mut().find(alike) {
                Some(group) => group.push(folder),
                None => groups.push(vec![folder]),
            }
        }
        for group in groups {
            let (folder, found) = group[0];
            let place = match group.len() {
                1 if folder.is_empty() => String::new(),
                1 => format!(", folder {folder}"),
                n => format!(", {}", FOLDERS.count(n as u64)),
            };
            self.tell_in_short(&format!("sink {name}{place}"), found);
        }
    }

    pub(super) fn end(self) -> Exit {
        for (name, folders) in &self.sinks {
            self.tell_sink(name, folders);
        }
        for (subject, found) in &self.jobs {
            self.tell_in_short(subject, found);
        }
        let output = &self.session.output;
        output.result(&self.results);
        if self.short {
            self.tally.end(output, "ready");
        }
        if !self.failed.is_empty() {
            output.line(format!("{} fix the checks marked FAIL", output.paint("FAIL", RED)));
            return Exit::Failed;
        }
        if !self.short || self.warned {
            let rest = if self.warned { "ready; look at the checks marked WARN" } else { "ready" };
            output.line(format!("{} {rest}", output.paint("PASS", GREEN)));
        }
        Exit::Good
    }
}

fn worst(found: &[Check]) -> Status {
    found.iter().map(|check| check.status).max().unwrap_or(Status::Pass)
}
