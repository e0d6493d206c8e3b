//! Progress of a run: bars on a terminal, log lines otherwise.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use lifeboat_config::hint;
use lifeboat_core::progress::{Event, Progress, Total, Unit};
use lifeboat_core::report::{human_bytes, human_duration};
use lifeboat_core::words::visible_line;

use crate::output::Output;

/// The least time between two log lines, and the most: a long run is told of more seldom, by a tenth of the time it has taken.
const LOG_EVERY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// How long a step runs before it is said how long it will take.
const SETTLED: Duration = Duration::from_secs(3);

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
    total: Option<Total>,
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

    fn bar(&self, step: &str, unit: Unit, total: Option<Total>) -> Option<ProgressBar> {
        let bars = self.output.bars()?;
        let bar = ProgressBar::no_length().with_style(style(unit, total)).with_message(step.to_owned());
        if let Some(total) = total {
            bar.set_length(total.figure());
        }
        let bar = bars.add(bar);
        bar.enable_steady_tick(Duration::from_millis(200));
        Some(bar)
    }
}

fn style(unit: Unit, total: Option<Total>) -> ProgressStyle {
    let template = match (unit, total) {
        (Unit::Bytes, Some(_)) => "{spinner} {msg} [{bar:12}] {figure}",
        (Unit::Bytes, None) => "{spinner} {msg} {binary_bytes} {binary_bytes_per_sec} {elapsed}",
        (_, Some(_)) => "{spinner} {msg} [{bar:24}] {pos}/{len} {elapsed}",
        (_, None) => "{spinner} {msg} {pos} {elapsed}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let Some(total) = total else { return style };
    style.with_key("figure", move |state: &ProgressState, out: &mut dyn fmt::Write| {
        // Where nobody can be told of it, there is nobody to tell.
        let _ = out.write_str(&bar_figure(state.pos(), total, state.elapsed()));
    })
}

/// What stands beside a bar, the most telling first: a narrow terminal cuts it.
fn bar_figure(done: u64, total: Total, elapsed: Duration) -> String {
    let share = total.percent(done).map(|share| format!("{share} %, ")).unwrap_or_default();
    let time = left(done, total, elapsed).unwrap_or_else(|| human_duration(elapsed));
    format!("{share}{time} ({}, {}/s)", amount(done, total), human_bytes(rate(done, elapsed)))
}

/// `12.3 of about 40.0 GiB`.
fn amount(done: u64, total: Total) -> String {
    let about = if matches!(total, Total::Exact(_)) { "" } else { "about " };
    let (done, total) = (human_bytes(done), human_bytes(total.figure()));
    let done = match (done.split_once(' '), total.split_once(' ')) {
        (Some((figure, unit)), Some((_, of_total))) if unit == of_total => figure,
        _ => &done,
    };
    format!("{done} of {about}{total}")
}

/// Bytes a second since the step began.
fn rate(done: u64, elapsed: Duration) -> u64 {
    (done as f64 / elapsed.as_secs_f64().max(0.001)) as u64
}

/// About how long a step still takes, at the rate it has had so far. `None` where that cannot be told: it has hardly begun, or
/// more has come than was estimated.
fn left(done: u64, total: Total, elapsed: Duration) -> Option<String> {
    let to_do = total.figure().checked_sub(done).filter(|to_do| *to_do > 0)?;
    if done == 0 || elapsed < SETTLED {
        return None;
    }
    let seconds = (elapsed.as_secs_f64() * to_do as f64 / done as f64) as u64;
    Some(match seconds {
        0..10 => "a few seconds left".to_owned(),
        10..95 => format!("about {} s left", (seconds + 5) / 10 * 10),
        95..5400 => format!("about {} min left", (seconds + 30) / 60),
        5400..172_800 => match ((seconds + 300) / 3600, (seconds + 300) / 600 % 6) {
            (hours, 0) => format!("about {hours} h left"),
            (hours, tens) => format!("about {hours} h {tens}0 min left"),
        },
        _ => format!("about {} days left", (seconds + 43_200) / 86_400),
    })
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
                let since = steps.logged.elapsed();
                let Some(step) = steps.open.last_mut() else { return };
                step.done += n;
                if let Some(bar) = &step.bar {
                    bar.inc(n);
                    // The bar of an estimate is not full before the end either.
                    let most = step.done.saturating_mul(100) / 99;
                    if let Some(Total::About(figure)) = step.total
                        && most > figure
                    {
                        bar.set_length(most);
                    }
                } else if since >= log_every(step.begun.elapsed()) {
                    let line = step.line();
                    steps.logged = Instant::now();
                    drop(steps);
                    if !self.output.is_quiet() {
                        tracing::info!("{line}");
                    }
                }
            }
            Event::Total(total) => {
                if let Some(step) = self.lock().open.last_mut() {
                    step.total = Some(total);
                    if let Some(bar) = &step.bar {
                        bar.set_length(total.figure());
                        bar.set_style(style(step.unit, step.total));
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

/// The time between two log lines of a step that has run for so long.
fn log_every(elapsed: Duration) -> Duration {
    (elapsed / 10).clamp(LOG_EVERY.0, LOG_EVERY.1)
}

impl Step {
    fn line(&self) -> String {
        self.line_after(self.begun.elapsed())
    }

    fn line_after(&self, elapsed: Duration) -> String {
        let figure = match (self.unit, self.total) {
            (Unit::Bytes, total) => {
                let amount = total.map_or_else(|| human_bytes(self.done), |total| amount(self.done, total));
                let share = total.and_then(|total| total.percent(self.done));
                let share = share.map(|share| format!(" ({share} %)")).unwrap_or_default();
                format!("{amount}{share}, {}/s", human_bytes(rate(self.done, elapsed)))
            }
            (_, Some(total)) => format!("{} of {}", self.done, total.figure()),
            (_, None) => self.done.to_string(),
        };
        let items = match self.items {
            None | Some((0, _)) => String::new(),
            Some((done, what)) => format!(", {done} {what} done"),
        };
        let left = self.total.filter(|_| self.unit == Unit::Bytes).and_then(|total| left(self.done, total, elapsed));
        let left = left.map(|left| format!(", {left}")).unwrap_or_default();
        format!("{}: {figure}{items}, {}{left}", self.name, human_duration(elapsed))
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
        assert_eq!(step(Unit::Items, Some(Total::Exact(4096)), None).line(), "back up shop: 2048 of 4096, 20s");
        for (total, after, line) in [
            (Total::Exact(8192), 20, "2.0 of 8.0 KiB (25 %), 102 B/s, 20s, about 60 s left"),
            (Total::About(8192), 20, "2.0 of about 8.0 KiB (25 %), 102 B/s, 20s, about 60 s left"),
            (Total::About(8 << 20), 3600, "2.0 KiB of about 8.0 MiB (0 %), 0 B/s, 1h 0m, about 171 days left"),
            // It has hardly begun.
            (Total::About(8192), 1, "2.0 of about 8.0 KiB (25 %), 2.0 KiB/s, 1.0s"),
            // An estimate that was too low is never all that there is; what a manifest says is.
            (Total::About(2048), 20, "2.0 of about 2.0 KiB (99 %), 102 B/s, 20s"),
            (Total::About(1025), 20, "2.0 of about 1.0 KiB (99 %), 102 B/s, 20s"),
            (Total::Exact(2048), 20, "2.0 of 2.0 KiB (100 %), 102 B/s, 20s"),
            (Total::About(0), 20, "2.0 KiB of about 0 B, 102 B/s, 20s"),
        ] {
            let told = step(Unit::Bytes, Some(total), None).line_after(Duration::from_secs(after));
            assert_eq!(told, format!("back up shop: {line}"));
        }
    }

    #[test]
    fn the_time_that_is_left_is_told_in_round_figures() {
        let in_all = |seconds: u64| left(1000, Total::Exact(1000 + seconds), Duration::from_secs(1000));
        for (seconds, text) in [
            (9, "a few seconds left"),
            (14, "about 10 s left"),
            (94, "about 90 s left"),
            (95, "about 2 min left"),
            (240, "about 4 min left"),
            (5399, "about 90 min left"),
            (5400, "about 1 h 30 min left"),
            (7000, "about 2 h left"),
            (90_000, "about 25 h left"),
            (172_800, "about 2 days left"),
        ] {
            assert_eq!(in_all(seconds).as_deref(), Some(text));
        }
        assert_eq!(
            bar_figure(1024, Total::About(4096), Duration::from_secs(60)),
            "25 %, about 3 min left (1.0 of about 4.0 KiB, 17 B/s)"
        );
    }

    #[test]
    fn a_long_run_is_told_of_more_seldom() {
        let times = |until: u64| {
            let (mut at, mut lines) = (Duration::ZERO, 0);
            while at < Duration::from_secs(until) {
                at += log_every(at);
                lines += 1;
            }
            lines
        };
        assert_eq!(times(100), 10);
        assert!((40..70).contains(&times(4 * 3600)), "{} lines in four hours", times(4 * 3600));
    }

    #[test]
    fn a_total_that_becomes_known_later_is_of_the_current_step() {
        let reporter = Reporter::new(Arc::new(Output::new(false, true, true)));
        let step = lifeboat_core::progress::Step::BackUp("shop".to_owned());
        reporter.event(Event::Begin { step, unit: Unit::Bytes, total: None });
        reporter.event(Event::Advance(1024));
        reporter.event(Event::Total(Total::About(4096)));
        let line = reporter.lock().open.last().unwrap().line_after(Duration::from_secs(60));
        assert_eq!(line, "back up shop: 1.0 of about 4.0 KiB (25 %), 17 B/s, 1m 0s, about 3 min left");
        // After its end, it is nobody's.
        reporter.event(Event::End);
        reporter.event(Event::Total(Total::About(4096)));
        assert!(reporter.lock().open.is_empty());
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
