//! Watch: any number of calls wait for jobs, and none of them asks the database. One look asks for all
//! that are watched here: at once for what this broker has changed itself, and at an interval for what
//! others may have.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{Core, PipelineError};
use crate::{
    domain::{JobId, JobKey, Queue, QueueId, StoredJob},
    store::{self, Sight, StoreError},
};

/// Jobs that one statement asks for.
const LOOK: usize = 1000;
/// Jobs, with their results, that one statement returns.
const CHANGED_MAX: usize = 64;

/// What is watched here.
pub(super) struct Watches {
    max: usize,
    /// How many watch; read before anything else, so that it costs others nothing when nobody does.
    watchers: AtomicUsize,
    jobs: Mutex<Jobs>,
    wake: Notify,
}

/// At most one entry a watcher.
#[derive(Default)]
struct Jobs {
    watched: HashMap<JobKey, watch::Sender<Last>>,
    /// Those that this broker has changed since the last look.
    changed: HashSet<JobKey>,
    /// Whether somebody has come since the last look.
    fresh: bool,
    closed: bool,
}

/// How a job stood at the last look; `None`: it is gone.
type Last = Option<Arc<StoredJob>>;

/// What a watcher is told.
#[derive(Debug)]
pub enum Seen {
    Job(Arc<StoredJob>),
    Gone,
    /// The broker stops.
    Closed,
}

/// One call that watches a job.
pub struct Watcher {
    core: Arc<Core>,
    key: JobKey,
    seen: watch::Receiver<Last>,
    /// How it stood when the call came, until that is told.
    first: Option<Arc<StoredJob>>,
    told: Sight,
}

impl Watches {
    pub(super) fn new(max: usize) -> Self {
        metrics::gauge!("currant_watches").set(0.0);
        Self {
            max,
            watchers: AtomicUsize::new(0),
            jobs: Mutex::new(Jobs::default()),
            wake: Notify::new(),
        }
    }

    /// Room for one more, if there is any.
    fn enter(&self) -> Result<(), PipelineError> {
        let more = |count: usize| (count < self.max).then_some(count + 1);
        if self.watchers.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok() {
            metrics::gauge!("currant_watches").increment(1.0);
            return Ok(());
        }
        Err(PipelineError::Full {
            what: "the number of watches",
            limit: format!("at most {} watches", self.max),
            retry_after: Duration::from_secs(5),
        })
    }

    fn leave(&self) {
        self.watchers.fetch_sub(1, Ordering::AcqRel);
        metrics::gauge!("currant_watches").decrement(1.0);
    }
}

impl Core {
    /// Watches a job from how it stands now, if it is there.
    pub async fn watch(
        self: &Arc<Self>,
        id: JobId,
        queue: Option<QueueId>,
    ) -> Result<Option<(Watcher, Arc<Queue>)>, PipelineError> {
        if self.is_draining() {
            return Err(PipelineError::Draining);
        }
        self.watches.enter()?;
        let found = self.get(id, queue).await;
        let Ok(Some((job, queue))) = found else {
            self.watches.leave();
            return found.map(|_| None);
        };
        let (key, job) = (job.key, Arc::new(StoredJob { payload: bytes::Bytes::new(), ..job }));
        let mut jobs = self.watches.jobs.lock();
        if jobs.closed {
            self.watches.leave();
            return Err(PipelineError::Draining);
        }
        let seen = match jobs.watched.entry(key) {
            Entry::Occupied(entry) => entry.get().subscribe(),
            Entry::Vacant(entry) => {
                entry.insert(watch::Sender::new(Some(Arc::clone(&job)))).subscribe()
            }
        };
        // It may have changed since it was read.
        jobs.changed.insert(key);
        jobs.fresh = true;
        drop(jobs);
        self.watches.wake.notify_one();
        let told = sight(&job);
        let watcher = Watcher { core: Arc::clone(self), key, seen, first: Some(job), told };
        Ok(Some((watcher, queue)))
    }

    /// This broker has changed these jobs, and has committed that.
    pub(super) fn changed(&self, keys: impl IntoIterator<Item = JobKey>) {
        if self.watches.watchers.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut jobs = self.watches.jobs.lock();
        let Jobs { watched, changed, .. } = &mut *jobs;
        changed.extend(keys.into_iter().filter(|key| watched.contains_key(key)));
        if !changed.is_empty() {
            self.watches.wake.notify_one();
        }
    }

    /// Waits until this broker has changed a job that is watched, at most for `most`; while none is
    /// watched, without an end. Returns whether it has.
    pub async fn watched_changed(&self, most: Duration) -> bool {
        loop {
            let wake = self.watches.wake.notified();
            if !self.watches.jobs.lock().changed.is_empty() {
                return true;
            }
            let idle = self.watches.watchers.load(Ordering::Acquire) == 0;
            if idle {
                wake.await;
            } else if tokio::time::timeout(most, wake).await.is_err() {
                return false;
            }
        }
    }

    /// Looks at what this broker has changed, or at all that is watched here, and tells the watchers.
    /// Returns whether something goes on: a job has changed, or somebody has come.
    pub async fn look_at_watched(&self, all: bool) -> Result<bool, StoreError> {
        let (keys, mut goes_on): (Vec<JobKey>, bool) = {
            let mut jobs = self.watches.jobs.lock();
            let changed = std::mem::take(&mut jobs.changed);
            let fresh = std::mem::take(&mut jobs.fresh);
            let watched = jobs.watched.keys().copied();
            (if all { watched.collect() } else { changed.into_iter().collect() }, fresh)
        };
        for keys in keys.chunks(LOOK) {
            loop {
                let changed = match self.tell_changes(keys).await {
                    Ok(changed) => changed,
                    Err(error) => {
                        self.changed(keys.iter().copied());
                        return Err(error);
                    }
                };
                goes_on |= changed > 0;
                if changed < CHANGED_MAX {
                    break;
                }
            }
        }
        Ok(goes_on)
    }

    async fn tell_changes(&self, keys: &[JobKey]) -> Result<usize, StoreError> {
        let seen: Vec<(JobKey, Sight)> = {
            let jobs = self.watches.jobs.lock();
            let seen = |key: &JobKey| {
                let job = jobs.watched.get(key)?.borrow().clone()?;
                Some((*key, sight(&job)))
            };
            keys.iter().filter_map(seen).collect()
        };
        if seen.is_empty() {
            return Ok(0);
        }
        let client = self.store.client().await?;
        let changed = store::watched_jobs(&client, &seen, CHANGED_MAX).await?;
        drop(client);
        let jobs = self.watches.jobs.lock();
        let count = changed.len();
        for (key, job) in changed {
            // Nobody may watch it any more.
            if let Some(sender) = jobs.watched.get(&key) {
                sender.send_replace(job.map(Arc::new));
            }
        }
        Ok(count)
    }

    /// Ends all watches.
    pub(super) fn close_watches(&self) {
        let mut jobs = self.watches.jobs.lock();
        *jobs = Jobs { closed: true, ..Jobs::default() };
    }
}

impl Watcher {
    /// How the job stands, the first time; then waits for the next change of its state or progress.
    pub async fn next(&mut self) -> Seen {
        if let Some(job) = self.first.take() {
            return Seen::Job(job);
        }
        loop {
            let Some(job) = self.seen.borrow_and_update().clone() else { return Seen::Gone };
            // One that was read before the last that was told is older.
            if job.attempt >= self.told.1 && sight(&job) != self.told {
                self.told = sight(&job);
                return Seen::Job(job);
            }
            if self.seen.changed().await.is_err() {
                return Seen::Closed;
            }
        }
    }
}

fn sight(job: &StoredJob) -> Sight {
    (job.state, job.attempt, job.progress.as_ref().map(|progress| progress.reported_at))
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let watches = &self.core.watches;
        let mut jobs = watches.jobs.lock();
        // This one is among them.
        if jobs.watched.get(&self.key).is_some_and(|sender| sender.receiver_count() <= 1) {
            jobs.watched.remove(&self.key);
            jobs.changed.remove(&self.key);
        }
        drop(jobs);
        watches.leave();
    }
}
