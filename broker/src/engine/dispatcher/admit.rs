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

/// A backlog of so many claims is waited for.
const SHORT_BACKLOG_CLAIMS: usize = 8;

impl Dispatcher {
    /// Whether the jobs should go on to be stored now. No, when a moment of waiting saves the way
    /// through the backlog, for these jobs and for all behind them: when memory is full but the
    /// queue's sessions are making room, or when sessions starve while the last of the backlog is
    /// being claimed.
    ///
    /// After a yes their room is kept, until `admission_ended`.
    pub fn admit(&mut self, admission: Admission) -> bool {
        let Admission { queue, priority, jobs } = admission;
        let (throttled, draining) = (self.throttled, self.draining);
        let short = self.limits.claim_rows_max * SHORT_BACKLOG_CLAIMS;
        let state = self.queue(queue);
        let cap = state.cap();
        let urgent = state.buffer.lowest_priority().is_some_and(|lowest| lowest < priority);
        let direct = state.backlog.allows_direct(priority);
        let starving = state.buffer.is_empty() && state.held < state.credit / 2;
        let worth_waiting = cap > 0
            && !urgent
            && !draining
            && (direct || starving && state.backlog.is_short(short));
        // More than memory takes will go to the backlog, however long it waits.
        let needed = jobs.min(cap / 2);
        let full = throttled || state.in_memory() + state.admitted + needed > cap;
        if worth_waiting && (!direct || full) {
            return false;
        }
        state.admitted += jobs;
        true
    }

    /// The jobs are about to be stored, or their caller has gone.
    pub fn admission_ended(&mut self, admission: Admission) {
        self.queue(admission.queue).admitted -= admission.jobs;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        domain::JobId,
        engine::{
            Action, SessionId, SessionRequest, Storing,
            simulation::{LIMITS, taken},
        },
    };

    const QUEUE: QueueId = QueueId(1);
    const NOW: Duration = Duration::from_secs(1);

    fn jobs(jobs: usize) -> Admission {
        Admission { queue: QUEUE, priority: 0, jobs }
    }

    /// A session with a credit of 10, so room for 20; the backlog is empty.
    fn with_session() -> Dispatcher {
        let mut engine = Dispatcher::new(LIMITS);
        let mut actions = Vec::new();
        let request = SessionRequest {
            session: SessionId(1),
            queues: vec![(QUEUE, None)],
            max_in_flight: 10,
            concurrency: 10,
            held: Vec::new(),
            adopted: Vec::new(),
        };
        engine.subscribe(NOW, request, &mut actions);
        let Some(Action::Claim { queue, limit, .. }) = actions.pop() else {
            panic!("the backlog is unknown at first")
        };
        engine.claimed(NOW, Duration::ZERO, queue, limit, Vec::new(), &mut actions);
        engine
    }

    #[test]
    fn jobs_wait_for_room_and_keep_it() {
        let mut engine = with_session();
        assert!(engine.admit(jobs(15)));
        assert!(!engine.admit(jobs(6)));
        assert!(engine.admit(jobs(5)));
        engine.admission_ended(jobs(15));
        assert!(engine.admit(jobs(6)));
    }

    #[test]
    fn a_call_larger_than_memory_waits_for_half_of_it() {
        let mut engine = with_session();
        assert!(engine.admit(jobs(5)));
        assert!(engine.admit(jobs(1000)));
        assert!(!engine.admit(jobs(1)), "all room is promised");
    }

    #[test]
    fn nobody_waits_without_sessions_or_behind_a_long_backlog() {
        let mut engine = Dispatcher::new(LIMITS);
        assert!(engine.admit(jobs(1000)));
        let mut engine = with_session();
        engine.ready(NOW, QUEUE, (1..=1000).map(|id| (0, JobId(id))), &mut Vec::new());
        assert!(engine.admit(jobs(1)));
    }

    #[test]
    fn a_short_backlog_is_waited_for_while_sessions_starve() {
        let mut engine = with_session();
        let mut actions = Vec::new();
        engine.ready(NOW, QUEUE, [(0, JobId(5))], &mut actions);
        assert!(!engine.admit(jobs(1)));
        let Some(Action::Claim { queue, limit, .. }) = actions.pop() else { panic!("no claim") };
        engine.claimed(NOW, Duration::ZERO, queue, limit, Vec::new(), &mut actions);
        assert!(engine.admit(jobs(1)));
    }

    #[test]
    fn urgent_jobs_do_not_wait() {
        let mut engine = with_session();
        let storing =
            |id| Storing { queue: QUEUE, id: JobId(id), priority: 0, bytes: 1, taken: false };
        let mut storing: Vec<Storing> = (1..=20).map(storing).collect();
        engine.storing(&mut storing);
        assert!(storing.iter().all(|job| job.taken));
        let taken: Vec<_> = storing.iter().map(|job| (QUEUE, taken(job.id, 1, 0))).collect();
        engine.stored(NOW, &storing, taken, &mut Vec::new());
        assert!(!engine.admit(jobs(1)));
        assert!(engine.admit(Admission { priority: 5, ..jobs(1) }));
    }
}
