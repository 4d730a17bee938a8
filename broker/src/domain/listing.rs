use super::{JobId, QueueId, State};

/// Which jobs of a queue are wanted, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub queue: QueueId,
    /// Empty: any.
    pub states: Vec<State>,
    pub kind: Option<String>,
    /// A part of the error, in any case.
    pub error: Option<String>,
    /// As [`JobOptions::searchable`](super::JobOptions::searchable) has it.
    pub tag: Option<String>,
    /// Only ids above this one.
    pub above: JobId,
    /// Only ids below this one.
    pub below: JobId,
    pub newest_first: bool,
}

impl Listing {
    /// Goes on behind this id.
    pub fn pass(&mut self, id: JobId) {
        if self.newest_first {
            self.below = self.below.min(id);
        } else {
            self.above = self.above.max(id);
        }
    }

    /// Whether only dead jobs are wanted.
    pub fn only_dead(&self) -> bool {
        self.states == [State::Dead]
    }
}
