use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, check, filter::hint, status, verdict};
use crate::pipeline::Caller;

impl Context {
    pub(super) async fn cancel(
        &self,
        caller: &Caller,
        request: pb::CancelRequest,
    ) -> Result<pb::CancelResponse, Status> {
        let pb::CancelRequest { job_ids, queue } = request;
        let ids = check::job_ids(job_ids)?;
        let queue = hint(&self.core, caller, &queue).await?;
        let verdicts = self.core.cancel(caller, &ids, queue).await;
        let verdicts = verdicts.map_err(|error| status::of(&error))?.into_iter();
        let verdicts = verdicts.map(|one| verdict::cancel(one).into());
        Ok(pb::CancelResponse { verdicts: verdicts.collect() })
    }
}
