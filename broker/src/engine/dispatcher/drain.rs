use super::{Action, Dispatcher};
use crate::domain::QueueId;

impl Dispatcher {
    /// Begins the end: no job is taken or delivered any more, what no worker has is given back, and
    /// every worker is told.
    pub fn drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        let queues: Vec<QueueId> = self.queues.keys().copied().collect();
        for queue in queues {
            self.give_back_excess(queue, actions);
        }
        for (_, session) in self.sessions.iter().filter(|(_, session)| session.attached) {
            actions.push(Action::Drain { session: session.id });
        }
    }

    pub fn draining(&self) -> bool {
        self.draining
    }

    /// Whether nothing is held or on its way.
    pub fn drained(&self) -> bool {
        let on_the_way = self.queues.values().any(|queue| queue.reserved > 0);
        self.completing == 0 && !on_the_way && self.held_count() == 0 && self.buffered_count() == 0
    }
}
