use crate::domain::{JobId, Pruned, Retention, Slice, first_id_at_ms};

/// Where the walk through a queue is.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) retention: Retention,
    pub(super) shortest_ms: i64,
    /// It has been over all up to here.
    pub(super) position: JobId,
    /// No job behind the position has a smaller id; `None`: not known, or there is none.
    pub(super) next: Option<JobId>,
    /// When to ask what is next.
    pub(super) look_at_ms: i64,
    /// The first that stayed behind and may be pruned some day, and when the first of all of these may.
    kept: Option<JobId>,
    kept_until_ms: i64,
    /// When the walk began where it began last, how long it took to what is too young, and when it
    /// began at the very beginning.
    began_ms: i64,
    took_ms: Option<i64>,
    whole_ms: i64,
}

/// Between walks from the very beginning: for what others made prunable behind the walk.
const WHOLE_MS: i64 = 24 * 3_600_000;

/// A walk that took t is followed by the next from further back after REST * t at the earliest.
const REST: i64 = 10;

impl Walk {
    /// `None`: all jobs of the queue are kept for ever.
    pub(super) fn new(now_ms: i64, retention: Retention) -> Option<Self> {
        Some(Self::begin(now_ms, retention, retention.shortest_ms()?))
    }

    fn begin(now_ms: i64, retention: Retention, shortest_ms: i64) -> Self {
        Self {
            retention,
            shortest_ms,
            position: JobId(0),
            next: None,
            look_at_ms: now_ms,
            kept: None,
            kept_until_ms: i64::MAX,
            began_ms: now_ms,
            took_ms: None,
            whole_ms: now_ms,
        }
    }

    /// Goes back to the first that stayed behind, or to the beginning, if it is time for that.
    pub(super) fn turn_back(&mut self, now_ms: i64) {
        let Some(took_ms) = self.took_ms else { return };
        let rest_ms = (self.shortest_ms / 10).clamp(1000, 3_600_000);
        if now_ms >= self.whole_ms.saturating_add(WHOLE_MS.max(REST * took_ms)) {
            *self = Self::begin(now_ms, self.retention, self.shortest_ms);
        } else if let Some(kept) = self.kept
            && now_ms >= self.kept_until_ms.max(self.began_ms + rest_ms.max(REST * took_ms))
        {
            let whole_ms = self.whole_ms;
            let anew = Self::begin(now_ms, self.retention, self.shortest_ms);
            *self = Self { position: JobId(kept.0 - 1), whole_ms, ..anew };
        }
    }

    /// The first job that can't be over its retention, whatever became of it.
    pub(super) fn first_too_young(&self, now_ms: i64) -> JobId {
        first_id_at_ms(now_ms - self.shortest_ms)
    }

    /// All that is old enough has been gone over.
    pub(super) fn arrived(&mut self, now_ms: i64) {
        self.took_ms.get_or_insert(now_ms - self.began_ms);
    }

    /// A slice of the queue has been gone over.
    pub(super) fn pruned(&mut self, now_ms: i64, slice: &Slice, pruned: &Pruned) {
        // One that is still open finishes now at the earliest.
        let open_ms = pruned.open.then_some(self.shortest_ms);
        if let Some(ms) = [pruned.kept_ms, open_ms].into_iter().flatten().min() {
            self.kept_until_ms = self.kept_until_ms.min(now_ms + ms);
        }
        self.kept = self.kept.or(pruned.kept);
        match pruned.last.filter(|_| pruned.rows >= slice.rows_max) {
            Some(last) => {
                self.position = last;
                self.next = Some(JobId(last.0 + 1));
            }
            None => {
                self.position = JobId(slice.before.0 - 1);
                self.next = None;
                self.look_at_ms = now_ms;
                self.arrived(now_ms);
            }
        }
    }
}
