use currant_proto::v1::{self as pb, ExplainReason as Why};
use tonic::Status;

use super::{
    Context,
    filter::hint,
    status,
    stored::{state, timestamp},
};
use crate::{
    clock::time_of_micros,
    domain::{JobId, Reason},
    pipeline::{Caller, Explained},
};

impl Context {
    pub(super) async fn explain(
        &self,
        caller: &Caller,
        request: pb::ExplainRequest,
    ) -> Result<pb::ExplainResponse, Status> {
        let pb::ExplainRequest { job_id, queue } = request;
        let queue = hint(&self.core, caller, &queue).await?;
        let found = self.core.explain(JobId(job_id), queue).await;
        let found = found.map_err(|error| status::of(&error))?;
        let found = found.filter(|found| caller.may_use(&found.queue.name));
        found.map(response).ok_or_else(|| status::not_found("job", job_id.to_string()))
    }
}

fn response(explained: Explained) -> pb::ExplainResponse {
    let Explained { job, queue, reason, ahead } = explained;
    let queue = &queue.name;
    let told = pb::ExplainResponse {
        state: state(job.state).into(),
        jobs_ahead: ahead,
        ..pb::ExplainResponse::default()
    };
    let say = |why: Why, message: String, rest: pb::ExplainResponse| pb::ExplainResponse {
        reason: why.into(),
        message,
        ..rest
    };
    let at = |micros: i64| time_of_micros(micros).format("%Y-%m-%d %H:%M:%S UTC");
    match reason {
        Reason::Over => say(Why::Over, "it is over".to_owned(), told),
        Reason::Running { broker, worker } => {
            let message = match &worker {
                Some(worker) => format!("worker {worker:?} has it, by broker {broker:?}"),
                None => format!("broker {broker:?} has it: with a worker, or in memory"),
            };
            let worker = worker.unwrap_or_default();
            say(Why::Running, message, pb::ExplainResponse { broker, worker, ..told })
        }
        Reason::BrokerLost { broker } => {
            let message =
                format!("broker {broker:?}, which took it, shows no life; its jobs are rescued");
            say(Why::BrokerLost, message, pb::ExplainResponse { broker, ..told })
        }
        Reason::Scheduled { until } => {
            let message = format!("it is scheduled for {}", at(until));
            let until = Some(timestamp(until));
            say(Why::Scheduled, message, pb::ExplainResponse { until, ..told })
        }
        Reason::Retry { at: until } => {
            let message = format!("it failed, and is tried again at {}", at(until));
            let until = Some(timestamp(until));
            say(Why::Retry, message, pb::ExplainResponse { until, ..told })
        }
        Reason::Due => say(Why::Due, "its time has come: it becomes ready".to_owned(), told),
        Reason::Paused { since } => {
            let message = format!("queue {queue:?} is paused since {}", at(since));
            say(Why::QueuePaused, message, told)
        }
        Reason::NoWorkers => {
            say(Why::NoWorkers, format!("no worker is there for queue {queue:?}"), told)
        }
        Reason::NoOwner => {
            let message =
                format!("queue {queue:?} is limited, and no broker with workers owns it yet");
            say(Why::NoOwner, message, told)
        }
        Reason::OwnerLost { broker } => {
            let message = format!(
                "queue {queue:?} is limited, and broker {broker:?}, which owns it, shows no life"
            );
            say(Why::OwnerLost, message, pb::ExplainResponse { broker, ..told })
        }
        Reason::ConcurrencyFull { held, max } => {
            let message = format!("queue {queue:?} has {held} jobs under way of {max} at most");
            let rest = pb::ExplainResponse { running: held, limit: max, ..told };
            say(Why::ConcurrencyFull, message, rest)
        }
        Reason::RateSpent => {
            say(Why::RateSpent, format!("the rate of queue {queue:?} is spent for now"), told)
        }
        Reason::WorkersBusy { held } => {
            let message = format!("the workers of queue {queue:?} have all that they take: {held}");
            say(Why::WorkersBusy, message, pb::ExplainResponse { running: held, ..told })
        }
        Reason::KeyConcurrencyFull { held, max } => {
            let message = format!("its key has {held} jobs under way of {max} at most");
            let rest = pb::ExplainResponse { running: held, limit: max, ..told };
            say(Why::KeyConcurrencyFull, message, rest)
        }
        Reason::KeyRateSpent => {
            say(Why::KeyRateSpent, "the rate of its key is spent for now".to_owned(), told)
        }
        Reason::KeyHeldUp { by: Some(job) } => {
            let message = format!("job {job} of its key comes before it");
            let held_up_by = job.0;
            say(Why::KeyHeldUp, message, pb::ExplainResponse { held_up_by, ..told })
        }
        Reason::KeyHeldUp { by: None } => {
            say(Why::KeyHeldUp, "another job of its key is under way".to_owned(), told)
        }
        Reason::KeyLimited { owner: broker } => {
            let message = format!(
                "a limit of its key is reached; broker {broker:?}, which owns queue {queue:?}, knows which"
            );
            say(Why::KeyLimited, message, pb::ExplainResponse { broker, ..told })
        }
        Reason::KeysFull { owner: broker } => {
            let message = format!(
                "broker {broker:?}, which owns queue {queue:?}, has its maximum of keys with jobs under way"
            );
            say(Why::KeyLimited, message, pb::ExplainResponse { broker, ..told })
        }
        Reason::Behind => {
            let message = format!("{ahead} ready jobs of queue {queue:?} come before it");
            say(Why::Behind, message, told)
        }
        Reason::Next => say(Why::Next, "it goes to a worker next".to_owned(), told),
    }
}
