use std::time::Duration;

use super::{Action, Dispatcher, Queue};
use crate::{
    domain::{QueueId, QueueRules},
    engine::gate::Gate,
    mutation::{self, Mutation},
};

impl Dispatcher {
    /// The rules of a queue were read. What is older than what is known counts for nothing.
    ///
    /// What a paused queue has in memory is given back, and that of one that comes to be limited, until it is
    /// known who owns it; what workers have goes on. Afterwards the backlog is unknown: nobody looked.
    pub fn configure(
        &mut self,
        now: Duration,
        queue: QueueId,
        rules: QueueRules,
        actions: &mut Vec<Action>,
    ) {
        let state = self.queues.entry(queue).or_insert_with(Queue::new);
        if rules.version < state.rules.version {
            return;
        }
        let paused = rules.paused && !mutation::on(Mutation::DeafToPauses);
        let rules = QueueRules { paused, ..rules };
        let resumed = state.rules.paused && !rules.paused;
        let limits = rules.limits;
        state.keys.weights = rules.key_weights.clone();
        state.rules = rules;
        let limited = limits.are_any();
        let unlimited = !limited && state.gate.is_some();
        match &mut state.gate {
            Some(gate) if limited => gate.change(now, limits),
            gate => *gate = limited.then(|| Box::new(Gate::new(now, limits))),
        }
        self.wants_to_own |= state.gate.as_ref().is_some_and(|gate| !gate.owned);
        if resumed || unlimited {
            state.forget_backlog();
            state.backlog.notify();
        }
        self.deliver_queue(now, queue, actions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Attempt, JobId, TakenJob},
        engine::{
            ClaimFrom, SessionId, SessionRequest, Storing,
            simulation::{LIMITS, nothing_is_ready, taken},
        },
    };

    const QUEUE: QueueId = QueueId(1);
    const NOW: Duration = Duration::from_secs(1);

    fn rules(version: i64, paused: bool) -> QueueRules {
        QueueRules { version, paused, ..QueueRules::UNTOLD }
    }

    /// A session with a credit of 1; the backlog is empty.
    fn with_session() -> Dispatcher {
        let mut engine = Dispatcher::new(LIMITS);
        let mut actions = Vec::new();
        let request = SessionRequest {
            session: SessionId(1),
            worker: "".into(),
            queues: vec![QUEUE],
            max_in_flight: 1,
            concurrency: 1,
            held: Vec::new(),
            adopted: Vec::new(),
        };
        engine.subscribe(NOW, request, &mut actions);
        assert!(!actions.is_empty(), "the backlog is unknown at first");
        nothing_is_ready(&mut engine, NOW, &mut actions);
        engine
    }

    fn storing(id: i64) -> Storing {
        Storing { queue: QUEUE, id: JobId(id), priority: 0, bytes: 1, taken: false, keyed: false }
    }

    fn store(engine: &mut Dispatcher, id: i64, actions: &mut Vec<Action>) -> bool {
        let mut jobs = [storing(id)];
        engine.storing(&mut jobs);
        let taken: Vec<(QueueId, TakenJob)> =
            jobs.iter().filter(|job| job.taken).map(|job| (QUEUE, taken(job.id, 1, 0))).collect();
        engine.stored(NOW, &jobs, taken, actions);
        jobs[0].taken
    }

    #[test]
    fn what_was_missed_while_nobody_listened_is_looked_for_when_there_is_room() {
        let (mut engine, mut actions) = (with_session(), Vec::new());
        assert!(store(&mut engine, 1, &mut actions) && store(&mut engine, 2, &mut actions));
        actions.clear();
        engine.missed_notices(NOW, &mut actions);
        assert!(actions.is_empty() && engine.hungry().is_empty(), "{actions:?}");
        let first = Attempt { id: JobId(1), number: 1 };
        engine.completing(NOW, SessionId(1), 1, None, [first], &mut actions);
        let sweep =
            |action: &Action| matches!(action, Action::Claim { from: ClaimFrom::Sweep, .. });
        assert!(actions.iter().any(sweep), "{actions:?}");
    }

    #[test]
    fn a_paused_queue_takes_nothing_and_gives_back_what_no_worker_has() {
        let (mut engine, mut actions) = (with_session(), Vec::new());
        assert!(store(&mut engine, 1, &mut actions) && store(&mut engine, 2, &mut actions));
        let mut on_the_way = [storing(3)];
        engine.configure(NOW, QUEUE, rules(1, true), &mut actions);
        assert_eq!((engine.held_count(), engine.buffered_count()), (1, 0));
        engine.storing(&mut on_the_way);
        assert!(!on_the_way[0].taken, "taken though it is paused");
        actions.clear();
        engine.tick(NOW, &mut actions);
        engine.ready(NOW, QUEUE, [(0, JobId(2))], &mut actions);
        assert!(engine.hungry().is_empty() && actions.is_empty(), "{actions:?}");
    }

    #[test]
    fn what_was_on_its_way_at_the_pause_is_given_back_when_it_comes() {
        let (mut engine, mut actions) = (with_session(), Vec::new());
        let mut jobs = [storing(1)];
        engine.storing(&mut jobs);
        engine.configure(NOW, QUEUE, rules(1, true), &mut actions);
        engine.stored(NOW, &jobs, [(QUEUE, taken(JobId(1), 1, 0))], &mut actions);
        assert!(matches!(&actions[..], [Action::GiveBack { jobs }] if jobs.len() == 1));
    }

    #[test]
    fn a_resumed_queue_looks_at_its_backlog_before_it_takes_directly() {
        let (mut engine, mut actions) = (with_session(), Vec::new());
        engine.configure(NOW, QUEUE, rules(1, true), &mut actions);
        engine.configure(NOW, QUEUE, rules(2, false), &mut actions);
        assert!(matches!(actions[..], [Action::Claim { .. }]), "{actions:?}");
        assert!(!store(&mut engine, 1, &mut actions));
    }

    #[test]
    fn what_was_read_before_a_change_does_not_undo_it() {
        let (mut engine, mut actions) = (with_session(), Vec::new());
        engine.configure(NOW, QUEUE, rules(2, true), &mut actions);
        engine.configure(NOW, QUEUE, rules(1, false), &mut actions);
        assert!(!store(&mut engine, 1, &mut actions) && actions.is_empty());
    }
}
