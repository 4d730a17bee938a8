use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    coalescer::{Permit, Request},
    complete::Verdicts,
};
use crate::{
    domain::{Attempt, Failure, JobKey, Outcome, shown_session},
    engine::{Completing, FailCause, SessionId},
};

/// The settlements of one call, or of one decision of the broker.
pub(super) struct SettleCall {
    pub(super) items: Vec<Item>,
    bytes: usize,
    pub(super) by: By,
    /// Where that matters: for what failed.
    pub(super) holder: Option<Holder>,
    /// Of what the broker fails itself.
    pub(super) cause: Option<FailCause>,
    /// From when it is sent off: a drain waits for it.
    pub(super) under_way: Option<TaskTrackerToken>,
}

pub(super) struct Item {
    pub(super) key: JobKey,
    pub(super) attempt: i32,
    pub(super) outcome: Outcome,
}

/// Who had the attempts of a call.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) session: SessionId,
    /// Empty: not known.
    pub(super) worker: Arc<str>,
}

impl Holder {
    pub(super) fn as_stored(&self) -> (Arc<str>, String) {
        (Arc::clone(&self.worker), shown_session(&format!("{:032x}", self.session.0)))
    }
}

pub(super) enum By {
    Worker {
        session: SessionId,
        completings: Vec<Completing>,
        reply: oneshot::Sender<Verdicts>,
        _permit: Arc<Permit>,
    },
    /// Only what this broker still owns. Nobody waits; and no budget is asked, since it makes room.
    Broker { owner: i32 },
}

impl SettleCall {
    pub(super) fn by_worker(
        session: SessionId,
        holder: Option<Holder>,
        items: Vec<(Completing, JobKey, Outcome)>,
        permit: Arc<Permit>,
    ) -> (Self, oneshot::Receiver<Verdicts>) {
        let (reply, answer) = oneshot::channel();
        let completings = items.iter().map(|(completing, ..)| *completing).collect();
        let item = |(completing, key, outcome): (Completing, JobKey, Outcome)| {
            let Attempt { id: _, number } = completing.attempt;
            Item { key, attempt: number, outcome }
        };
        let by = By::Worker { session, completings, reply, _permit: permit };
        let call = Self::new(items.into_iter().map(item).collect(), by);
        (Self { holder, ..call }, answer)
    }

    /// What the broker fails itself.
    pub(super) fn failed(
        jobs: Vec<(JobKey, i32)>,
        owner: i32,
        holder: Holder,
        cause: FailCause,
        error: Failure,
    ) -> Self {
        let outcome = Outcome::Failed { error, discard: false, retry_after_ms: None };
        let call = Self::by_broker(jobs, owner, &outcome);
        Self { holder: Some(holder), cause: Some(cause), ..call }
    }

    pub(super) fn by_broker(jobs: Vec<(JobKey, i32)>, owner: i32, outcome: &Outcome) -> Self {
        let item = |(key, attempt)| Item { key, attempt, outcome: outcome.clone() };
        Self::new(jobs.into_iter().map(item).collect(), By::Broker { owner })
    }

    fn new(items: Vec<Item>, by: By) -> Self {
        let bytes = |item: &Item| match &item.outcome {
            Outcome::Failed { error, .. } => 128 + error.bytes(),
            _ => 128,
        };
        let bytes = items.iter().map(bytes).sum();
        Self { bytes, items, by, holder: None, cause: None, under_way: None }
    }
}

impl Request for SettleCall {
    fn rows(&self) -> usize {
        self.items.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}
