use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Core, PipelineError, error::log};
use crate::{
    domain::{Queue, QueueId},
    store::{self, StoreError},
};

/// Knows queues by name and by number, as they are: what is changed in the database is read again.
pub struct QueueRegistry {
    /// What the broker says for queues that say nothing.
    pub defaults: Queue,
    queues_max: usize,
    /// Never more than `queues_max` entries: it is emptied before.
    known: Mutex<Known>,
    /// All changes up to this version are known.
    version: AtomicI64,
    /// One look at what has changed at a time.
    refresh: tokio::sync::Mutex<()>,
    changed: Notify,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<String, Arc<Queue>>,
    by_id: HashMap<QueueId, Arc<Queue>>,
}

impl QueueRegistry {
    pub(super) fn new(defaults: Queue, queues_max: usize) -> Self {
        Self {
            defaults,
            queues_max,
            known: Mutex::new(Known::default()),
            version: AtomicI64::new(0),
            refresh: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
        }
    }

    /// A queue that is known already, or `None`.
    pub fn known(&self, name: &str) -> Option<Arc<Queue>> {
        self.known.lock().by_name.get(name).cloned()
    }

    /// The name of a queue that is known.
    pub(super) fn name(&self, queue: QueueId) -> Option<Arc<str>> {
        self.known.lock().by_id.get(&queue).map(|queue| queue.name.as_str().into())
    }

    /// Whether a queue that is known is paused.
    pub(super) fn is_paused(&self, queue: QueueId) -> Option<bool> {
        self.known.lock().by_id.get(&queue).map(|queue| queue.paused_at.is_some())
    }

    /// All changes up to this version are known.
    pub fn version(&self) -> i64 {
        self.version.load(Ordering::Acquire)
    }

    /// Queues were changed, perhaps.
    pub fn note_change(&self) {
        self.changed.notify_one();
    }

    /// Waits until there may be a change.
    pub async fn change_noted(&self) {
        self.changed.notified().await;
    }

    /// The newest that is known of each.
    fn learn(&self, found: Vec<Queue>) -> Vec<Arc<Queue>> {
        let mut known = self.known.lock();
        if known.by_name.len() + found.len() > self.queues_max {
            *known = Known::default();
        }
        let learn = |queue: Queue| {
            if let Some(newer) = known.by_id.get(&queue.id).filter(|it| it.version > queue.version)
            {
                return Arc::clone(newer);
            }
            let queue = Arc::new(queue);
            known.by_name.insert(queue.name.clone(), Arc::clone(&queue));
            known.by_id.insert(queue.id, Arc::clone(&queue));
            queue
        };
        found.into_iter().map(learn).collect()
    }
}

impl Core {
    /// The queues of these names, in the same order; creates those that aren't there.
    pub async fn resolve_queues(
        self: &Arc<Self>,
        names: &[&str],
    ) -> Result<Vec<Arc<Queue>>, PipelineError> {
        let missing: HashSet<&str> = {
            let known = self.queues.known.lock();
            let is_missing = |name: &&str| !known.by_name.contains_key(*name);
            names.iter().copied().filter(is_missing).collect()
        };
        if !missing.is_empty() {
            let missing: Vec<&str> = missing.into_iter().collect();
            let found = self.find_or_create_queues(&missing).await?;
            self.learn_queues(found);
        }
        let known = |name: &&str| self.queues.known(name).ok_or(PipelineError::Internal);
        names.iter().map(known).collect()
    }

    /// The queue of this name, if there is one.
    pub async fn find_queue(
        self: &Arc<Self>,
        name: &str,
    ) -> Result<Option<Arc<Queue>>, PipelineError> {
        if let Some(queue) = self.queues.known(name) {
            return Ok(Some(queue));
        }
        let client = self.store.client().await.map_err(failed)?;
        let defaults = &self.queues.defaults;
        let found = store::find_queues(&client, &[name], defaults).await.map_err(failed)?;
        drop(client);
        Ok(self.learn_queues(found).pop())
    }

    async fn find_or_create_queues(&self, names: &[&str]) -> Result<Vec<Queue>, PipelineError> {
        let defaults = &self.queues.defaults;
        let client = self.store.client().await.map_err(failed)?;
        let found = store::find_queues(&client, names, defaults).await.map_err(failed)?;
        let new: Vec<&str> = {
            let is_new = |name: &&str| found.iter().all(|queue| queue.name != **name);
            names.iter().copied().filter(is_new).collect()
        };
        if new.is_empty() {
            return Ok(found);
        }
        let count = store::count_queues(&client).await.map_err(failed)?;
        if count + new.len() > self.queues.queues_max {
            return Err(PipelineError::Full {
                what: "the number of queues",
                limit: format!("at most {} queues", self.queues.queues_max),
                retry_after: Duration::from_secs(60),
            });
        }
        store::create_queues(&client, &new).await.map_err(failed)?;
        store::find_queues(&client, names, defaults).await.map_err(failed)
    }

    /// The queues of these numbers.
    pub(super) async fn queues_by_id(
        self: &Arc<Self>,
        ids: &[QueueId],
    ) -> Result<HashMap<QueueId, Arc<Queue>>, StoreError> {
        let mut answer = HashMap::new();
        let mut unknown = HashSet::new();
        {
            let known = self.queues.known.lock();
            for id in ids {
                match known.by_id.get(id) {
                    Some(queue) => _ = answer.insert(*id, Arc::clone(queue)),
                    None => _ = unknown.insert(*id),
                }
            }
        }
        if !unknown.is_empty() {
            let unknown: Vec<QueueId> = unknown.into_iter().collect();
            let client = self.store.client().await?;
            let found = store::queues_by_id(&client, &unknown, &self.queues.defaults).await?;
            answer.extend(self.learn_queues(found).into_iter().map(|queue| (queue.id, queue)));
        }
        Ok(answer)
    }

    /// Reads what has changed, so that it holds from now on.
    pub async fn refresh_queues(self: &Arc<Self>) -> Result<(), StoreError> {
        let _alone = self.queues.refresh.lock().await;
        let client = self.store.client().await?;
        let seen = self.queues.version();
        let found = store::changed_queues(&client, seen, &self.queues.defaults).await?;
        drop(client);
        let Some(version) = found.iter().map(|queue| queue.version).max() else { return Ok(()) };
        self.learn_queues(found);
        self.queues.version.store(version, Ordering::Release);
        Ok(())
    }

    fn learn_queues(self: &Arc<Self>, found: Vec<Queue>) -> Vec<Arc<Queue>> {
        let learnt = self.queues.learn(found);
        self.with_engine(|engine, now, actions| {
            for queue in &learnt {
                engine.configure(now, queue.id, queue.rules(), actions);
            }
        });
        learnt
    }
}

fn failed(error: StoreError) -> PipelineError {
    log(&error, "queues could not be looked up");
    PipelineError::from(&error)
}
