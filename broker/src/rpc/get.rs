use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, filter::hint, status, stored};
use crate::{
    domain::{JobId, Scope},
    pipeline::Caller,
};

impl Context {
    pub(super) async fn get(
        &self,
        caller: &Caller,
        request: pb::GetRequest,
    ) -> Result<pb::GetResponse, Status> {
        let pb::GetRequest { job_id, queue } = request;
        let queue = hint(&self.core, caller, &queue).await?;
        let found =
            self.core.get(JobId(job_id), queue).await.map_err(|error| status::of(&error))?;
        let found = found.filter(|(_, queue)| caller.may_use(&queue.name));
        let (job, queue) = found.ok_or_else(|| status::not_found("job", job_id.to_string()))?;
        let failed = self.core.failed_attempts(&job).await.map_err(|error| status::of(&error))?;
        let queue = (queue.name.clone(), queue.max_attempts);
        let reads = caller.allows(Scope::Read);
        let failed = failed.into_iter().map(|one| stored::failed_attempt(reads, one));
        Ok(pb::GetResponse {
            job: Some(stored::shown(reads, stored::job(job, queue))),
            failed_attempts: failed.collect(),
        })
    }
}
