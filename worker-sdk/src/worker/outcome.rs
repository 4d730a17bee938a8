//! What a handler returned, as a completion.

use std::time::Duration;

use currant_proto::v1::{
    Cancelled, Committed, Completion, Failed, Released, Snoozed, Succeeded, completion::Outcome,
};

use super::attempts::Attempt;
use crate::{
    handler_error::{HandlerError, Report, Verdict},
    output::Output,
    time::to_proto,
};

/// What the broker keeps of an error.
const ERROR_BYTES_MAX: usize = 16 << 10;
const CLASS_BYTES_MAX: usize = 128;
const DETAILS_BYTES_MAX: usize = 8 << 10;

/// The completion of an attempt whose handler has ended.
pub(super) fn ended(
    attempt: Attempt,
    result: Result<Output, HandlerError>,
    cancelled: bool,
) -> Completion {
    completion(attempt, of(result, cancelled))
}

/// The outcome alone.
pub(super) fn of(result: Result<Output, HandlerError>, cancelled: bool) -> Outcome {
    match result {
        Ok(Output::Result(result)) => Outcome::Succeeded(Succeeded { result }),
        Ok(Output::Committed(_)) => Outcome::Committed(Committed {}),
        Err(_) if cancelled => Outcome::Cancelled(Cancelled {}),
        Err(error) => match error.into_parts() {
            (Verdict::Fail { retry_after }, report) => {
                Outcome::Failed(Failed { retry_after: retry_after.map(to_proto), ..failed(report) })
            }
            (Verdict::Discard, report) => {
                Outcome::Failed(Failed { discard: true, ..failed(report) })
            }
            (Verdict::Snooze(delay), _) => {
                Outcome::Snoozed(Snoozed { delay: Some(to_proto(delay)) })
            }
            (Verdict::Release, _) => Outcome::Released(Released {}),
        },
    }
}

/// The completion of an attempt that wasn't run, or was stopped by the shutdown.
pub(super) fn released(attempt: Attempt) -> Completion {
    completion(attempt, Outcome::Released(Released {}))
}

/// The completion of an attempt that wasn't run and is to come again after this time.
pub(super) fn put_off(attempt: Attempt, delay: Duration) -> Completion {
    completion(attempt, Outcome::Snoozed(Snoozed { delay: Some(to_proto(delay)) }))
}

/// The completion of an attempt that was cancelled before it ran.
pub(super) fn cancelled(attempt: Attempt) -> Completion {
    completion(attempt, Outcome::Cancelled(Cancelled {}))
}

/// A failure that no retry will help.
pub(super) fn discarded(error: String) -> Outcome {
    let report = Report { message: error, ..Report::default() };
    Outcome::Failed(Failed { discard: true, ..failed(report) })
}

fn failed(report: Report) -> Failed {
    let Report { class, message, details } = report;
    Failed {
        error: cut(message, ERROR_BYTES_MAX),
        discard: false,
        retry_after: None,
        class: cut(class, CLASS_BYTES_MAX),
        details: cut(details, DETAILS_BYTES_MAX),
    }
}

pub(super) fn attempt_of(completion: &Completion) -> Attempt {
    Attempt { job: completion.job_id.into(), number: completion.attempt }
}

fn completion(attempt: Attempt, outcome: Outcome) -> Completion {
    Completion { job_id: attempt.job.0, attempt: attempt.number, outcome: Some(outcome) }
}

fn cut(mut text: String, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::job::JobId;

    fn outcome(result: Result<Bytes, HandlerError>, cancelled: bool) -> Option<Outcome> {
        let result = result.map(Output::Result);
        ended(Attempt { job: JobId(1), number: 2 }, result, cancelled).outcome
    }

    #[test]
    fn each_ending_has_its_outcome() {
        let result = Bytes::from_static(b"r");
        let success = Some(Outcome::Succeeded(Succeeded { result: result.clone() }));
        assert_eq!(outcome(Ok(result.clone()), false), success);
        assert_eq!(outcome(Ok(result), true), success, "it succeeded though it was cancelled");
        let cancelled = Some(Outcome::Cancelled(Cancelled {}));
        assert_eq!(outcome(Err(HandlerError::new("x")), true), cancelled);
        let retry = HandlerError::retry_after(Duration::from_secs(2), "later");
        let delay = Some(to_proto(Duration::from_secs(2)));
        let failed = Failed { error: "later".into(), retry_after: delay, ..Failed::default() };
        assert_eq!(outcome(Err(retry), false), Some(Outcome::Failed(failed)));
        assert_eq!(outcome(Err(HandlerError::discard("d")), false), Some(discarded("d".into())));
        assert_eq!(
            outcome(Err(HandlerError::release()), false),
            Some(Outcome::Released(Released {}))
        );
        let snoozed = outcome(Err(HandlerError::snooze(Duration::from_secs(2))), false);
        assert_eq!(snoozed, Some(Outcome::Snoozed(Snoozed { delay })));
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let Outcome::Failed(failed) = discarded("ü".repeat(ERROR_BYTES_MAX) + "x") else {
            panic!("not a failure");
        };
        assert_eq!(failed.error.len(), ERROR_BYTES_MAX);
        let Outcome::Failed(failed) = discarded("x".to_owned() + &"ü".repeat(ERROR_BYTES_MAX))
        else {
            panic!("not a failure");
        };
        assert_eq!(failed.error.len(), ERROR_BYTES_MAX - 1);
    }
}
