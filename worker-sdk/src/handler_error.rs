use std::{error::Error as StdError, fmt, time::Duration};

use tower::BoxError;

/// How a handler says that the job isn't done.
///
/// Any error becomes one through `?`: the attempt has failed, and the job's retry policy decides.
/// The constructors say more.
pub struct HandlerError {
    verdict: Verdict,
    report: Report,
}

/// What is kept of an error.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) class: String,
    pub(crate) message: String,
    pub(crate) details: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    Fail { retry_after: Option<Duration> },
    Discard,
    Snooze(Duration),
    Release,
}

impl HandlerError {
    /// The attempt has failed; the job's retry policy decides. The text is kept with the job, cut at
    /// 16 KiB.
    pub fn new(message: impl fmt::Display) -> HandlerError {
        HandlerError::with(Verdict::Fail { retry_after: None }, message)
    }

    /// It has failed and no retry will help: the job is dead now.
    pub fn discard(message: impl fmt::Display) -> HandlerError {
        HandlerError::with(Verdict::Discard, message)
    }

    /// It has failed; retry after this wait instead of what the policy says. 0 s to 10 years.
    pub fn retry_after(delay: Duration, message: impl fmt::Display) -> HandlerError {
        HandlerError::with(Verdict::Fail { retry_after: Some(delay) }, message)
    }

    /// Run it again later; doesn't count as a failure. 0 s to 10 years.
    pub fn snooze(delay: Duration) -> HandlerError {
        HandlerError::with(Verdict::Snooze(delay), "snoozed")
    }

    /// Not run, or stopped without an outcome: ready again at once; doesn't count as a failure.
    pub fn release() -> HandlerError {
        HandlerError::with(Verdict::Release, "released")
    }

    /// What sort of error it is, kept with the attempt: see [`FailedAttempt`](crate::FailedAttempt). Cut
    /// at 128 bytes. Errors that come through `?` have the name of their type.
    pub fn class(mut self, class: impl Into<String>) -> HandlerError {
        self.report.class = class.into();
        self
    }

    /// More about it, kept with the attempt. Cut at 8 KiB.
    pub fn details(mut self, details: impl Into<String>) -> HandlerError {
        self.report.details = details.into();
        self
    }

    fn with(verdict: Verdict, message: impl fmt::Display) -> HandlerError {
        let report = Report { message: message.to_string(), ..Report::default() };
        HandlerError { verdict, report }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    pub(crate) fn into_parts(self) -> (Verdict, Report) {
        (self.verdict, self.report)
    }

    /// What a layer returns: a handler's own error that passed through it, or the layer's.
    pub(crate) fn from_boxed(error: BoxError) -> HandlerError {
        match error.downcast::<Carried>() {
            Ok(carried) => carried.0,
            Err(error) => HandlerError::new(chain(&*error)),
        }
    }
}

impl<E: StdError> From<E> for HandlerError {
    fn from(error: E) -> HandlerError {
        HandlerError::new(chain(&error)).class(std::any::type_name::<E>())
    }
}

/// So that a handler's error passes through layers which box errors, and is itself after them.
impl From<HandlerError> for BoxError {
    fn from(error: HandlerError) -> BoxError {
        // Boxed by hand: `into` would find this very conversion.
        Box::new(Carried(error))
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.verdict, self.report.message)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.report.message)
    }
}

/// A handler's error as an [`Error`](StdError), which [`HandlerError`] can't be itself: every error
/// converts into it.
#[derive(Debug)]
struct Carried(HandlerError);

impl fmt::Display for Carried {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl StdError for Carried {}

/// The text of an error and of what caused it.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_any_kind_fail_the_attempt() {
        let error = HandlerError::from(std::io::Error::other("disk"));
        let (verdict, report) = error.into_parts();
        assert_eq!((verdict, &*report.message), (Verdict::Fail { retry_after: None }, "disk"));
        assert_eq!(report.class, std::any::type_name::<std::io::Error>());
    }

    #[test]
    fn a_handlers_error_survives_boxing() {
        let boxed: BoxError = HandlerError::discard("never").class("odd").details("why").into();
        let (verdict, report) = HandlerError::from_boxed(boxed).into_parts();
        assert_eq!((verdict, &*report.message), (Verdict::Discard, "never"));
        assert_eq!((&*report.class, &*report.details), ("odd", "why"));
        let (verdict, report) = HandlerError::from_boxed("timed out".into()).into_parts();
        assert_eq!((verdict, &*report.message), (Verdict::Fail { retry_after: None }, "timed out"));
    }
}
