use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, check, status, verdict};
use crate::pipeline::Caller;

impl Context {
    pub(super) async fn retry(
        &self,
        caller: &Caller,
        request: pb::RetryRequest,
    ) -> Result<pb::RetryResponse, Status> {
        let pb::RetryRequest { job_ids } = request;
        let ids = check::job_ids(job_ids)?;
        let verdicts = self.core.retry(caller, &ids).await.map_err(|error| status::of(&error))?;
        let verdicts = verdicts.into_iter().map(|one| verdict::retry(one).into());
        Ok(pb::RetryResponse { verdicts: verdicts.collect() })
    }
}
