use proptest::prelude::*;

use super::{KEYS, QUEUES, SESSIONS};

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Insert jobs: (queue, priority, key) each; whether the insert commits, and one of them is cancelled
    /// between that and the answer.
    Insert {
        jobs: Vec<(i32, i16, u8)>,
        commits: bool,
        cancels: bool,
    },
    /// Somebody else's jobs appear in the database.
    Foreign {
        queue: i32,
        priority: i16,
        key: u8,
        notify: bool,
    },
    /// A claim in flight ends; `commits`: whether it worked; `cancels`: whether one of its jobs is
    /// cancelled between the commit and the answer.
    Claim {
        which: usize,
        commits: bool,
        cancels: bool,
    },
    /// Somebody cancels a job that isn't over; `tells`: this broker hears of all such now.
    Cancel {
        which: usize,
        tells: bool,
    },
    /// Somebody makes a cancelled job ready again.
    Retry {
        which: usize,
    },
    Subscribe {
        session: u128,
        queues: Vec<i32>,
        credit: usize,
        keeps: bool,
    },
    StreamEnds {
        session: u128,
        stale: bool,
    },
    /// The worker goes to another broker, with all that it holds.
    GoesElsewhere {
        session: u128,
    },
    /// The worker reports some of what it holds.
    Complete {
        session: u128,
        count: usize,
        knows_session: bool,
    },
    /// A completion in flight ends; `commits`: whether it was stored.
    Stored {
        which: usize,
        commits: bool,
    },
    Heartbeat {
        session: u128,
        credit: Option<usize>,
        acknowledges: bool,
    },
    /// Somebody pauses or resumes a queue; `tells`: this broker hears of all such now.
    Pause {
        queue: i32,
        paused: bool,
        tells: bool,
    },
    /// Somebody limits a queue or ends that; `tells`: as above.
    Limit {
        queue: i32,
        concurrency: Option<u32>,
        tells: bool,
    },
    /// Somebody limits the keys of a queue or ends that; `tells`: as above.
    LimitKeys {
        queue: i32,
        concurrency: Option<u32>,
        ordered: bool,
        tells: bool,
    },
    /// Somebody gives a key a weight, and takes those of others, or of all; `tells`: as above.
    Weigh {
        queue: i32,
        key: u8,
        weight: u16,
        tells: bool,
    },
    /// The broker comes to own a limited queue, or gives it up; `elsewhere`: another broker has an attempt
    /// of it.
    Own {
        queue: i32,
        owned: bool,
        elsewhere: bool,
    },
    Sleep {
        ms: u64,
    },
    Poll,
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let queue = 0..QUEUES;
    let session = 1..=SESSIONS;
    let key = prop_oneof![2 => Just(0), 1 => 1..=KEYS];
    let step = prop_oneof![
        4 => (
            prop::collection::vec((queue.clone(), -1i16..=1, key.clone()), 1..8),
            prop::bool::weighted(0.9),
            prop::bool::weighted(0.1),
        )
            .prop_map(|(jobs, commits, cancels)| Step::Insert { jobs, commits, cancels }),
        1 => (queue.clone(), -1i16..=1, key, any::<bool>()).prop_map(
            |(queue, priority, key, notify)| Step::Foreign { queue, priority, key, notify }
        ),
        4 => (any::<usize>(), prop::bool::weighted(0.9), prop::bool::weighted(0.2))
            .prop_map(|(which, commits, cancels)| Step::Claim { which, commits, cancels }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, tells)| Step::Cancel { which, tells }),
        1 => any::<usize>().prop_map(|which| Step::Retry { which }),
        2 => (session.clone(), prop::collection::btree_set(queue, 1..3), 0usize..6, any::<bool>())
            .prop_map(|(session, queues, credit, keeps)| {
                Step::Subscribe { session, queues: queues.into_iter().collect(), credit, keeps }
            }),
        1 => (session.clone(), any::<bool>())
            .prop_map(|(session, stale)| Step::StreamEnds { session, stale }),
        1 => session.clone().prop_map(|session| Step::GoesElsewhere { session }),
        6 => (session.clone(), 1usize..5, prop::bool::weighted(0.9))
            .prop_map(|(session, count, knows_session)| Step::Complete { session, count, knows_session }),
        6 => (any::<usize>(), prop::bool::weighted(0.9))
            .prop_map(|(which, commits)| Step::Stored { which, commits }),
        2 => (session, prop::option::of(0usize..6), any::<bool>())
            .prop_map(|(session, credit, acknowledges)| {
                Step::Heartbeat { session, credit, acknowledges }
            }),
        2 => (1u64..12_000).prop_map(|ms| Step::Sleep { ms }),
        1 => Just(Step::Poll),
        1 => (0..QUEUES, any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(queue, paused, tells)| Step::Pause { queue, paused, tells }),
        1 => (0..QUEUES, prop::option::of(1u32..6), prop::bool::weighted(0.8))
            .prop_map(|(queue, concurrency, tells)| Step::Limit { queue, concurrency, tells }),
        1 => (0..QUEUES, prop::option::of(1u32..4), any::<bool>(), prop::bool::weighted(0.8)).prop_map(
            |(queue, concurrency, ordered, tells)| {
                Step::LimitKeys { queue, concurrency, ordered, tells }
            }
        ),
        1 => (0..QUEUES, 0..=KEYS, 1u16..5, prop::bool::weighted(0.8))
            .prop_map(|(queue, key, weight, tells)| Step::Weigh { queue, key, weight, tells }),
        2 => (0..QUEUES, prop::bool::weighted(0.8), any::<bool>())
            .prop_map(|(queue, owned, elsewhere)| Step::Own { queue, owned, elsewhere }),
    ];
    prop::collection::vec(step, 1..120)
}
