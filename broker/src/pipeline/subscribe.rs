//! Sessions: opening, heartbeats, ends.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{Caller, Core, Outgoing, PipelineError, Suspect, channel::channel, error::log};
use crate::{
    domain::{Adopted, Attempt, JobId, Queue},
    engine::{Heartbeat, SessionId, SessionRequest, ToStop, UnknownSession},
    store::{self, StoreError},
};

/// What a worker asks for when it opens a stream, checked.
#[derive(Clone, Debug)]
pub struct SubscriptionRequest {
    pub caller: Caller,
    pub session: SessionId,
    /// For people.
    pub worker: Arc<str>,
    pub queues: Vec<Arc<Queue>>,
    pub max_in_flight: usize,
    pub concurrency: usize,
    pub held: Vec<Attempt>,
}

/// An open stream. Dropping it ends the stream, not the session: that lives on for the grace.
pub struct Subscription {
    core: Arc<Core>,
    session: SessionId,
    pub epoch: u64,
    /// Of what the worker presented, what isn't its own any more.
    pub lost: Vec<Attempt>,
    pub messages: mpsc::UnboundedReceiver<Outgoing>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (session, epoch) = (self.session, self.epoch);
        self.core.with_engine(|engine, now, actions| {
            engine.stream_ended(now, session, epoch, actions);
        });
    }
}

impl Core {
    /// Opens or resumes a session.
    pub async fn subscribe(
        self: &Arc<Self>,
        request: SubscriptionRequest,
    ) -> Result<Subscription, PipelineError> {
        if self.is_draining() {
            return Err(PipelineError::Draining);
        }
        let session = request.session;
        if !self.engine(|engine| engine.has_room_for(session)) {
            return Err(PipelineError::Full {
                what: "the number of sessions",
                limit: format!("at most {} sessions", self.limits.engine.sessions_max),
                retry_after: Duration::from_secs(5),
            });
        }
        // A task of its own: a call that is given up half-way would leave jobs taken over in the
        // database that no session holds.
        let opening = self.tasks.spawn(Arc::clone(self).open(request));
        opening.await.map_err(|_| PipelineError::Internal)?
    }

    async fn open(
        self: Arc<Self>,
        request: SubscriptionRequest,
    ) -> Result<Subscription, PipelineError> {
        let SubscriptionRequest {
            caller,
            session,
            worker,
            queues,
            max_in_flight,
            concurrency,
            held,
        } = request;
        let strange = self.engine(|engine| engine.not_held(session, &held));
        // The heartbeat isn't to raise the watermark over what is on its way into memory.
        let watermark = if strange.is_empty() { None } else { Some(self.watermark.read().await) };
        let adopted = self.adopt(&caller, &queues, &strange).await?;
        let (outbox, messages) = channel();
        let request = SessionRequest {
            session,
            worker,
            queues: queues.iter().map(|queue| queue.id).collect(),
            max_in_flight,
            concurrency,
            held,
            adopted,
        };
        let opened = self.with_dispatch(|dispatch, now, actions| {
            // In the place of an older stream's, which ends with that.
            dispatch.outboxes.insert(session, outbox);
            dispatch.engine.subscribe(now, request, actions)
        });
        drop(watermark);
        let (epoch, lost) = (opened.epoch, opened.lost);
        Ok(Subscription { core: self, session, epoch, lost, messages })
    }

    /// Takes over, in the database, what another broker delivered to this worker.
    async fn adopt(
        self: &Arc<Self>,
        caller: &Caller,
        queues: &[Arc<Queue>],
        strange: &[Attempt],
    ) -> Result<Vec<Adopted>, PipelineError> {
        let Some(low) = strange.iter().map(|attempt| attempt.id).min() else {
            return Ok(Vec::new());
        };
        let adopt = async {
            let mut strange = strange.to_vec();
            if !caller.may_use_all_queues() {
                let presented: Vec<JobId> = strange.iter().map(|attempt| attempt.id).collect();
                let keys = self.keys_for(caller, &presented, None).await?;
                let allowed: HashSet<JobId> = keys.into_iter().map(|key| key.id).collect();
                strange.retain(|attempt| allowed.contains(&attempt.id));
            }
            let client = self.store.client().await?;
            store::adopt_jobs(&client, self.broker.id, &strange).await
        };
        adopt.await.map_err(|error: StoreError| {
            log(&error, "attempts could not be taken over");
            if error.may_have_committed() {
                // It may have committed.
                for queue in queues {
                    self.suspect(Suspect { queue: queue.id, low });
                }
            }
            PipelineError::from(&error)
        })
    }

    /// A worker shows life. Returns what it holds and has to stop.
    pub fn heartbeat(self: &Arc<Self>, heartbeat: &Heartbeat) -> Result<ToStop, UnknownSession> {
        self.with_engine(|engine, now, actions| engine.heartbeat(now, heartbeat, actions))
    }
}
