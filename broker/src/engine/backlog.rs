use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use crate::{
    domain::JobId,
    mutation::{self, Mutation},
};

/// Where a claim looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimFrom {
    /// At the front of the whole queue, highest priority first.
    Sweep,
    /// At one priority, behind the last id claimed: dead index entries are never read again.
    Cursor { priority: i16, after: JobId },
}

/// What is known of a queue's ready rows in the database.
///
/// - `levels`: priorities that have rows, each with a cursor: no row that we know of stands at or
///   before it.
/// - `unknown`: there may be rows of which no level knows, older than anything stored now. Set at the
///   start, and when a sweep came back full.
/// - `notified`: somebody said that there is something new. Doesn't forbid direct dispatch: the order
///   among brokers is by commit.
/// - `storing`: rows on their way into the backlog by our own hand, not committed.
/// - `rows`: how many stand behind the cursors, roughly: what was noted less what was claimed.
/// - `counted`: that is all, as far as we have heard: its end has been seen once, and nothing was forgotten
///   since. A full sweep later doesn't change that.
///
/// Direct dispatch is allowed where no older row of the same or a higher priority can stand.
#[derive(Debug)]
pub(super) struct Backlog {
    levels: BTreeMap<Reverse<i16>, JobId>,
    unknown: bool,
    notified: bool,
    storing: usize,
    rows: usize,
    counted: bool,
    claim: Option<ClaimFrom>,
    /// What was noted while a claim was in flight, which can't have seen it.
    noted_meanwhile: BTreeMap<Reverse<i16>, JobId>,
    notified_meanwhile: bool,
    /// A sweep reads dead entries again: it may not take more than a share of the time.
    sweep_not_before: Duration,
    last_sweep: Duration,
    claim_not_before: Duration,
}

/// A sweep that took t longer than a cheap one is followed by the next after SWEEP_REST * t at the
/// earliest. The bound is for a database that is slow for another reason: what others store waits no longer.
const SWEEP_REST: u32 = 20;
const SWEEP_REST_MAX: Duration = Duration::from_secs(1);
const SWEEP_CHEAP: Duration = Duration::from_millis(3);
/// After a failed claim.
const CLAIM_PAUSE: Duration = Duration::from_millis(250);

/// How long to rest after a look that took so long.
pub(super) fn sweep_rest(took: Duration) -> Duration {
    (took.saturating_sub(SWEEP_CHEAP) * SWEEP_REST).min(SWEEP_REST_MAX)
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self {
            levels: BTreeMap::new(),
            unknown: true,
            notified: false,
            storing: 0,
            rows: 0,
            counted: false,
            claim: None,
            noted_meanwhile: BTreeMap::new(),
            notified_meanwhile: false,
            sweep_not_before: Duration::ZERO,
            last_sweep: Duration::ZERO,
            claim_not_before: Duration::ZERO,
        }
    }

    pub(super) fn allows_direct(&self, priority: i16) -> bool {
        !self.unknown
            && self.storing == 0
            && self.highest().is_none_or(|highest| highest < priority)
    }

    /// The highest priority that is known to have rows.
    pub(super) fn highest(&self) -> Option<i16> {
        self.levels.first_key_value().map(|(priority, _)| priority.0)
    }

    /// How many rows stand in it or are on their way, roughly; `None`: nobody knows.
    pub(super) fn rows(&self) -> Option<usize> {
        self.counted.then_some(self.storing + self.rows)
    }

    /// Whether the first look at it is under way.
    pub(super) fn is_first_looked_at(&self) -> bool {
        self.is_to_be_looked_at() && self.claim == Some(ClaimFrom::Sweep)
    }

    /// Nothing is known of it: where rows stand only a sweep tells.
    fn is_to_be_looked_at(&self) -> bool {
        self.unknown && self.levels.is_empty()
    }

    pub(super) fn storing(&mut self) {
        self.storing += 1;
    }

    /// `rows` of those on their way arrived, or didn't.
    pub(super) fn storing_ended(&mut self, rows: usize) {
        self.storing -= rows;
    }

    /// A ready row stands in the database.
    pub(super) fn note(&mut self, priority: i16, id: JobId) {
        self.rows += 1;
        self.lower(priority, JobId(id.0 - 1));
    }

    fn lower(&mut self, priority: i16, after: JobId) {
        if self.is_to_be_looked_at() && self.claim.is_none() {
            // The look finds it, in its place among those that it finds before it.
            return;
        }
        let levels =
            if self.claim.is_some() { &mut self.noted_meanwhile } else { &mut self.levels };
        levels
            .entry(Reverse(priority))
            .and_modify(|cursor| *cursor = (*cursor).min(after))
            .or_insert(after);
    }

    /// Something may be new.
    pub(super) fn notify(&mut self) {
        if self.claim.is_some() {
            self.notified_meanwhile = true;
        } else {
            self.notified = true;
        }
    }

    /// No session is left: what stands in the database changes without us.
    pub(super) fn forget(&mut self) {
        self.levels.clear();
        self.unknown = true;
        self.counted = false;
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty() && !self.unknown && !self.notified
    }

    /// Starts the next claim, if there is something to claim.
    pub(super) fn next_claim(&mut self, now: Duration) -> Option<ClaimFrom> {
        if self.claim.is_some() || now < self.claim_not_before {
            return None;
        }
        let notified = self.notified && !mutation::on(Mutation::ForgottenSweep);
        let sweep = notified && now >= self.sweep_not_before || self.is_to_be_looked_at();
        self.claim = if sweep {
            Some(ClaimFrom::Sweep)
        } else {
            self.levels
                .first_key_value()
                .map(|(priority, after)| ClaimFrom::Cursor { priority: priority.0, after: *after })
        };
        self.claim
    }

    /// A claim of up to `limit` rows came back with these, in order. `took`: how long it ran.
    pub(super) fn claimed(
        &mut self,
        now: Duration,
        took: Duration,
        limit: usize,
        rows: &[(i16, JobId)],
    ) {
        let full = rows.len() >= limit;
        self.rows = self.rows.saturating_sub(rows.len());
        match self.claim.take() {
            Some(ClaimFrom::Sweep) => {
                // Of two, so that a hiccup of the disk makes nobody wait.
                let cost = took.min(std::mem::replace(&mut self.last_sweep, took));
                self.sweep_not_before = now + sweep_rest(cost);
                self.notified = false;
                self.unknown = full;
                self.counted |= !full;
                // All in front of the last row is claimed; behind it nothing is known.
                self.levels.clear();
                if full && let Some(&(priority, id)) = rows.last() {
                    self.levels.insert(Reverse(priority), id);
                }
            }
            Some(ClaimFrom::Cursor { priority, .. }) => match rows.last() {
                Some(&(_, id)) if full => {
                    // Unless all was forgotten meanwhile.
                    self.levels.entry(Reverse(priority)).and_modify(|cursor| *cursor = id);
                }
                _ => {
                    self.levels.remove(&Reverse(priority));
                }
            },
            None => {}
        }
        self.claim_over();
    }

    pub(super) fn claim_failed(&mut self, now: Duration) {
        if self.claim.take().is_some() {
            // It may have committed: then the rows come back by rescue; what else stands is unknown.
            self.unknown = true;
            self.counted = false;
            self.claim_not_before = now + CLAIM_PAUSE;
        }
        self.claim_over();
    }

    fn claim_over(&mut self) {
        for (Reverse(priority), after) in std::mem::take(&mut self.noted_meanwhile) {
            self.lower(priority, after);
        }
        if self.levels.is_empty() {
            self.rows = 0;
        }
        self.notified |= std::mem::take(&mut self.notified_meanwhile);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn swept() -> Backlog {
        let mut backlog = Backlog::new();
        assert_eq!(backlog.next_claim(NOW), Some(ClaimFrom::Sweep));
        backlog.claimed(NOW, Duration::ZERO, 10, &[]);
        backlog
    }

    #[test]
    fn nothing_is_direct_before_the_first_sweep() {
        assert!(!Backlog::new().allows_direct(0));
        assert!(swept().allows_direct(0));
        assert_eq!(swept().next_claim(NOW), None);
    }

    #[test]
    fn what_is_noted_before_the_first_look_does_not_overtake_what_that_finds() {
        let mut backlog = Backlog::new();
        backlog.note(0, JobId(50));
        assert_eq!(backlog.next_claim(NOW), Some(ClaimFrom::Sweep));
        backlog.note(0, JobId(60));
        backlog.claimed(NOW, Duration::ZERO, 2, &[(5, JobId(70)), (0, JobId(50))]);
        let cursor = ClaimFrom::Cursor { priority: 0, after: JobId(50) };
        assert_eq!(backlog.next_claim(NOW), Some(cursor));
        backlog.forget();
        backlog.claimed(NOW, Duration::ZERO, 1, &[(0, JobId(60))]);
        assert_eq!(backlog.next_claim(NOW), Some(ClaimFrom::Sweep), "of what it knew");
    }

    #[test]
    fn older_rows_of_the_same_or_higher_priority_forbid_direct() {
        let mut backlog = swept();
        backlog.note(3, JobId(50));
        assert!(!backlog.allows_direct(3));
        assert!(!backlog.allows_direct(0));
        assert!(backlog.allows_direct(4));
    }

    #[test]
    fn rows_on_their_way_forbid_direct() {
        let mut backlog = swept();
        backlog.storing();
        assert!(!backlog.allows_direct(100));
        backlog.storing_ended(1);
        assert!(backlog.allows_direct(100));
    }

    #[test]
    fn claims_the_highest_priority_behind_its_cursor() {
        let mut backlog = swept();
        backlog.note(0, JobId(50));
        backlog.note(5, JobId(70));
        let cursor = |priority, after| Some(ClaimFrom::Cursor { priority, after: JobId(after) });
        assert_eq!(backlog.next_claim(NOW), cursor(5, 69));
        assert_eq!(backlog.next_claim(NOW), None, "one at a time");
        backlog.claimed(NOW, Duration::ZERO, 2, &[(5, JobId(70)), (5, JobId(71))]);
        assert_eq!(backlog.next_claim(NOW), cursor(5, 71));
        backlog.claimed(NOW, Duration::ZERO, 2, &[(5, JobId(72))]);
        assert_eq!(backlog.next_claim(NOW), cursor(0, 49));
    }

    #[test]
    fn a_row_noted_behind_the_cursor_during_a_claim_lowers_it_again() {
        let mut backlog = swept();
        backlog.note(0, JobId(50));
        backlog.next_claim(NOW);
        backlog.note(0, JobId(40));
        backlog.claimed(NOW, Duration::ZERO, 2, &[(0, JobId(50)), (0, JobId(51))]);
        assert_eq!(
            backlog.next_claim(NOW),
            Some(ClaimFrom::Cursor { priority: 0, after: JobId(39) })
        );
    }

    #[test]
    fn its_length_is_known_roughly() {
        let mut backlog = Backlog::new();
        assert_eq!(backlog.rows(), None);
        assert!(!backlog.is_first_looked_at());
        backlog.next_claim(NOW);
        assert!(backlog.is_first_looked_at());
        backlog.claimed(NOW, Duration::ZERO, 10, &[]);
        assert!(!backlog.is_first_looked_at());
        backlog.note(0, JobId(50));
        backlog.note(0, JobId(51));
        backlog.storing();
        assert_eq!(backlog.rows(), Some(3));
        backlog.storing_ended(1);
        backlog.next_claim(NOW);
        backlog.claimed(NOW, Duration::ZERO, 1, &[(0, JobId(50))]);
        assert_eq!(backlog.rows(), Some(1));
        backlog.next_claim(NOW);
        backlog.claimed(NOW, Duration::ZERO, 2, &[]);
        assert_eq!(backlog.rows(), Some(0), "somebody else has claimed it");
    }

    #[test]
    fn a_full_sweep_does_not_forget_its_length() {
        let mut backlog = swept();
        for id in 1..=5 {
            backlog.note(0, JobId(id));
        }
        backlog.notify();
        assert_eq!(backlog.next_claim(NOW), Some(ClaimFrom::Sweep));
        backlog.claimed(NOW, Duration::ZERO, 2, &[(0, JobId(1)), (0, JobId(2))]);
        assert!(!backlog.allows_direct(0));
        assert_eq!(backlog.rows(), Some(3));
        backlog.forget();
        assert_eq!(backlog.rows(), None);
    }

    #[test]
    fn a_full_sweep_leaves_lower_priorities_unknown() {
        let mut backlog = Backlog::new();
        backlog.next_claim(NOW);
        backlog.claimed(NOW, Duration::ZERO, 2, &[(5, JobId(9)), (0, JobId(3))]);
        assert!(!backlog.allows_direct(0));
        backlog.next_claim(NOW);
        backlog.claimed(NOW, Duration::ZERO, 2, &[]);
        assert_eq!(
            backlog.next_claim(NOW),
            Some(ClaimFrom::Sweep),
            "level 0 is done, what is below?"
        );
        backlog.claimed(NOW, Duration::ZERO, 2, &[]);
        assert!(backlog.is_empty());
    }

    #[test]
    fn sweeps_rest_in_proportion_to_their_cost() {
        let mut backlog = swept();
        for _ in 0..2 {
            backlog.notify();
            assert_eq!(backlog.next_claim(NOW), Some(ClaimFrom::Sweep));
            backlog.notify();
            backlog.claimed(NOW, Duration::from_millis(10), 10, &[]);
        }
        assert_eq!(backlog.next_claim(NOW), None);
        assert_eq!(backlog.next_claim(NOW + Duration::from_millis(139)), None);
        assert_eq!(backlog.next_claim(NOW + Duration::from_millis(140)), Some(ClaimFrom::Sweep));
    }
}
