use std::{collections::HashMap, sync::Arc};

use currant_proto::v1 as pb;
use futures_util::{Stream, StreamExt, stream};
use pb::subscribe_response::Message;
use tonic::Status;

use super::{
    Context, RpcSettings, access::check_queue, check, convert, status, status::Violations,
};
use crate::{
    domain::{Queue, QueueId, TakenJob},
    engine::{Delivery, LostReason, SessionId},
    pipeline::{Caller, Core, Outgoing, PipelineError, SubscriptionRequest},
    traces::Traces,
};

const WORKER_CHARS_MAX: usize = 128;

impl Context {
    pub(super) async fn subscribe(
        &self,
        caller: Caller,
        request: pb::SubscribeRequest,
    ) -> Result<impl Stream<Item = Result<pb::SubscribeResponse, Status>> + Send + use<>, Status>
    {
        let pb::SubscribeRequest { worker, queues, max_in_flight, concurrency, session_id, held } =
            request;
        let mut violations = Violations::default();
        if let Err(problem) = check::text(&worker, WORKER_CHARS_MAX) {
            violations.add("worker", problem);
        }
        if let Err(problem) = check::count(queues.len(), 1, self.settings.queues_per_session_max) {
            violations.add("queues", problem);
        }
        for (index, queue) in queues.iter().enumerate() {
            if let Err(problem) = check::name(queue) {
                violations.add(format!("queues[{index}]"), problem);
            }
        }
        let in_flight_max = self.settings.max_in_flight_max;
        if max_in_flight > in_flight_max {
            let problem = format!("0 to {in_flight_max}; this is {max_in_flight}");
            violations.add("max_in_flight", problem);
        }
        if let Err(problem) = check::count(held.len(), 0, in_flight_max as usize) {
            violations.add("held", problem);
        }
        let session = if session_id.is_empty() {
            new_session()?
        } else {
            check::session(&session_id).unwrap_or_else(|problem| {
                violations.add("session_id", problem);
                SessionId(0)
            })
        };
        let held = convert::attempts(held).unwrap_or_else(|(index, problem)| {
            violations.add(format!("held[{index}].attempt"), problem);
            Vec::new()
        });
        violations.into_result()?;
        queues.iter().try_for_each(|queue| check_queue(&caller, queue))?;

        let queues = self.distinct_queues(&queues).await?;
        let mut served = Served::new(Arc::clone(&self.core), self.traces.clone(), &queues);
        let concurrency = if concurrency == 0 { max_in_flight } else { concurrency };
        let request = SubscriptionRequest {
            caller,
            session,
            worker: worker.as_str().into(),
            queues,
            max_in_flight: max_in_flight as usize,
            concurrency: concurrency as usize,
            held,
        };
        let mut subscription =
            self.core.subscribe(request).await.map_err(|error| status::of(&error))?;
        tracing::debug!(worker, epoch = subscription.epoch, "a worker's stream is open");
        let lost = std::mem::take(&mut subscription.lost);
        let first =
            welcome(&self.settings, session, subscription.epoch, convert::pb_attempts(lost));
        let messages = stream::poll_fn(move |cx| subscription.messages.poll_recv(cx))
            .map(move |message| message_of(message, &mut served));
        let all = stream::once(std::future::ready(Message::Welcome(first))).chain(messages);
        Ok(all.map(|message| Ok(pb::SubscribeResponse { message: Some(message) })))
    }

    /// A queue named twice counts once.
    async fn distinct_queues(&self, names: &[String]) -> Result<Vec<Arc<Queue>>, Status> {
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        self.core.resolve_queues(&names).await.map_err(|error| status::of(&error))
    }
}

/// The queues of a stream, as they are now.
struct Served {
    core: Arc<Core>,
    traces: Option<Arc<Traces>>,
    /// All changes up to this one are in `by_id`.
    version: i64,
    by_id: HashMap<QueueId, Arc<Queue>>,
}

impl Served {
    fn new(core: Arc<Core>, traces: Option<Arc<Traces>>, queues: &[Arc<Queue>]) -> Self {
        let by_id = queues.iter().map(|queue| (queue.id, Arc::clone(queue))).collect();
        // They may have changed since they were found.
        Self { core, traces, version: i64::MIN, by_id }
    }

    fn get(&mut self, id: QueueId) -> Option<&Arc<Queue>> {
        let version = self.core.queues.version();
        if version != self.version {
            self.version = version;
            for queue in self.by_id.values_mut() {
                if let Some(known) = self.core.queues.known(&queue.name) {
                    *queue = known;
                }
            }
        }
        self.by_id.get(&id)
    }

    fn trace(&self, id: QueueId, jobs: &[TakenJob]) {
        let Some(traces) = &self.traces else { return };
        let Some(queue) = self.by_id.get(&id) else { return };
        let (now, name) = (self.core.clock.database_micros(), Arc::from(queue.name.as_str()));
        for job in jobs {
            traces.delivered(now, &name, job);
        }
    }
}

/// Whoever knows it can report in its name, so that it can't be guessed.
fn new_session() -> Result<SessionId, Status> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        tracing::error!(%error, "the system gives no random numbers");
        status::of(&PipelineError::Internal)
    })?;
    // Zero stands for a completion without a session.
    Ok(SessionId(u128::from_ne_bytes(random).max(1)))
}

fn welcome(
    settings: &RpcSettings,
    session: SessionId,
    epoch: u64,
    lost: Vec<pb::Attempt>,
) -> pb::Welcome {
    let ms = |duration: std::time::Duration| {
        convert::duration(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    let limit = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    pb::Welcome {
        session_id: format!("{:032x}", session.0),
        epoch,
        heartbeat_interval: Some(ms(settings.heartbeat_interval)),
        keep_alive_interval: Some(ms(settings.keep_alive_interval)),
        session_timeout: Some(ms(settings.session_timeout)),
        reconnect_grace: Some(ms(settings.reconnect_grace)),
        lost,
        completions_max: limit(settings.completions_per_request_max),
        result_bytes_max: limit(settings.result_bytes_max),
        message_bytes_max: limit(settings.message_bytes_max),
        checkpoint_bytes_max: limit(settings.checkpoint_bytes_max),
    }
}

fn message_of(message: Outgoing, served: &mut Served) -> Message {
    match message {
        Outgoing::Assignments(Delivery { seq, queue, jobs }) => {
            served.trace(queue, &jobs);
            let queue = served.get(queue);
            let (max_attempts, timeout_ms) =
                queue.map_or((0, None), |queue| (queue.max_attempts, queue.timeout_ms));
            let assignment = |job| convert::assignment(job, max_attempts, timeout_ms);
            Message::Assignments(pb::Assignments {
                seq,
                queue: queue.map(|queue| queue.name.clone()).unwrap_or_default(),
                jobs: jobs.into_iter().map(assignment).collect(),
            })
        }
        Outgoing::Cancel { attempts } => {
            Message::Cancel(pb::Cancel { attempts: convert::pb_attempts(attempts) })
        }
        Outgoing::LeaseLost { attempts, reason } => {
            let reason = match reason {
                LostReason::Timeout => pb::LeaseLostReason::Timeout,
                LostReason::Unacknowledged => pb::LeaseLostReason::Unacknowledged,
            };
            let attempts = convert::pb_attempts(attempts);
            Message::LeaseLost(pb::LeaseLost { attempts, reason: reason.into() })
        }
        Outgoing::Drain { deadline } => {
            let ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            Message::Drain(pb::Drain { deadline: Some(convert::duration(ms)) })
        }
        Outgoing::KeepAlive { seq } => Message::KeepAlive(pb::KeepAlive { seq }),
    }
}
