use std::time::Duration;

use currant_proto::v1;

use crate::time::to_proto;

/// A key of which a queue has one job at a time: see [`NewJob::unique`](crate::NewJob::unique). By itself a
/// job with the same key that isn't over is in the way, and its id is returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Unique {
    key: String,
    scope: v1::UniqueScope,
    period: Option<Duration>,
    conflict: v1::UniqueConflict,
}

impl Unique {
    /// 1 to 128 characters.
    pub fn key(key: impl Into<String>) -> Unique {
        let (scope, conflict) = (v1::UniqueScope::Unfinished, v1::UniqueConflict::Existing);
        Unique { key: key.into(), scope, period: None, conflict }
    }

    /// Only a job that is scheduled or ready is in the way.
    pub fn while_waiting(self) -> Unique {
        Unique { scope: v1::UniqueScope::Waiting, period: None, ..self }
    }

    /// A job that was stored less than so long ago is in the way, whatever became of it, for as long as it
    /// is kept. 1 s to 10 years.
    pub fn for_period(self, period: Duration) -> Unique {
        Unique { scope: v1::UniqueScope::Period, period: Some(period), ..self }
    }

    /// The job in the way becomes this one, under its own id, if it is scheduled or ready.
    pub fn replace(self) -> Unique {
        Unique { conflict: v1::UniqueConflict::Replace, ..self }
    }

    /// [`Error::AlreadyExists`](crate::Error::AlreadyExists) if one is in the way. A call whose first try was
    /// stored and not answered may say so of its own job.
    pub fn reject(self) -> Unique {
        Unique { conflict: v1::UniqueConflict::Reject, ..self }
    }

    pub(crate) fn into_proto(self) -> v1::Unique {
        let Unique { key, scope, period, conflict } = self;
        let period = period.map(to_proto);
        v1::Unique { key, scope: scope.into(), period, conflict: conflict.into() }
    }
}
