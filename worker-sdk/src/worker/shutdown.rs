//! The steps of an orderly end: no more credit, give back what waits, let what runs finish, stop
//! the rest, and have every outcome answered.

use std::time::Duration;

use tokio::time::Instant;

/// After what ran has been stopped, so long is left for the last outcomes to be answered.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Running,
    /// The broker is being told that no credit is left. What is given back before it knows would be
    /// delivered to this worker again.
    Withdrawing,
    Finishing,
    Stopped,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Stop what runs.
    Abort,
    /// The time is over.
    GiveUp,
}

pub(super) struct Shutdown {
    timeout: Duration,
    step: Step,
    abort_at: Option<Instant>,
    give_up_at: Option<Instant>,
}

impl Shutdown {
    pub(super) fn new(timeout: Duration) -> Shutdown {
        Shutdown { timeout, step: Step::Running, abort_at: None, give_up_at: None }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.step != Step::Running
    }

    /// Whether no new job comes any more.
    pub(super) fn is_withdrawn(&self) -> bool {
        matches!(self.step, Step::Finishing | Step::Stopped)
    }

    /// False if it has begun before.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if self.has_begun() {
            return false;
        }
        self.step = Step::Withdrawing;
        // A time-out beyond all reason means none.
        self.abort_at = now.checked_add(self.timeout);
        self.give_up_at = self.abort_at.and_then(|at| at.checked_add(LAST_ANSWERS));
        true
    }

    /// The broker knows that there is no credit, or can't be told. True the first time: what waits
    /// can be given back.
    pub(super) fn withdrawn(&mut self) -> bool {
        let first = self.step == Step::Withdrawing;
        if first {
            self.step = Step::Finishing;
        }
        first
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        if self.give_up_at.is_some_and(|at| at <= now) {
            return Some(Due::GiveUp);
        }
        if self.abort_at.take_if(|at| *at <= now).is_some() {
            self.step = Step::Stopped;
            return Some(Due::Abort);
        }
        None
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.abort_at.or(self.give_up_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_steps_come_in_order_and_once() {
        let start = clock::now();
        let mut shutdown = Shutdown::new(Duration::from_secs(30));
        assert_eq!((shutdown.has_begun(), shutdown.deadline()), (false, None));
        assert!(shutdown.begin(start) && !shutdown.begin(start));
        assert!(shutdown.withdrawn() && !shutdown.withdrawn());
        assert_eq!(shutdown.take_due(start + Duration::from_secs(29)), None);
        assert_eq!(shutdown.deadline(), Some(start + Duration::from_secs(30)));
        let stop_at = start + Duration::from_secs(30);
        assert_eq!(shutdown.take_due(stop_at), Some(Due::Abort));
        assert_eq!(shutdown.take_due(stop_at), None);
        assert_eq!(shutdown.take_due(stop_at + LAST_ANSWERS), Some(Due::GiveUp));
    }
}
