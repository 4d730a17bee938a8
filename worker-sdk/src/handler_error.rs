use std::{error::Error as StdError, fmt, time::Duration};

use tower::BoxError;

/// How a handler says that the job isn't done.
///
/// Any error becomes one through `?`: the attempt has failed, and the job's retry policy decides.
/// The constructors say more.
pub struct HandlerError {
    verdict: Verdict,
    message: String,
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

    fn with(verdict: Verdict, message: impl fmt::Display) -> HandlerError {
        HandlerError { verdict, message: message.to_string() }
    }

    pub(crate) fn into_parts(self) -> (Verdict, String) {
        (self.verdict, self.message)
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
        HandlerError::new(chain(&error))
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
        write!(out, "{:?}: {}", self.verdict, self.message)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
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
        assert_eq!(error.into_parts(), (Verdict::Fail { retry_after: None }, "disk".to_owned()));
    }

    #[test]
    fn a_handlers_error_survives_boxing() {
        let boxed: BoxError = HandlerError::discard("never").into();
        let (verdict, message) = HandlerError::from_boxed(boxed).into_parts();
        assert_eq!((verdict, &*message), (Verdict::Discard, "never"));
        let (verdict, message) = HandlerError::from_boxed("timed out".into()).into_parts();
        assert_eq!((verdict, &*message), (Verdict::Fail { retry_after: None }, "timed out"));
    }
}
