//! What a handler comes to with success: a result for the broker to record, or an outcome that the
//! handler has recorded itself, in a transaction of its own on the same database.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::{handler_error::HandlerError, job::Job};

/// What a handler service responds with, see [`WorkerBuilder::service`](crate::WorkerBuilder::service).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The job has succeeded with this result.
    Result(Bytes),
    /// It has, and that is recorded.
    Committed(Committed),
}

/// Says that a transaction of the handler's own has recorded the outcome: see [`Job::completion`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed(());

/// The outcome of an attempt, to be recorded by [`SQL`](Completion::SQL) in a transaction of the handler's
/// own, with the handler's other effects: they're all there, once, or none of them is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Completion {
    /// `$1` of the statement, a bigint.
    pub job: i64,
    /// `$2`, an int.
    pub attempt: i32,
    /// `$3`, a bytea.
    pub result: Option<Vec<u8>>,
    /// `$4`, a text.
    pub queue: Arc<str>,
}

impl Completion {
    /// Records the outcome when the transaction commits. If the attempt isn't current, it raises `QC001`
    /// (`QC002` if it has its outcome already, `QC003` if there is no such job), at once or as the answer
    /// to the COMMIT, and nothing is committed.
    pub const SQL: &str = "SELECT currant.complete($1, $2, $3, $4)";

    /// The transaction has committed. If it hasn't, the attempt has failed.
    pub fn committed(self) -> Committed {
        Committed(())
    }
}

impl<T> Job<T> {
    /// What records this attempt as succeeded, with this result, in a transaction of your own on the
    /// broker's database. Return [`Completion::committed`] after the commit.
    ///
    /// `examples/transaction.rs` has a whole worker.
    pub fn completion<O: Serialize>(&self, result: &O) -> Result<Completion, HandlerError> {
        let result = encode(result)?;
        let attempt = i32::try_from(self.attempt)?;
        let result = (!result.is_empty()).then(|| result.to_vec());
        Ok(Completion { job: self.id.0, attempt, result, queue: Arc::clone(&self.queue) })
    }
}

impl From<Bytes> for Output {
    fn from(result: Bytes) -> Output {
        Output::Result(result)
    }
}

impl From<Committed> for Output {
    fn from(committed: Committed) -> Output {
        Output::Committed(committed)
    }
}

/// What a typed handler may return: anything that is written as JSON, or [`Committed`].
pub trait IntoOutput: sealed::Sealed {
    /// Writes it.
    #[doc(hidden)]
    fn into_output(self) -> Result<Output, HandlerError>;
}

impl<O: Serialize> IntoOutput for O {
    fn into_output(self) -> Result<Output, HandlerError> {
        encode(&self).map(Output::Result)
    }
}

impl IntoOutput for Committed {
    fn into_output(self) -> Result<Output, HandlerError> {
        Ok(Output::Committed(self))
    }
}

mod sealed {
    pub trait Sealed {}
    impl<O: serde::Serialize> Sealed for O {}
    impl Sealed for super::Committed {}
}

/// As JSON; `null`, which is what `()` and `None` are, as no bytes.
fn encode<O: Serialize>(output: &O) -> Result<Bytes, HandlerError> {
    let json = serde_json::to_vec(output)
        .map_err(|error| HandlerError::discard(format_args!("output: {error}")))?;
    Ok(if json == b"null" { Bytes::new() } else { json.into() })
}
