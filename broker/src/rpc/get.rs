use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, status, stored};
use crate::{domain::JobId, pipeline::Caller};

impl Context {
    pub(super) async fn get(
        &self,
        caller: &Caller,
        request: pb::GetRequest,
    ) -> Result<pb::GetResponse, Status> {
        let pb::GetRequest { job_id } = request;
        let found = self.core.get(JobId(job_id)).await.map_err(|error| status::of(&error))?;
        let found = found.filter(|(_, queue)| caller.may_use(&queue.name));
        let (job, queue) = found.ok_or_else(|| status::not_found("job", job_id.to_string()))?;
        let queue = (queue.name.clone(), queue.max_attempts);
        Ok(pb::GetResponse { job: Some(stored::job(job, queue)) })
    }
}
