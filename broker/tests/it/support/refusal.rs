use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Asserts that the call was refused for this field, in the details too, and that the limit is named.
pub(crate) fn assert_invalid(status: &Status, field: &str, limit: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("a BadRequest").field_violations;
    let named = violations.iter().any(|one| one.field == field && one.description.contains(limit));
    assert!(named, "{field} with {limit:?} isn't in {violations:?}");
    let first = &violations[0];
    assert_eq!(status.message(), format!("{}: {}", first.field, first.description));
}

/// Asserts that the call was refused since the broker is full, and says when to try again.
pub(crate) fn assert_full(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    let delay = details.retry_info().expect("a RetryInfo").retry_delay.expect("a delay");
    assert!(!delay.is_zero());
}
