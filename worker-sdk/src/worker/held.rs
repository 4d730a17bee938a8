//! What the worker holds: delivered, and not yet answered with a verdict.

use std::collections::hash_map::Entry;

use currant_proto::v1;

use super::attempts::{Attempt, AttemptMap};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waiting or running.
    Open,
    /// Its outcome waits for the broker's answer.
    Finished,
}

/// The attempts of one session. Each is added by its delivery and removed by its verdict or its
/// loss.
#[derive(Debug, Default)]
pub(super) struct Held {
    attempts: AttemptMap<Stage>,
}

impl Held {
    /// An attempt was delivered. False if it is held already.
    pub(super) fn deliver(&mut self, attempt: Attempt) -> bool {
        match self.attempts.entry(attempt) {
            Entry::Vacant(vacant) => {
                vacant.insert(Stage::Open);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Its outcome is there. False if the attempt was lost: nobody wants to know.
    pub(super) fn finish(&mut self, attempt: Attempt) -> bool {
        match self.attempts.get_mut(&attempt) {
            Some(stage) => {
                *stage = Stage::Finished;
                true
            }
            None => false,
        }
    }

    /// Its outcome was answered, or given up.
    pub(super) fn settle(&mut self, attempt: Attempt) {
        self.attempts.remove(&attempt);
    }

    /// It isn't the worker's any more. False if it is finished, for then the verdict will tell, or if
    /// it isn't held.
    pub(super) fn lose(&mut self, attempt: Attempt) -> bool {
        let open = self.attempts.get(&attempt) == Some(&Stage::Open);
        if open {
            self.attempts.remove(&attempt);
        }
        open
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.attempts.len()
    }

    /// For a message: those still open first, since a finished one needs no protection once the
    /// broker has its outcome. At most `max`.
    pub(super) fn list(&self, max: usize) -> Vec<v1::Attempt> {
        let of = |wanted| {
            let all = self.attempts.iter().filter(move |(_, stage)| **stage == wanted);
            all.map(|(attempt, _)| v1::Attempt::from(*attempt))
        };
        let mut list: Vec<_> = of(Stage::Open).take(max).collect();
        let room = max - list.len();
        list.extend(of(Stage::Finished).take(room));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobId;

    fn attempt(job: i64, number: u32) -> Attempt {
        Attempt { job: JobId(job), number }
    }

    #[test]
    fn an_attempt_is_held_from_delivery_to_verdict() {
        let mut held = Held::default();
        assert!(held.deliver(attempt(1, 1)) && held.deliver(attempt(1, 2)));
        assert!(!held.deliver(attempt(1, 1)));
        assert!(held.finish(attempt(1, 1)));
        assert!(!held.deliver(attempt(1, 1)), "still held, and still finished");
        assert!(!held.lose(attempt(1, 1)), "the verdict will tell");
        assert_eq!(held.len(), 2);
        held.settle(attempt(1, 1));
        assert!(held.lose(attempt(1, 2)));
        assert!(!held.finish(attempt(1, 2)), "lost: not to be reported");
        assert!(held.is_empty());
    }

    #[test]
    fn the_list_is_bounded_and_open_attempts_come_first() {
        let mut held = Held::default();
        for id in 0..10 {
            held.deliver(attempt(id, 1));
        }
        for id in 0..7 {
            held.finish(attempt(id, 1));
        }
        let list = held.list(5);
        assert_eq!(list.len(), 5);
        assert_eq!(list.iter().filter(|one| one.job_id >= 7).count(), 3);
        assert_eq!(held.list(100).len(), 10);
    }
}
