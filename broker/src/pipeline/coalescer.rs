//! Many callers, one statement: requests gather while a flush is in flight (see `engine::Batcher`).
//!
//! A component is a [`Budget`] that callers pass first, a channel, and `coalesce` on the other end.
//! The channel needs no bound of its own: all that is in it is within the budget.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::PipelineError;
use crate::{clock::Stopwatch, engine::Batcher};

/// Bounds of one coalescer.
#[derive(Clone, Copy, Debug)]
pub struct CoalescerLimits {
    pub rows_per_flush_max: usize,
    pub bytes_per_flush_max: usize,
    pub flushes_in_flight_max: usize,
    /// Rows that wait or are being written.
    pub pending_rows_max: usize,
    pub pending_bytes_max: usize,
}

/// What may wait to be written. A request beyond it is refused, never delayed.
#[derive(Clone, Debug)]
pub struct Budget {
    pub(super) what: &'static str,
    rows: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    pub(super) rows_max: usize,
    pub(super) bytes_max: usize,
}

/// A share of the budget, given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    _rows: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

const RETRY_AFTER: Duration = Duration::from_millis(100);

impl Budget {
    pub(super) fn new(what: &'static str, limits: &CoalescerLimits) -> Self {
        Self {
            what,
            rows: Arc::new(Semaphore::new(limits.pending_rows_max)),
            bytes: Arc::new(Semaphore::new(limits.pending_bytes_max)),
            rows_max: limits.pending_rows_max,
            bytes_max: limits.pending_bytes_max,
        }
    }

    /// Rows and bytes that are taken.
    pub(super) fn used(&self) -> (usize, usize) {
        let used = |max: usize, left: &Semaphore| max.saturating_sub(left.available_permits());
        (used(self.rows_max, &self.rows), used(self.bytes_max, &self.bytes))
    }

    pub(super) fn take(&self, rows: usize, bytes: usize) -> Result<Permit, PipelineError> {
        let full = |limit: String| PipelineError::Full {
            what: self.what,
            limit,
            retry_after: RETRY_AFTER,
        };
        let permits = |semaphore: &Arc<Semaphore>, count: usize| {
            u32::try_from(count)
                .ok()
                .and_then(|count| Arc::clone(semaphore).try_acquire_many_owned(count).ok())
        };
        Ok(Permit {
            _rows: permits(&self.rows, rows)
                .ok_or_else(|| full(format!("at most {} rows wait", self.rows_max)))?,
            _bytes: permits(&self.bytes, bytes)
                .ok_or_else(|| full(format!("at most {} bytes wait", self.bytes_max)))?,
        })
    }
}

/// One caller's share of a batch.
pub(super) trait Request: Send + 'static {
    fn rows(&self) -> usize;
    fn bytes(&self) -> usize;
}

/// Runs until all senders are gone and everything is flushed. `name`: of the flushes in metrics.
pub(super) async fn coalesce<R: Request, F: Future<Output = ()>>(
    name: &'static str,
    mut inlet: mpsc::UnboundedReceiver<R>,
    limits: CoalescerLimits,
    flush: impl Fn(Vec<R>) -> F,
) {
    let mut batcher = Batcher::new(
        limits.rows_per_flush_max,
        limits.bytes_per_flush_max,
        limits.flushes_in_flight_max,
    );
    let mut pending: VecDeque<R> = VecDeque::new();
    let mut flights = FuturesUnordered::new();
    let rows = metrics::histogram!("currant_flush_rows", "flush" => name);
    let seconds = metrics::histogram!("currant_flush_seconds", "flush" => name);
    let in_flight = metrics::gauge!("currant_flushes_in_flight", "flush" => name);
    in_flight.set(0.0);
    let mut open = true;
    while open || !batcher.idle() {
        while batcher.should_flush() {
            let batch = next_batch(&mut pending, &mut batcher);
            rows.record(batch.iter().map(R::rows).sum::<usize>() as f64);
            in_flight.increment(1.0);
            let (watch, flushed) = (Stopwatch::start(), flush(batch));
            flights.push(async move {
                flushed.await;
                watch.elapsed()
            });
        }
        tokio::select! {
            request = inlet.recv(), if open => match request {
                Some(request) => {
                    // Whoever can speak now shall be in the same batch.
                    tokio::task::yield_now().await;
                    add(request, &mut pending, &mut batcher);
                    while let Ok(request) = inlet.try_recv() {
                        add(request, &mut pending, &mut batcher);
                    }
                }
                None => open = false,
            },
            Some(took) = flights.next() => {
                seconds.record(took.as_secs_f64());
                in_flight.decrement(1.0);
                batcher.flush_ended();
            }
        }
    }
}

fn add<R: Request>(request: R, pending: &mut VecDeque<R>, batcher: &mut Batcher) {
    batcher.add(request.rows(), request.bytes());
    pending.push_back(request);
}

fn next_batch<R: Request>(pending: &mut VecDeque<R>, batcher: &mut Batcher) -> Vec<R> {
    let mut batch = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    while let Some(request) = pending
        .pop_front_if(|request| batcher.fits((rows, bytes), (request.rows(), request.bytes())))
    {
        rows += request.rows();
        bytes += request.bytes();
        batch.push(request);
    }
    batcher.flush_started(rows, bytes);
    batch
}
