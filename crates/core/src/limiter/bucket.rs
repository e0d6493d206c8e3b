//! A token bucket: bytes that pass at a rate, whoever sends them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Rate;
use crate::error::Error;
use crate::stream::ByteStream;

/// How much may pass at once after a pause, as time: enough to make up for a timer that is late, and far less than a second.
const BURST: Duration = Duration::from_millis(100);
/// Chunks are cut so that each takes at most so long: 1 MiB at 100 KB/s would otherwise come once in ten seconds.
const PIECE: Duration = Duration::from_millis(50);

/// Bytes that may pass at a rate. All who share it take turns.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    /// When the next byte may pass. `None` before the first one.
    next: Mutex<Option<Instant>>,
}

impl Bucket {
    pub(crate) fn new(rate: Rate) -> Arc<Self> {
        Arc::new(Self { rate, next: Mutex::new(None) })
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    fn next(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time_for(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.bytes_per_second());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The most that passes in one piece, in bytes.
    fn piece(&self) -> usize {
        let bytes = u128::from(self.rate.bytes_per_second()) * PIECE.as_millis() / 1000;
        usize::try_from(bytes).unwrap_or(usize::MAX).max(1)
    }

    /// Waits until so many bytes may pass.
    ///
    /// # Cancel safety
    /// What is dropped while it waits takes nothing from the others.
    pub(crate) async fn take(&self, bytes: u64) {
        let mut turn = self.turn(bytes);
        sleep_until(turn.at).await;
        turn.cost = Duration::ZERO;
    }

    fn turn(&self, bytes: u64) -> Turn<'_> {
        let (now, cost) = (Instant::now(), self.time_for(bytes));
        let mut next = self.next();
        let at = next.unwrap_or(now).max(now.checked_sub(BURST).unwrap_or(now));
        *next = Some(at + cost);
        Turn { bucket: self, at, cost }
    }
}

/// A place in the order. It is given back unless its time has come.
struct Turn<'a> {
    bucket: &'a Bucket,
    at: Instant,
    cost: Duration,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut next = self.bucket.next();
        *next = next.and_then(|next| next.checked_sub(self.cost));
    }
}

/// Lets a stream pass at the bucket's rate, cut into small pieces without copying. Each byte counts `times` times: once for
/// each place that it goes to. The stream fails at once when the run is cancelled: what waits for its turn is not sent any more.
pub(crate) fn paced(
    input: ByteStream,
    bucket: Option<&Arc<Bucket>>,
    times: impl Fn() -> u64 + Send + 'static,
    cancel: &CancellationToken,
) -> ByteStream {
    let Some(bucket) = bucket.cloned() else { return input };
    let state = (Some(input), Bytes::new(), times, cancel.clone());
    futures::stream::unfold(state, move |(input, mut rest, times, cancel)| {
        let bucket = bucket.clone();
        async move {
            let mut input = input?;
            while rest.is_empty() {
                match input.next().await? {
                    Ok(chunk) => rest = chunk,
                    Err(error) => return Some((Err(error), (None, rest, times, cancel))),
                }
            }
            let times_now = times().max(1);
            let most = bucket.piece() / usize::try_from(times_now).unwrap_or(usize::MAX);
            let piece = rest.split_to(rest.len().min(most.max(1)));
            let taken = cancel.run_until_cancelled(bucket.take(piece.len() as u64 * times_now)).await;
            if taken.is_none() {
                return Some((Err(Error::cancelled("send", "the next bytes")), (None, rest, times, cancel)));
            }
            Some((Ok(piece), (Some(input), rest, times, cancel)))
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::CHUNK;

    fn bucket(rate: &str) -> Arc<Bucket> {
        Bucket::new(rate.parse().unwrap())
    }

    fn chunks(count: usize) -> ByteStream {
        let chunk = Bytes::from(vec![7; CHUNK]);
        futures::stream::iter((0..count).map(move |_| Ok(chunk.clone()))).boxed()
    }

    /// When each byte came: the time since the beginning, and how many.
    async fn arrivals(mut stream: ByteStream) -> Vec<(Duration, usize)> {
        let begun = Instant::now();
        let mut arrived = Vec::new();
        while let Some(chunk) = stream.next().await {
            arrived.push((begun.elapsed(), chunk.unwrap().len()));
        }
        arrived
    }

    /// The most that came within any second.
    fn most_in_a_second(arrived: &[(Duration, usize)]) -> usize {
        let of = |(from, _): &(Duration, usize)| {
            let within = |(at, _): &&(Duration, usize)| at >= from && *at < *from + Duration::from_secs(1);
            arrived.iter().filter(within).map(|(_, bytes)| bytes).sum()
        };
        arrived.iter().map(of).max().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_and_smoothly() {
        for (rate, count, seconds) in [("10MiB/s", 50, 5.0), ("100KiB/s", 1, 10.24), ("200MiB/s", 400, 2.0)] {
            let (bucket, cancel) = (bucket(rate), CancellationToken::new());
            let arrived = arrivals(paced(chunks(count), Some(&bucket), || 1, &cancel)).await;
            let total: usize = arrived.iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(total, count * CHUNK);
            let took = arrived.last().unwrap().0.as_secs_f64();
            assert!((took / seconds - 1.0).abs() < 0.06, "{rate}: {took}");
            let limit = bucket.rate().bytes_per_second() as f64;
            assert!((most_in_a_second(&arrived) as f64) < limit * 1.25, "{rate}");
            let pause = arrived.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
            assert!(pause <= Duration::from_millis(60), "{rate}: {pause:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_made_up_for() {
        let (bucket, cancel) = (bucket("1MiB/s"), CancellationToken::new());
        arrivals(paced(chunks(1), Some(&bucket), || 1, &cancel)).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let arrived = arrivals(paced(chunks(3), Some(&bucket), || 1, &cancel)).await;
        assert!(most_in_a_second(&arrived) < CHUNK * 5 / 4);
    }

    #[tokio::test(start_paused = true)]
    async fn two_streams_share_one_rate_evenly() {
        let (bucket, cancel) = (bucket("2MiB/s"), CancellationToken::new());
        let each = || arrivals(paced(chunks(10), Some(&bucket), || 1, &cancel));
        let (first, second) = tokio::join!(each(), each());
        for arrived in [first, second] {
            let took = arrived.last().unwrap().0.as_secs_f64();
            assert!((9.5..10.5).contains(&took), "{took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_that_goes_to_two_places_counts_twice() {
        let (bucket, cancel) = (bucket("2MiB/s"), CancellationToken::new());
        let arrived = arrivals(paced(chunks(4), Some(&bucket), || 2, &cancel)).await;
        let took = arrived.last().unwrap().0.as_secs_f64();
        assert!((3.8..4.2).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_while_it_waits_takes_nothing() {
        let bucket = bucket("1MiB/s");
        bucket.take(CHUNK as u64).await;
        for _ in 0..100 {
            let given_up = tokio::time::timeout(Duration::from_millis(1), bucket.take(CHUNK as u64)).await;
            assert!(given_up.is_err());
        }
        let begun = Instant::now();
        bucket.take(1).await;
        assert!(begun.elapsed() <= Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_run_does_not_wait_for_its_turn() {
        let (bucket, cancel) = (bucket("1B/s"), CancellationToken::new());
        let mut stream = paced(chunks(1), Some(&bucket), || 1, &cancel);
        assert!(stream.next().await.unwrap().is_ok());
        let begun = Instant::now();
        let cancelling = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            cancel.cancel();
        };
        let (next, ()) = tokio::join!(stream.next(), cancelling);
        assert_eq!(next.unwrap().unwrap_err().kind(), crate::ErrorKind::Cancelled);
        assert!(begun.elapsed() < Duration::from_millis(100) && stream.next().await.is_none());
    }

    #[tokio::test]
    async fn without_a_limit_the_stream_is_the_same() {
        let arrived = arrivals(paced(chunks(3), None, || 1, &CancellationToken::new())).await;
        assert!(arrived.iter().all(|(_, bytes)| *bytes == CHUNK) && arrived.len() == 3);
    }
}
