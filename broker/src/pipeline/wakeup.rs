use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{Core, due::Due, error::log, sync::Notify, untold::Untold};
use crate::{
    domain::{JobId, QueueId, ReadyIn},
    engine::Hungry,
    store::{self, PHASE_READY, Settled},
};

/// A notification holds a lock of the whole cluster while it commits: not more often than this.
const NOTIFY_PAUSE: Duration = Duration::from_millis(5);

/// Who has to be woken: other brokers, and the promoter of this one.
#[derive(Default)]
pub(super) struct Wakeup {
    untold: Untold,
    /// Wakes the look for cancelled attempts of this broker.
    cancels: Notify,
    /// When the next scheduled job is due.
    due: Due,
}

impl Core {
    /// Rows became ready by this broker's hand: it may claim them itself, and so may others.
    pub fn became_ready(
        self: &Arc<Self>,
        ready: ReadyIn,
        rows: impl IntoIterator<Item = (i16, JobId)>,
    ) {
        self.with_engine(|engine, now, actions| {
            if ready.keyed {
                engine.notified(now, ready, actions);
            } else {
                engine.ready(now, ready.queue, rows, actions);
            }
        });
        self.tell_others([ready]);
    }

    /// The same of those that were written as ready.
    pub fn are_ready(self: &Arc<Self>, written: &[Settled]) {
        let mut ready: HashMap<ReadyIn, Vec<(i16, JobId)>> = HashMap::new();
        for Settled { key, priority, phase, keyed } in written.iter().copied() {
            if phase == PHASE_READY {
                let place = ReadyIn { queue: key.queue, keyed };
                ready.entry(place).or_default().push((priority, key.id));
            }
        }
        for (place, rows) in ready {
            self.became_ready(place, rows);
        }
    }

    /// Somebody else made rows ready.
    pub fn notified(self: &Arc<Self>, ready: ReadyIn) {
        self.with_engine(|engine, now, actions| engine.notified(now, ready, actions));
    }

    /// Somebody may have, while nobody listened.
    pub fn missed_notices(self: &Arc<Self>) {
        self.with_engine(|engine, now, actions| engine.missed_notices(now, actions));
    }

    /// Rows of this queue, which ones isn't known, became ready by this broker's hand.
    pub fn rescued(self: &Arc<Self>, queue: QueueId) {
        for ready in ReadyIn::either(queue) {
            self.notified(ready);
        }
        self.tell_others(ReadyIn::either(queue));
    }

    /// Jobs of these queues that others of their keys may have waited for are over.
    pub(super) fn keys_freed(self: &Arc<Self>, queues: impl Iterator<Item = QueueId>) {
        for queue in queues.collect::<BTreeSet<_>>() {
            self.became_ready(ReadyIn { queue, keyed: true }, []);
        }
    }

    /// Where jobs would find sessions here that wait for some.
    pub fn hungry(&self) -> Hungry {
        self.engine(crate::engine::Dispatcher::hungry)
    }

    /// To be called before a look for other brokers, whose answer goes to `set_others` with this: what
    /// one that it finds hasn't been told. What became ready before the look, one that
    /// comes after it finds by itself.
    pub fn untold(&self) -> BTreeSet<ReadyIn> {
        self.wakeup.untold.gathered_alone()
    }

    /// Whether there are other brokers to be told.
    pub fn set_others(self: &Arc<Self>, others: bool, untold: BTreeSet<ReadyIn>) {
        self.wakeup.untold.set_others(others);
        if others {
            self.tell_others(untold);
        }
    }

    /// Tells the other brokers, if there are any, in one transaction for all that gathers meanwhile.
    pub fn tell_others(self: &Arc<Self>, ready: impl IntoIterator<Item = ReadyIn>) {
        if self.wakeup.untold.add(ready) {
            self.tasks.spawn(Arc::clone(self).tell());
        }
    }

    /// Attempts were cancelled that other brokers hold.
    pub(super) fn tell_others_of_cancels(self: &Arc<Self>) {
        if self.wakeup.untold.add_cancels() {
            self.tasks.spawn(Arc::clone(self).tell());
        }
    }

    async fn tell(self: Arc<Self>) {
        while let Some((ready, cancels)) = self.wakeup.untold.next() {
            let told = async {
                let client = self.store.client().await?;
                if cancels {
                    store::notify_cancelled(&client, self.broker.id).await?;
                }
                store::notify_ready(&client, self.broker.id, &ready).await
            };
            if let Err(error) = told.await {
                // Their slow poll finds the rows, their heartbeat the notes.
                log(&error, "other brokers could not be told of ready or cancelled jobs");
            }
            tokio::time::sleep(NOTIFY_PAUSE).await;
        }
    }

    /// There may be cancelled attempts of which this broker hasn't heard.
    pub fn note_cancels(&self) {
        self.wakeup.cancels.notify_one();
    }

    /// Waits until there may be some.
    pub async fn cancels_noted(&self) {
        self.wakeup.cancels.notified().await;
    }

    /// A job will be due at this time, in microseconds since 1970.
    pub(super) fn will_be_due(&self, at: i64) {
        self.wakeup.due.will_be(at);
    }

    /// When the next scheduled job is due.
    pub fn due(&self) -> &Due {
        &self.wakeup.due
    }
}
