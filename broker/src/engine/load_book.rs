use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::QueueLoad;
use crate::domain::QueueId;

/// A queue's load at one broker, as others are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToldLoad {
    pub queue: QueueId,
    pub sessions: usize,
    pub held: usize,
    /// How many more the sessions can take.
    pub free: usize,
    /// In the mean of the last seconds.
    pub enqueued_per_s: f32,
    pub completed_per_s: f32,
}

/// What of the load others have been told: only what has changed is told again, so that an idle broker
/// says nothing.
#[derive(Debug, Default)]
pub struct LoadBook {
    /// As many as there are queues in use.
    queues: HashMap<QueueId, Page>,
    before: Duration,
}

#[derive(Debug)]
struct Page {
    /// Enqueued and completed, over the last seconds.
    samples: VecDeque<(Duration, u64, u64)>,
    told: Option<ToldLoad>,
}

/// Over which rates are.
const WINDOW: Duration = Duration::from_secs(10);

impl LoadBook {
    /// What others don't know yet, at this time.
    pub fn news(
        &mut self,
        now: Duration,
        loads: impl IntoIterator<Item = (QueueId, QueueLoad)>,
    ) -> Vec<ToldLoad> {
        let before = std::mem::replace(&mut self.before, now);
        let news = loads.into_iter().filter_map(|(queue, load)| {
            let page = self.queues.entry(queue).or_insert_with(|| Page {
                // It counts from 0, since the last time or later.
                samples: VecDeque::from([(before, 0, 0)]),
                told: None,
            });
            let told = page.tell(now, queue, &load);
            (page.told.replace(told) != Some(told)).then_some(told)
        });
        news.collect()
    }

    /// What was to be told wasn't heard: all is told again.
    pub fn forget(&mut self) {
        for page in self.queues.values_mut() {
            page.told = None;
        }
    }
}

impl Page {
    fn tell(&mut self, now: Duration, queue: QueueId, load: &QueueLoad) -> ToldLoad {
        let &QueueLoad { sessions, enqueued, completed, .. } = load;
        self.samples.push_back((now, enqueued, completed));
        // The first that stays is as old as the window, or older.
        while self.samples.get(1).is_some_and(|(at, ..)| *at + WINDOW <= now) {
            self.samples.pop_front();
        }
        let (at, enqueued_then, completed_then) = self.samples[0];
        let seconds = now.saturating_sub(at).as_secs_f32();
        let rate =
            |now: u64, then: u64| if seconds > 0.0 { (now - then) as f32 / seconds } else { 0.0 };
        ToldLoad {
            queue,
            sessions,
            held: load.in_memory(),
            free: load.free,
            enqueued_per_s: rate(enqueued, enqueued_then),
            completed_per_s: rate(completed, completed_then),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(held: usize, enqueued: u64, completed: u64) -> [(QueueId, QueueLoad); 1] {
        let load = QueueLoad { sessions: 1, held, enqueued, completed, ..QueueLoad::default() };
        [(QueueId(1), load)]
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn only_what_has_changed_is_told_and_all_again_after_a_failure() {
        let mut book = LoadBook::default();
        assert_eq!(book.news(secs(1), load(0, 0, 0)).len(), 1);
        assert!(book.news(secs(2), load(0, 0, 0)).is_empty());
        assert_eq!(book.news(secs(3), load(1, 0, 0))[0].held, 1);
        assert!(book.news(secs(4), load(1, 0, 0)).is_empty());
        book.forget();
        assert_eq!(book.news(secs(5), load(1, 0, 0)).len(), 1);
    }

    #[test]
    fn rates_are_over_the_last_seconds_and_end() {
        let mut book = LoadBook::default();
        book.news(secs(100), []);
        let first = book.news(secs(101), load(0, 500, 100))[0];
        assert_eq!((first.enqueued_per_s, first.completed_per_s), (500.0, 100.0));
        for second in 102..=130 {
            for rates in book.news(secs(second), load(0, 500 * (second - 100), 100)) {
                assert_eq!(rates.enqueued_per_s, 500.0);
            }
        }
        let last = 500 * 30;
        let told: Vec<_> =
            (131..150).flat_map(|at| book.news(secs(at), load(0, last, 100))).collect();
        assert_eq!(told.len(), 10, "until the window is empty");
        assert_eq!(told[9].enqueued_per_s, 0.0);
    }
}
