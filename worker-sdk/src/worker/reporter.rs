//! Progress and checkpoints on their way to the broker: what all handlers of a worker report goes in one call at
//! a time, the newest of each attempt. Who reports nothing costs nothing.

use std::{
    collections::hash_map::Entry,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use currant_proto::v1::{
    self, GetCheckpointRequest, ReportProgressRequest, Welcome,
    worker_service_client::WorkerServiceClient,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{sleep, timeout},
};
use tonic::{Code, Status};

use super::attempts::{Attempt, AttemptMap};
use crate::{
    credentials::Transport,
    error::Error,
    progress::{Answer, CHECKPOINT_BYTES_MAX, Report, check_size},
    retry::{Backoff, is_transient},
};

/// Between two calls, unless a checkpoint waits.
const PAUSE: Duration = Duration::from_millis(100);
/// Of one call.
const REPORTS_MAX: usize = 1000;
const BYTES_MAX: usize = 1 << 20;
/// Of one batch; then what it says is given up.
const TRIES_MAX: u32 = 20;

/// What the handlers of one worker report through.
#[derive(Clone)]
pub(super) struct Reporter(Arc<Shared>);

struct Shared {
    client: WorkerServiceClient<Transport>,
    state: Mutex<State>,
    /// A checkpoint waits.
    hurry: Notify,
}

struct State {
    session_id: String,
    checkpoint_bytes_max: u32,
    /// At most one for each attempt that runs.
    waiting: AttemptMap<Waiting>,
    /// Whether a task sends.
    sending: bool,
}

type Stored = oneshot::Sender<Result<(), Error>>;

struct Waiting {
    report: v1::ProgressReport,
    /// Who waits for its checkpoint.
    stored: Vec<Stored>,
}

impl Reporter {
    pub(super) fn new(client: WorkerServiceClient<Transport>) -> Reporter {
        let state = State {
            session_id: String::new(),
            checkpoint_bytes_max: CHECKPOINT_BYTES_MAX,
            waiting: AttemptMap::default(),
            sending: false,
        };
        Reporter(Arc::new(Shared { client, state: Mutex::new(state), hurry: Notify::new() }))
    }

    /// The session is open.
    pub(super) fn welcomed(&self, welcome: &Welcome) {
        let mut state = self.lock();
        state.session_id.clone_from(&welcome.session_id);
        state.checkpoint_bytes_max = match welcome.checkpoint_bytes_max {
            0 => CHECKPOINT_BYTES_MAX,
            bytes => bytes,
        };
    }

    fn report(&self, report: v1::ProgressReport, stored: Option<Stored>) {
        let mut state = self.lock();
        if stored.is_some() {
            self.0.hurry.notify_one();
        }
        state.add(Waiting { report, stored: stored.into_iter().collect() });
        if !std::mem::replace(&mut state.sending, true) {
            tokio::spawn(self.clone().send());
        }
    }

    /// Sends until nothing waits any more.
    async fn send(self) {
        let (mut backoff, mut tries) = (Backoff::new(), 0);
        loop {
            let Some((session_id, batch)) = self.next_batch() else { return };
            let reports = batch.iter().map(|one| one.report.clone()).collect();
            let request = ReportProgressRequest { session_id, reports };
            match self.0.client.clone().report_progress(request).await {
                Ok(answer) => {
                    (backoff, tries) = (Backoff::new(), 0);
                    answered(batch, answer.into_inner().lost);
                    // It is over at once when a checkpoint waits.
                    let _ = timeout(PAUSE, self.0.hurry.notified()).await;
                }
                // A session that isn't known is about to be opened again.
                Err(status)
                    if tries < TRIES_MAX
                        && (is_transient(&status) || status.code() == Code::NotFound) =>
                {
                    tries += 1;
                    self.give_back(batch);
                    sleep(backoff.after(&status)).await;
                }
                Err(status) => {
                    tracing::warn!(%status, reports = batch.len(), "progress can't be reported");
                    tries = 0;
                    refused(batch, &status);
                }
            }
        }
    }

    fn next_batch(&self) -> Option<(String, Vec<Waiting>)> {
        let mut state = self.lock();
        let mut bytes = 0;
        let attempts: Vec<Attempt> = state
            .waiting
            .iter()
            .take(REPORTS_MAX)
            .take_while(|(_, waiting)| {
                let before = bytes;
                bytes += waiting.report.checkpoint.as_ref().map_or(0, Bytes::len);
                before == 0 || bytes <= BYTES_MAX
            })
            .map(|(attempt, _)| *attempt)
            .collect();
        state.sending = !attempts.is_empty();
        let batch: Vec<Waiting> =
            attempts.iter().filter_map(|attempt| state.waiting.remove(attempt)).collect();
        (!batch.is_empty()).then(|| (state.session_id.clone(), batch))
    }

    /// What was said meanwhile is newer.
    fn give_back(&self, batch: Vec<Waiting>) {
        let mut state = self.lock();
        for older in batch {
            let newer = state.waiting.remove(&older.attempt());
            state.add(older);
            if let Some(newer) = newer {
                state.add(newer);
            }
        }
    }

    async fn get_checkpoint(&self, attempt: Attempt) -> Result<Option<Bytes>, Error> {
        let mut backoff = Backoff::new();
        let mut tries = 0;
        loop {
            let request = GetCheckpointRequest {
                session_id: self.lock().session_id.clone(),
                job_id: attempt.job.0,
                attempt: attempt.number,
            };
            match self.0.client.clone().get_checkpoint(request).await {
                Ok(answer) => {
                    let checkpoint = answer.into_inner().checkpoint;
                    return Ok(Some(checkpoint).filter(|bytes| !bytes.is_empty()));
                }
                Err(status) if tries < TRIES_MAX && is_transient(&status) => {
                    tries += 1;
                    sleep(backoff.after(&status)).await;
                }
                Err(status) if status.code() == Code::NotFound => return Err(Error::Lost),
                Err(status) => return Err(status.into()),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report for Reporter {
    fn progress(&self, attempt: Attempt, percent: f32, message: String) {
        let (percent, message) = (Some(percent), Some(message));
        self.report(v1::ProgressReport { percent, message, ..about(attempt) }, None);
    }

    fn checkpoint(&self, attempt: Attempt, state: Bytes) -> Answer<'_, ()> {
        Box::pin(async move {
            check_size(&state, self.lock().checkpoint_bytes_max)?;
            let (stored, answer) = oneshot::channel();
            let report = v1::ProgressReport { checkpoint: Some(state), ..about(attempt) };
            self.report(report, Some(stored));
            answer.await.unwrap_or(Err(Error::Lost))
        })
    }

    fn last_checkpoint(&self, attempt: Attempt) -> Answer<'_, Option<Bytes>> {
        Box::pin(self.get_checkpoint(attempt))
    }
}

impl State {
    /// Over what the attempt said before.
    fn add(&mut self, newer: Waiting) {
        match self.waiting.entry(newer.attempt()) {
            Entry::Vacant(entry) => drop(entry.insert(newer)),
            Entry::Occupied(mut entry) => {
                let Waiting { report, stored } = entry.get_mut();
                report.percent = newer.report.percent.or(report.percent);
                report.message = newer.report.message.or(report.message.take());
                report.checkpoint = newer.report.checkpoint.or(report.checkpoint.take());
                stored.extend(newer.stored);
            }
        }
    }
}

impl Waiting {
    fn attempt(&self) -> Attempt {
        Attempt { job: self.report.job_id.into(), number: self.report.attempt }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Reporter")
    }
}

fn about(attempt: Attempt) -> v1::ProgressReport {
    let (job_id, attempt) = (attempt.job.0, attempt.number);
    v1::ProgressReport { job_id, attempt, ..v1::ProgressReport::default() }
}

fn answered(batch: Vec<Waiting>, lost: Vec<v1::Attempt>) {
    let lost: Vec<Attempt> = lost.into_iter().map(Attempt::from).collect();
    for waiting in batch {
        let is_lost = lost.contains(&waiting.attempt());
        for stored in waiting.stored {
            // Whoever waited may have gone.
            let _ = stored.send(if is_lost { Err(Error::Lost) } else { Ok(()) });
        }
    }
}

fn refused(batch: Vec<Waiting>, status: &Status) {
    for stored in batch.into_iter().flat_map(|waiting| waiting.stored) {
        let _ = stored.send(Err(status.clone().into()));
    }
}
