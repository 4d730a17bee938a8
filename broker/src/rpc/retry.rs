use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, check, filter::hint, status, verdict};
use crate::pipeline::Caller;

impl Context {
    pub(super) async fn retry(
        &self,
        caller: &Caller,
        request: pb::RetryRequest,
    ) -> Result<pb::RetryResponse, Status> {
        let pb::RetryRequest { job_ids, queue } = request;
        let ids = check::job_ids(job_ids)?;
        let queue = hint(&self.core, caller, &queue).await?;
        let verdicts = self.core.retry(caller, &ids, queue).await;
        let verdicts = verdicts.map_err(|error| status::of(&error))?.into_iter();
        let verdicts = verdicts.map(|one| verdict::retry(one).into());
        Ok(pb::RetryResponse { verdicts: verdicts.collect() })
    }
}
