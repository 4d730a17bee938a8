use super::{World, model::Phase};
use crate::{
    domain::{Attempt, JobId, QueueId},
    engine::{Action, Heartbeat, SessionId, SessionRequest, ToStop},
};

impl World {
    pub(super) fn subscribe(
        &mut self,
        session: u128,
        queues: &[i32],
        credit: usize,
        keeps: bool,
        actions: &mut Vec<Action>,
    ) {
        let worker = self.workers.get_mut(&session).unwrap();
        if !keeps {
            worker.held.clear();
        }
        worker.queues = queues.iter().map(|queue| QueueId(*queue)).collect();
        worker.credit = credit;
        worker.attached = true;
        let held: Vec<Attempt> =
            worker.held.iter().map(|(id, number)| Attempt { id: *id, number: *number }).collect();
        let request = SessionRequest {
            session: SessionId(session),
            worker: "".into(),
            queues: worker.queues.clone(),
            max_in_flight: credit,
            concurrency: credit.div_ceil(2),
            held,
            adopted: Vec::new(),
        };
        let opened = self.dispatcher.subscribe(self.now, request, actions);
        let worker = self.workers.get_mut(&session).unwrap();
        worker.epoch = opened.epoch;
        for lost in opened.lost {
            worker.held.remove(&lost.id);
        }
        let leased = self.dispatcher.leased(SessionId(session));
        for (id, number) in &worker.held {
            assert!(leased.contains(&(*id, *number)), "held and not lost, but not leased");
        }
    }

    pub(super) fn goes_elsewhere(&mut self, session: u128, actions: &mut Vec<Action>) {
        let worker = self.workers.get_mut(&session).unwrap();
        worker.attached = false;
        let (held, epoch) = (std::mem::take(&mut worker.held), worker.epoch);
        for (id, number) in held {
            let attempt = Attempt { id, number };
            if self.is_under_way(attempt) {
                self.elsewhere.insert((self.rows[&id].queue, attempt));
            }
        }
        self.dispatcher.stream_ended(self.now, SessionId(session), epoch, actions);
    }

    pub(super) fn complete(
        &mut self,
        session: u128,
        count: usize,
        knows_session: bool,
        actions: &mut Vec<Action>,
    ) {
        let worker = self.workers.get_mut(&session).unwrap();
        let ids: Vec<JobId> = worker.held.keys().copied().take(count).collect();
        if ids.is_empty() {
            return;
        }
        let attempts: Vec<Attempt> = ids
            .iter()
            .map(|id| Attempt { id: *id, number: worker.held.remove(id).unwrap() })
            .collect();
        let named = SessionId(if knows_session { session } else { 0 });
        let completings = self.dispatcher.completing(self.now, named, 0, None, attempts, actions);
        self.completions.push((named, completings));
    }

    pub(super) fn end_completion(
        &mut self,
        which: usize,
        commits: bool,
        actions: &mut Vec<Action>,
    ) {
        if self.completions.is_empty() {
            return;
        }
        let (session, completings) = self.completions.swap_remove(which % self.completions.len());
        if !commits {
            self.dispatcher.completion_failed(self.now, session, &completings, actions);
            // The worker holds on to what it couldn't report.
            for completing in completings {
                let Attempt { id, number } = completing.attempt;
                for (other, worker) in &mut self.workers {
                    if self.dispatcher.leased(SessionId(*other)).contains(&(id, number)) {
                        worker.held.insert(id, number);
                    }
                }
            }
            return;
        }
        for completing in &completings {
            let Attempt { id, number } = completing.attempt;
            let row = self.rows.get_mut(&id).unwrap();
            if row.attempt == number && row.phase == Phase::Taken {
                row.phase = Phase::Done;
                *self.completed.entry(id).or_default() += 1;
            }
        }
        self.dispatcher.completed(self.now, session, &completings, actions);
    }

    pub(super) fn heartbeat(
        &mut self,
        session: u128,
        credit: Option<usize>,
        acknowledges: bool,
        actions: &mut Vec<Action>,
    ) {
        let worker = self.workers.get_mut(&session).unwrap();
        let held: Vec<Attempt> =
            worker.held.iter().map(|(id, number)| Attempt { id: *id, number: *number }).collect();
        let heartbeat = Heartbeat {
            session: SessionId(session),
            epoch: worker.epoch,
            received_seq: if acknowledges { worker.received_seq } else { 0 },
            held,
            max_in_flight: credit,
        };
        let to_stop = self.dispatcher.heartbeat(self.now, &heartbeat, actions);
        if let Ok(ToStop { cancelled, lost }) = to_stop {
            worker.credit = credit.unwrap_or(worker.credit);
            for attempt in &cancelled {
                // The cancel has used up a number, whatever became of the job then.
                assert!(self.rows[&attempt.id].attempt > attempt.number);
            }
            for attempt in cancelled.into_iter().chain(lost) {
                worker.held.remove(&attempt.id);
            }
        }
    }
}
