use std::time::Duration;

use super::Dispatcher;
use crate::domain::QueueId;

/// Jobs of one queue on their way to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    pub queue: QueueId,
    /// The lowest among them.
    pub priority: i16,
    pub jobs: usize,
}

/// Jobs a second below which the way through the backlog costs nobody anything.
const HASTE_MIN: f64 = 1000.0;
/// A backlog that the workers have done in that time is none that somebody has loaded for later: it came
/// about while producers were faster, or the database slower, than for the moment.
const BEHIND_MAX: Duration = Duration::from_secs(5);

impl Dispatcher {
    /// Whether the jobs should go on to be stored now. No, when waiting saves the way through the
    /// backlog, for these jobs or for those to come: at the pace of the queue's workers memory will have
    /// room, and what there is of a backlog will be claimed, soon. A backlog costs the database more than
    /// direct dispatch: once it is there, producers that don't wait keep it there.
    ///
    /// After a yes their room is kept, until `admission_ended`.
    pub fn admit(&mut self, now: Duration, admission: Admission) -> bool {
        let Admission { queue, priority, jobs } = admission;
        let (throttled, draining) = (self.throttled, self.draining);
        let may_wait = !self.limits.hold_max.is_zero();
        let state = self.queue(queue);
        let cap = state.cap();
        // More than memory takes will go to the backlog, however long it waits.
        let needed = jobs.min(cap / 2);
        let direct = state.backlog.allows_direct(priority);
        let used = state.in_memory() + state.admitted + needed;
        if may_wait
            && cap > 0
            && !state.keys.are_waiting()
            && !state.is_urgent(priority)
            && !draining
            && (!direct || throttled || used > cap)
        {
            let lacking = state.backlog.rows().map(|rows| (used + rows).saturating_sub(cap));
            let worth_waiting = match (lacking, state.pace.rate(now)) {
                (None, _) => state.backlog.is_first_looked_at(),
                (Some(_), None) => direct,
                (Some(lacking), Some(rate)) => {
                    rate > HASTE_MIN && lacking as f64 <= rate * BEHIND_MAX.as_secs_f64()
                }
            };
            if worth_waiting {
                return false;
            }
        }
        state.admitted += jobs;
        true
    }

    /// Whether the jobs are more urgent than what is in memory: they wait for nothing.
    pub fn is_urgent(&self, admission: Admission) -> bool {
        self.queues.get(&admission.queue).is_some_and(|queue| queue.is_urgent(admission.priority))
    }

    /// The jobs are about to be stored, or their caller has gone.
    pub fn admission_ended(&mut self, admission: Admission) {
        self.queue(admission.queue).admitted -= admission.jobs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::JobId,
        engine::{
            SessionId, SessionRequest, Storing,
            simulation::{LIMITS, nothing_is_ready, taken},
        },
    };

    const QUEUE: QueueId = QueueId(1);
    const NOW: Duration = Duration::from_secs(1);

    fn jobs(jobs: usize) -> Admission {
        Admission { queue: QUEUE, priority: 0, jobs }
    }

    fn session() -> SessionRequest {
        SessionRequest {
            session: SessionId(1),
            worker: "".into(),
            queues: vec![QUEUE],
            max_in_flight: 10,
            concurrency: 10,
            held: Vec::new(),
            adopted: Vec::new(),
        }
    }

    /// A session with a credit of 10, so room for 20; the backlog is empty.
    fn with_session() -> Dispatcher {
        let mut engine = Dispatcher::new(LIMITS);
        let mut actions = Vec::new();
        engine.subscribe(NOW, session(), &mut actions);
        assert!(!actions.is_empty(), "the backlog is unknown at first");
        nothing_is_ready(&mut engine, NOW, &mut actions);
        engine
    }

    #[test]
    fn jobs_wait_for_room_and_keep_it() {
        let mut engine = with_session();
        assert!(engine.admit(NOW, jobs(15)));
        assert!(!engine.admit(NOW, jobs(6)));
        assert!(engine.admit(NOW, jobs(5)));
        engine.admission_ended(jobs(15));
        assert!(engine.admit(NOW, jobs(6)));
    }

    #[test]
    fn a_call_larger_than_memory_waits_for_half_of_it() {
        let mut engine = with_session();
        assert!(engine.admit(NOW, jobs(5)));
        assert!(engine.admit(NOW, jobs(1000)));
        assert!(!engine.admit(NOW, jobs(1)), "all room is promised");
    }

    #[test]
    fn nobody_waits_without_sessions_or_behind_a_backlog_that_nobody_works_at() {
        let mut engine = Dispatcher::new(LIMITS);
        assert!(engine.admit(NOW, jobs(1000)));
        let mut engine = with_session();
        engine.ready(NOW, QUEUE, [(0, JobId(1))], &mut Vec::new());
        assert!(engine.admit(NOW, jobs(1)));
    }

    #[test]
    fn a_backlog_is_waited_for_that_will_soon_be_worked_off() {
        let mut engine = with_session();
        let pace = &mut engine.queue(QUEUE).pace;
        pace.work_came(NOW - Duration::from_millis(100));
        // 5000 a second.
        pace.finished(NOW, 500);
        engine.ready(NOW, QUEUE, (1..=24_000).map(|id| (0, JobId(id))), &mut Vec::new());
        assert!(!engine.admit(NOW, jobs(1)));
        engine.ready(NOW, QUEUE, (24_001..=26_000).map(|id| (0, JobId(id))), &mut Vec::new());
        assert!(engine.admit(NOW, jobs(1)));
    }

    #[test]
    fn the_first_look_at_the_backlog_is_waited_for() {
        let mut engine = Dispatcher::new(LIMITS);
        let mut actions = Vec::new();
        engine.subscribe(NOW, session(), &mut actions);
        assert!(!engine.admit(NOW, jobs(1)));
    }

    #[test]
    fn urgent_jobs_do_not_wait() {
        let mut engine = with_session();
        let storing = |id| Storing {
            queue: QUEUE,
            id: JobId(id),
            priority: 0,
            bytes: 1,
            taken: false,
            keyed: false,
        };
        let mut storing: Vec<Storing> = (1..=20).map(storing).collect();
        engine.storing(&mut storing);
        assert!(storing.iter().all(|job| job.taken));
        let taken: Vec<_> = storing.iter().map(|job| (QUEUE, taken(job.id, 1, 0))).collect();
        engine.stored(NOW, &storing, taken, &mut Vec::new());
        assert!(!engine.admit(NOW, jobs(1)));
        assert!(engine.admit(NOW, Admission { priority: 5, ..jobs(1) }));
    }
}
