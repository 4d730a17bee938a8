//! Limited queues have one owner among the brokers. It is one that has sessions for the queue, and stays it
//! until it has none or is held for dead; what it counts then holds for all brokers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};

use super::Core;
use crate::{
    domain::QueueId,
    engine::{Dispatcher, LimitedQueue, Running},
    store::{self, StoreError},
};

/// How long a queue that this broker owns waits for sessions to come back, before others may own it.
const IDLE: Duration = Duration::from_secs(2);

/// Which queues this broker owns in the database, perhaps.
#[derive(Default)]
pub struct Owned {
    queues: BTreeSet<QueueId>,
    /// Since when no session wants them.
    idle: BTreeMap<QueueId, Duration>,
}

impl Core {
    /// Waits until a limited queue is wanted that this broker doesn't own.
    pub async fn owner_wanted(&self) {
        self.owner_wanted.notified().await;
    }

    /// Until then no other broker can hold this one for dead, and own its queues.
    pub fn set_database_time(&self, time: DateTime<Utc>) {
        self.clock.set_database_time(time);
        let (now, micros) = (self.clock.now(), self.clock.database_micros());
        self.dispatch.lock().engine.set_database_time(now, micros);
    }

    pub fn lives_until(self: &Arc<Self>, until: Duration) {
        self.with_engine(|engine, now, actions| engine.lives_until(now, until, actions));
    }

    /// Comes to own what is wanted here, gives up what isn't, and looks what became of attempts elsewhere.
    /// Asks the database nothing while no limited queue is in use.
    pub async fn look_after_limits(self: &Arc<Self>, owned: &mut Owned) -> Result<(), StoreError> {
        let limited = self.engine(Dispatcher::limited_queues);
        self.give_up(&limited, owned).await?;
        for LimitedQueue { queue, elsewhere, .. } in &limited {
            if !elsewhere.is_empty() {
                let client = self.store.client().await?;
                let over = store::attempts_over(&client, *queue, elsewhere).await?;
                self.with_engine(|engine, now, actions| {
                    engine.over_elsewhere(now, *queue, &over, actions);
                });
            }
        }
        let wanted = limited.iter().filter(|limited| limited.wanted && !limited.owned);
        let wanted: Vec<QueueId> = wanted.map(|limited| limited.queue).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let client = self.store.client().await?;
        // Whether or not an answer comes: what isn't wanted later is given up.
        owned.queues.extend(&wanted);
        for (queue, term) in store::own_queues(&client, self.broker.id, &wanted).await? {
            let running = store::running_attempts(&client, queue).await?;
            let running: Vec<_> =
                running.into_iter().map(|(attempt, key)| Running { attempt, key }).collect();
            tracing::info!(
                queue = self.queues.name(queue).as_deref(),
                running = running.len(),
                "this broker owns a limited queue"
            );
            self.with_engine(|engine, now, actions| {
                engine.own(now, queue, (term, running), actions)
            });
        }
        Ok(())
    }

    async fn give_up(
        self: &Arc<Self>,
        limited: &[LimitedQueue],
        owned: &mut Owned,
    ) -> Result<(), StoreError> {
        let (now, draining) = (self.clock.now(), self.is_draining());
        let wanted: BTreeSet<QueueId> =
            limited.iter().filter(|limited| limited.wanted).map(|limited| limited.queue).collect();
        owned.idle.retain(|queue, _| !wanted.contains(queue));
        let given_up: Vec<QueueId> = owned
            .queues
            .iter()
            .copied()
            .filter(|queue| !wanted.contains(queue))
            .filter(|queue| draining || now >= *owned.idle.entry(*queue).or_insert(now) + IDLE)
            .collect();
        if given_up.is_empty() {
            return Ok(());
        }
        // First here: whoever owns it next counts what workers have by then.
        self.with_engine(|engine, now, actions| {
            for queue in &given_up {
                engine.disown(now, *queue, actions);
            }
        });
        let client = self.store.client().await?;
        store::disown_queues(&client, self.broker.id, &given_up).await?;
        for queue in given_up {
            owned.queues.remove(&queue);
            owned.idle.remove(&queue);
        }
        Ok(())
    }
}
