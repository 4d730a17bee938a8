//! Queues are looked at and changed. A change holds at this broker when its call is answered; others are
//! told by a NOTIFY, and by their own heartbeat should that get lost.

use std::{sync::Arc, time::Duration};

use super::{Caller, Core, PipelineError};
use crate::{
    domain::{Queue, QueueId, QueueSettings},
    engine::QueueLoad,
    store::{self, StoreError},
};

/// Between two looks whether a queue is drained.
const DRAIN_LOOK: Duration = Duration::from_millis(250);

/// How long a queue that is to be limited waits for brokers that haven't heard that it has no limits; between two
/// looks.
const FOLLOWED_MAX: Duration = Duration::from_secs(5);
const FOLLOWED_LOOK: Duration = Duration::from_millis(50);

/// Queues that are looked at together to find a caller's own.
const LOOKED_AT: usize = 1000;

impl Core {
    /// A queue as it stands in the database.
    pub async fn get_queue(&self, name: &str) -> Result<Option<Queue>, PipelineError> {
        self.change("a queue could not be read", self.read_queue(name)).await
    }

    /// The first queues behind a name that the caller may use, in the order of names.
    pub async fn list_queues(
        &self,
        caller: &Caller,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Queue>, PipelineError> {
        let looked_at = if caller.may_use_all_queues() { limit } else { LOOKED_AT };
        let list = async {
            let client = self.store.client().await?;
            let (mut after, mut queues) = (after.to_owned(), Vec::new());
            loop {
                let defaults = &self.queues.defaults;
                let page = store::list_queues(&client, &after, looked_at, defaults).await?;
                let last = page.last().filter(|_| page.len() == looked_at);
                let last = last.map(|queue| queue.name.clone());
                queues.extend(page.into_iter().filter(|queue| caller.may_use(&queue.name)));
                match last {
                    Some(name) if queues.len() < limit => after = name,
                    _ => break,
                }
            }
            queues.truncate(limit);
            Ok(queues)
        };
        self.change("queues could not be listed", list).await
    }

    /// Replaces a queue's settings; creates it if it isn't there.
    pub async fn configure_queue(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
        settings: &QueueSettings,
    ) -> Result<Option<Queue>, PipelineError> {
        self.note_action_on(caller, "configure_queue", name).await?;
        self.resolve_queues(&[name]).await?;
        let deadline = self.clock.now() + FOLLOWED_MAX;
        loop {
            let configure = async {
                let client = self.store.client().await?;
                if !store::configure_queue(&client, name, settings).await? {
                    return Ok(None);
                }
                drop(client);
                self.changed_queue(name).await.map(Some)
            };
            if let Some(queue) = self.change("a queue could not be configured", configure).await? {
                return Ok(queue);
            }
            if self.clock.now() >= deadline {
                return Err(PipelineError::NotFollowed { queue: name.to_owned() });
            }
            tokio::time::sleep(FOLLOWED_LOOK).await;
        }
    }

    /// Pauses a queue or resumes it. `None`: there is none of that name.
    pub async fn pause_queue(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
        paused: bool,
    ) -> Result<Option<Queue>, PipelineError> {
        let action = if paused { "pause_queue" } else { "resume_queue" };
        self.note_action_on(caller, action, name).await?;
        self.set_paused(name, paused).await
    }

    async fn set_paused(
        self: &Arc<Self>,
        name: &str,
        paused: bool,
    ) -> Result<Option<Queue>, PipelineError> {
        let pause = async {
            let client = self.store.client().await?;
            if paused {
                store::pause_queue(&client, name).await?;
            } else {
                store::resume_queue(&client, name).await?;
            }
            drop(client);
            self.changed_queue(name).await
        };
        self.change("a queue could not be paused or resumed", pause).await
    }

    /// Pauses a queue and waits, at most for so long, until no worker has a job of it. Returns how many
    /// jobs brokers still have, and whether all of them have said so. `None`: there is none of that name.
    pub async fn drain_queue(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
        wait: Duration,
    ) -> Result<Option<(Queue, u64, bool)>, PipelineError> {
        self.note_action_on(caller, "drain_queue", name).await?;
        let Some(queue) = self.set_paused(name, true).await? else { return Ok(None) };
        let deadline = self.clock.now() + wait;
        loop {
            let look = self.look_whether_drained(&queue);
            let (held, told) = self.change("a queue's load could not be read", look).await?;
            if held == 0 && told || self.clock.now() >= deadline {
                return Ok(Some((queue, held, told)));
            }
            if self.is_draining() {
                return Err(PipelineError::Draining);
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    async fn look_whether_drained(&self, queue: &Queue) -> Result<(u64, bool), StoreError> {
        let client = self.store.client().await?;
        // In this order: who follows has told what it has.
        let behind = store::brokers_behind(&client, queue.version).await?;
        let loads = store::queue_loads(&client, &[queue.id]).await?;
        let load = loads.get(&queue.id).copied().unwrap_or_default();
        Ok((load.held, behind == 0))
    }

    /// What this broker has of each queue.
    pub fn queue_loads(&self) -> Vec<(QueueId, QueueLoad)> {
        self.engine(|engine| engine.queue_loads().collect())
    }

    /// Lets what was written hold here, and reads it.
    async fn changed_queue(self: &Arc<Self>, name: &str) -> Result<Option<Queue>, StoreError> {
        self.refresh_queues().await?;
        self.read_queue(name).await
    }

    async fn read_queue(&self, name: &str) -> Result<Option<Queue>, StoreError> {
        let client = self.store.client().await?;
        let found = store::find_queues(&client, &[name], &self.queues.defaults).await?;
        Ok(found.into_iter().next())
    }
}
