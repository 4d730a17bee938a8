use super::World;
use crate::{
    domain::{KeyLimits, QueueId, QueueRules},
    engine::Action,
};

impl World {
    /// A pause or its end is written, as any broker may do.
    pub(super) fn pause(&mut self, queue: QueueId, paused: bool) {
        self.write(queue, QueueRules { paused, ..self.rules_of(queue) });
    }

    pub(super) fn write(&mut self, queue: QueueId, rules: QueueRules) {
        let version = 1 + self.rules.values().map(|rules| rules.version).max().unwrap_or(0);
        self.rules.insert(queue, QueueRules { version, ..rules });
    }

    /// The dispatcher hears of all changes; what it heard before comes once more, late.
    pub(super) fn tell_rules(&mut self, actions: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.told, self.rules.clone());
        for (queue, rules) in self.rules.clone().into_iter().chain(before.clone()) {
            self.dispatcher.configure(self.now, queue, rules, actions);
        }
        let told = &self.told;
        let of_keys = |queue: &QueueId| told[queue].limits.key;
        let known = |queue: &QueueId| before.get(queue).map(|rules| rules.limits.key);
        self.owned.retain(|queue| {
            told[queue].limits.are_any()
                && known(queue).unwrap_or(KeyLimits::NONE) == of_keys(queue)
        });
    }
}
