use currant_proto::v1::{self as pb, job_service_server::JobService};
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Context, access::while_valid};

#[tonic::async_trait]
impl JobService for Context {
    async fn enqueue(
        &self,
        request: Request<pb::EnqueueRequest>,
    ) -> Result<Response<pb::EnqueueResponse>, Status> {
        let caller = self.caller(&request)?;
        Context::enqueue(self, &caller, request.into_inner()).await.map(Response::new)
    }

    type EnqueueStreamStream = BoxStream<'static, Result<pb::EnqueueStreamResponse, Status>>;

    async fn enqueue_stream(
        &self,
        request: Request<Streaming<pb::EnqueueStreamRequest>>,
    ) -> Result<Response<Self::EnqueueStreamStream>, Status> {
        let caller = self.caller(&request)?;
        let responses = Context::enqueue_stream(self.clone(), caller.clone(), request.into_inner());
        Ok(Response::new(while_valid(&caller, responses)))
    }

    async fn get(
        &self,
        request: Request<pb::GetRequest>,
    ) -> Result<Response<pb::GetResponse>, Status> {
        let caller = self.caller(&request)?;
        Context::get(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let caller = self.caller(&request)?;
        Context::explain(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn list(
        &self,
        request: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        let caller = self.caller(&request)?;
        Context::list(self, &caller, request.into_inner()).await.map(Response::new)
    }

    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.caller(&request)?;
        let changes = Context::watch(self, &caller, request.into_inner()).await?;
        Ok(Response::new(while_valid(&caller, changes)))
    }

    async fn cancel(
        &self,
        request: Request<pb::CancelRequest>,
    ) -> Result<Response<pb::CancelResponse>, Status> {
        let caller = self.caller(&request)?;
        Context::cancel(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn retry(
        &self,
        request: Request<pb::RetryRequest>,
    ) -> Result<Response<pb::RetryResponse>, Status> {
        let caller = self.caller(&request)?;
        Context::retry(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let caller = self.caller(&request)?;
        Context::delete(self, &caller, request.into_inner()).await.map(Response::new)
    }

    type ChangeAllStream = BoxStream<'static, Result<pb::ChangeAllResponse, Status>>;

    async fn change_all(
        &self,
        request: Request<pb::ChangeAllRequest>,
    ) -> Result<Response<Self::ChangeAllStream>, Status> {
        let caller = self.caller(&request)?;
        let progress = Context::change_all(self, &caller, request.into_inner()).await?;
        Ok(Response::new(while_valid(&caller, progress)))
    }
}
