//! The path of a job as tasks: thin shells that wait and act around the engine's decisions.
//!
//! Everything shares one [`Core`]. The engine stands behind one lock, held for a batch at a time and
//! never across an await.

mod access;
mod brokers;
mod cancel;
mod change;
mod change_all;
mod channel;
mod claim;
mod coalescer;
mod complete;
mod configure;
mod core;
mod delete;
mod dispatch;
mod due;
mod enqueue;
mod enqueue_unique;
mod error;
mod explain;
mod failure_lines;
mod get;
mod hold;
mod limits;
mod list;
mod measure;
mod metrics;
mod orphans;
mod persist;
mod queues;
mod reading;
mod report_progress;
mod retry;
mod schedules;
mod settle;
mod settle_call;
mod stats;
mod subscribe;
mod sync;
mod tokens;
mod untold;
mod wakeup;
mod watch;

pub use self::{
    access::{Access, AccessLimits, Caller, Stranger},
    change_all::{Change, ChangeAll, Progress},
    coalescer::{Budget, CoalescerLimits},
    core::{Core, CoreLimits},
    dispatch::Outgoing,
    enqueue::Enqueued,
    error::PipelineError,
    explain::Explained,
    limits::Owned,
    list::Page,
    orphans::Suspect,
    queues::QueueRegistry,
    reading::{Room, Share},
    schedules::Written,
    stats::WatchStats,
    subscribe::{Subscription, SubscriptionRequest},
    tokens::{Created, create_token},
    watch::{Seen, Watcher},
};
