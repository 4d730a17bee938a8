use std::time::Duration;

use super::{Action, Delivery, Dispatcher};
use crate::{
    domain::{Attempt, QueueId, TakenJob},
    engine::{
        fill::{Room, fill, pack},
        session::{Lease, Sent},
    },
};

impl Dispatcher {
    /// Shares a queue's buffer among its sessions, first what they can start at once, then what they
    /// can hold waiting; each evenly. Gives back what must not stay, and claims what may come.
    pub(super) fn deliver_queue(
        &mut self,
        now: Duration,
        queue: QueueId,
        actions: &mut Vec<Action>,
    ) {
        self.expire_buffered(now, queue, actions);
        let paused = self.queues.get(&queue).is_some_and(|state| state.rules.paused);
        if !self.throttled && !self.draining && !paused {
            self.deliver_up_to(now, queue, true, actions);
            self.deliver_up_to(now, queue, false, actions);
        }
        self.give_back_excess(queue, actions);
        self.claim_more(now, queue, actions);
        self.plan_wake(now, queue);
    }

    fn deliver_up_to(
        &mut self,
        now: Duration,
        queue: QueueId,
        to_concurrency: bool,
        actions: &mut Vec<Action>,
    ) {
        let jobs = self.deliverable(now, queue);
        if jobs == 0 {
            return;
        }
        let mut rooms = self.rooms(queue, jobs, to_concurrency);
        fill(&mut rooms, jobs);
        for room in rooms {
            self.deliver(now, queue, room.index, room.share, actions);
            self.stand_in_line(queue, room.index);
        }
    }

    /// Calls as many sessions of the queue's line as the jobs need when each takes a pack of them.
    fn rooms(&mut self, queue: QueueId, jobs: usize, to_concurrency: bool) -> Vec<Room> {
        let mut rooms = Vec::new();
        let Some(state) = self.queues.get_mut(&queue) else { return rooms };
        let pack = pack(state.line.mean_run_time());
        let mut left = jobs;
        while left > 0
            && let Some((index, stood)) = state.line.first()
            && !(to_concurrency && stood.waits)
        {
            state.line.call();
            let session = &self.sessions[index];
            let held = session.outstanding;
            let mut free = session.free(self.limits.unacknowledged_bytes_max);
            // Another of its queues may have given it jobs.
            if free > 0 && session.load() > stood {
                state.line.stand(index, session.load());
                continue;
            }
            if to_concurrency {
                free = free.min(session.concurrency.saturating_sub(held));
            }
            if free > 0 {
                left = left.saturating_sub(free.min(pack));
                rooms.push(Room { index, held, free, share: 0 });
            }
        }
        rooms
    }

    /// The session takes its place in each of its queues, if it has room.
    pub(super) fn stand_in_lines(&mut self, index: usize) {
        for at in 0..self.sessions[index].queues.len() {
            self.stand_in_line(self.sessions[index].queues[at], index);
        }
    }

    fn stand_in_line(&mut self, queue: QueueId, index: usize) {
        let session = &self.sessions[index];
        let has_room = session.free(self.limits.unacknowledged_bytes_max) > 0;
        if let Some(state) = self.queues.get_mut(&queue).filter(|_| has_room) {
            state.line.stand(index, session.load());
        }
    }

    /// A session may have room again: its queues take turns, and with what is left it stands in line.
    pub(super) fn deliver_session(
        &mut self,
        now: Duration,
        index: usize,
        actions: &mut Vec<Action>,
    ) {
        if !self.throttled && !self.draining {
            self.deliver_in_turns(now, index, actions);
        }
        self.stand_in_lines(index);
    }

    fn deliver_in_turns(&mut self, now: Duration, index: usize, actions: &mut Vec<Action>) {
        loop {
            let session = &self.sessions[index];
            let free = session.free(self.limits.unacknowledged_bytes_max);
            let count = session.queues.len();
            let mut waiting: Vec<QueueId> =
                (0..count).map(|offset| session.queues[(session.turn + offset) % count]).collect();
            waiting.retain(|queue| self.deliverable(now, *queue) > 0);
            if free == 0 || waiting.is_empty() {
                return;
            }
            let share = free.div_ceil(waiting.len());
            let session = &mut self.sessions[index];
            session.turn = (session.turn + 1) % count;
            for queue in waiting {
                self.expire_buffered(now, queue, actions);
                let free = self.sessions[index].free(self.limits.unacknowledged_bytes_max);
                let deliverable = self.deliverable(now, queue);
                self.deliver(now, queue, index, share.min(free).min(deliverable), actions);
            }
        }
    }

    /// After completions: every queue of the session may claim again.
    pub(super) fn claim_for_session(
        &mut self,
        now: Duration,
        index: usize,
        actions: &mut Vec<Action>,
    ) {
        for at in 0..self.sessions[index].queues.len() {
            let queue = self.sessions[index].queues[at];
            self.claim_more(now, queue, actions);
        }
    }

    fn deliver(
        &mut self,
        now: Duration,
        queue: QueueId,
        index: usize,
        count: usize,
        actions: &mut Vec<Action>,
    ) {
        if count == 0 {
            return;
        }
        let Some(state) = self.queues.get_mut(&queue) else { return };
        let unacknowledged = self.sessions[index].unacknowledged_bytes;
        let bytes = self.limits.unacknowledged_bytes_max.saturating_sub(unacknowledged);
        let mut jobs = state.buffer.take(count, bytes);
        if jobs.is_empty() {
            return;
        }
        state.held += jobs.len();
        let limited = state.gate.is_some();
        if let Some(gate) = &mut state.gate {
            gate.took(jobs.len());
            if let Some(places) = &mut gate.places {
                for job in jobs.iter().filter(|job| job.key.is_some()) {
                    places.deliver(now, Attempt { id: job.id, number: job.attempt });
                }
            }
        }
        let timeout = state.rules.timeout_ms.map(Duration::from_millis);
        self.buffered_bytes -= jobs.iter().map(TakenJob::bytes).sum::<usize>();
        if limited {
            self.plan_wake(now, queue);
        }
        while !jobs.is_empty() {
            let rest = self.split(&mut jobs);
            self.send(now, queue, timeout, index, jobs, actions);
            jobs = rest;
        }
    }

    /// Leaves what makes a message of a size that any client takes, at least one job; returns the rest.
    fn split(&self, jobs: &mut Vec<TakenJob>) -> Vec<TakenJob> {
        let mut bytes = 0;
        let fits = |job: &&TakenJob| {
            bytes += job.bytes();
            bytes <= self.limits.message_bytes_max
        };
        let fitting = jobs.iter().take(self.limits.message_jobs_max).take_while(fits).count();
        if fitting >= jobs.len() { Vec::new() } else { jobs.split_off(fitting.max(1)) }
    }

    fn send(
        &mut self,
        now: Duration,
        queue: QueueId,
        default_timeout: Option<Duration>,
        index: usize,
        jobs: Vec<TakenJob>,
        actions: &mut Vec<Action>,
    ) {
        let bytes: usize = jobs.iter().map(TakenJob::bytes).sum();
        let session = &mut self.sessions[index];
        session.seq += 1;
        session.outstanding += jobs.len();
        session.unacknowledged_bytes += bytes;
        session.unacknowledged.push_back(Sent {
            seq: session.seq,
            at: now,
            bytes,
            ids: jobs.iter().map(|job| job.id).collect(),
        });
        for job in &jobs {
            let own = job.options.as_ref().and_then(|options| options.timeout_ms);
            let deadline = own.map(Duration::from_millis).or(default_timeout).map(|t| now + t);
            let lease = Lease {
                queue,
                attempt: job.attempt,
                seq: session.seq,
                completing: false,
                deadline,
                delivered_at: Some(now),
            };
            // A job that was cancelled and retried comes back before this broker has heard of the
            // cancel.
            if let Some(older) = session.leases.insert(job.id, lease) {
                if let Some(at) = older.deadline {
                    self.deadlines.remove(&(at, index, job.id));
                }
                if !older.completing {
                    session.outstanding -= 1;
                    if let Some(state) = self.queues.get_mut(&older.queue) {
                        state.held -= 1;
                    }
                }
            }
            if let Some(at) = deadline {
                self.deadlines.insert((at, index, job.id));
            }
        }
        let delivery = Delivery { seq: session.seq, queue, jobs };
        actions.push(Action::Deliver { session: session.id, delivery });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::JobId,
        engine::{
            SessionId, SessionRequest, Storing,
            dispatcher::Limits,
            simulation::{LIMITS, nothing_is_ready, taken},
        },
    };

    const QUEUE: QueueId = QueueId(1);
    const NOW: Duration = Duration::from_secs(1);

    /// Sessions from 1 on, each with a credit of 100, of which 80 can run at once.
    struct World {
        engine: Dispatcher,
        next_id: i64,
    }

    impl World {
        fn new(sessions: u128) -> World {
            let limits = Limits { message_jobs_max: 100, completing_max: 1000, ..LIMITS };
            let mut engine = Dispatcher::new(Limits { message_bytes_max: 1 << 20, ..limits });
            let mut actions = Vec::new();
            for session in (1..=sessions).map(SessionId) {
                let request = SessionRequest {
                    session,
                    worker: "".into(),
                    queues: vec![QUEUE, QueueId(2)],
                    max_in_flight: 100,
                    concurrency: 80,
                    held: Vec::new(),
                    adopted: Vec::new(),
                };
                engine.subscribe(NOW, request, &mut actions);
            }
            nothing_is_ready(&mut engine, NOW, &mut actions);
            World { engine, next_id: 0 }
        }

        /// Who is given how many of so many jobs, in the order of the sessions.
        fn store(&mut self, queue: QueueId, jobs: i64) -> Vec<(u128, Vec<Attempt>)> {
            let ids = self.next_id + 1..=self.next_id + jobs;
            self.next_id += jobs;
            let storing = |id| Storing {
                queue,
                id: JobId(id),
                priority: 0,
                bytes: 1,
                taken: true,
                keyed: false,
            };
            let mut storing: Vec<Storing> = ids.map(storing).collect();
            self.engine.storing(&mut storing);
            let taken: Vec<_> = storing.iter().map(|job| (queue, taken(job.id, 1, 0))).collect();
            let mut actions = Vec::new();
            self.engine.stored(NOW, &storing, taken, &mut actions);
            self.engine.check();
            let given = |action| {
                let Action::Deliver { session, delivery } = action else { return None };
                let jobs = delivery.jobs.iter();
                let attempts = jobs.map(|job| Attempt { id: job.id, number: job.attempt });
                Some((session.0, attempts.collect()))
            };
            let mut given: Vec<_> = actions.into_iter().filter_map(given).collect();
            given.sort_unstable_by_key(|(session, _): &(u128, _)| *session);
            given
        }

        fn complete(&mut self, run_time: Duration, given: Vec<(u128, Vec<Attempt>)>) {
            for (session, attempts) in given {
                let (session, run_time) = (SessionId(session), Some(run_time));
                let (engine, actions) = (&mut self.engine, &mut Vec::new());
                let completings = engine.completing(NOW, session, 0, run_time, attempts, actions);
                engine.completed(NOW, session, &completings, actions);
                engine.check();
            }
        }
    }

    fn counts(given: &[(u128, Vec<Attempt>)]) -> Vec<(u128, usize)> {
        given.iter().map(|(session, attempts)| (*session, attempts.len())).collect()
    }

    #[test]
    fn the_odd_job_goes_round() {
        let mut world = World::new(3);
        for turn in [1, 2, 3, 1, 2, 3] {
            let given = world.store(QUEUE, 1);
            assert_eq!(counts(&given), [(turn, 1)]);
            world.complete(Duration::from_secs(1), given);
        }
    }

    #[test]
    fn those_that_hold_less_come_first_whichever_queue_it_is_from() {
        let mut world = World::new(3);
        assert_eq!(counts(&world.store(QUEUE, 2)), [(1, 1), (2, 1)]);
        assert_eq!(counts(&world.store(QueueId(2), 2)), [(3, 2)]);
        assert_eq!(counts(&world.store(QUEUE, 4)), [(1, 2), (2, 2)]);
        assert_eq!(counts(&world.store(QueueId(2), 230)), [(1, 76), (2, 76), (3, 78)]);
        // All their handlers are busy now.
        assert_eq!(counts(&world.store(QUEUE, 3)), [(1, 1), (2, 1), (3, 1)]);
    }

    #[test]
    fn jobs_that_take_no_time_go_to_a_few_in_turns() {
        let mut world = World::new(5);
        let short = Duration::from_micros(20);
        let given = world.store(QUEUE, 50);
        assert_eq!(given.len(), 5, "nothing is known of them yet");
        world.complete(short, given);
        for turns in [[(1, 40), (2, 40)], [(3, 40), (4, 40)], [(1, 40), (5, 40)]] {
            let given = world.store(QUEUE, 80);
            assert_eq!(counts(&given), turns);
            world.complete(short, given);
        }
    }
}
