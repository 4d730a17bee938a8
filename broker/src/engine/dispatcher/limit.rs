use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{Action, Dispatcher};
use crate::{
    domain::{Attempt, JobKey, QueueId},
    engine::places::Places,
};

/// Between two claims because buckets of keys fill.
const KEY_PAUSE: Duration = Duration::from_millis(10);

/// How a limited queue stands at this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitedQueue {
    pub queue: QueueId,
    pub owned: bool,
    /// Whether there are sessions that could work for it.
    pub wanted: bool,
    /// Attempts that count and that no session here has.
    pub elsewhere: Vec<Attempt>,
}

/// An attempt that is under way, as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub attempt: Attempt,
    pub key: Option<Arc<str>>,
}

impl Dispatcher {
    /// The limited queues, in no order.
    pub fn limited_queues(&self) -> Vec<LimitedQueue> {
        let limited = |(queue, state): (&QueueId, &super::Queue)| {
            let gate = state.gate.as_ref()?;
            let wanted = !state.line.is_empty() && !self.draining;
            let unsure = gate.places.iter().flat_map(Places::unsure);
            let unsure = unsure.filter(|attempt| !gate.elsewhere.contains(attempt));
            let elsewhere = gate.elsewhere.iter().copied().chain(unsure).collect();
            Some(LimitedQueue { queue: *queue, owned: gate.owned, wanted, elsewhere })
        };
        self.queues.iter().filter_map(limited).collect()
    }

    /// Whether a limited queue has come to be wanted since this was asked last.
    pub fn wants_to_own(&mut self) -> bool {
        std::mem::take(&mut self.wants_to_own)
    }

    /// This broker owns the queue from now on. `running`: attempts of it under way. Those that aren't in memory
    /// here count until `over_elsewhere` says that they are over.
    pub fn own(
        &mut self,
        now: Duration,
        queue: QueueId,
        (term, running): (i64, Vec<Running>),
        actions: &mut Vec<Action>,
    ) {
        let here: HashSet<Attempt> = self
            .jobs()
            .filter(|(key, _)| key.queue == queue)
            .map(|(key, number)| Attempt { id: key.id, number })
            .collect();
        let attempts = running.iter().map(|one| one.attempt);
        let elsewhere = attempts.filter(|attempt| !here.contains(attempt)).collect();
        let places = self.count_keys(now, queue, running, &here);
        let Some(state) = self.queues.get_mut(&queue) else { return };
        let Some(gate) = &mut state.gate else { return };
        gate.own(now, term, elsewhere, places);
        state.forget_backlog();
        state.backlog.notify();
        self.deliver_queue(now, queue, actions);
    }

    /// Another broker may own the queue from now on: what no worker has of it is given back.
    pub fn disown(&mut self, now: Duration, queue: QueueId, actions: &mut Vec<Action>) {
        let Some(state) = self.queues.get_mut(&queue) else { return };
        let Some(gate) = &mut state.gate else { return };
        gate.disown(now);
        self.deliver_queue(now, queue, actions);
    }

    /// Of the attempts elsewhere these are over.
    pub fn over_elsewhere(
        &mut self,
        now: Duration,
        queue: QueueId,
        over: &[Attempt],
        actions: &mut Vec<Action>,
    ) {
        for attempt in over {
            self.over(now, queue, *attempt);
        }
        self.deliver_freed(now, actions);
    }

    /// What was given back, or failed by this broker, is written, or somebody else was quicker.
    pub fn settled(&mut self, now: Duration, jobs: &[(JobKey, i32)], actions: &mut Vec<Action>) {
        for (JobKey { queue, id }, number) in jobs.iter().copied() {
            self.over(now, queue, Attempt { id, number });
        }
        self.deliver_freed(now, actions);
    }

    /// The lease of an attempt has ended; what becomes of it is on its way to the database. It counts until that
    /// is known: its worker may have taken it to another broker.
    pub(super) fn unsure(&mut self, queue: QueueId, attempt: Attempt) {
        if let Some(gate) = self.queues.get_mut(&queue).and_then(|state| state.gate.as_mut())
            && gate.owned
        {
            gate.elsewhere.insert(attempt);
        }
        self.key_unsure(queue, attempt);
    }

    /// The database says that the attempt is over.
    pub(super) fn over(&mut self, now: Duration, queue: QueueId, attempt: Attempt) {
        if let Some(gate) = self.queues.get_mut(&queue).and_then(|state| state.gate.as_mut())
            && gate.elsewhere.remove(&attempt)
        {
            self.freed(queue);
        }
        self.key_over(now, queue, attempt);
    }

    /// Until then no other broker can hold this one for dead, and own its queues.
    pub fn lives_until(&mut self, now: Duration, until: Duration, actions: &mut Vec<Action>) {
        let waited = now >= self.lives_until;
        self.lives_until = self.lives_until.max(until);
        if waited {
            let limited = self.limited_queues();
            for LimitedQueue { queue, .. } in limited.iter().filter(|limited| limited.owned) {
                self.deliver_queue(now, *queue, actions);
            }
        }
    }

    /// How many jobs of the buffer may go to workers now.
    pub(super) fn deliverable(&mut self, now: Duration, queue: QueueId) -> usize {
        let lives = now < self.lives_until;
        let Some(state) = self.queues.get_mut(&queue) else { return 0 };
        let buffered = state.buffer.len();
        match &mut state.gate {
            None => buffered,
            Some(_) if buffered == 0 || !lives => 0,
            Some(gate) => gate.lets_through(now, state.held).min(buffered),
        }
    }

    /// What was let through lets the next wait for time to pass, perhaps; so does a rest between claims.
    pub(super) fn plan_wake(&mut self, now: Duration, queue: QueueId) {
        let Some(state) = self.queues.get_mut(&queue) else { return };
        if let Some(at) = state.wake_at.take() {
            self.wakes.remove(&(at, queue));
        }
        let buffered = !state.buffer.is_empty();
        let held = state.held;
        let gate = state.gate.as_mut();
        let of_queue = gate.filter(|_| buffered).and_then(|gate| gate.next_lot(now, held));
        let places = state.gate.as_ref().and_then(|gate| gate.places.as_ref());
        let of_keys = places
            .filter(|_| state.keys.has_left_out())
            .and_then(|places| places.next_event(now))
            .map(|at| at.max(now + KEY_PAUSE));
        let of_rest = state.keys.rests_until(now);
        if let Some(at) = [of_queue, of_keys, of_rest].into_iter().flatten().min() {
            state.wake_at = Some(at);
            self.wakes.insert((at, queue));
        }
    }

    /// A lease of the queue has ended: others may have its place.
    pub(super) fn freed(&mut self, queue: QueueId) {
        let limited = self.queues.get(&queue).is_some_and(|state| state.gate.is_some());
        if limited && self.freed.last() != Some(&queue) {
            self.freed.push(queue);
        }
    }

    /// Delivers where places became free.
    pub(super) fn deliver_freed(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for queue in std::mem::take(&mut self.freed) {
            self.deliver_queue(now, queue, actions);
        }
    }

    /// Delivers, and claims, what time lets through.
    pub(super) fn wake(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while let Some(&(at, queue)) = self.wakes.first()
            && at <= now
        {
            self.wakes.pop_first();
            if let Some(state) = self.queues.get_mut(&queue) {
                state.wake_at = None;
                if let Some(places) = state.gate.as_mut().and_then(|gate| gate.places.as_mut()) {
                    places.expire(now);
                    state.keys.refilled();
                }
            }
            self.deliver_queue(now, queue, actions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{JobId, QueueLimits, QueueRules, RateLimit},
        engine::{
            Heartbeat, SessionId, SessionRequest,
            dispatcher::Delivery,
            simulation::{LIMITS, nothing_is_ready, taken},
        },
    };

    const QUEUE: QueueId = QueueId(1);
    const NOW: Duration = Duration::from_secs(1);

    fn limits(concurrency: u32) -> QueueLimits {
        QueueLimits { concurrency: Some(concurrency), ..QueueLimits::NONE }
    }

    /// An owned queue, two sessions with a credit of 3, and so many ready jobs.
    fn world(limits: QueueLimits, jobs: i64) -> (Dispatcher, Vec<Action>) {
        let (mut engine, mut actions) = (Dispatcher::new(LIMITS), Vec::new());
        let rules = QueueRules { version: 1, limits, ..QueueRules::UNTOLD };
        engine.configure(NOW, QUEUE, rules, &mut actions);
        for session in [1, 2] {
            let request = SessionRequest {
                session: SessionId(session),
                worker: "".into(),
                queues: vec![QUEUE],
                max_in_flight: 3,
                concurrency: 3,
                held: Vec::new(),
                adopted: Vec::new(),
            };
            engine.subscribe(NOW, request, &mut actions);
        }
        assert!(actions.is_empty() && engine.wants_to_own() && !engine.wants_to_own());
        engine.own(NOW, QUEUE, (1, Vec::new()), &mut actions);
        let Some(Action::Claim { limit, .. }) = actions.pop() else { panic!("nobody has looked") };
        let jobs = (1..=jobs).map(|id| taken(JobId(id), 1, 0)).collect();
        engine.claimed(NOW, Duration::ZERO, QUEUE, limit, jobs, &mut actions);
        nothing_is_ready(&mut engine, NOW, &mut actions);
        (engine, actions)
    }

    fn living(limits: QueueLimits, jobs: i64) -> (Dispatcher, Vec<Action>) {
        let (mut engine, mut actions) = world(limits, jobs);
        engine.lives_until(NOW, NOW + Duration::from_secs(10), &mut actions);
        (engine, actions)
    }

    /// Who was given which jobs.
    fn given(actions: &mut Vec<Action>) -> Vec<(u128, i64)> {
        let deliveries = actions.drain(..).filter_map(|action| match action {
            Action::Deliver { session, delivery: Delivery { jobs, .. } } => Some((session, jobs)),
            _ => None,
        });
        let jobs = deliveries.flat_map(|(session, jobs)| {
            jobs.into_iter().map(move |job| (session.0, job.id.0)).collect::<Vec<_>>()
        });
        jobs.collect()
    }

    fn complete(engine: &mut Dispatcher, session: u128, id: i64, actions: &mut Vec<Action>) {
        let attempts = [Attempt { id: JobId(id), number: 1 }];
        engine.completing(NOW, SessionId(session), 0, None, attempts, actions);
    }

    #[test]
    fn a_place_that_becomes_free_goes_to_the_session_that_has_less() {
        let (mut engine, mut actions) = living(limits(3), 5);
        assert_eq!(given(&mut actions), [(1, 1), (1, 2), (2, 3)]);
        complete(&mut engine, 1, 1, &mut actions);
        assert_eq!(given(&mut actions).len(), 1);
        complete(&mut engine, 2, 3, &mut actions);
        complete(&mut engine, 1, 2, &mut actions);
        let held = |session: u128| engine.leased(SessionId(session)).len();
        assert!(held(1) > 0 && held(2) > 0);
        engine.check();
    }

    #[test]
    fn attempts_elsewhere_count_until_they_are_over() {
        let (mut engine, mut actions) = living(limits(2), 5);
        assert_eq!(given(&mut actions).len(), 2);
        let elsewhere = Attempt { id: JobId(77), number: 3 };
        let here = Attempt { id: JobId(1), number: 1 };
        let running = [elsewhere, here].map(|attempt| Running { attempt, key: None });
        engine.own(NOW, QUEUE, (2, running.to_vec()), &mut actions);
        assert_eq!(engine.limited_queues()[0].elsewhere, [elsewhere]);
        complete(&mut engine, 1, 1, &mut actions);
        assert_eq!(given(&mut actions), []);
        engine.over_elsewhere(NOW, QUEUE, &[elsewhere], &mut actions);
        assert_eq!(given(&mut actions).len(), 1);
    }

    #[test]
    fn who_may_be_held_for_dead_delivers_nothing_of_a_limited_queue() {
        let (mut engine, mut actions) = world(limits(2), 5);
        assert_eq!(given(&mut actions), []);
        engine.lives_until(NOW, NOW + Duration::from_secs(1), &mut actions);
        assert_eq!(given(&mut actions).len(), 2);
        let later = NOW + Duration::from_secs(1);
        engine.completing(
            later,
            SessionId(1),
            0,
            None,
            [Attempt { id: JobId(1), number: 1 }],
            &mut actions,
        );
        assert_eq!(given(&mut actions), []);
        engine.lives_until(later, later + Duration::from_secs(1), &mut actions);
        assert_eq!(given(&mut actions).len(), 1);
    }

    #[test]
    fn one_that_gives_a_queue_up_keeps_nothing_of_it_but_what_workers_have() {
        let (mut engine, mut actions) = living(limits(2), 5);
        assert_eq!(given(&mut actions).len(), 2);
        engine.disown(NOW, QUEUE, &mut actions);
        assert!(matches!(&actions[..], [Action::GiveBack { jobs }] if jobs.len() == 3));
        assert_eq!((engine.held_count(), engine.buffered_count()), (2, 0));
        actions.clear();
        engine.ready(NOW, QUEUE, [(0, JobId(9))], &mut actions);
        assert!(actions.is_empty() && engine.hungry().is_empty());
    }

    #[test]
    fn jobs_that_wait_for_room_do_not_wait_for_their_rate() {
        let rate = Some(RateLimit { jobs: 1000, period_ms: 1000, burst: 20 });
        let (mut engine, mut actions) = living(QueueLimits { rate, ..QueueLimits::NONE }, 8);
        let later = NOW + Duration::from_secs(1);
        engine.tick(later, &mut actions);
        assert_eq!((given(&mut actions).len(), engine.buffered_count()), (6, 2));
        assert_eq!(engine.next_deadline(), None);
        // The bucket is full by now.
        engine.tick(later + Duration::from_secs(1), &mut actions);
        complete(&mut engine, 1, 1, &mut actions);
        assert_eq!(given(&mut actions).len(), 1);
    }

    #[test]
    fn what_a_session_with_new_room_takes_lets_the_rest_wait_for_their_rate() {
        let rate = Some(RateLimit { jobs: 10, period_ms: 1000, burst: 7 });
        let (mut engine, mut actions) = living(QueueLimits { rate, ..QueueLimits::NONE }, 9);
        let later = NOW + Duration::from_secs(1);
        engine.tick(later, &mut actions);
        assert_eq!((given(&mut actions).len(), engine.buffered_count()), (6, 3));
        let heartbeat = Heartbeat {
            session: SessionId(1),
            epoch: 0,
            received_seq: 0,
            held: Vec::new(),
            max_in_flight: Some(9),
        };
        engine.heartbeat(later, &heartbeat, &mut actions).expect("it is known");
        assert_eq!(given(&mut actions).len(), 1);
        assert_eq!(engine.next_deadline(), Some(later + Duration::from_millis(100)));
    }

    #[test]
    fn jobs_that_wait_for_their_rate_go_when_time_has_come() {
        let rate = Some(RateLimit { jobs: 10, period_ms: 1000, burst: 2 });
        let (mut engine, mut actions) = living(QueueLimits { rate, ..QueueLimits::NONE }, 5);
        assert_eq!(given(&mut actions), [], "the bucket begins empty");
        let mut now = NOW;
        for (id, ms) in [(1, 1100), (2, 1200), (3, 1300)] {
            assert_eq!(engine.next_deadline(), Some(Duration::from_millis(ms)));
            engine.tick(now + Duration::from_millis(99), &mut actions);
            assert_eq!(given(&mut actions), []);
            now = Duration::from_millis(ms);
            engine.tick(now, &mut actions);
            let ids: Vec<i64> = given(&mut actions).into_iter().map(|(_, id)| id).collect();
            assert_eq!(ids, [id]);
        }
    }
}
