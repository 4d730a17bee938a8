//! A line in the log for each attempt that failed, though not more than somebody can read.

use std::time::Duration;

use crate::store::Settlement;

/// In a second.
const LINES_MAX: u32 = 50;

/// How many lines were written in this second, and how many failures since then have none.
#[derive(Debug, Default)]
pub(super) struct FailureLines {
    second: u64,
    lines: u32,
    left_out: u64,
}

impl FailureLines {
    /// Whether this failure has a line, and how many before it had none.
    fn take(&mut self, now: Duration) -> Option<u64> {
        if now.as_secs() != self.second {
            (self.second, self.lines) = (now.as_secs(), 0);
        }
        if self.lines == LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }

    /// `next`: the state that its job is in now. The error's message isn't told: what a handler says may be
    /// a secret.
    pub(super) fn write(&mut self, now: Duration, queue: &str, row: &Settlement, next: &str) {
        let Some(failure) = &row.failure else { return };
        let Some(left_out) = self.take(now) else { return };
        if left_out > 0 {
            tracing::warn!(attempts = left_out, "more attempts failed than there are lines for");
        }
        let Settlement { key, attempt, failures, .. } = row;
        let (job, class) = (key.id.0, &failure.class);
        if next == "dead" {
            tracing::warn!(queue, job, attempt, failures, class, "a job is dead");
        } else {
            tracing::info!(queue, job, attempt, failures, class, next, "an attempt failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_one_says_how_many_were_left_out() {
        let mut lines = FailureLines::default();
        let at = Duration::from_millis;
        for _ in 0..LINES_MAX {
            assert_eq!(lines.take(at(5100)), Some(0));
        }
        assert_eq!([lines.take(at(5200)), lines.take(at(5999))], [None, None]);
        assert_eq!([lines.take(at(6000)), lines.take(at(6001))], [Some(2), Some(0)]);
    }
}
