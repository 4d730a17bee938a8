use super::World;
use crate::{
    domain::{QueueId, QueueRules},
    engine::Action,
};

impl World {
    /// A pause or its end is written, as any broker may do.
    pub(super) fn pause(&mut self, queue: QueueId, paused: bool) {
        let version = 1 + self.rules.values().map(|rules| rules.version).max().unwrap_or(0);
        self.rules.insert(queue, QueueRules { version, paused, timeout_ms: None });
    }

    /// The dispatcher hears of all changes; what it heard before comes once more, late.
    pub(super) fn tell_rules(&mut self, actions: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.told, self.rules.clone());
        for (queue, rules) in self.rules.clone().into_iter().chain(before) {
            self.dispatcher.configure(self.now, queue, rules, actions);
        }
    }
}
