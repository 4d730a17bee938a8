//! The dispatcher under random events, against a model of the database and of the workers.
//!
//! Checked after every step: credit, one place an attempt, attempts that only grow, sums. Checked at the
//! end, when the workers behave: every job was completed exactly once or cancelled, nothing is left in
//! memory. What has expired isn't delivered, what was cancelled not once the dispatcher was told, nor is anything of a queue
//! while it is paused, or limited and full or not owned.
//! A failing case is printed with its steps and kept by proptest for the next runs.
#![allow(clippy::unwrap_used)]

mod cancel;
mod cases;
mod claim;
mod limit;
mod model;
mod pause;
mod steps;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub(super) use self::model::{LIMITS, nothing_is_ready, taken};
use self::{
    claim::Claiming,
    model::{Phase, Row, Worker, expires_at, taken_row},
    steps::Step,
};
use super::{Action, Completing, Dispatcher, Hungry, SessionId, Storing};
use crate::domain::{Attempt, JobId, JobKey, QueueId, QueueRules};

const QUEUES: i32 = 3;
const SESSIONS: u128 = 4;
const KEYS: u8 = 3;
struct World {
    now: Duration,
    dispatcher: Dispatcher,
    rows: BTreeMap<JobId, Row>,
    next_id: i64,
    claims: Vec<Claiming>,
    completions: Vec<(SessionId, Vec<Completing>)>,
    workers: BTreeMap<u128, Worker>,
    completed: BTreeMap<JobId, usize>,
    /// Cancelled attempts of which the dispatcher hasn't heard.
    untold: Vec<(JobKey, i32)>,
    /// As the database has them, and as the dispatcher was told.
    rules: BTreeMap<QueueId, QueueRules>,
    told: BTreeMap<QueueId, QueueRules>,
    /// The limited queues that this broker owns.
    owned: BTreeSet<QueueId>,
    /// Attempts that another broker has.
    elsewhere: BTreeSet<(QueueId, Attempt)>,
    /// For which queues are owned.
    terms: BTreeMap<QueueId, i64>,
    /// Others stored jobs with keys there, and nobody was told.
    silent: BTreeSet<QueueId>,
    steps: usize,
}

impl World {
    fn new() -> Self {
        let mut dispatcher = Dispatcher::new(LIMITS);
        dispatcher.lives_until(Duration::ZERO, Duration::MAX, &mut Vec::new());
        Self {
            now: Duration::from_secs(1),
            dispatcher,
            rows: BTreeMap::new(),
            next_id: 1,
            claims: Vec::new(),
            completions: Vec::new(),
            workers: (1..=SESSIONS).map(|session| (session, Worker::default())).collect(),
            completed: BTreeMap::new(),
            untold: Vec::new(),
            rules: BTreeMap::new(),
            told: BTreeMap::new(),
            owned: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            terms: BTreeMap::new(),
            silent: BTreeSet::new(),
            steps: 0,
        }
    }

    fn step(&mut self, step: Step) {
        self.steps += 1;
        let mut actions = Vec::new();
        match step {
            Step::Insert { jobs, commits, cancels } => {
                self.insert(&jobs, commits, cancels, &mut actions);
            }
            Step::Foreign { queue, priority, key, notify } => {
                let id = self.id();
                let queue = QueueId(queue);
                let row = Row { queue, priority, phase: Phase::Ready, attempt: 0, key };
                self.rows.insert(id, row);
                if notify {
                    self.dispatcher.notified(self.now, row.ready_in(), &mut actions);
                } else if key > 0 {
                    self.silent.insert(queue);
                }
            }
            Step::Claim { which, commits, cancels } => {
                self.end_claim(which, commits, cancels, &mut actions);
            }
            Step::Cancel { which, tells } => {
                let open: Vec<JobId> = self.open().collect();
                if !open.is_empty() {
                    self.cancel(open[which % open.len()]);
                }
                if tells {
                    self.tell_cancelled(&mut actions);
                }
            }
            Step::Retry { which } => self.retry(which, &mut actions),
            Step::Subscribe { session, queues, credit, keeps } => {
                self.subscribe(session, &queues, credit, keeps, &mut actions);
            }
            Step::StreamEnds { session, stale } => {
                let worker = self.workers.get_mut(&session).unwrap();
                let epoch = if stale { worker.epoch.wrapping_sub(1) } else { worker.epoch };
                worker.attached &= stale;
                let id = SessionId(session);
                self.dispatcher.stream_ended(self.now, id, epoch, &mut actions);
            }
            Step::GoesElsewhere { session } => self.goes_elsewhere(session, &mut actions),
            Step::Complete { session, count, knows_session } => {
                self.complete(session, count, knows_session, &mut actions);
            }
            Step::Stored { which, commits } => self.end_completion(which, commits, &mut actions),
            Step::Heartbeat { session, credit, acknowledges } => {
                self.heartbeat(session, credit, acknowledges, &mut actions);
            }
            Step::Sleep { ms } => {
                self.now += Duration::from_millis(ms);
                self.dispatcher.tick(self.now, &mut actions);
            }
            Step::Pause { queue, paused, tells } => {
                self.pause(QueueId(queue), paused);
                if tells {
                    self.tell_rules(&mut actions);
                }
            }
            Step::Limit { queue, concurrency, tells } => {
                self.limit(QueueId(queue), concurrency);
                if tells {
                    self.tell_rules(&mut actions);
                }
            }
            Step::LimitKeys { queue, concurrency, ordered, tells } => {
                self.limit_keys(QueueId(queue), concurrency, ordered);
                if tells {
                    self.tell_rules(&mut actions);
                }
            }
            Step::Weigh { queue, key, weight, tells } => {
                self.weigh(QueueId(queue), key, weight);
                if tells {
                    self.tell_rules(&mut actions);
                }
            }
            Step::Own { queue, owned, elsewhere } => {
                self.own(QueueId(queue), owned, elsewhere, &mut actions);
            }
            Step::Poll => {
                self.look_elsewhere(&mut actions);
                let Hungry { known, unknown } = self.dispatcher.hungry();
                for ready in known.into_iter().chain(unknown) {
                    if ready.keyed {
                        self.silent.remove(&ready.queue);
                    }
                    self.dispatcher.notified(self.now, ready, &mut actions);
                }
            }
        }
        let delivered = self.act(actions);
        self.check();
        self.check_limits(&delivered);
    }

    fn id(&mut self) -> JobId {
        self.next_id += 1;
        JobId(self.next_id)
    }

    fn insert(
        &mut self,
        jobs: &[(i32, i16, u8)],
        commits: bool,
        cancels: bool,
        actions: &mut Vec<Action>,
    ) {
        let mut storing: Vec<Storing> = jobs
            .iter()
            .map(|&(queue, priority, key)| Storing {
                queue: QueueId(queue),
                id: self.id(),
                priority,
                bytes: taken(JobId(0), 1, 0).bytes(),
                taken: false,
                keyed: key > 0,
            })
            .collect();
        self.dispatcher.storing(&mut storing);
        if !commits {
            self.dispatcher.not_stored(&storing, false);
            return;
        }
        for (job, (.., key)) in storing.iter().zip(jobs) {
            let Storing { queue, priority, .. } = *job;
            let (phase, attempt) = if job.taken { (Phase::Taken, 1) } else { (Phase::Ready, 0) };
            let row = Row { queue, priority, phase, attempt, key: *key };
            assert!(!(job.taken && job.keyed), "a job with a key was taken directly");
            self.rows.insert(job.id, row);
        }
        let jobs: Vec<_> = storing
            .iter()
            .filter(|job| job.taken)
            .map(|job| (job.queue, taken_row(job.id, 1, job.priority)))
            .collect();
        if cancels {
            self.cancel(storing[0].id);
            self.tell_cancelled(actions);
        }
        self.dispatcher.stored(self.now, &storing, jobs, actions);
    }

    fn became_ready(&mut self, id: JobId, row: Row, actions: &mut Vec<Action>) {
        if row.key > 0 {
            self.dispatcher.notified(self.now, row.ready_in(), actions);
        } else {
            self.dispatcher.ready(self.now, row.queue, [(row.priority, id)], actions);
        }
    }

    /// Returns the queues of which jobs were delivered.
    fn act(&mut self, actions: Vec<Action>) -> BTreeSet<QueueId> {
        let (mut follow, mut delivered) = (Vec::new(), BTreeSet::new());
        for action in actions {
            match action {
                Action::Deliver { session, delivery } => {
                    self.check_keys(delivery.queue, &delivery.jobs);
                    let worker = self.workers.get_mut(&session.0).unwrap();
                    assert!(worker.attached, "delivered to a session without a stream");
                    assert!(worker.queues.contains(&delivery.queue));
                    let paused = self.told.get(&delivery.queue).is_some_and(|rules| rules.paused);
                    assert!(!paused, "delivered though it is paused");
                    assert!(delivery.jobs.len() <= LIMITS.message_jobs_max);
                    worker.received_seq = delivery.seq;
                    delivered.insert(delivery.queue);
                    for job in delivery.jobs {
                        let row = self.rows[&job.id];
                        let micros = i64::try_from(self.now.as_micros()).unwrap();
                        assert!(expires_at(job.id).is_none_or(|at| micros <= at), "expired");
                        let key = JobKey { queue: delivery.queue, id: job.id };
                        if !self.untold.contains(&(key, job.attempt)) {
                            assert_eq!((row.phase, row.attempt), (Phase::Taken, job.attempt));
                        }
                        worker.held.insert(job.id, job.attempt);
                    }
                }
                Action::LeaseLost { session, attempts, .. } => {
                    let worker = self.workers.get_mut(&session.0).unwrap();
                    for attempt in attempts {
                        worker.held.remove(&attempt.id);
                    }
                }
                Action::Close { session } => {
                    self.workers.get_mut(&session.0).unwrap().attached = false;
                }
                Action::Claim { queue, from, limit } => {
                    self.claims.push(Claiming::Plain { queue, from, limit });
                }
                Action::ClaimKeys { queue, claim } => {
                    self.claims.push(Claiming::Keys { queue, claim });
                }
                Action::GiveBack { jobs } | Action::Fail { jobs, .. } => {
                    self.settle(jobs, Phase::Ready, &mut follow);
                }
                Action::Expire { jobs } => self.settle(jobs, Phase::Cancelled, &mut follow),
                // Such a message may get lost: the heartbeat tells it again.
                Action::Cancel { .. } | Action::KeepAlive { .. } | Action::Drain { .. } => {}
            }
        }
        if !follow.is_empty() {
            delivered.extend(self.act(follow));
        }
        delivered
    }

    /// The broker writes what becomes of attempts; only of those that are its own.
    fn settle(&mut self, mut jobs: Vec<(JobKey, i32)>, phase: Phase, follow: &mut Vec<Action>) {
        let attempt = |(key, number): (JobKey, i32)| Attempt { id: key.id, number };
        jobs.retain(|job| {
            !self.elsewhere.contains(&(job.0.queue, attempt(*job)))
                || !self.is_under_way(attempt(*job))
        });
        for job in
            jobs.iter().copied().filter(|job| self.is_under_way(attempt(*job))).collect::<Vec<_>>()
        {
            let id = job.0.id;
            let row = self.rows.get_mut(&id).unwrap();
            row.phase = phase;
            let row = *row;
            if phase == Phase::Ready {
                self.became_ready(id, row, follow);
            }
        }
        self.dispatcher.settled(self.now, &jobs, follow);
    }

    fn check(&self) {
        self.dispatcher.check();
        let mut seen = BTreeSet::new();
        for (key, attempt) in self.dispatcher.jobs() {
            // A job that was cancelled and retried may be here twice, until the dispatcher is told.
            assert!(seen.insert((key, attempt)), "{key:?} is in two places");
            let row = self.rows[&key.id];
            assert!(attempt <= row.attempt, "an attempt from the future");
        }
    }

    /// All workers are there, behave, and time passes: everything gets done.
    fn finish(&mut self) {
        for session in 1..=SESSIONS {
            let queues = (0..QUEUES).collect();
            self.step(Step::Subscribe { session, queues, credit: 5, keeps: true });
        }
        self.step(Step::Cancel { which: 0, tells: true });
        for queue in 0..QUEUES {
            self.step(Step::Pause { queue, paused: false, tells: true });
            self.step(Step::Own { queue, owned: true, elsewhere: false });
        }
        for _ in 0..2000 {
            if self.open().next().is_none() && self.claims.is_empty() && self.completions.is_empty()
            {
                break;
            }
            for session in 1..=SESSIONS {
                self.step(Step::Complete { session, count: 9, knows_session: true });
                self.step(Step::Heartbeat { session, credit: None, acknowledges: true });
            }
            while !self.completions.is_empty() {
                self.step(Step::Stored { which: 0, commits: true });
            }
            self.step(Step::Sleep { ms: 300 });
            self.check_looked_for();
            self.step(Step::Poll);
            for claims in 0.. {
                if self.claims.is_empty() {
                    break;
                }
                assert!(claims < 1000, "one claim follows the other, and nothing comes of them");
                self.step(Step::Claim { which: 0, commits: true, cancels: false });
            }
        }
        for (id, row) in &self.rows {
            assert!([Phase::Done, Phase::Cancelled].contains(&row.phase), "{id} was never done");
            let completed = usize::from(row.phase == Phase::Done);
            assert_eq!(self.completed.get(id).copied().unwrap_or(0), completed);
        }
        assert!(self.dispatcher.drained(), "something is left in memory");
        self.look_elsewhere(&mut Vec::new());
        assert_eq!(self.dispatcher.placed(), 0, "a key has a place for nothing");
    }
}
