use std::time::Duration;

use super::{Action, Dispatcher};
use crate::domain::{JobId, QueueId, TakenJob};

/// A job about to be inserted.
#[derive(Clone, Copy, Debug)]
pub struct Storing {
    pub queue: QueueId,
    pub id: JobId,
    pub priority: i16,
    /// What it takes in memory.
    pub bytes: usize,
    /// Inserted as taken by this broker; else it goes to the backlog.
    pub taken: bool,
    /// Whether it has a key: then it goes to the backlog, where keys take turns.
    pub keyed: bool,
}

impl Dispatcher {
    /// Decides which of the jobs that start at once are taken while they're inserted: those of queues
    /// with sessions and room, and no older row of the same or a higher priority. Each call is
    /// followed by `stored` or `not_stored` with the same jobs.
    pub fn storing(&mut self, jobs: &mut [Storing]) {
        for job in jobs {
            job.taken = self.takes(job);
            let queue = self.queue(job.queue);
            if job.taken {
                queue.reserved += 1;
                self.buffered_bytes += job.bytes;
            } else if !job.keyed {
                queue.backlog.storing();
            }
        }
    }

    fn takes(&mut self, job: &Storing) -> bool {
        if job.keyed
            || self.draining
            || self.throttled
            || self.buffered_bytes + job.bytes > self.limits.buffered_bytes_max
        {
            return false;
        }
        let queue = self.queue(job.queue);
        queue.room_for(job.priority) > 0
            && queue.backlog.allows_direct(job.priority)
            && !queue.keys.are_waiting()
    }

    /// The insert committed. `taken` are the jobs that `storing` chose.
    pub fn stored(
        &mut self,
        now: Duration,
        jobs: &[Storing],
        taken: impl IntoIterator<Item = (QueueId, TakenJob)>,
        actions: &mut Vec<Action>,
    ) {
        let touched = self.end_storing(jobs);
        for job in jobs.iter().filter(|job| !job.taken) {
            let state = self.queue(job.queue);
            state.enqueued += 1;
            if job.keyed {
                state.keys.note();
            } else {
                state.backlog.note(job.priority, job.id);
            }
        }
        for (queue, job) in taken {
            if self.is_cancelled(job.id, job.attempt) {
                continue;
            }
            self.buffered_bytes += job.bytes();
            let state = self.queue(queue);
            state.enqueued += 1;
            state.take(now, job);
        }
        for queue in touched {
            self.deliver_queue(now, queue, actions);
        }
    }

    /// The insert failed. `maybe`: it isn't known whether it committed.
    pub fn not_stored(&mut self, jobs: &[Storing], maybe: bool) {
        for queue in self.end_storing(jobs) {
            if maybe {
                self.queue(queue).backlog.notify();
            }
        }
        for job in jobs.iter().filter(|job| maybe && job.keyed) {
            self.queue(job.queue).keys.note();
        }
    }

    /// Undoes the reservations; returns the queues concerned, each once.
    fn end_storing(&mut self, jobs: &[Storing]) -> Vec<QueueId> {
        let mut touched: Vec<QueueId> = Vec::new();
        for job in jobs {
            if job.taken {
                self.buffered_bytes -= job.bytes;
            }
            let queue = self.queue(job.queue);
            if job.taken {
                queue.reserved -= 1;
            } else if !job.keyed {
                queue.backlog.storing_ended(1);
            }
            // A batch is of few queues, mostly in runs.
            if touched.last() != Some(&job.queue) && !touched.contains(&job.queue) {
                touched.push(job.queue);
            }
        }
        touched
    }
}
