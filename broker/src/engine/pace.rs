use std::time::Duration;

/// How fast a queue's workers finish jobs, over the last moments in which they had some.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Jobs finished and time spent, older ones fading.
    jobs: f64,
    seconds: f64,
    at: Duration,
}

/// After so long a sample counts for a third.
const FADE: Duration = Duration::from_millis(400);

impl Pace {
    /// Work has come after a time without: that time doesn't count.
    pub(super) fn work_came(&mut self, now: Duration) {
        self.at = now;
    }

    pub(super) fn finished(&mut self, now: Duration, jobs: usize) {
        (self.jobs, self.seconds) = self.faded(now);
        self.jobs += jobs as f64;
        self.at = now;
    }

    /// Jobs a second; `None` before the first has finished.
    pub(super) fn rate(&self, now: Duration) -> Option<f64> {
        let (jobs, seconds) = self.faded(now);
        (jobs > 0.0 && seconds > 0.0).then(|| jobs / seconds)
    }

    fn faded(&self, now: Duration) -> (f64, f64) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        let share = (-passed / FADE.as_secs_f64()).exp();
        (self.jobs * share, self.seconds * share + passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn rate(pace: &Pace, at: Duration) -> f64 {
        pace.rate(at).expect("it is known")
    }

    #[test]
    fn it_is_known_from_the_first_sample_and_follows() {
        let mut pace = Pace::default();
        assert_eq!(pace.rate(ms(5)), None);
        pace.work_came(ms(1000));
        assert_eq!(pace.rate(ms(1005)), None);
        for at in (1010..2000).step_by(10) {
            pace.finished(ms(at), 100);
            assert!((rate(&pace, ms(at)) - 10_000.0).abs() < 500.0, "{}", rate(&pace, ms(at)));
        }
        for at in (2000..6000).step_by(10) {
            pace.finished(ms(at), 10);
        }
        assert!((rate(&pace, ms(5990)) - 1000.0).abs() < 50.0);
        assert!(rate(&pace, ms(9000)) < 10.0, "nothing is finished any more");
    }

    #[test]
    fn a_time_without_work_does_not_count() {
        let mut pace = Pace::default();
        pace.work_came(ms(0));
        pace.finished(ms(100), 1000);
        pace.work_came(ms(60_000));
        assert!((rate(&pace, ms(60_000)) - 10_000.0).abs() < 1.0);
    }
}
