use std::{sync::Arc, time::Duration};

use super::jittered;
use crate::{
    causes::causes,
    engine::{LoadBook, ToldLoad},
    pipeline::Core,
    store::{self, LoadRow, StoreError},
};

/// Tells others what this broker has of each queue, and up to which version it follows their changes.
/// Says nothing while nothing changes.
pub(super) async fn loads(core: Arc<Core>, interval: Duration) {
    let mut book = LoadBook::default();
    let mut followed = 0;
    loop {
        tokio::time::sleep(jittered(interval)).await;
        if let Err(error) = tell(&core, &mut book, &mut followed).await {
            book.forget();
            tracing::debug!(
                error = %causes(&error),
                "the load of queues could not be told; it is tried again"
            );
        }
    }
}

async fn tell(core: &Core, book: &mut LoadBook, followed: &mut i64) -> Result<(), StoreError> {
    // In this order: what is told of a version is what was held after it.
    let version = core.queues.version();
    let news: Vec<LoadRow> =
        book.news(core.clock.now(), core.queue_loads()).into_iter().map(row).collect();
    if news.is_empty() && version == *followed {
        return Ok(());
    }
    let client = core.store.client().await?;
    if !news.is_empty() {
        store::tell_loads(&client, core.broker.id, &news).await?;
    }
    if version != *followed {
        store::follow_queues(&client, core.broker.id, version).await?;
        *followed = version;
    }
    Ok(())
}

fn row(load: ToldLoad) -> LoadRow {
    let ToldLoad { queue, sessions, held, free, enqueued_per_s, completed_per_s } = load;
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let (sessions, held, free) = (count(sessions), count(held), count(free));
    LoadRow { queue, sessions, held, free, enqueued_per_s, completed_per_s }
}
