use super::{BrokerFacts, Reason};
use crate::domain::{JobId, KeyLimits};

/// A key of a queue that limits them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyFacts {
    /// In order: an earlier job of it that waits.
    pub earlier: Option<JobId>,
    /// If the broker that was asked owns the queue.
    pub standing: Option<KeyStanding>,
}

/// What the owner of a queue knows of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyStanding {
    pub under_way: u64,
    /// One of these, in order the only one.
    pub job: Option<JobId>,
    pub rate_spent: bool,
    /// Nothing of it is under way, and the owner can't count more keys.
    pub beyond_count: bool,
}

/// What of its key stands in a job's way, as far as that is known for sure.
pub(super) fn known_of(key: &KeyFacts, limits: KeyLimits, owner: &BrokerFacts) -> Option<Reason> {
    let KeyStanding { under_way, job, rate_spent, beyond_count } = key.standing.unwrap_or_default();
    let by = job.or(key.earlier);
    if limits.ordered && (under_way > 0 || by.is_some()) {
        return Some(Reason::KeyHeldUp { by });
    }
    if let Some(max) = limits.concurrency.filter(|max| under_way >= u64::from(*max)) {
        return Some(Reason::KeyConcurrencyFull { held: under_way, max });
    }
    if beyond_count {
        return Some(Reason::KeysFull { owner: owner.name.clone() });
    }
    rate_spent.then_some(Reason::KeyRateSpent)
}

/// The same where only the owner would know, and nothing else is in the way.
pub(super) fn guessed_of(limits: KeyLimits, owner: &BrokerFacts) -> Reason {
    match limits {
        KeyLimits { ordered: true, rate: None, .. } => Reason::KeyHeldUp { by: None },
        KeyLimits { ordered: false, rate: None, concurrency: Some(max) } => {
            Reason::KeyConcurrencyFull { held: max.into(), max }
        }
        KeyLimits { ordered: false, concurrency: None, .. } => Reason::KeyRateSpent,
        _ => Reason::KeyLimited { owner: owner.name.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{QueueLimits, RateLimit, explain::tests::ready};

    #[test]
    fn of_limits_of_keys_that_one_is_named_which_is_in_the_way() {
        let rate = Some(RateLimit { jobs: 1, period_ms: 1000, burst: 1 });
        let concurrency = KeyLimits { concurrency: Some(2), ..KeyLimits::NONE };
        let ordered = KeyLimits { ordered: true, ..KeyLimits::NONE };
        let rated = KeyLimits { rate, ..KeyLimits::NONE };
        let both = KeyLimits { rate, ..concurrency };
        let reason = |limits, earlier, standing| {
            ready(|f| {
                f.limits = QueueLimits { key: limits, ..QueueLimits::NONE };
                f.brokers[0].owns = true;
                f.key = Some(KeyFacts { earlier, standing });
            })
        };
        // As the owner knows.
        let here = KeyStanding { under_way: 2, job: Some(JobId(9)), ..KeyStanding::default() };
        let full = Reason::KeyConcurrencyFull { held: 2, max: 2 };
        assert_eq!(reason(both, None, Some(here)), full);
        let one = KeyStanding { under_way: 1, ..here };
        assert_eq!(reason(concurrency, None, Some(one)), Reason::Next);
        let spent = KeyStanding { rate_spent: true, ..one };
        assert_eq!(reason(both, None, Some(spent)), Reason::KeyRateSpent);
        let held_up = |id| Reason::KeyHeldUp { by: Some(JobId(id)) };
        assert_eq!(reason(ordered, Some(JobId(3)), Some(one)), held_up(9));
        let nothing = KeyStanding::default();
        assert_eq!(reason(ordered, Some(JobId(3)), Some(nothing)), held_up(3));
        assert_eq!(reason(ordered, None, Some(nothing)), Reason::Next);
        let beyond = KeyStanding { beyond_count: true, ..nothing };
        let owner = || "b".to_owned();
        assert_eq!(reason(concurrency, None, Some(beyond)), Reason::KeysFull { owner: owner() });
        // As another broker sees it.
        assert_eq!(reason(ordered, Some(JobId(3)), None), held_up(3));
        assert_eq!(reason(ordered, None, None), Reason::KeyHeldUp { by: None });
        assert_eq!(reason(concurrency, None, None), full);
        assert_eq!(reason(rated, None, None), Reason::KeyRateSpent);
        assert_eq!(reason(both, None, None), Reason::KeyLimited { owner: owner() });
        assert_eq!(
            reason(KeyLimits { rate, ..ordered }, None, None),
            Reason::KeyLimited { owner: owner() }
        );
    }

    #[test]
    fn a_key_that_is_known_to_wait_comes_before_busy_workers_and_another_after() {
        let busy = |earlier| {
            ready(|f| {
                f.limits.key.ordered = true;
                (f.brokers[0].owns, f.brokers[0].free) = (true, 0);
                f.key = Some(KeyFacts { earlier, standing: None });
            })
        };
        assert_eq!(busy(Some(JobId(3))), Reason::KeyHeldUp { by: Some(JobId(3)) });
        assert_eq!(busy(None), Reason::WorkersBusy { held: 2 });
    }
}
