//! Calls that wait for a moment until memory has room for their jobs, see `engine::Admission`.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Core, dispatch::Dispatch};
use crate::{
    domain::{NewJob, QueueId},
    engine::Admission,
};

/// The calls that wait, by queue, in the order in which they came.
pub(super) type Waiting = HashMap<QueueId, VecDeque<(Admission, oneshot::Sender<()>)>>;

/// Room that is kept for a call; given back on drop.
pub(super) struct Admitted {
    core: Option<Arc<Core>>,
    admission: Admission,
}

impl Admitted {
    /// For the engine to give back.
    pub(super) fn into_admission(mut self) -> Admission {
        self.core = None;
        self.admission
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let admission = self.admission;
        if let Some(core) = &self.core {
            core.with_engine(|engine, _, _| engine.admission_ended(admission));
        }
    }
}

/// A place among those who wait.
struct Place {
    core: Arc<Core>,
    admission: Admission,
    go: oneshot::Receiver<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.go.close();
        // The word came, and nobody heard it.
        if self.go.try_recv().is_ok() {
            drop(self.admitted());
        }
    }
}

impl Place {
    fn admitted(&self) -> Admitted {
        Admitted { core: Some(Arc::clone(&self.core)), admission: self.admission }
    }
}

impl Core {
    /// Waits until the jobs should go on to be stored, at most for `hold_max`. Jobs of several queues,
    /// or with keys, don't wait.
    pub(super) async fn hold(self: &Arc<Self>, jobs: &[NewJob]) -> Option<Admitted> {
        let admission = admission(jobs)?;
        let core = Arc::clone(self);
        let mut place = {
            let mut dispatch = self.dispatch.lock();
            // Who has gone stands in nobody's way.
            dispatch.release(self.clock.now());
            let first = !dispatch.waiting.contains_key(&admission.queue);
            let first = first || dispatch.engine.is_urgent(admission);
            if first && dispatch.engine.admit(self.clock.now(), admission) {
                return Some(Admitted { core: Some(core), admission });
            }
            let (word, go) = oneshot::channel();
            dispatch.waiting.entry(admission.queue).or_default().push_back((admission, word));
            Place { core, admission, go }
        };
        metrics::counter!("currant_enqueues_held_total").increment(1);
        let heard = tokio::time::timeout(self.limits.engine.hold_max, &mut place.go).await;
        matches!(heard, Ok(Ok(()))).then(|| place.admitted())
    }
}

impl Dispatch {
    /// Lets those go on who needn't wait any more.
    pub(super) fn release(&mut self, now: Duration) {
        let Self { engine, waiting, .. } = self;
        waiting.retain(|_, calls| {
            while let Some((admission, word)) = calls.front() {
                let admission = *admission;
                // Who waits no longer has gone on without a word.
                let gone = word.is_closed();
                if !gone && !engine.admit(now, admission) {
                    return true;
                }
                let told = calls.pop_front().is_some_and(|(_, word)| word.send(()).is_ok());
                if !gone && !told {
                    engine.admission_ended(admission);
                }
            }
            false
        });
    }
}

/// `None`: of several queues, or with keys, which aren't dispatched directly.
fn admission(jobs: &[NewJob]) -> Option<Admission> {
    let queue = jobs.first()?.queue;
    let same = jobs.iter().all(|job| job.queue == queue && job.key.is_none());
    let priority = jobs.iter().map(|job| job.priority).min()?;
    same.then_some(Admission { queue, priority, jobs: jobs.len() })
}
