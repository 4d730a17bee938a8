use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, check, status, verdict};
use crate::pipeline::Caller;

impl Context {
    pub(super) async fn delete(
        &self,
        caller: &Caller,
        request: pb::DeleteRequest,
    ) -> Result<pb::DeleteResponse, Status> {
        let pb::DeleteRequest { job_ids } = request;
        let ids = check::job_ids(job_ids)?;
        let verdicts = self.core.delete(caller, &ids).await.map_err(|error| status::of(&error))?;
        let verdicts = verdicts.into_iter().map(|one| verdict::delete(one).into());
        Ok(pb::DeleteResponse { verdicts: verdicts.collect() })
    }
}
