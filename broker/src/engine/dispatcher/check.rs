//! The invariants of the dispatcher, which the simulation checks after every step.

use std::time::Duration;

use super::{Dispatcher, Queue};
use crate::{
    domain::{Attempt, QueueId},
    engine::places::Place,
};

impl Queue {
    /// Jobs with keys in the buffer have a place each, where keys are limited, and nobody else has one there.
    fn check_places(&self) {
        let Some(places) = self.gate.as_ref().and_then(|gate| gate.places.as_ref()) else { return };
        let mut placed: Vec<Attempt> = places
            .attempts()
            .filter(|(_, place)| *place == Place::Buffered)
            .map(|(attempt, _)| attempt)
            .collect();
        let mut buffered: Vec<Attempt> = self
            .buffer
            .iter()
            .filter(|job| job.key.is_some())
            .map(|job| Attempt { id: job.id, number: job.attempt })
            .collect();
        placed.sort_unstable();
        buffered.sort_unstable();
        assert_eq!(placed, buffered);
    }
}

impl Dispatcher {
    /// Attempts that have places of their keys.
    pub(crate) fn placed(&self) -> usize {
        let gates = self.queues.values().filter_map(|queue| queue.gate.as_ref());
        gates.filter_map(|gate| gate.places.as_ref()).map(|places| places.attempts().count()).sum()
    }

    /// Whether jobs with keys are looked for, now or as soon as there is room and a rest is over.
    pub(crate) fn looks_for_keys(&self, queue: QueueId) -> bool {
        self.queues.get(&queue).is_some_and(|queue| queue.keys.look())
    }

    /// The invariants of the module's doc.
    pub(crate) fn check(&self) {
        let mut bytes = 0;
        for (id, queue) in &self.queues {
            let sessions = || queue.line.sessions().map(|index| &self.sessions[index]);
            assert!(sessions().all(|session| session.attached && session.queues.contains(id)));
            let run_time: Duration = sessions().map(|session| session.run_time).sum();
            assert_eq!(queue.line.run_time(), run_time);
            assert_eq!(
                queue.credit,
                sessions().map(|session| session.max_in_flight).sum::<usize>()
            );
            let held = self
                .sessions
                .iter()
                .flat_map(|(_, session)| session.leases.values())
                .filter(|lease| lease.queue == *id && !lease.completing)
                .count();
            assert_eq!(queue.held, held);
            let owned = queue.gate.as_ref().is_none_or(|gate| gate.owned);
            let wanted = !queue.line.is_empty() && !queue.rules.paused && owned;
            assert!(wanted || queue.buffer.is_empty(), "kept for nobody");
            queue.check_places();
            bytes += queue.buffer.bytes();
        }
        assert!(self.buffered_bytes >= bytes);
        for (index, session) in &self.sessions {
            assert_eq!(self.by_id[&session.id], index);
            let open = session.leases.values().filter(|lease| !lease.completing).count();
            assert_eq!(session.outstanding, open);
            let unacknowledged: usize = session.unacknowledged.iter().map(|sent| sent.bytes).sum();
            assert_eq!(session.unacknowledged_bytes, unacknowledged);
            let has_room = session.free(self.limits.unacknowledged_bytes_max) > 0;
            for queue in session.queues.iter().filter(|_| has_room) {
                let load = self.queues[queue].line.load(index);
                assert!(load.is_some_and(|load| load <= session.load()), "too far behind");
            }
        }
        assert!(
            self.deadlines
                .iter()
                .all(|(_, index, id)| self.sessions[*index].leases.contains_key(id))
        );
    }
}
