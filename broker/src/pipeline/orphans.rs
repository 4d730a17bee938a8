use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::{Core, settle_call::SettleCall};
use crate::{
    domain::{JobId, JobKey, Outcome, QueueId},
    store::{self, StoreError},
};

/// A write that took jobs of a queue, from `low` on, and whose fate is unknown: they may be ours in
/// the database and nobody's in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Suspect {
    pub queue: QueueId,
    pub low: JobId,
}

/// What memory doesn't hold any more and the database may still say that this broker does.
#[derive(Default)]
pub(super) struct Orphans {
    /// Suspects, each with the time to look at it. Looked at twice: soon, and when no statement of the
    /// lost connection can still commit.
    due: Mutex<Vec<(Duration, Suspect)>>,
    /// Jobs given back, expired or failed by this broker, and how many times, until that is written.
    leaving: Mutex<HashMap<JobKey, usize>>,
}

/// Suspects beyond this are merged: the lowest id and the latest time of each queue then count.
const SUSPECTS_MAX: usize = 1000;
const SOON: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn suspect(&self, suspect: Suspect) {
        let now = self.clock.now();
        let mut due = self.orphans.due.lock();
        for after in [SOON, self.limits.statement_timeout + SOON] {
            due.push((now + after, suspect));
        }
        if due.len() > SUSPECTS_MAX {
            let mut merged: HashMap<QueueId, (Duration, JobId)> = HashMap::new();
            for (at, Suspect { queue, low }) in due.drain(..) {
                let one = merged.entry(queue).or_insert((at, low));
                *one = (one.0.max(at), one.1.min(low));
            }
            due.extend(merged.into_iter().map(|(queue, (at, low))| (at, Suspect { queue, low })));
        }
    }

    /// These leave memory; under the engine's lock, so that they are always there or here.
    pub(super) fn leaving(&self, jobs: impl Iterator<Item = JobKey>) {
        let mut leaving = self.orphans.leaving.lock();
        for key in jobs {
            *leaving.entry(key).or_default() += 1;
        }
    }

    /// What became of these is written, or they are suspects.
    pub(super) fn left(&self, jobs: impl Iterator<Item = JobKey>) {
        let mut leaving = self.orphans.leaving.lock();
        for key in jobs {
            if let Entry::Occupied(mut times) = leaving.entry(key) {
                *times.get_mut() -= 1;
                if *times.get() == 0 {
                    times.remove();
                }
            }
        }
    }

    /// The jobs with smaller ids that the database says this broker holds. `None`: the fate of some write is
    /// unknown, and the watermark may not pass what it took.
    pub fn held_before(&self, low: JobId) -> Option<HashSet<JobKey>> {
        // Suspects come before what they stand for isn't leaving any more, and go after it is again.
        if self.has_suspects() {
            return None;
        }
        let held = self.engine(|engine| {
            let leaving = self.orphans.leaving.lock();
            let held = engine.jobs().map(|(key, _)| key).chain(leaving.keys().copied());
            held.filter(|key| key.id < low).collect()
        });
        (!self.has_suspects()).then_some(held)
    }

    fn has_suspects(&self) -> bool {
        !self.orphans.due.lock().is_empty()
    }

    /// Gives back what the database says that this broker holds and its memory doesn't know. What
    /// couldn't be looked at stays for the next time.
    pub async fn find_orphans(self: &Arc<Self>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let ripe: HashSet<Suspect> = {
            let due = self.orphans.due.lock();
            due.iter().filter(|(at, _)| *at <= now).map(|(_, one)| *one).collect()
        };
        for suspect in ripe {
            self.look_at(suspect).await?;
            self.orphans.due.lock().retain(|(at, one)| *at > now || *one != suspect);
        }
        Ok(())
    }

    async fn look_at(self: &Arc<Self>, suspect: Suspect) -> Result<(), StoreError> {
        let mut client = self.store.client().await?;
        let held =
            store::held_jobs(&mut client, self.broker.id, suspect.queue, suspect.low).await?;
        drop(client);
        if held.is_empty() {
            return Ok(());
        }
        // What was on its way into memory during the look has arrived by then.
        tokio::time::sleep(SOON).await;
        let known: HashSet<(JobKey, i32)> = self.engine(|engine| engine.jobs().collect());
        let orphans: Vec<_> = held.into_iter().filter(|job| !known.contains(job)).collect();
        if !orphans.is_empty() {
            tracing::warn!(
                jobs = orphans.len(),
                "a lost connection left jobs that nobody holds; they are given back"
            );
            self.settle(SettleCall::by_broker(orphans, self.broker.id, &Outcome::Released));
        }
        Ok(())
    }
}
