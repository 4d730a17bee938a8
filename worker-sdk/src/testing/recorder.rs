use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::{
    progress::{Answer, CHECKPOINT_BYTES_MAX, Report, check_size},
    worker::attempts::Attempt,
};

/// Keeps what a handler says of its attempt.
#[derive(Debug, Default)]
pub(super) struct Recorder(Mutex<Said>);

#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) progress: Vec<(f32, String)>,
    pub(super) checkpoints: Vec<Bytes>,
    /// Of an attempt before.
    last: Option<Bytes>,
}

impl Recorder {
    pub(super) fn new(last: Option<Bytes>) -> Recorder {
        Recorder(Mutex::new(Said { last, ..Said::default() }))
    }

    pub(super) fn said(&self) -> Said {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report for Recorder {
    fn progress(&self, _: Attempt, percent: f32, message: String) {
        self.lock().progress.push((percent, message));
    }

    fn checkpoint(&self, _: Attempt, state: Bytes) -> Answer<'_, ()> {
        Box::pin(async move {
            check_size(&state, CHECKPOINT_BYTES_MAX)?;
            self.lock().checkpoints.push(state);
            Ok(())
        })
    }

    fn last_checkpoint(&self, _: Attempt) -> Answer<'_, Option<Bytes>> {
        let said = self.lock();
        let last = said.checkpoints.last().or(said.last.as_ref()).cloned();
        Box::pin(std::future::ready(Ok(last)))
    }
}
