use std::{collections::HashSet, time::Duration};

use super::{Action, Dispatcher, SessionId};
use crate::domain::Attempt;

/// No session has this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSession;

/// A worker shows life.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    pub session: SessionId,
    pub epoch: u64,
    pub received_seq: u64,
    /// What the worker says it holds.
    pub held: Vec<Attempt>,
    /// New credit; `None`: as before.
    pub max_in_flight: Option<usize>,
}

/// Of what a worker says it holds, what it has to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToStop {
    /// Cancelled by a call.
    pub cancelled: Vec<Attempt>,
    /// Not the worker's own any more.
    pub lost: Vec<Attempt>,
}

impl Dispatcher {
    /// Returns what of `held` the worker has to stop.
    pub fn heartbeat(
        &mut self,
        now: Duration,
        heartbeat: &Heartbeat,
        actions: &mut Vec<Action>,
    ) -> Result<ToStop, UnknownSession> {
        let &Heartbeat { session, epoch, received_seq, ref held, max_in_flight } = heartbeat;
        let index = *self.by_id.get(&session).ok_or(UnknownSession)?;
        let state = &mut self.sessions[index];
        state.seen_at = now;
        if epoch == state.epoch {
            state.acknowledge(received_seq.min(state.seq));
        }
        if let Some(credit) = max_in_flight {
            self.set_credit(index, credit);
        }
        self.deliver_session(now, index, actions);
        self.claim_for_session(now, index, actions);
        for at in 0..self.sessions[index].queues.len() {
            let queue = self.sessions[index].queues[at];
            self.give_back_excess(queue, actions);
        }
        let lost = self.not_held(session, held);
        let reminded = &mut self.sessions[index].cancelled;
        if reminded.is_empty() {
            return Ok(ToStop { cancelled: Vec::new(), lost });
        }
        let (cancelled, lost) = lost.into_iter().partition(|attempt| reminded.contains(attempt));
        // What it doesn't hold it needn't be told again.
        *reminded = HashSet::from_iter(Vec::clone(&cancelled));
        Ok(ToStop { cancelled, lost })
    }

    fn set_credit(&mut self, index: usize, credit: usize) {
        let session = &mut self.sessions[index];
        let before = std::mem::replace(&mut session.max_in_flight, credit);
        if session.attached {
            for queue in session.queues.clone() {
                let state = self.queue(queue);
                state.credit = state.credit - before + credit;
            }
        }
    }
}
