use bytes::Bytes;

use super::{CronRule, JobId, JobOptions, QueueId};

/// What becomes of fires that no broker was there to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// They're left out.
    Skip,
    /// The last of them is made.
    Latest,
    /// All are made that are not older than this, the oldest first.
    All { window_ms: u64 },
}

/// What becomes of a fire whose predecessor's job isn't over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// It is made.
    Allow,
    /// It is left out.
    Skip,
    /// It is made when that job is over; one waits, no more.
    QueueOne,
}

/// When a schedule fires.
#[derive(Clone, Debug)]
pub struct ScheduleRules {
    pub cron: CronRule,
    pub catch_up: CatchUp,
    pub overlap: Overlap,
}

/// The jobs of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct JobTemplate {
    pub queue: QueueId,
    pub kind: String,
    pub payload: Bytes,
    /// `None`: the queue's default, as with the next.
    pub priority: Option<i16>,
    pub max_attempts: Option<u16>,
    /// Without an expiry.
    pub options: Option<Box<JobOptions>>,
    /// They start so long after their fire's time at the latest; `None`: whenever it may be.
    pub expire_after_ms: Option<u64>,
}

/// A schedule as asked for: checked, not yet stored.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    pub name: String,
    pub rules: ScheduleRules,
    pub job: JobTemplate,
}

/// A schedule as it stands in the database. Times are in microseconds since 1970.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub name: String,
    pub rules: ScheduleRules,
    pub job: JobTemplate,
    pub from_file: bool,
    pub paused_at: Option<i64>,
    pub next_at: Option<i64>,
    pub waiting_at: Option<i64>,
    pub last_at: Option<i64>,
    pub last_job: Option<JobId>,
}

/// Where a schedule stands. Times are in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub next_at: Option<i64>,
    /// A fire that waits until the job before is over.
    pub waiting_at: Option<i64>,
    /// Whether the last fire's job isn't over.
    pub open: bool,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firing {
    /// The times of the fires to be made, in order; at most `FIRES_MAX`.
    pub fires: Vec<i64>,
    pub next_at: Option<i64>,
    pub waiting_at: Option<i64>,
}

/// A fire that is later than this was missed: nobody was there to make it.
const LATE_MICROS: i64 = 60_000_000;

/// Fires that are made at a time; the next follow at once.
const FIRES_MAX: usize = 100;

/// Says which fires to make. With what it says the schedule stands where nothing is due, or the next part
/// of many is.
pub fn fire(rules: &ScheduleRules, standing: Standing, now: i64) -> Firing {
    let Standing { next_at, waiting_at, open } = standing;
    let (due, next_at) = due(rules, next_at, now);
    let (fires, waiting_at) = match rules.overlap {
        Overlap::Allow => (waiting_at.into_iter().chain(due).collect(), None),
        // What the first of them stores isn't over when the others are due.
        Overlap::Skip => (due.into_iter().take(1).filter(|_| !open).collect(), None),
        Overlap::QueueOne => {
            let mut wanted = waiting_at.into_iter().chain(due);
            let first: Vec<i64> =
                if open { Vec::new() } else { wanted.next().into_iter().collect() };
            (first, wanted.next())
        }
    };
    Firing { fires, next_at, waiting_at }
}

/// The fires up to now that are to be made, and the one after these.
fn due(rules: &ScheduleRules, next_at: Option<i64>, now: i64) -> (Vec<i64>, Option<i64>) {
    let ScheduleRules { cron, catch_up, overlap: _ } = rules;
    let Some(first) = next_at.filter(|at| *at <= now) else { return (Vec::new(), next_at) };
    let on_time = now - LATE_MICROS;
    let from = match catch_up {
        CatchUp::All { window_ms } => {
            let window = i64::try_from(window_ms.saturating_mul(1000)).unwrap_or(i64::MAX);
            on_time.min(now.saturating_sub(window))
        }
        CatchUp::Latest => cron.last_until(now).map_or(on_time, |last| last.min(on_time)),
        CatchUp::Skip => on_time,
    };
    // From is the first that may be made; what lies before is left out without a look.
    let mut at = if first >= from { Some(first) } else { cron.after(from - 1) };
    let mut due = Vec::new();
    while let Some(fire) = at.filter(|fire| *fire <= now && due.len() < FIRES_MAX) {
        due.push(fire);
        at = cron.after(fire);
    }
    (due, at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000_000;
    const NOW: i64 = 1_800_000_000_000_000;

    fn rules(cron: &str, catch_up: CatchUp, overlap: Overlap) -> ScheduleRules {
        let cron = CronRule::parse(cron, "UTC").expect("a good rule");
        ScheduleRules { cron, catch_up, overlap }
    }

    fn standing(next_at: i64) -> Standing {
        Standing { next_at: Some(next_at), waiting_at: None, open: false }
    }

    #[test]
    fn a_fire_is_made_when_it_is_due_and_not_before() {
        let rules = rules("* * * * *", CatchUp::Skip, Overlap::Allow);
        let early = fire(&rules, standing(NOW), NOW - 1);
        let (fires, waiting_at) = (Vec::new(), None);
        assert_eq!(early, Firing { fires, next_at: Some(NOW), waiting_at });
        let fired = fire(&rules, standing(NOW), NOW + 5);
        assert_eq!((fired.fires, fired.next_at), (vec![NOW], Some(NOW + MINUTE)));
    }

    #[test]
    fn what_was_missed_is_caught_up_by_the_policy() {
        let hour = standing(NOW - 60 * MINUTE);
        let fires = |catch_up| {
            let fired =
                fire(&rules("*/10 * * * *", catch_up, Overlap::Allow), hour, NOW + MINUTE * 5);
            assert_eq!(fired.next_at, Some(NOW + 10 * MINUTE));
            fired.fires
        };
        assert!(fires(CatchUp::Skip).is_empty());
        assert_eq!(fires(CatchUp::Latest), [NOW]);
        let window_ms = 26 * 60_000;
        let all = [NOW - 20 * MINUTE, NOW - 10 * MINUTE, NOW];
        assert_eq!(fires(CatchUp::All { window_ms }), all);
    }

    #[test]
    fn many_missed_fires_are_made_in_parts_and_a_long_pause_costs_nothing() {
        let rules = rules("* * * * * *", CatchUp::All { window_ms: 250_000 }, Overlap::Allow);
        let mut next_at = NOW - 365 * 24 * 60 * MINUTE;
        let mut fires = Vec::new();
        while next_at <= NOW {
            let fired = fire(&rules, standing(next_at), NOW);
            assert!(!fired.fires.is_empty() && fired.fires.len() <= FIRES_MAX);
            fires.extend(fired.fires);
            next_at = fired.next_at.expect("it goes on");
        }
        let expected: Vec<i64> = (0..=250).map(|back| NOW - (250 - back) * 1_000_000).collect();
        assert_eq!(fires, expected);
    }

    #[test]
    fn a_fire_whose_predecessor_runs_is_made_left_out_or_waits() {
        let open = Standing { open: true, ..standing(NOW) };
        let fired = |overlap, standing, now| {
            fire(&rules("* * * * *", CatchUp::Skip, overlap), standing, now)
        };
        assert_eq!(fired(Overlap::Allow, open, NOW).fires, [NOW]);
        let skipped = fired(Overlap::Skip, open, NOW);
        assert_eq!((skipped.fires, skipped.waiting_at), (vec![], None));
        let waits = fired(Overlap::QueueOne, open, NOW);
        assert_eq!((waits.fires, waits.waiting_at), (vec![], Some(NOW)));
        let later = Standing { next_at: waits.next_at, waiting_at: waits.waiting_at, open: true };
        let still = fired(Overlap::QueueOne, later, NOW + MINUTE);
        assert_eq!((still.fires, still.waiting_at), (vec![], Some(NOW)), "one, no more");
        let over = Standing { next_at: still.next_at, waiting_at: Some(NOW), open: false };
        let made = fired(Overlap::QueueOne, over, NOW + MINUTE + 1);
        assert_eq!((made.fires, made.waiting_at), (vec![NOW], None));
        assert_eq!(made.next_at, Some(NOW + 2 * MINUTE));
    }

    proptest! {
        /// However often it is looked at, every fire of a schedule that is on time is made once.
        #[test]
        fn each_fire_is_made_once(looks in prop::collection::vec(1i64..55, 1..60)) {
            let rules = rules("*/20 * * * * *", CatchUp::Skip, Overlap::Allow);
            let (mut standing, mut now, mut made) = (standing(NOW), NOW - 1, Vec::new());
            for seconds in looks {
                now += seconds * 1_000_000;
                let fired = fire(&rules, standing, now);
                made.extend(fired.fires);
                standing.next_at = fired.next_at;
            }
            let expected: Vec<i64> = (0..).map(|n| NOW + n * 20_000_000).take_while(|at| *at <= now).collect();
            prop_assert_eq!(made, expected);
        }
    }
}
