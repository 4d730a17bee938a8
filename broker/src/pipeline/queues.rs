use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::{PipelineError, error::log};
use crate::{
    clock::Clock,
    domain::{Queue, QueueId},
    store::{self, Store, StoreError},
};

/// How long a queue's defaults are believed.
const FRESH: Duration = Duration::from_secs(10);

/// Knows queues by name and by number, and creates them on first use.
pub struct QueueRegistry {
    defaults: Queue,
    queues_max: usize,
    /// Never more than `queues_max` entries: it is emptied before.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<String, Arc<Queue>>,
    by_id: HashMap<QueueId, (Duration, Arc<Queue>)>,
}

impl QueueRegistry {
    pub(super) fn new(defaults: Queue, queues_max: usize) -> Self {
        Self { defaults, queues_max, known: Mutex::new(Known::default()) }
    }

    /// The number of a queue that is known already, or `None`.
    pub fn known(&self, name: &str) -> Option<QueueId> {
        self.known.lock().by_name.get(name).map(|queue| queue.id)
    }

    /// The name of a queue that is known.
    pub(super) fn name(&self, queue: QueueId) -> Option<Arc<str>> {
        self.known.lock().by_id.get(&queue).map(|(_, queue)| queue.name.as_str().into())
    }

    /// The queue of this name, with defaults that are at most 10 s old, if there is one.
    pub async fn find(
        &self,
        store: &Store,
        clock: &Clock,
        name: &str,
    ) -> Result<Option<Arc<Queue>>, PipelineError> {
        if let Some(id) = self.known(name) {
            let fresh = self.by_id(store, clock, &[id]).await.map_err(failed)?;
            return Ok(fresh.get(&id).cloned());
        }
        let client = store.client().await.map_err(failed)?;
        let found = store::find_queues(&client, &[name], &self.defaults).await.map_err(failed)?;
        Ok(self.learn(found, clock.now()).pop())
    }

    /// As `resolve`, with defaults that are at most 10 s old.
    pub async fn resolve_fresh(
        &self,
        store: &Store,
        clock: &Clock,
        names: &[&str],
    ) -> Result<Vec<Arc<Queue>>, PipelineError> {
        let queues = self.resolve(store, clock, names).await?;
        let ids: Vec<QueueId> = queues.iter().map(|queue| queue.id).collect();
        let fresh = self.by_id(store, clock, &ids).await.map_err(failed)?;
        // One that was deleted meanwhile stays as it was.
        Ok(queues.into_iter().map(|queue| fresh.get(&queue.id).map_or(queue, Arc::clone)).collect())
    }

    /// The queues of these names, in the same order, with defaults of any age; creates those that
    /// aren't there.
    pub async fn resolve(
        &self,
        store: &Store,
        clock: &Clock,
        names: &[&str],
    ) -> Result<Vec<Arc<Queue>>, PipelineError> {
        let missing: HashSet<&str> = {
            let known = self.known.lock();
            let is_missing = |name: &&str| !known.by_name.contains_key(*name);
            names.iter().copied().filter(is_missing).collect()
        };
        if !missing.is_empty() {
            let missing: Vec<&str> = missing.into_iter().collect();
            let found = self.find_or_create(store, &missing).await?;
            self.learn(found, clock.now());
        }
        let known = self.known.lock();
        names
            .iter()
            .map(|name| known.by_name.get(*name).cloned().ok_or(PipelineError::Internal))
            .collect()
    }

    async fn find_or_create(
        &self,
        store: &Store,
        names: &[&str],
    ) -> Result<Vec<Queue>, PipelineError> {
        let client = store.client().await.map_err(failed)?;
        let found = store::find_queues(&client, names, &self.defaults).await.map_err(failed)?;
        let new: Vec<&str> = {
            let is_new = |name: &&str| found.iter().all(|queue| queue.name != **name);
            names.iter().copied().filter(is_new).collect()
        };
        if new.is_empty() {
            return Ok(found);
        }
        let count = store::count_queues(&client).await.map_err(failed)?;
        if count + new.len() > self.queues_max {
            return Err(PipelineError::Full {
                what: "the number of queues",
                limit: format!("at most {} queues", self.queues_max),
                retry_after: Duration::from_secs(60),
            });
        }
        store::create_queues(&client, &new).await.map_err(failed)?;
        store::find_queues(&client, names, &self.defaults).await.map_err(failed)
    }

    /// The queues of these numbers with defaults that are at most 10 s old.
    pub(super) async fn by_id(
        &self,
        store: &Store,
        clock: &Clock,
        ids: &[QueueId],
    ) -> Result<HashMap<QueueId, Arc<Queue>>, StoreError> {
        let ids: HashSet<QueueId> = ids.iter().copied().collect();
        let now = clock.now();
        let mut answer = HashMap::new();
        {
            let known = self.known.lock();
            for id in &ids {
                if let Some((learnt, queue)) = known.by_id.get(id)
                    && now < *learnt + FRESH
                {
                    answer.insert(*id, Arc::clone(queue));
                }
            }
        }
        let stale: Vec<QueueId> =
            ids.iter().filter(|id| !answer.contains_key(id)).copied().collect();
        if !stale.is_empty() {
            let client = store.client().await?;
            let found = store::queues_by_id(&client, &stale, &self.defaults).await?;
            answer.extend(self.learn(found, now).into_iter().map(|queue| (queue.id, queue)));
        }
        Ok(answer)
    }

    fn learn(&self, found: Vec<Queue>, now: Duration) -> Vec<Arc<Queue>> {
        let mut known = self.known.lock();
        if known.by_name.len() + found.len() > self.queues_max {
            *known = Known::default();
        }
        let learn = |queue: Queue| {
            let queue = Arc::new(queue);
            known.by_name.insert(queue.name.clone(), Arc::clone(&queue));
            known.by_id.insert(queue.id, (now, Arc::clone(&queue)));
            queue
        };
        found.into_iter().map(learn).collect()
    }
}

fn failed(error: StoreError) -> PipelineError {
    log(&error, "queues could not be looked up");
    PipelineError::from(&error)
}
