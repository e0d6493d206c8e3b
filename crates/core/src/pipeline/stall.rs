//! Stalled streams: reported after a while, and eventually given up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, sleep_until};

use super::flow::Meter;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::progress::{Event, Progress};
use crate::stream::ByteStream;

/// How long a stall lasts before it is reported for the first time.
const TOLD_AFTER: Duration = Duration::from_secs(60);

/// How long a stall lasts before a run is given up, by default.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(2 * 3600);

/// Watches for progress.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) limit: Duration,
    pub(super) progress: Arc<dyn Progress>,
}

/// What has stalled.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// The operation, for the error.
    pub(super) operation: &'static str,
    /// The dataset or sink.
    pub(super) name: String,
    /// What is missing, as in `no byte has come from the source of shop`.
    pub(super) missing: String,
}

impl Subject {
    pub(super) fn source(system: &str, dataset: &str) -> Self {
        let missing = format!("no byte has come from {system} for {dataset}");
        Self { operation: "read", name: dataset.to_owned(), missing }
    }

    pub(super) fn sink(url: String) -> Self {
        Self { operation: "write to", missing: format!("{url} has taken no byte"), name: url }
    }
}

impl Watch {
    /// Waits for `work`. If it takes long, this is reported repeatedly, at doubling intervals.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if it takes longer than the limit; only `work` is lost.
    async fn wait<T>(&self, subject: &Subject, work: impl Future<Output = T>) -> Result<T> {
        let stall = self.stall(subject, || true);
        tokio::select! {
            biased;
            done = work => Ok(done),
            error = stall => Err(error),
        }
    }

    /// Passes a stream on, and ends it with an error if nothing arrives for longer than the limit. Only the time counts
    /// during which the reader waits for the next chunk.
    pub(super) fn reading(&self, input: ByteStream, subject: Subject) -> ByteStream {
        let watch = self.clone();
        futures::stream::unfold(Some(input), move |input| {
            let (watch, subject) = (watch.clone(), subject.clone());
            async move {
                let mut input = input?;
                match watch.wait(&subject, input.next()).await {
                    Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(input))),
                    Ok(Some(Err(error))) | Err(error) => Some((Err(error), None)),
                    Ok(None) => None,
                }
            }
        })
        .boxed()
    }

    /// Waits for a sink that consumes this body. The time counts during which it neither asks for more nor confirms.
    pub(super) async fn writing<T>(
        &self,
        subject: &Subject,
        meter: &Meter,
        asked: &Asked,
        put: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut seen = meter.bytes();
        let stall = self.stall(subject, move || {
            let now = meter.bytes();
            let stands = now == seen && !asked.0.load(Ordering::Relaxed);
            seen = now;
            stands
        });
        tokio::select! {
            biased;
            done = put => done,
            error = stall => Err(error),
        }
    }

    /// Returns when `stands` has been true for as long as the limit.
    async fn stall(&self, subject: &Subject, mut stands: impl FnMut() -> bool) -> Error {
        let mut since = Instant::now();
        let mut told = TOLD_AFTER;
        loop {
            let limit = since + self.limit;
            // Sampled often, so that a short stall is not mistaken for a long one.
            let look = (Instant::now() + TOLD_AFTER / 4).min(limit);
            sleep_until(look).await;
            if !stands() {
                (since, told) = (Instant::now(), TOLD_AFTER);
                continue;
            }
            if look >= limit {
                let why = format!("{} for {}: it was given up", subject.missing, human(self.limit));
                return Error::new(ErrorKind::Unavailable, subject.operation, &subject.name, why)
                    .hint(Hint::RaiseStallLimit);
            }
            if since.elapsed() >= told {
                let stood = human(told);
                tracing::debug!(subject = subject.name, seconds = told.as_secs(), "nothing moves");
                self.progress.event(Event::Note(format!("{} for {stood}", subject.missing)));
                told *= 2;
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Formats a limit, which is usually round: `2h`, not `2h 0m`.
fn human(time: Duration) -> String {
    let text = crate::report::human_duration(time);
    let round = text.strip_suffix(" 0s").or_else(|| text.strip_suffix(" 0m"));
    round.map_or(text.clone(), str::to_owned)
}

/// Whether whoever takes a stream waits for its next chunk.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    pub(super) fn watch(&self, input: ByteStream) -> ByteStream {
        let asked = self.0.clone();
        futures::stream::unfold(Some(input), move |input| {
            let asked = asked.clone();
            async move {
                let mut input = input?;
                asked.store(true, Ordering::Relaxed);
                let next = input.next().await;
                asked.store(false, Ordering::Relaxed);
                next.map(|item| (item, Some(input)))
            }
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::progress::Tally;

    fn watch(limit: u64) -> (Watch, Arc<Tally>) {
        let tally = Arc::new(Tally::default());
        (Watch { limit: Duration::from_secs(limit), progress: tally.clone() }, tally)
    }

    fn slow(gaps: &'static [u64]) -> ByteStream {
        futures::stream::iter(gaps)
            .then(|gap| async move {
                tokio::time::sleep(Duration::from_secs(*gap)).await;
                Ok(Bytes::from_static(b"x"))
            })
            .boxed()
    }

    fn subject() -> Subject {
        Subject::source("shopdb", "shop")
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_stands_still_is_told_and_then_given_up() {
        let (watch, tally) = watch(600);
        let mut stream = watch.reading(slow(&[59, 59, 10_000]), subject());
        assert!(stream.next().await.unwrap().is_ok() && stream.next().await.unwrap().is_ok());
        assert_eq!(tally.notes(), [] as [&str; 0]);
        let begun = Instant::now();
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), 600);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("no byte has come from shopdb for shop for 10m"), "{error}");
        assert!(stream.next().await.is_none());
        let of = |time| format!("no byte has come from shopdb for shop for {time}");
        assert_eq!(tally.notes(), [of("1m"), of("2m"), of("4m"), of("8m")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_its_time_is_no_fault_of_the_source() {
        let (watch, tally) = watch(100);
        let mut stream = watch.reading(slow(&[1, 1]), subject());
        assert!(stream.next().await.unwrap().is_ok());
        tokio::time::sleep(Duration::from_secs(10_000)).await;
        assert!(stream.next().await.unwrap().is_ok());
        assert!(stream.next().await.is_none());
        assert_eq!(tally.notes(), [] as [&str; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_takes_nothing_is_told_and_given_up_and_one_that_waits_for_data_is_not() {
        let take = |gaps: &'static [u64], rest: u64| async move {
            let (watch, tally) = watch(600);
            let (meter, asked) = (Meter::default(), Asked::default());
            let mut body = asked.watch(meter.watch(slow(gaps)));
            let put = async move {
                while body.next().await.is_some() {}
                tokio::time::sleep(Duration::from_secs(rest)).await;
                Ok(())
            };
            let done = watch.writing(&Subject::sink("mem://".to_owned()), &meter, &asked, put).await;
            (done, tally.notes())
        };
        // The source is slow.
        let (done, notes) = take(&[5000, 5000], 50).await;
        assert!(done.is_ok() && notes.is_empty(), "{notes:?}");
        // The sink does not confirm.
        let (done, notes) = take(&[1], 10_000).await;
        assert_eq!(
            done.unwrap_err().to_string(),
            "cannot write to mem://: mem:// has taken no byte for 10m: it was given up"
        );
        assert_eq!(notes.len(), 4, "{notes:?}");
    }
}
