//! Every order in which threads can take the steps of what wakes tasks, tried by loom on the broker's own files: no
//! word is lost. The files get their locks, atomics and waits from `sync`, which is another one here.
//!
//! What isn't here has no protocol of its own. A state behind one lock and a `Notify` that keeps a word, looked at
//! after `notified()` is made: `Core::next_tick`, `Core::drain`, `Watches`, `QueueRegistry`, `Access`, and in the SDK
//! `Reporter`, whose flag is behind the lock of what it tells of. Channels, semaphores, oneshots and cancellation
//! tokens are tokio's: coalescers, budgets, `hold`, streams, the SDK's session. Single atomics that nothing else
//! depends on: clocks, times of use, `RunTime`, `Readiness`, `Listening`, `Reading`, `Core::unique_time`.

#![allow(clippy::unwrap_used)]

mod clock;
#[allow(dead_code, unreachable_pub)]
#[path = "../../src/pipeline/due.rs"]
mod due;
mod sync;
#[path = "../../src/pipeline/untold.rs"]
mod untold;

use std::{collections::BTreeSet, time::Duration};

use currant_broker::domain::{self, QueueId};
use loom::{future::block_on, model::Builder, sync::Arc, thread};

use self::{clock::Clock, domain::ReadyIn, due::Due, sync::Mutex, untold::Untold};

/// Switches of threads where none has to wait: all defects known to literature need fewer.
const SWITCHES: usize = 3;

fn try_all(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(SWITCHES);
    builder.check(run);
}

/// What brokers are told, and what others have been.
#[derive(Default)]
struct Brokers {
    untold: Untold,
    told: Mutex<(BTreeSet<ReadyIn>, bool)>,
}

impl Brokers {
    /// The task that tells, if it has to begin.
    fn tell(&self, begins: bool) {
        if !begins {
            return;
        }
        while let Some((ready, cancels)) = self.untold.next() {
            let mut told = self.told.lock();
            told.0.extend(ready);
            told.1 |= cancels;
        }
    }
}

fn ready(queue: i32) -> ReadyIn {
    ReadyIn::plain(QueueId(queue))
}

#[test]
fn others_are_told_of_all_that_is_added_while_somebody_tells() {
    try_all(|| {
        let brokers = Arc::new(Brokers::default());
        brokers.untold.set_others(true);
        let adds = |queue| {
            let brokers = Arc::clone(&brokers);
            thread::spawn(move || brokers.tell(brokers.untold.add([ready(queue)])))
        };
        let threads = [adds(1), adds(2)];
        brokers.tell(brokers.untold.add_cancels());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*brokers.told.lock(), ([1, 2].map(ready).into(), true));
    });
}

#[test]
fn who_comes_is_told_of_what_was_added_before_and_while_he_was_looked_for() {
    try_all(|| {
        let brokers = Arc::new(Brokers::default());
        let adds = |queue| {
            let brokers = Arc::clone(&brokers);
            thread::spawn(move || brokers.tell(brokers.untold.add([ready(queue)])))
        };
        let threads = [adds(1), adds(2)];
        let gathered = brokers.untold.gathered_alone();
        brokers.untold.set_others(true);
        brokers.tell(brokers.untold.add(gathered));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(brokers.told.lock().0, [1, 2].map(ready).into());
    });
}

#[test]
fn what_is_due_earlier_wakes_who_waits_for_something_later() {
    try_all(|| {
        let due = Arc::new(Due::default());
        let threads = [7_i64, -1].map(|at| {
            let due = Arc::clone(&due);
            thread::spawn(move || due.will_be(at))
        });
        block_on(due.wait(&Clock, Duration::MAX));
        assert_eq!(due.take(), -1);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn every_job_that_becomes_due_is_looked_for() {
    try_all(|| {
        // The jobs in the database, by their times; and the promoter, which forgets a time before it looks.
        let world = Arc::new((Due::default(), Mutex::<Vec<i64>>::default()));
        let threads = [-1_i64, -2].map(|at| {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                world.1.lock().push(at);
                world.0.will_be(at);
            })
        });
        let (due, jobs) = &*world;
        let mut promoted = 0;
        while promoted < threads.len() {
            block_on(due.wait(&Clock, Duration::MAX));
            due.take();
            promoted += jobs.lock().drain(..).count();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
