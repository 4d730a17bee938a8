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
    /// So many handlers have ended, which ran so long together.
    pub(super) fn add(&self, jobs: u32, total: Duration) {
        if jobs == 0 {
            return;
        }
        let mean = u64::try_from((total / jobs).as_nanos()).unwrap_or(u64::MAX).max(1);
        let older = self.0.load(Ordering::Relaxed);
        // A batch counts for a quarter.
        let next = if older == 0 { mean } else { older - older / 4 + mean / 4 };
        self.0.store(next.max(1), Ordering::Relaxed);
    }

    pub(super) fn mean(&self) -> Option<Duration> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_batches() {
        let time = RunTime::default();
        assert_eq!(time.mean(), None);
        time.add(0, Duration::from_secs(1));
        assert_eq!(time.mean(), None);
        time.add(10, Duration::from_millis(100));
        assert_eq!(time.mean(), Some(Duration::from_millis(10)));
        time.add(1, Duration::from_millis(50));
        assert_eq!(time.mean(), Some(Duration::from_millis(20)));
    }
}
