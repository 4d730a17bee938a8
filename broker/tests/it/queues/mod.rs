//! Queues are paused, resumed, drained, configured and looked at while they work: by the broker that was
//! asked, by another, and by SQL.

mod key_limits;
mod keys;
mod limits;
mod named;
mod owners;
mod pause;
mod settings;
mod stats;

use currant_proto::v1::{
    ConfigureQueueRequest, DrainQueueRequest, DrainQueueResponse, GetQueueRequest,
    PauseQueueRequest, Queue, QueueSettings, QueueStatsRequest, QueueStatsResponse,
    ResumeQueueRequest,
};
use tonic::Status;

use crate::{outcomes::ms, support::Broker};

/// The sweep is not to help.
pub(super) const QUICK: &[(&str, &str)] = &[
    ("BROKER__HEARTBEAT_INTERVAL_MS", "200"),
    ("BROKER__DEAD_AFTER_MS", "1000"),
    ("BROKER__ADOPTION_GRACE_MS", "100"),
    ("DISPATCH__SWEEP_INTERVAL_MS", "60000"),
];

pub(super) async fn pause(broker: &Broker, queue: &str) -> Queue {
    let request = PauseQueueRequest { queue: queue.to_owned() };
    broker.queues().pause(request).await.unwrap().into_inner().queue.unwrap()
}

pub(super) async fn resume(broker: &Broker, queue: &str) -> Queue {
    let request = ResumeQueueRequest { queue: queue.to_owned() };
    broker.queues().resume(request).await.unwrap().into_inner().queue.unwrap()
}

pub(super) async fn configure(
    broker: &Broker,
    queue: &str,
    settings: QueueSettings,
) -> Result<Queue, Status> {
    let settings = Some(settings);
    let request = ConfigureQueueRequest { queue: queue.to_owned(), settings };
    Ok(broker.queues().configure(request).await?.into_inner().queue.unwrap())
}

pub(super) async fn drain(broker: &Broker, queue: &str, wait_ms: i64) -> DrainQueueResponse {
    let request = DrainQueueRequest { queue: queue.to_owned(), wait: Some(ms(wait_ms)) };
    broker.queues().drain(request).await.unwrap().into_inner()
}

pub(crate) async fn stats(broker: &Broker, queue: &str) -> QueueStatsResponse {
    let request = QueueStatsRequest { queue: queue.to_owned() };
    broker.queues().stats(request).await.unwrap().into_inner()
}

pub(super) async fn queue(broker: &Broker, queue: &str) -> Queue {
    let request = GetQueueRequest { queue: queue.to_owned() };
    broker.queues().get(request).await.unwrap().into_inner().queue.unwrap()
}
