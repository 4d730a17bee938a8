use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The mean time that handlers ran of late, in nanoseconds; 0 before the first has ended. The runner
/// writes it, the completer reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct RunTime(Arc<AtomicU64>);

impl RunTime {
    pub(super) fn mean(&self) -> Option<Duration> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }
}

/// Handlers that have ended and don't count yet: how many, and for how long they ran together.
#[derive(Debug, Default)]
pub(super) struct Runs {
    jobs: u32,
    total: Duration,
}

impl Runs {
    pub(super) fn add(&mut self, time: Duration) {
        self.jobs += 1;
        self.total += time;
    }

    /// They count for a quarter of the mean.
    pub(super) fn count(&mut self, run_time: &RunTime) {
        let Runs { jobs, total } = std::mem::take(self);
        if jobs == 0 {
            return;
        }
        let mean = u64::try_from((total / jobs).as_nanos()).unwrap_or(u64::MAX).max(1);
        let older = run_time.0.load(Ordering::Relaxed);
        let next = if older == 0 { mean } else { older - older / 4 + mean / 4 };
        run_time.0.store(next.max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_batches() {
        let time = RunTime::default();
        let mut runs = Runs::default();
        runs.count(&time);
        assert_eq!(time.mean(), None);
        runs.add(Duration::from_millis(5));
        runs.add(Duration::from_millis(15));
        runs.count(&time);
        assert_eq!(time.mean(), Some(Duration::from_millis(10)));
        runs.add(Duration::from_millis(50));
        runs.count(&time);
        assert_eq!(time.mean(), Some(Duration::from_millis(20)));
    }
}
