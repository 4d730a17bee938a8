use std::time::SystemTime;

use currant_proto::v1;

use crate::{error::Error, job::JobId, stored_job::JobState, time::from_timestamp};

/// Why a job isn't running, or what it does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// What stands in its way; of several things that which has to go first.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
    /// Its state.
    pub state: JobState,
    /// Scheduled or waiting for a retry: when it may start.
    pub until: Option<SystemTime>,
    /// If it is ready: how many ready jobs come before it, 10,000 of higher priorities and as many of its
    /// own at most.
    pub jobs_ahead: u64,
    /// Jobs of the queue that workers or brokers have, or those of its key, where that is the reason.
    pub running: u64,
    /// The queue's limit, or that of its keys, where that is the reason.
    pub limit: u32,
    /// The broker that has the job, or owns its queue; empty: none.
    pub broker: String,
    /// The worker that has it, if the broker that was asked knows; else empty.
    pub worker: String,
    /// Held up by an earlier job of its key: one that has to be over first, if it is known which.
    pub held_up_by: Option<JobId>,
}

/// What stands in a job's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A newer broker knows it.
    Unknown,
    /// It is in a final state.
    Over,
    /// A worker has it, or a broker's memory.
    Running,
    /// The broker that took it shows no life. Others make it ready again.
    BrokerLost,
    /// It may not start yet.
    Scheduled,
    /// An attempt failed, and it waits as its retry policy says.
    Retry,
    /// Its time has come, and it becomes ready.
    Due,
    /// Its queue is paused.
    QueuePaused,
    /// No worker has its queue.
    NoWorkers,
    /// Its queue is limited, and no broker that has workers for it owns it.
    NoOwner,
    /// Its queue is limited, and the broker that owns it shows no life.
    OwnerLost,
    /// As many jobs of its queue are under way as may be.
    ConcurrencyFull,
    /// The rate of its queue is spent for now.
    RateSpent,
    /// All workers of the queue have as many jobs as they take.
    WorkersBusy,
    /// Its key waits for one of several limits, and only the owner of its queue knows for which.
    KeyLimited,
    /// As many jobs of its key are under way as may be.
    KeyConcurrencyFull,
    /// The rate of its key is spent for now.
    KeyRateSpent,
    /// The jobs of its key run in order, and an earlier one isn't over.
    KeyHeldUp,
    /// Others come before it, and workers take them.
    Behind,
    /// Nothing stands in its way.
    Next,
}

impl Explanation {
    pub(crate) fn from_proto(answer: v1::ExplainResponse) -> Result<Explanation, Error> {
        let reason = Reason::from_proto(answer.reason());
        let state = JobState::from_proto(answer.state());
        let v1::ExplainResponse {
            message,
            until,
            jobs_ahead,
            running,
            limit,
            broker,
            worker,
            held_up_by,
            ..
        } = answer;
        let until = from_timestamp(until)?;
        Ok(Explanation {
            reason,
            message,
            state,
            until,
            jobs_ahead,
            running,
            limit,
            broker,
            worker,
            held_up_by: (held_up_by != 0).then_some(JobId(held_up_by)),
        })
    }
}

impl Reason {
    fn from_proto(reason: v1::ExplainReason) -> Reason {
        use v1::ExplainReason as Why;
        match reason {
            Why::Unspecified => Reason::Unknown,
            Why::Over => Reason::Over,
            Why::Running => Reason::Running,
            Why::BrokerLost => Reason::BrokerLost,
            Why::Scheduled => Reason::Scheduled,
            Why::Retry => Reason::Retry,
            Why::Due => Reason::Due,
            Why::QueuePaused => Reason::QueuePaused,
            Why::NoWorkers => Reason::NoWorkers,
            Why::NoOwner => Reason::NoOwner,
            Why::OwnerLost => Reason::OwnerLost,
            Why::ConcurrencyFull => Reason::ConcurrencyFull,
            Why::RateSpent => Reason::RateSpent,
            Why::WorkersBusy => Reason::WorkersBusy,
            Why::Behind => Reason::Behind,
            Why::Next => Reason::Next,
            Why::KeyLimited => Reason::KeyLimited,
            Why::KeyConcurrencyFull => Reason::KeyConcurrencyFull,
            Why::KeyRateSpent => Reason::KeyRateSpent,
            Why::KeyHeldUp => Reason::KeyHeldUp,
        }
    }
}
