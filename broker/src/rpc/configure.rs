use std::time::Duration;

use currant_proto::v1 as pb;
use futures_util::{Stream, stream};
use tonic::Status;

use super::{Context, access::check_queue, check, convert_queue, status, status::Violations};
use crate::{
    domain::Queue,
    pipeline::{Caller, PipelineError},
};

const DRAIN_MS: u64 = 20_000;
const DRAIN_MS_MAX: u64 = 60_000;
const STATS_MS: u64 = 2000;
const STATS_MS_MIN: u64 = 1000;
const STATS_MS_MAX: u64 = 60_000;
const STATS_QUEUES: u32 = 50;
const STATS_QUEUES_MAX: u32 = 100;

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

impl Context {
    pub(super) fn watch_queue_stats(
        &self,
        caller: &Caller,
        request: pb::WatchQueueStatsRequest,
    ) -> Result<
        impl Stream<Item = Result<pb::WatchQueueStatsResponse, Status>> + Send + use<>,
        Status,
    > {
        let pb::WatchQueueStatsRequest { interval, page_size, after } = request;
        let mut violations = Violations::default();
        let interval_ms = interval.as_ref().map_or(Ok(STATS_MS), |interval| {
            check::duration_ms(interval, STATS_MS_MIN, STATS_MS_MAX)
        });
        let interval_ms = interval_ms.unwrap_or_else(|problem| {
            violations.add("interval", problem);
            0
        });
        if page_size > STATS_QUEUES_MAX {
            violations.add("page_size", format!("1 to {STATS_QUEUES_MAX}; this is {page_size}"));
        }
        if !after.is_empty()
            && let Err(problem) = check::name(&after)
        {
            violations.add("after", problem);
        }
        violations.into_result()?;
        let limit = if page_size == 0 { STATS_QUEUES } else { page_size };
        let interval = Duration::from_millis(interval_ms);
        let watch = self.core.watch_stats(caller.clone(), after, limit as usize, interval);
        let watch = watch.map_err(|error| status::of(&error))?;
        Ok(stream::try_unfold(watch, async |mut watch| {
            let (queues, more) = watch.next().await.map_err(|error| status::of(&error))?;
            let standing = |(queue, stats)| pb::QueueStanding {
                queue: Some(convert_queue::queue(queue)),
                stats: Some(convert_queue::stats(stats)),
            };
            let queues = queues.into_iter().map(standing).collect();
            Ok(Some((pb::WatchQueueStatsResponse { queues, more }, watch)))
        }))
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
