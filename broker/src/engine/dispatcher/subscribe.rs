use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Action, Dispatcher, SessionId};
use crate::{
    domain::{Adopted, Attempt, JobId, JobKey, QueueId},
    engine::{
        places::Place,
        session::{Lease, Session},
    },
};

/// What a worker asks for when it opens a stream.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    pub session: SessionId,
    /// For people.
    pub worker: Arc<str>,
    pub queues: Vec<QueueId>,
    pub max_in_flight: usize,
    pub concurrency: usize,
    /// What the worker says it holds.
    pub held: Vec<Attempt>,
    /// Those of `held` that no session of this broker had and that were taken over in the database.
    pub adopted: Vec<Adopted>,
}

/// A stream is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub epoch: u64,
    /// Of what the worker says it holds, what isn't its own any more.
    pub lost: Vec<Attempt>,
}

impl Dispatcher {
    /// The name of the session's worker; empty if the session isn't known.
    pub fn worker_of(&self, session: SessionId) -> Arc<str> {
        let index = self.by_id.get(&session);
        index.map_or_else(Arc::default, |index| Arc::clone(&self.sessions[*index].worker))
    }

    /// Of the attempts that a worker presents, those that the session doesn't hold here: they may be
    /// taken over in the database.
    pub fn not_held(&self, session: SessionId, held: &[Attempt]) -> Vec<Attempt> {
        let leases = self.by_id.get(&session).map(|&index| &self.sessions[index].leases);
        let holds = |attempt: &Attempt| {
            leases
                .and_then(|leases| leases.get(&attempt.id))
                .is_some_and(|lease| lease.attempt == attempt.number)
        };
        held.iter().filter(|attempt| !holds(attempt)).copied().collect()
    }

    /// Whether one session more may be opened.
    pub fn has_room_for(&self, session: SessionId) -> bool {
        self.by_id.contains_key(&session) || self.sessions.len() < self.limits.sessions_max
    }

    /// Opens a session or resumes it on a new stream, which replaces the older one.
    pub fn subscribe(
        &mut self,
        now: Duration,
        request: SessionRequest,
        actions: &mut Vec<Action>,
    ) -> Opened {
        let index = match self.by_id.get(&request.session) {
            Some(&index) => index,
            None => {
                let index = self.sessions.insert(Session::new(request.session, now));
                self.by_id.insert(request.session, index);
                index
            }
        };
        let before =
            if self.sessions[index].attached { self.unsubscribe(index, now) } else { Vec::new() };
        let lost = self.settle_held(now, index, &request, actions);

        self.epoch += 1;
        let session = &mut self.sessions[index];
        session.epoch = self.epoch;
        session.worker = Arc::clone(&request.worker);
        session.attached = true;
        session.seen_at = now;
        session.keep_alive_at = now + self.limits.keep_alive_interval;
        session.max_in_flight = request.max_in_flight;
        session.concurrency = request.concurrency;
        session.queues.clone_from(&request.queues);
        session.turn = 0;
        session.taken_back = 0;
        let (epoch, run_time) = (session.epoch, session.run_time);
        for &queue in &request.queues {
            let state = self.queue(queue);
            if state.line.is_empty() {
                state.forget_backlog();
            }
            state.line.join(index, run_time);
            state.credit += request.max_in_flight;
            let owned = state.gate.as_ref().is_none_or(|gate| gate.owned);
            self.wants_to_own |= !owned;
        }
        self.stand_in_lines(index);
        for queue in request.queues {
            self.deliver_queue(now, queue, actions);
        }
        for queue in before {
            self.give_back_excess(queue, actions);
        }
        self.deliver_freed(now, actions);
        Opened { epoch, lost }
    }

    /// Compares what the worker holds with what the session holds.
    fn settle_held(
        &mut self,
        now: Duration,
        index: usize,
        request: &SessionRequest,
        actions: &mut Vec<Action>,
    ) -> Vec<Attempt> {
        for &Adopted { attempt, queue, timeout } in &request.adopted {
            if self.is_cancelled(attempt.id, attempt.number) {
                continue;
            }
            let default = self.queue(queue).rules.timeout_ms.map(Duration::from_millis);
            let deadline = timeout.or(default).map(|timeout| now + timeout);
            let lease = Lease {
                queue,
                attempt: attempt.number,
                seq: 0,
                completing: false,
                deadline,
                delivered_at: None,
            };
            // An earlier attempt, if there is one.
            if let Some(lease) = self.sessions[index].leases.get(&attempt.id) {
                let earlier = Attempt { id: attempt.id, number: lease.attempt };
                self.end_lease(index, attempt.id);
                self.over(now, queue, earlier);
            }
            let session = &mut self.sessions[index];
            session.leases.insert(attempt.id, lease);
            session.outstanding += 1;
            self.deadlines.extend(deadline.map(|at| (at, index, attempt.id)));
            let state = self.queue(queue);
            state.held += 1;
            if let Some(gate) = &mut state.gate {
                gate.elsewhere.remove(&attempt);
                if let Some(places) = &mut gate.places {
                    places.move_to(attempt, Place::Held);
                }
            }
        }
        let held: HashMap<JobId, i32> =
            request.held.iter().map(|attempt| (attempt.id, attempt.number)).collect();
        let session = &mut self.sessions[index];
        // The worker has seen all it ever will of the older stream.
        session.acknowledge(u64::MAX);
        // What it still holds of these it is told as lost.
        session.cancelled.clear();
        let forgotten: Vec<(JobKey, i32)> = session
            .leases
            .iter()
            .filter(|(id, lease)| !lease.completing && held.get(id) != Some(&lease.attempt))
            .map(|(id, lease)| (JobKey { queue: lease.queue, id: *id }, lease.attempt))
            .collect();
        for (key, _) in &forgotten {
            self.end_lease(index, key.id);
        }
        if !forgotten.is_empty() {
            actions.push(Action::GiveBack { jobs: forgotten });
        }
        self.not_held(request.session, &request.held)
    }

    /// A stream ended. Only that of the newest epoch counts.
    pub fn stream_ended(
        &mut self,
        now: Duration,
        session: SessionId,
        epoch: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(&index) = self.by_id.get(&session) else { return };
        if self.sessions[index].epoch != epoch || !self.sessions[index].attached {
            return;
        }
        for queue in self.unsubscribe(index, now) {
            self.give_back_excess(queue, actions);
        }
        let state = &self.sessions[index];
        if state.leases.is_empty() {
            self.remove_session(index);
        }
    }

    /// Takes the session out of its queues.
    pub(super) fn unsubscribe(&mut self, index: usize, now: Duration) -> Vec<QueueId> {
        let session = &mut self.sessions[index];
        session.attached = false;
        session.detached_at = now;
        let (credit, run_time) = (session.max_in_flight, session.run_time);
        let queues = session.queues.clone();
        for queue in &queues {
            let state = self.queue(*queue);
            state.line.leave(index, run_time);
            state.credit -= credit;
        }
        queues
    }

    /// Ends one lease, its credit and its timeout.
    pub(super) fn end_lease(&mut self, index: usize, id: JobId) {
        let session = &mut self.sessions[index];
        let Some(lease) = session.leases.remove(&id) else { return };
        if let Some(at) = lease.deadline {
            self.deadlines.remove(&(at, index, id));
        }
        if !lease.completing {
            session.outstanding -= 1;
            self.queue(lease.queue).held -= 1;
            self.unsure(lease.queue, Attempt { id, number: lease.attempt });
            self.freed(lease.queue);
        }
    }

    /// Forgets a session that is detached and holds nothing open.
    pub(super) fn remove_session(&mut self, index: usize) {
        let session = self.sessions.remove(index);
        self.by_id.remove(&session.id);
        let completing = session.leases.iter();
        self.ending.extend(
            completing.map(|(id, lease)| (JobKey { queue: lease.queue, id: *id }, lease.attempt)),
        );
    }

    #[cfg(test)]
    pub(crate) fn leased(&self, session: SessionId) -> std::collections::HashSet<(JobId, i32)> {
        self.by_id.get(&session).map_or_else(Default::default, |&index| {
            let leases = &self.sessions[index].leases;
            leases.iter().map(|(id, lease)| (*id, lease.attempt)).collect()
        })
    }
}
