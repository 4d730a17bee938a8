use std::time::Duration;

use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, access::check_queue, check, convert_queue, status, status::Violations};
use crate::{
    domain::Queue,
    pipeline::{Caller, PipelineError},
};

const DRAIN_MS: u64 = 20_000;
const DRAIN_MS_MAX: u64 = 60_000;

impl Context {
    pub(super) async fn list_queues(
        &self,
        caller: &Caller,
        request: pb::ListQueuesRequest,
    ) -> Result<pb::ListQueuesResponse, Status> {
        let pb::ListQueuesRequest { page_size, page_token } = request;
        let limit = check::page(page_size, &page_token)?;
        let queues = self.core.list_queues(caller, &page_token, limit).await;
        let queues = queues.map_err(|error| status::of(&error))?;
        let last = queues.last().filter(|_| queues.len() == limit);
        let next_page_token = last.map(|queue| queue.name.clone()).unwrap_or_default();
        let queues = queues.into_iter().map(convert_queue::queue).collect();
        Ok(pb::ListQueuesResponse { queues, next_page_token })
    }

    pub(super) async fn get_queue(
        &self,
        caller: &Caller,
        request: pb::GetQueueRequest,
    ) -> Result<pb::GetQueueResponse, Status> {
        let pb::GetQueueRequest { queue: name } = request;
        check_name(caller, &name)?;
        let queue = found(&name, self.core.get_queue(&name).await)?;
        Ok(pb::GetQueueResponse { queue: Some(queue) })
    }

    pub(super) async fn configure_queue(
        &self,
        caller: &Caller,
        request: pb::ConfigureQueueRequest,
    ) -> Result<pb::ConfigureQueueResponse, Status> {
        let pb::ConfigureQueueRequest { queue: name, settings } = request;
        let mut violations = Violations::default();
        if let Err(problem) = check::name(&name) {
            violations.add("queue", problem);
        }
        let settings =
            convert_queue::queue_settings(&settings.unwrap_or_default(), |field, problem| {
                violations.add(format!("settings.{field}"), problem);
            });
        violations.into_result()?;
        check_queue(caller, &name)?;
        let queue = found(&name, self.core.configure_queue(caller, &name, &settings).await)?;
        Ok(pb::ConfigureQueueResponse { queue: Some(queue) })
    }

    pub(super) async fn pause_queue(
        &self,
        caller: &Caller,
        request: pb::PauseQueueRequest,
    ) -> Result<pb::PauseQueueResponse, Status> {
        let pb::PauseQueueRequest { queue: name } = request;
        check_name(caller, &name)?;
        let queue = found(&name, self.core.pause_queue(caller, &name, true).await)?;
        Ok(pb::PauseQueueResponse { queue: Some(queue) })
    }

    pub(super) async fn resume_queue(
        &self,
        caller: &Caller,
        request: pb::ResumeQueueRequest,
    ) -> Result<pb::ResumeQueueResponse, Status> {
        let pb::ResumeQueueRequest { queue: name } = request;
        check_name(caller, &name)?;
        let queue = found(&name, self.core.pause_queue(caller, &name, false).await)?;
        Ok(pb::ResumeQueueResponse { queue: Some(queue) })
    }

    pub(super) async fn drain_queue(
        &self,
        caller: &Caller,
        request: pb::DrainQueueRequest,
    ) -> Result<pb::DrainQueueResponse, Status> {
        let pb::DrainQueueRequest { queue: name, wait } = request;
        let wait_ms =
            wait.as_ref().map_or(Ok(DRAIN_MS), |wait| check::duration_ms(wait, 0, DRAIN_MS_MAX));
        let mut violations = Violations::default();
        let wait_ms = wait_ms.unwrap_or_else(|problem| {
            violations.add("wait", problem);
            0
        });
        violations.into_result()?;
        check_name(caller, &name)?;
        let drained = self.core.drain_queue(caller, &name, Duration::from_millis(wait_ms)).await;
        let (queue, running, told) = drained
            .map_err(|error| status::of(&error))?
            .ok_or_else(|| status::not_found("queue", &name))?;
        let drained = running == 0 && told;
        let queue = Some(convert_queue::queue(queue));
        Ok(pb::DrainQueueResponse { queue, drained, running })
    }

    pub(super) async fn queue_stats(
        &self,
        caller: &Caller,
        request: pb::QueueStatsRequest,
    ) -> Result<pb::QueueStatsResponse, Status> {
        let pb::QueueStatsRequest { queue: name } = request;
        check_name(caller, &name)?;
        let stats = self.core.queue_stats(&name).await.map_err(|error| status::of(&error))?;
        let stats = stats.ok_or_else(|| status::not_found("queue", name))?;
        Ok(convert_queue::stats(stats))
    }
}

/// A queue that isn't the caller's, or whose name isn't one, is refused.
fn check_name(caller: &Caller, name: &str) -> Result<(), Status> {
    check::name(name).map_err(|problem| status::invalid("queue", &problem))?;
    check_queue(caller, name)
}

fn found(name: &str, queue: Result<Option<Queue>, PipelineError>) -> Result<pb::Queue, Status> {
    let queue = queue.map_err(|error| status::of(&error))?;
    queue.map(convert_queue::queue).ok_or_else(|| status::not_found("queue", name))
}
