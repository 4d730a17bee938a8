//! Reports outcomes until they are answered.

use currant_proto::v1::{
    CompleteRequest, CompleteResponse, Completion, worker_service_client::WorkerServiceClient,
};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    call::Call,
    held::Held,
    outbox::{Limits, Outbox, Refused},
    outcome::attempt_of,
    run_time::RunTime,
    verdict::{Observer, Verdict},
};
use crate::{credentials::Transport, job::JobId, retry::Backoff, time::to_proto};

/// The Complete calls of a session, one at a time.
pub(super) struct Completer {
    outbox: Outbox,
    pub(super) call: Call<CompleteResponse>,
    backoff: Backoff,
    /// After an error: not before then.
    retry_at: Option<Instant>,
    run_time: RunTime,
    observer: Option<Observer>,
}

impl Completer {
    pub(super) fn new(run_time: RunTime, observer: Option<Observer>) -> Completer {
        Completer {
            outbox: Outbox::default(),
            call: Call::idle(),
            backoff: Backoff::new(),
            retry_at: None,
            run_time,
            observer,
        }
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.outbox.set_limits(limits);
    }

    pub(super) fn push(&mut self, completion: Completion) {
        self.outbox.push(completion);
    }

    /// Sends what waits, if no call is in flight.
    pub(super) fn flush(
        &mut self,
        now: Instant,
        client: &WorkerServiceClient<Transport>,
        session_id: &str,
        received_seq: u64,
    ) {
        if !self.call.is_idle() || self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        self.retry_at = None;
        let Some(batch) = self.outbox.next_batch() else { return };
        let request = CompleteRequest {
            session_id: session_id.to_owned(),
            completions: batch.to_vec(),
            received_seq,
            mean_run_time: self.run_time.mean().map(to_proto),
        };
        let mut client = client.clone();
        self.call.start(now, async move { client.complete(request).await });
    }

    /// The call in flight has ended.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        answer: Result<CompleteResponse, Status>,
        held: &mut Held,
    ) {
        match answer {
            Ok(CompleteResponse { verdicts }) if verdicts.len() == self.outbox.in_flight() => {
                self.backoff = Backoff::new();
                self.answered(&verdicts, held);
            }
            Ok(_) => self.again(now, &Status::internal("not one verdict for each completion")),
            // The broker's own limit of a message is smaller than it said: OUT_OF_RANGE.
            Err(status) if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) => {
                tracing::warn!(%status, "the broker refused outcomes as malformed, looking for which");
                if let Refused::Dropped(attempt) = self.outbox.refused(status.message()) {
                    let (job, number) = (attempt.job.0, attempt.number);
                    tracing::error!(job, attempt = number, "an outcome can't be reported");
                    held.settle(attempt);
                }
            }
            Err(status) => self.again(now, &status),
        }
    }

    /// The call in flight will have no answer: its outcomes go again.
    pub(super) fn resend(&mut self) {
        self.call.abandon();
        self.outbox.failed();
    }

    /// The broker is back: no need to wait any longer.
    pub(super) fn retry_now(&mut self) {
        self.retry_at = None;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    fn answered(&mut self, verdicts: &[i32], held: &mut Held) {
        let batch = self.outbox.answered();
        for completion in &batch {
            held.settle(attempt_of(completion));
        }
        if let Some(Observer(observe)) = &self.observer {
            let attempts: Vec<_> =
                batch.iter().map(|one| (JobId(one.job_id), one.attempt)).collect();
            let verdicts: Vec<_> = verdicts.iter().map(|one| Verdict::from_proto(*one)).collect();
            observe(&attempts, &verdicts);
        }
    }

    fn again(&mut self, now: Instant, status: &Status) {
        let delay = self.backoff.after(status);
        let outcomes = self.outbox.in_flight();
        tracing::warn!(%status, outcomes, ?delay, "outcomes had no answer, sending them again");
        self.retry_at = Some(now + delay);
        self.outbox.failed();
    }
}
