use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, convert, status};
use crate::domain::JobId;

impl Context {
    pub(super) async fn get(&self, request: pb::GetRequest) -> Result<pb::GetResponse, Status> {
        let pb::GetRequest { job_id } = request;
        let found = self.core.get(JobId(job_id)).await.map_err(|error| status::of(&error))?;
        let (job, queue) = found.ok_or_else(|| status::not_found("job", job_id.to_string()))?;
        let state = match (job.outcome, job.phase) {
            (Some(1), _) => pb::JobState::Succeeded,
            (Some(2), _) => pb::JobState::Dead,
            (Some(_), _) => pb::JobState::Cancelled,
            (None, 0) => pb::JobState::Scheduled,
            (None, 1) => pb::JobState::Ready,
            (None, _) => pb::JobState::Running,
        };
        let queue = (queue.name.clone(), queue.max_attempts);
        Ok(pb::GetResponse { job: Some(convert::job(job, state, queue)) })
    }
}
