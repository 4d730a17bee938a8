use std::{sync::Arc, time::Duration};

use super::{
    World,
    model::{Phase, key_named, taken_row},
};
use crate::{
    domain::{JobId, QueueId, TakenJob},
    engine::{Action, ClaimFrom, KeyClaim, Walked},
};

/// A claim in flight.
#[derive(Debug)]
pub(super) enum Claiming {
    Plain { queue: QueueId, from: ClaimFrom, limit: usize },
    Keys { queue: QueueId, claim: KeyClaim },
}

const TOOK: Duration = Duration::from_millis(1);

impl World {
    /// A claim in flight ends.
    pub(super) fn end_claim(
        &mut self,
        which: usize,
        commits: bool,
        cancels: bool,
        actions: &mut Vec<Action>,
    ) {
        if self.claims.is_empty() {
            return;
        }
        match self.claims.swap_remove(which % self.claims.len()) {
            Claiming::Plain { queue, limit, .. } if !commits => {
                self.dispatcher.claim_failed(self.now, queue, limit);
            }
            Claiming::Keys { queue, .. } if !commits => {
                if self.told.get(&queue).is_some_and(|rules| rules.limits.key.are_any()) {
                    self.owned.remove(&queue);
                }
                self.dispatcher.claim_keys_failed(self.now, queue, actions);
            }
            Claiming::Plain { queue, from, limit } => {
                let jobs = self.claim_plain(queue, from, limit);
                self.cancel_first(cancels, &jobs, actions);
                self.dispatcher.claimed(self.now, TOOK, queue, limit, jobs, actions);
            }
            Claiming::Keys { queue, claim } => {
                let (walked, jobs) = self.claim_keys(queue, &claim);
                self.cancel_first(cancels, &jobs, actions);
                self.dispatcher.claimed_keys(self.now, TOOK, queue, &walked, jobs, actions);
            }
        }
    }

    fn cancel_first(&mut self, cancels: bool, jobs: &[TakenJob], actions: &mut Vec<Action>) {
        if let Some(job) = jobs.first().filter(|_| cancels) {
            self.cancel(job.id);
            self.tell_cancelled(actions);
        }
    }

    /// Those of one key, 0: without; in the order of a claim.
    fn ready_of(&self, queue: QueueId, key: u8) -> Vec<(i16, JobId)> {
        let ready = self
            .rows
            .iter()
            .filter(|(_, row)| row.queue == queue && row.phase == Phase::Ready && row.key == key);
        let mut ready: Vec<_> = ready.map(|(id, row)| (-row.priority, *id)).collect();
        ready.sort_unstable();
        ready
    }

    fn take(&mut self, id: JobId) -> TakenJob {
        let row = self.rows.get_mut(&id).unwrap();
        row.phase = Phase::Taken;
        row.attempt += 1;
        TakenJob { key: key_named(row.key), ..taken_row(id, row.attempt, row.priority) }
    }

    fn claim_plain(&mut self, queue: QueueId, from: ClaimFrom, limit: usize) -> Vec<TakenJob> {
        let wanted = |(priority, id): &(i16, JobId)| match from {
            ClaimFrom::Sweep => true,
            ClaimFrom::Cursor { priority: of, after } => -priority == of && *id > after,
        };
        let ready = self.ready_of(queue, 0).into_iter().filter(wanted).take(limit);
        ready.map(|(_, id)| self.take(id)).collect()
    }

    fn term_of(&self, queue: QueueId) -> i64 {
        self.terms.get(&queue).copied().unwrap_or_default()
    }

    fn claim_keys(&mut self, queue: QueueId, claim: &KeyClaim) -> (Walked, Vec<TakenJob>) {
        let (mut walked, mut jobs) = (Walked::default(), Vec::new());
        if claim.limited.is_some_and(|limited| limited.term != self.term_of(queue)) {
            return (walked, jobs);
        }
        let ordered = claim.limited.is_some_and(|limited| limited.ordered);
        for number in 1..=super::KEYS {
            let key: Arc<str> = key_named(number).unwrap();
            let within =
                key > claim.after && claim.until.as_ref().is_none_or(|until| key <= *until);
            let mut ready = self.ready_of(queue, number);
            if ordered {
                ready.sort_unstable_by_key(|(_, id)| *id);
            }
            if !within || ready.is_empty() || walked.keys == claim.keys_max {
                continue;
            }
            let share = claim.shares.get(&key).copied().unwrap_or(claim.each);
            for (_, id) in ready.into_iter().take(share.min(claim.limit - jobs.len())) {
                jobs.push(self.take(id));
            }
            walked = Walked { keys: walked.keys + 1, last: Some(key) };
        }
        (walked, jobs)
    }
}
