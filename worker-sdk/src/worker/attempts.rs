//! Attempts as keys.

use currant_proto::v1;
use foldhash::{HashMap, HashSet};

use crate::job::JobId;

/// One run of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) job: JobId,
    pub(crate) number: u32,
}

pub(crate) type AttemptMap<V> = HashMap<Attempt, V>;
pub(crate) type AttemptSet = HashSet<Attempt>;

impl From<v1::Attempt> for Attempt {
    fn from(attempt: v1::Attempt) -> Attempt {
        let v1::Attempt { job_id, attempt } = attempt;
        Attempt { job: JobId(job_id), number: attempt }
    }
}

impl From<Attempt> for v1::Attempt {
    fn from(attempt: Attempt) -> v1::Attempt {
        let Attempt { job, number } = attempt;
        v1::Attempt { job_id: job.0, attempt: number }
    }
}

pub(crate) fn from_proto(attempts: Vec<v1::Attempt>) -> Vec<Attempt> {
    attempts.into_iter().map(Attempt::from).collect()
}
