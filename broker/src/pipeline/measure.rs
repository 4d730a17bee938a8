use std::sync::Arc;

use super::Core;
use crate::meters;

impl Core {
    /// Sets the gauges of this moment, and returns the figures of queues in Prometheus' text form.
    pub async fn measure(self: &Arc<Self>) -> String {
        let depths = self.depths_for_metrics().await;
        let (load, queues) = {
            let mut dispatch = self.dispatch.lock();
            let dispatch = &mut *dispatch;
            dispatch.meters.set_loads(dispatch.engine.queue_loads());
            dispatch.meters.set_depths(depths.as_deref());
            dispatch.meters.set_paused(|queue| self.queues.is_paused(queue));
            (dispatch.engine.load(), dispatch.meters.named(|queue| self.queues.name(queue)))
        };
        let limits = &self.limits.engine;
        let count = |name: &'static str, value: usize| metrics::gauge!(name).set(value as f64);
        count("currant_sessions", load.sessions);
        count("currant_sessions_max", limits.sessions_max);
        count("currant_credit", load.credit);
        count("currant_attempts_held", load.held);
        count("currant_limited_keys", load.limited_keys);
        count("currant_jobs_buffered", load.buffered);
        count("currant_buffered_bytes", load.buffered_bytes);
        count("currant_buffered_bytes_max", limits.buffered_bytes_max);
        count("currant_tokens", self.access.tokens());
        count("currant_draining", usize::from(self.is_draining()));
        let (bytes, bytes_max) = self.reading.bytes();
        count("currant_reading_bytes", bytes);
        count("currant_reading_bytes_max", bytes_max);
        for budget in [&self.enqueue_budget, &self.complete_budget, &self.progress_budget] {
            let count = |name: &'static str, value: usize| {
                metrics::gauge!(name, "budget" => budget.what).set(value as f64);
            };
            let (rows, bytes) = budget.used();
            count("currant_pending_rows", rows);
            count("currant_pending_rows_max", budget.rows_max);
            count("currant_pending_bytes", bytes);
            count("currant_pending_bytes_max", budget.bytes_max);
        }
        let pool = self.store.pool();
        count("currant_pool_connections_max", pool.connections_max);
        count("currant_pool_waiting", pool.waiting);
        for (state, connections) in [("idle", pool.idle), ("in_use", pool.in_use)] {
            metrics::gauge!("currant_pool_connections", "state" => state).set(connections as f64);
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            count("currant_tasks", runtime.metrics().num_alive_tasks());
        }
        if let Some(bytes) = meters::resident_bytes() {
            count("process_resident_memory_bytes", bytes);
        }
        if let Some(descriptors) = meters::open_descriptors() {
            count("process_open_fds", descriptors);
        }
        metrics::gauge!("currant_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        meters::by_queue(&queues)
    }
}
