use std::{collections::BTreeSet, mem};

use super::sync::Mutex;
use crate::domain::ReadyIn;

/// What other brokers have to be told. One task tells at a time, for as long as there is something; whoever
/// adds to it hears whether that task has to begin.
#[derive(Default)]
pub(super) struct Untold(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether other brokers are there.
    others: bool,
    /// While there are none, of what somebody who comes would have to be told: at most twice as much as
    /// there are queues.
    ready: BTreeSet<ReadyIn>,
    /// Attempts were cancelled which they hold.
    cancels: bool,
    telling: bool,
}

impl Untold {
    /// Somewhere are ready jobs.
    pub(super) fn add(&self, ready: impl IntoIterator<Item = ReadyIn>) -> bool {
        let mut state = self.0.lock();
        let mut last = None;
        // A batch is of few queues, mostly in runs.
        for one in ready {
            if last.replace(one) != Some(one) {
                state.ready.insert(one);
            }
        }
        state.others && state.begin()
    }

    /// Attempts were cancelled.
    pub(super) fn add_cancels(&self) -> bool {
        let mut state = self.0.lock();
        state.cancels = true;
        state.begin()
    }

    /// Where jobs are ready, and whether attempts were cancelled. `None`: there is nothing to tell, and the
    /// task ends.
    pub(super) fn next(&self) -> Option<(Vec<ReadyIn>, bool)> {
        let mut state = self.0.lock();
        let (ready, cancels) = (mem::take(&mut state.ready), mem::take(&mut state.cancels));
        state.telling = !ready.is_empty() || cancels;
        let telling = state.telling;
        drop(state);
        telling.then(|| (ready.into_iter().collect(), cancels))
    }

    /// What has gathered while there were no others.
    pub(super) fn gathered_alone(&self) -> BTreeSet<ReadyIn> {
        let mut state = self.0.lock();
        if state.others { BTreeSet::new() } else { mem::take(&mut state.ready) }
    }

    /// Whether there are others; what is added from now on goes to them.
    pub(super) fn set_others(&self, others: bool) {
        self.0.lock().others = others;
    }
}

impl State {
    fn begin(&mut self) -> bool {
        !mem::replace(&mut self.telling, true)
    }
}
