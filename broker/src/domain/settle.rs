use super::{Outcome, Queue, RetryPolicy};

/// How a job goes on after an attempt that didn't succeed.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Again at this time, in microseconds since 1970.
    Scheduled {
        at: i64,
    },
    /// Again at once.
    Ready,
    /// Never again.
    Dead,
    Cancelled,
    /// Never again, for it may not start any more when its time comes.
    Expired,
}

/// What a job has that decides about its next attempt.
#[derive(Clone, Copy, Debug)]
pub struct Budget<'a> {
    /// Before this outcome.
    pub failures: u16,
    /// The job's own; `None`: the queue's.
    pub max_attempts: Option<u16>,
    /// The job's own; `None`: its kind's or the queue's.
    pub retry: Option<&'a RetryPolicy>,
    /// No attempt begins after it; microseconds since 1970.
    pub expires_at: Option<i64>,
    pub kind: &'a str,
    /// If its worker was lost: how many workers were before, in a row with other failures.
    pub workers_lost: Option<u16>,
}

/// Decides how a job goes on. Returns the failures that it then has. `random`: uniform in [0, 1).
///
/// # Panics
/// On a success, which is no matter of decision.
pub fn settle(
    outcome: &Outcome,
    budget: Budget<'_>,
    queue: &Queue,
    now_micros: i64,
    random: f64,
) -> (Next, u16) {
    let after = |delay_ms: u64| {
        if delay_ms == 0 {
            return Next::Ready;
        }
        let delay = i64::try_from(delay_ms.saturating_mul(1000)).unwrap_or(i64::MAX);
        let at = now_micros.saturating_add(delay);
        let expires = budget.expires_at.is_some_and(|expires_at| at > expires_at);
        if expires { Next::Expired } else { Next::Scheduled { at } }
    };
    let fail = |discard: bool, retry_after_ms: Option<u64>| {
        let failures = budget.failures.saturating_add(1);
        let deadly =
            budget.workers_lost.is_some_and(|before| before + 1 >= queue.worker_losses_max);
        if discard || deadly || failures >= budget.max_attempts.unwrap_or(queue.max_attempts) {
            return (Next::Dead, failures);
        }
        let of_kind = || queue.own.retry_by_kind.get(budget.kind);
        let policy = budget.retry.or_else(of_kind).unwrap_or(&queue.retry);
        let delay = retry_after_ms.unwrap_or_else(|| policy.delay_ms(failures, random));
        (after(delay), failures)
    };
    match outcome {
        Outcome::Succeeded { .. } => unreachable!("a success is recorded, not settled"),
        Outcome::Failed { discard, retry_after_ms, .. } => fail(*discard, *retry_after_ms),
        Outcome::Committed => fail(false, None),
        Outcome::Snoozed { delay_ms } => (after(*delay_ms), budget.failures),
        Outcome::Released => (Next::Ready, budget.failures),
        Outcome::Cancelled | Outcome::Expired => (Next::Cancelled, budget.failures),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Failure, QueueId, QueueSettings, Retention};

    const NOW: i64 = 1_000_000_000;
    const BUDGET: Budget<'static> = Budget {
        failures: 0,
        max_attempts: None,
        retry: None,
        expires_at: None,
        kind: "k",
        workers_lost: None,
    };

    fn queue() -> Queue {
        let retry = RetryPolicy::exponential(1000, 60_000, 2.0, 0.0);
        Queue {
            id: QueueId(1),
            name: "q".to_owned(),
            version: 0,
            paused_at: None,
            own: QueueSettings::default(),
            priority: 0,
            max_attempts: 3,
            retry,
            worker_losses_max: 2,
            timeout_ms: None,
            retention: Retention { succeeded_ms: None, cancelled_ms: None, dead_ms: None },
        }
    }

    fn failed(discard: bool, retry_after_ms: Option<u64>) -> Outcome {
        Outcome::Failed { error: Failure::default(), discard, retry_after_ms }
    }

    fn next(outcome: &Outcome, failures: u16, max_attempts: Option<u16>) -> (Next, u16) {
        settle(outcome, Budget { failures, max_attempts, ..BUDGET }, &queue(), NOW, 0.5)
    }

    #[test]
    fn fails_until_the_budget_is_spent() {
        assert_eq!(next(&Outcome::Committed, 2, None), (Next::Dead, 3));
        let fail = failed(false, None);
        assert_eq!(next(&fail, 0, None), (Next::Scheduled { at: NOW + 1_000_000 }, 1));
        assert_eq!(next(&fail, 1, None), (Next::Scheduled { at: NOW + 2_000_000 }, 2));
        assert_eq!(next(&fail, 2, None), (Next::Dead, 3));
        assert_eq!(next(&fail, 2, Some(4)).1, 3);
        assert_eq!(next(&fail, 0, Some(1)), (Next::Dead, 1));
    }

    #[test]
    fn a_job_that_loses_its_workers_is_dead_before_its_budget_is_spent() {
        let lost = |before| {
            let budget = Budget { max_attempts: Some(9), workers_lost: before, ..BUDGET };
            settle(&failed(false, None), budget, &queue(), NOW, 0.5).0
        };
        let again = Next::Scheduled { at: NOW + 1_000_000 };
        assert_eq!([lost(None), lost(Some(0)), lost(Some(1))], [again.clone(), again, Next::Dead]);
    }

    #[test]
    fn the_worker_has_a_say() {
        assert_eq!(next(&failed(true, None), 0, None), (Next::Dead, 1));
        assert_eq!(next(&failed(false, Some(0)), 0, None), (Next::Ready, 1));
        assert_eq!(next(&failed(false, Some(5)), 0, None), (Next::Scheduled { at: NOW + 5000 }, 1));
    }

    #[test]
    fn a_job_whose_next_attempt_would_come_after_its_expiry_has_none() {
        let next = |outcome: &Outcome, expires_at| {
            let budget = Budget { expires_at: Some(expires_at), ..BUDGET };
            settle(outcome, budget, &queue(), NOW, 0.5)
        };
        let fail = failed(false, None);
        let at = NOW + 1_000_000;
        assert_eq!(next(&fail, at), (Next::Scheduled { at }, 1));
        assert_eq!(next(&fail, at - 1), (Next::Expired, 1));
        assert_eq!(next(&Outcome::Snoozed { delay_ms: 1001 }, at), (Next::Expired, 0));
        assert_eq!(next(&failed(true, None), NOW), (Next::Dead, 1));
        assert_eq!(next(&Outcome::Released, NOW), (Next::Ready, 0), "a claim finds that out");
    }

    #[test]
    fn what_is_no_failure_spends_nothing() {
        assert_eq!(
            next(&Outcome::Snoozed { delay_ms: 7 }, 2, None),
            (Next::Scheduled { at: NOW + 7000 }, 2)
        );
        assert_eq!(next(&Outcome::Released, 2, None), (Next::Ready, 2));
        assert_eq!(next(&Outcome::Cancelled, 2, None), (Next::Cancelled, 2));
    }

    #[test]
    fn the_jobs_own_policy_comes_first_and_its_kinds_next() {
        let wait = |ms| RetryPolicy::exponential(ms, ms, 1.0, 0.0);
        let mut queue = queue();
        queue.own.retry_by_kind.insert("slow".to_owned(), wait(9));
        let next = |kind, retry| {
            let budget = Budget { retry, kind, ..BUDGET };
            settle(&failed(false, None), budget, &queue, NOW, 0.5).0
        };
        let own = wait(7);
        assert_eq!(next("slow", Some(&own)), Next::Scheduled { at: NOW + 7000 });
        assert_eq!(next("slow", None), Next::Scheduled { at: NOW + 9000 });
        assert_eq!(next("other", None), Next::Scheduled { at: NOW + 1_000_000 });
    }
}
