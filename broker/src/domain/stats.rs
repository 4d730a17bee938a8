/// How many jobs, and whether that is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub jobs: u64,
    pub exact: bool,
}

/// How a queue stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueStats {
    pub scheduled: Count,
    pub ready: Count,
    /// With workers, or in a broker's memory.
    pub running: u64,
    pub succeeded: Count,
    pub dead: Count,
    pub cancelled: Count,
    /// For how long the first job of a priority has been ready, the longest of all priorities.
    pub oldest_ready_ms: Option<u64>,
    /// In the mean of the last seconds.
    pub enqueued_per_s: f64,
    pub completed_per_s: f64,
    pub sessions: u64,
}

/// A broker as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerState {
    pub id: i32,
    pub name: String,
    /// In microseconds since 1970, as `dead_at`.
    pub heartbeat_at: i64,
    /// Since when it is held for dead, or has ended.
    pub dead_at: Option<i64>,
    /// As it said last: sessions, once for each of their queues, and jobs.
    pub sessions: u64,
    pub held: u64,
    /// The limited queues that it owns.
    pub owned_queues: Vec<String>,
}

/// Jobs of a queue by state, in a sample of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    pub scheduled: u64,
    pub ready: u64,
    pub succeeded: u64,
    pub dead: u64,
    pub cancelled: u64,
}

impl Count {
    pub fn exact(jobs: u64) -> Self {
        Self { jobs, exact: true }
    }

    /// Of a sample that is this share of the table: 1 is all of it.
    pub fn sampled(jobs: u64, share: f64) -> Self {
        Self { jobs: (jobs as f64 / share).round() as u64, exact: share >= 1.0 }
    }

    /// Counted up to a bound; where there are more, what a sample says tells how many.
    pub fn bounded(counted: u64, bound: u64, sampled: Self) -> Self {
        if counted < bound {
            return Self::exact(counted);
        }
        Self { jobs: sampled.jobs.max(counted), exact: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_exact_up_to_its_bound_and_never_below_it() {
        let sampled = Count::sampled(30, 0.01);
        assert_eq!(sampled, Count { jobs: 3000, exact: false });
        assert_eq!(Count::bounded(99, 100, sampled), Count::exact(99));
        assert_eq!(Count::bounded(100, 100, sampled), sampled);
        let few = Count::sampled(0, 0.01);
        assert_eq!(Count::bounded(100, 100, few), Count { jobs: 100, exact: false });
        assert_eq!(Count::sampled(7, 1.0), Count::exact(7));
    }
}
