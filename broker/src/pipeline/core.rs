use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, RwLock, Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::{
    Access, AccessLimits, Budget, CoalescerLimits, QueueRegistry,
    change::Turns,
    change_all::CHANGES_OF_ALL_MAX,
    channel::channel,
    coalescer::coalesce,
    complete::SuccessCall,
    dispatch::Dispatch,
    due::Due,
    enqueue::EnqueueCall,
    failure_lines::FailureLines,
    metrics::Metrics,
    orphans::Orphans,
    reading::Reading,
    report_progress::{self, ProgressCall},
    settle_call::SettleCall,
    stats::{Depths, MeteredDepths, STATS_WATCHERS_MAX},
    wakeup::Wakeup,
    watch::Watches,
};
use crate::{
    clock::{Clock, time_of_micros},
    domain::{IdMaker, Queue},
    engine::{Dispatcher, Limits},
    meters::Meters,
    store::{BrokerRow, Store},
};

/// Bounds of the pipeline.
#[derive(Clone, Debug)]
pub struct CoreLimits {
    pub engine: Limits,
    pub enqueue: CoalescerLimits,
    pub complete: CoalescerLimits,
    pub queues_max: usize,
    /// With figures of their own.
    pub metered_queues_max: usize,
    pub access: AccessLimits,
    pub watches_max: usize,
    pub reading_bytes_max: usize,
    pub drain_deadline: Duration,
    /// For so long a broker that shows no life is held for alive.
    pub dead_after: Duration,
    /// After it no statement of a lost connection can still commit.
    pub statement_timeout: Duration,
}

/// What all tasks of the broker share. Each field is owned by the module that it is named after.
pub struct Core {
    pub store: Store,
    pub clock: Clock,
    pub broker: BrokerRow,
    pub queues: QueueRegistry,
    pub access: Access,
    /// When the next fire of a schedule is due.
    pub schedules: Due,
    pub(super) limits: CoreLimits,
    pub(super) metrics: Metrics,
    pub(super) ids: Mutex<IdMaker>,
    pub(super) dispatch: Mutex<Dispatch>,
    pub(super) reading: Reading,
    pub(super) enqueue_budget: Budget,
    pub(super) enqueue_inlet: mpsc::UnboundedSender<EnqueueCall>,
    pub(super) complete_budget: Budget,
    pub(super) complete_inlet: mpsc::UnboundedSender<SuccessCall>,
    pub(super) settle_inlet: mpsc::UnboundedSender<SettleCall>,
    pub(super) progress_budget: Budget,
    pub(super) progress_inlet: mpsc::UnboundedSender<ProgressCall>,
    pub(super) wakeup: Wakeup,
    pub(super) orphans: Orphans,
    pub(super) watches: Watches,
    pub(super) failure_lines: Mutex<FailureLines>,
    /// The last look at how many jobs there are.
    pub(super) depths: tokio::sync::Mutex<Option<Arc<Depths>>>,
    /// The last look for the metrics, and what it found.
    pub(super) metered_depths: tokio::sync::Mutex<Option<(Duration, Option<MeteredDepths>)>>,
    /// Claims and take-overs read, the heartbeat writes: the watermark isn't raised over one in flight.
    pub(super) watermark: RwLock<()>,
    pub(super) turns: Turns,
    pub(super) changes_of_all: Arc<Semaphore>,
    pub(super) stats_watchers: Arc<Semaphore>,
    /// What is under way in the database: flushes, claims, take-overs.
    pub(super) tasks: TaskTracker,
    pub(super) finished_micros: AtomicI64,
    pub(super) draining: AtomicBool,
    /// Wakes what waits for the drain to end.
    pub(super) progress: Notify,
    /// Wakes the timer when an earlier deadline may have come.
    pub(super) deadline: Notify,
    pub(super) owner_wanted: Notify,
}

impl Core {
    /// Builds the core and starts its coalescers on the current runtime.
    pub fn start(
        store: Store,
        clock: Clock,
        broker: BrokerRow,
        defaults: Queue,
        limits: CoreLimits,
    ) -> Arc<Self> {
        let (enqueue_inlet, enqueue) = channel();
        let (complete_inlet, complete) = channel();
        let (settle_inlet, settle) = channel();
        let (progress_inlet, progress) = channel();
        let core = Arc::new(Self {
            queues: QueueRegistry::new(defaults, limits.queues_max),
            metrics: Metrics::new(),
            access: Access::new(limits.access.clone()),
            schedules: Due::default(),
            ids: Mutex::new(IdMaker::new(broker.slot)),
            dispatch: Mutex::new(Dispatch {
                engine: Dispatcher::new(limits.engine.clone()),
                outboxes: HashMap::new(),
                waiting: HashMap::new(),
                meters: Meters::new(limits.metered_queues_max),
            }),
            reading: Reading::new(limits.reading_bytes_max),
            enqueue_budget: Budget::new("enqueue", &limits.enqueue),
            complete_budget: Budget::new("complete", &limits.complete),
            progress_budget: Budget::new("progress", &report_progress::LIMITS),
            wakeup: Wakeup::default(),
            orphans: Orphans::default(),
            watches: Watches::new(limits.watches_max),
            failure_lines: Mutex::default(),
            depths: tokio::sync::Mutex::new(None),
            metered_depths: tokio::sync::Mutex::new(None),
            watermark: RwLock::new(()),
            turns: Turns::default(),
            changes_of_all: Arc::new(Semaphore::new(CHANGES_OF_ALL_MAX)),
            stats_watchers: Arc::new(Semaphore::new(STATS_WATCHERS_MAX)),
            tasks: TaskTracker::new(),
            finished_micros: AtomicI64::new(0),
            draining: AtomicBool::new(false),
            progress: Notify::new(),
            deadline: Notify::new(),
            owner_wanted: Notify::new(),
            store,
            clock,
            broker,
            limits: limits.clone(),
            enqueue_inlet,
            complete_inlet,
            settle_inlet,
            progress_inlet,
        });
        let flusher = Arc::clone(&core);
        tokio::spawn(coalesce("enqueue", enqueue, limits.enqueue, move |calls| {
            Arc::clone(&flusher).flush_enqueue(calls)
        }));
        let flusher = Arc::clone(&core);
        tokio::spawn(coalesce("complete", complete, limits.complete, move |calls| {
            Arc::clone(&flusher).flush_successes(calls)
        }));
        let flusher = Arc::clone(&core);
        tokio::spawn(coalesce("settle", settle, limits.complete, move |calls| {
            Arc::clone(&flusher).flush_settlements(calls)
        }));
        let flusher = Arc::clone(&core);
        tokio::spawn(coalesce("progress", progress, report_progress::LIMITS, move |calls| {
            Arc::clone(&flusher).flush_progress(calls)
        }));
        core
    }

    /// A time to be stored as finished_at: the database's, and never the same twice, so that it tells
    /// which flush wrote a row.
    pub(super) fn unique_time(&self) -> chrono::DateTime<chrono::Utc> {
        let now = self.clock.database_micros();
        let before = self
            .finished_micros
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)))
            .unwrap_or_else(|last| last);
        time_of_micros(now.max(before + 1))
    }

    /// Lets claims end and keeps new ones waiting, until the answer is dropped.
    pub async fn pause_claims(&self) -> impl Drop + '_ {
        self.watermark.write().await
    }

    /// Ends every worker's stream, and those of watches.
    pub fn close_streams(&self) {
        self.close_watches();
        self.dispatch.lock().outboxes.clear();
    }

    /// Whether the broker is about to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Stops taking and delivering jobs, and waits until workers have completed what they hold, at
    /// most for `deadline`. Returns how many attempts are still held.
    pub async fn drain(self: &Arc<Self>, deadline: Duration) -> usize {
        self.draining.store(true, Ordering::Relaxed);
        self.with_engine(|engine, _, actions| engine.drain(actions));
        let drained = async {
            loop {
                let progress = self.progress.notified();
                if self.engine(|engine| engine.drained()) && self.tasks.is_empty() {
                    return;
                }
                // Claims and give-backs end without a word of their own.
                let _ = tokio::time::timeout(Duration::from_millis(50), progress).await;
            }
        };
        if tokio::time::timeout(deadline, drained).await.is_err() {
            tracing::warn!("the drain's deadline passed with attempts still held");
        }
        self.engine(Dispatcher::held_count)
    }
}
