//! Why a job isn't running, or what it does instead.

mod keys;

pub use self::keys::{KeyFacts, KeyStanding};
use self::keys::{guessed_of, known_of};
use super::{JobId, QueueLimits, State};

/// What is known of a job and its queue. Times are in microseconds since 1970.
#[derive(Clone, Debug)]
pub struct Facts {
    pub now: i64,
    pub state: State,
    pub run_at: Option<i64>,
    pub failures: u16,
    /// The broker that has taken it.
    pub owner: Option<i32>,
    /// What that broker says of it, if it is the one that was asked.
    pub here: Option<Here>,
    /// Ready jobs before it.
    pub ahead: u64,
    pub paused_at: Option<i64>,
    /// Of a ready job with a key, where its queue limits keys.
    pub key: Option<KeyFacts>,
    pub limits: QueueLimits,
    pub brokers: Vec<BrokerFacts>,
    /// For so long a broker that shows no life is held for alive.
    pub dead_after_micros: i64,
}

/// A broker, and how the job's queue stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerFacts {
    pub id: i32,
    pub name: String,
    pub heartbeat_at: i64,
    pub dead: bool,
    pub sessions: u64,
    /// Jobs that it has taken.
    pub held: u64,
    /// How many more its sessions can take.
    pub free: u64,
    /// Of a limited queue.
    pub owns: bool,
}

/// Where a job is at this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Here {
    /// With a worker of this name.
    Leased(String),
    /// In memory.
    Buffered,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    Over,
    /// With a worker; of another broker it isn't known which, or whether it is still in memory there.
    Running {
        broker: String,
        worker: Option<String>,
    },
    /// The broker that has it shows no life, or is dead and hasn't been rescued.
    BrokerLost {
        broker: String,
    },
    Scheduled {
        until: i64,
    },
    Retry {
        at: i64,
    },
    /// Its time has come.
    Due,
    Paused {
        since: i64,
    },
    NoWorkers,
    /// Limited, and no broker with workers owns the queue.
    NoOwner,
    OwnerLost {
        broker: String,
    },
    ConcurrencyFull {
        held: u64,
        max: u32,
    },
    RateSpent,
    /// All workers have what they can take.
    WorkersBusy {
        held: u64,
    },
    /// So many of its key are under way; the owner of its queue knows exactly.
    KeyConcurrencyFull {
        held: u64,
        max: u32,
    },
    KeyRateSpent,
    /// In order another one of its key comes before it; which that is may be known.
    KeyHeldUp {
        by: Option<JobId>,
    },
    /// One of several limits of its key; this broker owns its queue and knows which.
    KeyLimited {
        owner: String,
    },
    /// The owner of its queue can't count more keys.
    KeysFull {
        owner: String,
    },
    Behind,
    Next,
}

pub fn explain(facts: &Facts) -> Reason {
    match facts.state {
        State::Succeeded | State::Dead | State::Cancelled => Reason::Over,
        State::Scheduled => match facts.run_at {
            Some(until) if until > facts.now && facts.failures > 0 => Reason::Retry { at: until },
            Some(until) if until > facts.now => Reason::Scheduled { until },
            _ => Reason::Due,
        },
        State::Running => running(facts),
        State::Ready => waiting(facts),
    }
}

fn running(facts: &Facts) -> Reason {
    let broker = facts.brokers.iter().find(|broker| Some(broker.id) == facts.owner);
    let name = broker.map(|broker| broker.name.clone()).unwrap_or_default();
    match &facts.here {
        Some(Here::Leased(worker)) => {
            Reason::Running { broker: name, worker: Some(worker.clone()) }
        }
        Some(Here::Buffered) => waiting(facts),
        None if broker.is_none_or(|broker| lost(broker, facts)) => {
            Reason::BrokerLost { broker: name }
        }
        None => Reason::Running { broker: name, worker: None },
    }
}

/// What stands between a ready job and a worker; what can't be otherwise comes first.
fn waiting(facts: &Facts) -> Reason {
    if let Some(since) = facts.paused_at {
        return Reason::Paused { since };
    }
    let living = || facts.brokers.iter().filter(|broker| !broker.dead);
    if living().all(|broker| broker.sessions == 0) {
        return Reason::NoWorkers;
    }
    if facts.limits.are_any() {
        let Some(owner) = facts.brokers.iter().find(|broker| broker.owns) else {
            return Reason::NoOwner;
        };
        let key = facts.key.as_ref();
        if lost(owner, facts) {
            return Reason::OwnerLost { broker: owner.name.clone() };
        }
        if owner.sessions == 0 {
            return Reason::NoOwner;
        }
        if let Some(reason) = key.and_then(|key| known_of(key, facts.limits.key, owner)) {
            return reason;
        }
        if let Some(max) = facts.limits.concurrency.filter(|max| owner.held >= u64::from(*max)) {
            return Reason::ConcurrencyFull { held: owner.held, max };
        }
        if owner.free == 0 {
            return Reason::WorkersBusy { held: owner.held };
        }
        if facts.limits.rate.is_some() {
            return Reason::RateSpent;
        }
        if key.is_some_and(|key| key.standing.is_none()) {
            return guessed_of(facts.limits.key, owner);
        }
    }
    if living().all(|broker| broker.free == 0) {
        return Reason::WorkersBusy { held: living().map(|broker| broker.held).sum() };
    }
    if facts.ahead > 0 { Reason::Behind } else { Reason::Next }
}

fn lost(broker: &BrokerFacts, facts: &Facts) -> bool {
    // One that lives shows it several times in that time.
    broker.dead || facts.now - broker.heartbeat_at > facts.dead_after_micros / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RateLimit;

    const NOW: i64 = 1_000_000_000;

    fn broker() -> BrokerFacts {
        BrokerFacts {
            id: 7,
            name: "b".to_owned(),
            heartbeat_at: NOW - 1_000_000,
            sessions: 1,
            held: 2,
            free: 3,
            ..BrokerFacts::default()
        }
    }

    fn facts(state: State) -> Facts {
        Facts {
            now: NOW,
            state,
            run_at: None,
            failures: 0,
            owner: None,
            here: None,
            ahead: 0,
            paused_at: None,
            key: None,
            limits: QueueLimits::NONE,
            brokers: vec![broker()],
            dead_after_micros: 15_000_000,
        }
    }

    pub(super) fn ready(change: impl FnOnce(&mut Facts)) -> Reason {
        let mut facts = facts(State::Ready);
        change(&mut facts);
        explain(&facts)
    }

    #[test]
    fn a_scheduled_job_waits_for_its_time() {
        let scheduled = Facts { run_at: Some(NOW + 5), ..facts(State::Scheduled) };
        assert_eq!(explain(&scheduled), Reason::Scheduled { until: NOW + 5 });
        assert_eq!(explain(&Facts { failures: 1, ..scheduled }), Reason::Retry { at: NOW + 5 });
        assert_eq!(explain(&Facts { run_at: Some(NOW), ..facts(State::Scheduled) }), Reason::Due);
        assert_eq!(explain(&facts(State::Dead)), Reason::Over);
    }

    #[test]
    fn a_job_that_was_taken_is_where_its_broker_says() {
        let taken = Facts { owner: Some(7), ..facts(State::Running) };
        let running = |worker: Option<&str>| Reason::Running {
            broker: "b".to_owned(),
            worker: worker.map(str::to_owned),
        };
        assert_eq!(explain(&taken), running(None));
        let here = Some(Here::Leased("w".to_owned()));
        assert_eq!(explain(&Facts { here, ..taken.clone() }), running(Some("w")));
        let busy = vec![BrokerFacts { free: 0, ..broker() }];
        let buffered = Facts { here: Some(Here::Buffered), brokers: busy, ..taken.clone() };
        assert_eq!(explain(&buffered), Reason::WorkersBusy { held: 2 });
        let silent = vec![BrokerFacts { heartbeat_at: NOW - 8_000_000, ..broker() }];
        let lost = Reason::BrokerLost { broker: "b".to_owned() };
        assert_eq!(explain(&Facts { brokers: silent, ..taken.clone() }), lost);
        let forgotten = Facts { owner: Some(6), ..taken };
        assert_eq!(explain(&forgotten), Reason::BrokerLost { broker: String::new() });
    }

    #[test]
    fn a_ready_job_waits_for_what_comes_first() {
        assert_eq!(ready(|_| {}), Reason::Next);
        assert_eq!(ready(|f| f.ahead = 1), Reason::Behind);
        assert_eq!(ready(|f| f.brokers[0].free = 0), Reason::WorkersBusy { held: 2 });
        assert_eq!(ready(|f| f.brokers[0].sessions = 0), Reason::NoWorkers);
        assert_eq!(ready(|f| f.brokers[0].dead = true), Reason::NoWorkers);
        assert_eq!(ready(|f| f.paused_at = Some(3)), Reason::Paused { since: 3 });
    }

    #[test]
    fn a_limited_queue_waits_for_its_owner_and_then_for_its_limits() {
        let limits = QueueLimits { concurrency: Some(2), ..QueueLimits::NONE };
        let limited = |change: fn(&mut Facts)| {
            ready(|f| {
                f.limits = limits;
                f.brokers[0].owns = true;
                change(f);
            })
        };
        assert_eq!(limited(|f| f.brokers[0].owns = false), Reason::NoOwner);
        assert_eq!(limited(|_| {}), Reason::ConcurrencyFull { held: 2, max: 2 });
        assert_eq!(limited(|f| f.brokers[0].held = 1), Reason::Next);
        let lost = Reason::OwnerLost { broker: "b".to_owned() };
        assert_eq!(limited(|f| f.brokers[0].heartbeat_at = 0), lost);
        let rate = RateLimit { jobs: 1, period_ms: 1000, burst: 1 };
        let limits = QueueLimits { rate: Some(rate), ..QueueLimits::NONE };
        let spent = ready(|f| {
            f.limits = limits;
            f.brokers[0].owns = true;
        });
        assert_eq!(spent, Reason::RateSpent);
    }
}
