use std::time::Duration;

use currant_proto::v1::{self as pb, broker_service_server::BrokerService};
use tonic::{Request, Response, Status};

use super::{Context, check, convert::duration, status, stored::timestamp};
use crate::domain::{BrokerState, shown_session};

#[tonic::async_trait]
impl BrokerService for Context {
    async fn list_brokers(
        &self,
        _request: Request<pb::ListBrokersRequest>,
    ) -> Result<Response<pb::ListBrokersResponse>, Status> {
        let brokers = self.core.list_brokers().await.map_err(|error| status::of(&error))?;
        let brokers = brokers.into_iter().map(|broker| self.broker(broker)).collect();
        Ok(Response::new(pb::ListBrokersResponse { brokers }))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let caller = self.caller(&request)?;
        let pb::ListSessionsRequest { page_size, page_token } = request.into_inner();
        let limit = check::page_size(page_size)?;
        let from = if page_token.is_empty() { Ok(0) } else { page_token.parse() };
        let Ok(from) = from else {
            return Err(status::invalid("page_token", "as in the answer before"));
        };
        let found = self.core.list_sessions(&caller, from, limit).await;
        let found = found.map_err(|error| status::of(&error))?;
        let last = found.last().filter(|_| found.len() == limit);
        let next_page_token = last.map(|(place, ..)| (place + 1).to_string()).unwrap_or_default();
        let now = self.core.clock.now();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let sessions = found.into_iter().map(|(_, load, queues)| pb::Session {
            id: shown_session(&format!("{:032x}", load.session.0)),
            worker: load.worker.to_string(),
            queues: queues.iter().map(|queue| queue.name.clone()).collect(),
            max_in_flight: count(load.max_in_flight),
            concurrency: count(load.concurrency),
            held: count(load.held),
            attached: load.attached,
            seen: Some(duration(ms(now.saturating_sub(load.seen_at)))),
        });
        let sessions = sessions.collect();
        Ok(Response::new(pb::ListSessionsResponse { sessions, next_page_token }))
    }
}

impl Context {
    fn broker(&self, broker: BrokerState) -> pb::Broker {
        let BrokerState { id, name, heartbeat_at, dead_at, sessions, held, owned_queues } = broker;
        pb::Broker {
            answers: id == self.core.broker.id,
            id,
            name,
            heartbeat_at: Some(timestamp(heartbeat_at)),
            dead_at: dead_at.map(timestamp),
            sessions,
            held,
            owned_queues,
        }
    }
}
