use std::{fmt, time::Duration};

/// A job's id: milliseconds since 1970 << 22 | broker slot << 12 | sequence.
///
/// Made by the broker, so that an insert needs no `RETURNING`; time-ordered across brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub i64);

impl JobId {
    /// When it was made, in milliseconds since 1970.
    pub fn created_ms(self) -> i64 {
        self.0 >> TIME_SHIFT
    }

    /// The id that follows within one call of the same broker.
    pub fn successor(self) -> Self {
        if self.0 & (SEQUENCE_END - 1) == SEQUENCE_END - 1 {
            Self(self.0 - (SEQUENCE_END - 1) + (1 << TIME_SHIFT))
        } else {
            Self(self.0 + 1)
        }
    }
}

/// What of a session's id, in digits, others than its worker are shown: whoever has all of it has the session.
pub fn shown_session(digits: &str) -> String {
    digits.chars().take(8).collect()
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const TIME_SHIFT: u32 = 22;
const SLOT_SHIFT: u32 = 12;
const SEQUENCE_END: i64 = 1 << SLOT_SHIFT;
/// Slots from here on are SQL's, see `currant.enqueue`.
const SLOT_END: i16 = 768;

/// What clocks may differ by, beyond what an answer of the database takes, and what is left out when ids turn
/// out to be taken. More is a clock that was set, which isn't followed or waited for.
const APART_MS_MAX: i64 = 3000;

/// The smallest id that any broker makes at this time, in milliseconds since 1970.
pub fn first_id_at_ms(ms: i64) -> JobId {
    JobId(ms << TIME_SHIFT)
}

/// Makes the ids of one broker: strictly growing, whatever the clock does.
#[derive(Debug)]
pub struct IdMaker {
    slot: i64,
    ms: i64,
    sequence: i64,
    /// No id is of before that.
    least_ms: i64,
}

impl IdMaker {
    /// `slot`: 0 to 767, held by one living broker at a time.
    pub fn new(slot: i16) -> Self {
        assert!((0..SLOT_END).contains(&slot), "slot {slot} is outside of 0..{SLOT_END}");
        Self { slot: i64::from(slot), ms: 0, sequence: 0, least_ms: 0 }
    }

    /// The next id. A clock that stands or goes back uses up the sequence, then runs ahead.
    pub fn next(&mut self, now_ms: i64) -> JobId {
        let now_ms = now_ms.max(self.least_ms);
        if now_ms > self.ms {
            self.ms = now_ms;
            self.sequence = 0;
        } else if self.sequence == SEQUENCE_END {
            self.ms += 1;
            self.sequence = 0;
        }
        let id = self.ms << TIME_SHIFT | self.slot << SLOT_SHIFT | self.sequence;
        self.sequence += 1;
        JobId(id)
    }

    /// Makes only greater ones than this, which the database has made, from now on.
    pub fn follow(&mut self, made: JobId, now_ms: i64) {
        // Within its millisecond it is above all of a broker's.
        let ms = made.created_ms() + 1;
        if ms <= now_ms + APART_MS_MAX {
            self.least_ms = self.least_ms.max(ms);
        }
    }

    /// How long to wait until what the database makes is greater than all that was made here. The clock is the
    /// database's, or behind it.
    pub fn ahead(&self, now_ms: i64) -> Duration {
        let ahead = u64::try_from(self.ms - now_ms).unwrap_or(0);
        if self.ms > now_ms + APART_MS_MAX { Duration::ZERO } else { Duration::from_millis(ahead) }
    }

    /// Leaves out a second of ids: for when one turned out to be taken.
    pub fn skip(&mut self) {
        self.ms += 1000;
        self.sequence = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_grow_whatever_the_clock_does(
            clock in prop::collection::vec((1_700_000_000_000i64..1_700_000_000_050, 1usize..3000), 1..50)
        ) {
            let mut ids = IdMaker::new(7);
            let mut last = JobId(0);
            for (ms, count) in clock {
                for _ in 0..count {
                    let id = ids.next(ms);
                    prop_assert!(id > last, "{id} after {last}");
                    prop_assert_eq!(id.0 >> SLOT_SHIFT & 1023, 7);
                    last = id;
                }
            }
        }
    }

    #[test]
    fn ids_made_at_one_time_are_successors() {
        let mut ids = IdMaker::new(5);
        let mut last = ids.next(1_700_000_000_000);
        for _ in 0..10_000 {
            let id = ids.next(1_700_000_000_000);
            assert_eq!(id, last.successor());
            last = id;
        }
    }

    #[test]
    fn ids_follow_those_of_the_database_whatever_the_clock_says_but_not_one_that_was_set() {
        let mut ids = IdMaker::new(SLOT_END - 1);
        let now = 1_700_000_000_000;
        // The last of a millisecond.
        let of_database = |ms: i64| JobId(first_id_at_ms(ms + 1).0 - 1);
        for behind in [0, 4, -4, APART_MS_MAX - 1] {
            let made = of_database(now + behind);
            ids.follow(made, now);
            assert!(ids.next(now) > made, "{behind} ms behind");
        }
        let set = of_database(now + APART_MS_MAX);
        ids.follow(set, now);
        assert!(ids.next(now) < set);
    }

    #[test]
    fn what_the_database_makes_is_waited_for_but_not_a_clock_that_was_set() {
        let mut ids = IdMaker::new(0);
        let now = 1_700_000_000_000;
        assert_eq!(ids.ahead(now), Duration::ZERO);
        for _ in 0..=2 * SEQUENCE_END {
            ids.next(now);
        }
        assert_eq!(ids.ahead(now), Duration::from_millis(2));
        assert_eq!(ids.ahead(now + 3), Duration::ZERO);
        ids.skip();
        assert_eq!(ids.ahead(now), Duration::from_millis(1002));
        assert_eq!(ids.ahead(now - APART_MS_MAX), Duration::ZERO);
    }

    #[test]
    fn an_id_tells_its_time() {
        let mut ids = IdMaker::new(SLOT_END - 1);
        assert_eq!(ids.next(1_700_000_000_123).created_ms(), 1_700_000_000_123);
        ids.skip();
        assert_eq!(ids.next(1_700_000_000_124).created_ms(), 1_700_000_001_123);
    }
}
