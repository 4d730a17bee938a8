//! For `broker/benches`: what has no other way out of this layer.

use currant_proto::v1 as pb;

use super::convert;
use crate::domain::{Completion, NewJob, QueueId, TakenJob};

/// Checks the jobs and makes them the domain's; panics at what is wrong.
pub fn new_jobs(jobs: Vec<pb::NewJob>, queue: QueueId) -> Vec<NewJob> {
    let defaults =
        convert::Defaults { queue: false, kind: false, payload_bytes_max: 1 << 20, now: 0 };
    let new_job = |job| {
        convert::check_new_job(&job, &defaults, |field, problem| panic!("{field}: {problem}"));
        convert::new_job(job, (queue, 0), "", 0)
    };
    jobs.into_iter().map(new_job).collect()
}

/// The same of what workers say; panics at what is wrong.
pub fn completions(completions: Vec<pb::Completion>) -> Vec<Completion> {
    let completion = |one| match convert::completion(one, 1 << 20) {
        Ok(completion) => completion,
        Err((field, problem)) => panic!("{field}: {problem}"),
    };
    completions.into_iter().map(completion).collect()
}

/// As workers are told of them.
pub fn assignments(jobs: Vec<TakenJob>) -> Vec<pb::Assignment> {
    jobs.into_iter().map(|job| convert::assignment(job, 25, None)).collect()
}
