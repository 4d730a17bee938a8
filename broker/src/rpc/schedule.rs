use currant_proto::v1 as pb;
use tonic::Status;

use super::{
    Context,
    access::check_queue,
    check, convert_schedule,
    enqueue::KEY_CHARS_MAX,
    status::{self, Violations},
    stored,
};
use crate::{
    domain::{NewSchedule, Schedule, Scope},
    pipeline::{Caller, PipelineError, Written},
};

const FIRES: usize = 10;
const FIRES_MAX: usize = 100;

impl Context {
    pub(super) async fn create_schedule(
        &self,
        caller: &Caller,
        request: pb::CreateScheduleRequest,
    ) -> Result<pb::CreateScheduleResponse, Status> {
        let pb::CreateScheduleRequest { schedule } = request;
        let schedule = self.checked_schedule(caller, schedule).await?;
        let written = self.core.create_schedule(caller, &schedule).await;
        let schedule = self.written(caller, &schedule.name, written).await?;
        Ok(pb::CreateScheduleResponse { schedule: Some(schedule) })
    }

    pub(super) async fn update_schedule(
        &self,
        caller: &Caller,
        request: pb::UpdateScheduleRequest,
    ) -> Result<pb::UpdateScheduleResponse, Status> {
        let pb::UpdateScheduleRequest { schedule } = request;
        let schedule = self.checked_schedule(caller, schedule).await?;
        let written = self.core.update_schedule(caller, &schedule).await;
        let schedule = self.written(caller, &schedule.name, written).await?;
        Ok(pb::UpdateScheduleResponse { schedule: Some(schedule) })
    }

    pub(super) async fn delete_schedule(
        &self,
        caller: &Caller,
        request: pb::DeleteScheduleRequest,
    ) -> Result<pb::DeleteScheduleResponse, Status> {
        let pb::DeleteScheduleRequest { name } = request;
        check_name(&name)?;
        let deleted = self.core.delete_schedule(caller, &name).await;
        match deleted.map_err(|error| status::of(&error))? {
            Written::Missing => Err(status::not_found("schedule", name)),
            Written::Done | Written::There => Ok(pb::DeleteScheduleResponse {}),
        }
    }

    pub(super) async fn get_schedule(
        &self,
        caller: &Caller,
        request: pb::GetScheduleRequest,
    ) -> Result<pb::GetScheduleResponse, Status> {
        let pb::GetScheduleRequest { name } = request;
        check_name(&name)?;
        let mut schedule = found(&name, self.core.get_schedule(caller, &name).await)?;
        if !caller.allows(Scope::Read) {
            schedule.hidden = true;
            if let Some(job) = schedule.schedule.as_mut().and_then(|one| one.job.as_mut()) {
                job.payload.clear();
            }
        }
        Ok(pb::GetScheduleResponse { schedule: Some(schedule) })
    }

    pub(super) async fn list_schedules(
        &self,
        caller: &Caller,
        request: pb::ListSchedulesRequest,
    ) -> Result<pb::ListSchedulesResponse, Status> {
        let pb::ListSchedulesRequest { page_size, page_token } = request;
        let limit = check::page(page_size, &page_token)?;
        let listed = self.core.list_schedules(caller, &page_token, limit).await;
        let listed = listed.map_err(|error| status::of(&error))?;
        let last = listed.last().filter(|_| listed.len() == limit);
        let next_page_token = last.map(|(schedule, _)| schedule.name.clone()).unwrap_or_default();
        let schedule = |(schedule, queue)| convert_schedule::schedule(schedule, queue);
        let schedules = listed.into_iter().map(schedule).collect();
        Ok(pb::ListSchedulesResponse { schedules, next_page_token })
    }

    pub(super) async fn pause_schedule(
        &self,
        caller: &Caller,
        request: pb::PauseScheduleRequest,
    ) -> Result<pb::PauseScheduleResponse, Status> {
        let pb::PauseScheduleRequest { name } = request;
        check_name(&name)?;
        let schedule = found(&name, self.core.pause_schedule(caller, &name, true).await)?;
        Ok(pb::PauseScheduleResponse { schedule: Some(schedule) })
    }

    pub(super) async fn resume_schedule(
        &self,
        caller: &Caller,
        request: pb::ResumeScheduleRequest,
    ) -> Result<pb::ResumeScheduleResponse, Status> {
        let pb::ResumeScheduleRequest { name } = request;
        check_name(&name)?;
        let schedule = found(&name, self.core.pause_schedule(caller, &name, false).await)?;
        Ok(pb::ResumeScheduleResponse { schedule: Some(schedule) })
    }

    pub(super) async fn run_schedule_now(
        &self,
        caller: &Caller,
        request: pb::RunScheduleNowRequest,
    ) -> Result<pb::RunScheduleNowResponse, Status> {
        let pb::RunScheduleNowRequest { name, idempotency_key } = request;
        check_name(&name)?;
        let mut violations = Violations::default();
        if let Err(problem) = check::text(&idempotency_key, KEY_CHARS_MAX) {
            violations.add("idempotency_key", problem);
        }
        violations.into_result()?;
        let key = Some(idempotency_key).filter(|key| !key.is_empty());
        let stored = self.core.run_schedule(caller, &name, key).await;
        let stored = stored.map_err(|error| status::of(&error))?;
        let stored = stored.ok_or_else(|| status::not_found("schedule", name))?;
        Ok(pb::RunScheduleNowResponse { job_id: stored.ids.first().map_or(0, |id| id.0) })
    }

    pub(super) async fn next_fires(
        &self,
        caller: &Caller,
        request: pb::NextFiresRequest,
    ) -> Result<pb::NextFiresResponse, Status> {
        let pb::NextFiresRequest { name, count } = request;
        check_name(&name)?;
        let count = if count == 0 { FIRES } else { count as usize };
        let mut violations = Violations::default();
        if let Err(problem) = check::count(count, 1, FIRES_MAX) {
            violations.add("count", problem);
        }
        violations.into_result()?;
        let found = self.core.get_schedule(caller, &name).await;
        let found = found.map_err(|error| status::of(&error))?;
        let (schedule, _) = found.ok_or_else(|| status::not_found("schedule", name))?;
        let cron = schedule.rules.cron;
        let now = self.core.clock.database_micros();
        let fires = std::iter::successors(cron.after(now), |fire| cron.after(*fire));
        Ok(pb::NextFiresResponse { fires: fires.take(count).map(stored::timestamp).collect() })
    }

    /// With its queue, which is the caller's and is created if it isn't there.
    async fn checked_schedule(
        &self,
        caller: &Caller,
        schedule: Option<pb::Schedule>,
    ) -> Result<NewSchedule, Status> {
        let mut violations = Violations::default();
        let checked = convert_schedule::new_schedule(
            schedule.unwrap_or_default(),
            self.settings.payload_bytes_max,
            self.core.clock.database_micros(),
            |field, problem| violations.add(format!("schedule.{field}"), problem),
        );
        violations.into_result()?;
        let Some((mut schedule, queue)) = checked else {
            return Err(status::of(&PipelineError::Internal));
        };
        check_queue(caller, &queue)?;
        let queues = self.core.resolve_queues(&[&queue]).await;
        schedule.job.queue = queues.map_err(|error| status::of(&error))?[0].id;
        Ok(schedule)
    }

    async fn written(
        &self,
        caller: &Caller,
        name: &str,
        written: Result<Written, PipelineError>,
    ) -> Result<pb::StoredSchedule, Status> {
        match written.map_err(|error| status::of(&error))? {
            Written::There => Err(status::already_exists("schedule", name)),
            Written::Missing => Err(status::not_found("schedule", name)),
            Written::Done => found(name, self.core.get_schedule(caller, name).await),
        }
    }
}

fn check_name(name: &str) -> Result<(), Status> {
    check::name(name).map_err(|problem| status::invalid("name", &problem))
}

fn found(
    name: &str,
    schedule: Result<Option<(Schedule, String)>, PipelineError>,
) -> Result<pb::StoredSchedule, Status> {
    let schedule = schedule.map_err(|error| status::of(&error))?;
    let (schedule, queue) = schedule.ok_or_else(|| status::not_found("schedule", name))?;
    Ok(convert_schedule::schedule(schedule, queue))
}
