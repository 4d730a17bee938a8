//! The one place that maps errors to gRPC codes and details.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    domain::Scope,
    pipeline::{PipelineError, Stranger},
};

/// What was wrong with a request: field by field.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<FieldViolation>);

/// A request with thousands of faults is told the first of them.
const VIOLATIONS_MAX: usize = 20;

impl Violations {
    pub(super) fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        if self.0.len() < VIOLATIONS_MAX {
            self.0.push(FieldViolation::new(field, problem));
        }
    }

    /// The error, if something was wrong.
    pub(super) fn into_result(self) -> Result<(), Status> {
        let Some(first) = self.0.first() else { return Ok(()) };
        let message = format!("{}: {}", first.field, first.description);
        let details = ErrorDetails::with_bad_request(self.0);
        Err(Status::with_error_details(Code::InvalidArgument, message, details))
    }
}

/// One field of a request is wrong.
pub(super) fn invalid(field: &str, problem: &str) -> Status {
    let message = format!("{field}: {problem}");
    let details = ErrorDetails::with_bad_request_violation(field, problem);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// How long a client should wait when the database is away, the broker is about to be, or a key is held.
const RETRY_AFTER: Duration = Duration::from_millis(500);

pub(super) fn of(error: &PipelineError) -> Status {
    let message = error.to_string();
    match error {
        PipelineError::DatabaseUnavailable
        | PipelineError::Draining
        | PipelineError::KeyHeld { .. }
        | PipelineError::NotFollowed { .. } => {
            let details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
            Status::with_error_details(Code::Unavailable, message, details)
        }
        PipelineError::Full { retry_after, .. } => full(message, *retry_after),
        PipelineError::Invalid { field, problem } => invalid(field, problem),
        PipelineError::KeyTaken { .. } => Status::already_exists(message),
        PipelineError::Internal => Status::internal("the broker failed; its log says how"),
    }
}

pub(super) fn full(message: impl Into<String>, retry_after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

pub(super) fn already_exists(kind: &str, name: impl Into<String>) -> Status {
    let name = name.into();
    let message = format!("there is a {kind} {name} already");
    let details = ErrorDetails::with_resource_info(kind, name, "", message.clone());
    Status::with_error_details(Code::AlreadyExists, message, details)
}

pub(super) fn not_found(kind: &str, name: impl Into<String>) -> Status {
    let name = name.into();
    let message = format!("there is no {kind} {name}");
    let details = ErrorDetails::with_resource_info(kind, name, "", message.clone());
    Status::with_error_details(Code::NotFound, message, details)
}

/// Names who gives the reasons of an ErrorInfo.
const DOMAIN: &str = "currant";

/// Doesn't tell a token that was revoked from one that never was.
pub(super) fn stranger(stranger: Stranger) -> Status {
    let (reason, message) = match stranger {
        Stranger::NoToken => {
            ("TOKEN_MISSING", "a token is needed: authorization: Bearer currant_…")
        }
        Stranger::BadToken => ("TOKEN_INVALID", "the token isn't valid"),
    };
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(Code::Unauthenticated, message, details)
}

pub(super) fn no_scope(scope: Scope) -> Status {
    let message = format!("the token lacks the scope {}", scope.name());
    forbidden("SCOPE_MISSING", "scope", scope.name(), message)
}

pub(super) fn no_queue(queue: &str) -> Status {
    forbidden("QUEUE_FORBIDDEN", "queue", queue, format!("the token isn't for the queue {queue}"))
}

fn forbidden(reason: &str, what: &str, name: &str, message: String) -> Status {
    let named = HashMap::from([(what.to_owned(), name.to_owned())]);
    let details = ErrorDetails::with_error_info(reason, DOMAIN, named);
    Status::with_error_details(Code::PermissionDenied, message, details)
}
