use currant_proto::v1::{self as pb, queue_service_server::QueueService};
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::{Context, access::while_valid};

#[tonic::async_trait]
impl QueueService for Context {
    async fn list(
        &self,
        request: Request<pb::ListQueuesRequest>,
    ) -> Result<Response<pb::ListQueuesResponse>, Status> {
        let caller = self.caller(&request)?;
        self.list_queues(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn get(
        &self,
        request: Request<pb::GetQueueRequest>,
    ) -> Result<Response<pb::GetQueueResponse>, Status> {
        let caller = self.caller(&request)?;
        self.get_queue(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn configure(
        &self,
        request: Request<pb::ConfigureQueueRequest>,
    ) -> Result<Response<pb::ConfigureQueueResponse>, Status> {
        let caller = self.caller(&request)?;
        self.configure_queue(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn pause(
        &self,
        request: Request<pb::PauseQueueRequest>,
    ) -> Result<Response<pb::PauseQueueResponse>, Status> {
        let caller = self.caller(&request)?;
        self.pause_queue(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn resume(
        &self,
        request: Request<pb::ResumeQueueRequest>,
    ) -> Result<Response<pb::ResumeQueueResponse>, Status> {
        let caller = self.caller(&request)?;
        self.resume_queue(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn drain(
        &self,
        request: Request<pb::DrainQueueRequest>,
    ) -> Result<Response<pb::DrainQueueResponse>, Status> {
        let caller = self.caller(&request)?;
        self.drain_queue(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn stats(
        &self,
        request: Request<pb::QueueStatsRequest>,
    ) -> Result<Response<pb::QueueStatsResponse>, Status> {
        let caller = self.caller(&request)?;
        self.queue_stats(&caller, request.into_inner()).await.map(Response::new)
    }

    type WatchStatsStream = BoxStream<'static, Result<pb::WatchQueueStatsResponse, Status>>;

    async fn watch_stats(
        &self,
        request: Request<pb::WatchQueueStatsRequest>,
    ) -> Result<Response<Self::WatchStatsStream>, Status> {
        let caller = self.caller(&request)?;
        let standings = self.watch_queue_stats(&caller, request.into_inner())?;
        Ok(Response::new(while_valid(&caller, standings)))
    }
}
