use std::{fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Why a call of a [`Client`](crate::Client) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address isn't a URL like `http://host:7070`.
    #[error("{url:?} is not an address of a broker")]
    Endpoint {
        /// What was given.
        url: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// Certificates are of no use for a URL that isn't `https://…`.
    #[error("{url:?} is an address without TLS")]
    WithoutTls {
        /// What was given.
        url: String,
    },
    /// A token has other characters than ASCII's, or a line break.
    #[error("that can't be a token")]
    Token,
    /// No connection could be made.
    #[error("cannot connect to the broker")]
    Connect(#[source] tonic::transport::Error),
    /// A payload could not be written as JSON.
    #[error("the payload cannot be written as JSON")]
    Payload(#[source] serde_json::Error),
    /// The broker refused the request as malformed; nothing was stored and no retry will help.
    #[error("{message}{}", Listed(.violations))]
    InvalidArgument {
        /// For people.
        message: String,
        /// Each wrong field with its limit.
        violations: Vec<FieldViolation>,
    },
    /// There is no such thing.
    #[error("not found: {message}")]
    NotFound {
        /// For people.
        message: String,
    },
    /// Retries went on until the client's deadline. An enqueue may or may not have been stored.
    #[error("gave up after {after:?}")]
    GaveUp {
        /// The deadline.
        after: Duration,
        /// The last error, if a call returned one in that time.
        #[source]
        last: Option<Box<Status>>,
    },
    /// Another job is in the way of a unique one: see [`Unique::reject`](crate::Unique::reject).
    #[error("{message}")]
    AlreadyExists {
        /// For people.
        message: String,
    },
    /// The attempt is no longer this worker's: see [`Job::checkpoint`](crate::Job::checkpoint).
    #[error("the attempt is no longer this worker's")]
    Lost,
    /// Any other gRPC error.
    #[error("the broker refused the call")]
    Refused(#[source] Box<Status>),
    /// The broker's answer breaks the contract.
    #[error("the broker's answer makes no sense: {0}")]
    Protocol(&'static str),
    /// The task that serves an [`EnqueueStream`](crate::EnqueueStream) is gone, with its runtime.
    #[error("the enqueue stream has ended")]
    StreamEnded,
}

/// One wrong field of a request, from google.rpc.BadRequest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, for example `jobs[3].priority`.
    pub field: String,
    /// What is wrong with it, and the limit.
    pub description: String,
}

/// Why a worker could not be built or ended otherwise than by an orderly shutdown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The builder was given something impossible.
    #[error("{0}")]
    Config(String),
    /// The broker will never take this worker: INVALID_ARGUMENT, PERMISSION_DENIED or
    /// UNAUTHENTICATED on Subscribe. Everything else is retried.
    #[error("the broker refuses this worker")]
    Refused(#[source] Error),
    /// The time for the shutdown was over before the outcomes of these attempts were answered. The
    /// broker gives them to others, or has stored them already.
    #[error("{attempts} attempts had no answer from the broker when the shutdown's time was over")]
    Unreported {
        /// How many.
        attempts: usize,
    },
    /// A part of the worker panicked: an observer, a layer or the SDK itself. Handlers don't cause
    /// this.
    #[error("the worker panicked")]
    Panicked,
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        match status.code() {
            Code::InvalidArgument => Error::InvalidArgument {
                message: status.message().to_owned(),
                violations: violations(&status),
            },
            Code::AlreadyExists => Error::AlreadyExists { message: status.message().to_owned() },
            Code::NotFound => Error::NotFound { message: status.message().to_owned() },
            _ => Error::Refused(Box::new(status)),
        }
    }
}

fn violations(status: &Status) -> Vec<FieldViolation> {
    let details = status.get_details_bad_request().map(|details| details.field_violations);
    let fields = details.unwrap_or_default().into_iter();
    fields.map(|one| FieldViolation { field: one.field, description: one.description }).collect()
}

struct Listed<'a>(&'a [FieldViolation]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in self.0 {
            write!(out, "; {}: {}", violation.field, violation.description)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn field_violations_are_exposed() {
        let details = ErrorDetails::with_bad_request_violation("jobs[0].priority", "-100 to 100");
        let status = Status::with_error_details(Code::InvalidArgument, "bad request", details);
        let error = Error::from(status);
        assert_eq!(error.to_string(), "bad request; jobs[0].priority: -100 to 100");
        assert!(
            matches!(error, Error::InvalidArgument { violations, .. } if violations.len() == 1)
        );
    }
}
