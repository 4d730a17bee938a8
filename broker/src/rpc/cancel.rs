use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, check, status, verdict};
use crate::pipeline::Caller;

impl Context {
    pub(super) async fn cancel(
        &self,
        caller: &Caller,
        request: pb::CancelRequest,
    ) -> Result<pb::CancelResponse, Status> {
        let pb::CancelRequest { job_ids } = request;
        let ids = check::job_ids(job_ids)?;
        let verdicts = self.core.cancel(caller, &ids).await.map_err(|error| status::of(&error))?;
        let verdicts = verdicts.into_iter().map(|one| verdict::cancel(one).into());
        Ok(pb::CancelResponse { verdicts: verdicts.collect() })
    }
}
