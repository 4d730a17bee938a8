//! What happened to each job, noted at as little cost as possible: producers, handlers and
//! completions of all threads write here, the checks read it at the end.

use std::sync::{
    OnceLock,
    atomic::{
        AtomicU16, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use parking_lot::Mutex;

use crate::{
    clock::Clock,
    histogram::Latencies,
    jobs::{Layout, Stamp},
};

/// One answered Enqueue call: its jobs have the numbers `first..first + ids.len()`.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) first: u64,
    pub(crate) ids: Vec<i64>,
}

/// What a completion was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Applied,
    Duplicate,
    Stale,
    NotFound,
}

/// The ids of completed jobs, by what their completions were answered with.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    pub(crate) applied: Vec<i64>,
    pub(crate) duplicate: Vec<i64>,
    pub(crate) stale: u64,
    pub(crate) not_found: u64,
}

/// Enqueue calls that failed for good.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) calls: u64,
    pub(crate) first: Option<String>,
}

/// How queues take turns: each has so many jobs, then the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turns {
    pub(crate) queues: u64,
    pub(crate) batch: u64,
}

/// Shared by everything that makes or runs jobs.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) clock: Clock,
    layout: Layout,
    starts: Starts,
    worker_starts: Box<[AtomicU32]>,
    handlers: AtomicU64,
    handlers_ns: AtomicU64,
    /// Jobs with smaller numbers are enqueued before the workers come, in `mixed`.
    backlog: AtomicU64,
    backlog_started: AtomicU64,
    pub(crate) start_latency: Latencies,
    /// Of jobs in queues without the backlog, where only the first one has it.
    pub(crate) elsewhere_latency: Latencies,
    turns: OnceLock<Turns>,
    pub(crate) enqueue_latency: Latencies,
    /// The first job that counts; u64::MAX while a warm-up by time lasts.
    counted_from: AtomicU64,
    /// When the call with the first job that counts was issued; u64::MAX before.
    counted_start_ns: AtomicU64,
    last_acknowledged_ns: AtomicU64,
    last_finished_ns: AtomicU64,
    acknowledged: AtomicU64,
    finished: AtomicU64,
    foreign: AtomicU64,
    calls: Mutex<Vec<Call>>,
    completions: Mutex<Completions>,
    failures: Mutex<Failures>,
}

impl Recorder {
    /// For at most `jobs` jobs, of which those before number `counted_from` are warm-up.
    pub(crate) fn new(
        layout: Layout,
        jobs: u64,
        workers: u32,
        threads: u32,
        counted_from: u64,
    ) -> Recorder {
        Recorder {
            clock: Clock::start(),
            layout,
            starts: Starts::new(jobs),
            worker_starts: (0..workers).map(|_| AtomicU32::new(0)).collect(),
            handlers: AtomicU64::new(0),
            handlers_ns: AtomicU64::new(0),
            backlog: AtomicU64::new(0),
            backlog_started: AtomicU64::new(0),
            start_latency: Latencies::new(threads as usize),
            elsewhere_latency: Latencies::new(threads as usize),
            turns: OnceLock::new(),
            enqueue_latency: Latencies::new(threads as usize),
            counted_from: AtomicU64::new(counted_from),
            counted_start_ns: AtomicU64::new(u64::MAX),
            last_acknowledged_ns: AtomicU64::new(0),
            last_finished_ns: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            calls: Mutex::default(),
            completions: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// A call that starts with job `first` is about to be issued.
    pub(crate) fn issued(&self, first: u64, at_ns: u64) {
        if first >= self.counted_from.load(Relaxed) {
            self.counted_start_ns.fetch_min(at_ns, Relaxed);
        }
    }

    /// A warm-up by time is over: jobs from `first` on count.
    pub(crate) fn count_from(&self, first: u64) {
        self.counted_from.fetch_min(first, Relaxed);
    }

    /// A call was answered: its jobs are stored.
    pub(crate) fn acknowledged(&self, first: u64, intended_ns: u64, ids: Vec<i64>) {
        let now = self.clock.now_ns();
        if first >= self.counted_from.load(Relaxed) {
            self.enqueue_latency.record_ns(now.saturating_sub(intended_ns));
        }
        self.last_acknowledged_ns.fetch_max(now, Relaxed);
        let jobs = ids.len() as u64;
        self.calls.lock().push(Call { first, ids });
        self.acknowledged.fetch_add(jobs, Release);
    }

    /// A call failed for good: its jobs may or may not be stored.
    pub(crate) fn failed(&self, error: &dyn std::fmt::Display) {
        let mut failures = self.failures.lock();
        failures.calls += 1;
        failures.first.get_or_insert_with(|| error.to_string());
    }

    /// A handler of `worker` starts. False: the job is none of this run's.
    pub(crate) fn started(&self, worker: usize, payload: &[u8]) -> bool {
        let now = self.clock.now_ns();
        let stamp = self.layout.decode(payload);
        let noted = stamp.and_then(|stamp| Some((stamp, self.starts.note(stamp.index)?)));
        let Some((Stamp { index, intended_ns }, starts_before)) = noted else {
            self.foreign.fetch_add(1, Relaxed);
            return false;
        };
        if starts_before == 0 && index < self.backlog.load(Relaxed) {
            self.backlog_started.fetch_add(1, Relaxed);
        }
        self.worker_starts[worker].fetch_add(1, Relaxed);
        if index >= self.counted_from.load(Relaxed) {
            let latency = if self.is_elsewhere(index) {
                &self.elsewhere_latency
            } else {
                &self.start_latency
            };
            latency.record_ns(now.saturating_sub(intended_ns));
        }
        true
    }

    /// A handler that started at `start_ns` has done its work.
    pub(crate) fn worked(&self, start_ns: u64) {
        self.handlers.fetch_add(1, Relaxed);
        self.handlers_ns.fetch_add(self.clock.now_ns().saturating_sub(start_ns), Relaxed);
    }

    /// How long handlers worked, in the mean. None: they had nothing to do.
    pub(crate) fn handler_ms(&self) -> Option<f64> {
        let handlers = self.handlers.load(Relaxed);
        (handlers > 0).then(|| self.handlers_ns.load(Relaxed) as f64 / 1e6 / handlers as f64)
    }

    /// The jobs before number `jobs` are a backlog.
    pub(crate) fn expect_backlog(&self, jobs: u64) {
        self.backlog.store(jobs, Relaxed);
    }

    /// The backlog is in the first queue alone, and all queues have the jobs behind it in turns.
    pub(crate) fn tell_apart(&self, turns: Turns) {
        self.turns.get_or_init(|| turns);
    }

    fn is_elsewhere(&self, index: u64) -> bool {
        let Some(Turns { queues, batch }) = self.turns.get() else { return false };
        let call = index.saturating_sub(self.backlog.load(Relaxed)) / batch;
        !call.is_multiple_of(*queues)
    }

    /// All jobs of the backlog have been started.
    pub(crate) fn backlog_is_over(&self) -> bool {
        self.backlog_started.load(Relaxed) >= self.backlog.load(Relaxed)
    }

    /// The broker has answered completions: what it says is committed.
    pub(crate) fn completed(&self, answers: impl Iterator<Item = (i64, Answer)>) {
        let now = self.clock.now_ns();
        let mut completions = self.completions.lock();
        let mut finished = 0;
        for (id, answer) in answers {
            match answer {
                Answer::Applied => completions.applied.push(id),
                Answer::Duplicate => completions.duplicate.push(id),
                Answer::Stale => completions.stale += 1,
                Answer::NotFound => completions.not_found += 1,
            }
            finished += u64::from(matches!(answer, Answer::Applied | Answer::Duplicate));
        }
        drop(completions);
        if finished > 0 {
            self.last_finished_ns.fetch_max(now, Relaxed);
            self.finished.fetch_add(finished, Release);
        }
    }

    pub(crate) fn acknowledged_count(&self) -> u64 {
        self.acknowledged.load(Acquire)
    }

    /// Jobs acknowledged with number `from` or a later one.
    pub(crate) fn acknowledged_from(&self, from: u64) -> u64 {
        let calls = self.calls.lock();
        calls.iter().filter(|call| call.first >= from).map(|call| call.ids.len() as u64).sum()
    }

    /// Completions that say that a job is finished; a job can be among them twice.
    pub(crate) fn finished_count(&self) -> u64 {
        self.finished.load(Acquire)
    }

    /// Payloads that none of this run's producers made, or numbers out of range.
    pub(crate) fn foreign_count(&self) -> u64 {
        self.foreign.load(Relaxed)
    }

    /// How often the handler started for job number `index`.
    pub(crate) fn starts(&self, index: u64) -> u16 {
        self.starts.get(index)
    }

    /// Jobs started by each worker.
    pub(crate) fn worker_starts(&self) -> Vec<u32> {
        self.worker_starts.iter().map(|n| n.load(Relaxed)).collect()
    }

    pub(crate) fn counted_from(&self) -> u64 {
        self.counted_from.load(Relaxed)
    }

    pub(crate) fn counted_start_ns(&self) -> Option<u64> {
        Some(self.counted_start_ns.load(Relaxed)).filter(|&ns| ns != u64::MAX)
    }

    pub(crate) fn last_acknowledged_ns(&self) -> u64 {
        self.last_acknowledged_ns.load(Relaxed)
    }

    pub(crate) fn last_finished_ns(&self) -> u64 {
        self.last_finished_ns.load(Relaxed)
    }

    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock())
    }

    pub(crate) fn take_completions(&self) -> Completions {
        std::mem::take(&mut self.completions.lock())
    }

    pub(crate) fn take_failures(&self) -> Failures {
        std::mem::take(&mut self.failures.lock())
    }
}

/// Jobs of one block of counters.
const BLOCK: usize = 1 << 16;

/// Handler starts of each job. Blocks are made when first touched: a run by time doesn't know how
/// many it will need.
#[derive(Debug)]
struct Starts {
    jobs: u64,
    blocks: Box<[OnceLock<Box<[AtomicU16]>>]>,
}

impl Starts {
    fn new(jobs: u64) -> Starts {
        let blocks = jobs.div_ceil(BLOCK as u64);
        Starts { jobs, blocks: (0..blocks).map(|_| OnceLock::new()).collect() }
    }

    /// How often it had started before. None: there is no such job.
    fn note(&self, index: u64) -> Option<u16> {
        if index >= self.jobs {
            return None;
        }
        let block = self.blocks[index as usize / BLOCK]
            .get_or_init(|| (0..BLOCK).map(|_| AtomicU16::new(0)).collect());
        Some(block[index as usize % BLOCK].fetch_add(1, Relaxed))
    }

    fn get(&self, index: u64) -> u16 {
        let block = self.blocks.get(index as usize / BLOCK).and_then(OnceLock::get);
        block.map_or(0, |block| block[index as usize % BLOCK].load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::binary_batch;

    #[test]
    fn warm_up_jobs_run_but_count_for_no_latency() {
        let recorder = Recorder::new(Layout::Binary, 10, 1, 1, 6);
        recorder.issued(0, 5);
        recorder.issued(6, 70);
        recorder.issued(8, 60);
        for payload in binary_batch(0, 10, 0, 16) {
            assert!(recorder.started(0, &payload));
        }
        assert_eq!(recorder.start_latency.merged().len(), 4);
        assert_eq!(recorder.counted_start_ns(), Some(60));
        assert_eq!(recorder.worker_starts(), [10]);
        assert_eq!((recorder.starts(0), recorder.starts(9)), (1, 1));
    }

    #[test]
    fn a_backlog_is_over_when_each_of_its_jobs_has_started() {
        let recorder = Recorder::new(Layout::Binary, 10, 1, 1, 3);
        recorder.expect_backlog(3);
        // Two of it, one of them twice, and one that is none of it.
        for payload in [0, 1, 1, 5].into_iter().flat_map(|n| binary_batch(n, 1, 0, 16)) {
            assert!(recorder.started(0, &payload));
        }
        assert!(!recorder.backlog_is_over());
        binary_batch(2, 1, 0, 16).for_each(|payload| assert!(recorder.started(0, &payload)));
        assert!(recorder.backlog_is_over());
    }

    #[test]
    fn jobs_in_queues_without_the_backlog_are_told_apart() {
        let recorder = Recorder::new(Layout::Binary, 10, 1, 1, 2);
        recorder.expect_backlog(2);
        recorder.tell_apart(Turns { queues: 3, batch: 2 });
        for payload in binary_batch(0, 10, 0, 16) {
            assert!(recorder.started(0, &payload));
        }
        let of = |latencies: &Latencies| latencies.merged().len();
        // Of 2 3 4 5 6 7 8 9 those of the first queue are 2 3 and 8 9.
        assert_eq!((of(&recorder.start_latency), of(&recorder.elsewhere_latency)), (4, 4));
    }

    #[test]
    fn what_is_not_of_this_run_is_foreign() {
        let recorder = Recorder::new(Layout::Binary, 10, 1, 1, 0);
        assert!(!recorder.started(0, b"nonsense"));
        for payload in binary_batch(10, 1, 0, 16) {
            assert!(!recorder.started(0, &payload));
        }
        assert_eq!(recorder.foreign_count(), 2);
    }

    #[test]
    fn stale_completions_finish_nothing() {
        let recorder = Recorder::new(Layout::Binary, 2, 1, 1, 0);
        recorder.completed([(1, Answer::Stale), (2, Answer::NotFound)].into_iter());
        assert_eq!((recorder.finished_count(), recorder.last_finished_ns()), (0, 0));
        recorder.completed([(1, Answer::Applied), (2, Answer::Duplicate)].into_iter());
        assert_eq!(recorder.finished_count(), 2);
    }
}
