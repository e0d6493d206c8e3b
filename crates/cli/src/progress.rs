//! Progress of a run: bars on a terminal, log lines otherwise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lifeboat_config::hint;
use lifeboat_core::progress::{Event, Progress, Unit};
use lifeboat_core::report::{human_bytes, human_duration};
use lifeboat_core::words::visible_line;

use crate::output::Output;

/// The least time between two log lines.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Shows progress. Steps may be nested; advances count for the innermost one.
pub(crate) struct Reporter {
    output: Arc<Output>,
    steps: Mutex<Steps>,
}

struct Steps {
    open: Vec<Step>,
    logged: Instant,
}

struct Step {
    name: String,
    unit: Unit,
    total: Option<u64>,
    done: u64,
    /// How many of what has passed.
    items: Option<(u64, &'static str)>,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Reporter {
    pub(crate) fn new(output: Arc<Output>) -> Self {
        Self { output, steps: Mutex::new(Steps { open: Vec::new(), logged: Instant::now() }) }
    }

    /// Closes the steps that a failed job left open.
    pub(crate) fn reset(&self) {
        let mut steps = self.lock();
        steps.open.clear();
        steps.logged = Instant::now();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bar(&self, step: &str, unit: Unit, total: Option<u64>) -> Option<ProgressBar> {
        let bars = self.output.bars()?;
        let template = match (unit, total) {
            (Unit::Bytes, Some(_)) => {
                "{spinner} {msg} [{bar:24}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {elapsed}"
            }
            (Unit::Bytes, None) => "{spinner} {msg} {binary_bytes} {binary_bytes_per_sec} {elapsed}",
            (_, Some(_)) => "{spinner} {msg} [{bar:24}] {pos}/{len} {elapsed}",
            (_, None) => "{spinner} {msg} {pos} {elapsed}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let bar = bars.add(bar.with_style(style).with_message(step.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Some(bar)
    }
}

impl Progress for Reporter {
    fn event(&self, event: Event) {
        match event {
            Event::Begin { step, unit, total } => {
                // It may hold names of a server, and a bar is written past everything else.
                let step = visible_line(&step.to_string()).into_owned();
                let bar = self.bar(&step, unit, total);
                self.lock().open.push(Step {
                    name: step,
                    unit,
                    total,
                    done: 0,
                    items: None,
                    begun: Instant::now(),
                    bar,
                });
            }
            Event::Advance(n) => {
                let mut steps = self.lock();
                let due = steps.logged.elapsed() >= LOG_EVERY;
                let Some(step) = steps.open.last_mut() else { return };
                step.done += n;
                if let Some(bar) = &step.bar {
                    bar.inc(n);
                } else if due {
                    let line = step.line();
                    steps.logged = Instant::now();
                    drop(steps);
                    if !self.output.is_quiet() {
                        tracing::info!("{line}");
                    }
                }
            }
            Event::Items { done, what } => {
                if let Some(step) = self.lock().open.last_mut() {
                    step.items = Some((done, what));
                    if let Some(bar) = &step.bar {
                        bar.set_message(format!("{} ({done} {what} done)", step.name));
                    }
                }
            }
            Event::End => drop(self.lock().open.pop()),
            Event::Warning { text, hint } => {
                self.output.warn(&text);
                self.output.write_err(&format!("  hint: {}", hint::render(&hint)));
            }
            Event::Note(note) => self.output.note(&note),
            _ => {}
        }
    }
}

impl Step {
    fn line(&self) -> String {
        let elapsed = self.begun.elapsed();
        let figure = match (self.unit, self.total) {
            (Unit::Bytes, total) => {
                let rate = (self.done as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
                let of = total.map(|t| format!(" of {}", human_bytes(t))).unwrap_or_default();
                format!("{}{of}, {}/s", human_bytes(self.done), human_bytes(rate))
            }
            (_, Some(total)) => format!("{} of {total}", self.done),
            (_, None) => self.done.to_string(),
        };
        let items = match self.items {
            None | Some((0, _)) => String::new(),
            Some((done, what)) => format!(", {done} {what} done"),
        };
        format!("{}: {figure}{items}, {}", self.name, human_duration(elapsed))
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_has_figure_rate_and_time() {
        let step = |unit, total, items| Step {
            name: "back up shop".to_owned(),
            unit,
            total,
            done: 2048,
            items,
            begun: Instant::now().checked_sub(Duration::from_secs(20)).unwrap(),
            bar: None,
        };
        assert_eq!(step(Unit::Bytes, None, None).line(), "back up shop: 2.0 KiB, 102 B/s, 20s");
        let zones = Some((3, "zones"));
        assert_eq!(step(Unit::Bytes, None, zones).line(), "back up shop: 2.0 KiB, 102 B/s, 3 zones done, 20s");
        assert_eq!(step(Unit::Items, Some(4096), None).line(), "back up shop: 2048 of 4096, 20s");
    }

    #[test]
    fn steps_lie_within_each_other_and_a_reset_closes_them() {
        let reporter = Reporter::new(Arc::new(Output::new(false, true, true)));
        let begin = |step: &'static str| Event::Begin {
            step: lifeboat_core::progress::Step::Other(step.into()),
            unit: Unit::Items,
            total: None,
        };
        reporter.event(begin("outer"));
        reporter.event(begin("inner"));
        reporter.event(Event::Advance(3));
        reporter.event(Event::End);
        reporter.event(Event::Advance(1));
        assert_eq!(reporter.lock().open.last().unwrap().done, 1);
        reporter.reset();
        reporter.event(Event::Advance(1));
        reporter.event(Event::End);
        assert!(reporter.lock().open.is_empty());
    }
}
