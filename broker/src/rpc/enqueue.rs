use std::collections::HashMap;

use currant_proto::v1 as pb;
use futures_util::{Stream, StreamExt};
use tonic::Status;

use super::{
    Context, access::check_queue, check, convert, convert_unique, status, status::Violations,
};
use crate::{
    domain::{NewJob, Queue, QueueId},
    pipeline::{Caller, Enqueued},
    traces::{Parent, Time},
};

/// Requests of one EnqueueStream that may be unanswered.
const UNANSWERED_MAX: usize = 64;
pub(super) const KEY_CHARS_MAX: usize = 64;
/// Of a call with a unique job: each is a statement of its own.
const UNIQUE_JOBS_MAX: usize = 1000;

impl Context {
    pub(super) async fn enqueue(
        &self,
        caller: &Caller,
        request: pb::EnqueueRequest,
    ) -> Result<pb::EnqueueResponse, Status> {
        let now = self.core.clock.database_micros();
        self.check_enqueue(&request, now)?;
        check_queues(caller, &request)?;
        let traced = self.traces.as_ref().map(|_| traced(&request)).unwrap_or_default();
        let pb::EnqueueRequest { jobs, idempotency_key, queue, kind } = request;
        let queues = self.queues_of(&jobs, &queue).await?;
        let jobs: Vec<NewJob> = jobs
            .into_iter()
            .zip(queues)
            .map(|(job, queue)| convert::new_job(job, queue, &kind, now))
            .collect();
        let key = Some(idempotency_key).filter(|key| !key.is_empty());
        let Enqueued { ids, duplicate, verdicts } =
            self.core.enqueue(jobs, key).await.map_err(|error| status::of(&error))?;
        if let Some(traces) = &self.traces {
            let time = Time { began: now, ended: self.core.clock.database_micros() };
            for (place, parent, queue) in traced {
                traces.stored(time, parent, &queue, ids[place].0);
            }
        }
        let verdict = |verdict| convert_unique::verdict(verdict).into();
        Ok(pb::EnqueueResponse {
            job_ids: ids.into_iter().map(|id| id.0).collect(),
            duplicate,
            verdicts: verdicts.into_iter().map(verdict).collect(),
        })
    }

    pub(super) fn enqueue_stream(
        self,
        caller: Caller,
        requests: tonic::Streaming<pb::EnqueueStreamRequest>,
    ) -> impl Stream<Item = Result<pb::EnqueueStreamResponse, Status>> + Send + 'static {
        requests
            .map(move |request| {
                let (context, caller) = (self.clone(), caller.clone());
                async move {
                    let pb::EnqueueStreamRequest { tag, request } = request?;
                    let stored = context.enqueue(&caller, request.unwrap_or_default()).await;
                    let result = match stored {
                        Ok(stored) => pb::enqueue_stream_response::Result::Stored(stored),
                        Err(error) => {
                            pb::enqueue_stream_response::Result::Error(as_message(&error))
                        }
                    };
                    Ok(pb::EnqueueStreamResponse { tag, result: Some(result) })
                }
            })
            .buffered(UNANSWERED_MAX)
    }

    fn check_enqueue(&self, request: &pb::EnqueueRequest, now: i64) -> Result<(), Status> {
        let mut violations = Violations::default();
        if let Err(problem) =
            check::count(request.jobs.len(), 1, self.settings.jobs_per_request_max)
        {
            violations.add("jobs", problem);
        }
        if let Err(problem) = check::text(&request.idempotency_key, KEY_CHARS_MAX) {
            violations.add("idempotency_key", problem);
        }
        for (field, value) in [("queue", &request.queue), ("kind", &request.kind)] {
            if !value.is_empty()
                && let Err(problem) = check::name(value)
            {
                violations.add(field, problem);
            }
        }
        if request.jobs.iter().any(|job| job.unique.is_some()) {
            if !request.idempotency_key.is_empty() {
                violations.add("idempotency_key", "not in a call with a unique job");
            }
            if let Err(problem) = check::count(request.jobs.len(), 1, UNIQUE_JOBS_MAX) {
                violations.add("jobs", format!("with a unique one among them: {problem}"));
            }
        }
        let defaults = convert::Defaults {
            queue: !request.queue.is_empty(),
            kind: !request.kind.is_empty(),
            payload_bytes_max: self.settings.payload_bytes_max,
            now,
        };
        for (index, job) in request.jobs.iter().take(self.settings.jobs_per_request_max).enumerate()
        {
            convert::check_new_job(job, &defaults, |field, problem| {
                violations.add(format!("jobs[{index}].{field}"), problem);
            });
        }
        violations.into_result()
    }

    /// The queue of each job and its default for priority; created where it isn't there.
    async fn queues_of(
        &self,
        jobs: &[pb::NewJob],
        default: &str,
    ) -> Result<Vec<(QueueId, i16)>, Status> {
        let says = |queue: &Queue| (queue.id, queue.priority);
        if jobs.iter().all(|job| job.queue.is_empty())
            && let Some(known) = self.core.queues.known(default)
        {
            return Ok(vec![says(&known); jobs.len()]);
        }
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut names: Vec<&str> = Vec::new();
        let mut of_job = Vec::with_capacity(jobs.len());
        for job in jobs {
            let name = if job.queue.is_empty() { default } else { job.queue.as_str() };
            let place = *places.entry(name).or_insert_with(|| {
                names.push(name);
                names.len() - 1
            });
            of_job.push(place);
        }
        let queues = self.core.resolve_queues(&names).await.map_err(|error| status::of(&error))?;
        Ok(of_job.into_iter().map(|place| says(&queues[place])).collect())
    }
}

/// The jobs that bring a trace along: their place, the parent of what happens to them, and their queue.
fn traced(request: &pb::EnqueueRequest) -> Vec<(usize, Parent, String)> {
    let jobs = request.jobs.iter().enumerate();
    let traced = jobs.filter_map(|(place, job)| {
        let parent = Parent::parse(&job.traceparent)?;
        let queue = if job.queue.is_empty() { &request.queue } else { &job.queue };
        Some((place, parent, queue.clone()))
    });
    traced.collect()
}

fn check_queues(caller: &Caller, request: &pb::EnqueueRequest) -> Result<(), Status> {
    if caller.may_use_all_queues() {
        return Ok(());
    }
    let of_job = |job: &pb::NewJob| {
        check_queue(caller, if job.queue.is_empty() { &request.queue } else { &job.queue })
    };
    request.jobs.iter().try_for_each(of_job)
}

fn as_message(error: &Status) -> pb::EnqueueError {
    pb::EnqueueError {
        code: error.code() as i32,
        message: error.message().to_owned(),
        status: bytes::Bytes::copy_from_slice(error.details()),
    }
}
