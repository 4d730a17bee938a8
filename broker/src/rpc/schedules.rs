use currant_proto::v1::{self as pb, schedule_service_server::ScheduleService};
use tonic::{Request, Response, Status};

use super::Context;

#[tonic::async_trait]
impl ScheduleService for Context {
    async fn create(
        &self,
        request: Request<pb::CreateScheduleRequest>,
    ) -> Result<Response<pb::CreateScheduleResponse>, Status> {
        let caller = self.caller(&request)?;
        self.create_schedule(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn update(
        &self,
        request: Request<pb::UpdateScheduleRequest>,
    ) -> Result<Response<pb::UpdateScheduleResponse>, Status> {
        let caller = self.caller(&request)?;
        self.update_schedule(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteScheduleRequest>,
    ) -> Result<Response<pb::DeleteScheduleResponse>, Status> {
        let caller = self.caller(&request)?;
        self.delete_schedule(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn get(
        &self,
        request: Request<pb::GetScheduleRequest>,
    ) -> Result<Response<pb::GetScheduleResponse>, Status> {
        let caller = self.caller(&request)?;
        self.get_schedule(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn list(
        &self,
        request: Request<pb::ListSchedulesRequest>,
    ) -> Result<Response<pb::ListSchedulesResponse>, Status> {
        let caller = self.caller(&request)?;
        self.list_schedules(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn pause(
        &self,
        request: Request<pb::PauseScheduleRequest>,
    ) -> Result<Response<pb::PauseScheduleResponse>, Status> {
        let caller = self.caller(&request)?;
        self.pause_schedule(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn resume(
        &self,
        request: Request<pb::ResumeScheduleRequest>,
    ) -> Result<Response<pb::ResumeScheduleResponse>, Status> {
        let caller = self.caller(&request)?;
        self.resume_schedule(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn run_now(
        &self,
        request: Request<pb::RunScheduleNowRequest>,
    ) -> Result<Response<pb::RunScheduleNowResponse>, Status> {
        let caller = self.caller(&request)?;
        self.run_schedule_now(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn next_fires(
        &self,
        request: Request<pb::NextFiresRequest>,
    ) -> Result<Response<pb::NextFiresResponse>, Status> {
        let caller = self.caller(&request)?;
        Context::next_fires(self, &caller, request.into_inner()).await.map(Response::new)
    }
}
