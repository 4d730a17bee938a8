use std::{fmt, sync::Arc};

use currant_proto::v1;

use crate::job::JobId;

/// What became of a reported outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It is stored.
    Applied,
    /// An outcome of this very attempt was stored before; this one changed nothing.
    Duplicate,
    /// The attempt is no longer current; nothing was changed.
    Stale,
    /// There is no such job.
    NotFound,
    /// A verdict that this version of the SDK doesn't know.
    Unknown,
}

impl Verdict {
    pub(super) fn from_proto(verdict: i32) -> Verdict {
        match v1::Verdict::try_from(verdict) {
            Ok(v1::Verdict::Applied) => Verdict::Applied,
            Ok(v1::Verdict::Duplicate) => Verdict::Duplicate,
            Ok(v1::Verdict::Stale) => Verdict::Stale,
            Ok(v1::Verdict::NotFound) => Verdict::NotFound,
            Ok(v1::Verdict::Unspecified) | Err(_) => Verdict::Unknown,
        }
    }
}

type Observe = dyn Fn(&[(JobId, u32)], &[Verdict]) + Send + Sync;

/// Sees the verdicts of every answered Complete.
#[derive(Clone)]
pub(super) struct Observer(pub(super) Arc<Observe>);

impl fmt::Debug for Observer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Observer")
    }
}
