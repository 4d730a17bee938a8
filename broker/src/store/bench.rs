//! For `broker/benches`: what has no other way out of this layer.

use bytes::Bytes;

use super::{InsertRow, Success, complete_jobs::runs, insert_jobs::copy_data};

/// The rows in the binary form of COPY, as jobs that broker 1 takes.
pub fn copy_rows(rows: &[InsertRow<'_>], plain: bool) -> Bytes {
    copy_data(1, rows, plain).into_bytes()
}

/// Into how many runs of ids the successes fall.
pub fn count_runs(rows: &[Success<'_>]) -> usize {
    runs(rows).len()
}
