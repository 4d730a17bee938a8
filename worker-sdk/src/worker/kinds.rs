//! The kinds that a worker has handlers for, and the jobs that wait for them. Pure: no clock, no I/O.
//!
//! A kind with a limit is full while as many of its jobs run as it says. Its further jobs wait apart, in their
//! order, and take credit that jobs of other kinds could have. So most of them wait for a moment only, and are
//! then put off: they come again after a pause, to this worker or to another. The first few wait longer, so
//! that a kind whose jobs come as fast as they are done never waits for the broker. None waits here for more
//! than half of its timeout.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use currant_proto::v1::Assignment;
use tokio::time::Instant;

use super::attempts::Attempt;
use crate::{handler::HandlerService, job::JobId, time::from_proto};

/// The first of a full kind wait so long at most, the others for a moment.
const KEPT_MAX: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_secs(1);
/// How long a job is put off the first time. Twice as long each further time, so often.
const PAUSE: Duration = Duration::from_secs(1);
const DOUBLINGS_MAX: u32 = 8;

/// A job that has come and hasn't started.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) assignment: Assignment,
    pub(super) queue: Arc<str>,
    pub(super) received_at: Instant,
}

impl Waiting {
    pub(super) fn attempt(&self) -> Attempt {
        Attempt { job: JobId(self.assignment.job_id), number: self.assignment.attempt }
    }

    /// For how long it is put off.
    pub(super) fn pause(&self) -> Duration {
        let Assignment { attempt, failures, .. } = self.assignment;
        // Attempts that were no failures: so often it was put off, or about so often.
        let times = attempt.saturating_sub(failures.saturating_add(1));
        PAUSE * 2_u32.pow(times.min(DOUBLINGS_MAX))
    }

    fn is_overdue(&self, now: Instant, wait_max: Duration) -> bool {
        let half = from_proto(self.assignment.timeout).map(|timeout| timeout / 2);
        let wait_max = half.map_or(wait_max, |half| half.min(wait_max));
        now.saturating_duration_since(self.received_at) >= wait_max
    }
}

/// One of them, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KindNumber(usize);

#[derive(Debug)]
pub(super) struct Kinds {
    numbers: HashMap<String, KindNumber>,
    kinds: Vec<Kind>,
    /// Those that have a limit.
    limited: Vec<KindNumber>,
    /// Of each of these so many jobs may wait for long.
    kept: usize,
    /// Those that haven't met a full kind.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
pub(super) struct Kind {
    pub(super) handler: HandlerService,
    /// So many more jobs start in tasks of their own.
    pub(super) apart: u32,
    limit: Option<Limit>,
}

#[derive(Debug)]
struct Limit {
    jobs_max: usize,
    running: usize,
    waiting: VecDeque<Waiting>,
}

impl Limit {
    fn is_full(&self) -> bool {
        self.running >= self.jobs_max
    }
}

impl Kinds {
    /// Half of what may wait in the worker is for jobs of full kinds, the same for each.
    pub(super) fn new(
        handlers: HashMap<String, (HandlerService, Option<u32>)>,
        prefetch: u32,
    ) -> Kinds {
        let mut all = Kinds {
            numbers: HashMap::new(),
            kinds: Vec::new(),
            limited: Vec::new(),
            kept: 0,
            waiting: VecDeque::new(),
        };
        for (name, (handler, jobs_max)) in handlers {
            let number = KindNumber(all.kinds.len());
            let limit = |jobs_max| Limit { jobs_max, running: 0, waiting: VecDeque::new() };
            let limit = jobs_max.map(|jobs_max| limit(jobs_max as usize));
            all.limited.extend(limit.is_some().then_some(number));
            all.kinds.push(Kind { handler, apart: 0, limit });
            all.numbers.insert(name, number);
        }
        all.kept = prefetch as usize / 2 / all.limited.len().max(1);
        all
    }

    #[cfg(feature = "testing")]
    pub(super) fn handler(&self, name: &str) -> Option<HandlerService> {
        self.numbers.get(name).map(|number| self.kinds[number.0].handler.clone())
    }

    pub(super) fn get_mut(&mut self, number: KindNumber) -> &mut Kind {
        &mut self.kinds[number.0]
    }

    pub(super) fn push(&mut self, job: Waiting) {
        self.waiting.push_back(job);
    }

    /// Takes the first job whose kind isn't full, or is unknown.
    pub(super) fn next(&mut self) -> Option<(Option<KindNumber>, Waiting)> {
        // Those that have waited apart came before the others of their kind.
        for number in &self.limited {
            let limit = self.kinds[number.0].limit.as_mut().filter(|limit| !limit.is_full());
            if let Some(job) = limit.and_then(|limit| limit.waiting.pop_front()) {
                return Some((Some(*number), job));
            }
        }
        loop {
            let job = self.waiting.pop_front()?;
            let number = self.numbers.get(&job.assignment.kind).copied();
            let limit = number.and_then(|number| self.kinds[number.0].limit.as_mut());
            match limit.filter(|limit| limit.is_full()) {
                Some(limit) => limit.waiting.push_back(job),
                None => return Some((number, job)),
            }
        }
    }

    /// One of its jobs runs on in a task.
    pub(super) fn began(&mut self, number: KindNumber) {
        if let Some(limit) = &mut self.kinds[number.0].limit {
            limit.running += 1;
        }
    }

    /// That is over.
    pub(super) fn ended(&mut self, number: KindNumber) {
        if let Some(limit) = &mut self.kinds[number.0].limit {
            limit.running -= 1;
        }
    }

    /// Whether jobs wait apart.
    pub(super) fn are_full(&self) -> bool {
        let mut limits =
            self.limited.iter().filter_map(|number| self.kinds[number.0].limit.as_ref());
        limits.any(|limit| !limit.waiting.is_empty())
    }

    /// Takes out those that have waited apart for too long.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<Waiting> {
        let kept = self.kept;
        let wait_max = move |position| if position < kept { KEPT_MAX } else { MOMENT };
        let mut taken = Vec::new();
        self.take_apart(&mut taken, |position, job| job.is_overdue(now, wait_max(position)));
        taken
    }

    /// Takes out all that are chosen.
    pub(super) fn take_waiting(&mut self, is_chosen: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let mut taken = Vec::new();
        self.take_apart(&mut taken, |_, job| is_chosen(job));
        take(&mut self.waiting, &mut taken, |_, job| is_chosen(job));
        taken
    }

    fn take_apart(
        &mut self,
        taken: &mut Vec<Waiting>,
        is_chosen: impl Fn(usize, &Waiting) -> bool,
    ) {
        for number in &self.limited {
            if let Some(limit) = &mut self.kinds[number.0].limit {
                take(&mut limit.waiting, taken, &is_chosen);
            }
        }
    }
}

/// Moves the chosen, by their position too.
fn take(
    from: &mut VecDeque<Waiting>,
    taken: &mut Vec<Waiting>,
    is_chosen: impl Fn(usize, &Waiting) -> bool,
) {
    for (position, job) in std::mem::take(from).into_iter().enumerate() {
        match is_chosen(position, &job) {
            true => taken.push(job),
            false => from.push_back(job),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{clock, time::to_proto};

    /// `limited` may have two at once, `free` as many as there are.
    fn kinds(prefetch: u32) -> Kinds {
        let handler = || HandlerService::raw(|_| async { Ok(Bytes::new()) });
        let limited = ("limited".to_owned(), (handler(), Some(2)));
        Kinds::new(HashMap::from([limited, ("free".to_owned(), (handler(), None))]), prefetch)
    }

    fn job(kind: &str, id: i64, received_at: Instant, timeout: Option<Duration>) -> Waiting {
        let (kind, timeout) = (kind.into(), timeout.map(to_proto));
        let assignment =
            Assignment { job_id: id, attempt: 1, kind, timeout, ..Assignment::default() };
        Waiting { assignment, queue: "q".into(), received_at }
    }

    fn ids(jobs: &[Waiting]) -> Vec<i64> {
        jobs.iter().map(|job| job.assignment.job_id).collect()
    }

    /// Starts all that may start.
    fn start(kinds: &mut Kinds) -> Vec<i64> {
        let mut started = Vec::new();
        while let Some((kind, job)) = kinds.next() {
            kind.into_iter().for_each(|kind| kinds.began(kind));
            started.push(job);
        }
        ids(&started)
    }

    #[test]
    fn jobs_of_a_full_kind_wait_in_order_and_others_pass() {
        let mut kinds = kinds(10);
        let now = clock::now();
        let arrive = |kinds: &mut Kinds, kind, of: std::ops::Range<i64>| {
            of.for_each(|id| kinds.push(job(kind, id, now, None)));
        };
        arrive(&mut kinds, "limited", 0..5);
        arrive(&mut kinds, "free", 5..7);
        arrive(&mut kinds, "unknown", 7..8);
        assert_eq!(start(&mut kinds), [0, 1, 5, 6, 7]);
        assert!(kinds.are_full());
        arrive(&mut kinds, "limited", 8..9);
        arrive(&mut kinds, "free", 9..11);
        kinds.ended(kinds.numbers["limited"]);
        assert_eq!(start(&mut kinds), [2, 9, 10], "it came before 8");
        assert_eq!(ids(&kinds.take_waiting(|job| job.assignment.job_id != 4)), [3, 8]);
        assert!(kinds.are_full());
        assert_eq!(ids(&kinds.take_waiting(|_| true)), [4]);
        assert!(!kinds.are_full());
    }

    #[test]
    fn the_first_wait_for_long_others_for_a_moment_none_over_half_of_its_timeout() {
        let mut kinds = kinds(6);
        let now = clock::now();
        for id in -2..5 {
            let timeout = (id == 1).then_some(Duration::from_secs(20));
            kinds.push(job("limited", id, now, timeout));
        }
        assert_eq!(start(&mut kinds), [-2, -1]);
        assert_eq!(ids(&kinds.take_overdue(now + MOMENT / 2)), [] as [i64; 0]);
        assert_eq!(ids(&kinds.take_overdue(now + MOMENT)), [3, 4], "half of 6 are kept");
        assert_eq!(ids(&kinds.take_overdue(now + Duration::from_secs(10))), [1]);
        assert_eq!(ids(&kinds.take_overdue(now + KEPT_MAX)), [0, 2]);
    }

    #[test]
    fn a_job_is_put_off_for_longer_each_time() {
        let pause = |attempt, failures| {
            let mut job = job("limited", 1, clock::now(), None);
            job.assignment = Assignment { attempt, failures, ..job.assignment };
            job.pause().as_secs()
        };
        assert_eq!([pause(1, 0), pause(2, 0), pause(4, 0), pause(4, 3)], [1, 2, 8, 1]);
        assert_eq!(pause(10_000, 1), 256);
    }
}
