//! The output of a system's own commands, on the terminal or as JSON.

use std::path::Path;

use lifeboat_config::{ByUrl, Config};
use lifeboat_core::cli::{Console, Jobs, Outcome, Part, Tone};
use lifeboat_core::system::Sinks;
use lifeboat_core::{Context, Error, Place, Result, Setting};
use serde_json::Value;

use crate::commands::{restore, verify};
use crate::exit::Exit;
use crate::output::report::checks;
use crate::output::table::Table;
use crate::output::{Color, GREEN, RED, YELLOW, error_value};
use crate::session::Session;
use crate::systems::Systems;

/// The terminal of a run.
pub(crate) struct Terminal<'a> {
    session: &'a Session,
    systems: &'a Systems,
}

impl<'a> Terminal<'a> {
    pub(crate) fn new(session: &'a Session, systems: &'a Systems) -> Self {
        Self { session, systems }
    }

    fn paint(&self, text: &str, tone: Tone) -> String {
        let color: Color = match tone {
            Tone::Good => GREEN,
            Tone::Caution => YELLOW,
            Tone::Bad => RED,
            _ => return text.to_owned(),
        };
        self.session.output.paint(text, color)
    }
}

impl Sinks for Terminal<'_> {
    fn place(&self, named: &Setting) -> Result<Place> {
        ByUrl.place(named)
    }
}

impl Console for Terminal<'_> {
    fn say(&self, part: Part) {
        let output = &self.session.output;
        match part {
            Part::Line(text) => output.line(text),
            Part::Toned(text, tone) => output.line(self.paint(&text, tone)),
            Part::Verdict(word, tone, text) => output.line(format!("{} {text}", self.paint(word, tone))),
            Part::Table(rows) => {
                let mut table = rows.right.iter().fold(Table::of(&rows.head), |table, column| table.right(*column));
                for row in rows.rows {
                    table.add(row.into_iter().map(|cell| self.paint(&cell.text, cell.tone)).collect());
                }
                output.table(table, 0);
            }
            Part::Checks(found) => output.table(checks(output, &found), 2),
            Part::Report(report) => verify::print(self.session, &report.dataset, &report, None, false),
            Part::Plan(plan) => restore::print_plan(self.session, &plan),
            Part::Warning(text) => output.warn(&text),
            Part::Failure(error) => output.error(&error),
            _ => {}
        }
    }

    fn result(&self, value: Value) {
        self.session.output.result(&value);
    }

    fn item(&self, value: Value) {
        self.session.output.item(&value);
    }

    fn end_of_items(&self) {
        self.session.output.end_of_items();
    }

    fn is_json(&self) -> bool {
        self.session.output.is_json()
    }

    fn context(&self) -> &Context {
        &self.session.context
    }

    fn failure(&self, error: &Error) -> Value {
        error_value(error)
    }

    fn jobs(&self, config: Option<&Path>) -> Result<Jobs> {
        let config = Config::load(config, self.systems.config())?;
        let jobs = config.jobs.into_iter().map(|job| (job.name, job.system)).collect();
        Ok(Jobs::new(config.path.display().to_string(), jobs))
    }
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Good => Self::Good,
            _ => Self::Failed,
        }
    }
}
