//! What of messages has come in and isn't read yet: all calls together have a bound. A call that would
//! go beyond it is refused, and what it has sent is forgotten; so those that are there can go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{Core, PipelineError};

/// Bytes that are there, of all calls.
#[derive(Debug)]
pub(super) struct Reading {
    used: AtomicUsize,
    max: usize,
}

/// How much of the bound a call may find used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// New work: half of it.
    Half,
    /// What ends work.
    All,
}

const RETRY_AFTER: Duration = Duration::from_millis(100);

impl Reading {
    pub(super) fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max }
    }

    /// Bytes that are there, and that there may be.
    pub(super) fn bytes(&self) -> (usize, usize) {
        (self.used.load(Ordering::Relaxed), self.max)
    }

    fn take(&self, bytes: usize, share: Share) -> bool {
        let most = match share {
            Share::Half => self.max / 2,
            Share::All => self.max,
        };
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one call has of it; given back on drop.
pub struct Room {
    core: Arc<Core>,
    share: Share,
    bytes: usize,
}

impl Room {
    /// So much more has come.
    pub fn take(&mut self, bytes: usize) -> Result<(), PipelineError> {
        let reading = &self.core.reading;
        if !reading.take(bytes, self.share) {
            metrics::counter!("currant_messages_refused_total").increment(1);
            return Err(PipelineError::Full {
                what: "the memory for messages that are being read",
                limit: format!("at most {} bytes", reading.max),
                retry_after: RETRY_AFTER,
            });
        }
        self.bytes += bytes;
        Ok(())
    }

    /// All that has come is read.
    pub fn give_back(&mut self) {
        self.core.reading.give_back(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Core {
    /// Nothing as yet, for a call.
    pub fn room_to_read(self: &Arc<Self>, share: Share) -> Room {
        Room { core: Arc::clone(self), share, bytes: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_work_has_half_of_the_room_and_what_ends_work_all_of_it() {
        let reading = Reading::new(100);
        assert!(reading.take(50, Share::Half) && !reading.take(1, Share::Half));
        assert!(reading.take(50, Share::All) && !reading.take(1, Share::All));
        assert!(!reading.take(usize::MAX, Share::All));
        reading.give_back(60);
        assert!(reading.take(10, Share::Half) && !reading.take(1, Share::Half));
        assert_eq!(reading.bytes(), (50, 100));
    }
}
