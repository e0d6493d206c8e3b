//! [`Limiter`]: what several runs may take together, of threads, memory and bandwidth.
//!
//! Limits are of this process. Each is unset at first, and costs nothing then.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

mod bucket;
mod rate;

pub(crate) use bucket::{Bucket, paced};
pub use rate::{Rate, parse_size};

/// What runs may take together. Cheap to clone: all clones share the limits, and so do all runs whose
/// [`Context`](crate::Context) has one of them. A limit that is set again is a new one.
///
/// ```
/// use lifeboat_core::{Context, Limiter};
///
/// // All runs of a daemon: two at once, 20 MB/s to all sinks together, on two CPU cores.
/// let limiter = Limiter::new().runs(2).upload("20MB/s".parse()?).threads(2);
/// let context = Context::default().limiter(limiter);
/// // `Backup::new(…).context(context.clone())`, `Verify::new(…).context(context.clone())`, …
/// # Ok::<_, lifeboat_core::Error>(())
/// ```
///
/// # Nothing locks up
/// A run waits for its turn and for its memory before it begins, and takes each once; what it holds it gives back without waiting
/// for others. A stage holds its place on a CPU only while it computes, never while it waits for another stage. So whoever
/// holds something comes to its end, however small the limits are.
#[derive(Clone, Default)]
pub struct Limiter {
    upload: Option<Arc<Bucket>>,
    download: Option<Arc<Bucket>>,
    source: Option<Rate>,
    runs: Option<Arc<Semaphore>>,
    threads: Option<Arc<Semaphore>>,
    memory: Option<Memory>,
}

#[derive(Clone)]
struct Memory {
    mebibytes: u32,
    free: Arc<Semaphore>,
}

impl Limiter {
    /// Without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes per second that are sent to all sinks of all runs together, as they are stored. What goes to two sinks counts
    /// twice; what a store asks for again does not count again, nor do manifests and other notes. A sink that sends in parts sends
    /// each part as fast as the line allows: on average the limit holds.
    #[must_use]
    pub fn upload(mut self, rate: Rate) -> Self {
        self.upload = Some(Bucket::new(rate));
        self
    }

    /// Bytes per second of artifacts and trees that are read from all sinks by all runs together.
    #[must_use]
    pub fn download(mut self, rate: Rate) -> Self {
        self.download = Some(Bucket::new(rate));
        self
    }

    /// Bytes per second that each backup reads from its source, before compression.
    #[must_use]
    pub fn source(mut self, rate: Rate) -> Self {
        self.source = Some(rate);
        self
    }

    /// How many backups, restores, verifications and copies run at once, at least one. The others wait for their turn before they
    /// begin, in the order in which they came.
    #[must_use]
    pub fn runs(mut self, runs: usize) -> Self {
        self.runs = Some(places(runs));
        self
    }

    /// How many stages (compression, encryption, hashing) compute at once, in all runs together, at least one. Zstandard then
    /// compresses on its stage's own thread. Threads of other programs, such as a database server, do not count.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(places(threads));
        self
    }

    /// Bytes that all runs together may have on their way, by what each may hold at most. A run that does not fit waits until there is room
    /// before it begins; one that would never fit runs alone.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        let mebibytes = mebibytes(bytes).clamp(1, mebibytes(Semaphore::MAX_PERMITS as u64));
        self.memory = Some(Memory { mebibytes, free: Arc::new(Semaphore::new(mebibytes as usize)) });
        self
    }

    /// These limits, and where one is not set, that of `other`.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let other = other.clone();
        Self {
            upload: self.upload.or(other.upload),
            download: self.download.or(other.download),
            source: self.source.or(other.source),
            runs: self.runs.or(other.runs),
            threads: self.threads.or(other.threads),
            memory: self.memory.or(other.memory),
        }
    }

    /// What limits the bytes that are sent.
    pub(crate) fn upload_bucket(&self) -> Option<&Arc<Bucket>> {
        self.upload.as_ref()
    }

    /// What limits the bytes of artifacts that are read.
    pub(crate) fn download_bucket(&self) -> Option<&Arc<Bucket>> {
        self.download.as_ref()
    }

    /// What limits the bytes of one source.
    pub(crate) fn source_bucket(&self) -> Option<Arc<Bucket>> {
        self.source.map(Bucket::new)
    }

    /// Whether the threads of stages are limited.
    pub(crate) fn has_thread_limit(&self) -> bool {
        self.threads.is_some()
    }

    /// Waits until a run that holds at most so many bytes may begin. With 0, its parts take their [room](Self::room) themselves.
    pub(crate) async fn turn(&self, bytes: u64) -> Turn {
        let run = match &self.runs {
            Some(runs) => runs.clone().acquire_owned().await.ok(),
            None => None,
        };
        Turn { _run: run, _room: if bytes == 0 { None } else { self.room(bytes).await } }
    }

    /// Waits until so many bytes may be held. `None` without a limit.
    pub(crate) async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let memory = self.memory.as_ref()?;
        let mebibytes = mebibytes(bytes).clamp(1, memory.mebibytes);
        // It is never closed, so there is always a permit.
        memory.free.clone().acquire_many_owned(mebibytes).await.ok()
    }

    /// Whether memory is limited.
    pub(crate) fn has_memory_limit(&self) -> bool {
        self.memory.is_some()
    }
}

fn places(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)))
}

fn mebibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX)
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |bucket: &Option<Arc<Bucket>>| bucket.as_ref().map(|bucket| bucket.rate().to_string());
        f.debug_struct("Limiter")
            .field("upload", &rate(&self.upload))
            .field("download", &rate(&self.download))
            .field("source", &self.source.map(|rate| rate.to_string()))
            .field("runs", &self.runs.is_some())
            .field("threads", &self.threads.is_some())
            .field("mebibytes", &self.memory.as_ref().map(|memory| memory.mebibytes))
            .finish()
    }
}

/// Leave to run, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _run: Option<OwnedSemaphorePermit>,
    _room: Option<OwnedSemaphorePermit>,
}

tokio::task_local! {
    /// The limiter of the run that this task, or this stage's thread, belongs to. Encryptors and taps make stages without a
    /// [`Context`](crate::Context).
    static CURRENT: Limiter;
}

impl Limiter {
    /// The limiter of the run that is under way here.
    pub(crate) fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// Does the work of a run: the stages that it makes keep to these limits.
    pub(crate) async fn govern<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }

    /// The same on a stage's thread.
    pub(crate) fn govern_thread<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    /// A place on a CPU for a stage of this run, which is taken when [`Seat::take`] is called.
    pub(crate) fn seat(&self, runtime: Handle) -> Arc<Seat> {
        Arc::new(Seat { places: self.threads.clone(), runtime, held: Mutex::default() })
    }
}

/// A stage's place on a CPU, for the stage's own thread.
#[derive(Debug)]
pub(crate) struct Seat {
    places: Option<Arc<Semaphore>>,
    runtime: Handle,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Seat {
    /// Waits until the stage may compute.
    pub(crate) fn take(&self) {
        if let Some(places) = &self.places {
            let place = self.runtime.block_on(places.clone().acquire_owned());
            self.set(place.ok());
        }
    }

    /// Waits for something without the place: others may compute meanwhile.
    pub(crate) fn leave_for<T>(&self, wait: impl FnOnce() -> T) -> T {
        if self.places.is_none() {
            return wait();
        }
        self.set(None);
        let done = wait();
        self.take();
        done
    }

    /// Gives the place back at the stage's end.
    pub(crate) fn leave(&self) {
        self.set(None);
    }

    fn set(&self, place: Option<OwnedSemaphorePermit>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_run_at_once_and_the_next_in_order() {
        let limiter = Limiter::new().runs(2);
        let (running, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let runs = (0..7).map(|_| async {
            let _turn = limiter.turn(0).await;
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            running.fetch_sub(1, Ordering::SeqCst);
        });
        let begun = tokio::time::Instant::now();
        futures::future::join_all(runs).await;
        assert_eq!((most.into_inner(), begun.elapsed().as_secs()), (2, 4));
    }

    #[tokio::test]
    async fn a_limit_that_is_not_set_is_that_of_the_other() {
        let own = Limiter::new().upload("1MB/s".parse().unwrap());
        let other = Limiter::new().upload("2MB/s".parse().unwrap()).source("3MB/s".parse().unwrap());
        let both = own.clone().or(&other);
        assert!(Arc::ptr_eq(both.upload_bucket().unwrap(), own.upload_bucket().unwrap()));
        assert_eq!(both.source.unwrap().to_string(), "3MB/s");
        assert!(both.download_bucket().is_none());
    }

    proptest! {
        /// Whatever runs want, and however little there is: all come to their end, and together they never hold more than the limit.
        #[test]
        fn runs_that_share_a_bound_smaller_than_each_wants_all_end(
            bound in 1u64..64,
            places in 1usize..4,
            wanted in prop::collection::vec((1u64..200, 0u64..5, any::<bool>()), 1..24),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
            let ended = runtime.block_on(async {
                let limiter = Limiter::new().memory(bound << 20).runs(places);
                let runs = wanted.iter().map(|(mebibytes, seconds, gives_up)| {
                    let (limiter, held, most) = (&limiter, &held, &most);
                    async move {
                        // Some are dropped while they wait.
                        let patience = Duration::from_secs(if *gives_up { 1 } else { 1_000_000 });
                        let Ok(_turn) = tokio::time::timeout(patience, limiter.turn(mebibytes << 20)).await else { return };
                        let own = (*mebibytes).clamp(1, bound);
                        most.fetch_max(held.fetch_add(own, Ordering::SeqCst) + own, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_secs(*seconds)).await;
                        held.fetch_sub(own, Ordering::SeqCst);
                    }
                });
                tokio::time::timeout(Duration::from_secs(100_000), futures::future::join_all(runs)).await
            });
            prop_assert!(ended.is_ok(), "some never ended");
            prop_assert!(most.into_inner() <= bound);
        }
    }
}
