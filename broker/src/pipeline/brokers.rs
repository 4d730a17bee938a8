use std::sync::Arc;

use super::{Caller, Core, PipelineError};
use crate::{
    domain::{BrokerState, Queue, QueueId},
    engine::SessionLoad,
    store,
};

impl Core {
    /// Brokers that run, and dead ones that aren't forgotten.
    pub async fn list_brokers(&self) -> Result<Vec<BrokerState>, PipelineError> {
        let list = async {
            let client = self.store.client().await?;
            store::list_brokers(&client).await
        };
        self.change("brokers could not be listed", list).await
    }

    /// The first sessions of this broker from this place on, with a queue that the caller may use; each
    /// with its place and the queues among its own that the caller may know.
    pub async fn list_sessions(
        self: &Arc<Self>,
        caller: &Caller,
        from: usize,
        limit: usize,
    ) -> Result<Vec<(usize, SessionLoad, Vec<Arc<Queue>>)>, PipelineError> {
        let is_known =
            |queue: &QueueId| self.queues.name(*queue).is_some_and(|name| caller.may_use(&name));
        let all = caller.may_use_all_queues();
        let wanted = |queues: &[QueueId]| all || queues.iter().any(is_known);
        let found = self.engine(|engine| engine.session_loads(from, limit, wanted));
        let mut ids: Vec<QueueId> =
            found.iter().flat_map(|(_, load)| load.queues.iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        let names = self.change("queues could not be looked up", self.queues_by_id(&ids)).await?;
        let queues = |load: &SessionLoad| {
            let queues = load.queues.iter().filter_map(|queue| names.get(queue));
            queues.filter(|queue| caller.may_use(&queue.name)).cloned().collect()
        };
        Ok(found
            .into_iter()
            .map(|(place, load)| {
                let queues = queues(&load);
                (place, load, queues)
            })
            .collect())
    }
}
