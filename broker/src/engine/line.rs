use std::{collections::BTreeSet, time::Duration};

use foldhash::{HashMap, HashMapExt};

/// How far a session is from starting a job at once: those that can come first, then those that hold less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Load {
    /// Its handlers are all busy: what it is given waits.
    pub(super) waits: bool,
    pub(super) held: usize,
}

/// Among those with the same load whoever has stood there for longer comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    load: Load,
    arrival: u64,
}

/// The attached sessions of one queue, in the order in which they are given its jobs.
///
/// A session that is given jobs by another of its queues keeps its place until it is looked at: it may
/// stand too far in front, never too far behind.
#[derive(Debug)]
pub(super) struct Line {
    /// All of them, by index; without a place: those that had no room when they were looked at.
    places: HashMap<usize, Option<Place>>,
    order: BTreeSet<(Place, usize)>,
    arrivals: u64,
    /// The sum of what `Session::run_time` says.
    run_time: Duration,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            places: HashMap::new(),
            order: BTreeSet::new(),
            arrivals: 0,
            run_time: Duration::ZERO,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// A session begins to take jobs of the queue; it has no place yet.
    pub(super) fn join(&mut self, index: usize, run_time: Duration) {
        if self.places.insert(index, None).is_none() {
            self.run_time += run_time;
        }
    }

    pub(super) fn leave(&mut self, index: usize, run_time: Duration) {
        if let Some(place) = self.places.remove(&index) {
            self.run_time -= run_time;
            if let Some(place) = place {
                self.order.remove(&(place, index));
            }
        }
    }

    /// A session has room. It moves forward if its load is less than it was, else it keeps its place.
    pub(super) fn stand(&mut self, index: usize, load: Load) {
        let Some(place) = self.places.get_mut(&index) else { return };
        if let Some(before) = *place {
            if before.load <= load {
                return;
            }
            self.order.remove(&(before, index));
        }
        self.arrivals += 1;
        let now = Place { load, arrival: self.arrivals };
        *place = Some(now);
        self.order.insert((now, index));
    }

    /// The first of the line, and the load with which it stands there.
    pub(super) fn first(&self) -> Option<(usize, Load)> {
        self.order.first().map(|(place, index)| (*index, place.load))
    }

    /// The first loses its place.
    pub(super) fn call(&mut self) {
        if let Some((_, index)) = self.order.pop_first() {
            self.places.insert(index, None);
        }
    }

    pub(super) fn run_time_changed(&mut self, before: Duration, after: Duration) {
        self.run_time = self.run_time + after - before;
    }

    /// The mean of all sessions, so that a few who were held up don't count for much.
    pub(super) fn mean_run_time(&self) -> Duration {
        let sessions = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.run_time.checked_div(sessions).unwrap_or_default()
    }
}

#[cfg(test)]
impl Line {
    pub(super) fn sessions(&self) -> impl Iterator<Item = usize> + '_ {
        self.places.keys().copied()
    }

    pub(super) fn load(&self, index: usize) -> Option<Load> {
        self.places.get(&index).copied().flatten().map(|place| place.load)
    }

    pub(super) fn run_time(&self) -> Duration {
        self.run_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(held: usize) -> Load {
        Load { waits: false, held }
    }

    fn line(sessions: usize) -> Line {
        let mut line = Line::new();
        for index in 0..sessions {
            line.join(index, Duration::from_micros(index as u64));
        }
        line
    }

    fn called(line: &mut Line) -> Vec<usize> {
        std::iter::from_fn(|| {
            let (index, _) = line.first()?;
            line.call();
            Some(index)
        })
        .collect()
    }

    #[test]
    fn those_that_can_start_a_job_come_first_then_those_that_hold_less_then_in_turns() {
        let mut line = line(5);
        line.stand(0, Load { waits: true, held: 1 });
        for (index, held) in [(1, 7), (2, 0), (3, 0), (4, 7)] {
            line.stand(index, load(held));
        }
        line.call();
        line.stand(2, load(0));
        assert_eq!(called(&mut line), [3, 2, 1, 4, 0]);
        assert_eq!(called(&mut line), [0; 0], "nobody has a place any more");
    }

    #[test]
    fn a_place_is_kept_until_there_is_a_better_one() {
        let mut line = line(2);
        line.stand(0, load(2));
        line.stand(1, load(2));
        line.stand(0, load(2));
        line.stand(0, load(5));
        assert_eq!(line.first(), Some((0, load(2))));
        line.stand(1, load(1));
        assert_eq!(called(&mut line), [1, 0]);
    }

    #[test]
    fn who_has_left_is_not_called_and_counts_no_more() {
        let mut line = line(3);
        line.stand(1, load(0));
        line.stand(2, load(0));
        line.leave(1, Duration::from_micros(1));
        line.stand(1, load(0));
        assert_eq!(line.mean_run_time(), Duration::from_micros(1));
        line.run_time_changed(Duration::from_micros(2), Duration::from_micros(8));
        assert_eq!(line.mean_run_time(), Duration::from_micros(4));
        assert_eq!(called(&mut line), [2]);
    }
}
