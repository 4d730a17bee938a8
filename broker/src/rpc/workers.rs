use currant_proto::v1::{self as pb, worker_service_server::WorkerService};
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::{Context, access::while_valid};

#[tonic::async_trait]
impl WorkerService for Context {
    type SubscribeStream = BoxStream<'static, Result<pb::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<pb::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = self.caller(&request)?;
        let messages = Context::subscribe(self, caller.clone(), request.into_inner()).await?;
        Ok(Response::new(while_valid(&caller, messages)))
    }

    async fn complete(
        &self,
        request: Request<pb::CompleteRequest>,
    ) -> Result<Response<pb::CompleteResponse>, Status> {
        let caller = self.caller(&request)?;
        Context::complete(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        Context::heartbeat(self, request.into_inner()).map(Response::new)
    }

    async fn report_progress(
        &self,
        request: Request<pb::ReportProgressRequest>,
    ) -> Result<Response<pb::ReportProgressResponse>, Status> {
        Context::report_progress(self, request.into_inner()).await.map(Response::new)
    }

    async fn get_checkpoint(
        &self,
        request: Request<pb::GetCheckpointRequest>,
    ) -> Result<Response<pb::GetCheckpointResponse>, Status> {
        Context::get_checkpoint(self, request.into_inner()).await.map(Response::new)
    }
}
