use currant_proto::v1 as pb;
use futures_util::{Stream, stream};
use tonic::Status;

use super::{Context, filter::hint, status, stored};
use crate::{
    domain::{JobId, Scope},
    pipeline::{Caller, PipelineError, Seen},
};

impl Context {
    pub(super) async fn watch(
        &self,
        caller: &Caller,
        request: pb::WatchRequest,
    ) -> Result<impl Stream<Item = Result<pb::WatchResponse, Status>> + Send + use<>, Status> {
        let pb::WatchRequest { job_id, queue } = request;
        let queue = hint(&self.core, caller, &queue).await?;
        let found =
            self.core.watch(JobId(job_id), queue).await.map_err(|error| status::of(&error))?;
        let found = found.filter(|(_, queue)| caller.may_use(&queue.name));
        let gone = move || status::not_found("job", job_id.to_string());
        let (watcher, queue) = found.ok_or_else(gone)?;
        let reads = caller.allows(Scope::Read);
        let keep_alive = self.settings.keep_alive_interval;
        Ok(stream::unfold(Some(watcher), move |watcher| {
            let queue = (queue.name.clone(), queue.max_attempts);
            async move {
                let mut watcher = watcher?;
                let (message, more) = match tokio::time::timeout(keep_alive, watcher.next()).await {
                    Err(_) => (Ok(pb::WatchResponse { job: None }), true),
                    Ok(Seen::Job(job)) => {
                        let more = !job.state.is_final();
                        let job = stored::job(job.as_ref().clone(), queue);
                        let job = Some(stored::shown(reads, job));
                        (Ok(pb::WatchResponse { job }), more)
                    }
                    Ok(Seen::Gone) => (Err(gone()), false),
                    Ok(Seen::Closed) => (Err(status::of(&PipelineError::Draining)), false),
                };
                Some((message, more.then_some(watcher)))
            }
        }))
    }
}
