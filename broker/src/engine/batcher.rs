/// When to flush, by natural batching: at once when nothing is in flight; otherwise the batch grows
/// until a flush returns. A second flush starts beside the first only when a batch is full.
///
/// Light load pays one commit and no delay; heavy load batches by itself.
#[derive(Debug)]
pub struct Batcher {
    rows_max: usize,
    bytes_max: usize,
    flushes_max: usize,
    rows: usize,
    bytes: usize,
    flushes: usize,
}

impl Batcher {
    /// A batch is full at `rows_max` rows or `bytes_max` bytes; at most `flushes_max` are in flight.
    pub fn new(rows_max: usize, bytes_max: usize, flushes_max: usize) -> Self {
        assert!(rows_max > 0 && bytes_max > 0 && flushes_max > 0);
        Self { rows_max, bytes_max, flushes_max, rows: 0, bytes: 0, flushes: 0 }
    }

    pub fn add(&mut self, rows: usize, bytes: usize) {
        self.rows += rows;
        self.bytes += bytes;
    }

    pub fn should_flush(&self) -> bool {
        let full = self.rows >= self.rows_max || self.bytes >= self.bytes_max;
        self.rows > 0 && (self.flushes == 0 || full && self.flushes < self.flushes_max)
    }

    /// Whether a batch of this size has room for a request more. The first one always has: a request
    /// isn't split.
    pub fn fits(&self, batch: (usize, usize), request: (usize, usize)) -> bool {
        batch.0 == 0
            || batch.0 + request.0 <= self.rows_max && batch.1 + request.1 <= self.bytes_max
    }

    pub fn flush_started(&mut self, rows: usize, bytes: usize) {
        self.rows -= rows;
        self.bytes -= bytes;
        self.flushes += 1;
    }

    pub fn flush_ended(&mut self) {
        self.flushes -= 1;
    }

    pub fn idle(&self) -> bool {
        self.rows == 0 && self.flushes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_at_once_when_nothing_is_in_flight() {
        let mut batcher = Batcher::new(100, 1000, 2);
        assert!(!batcher.should_flush());
        batcher.add(1, 10);
        assert!(batcher.should_flush());
    }

    #[test]
    fn grows_while_a_flush_is_in_flight_and_starts_a_second_only_when_full() {
        let mut batcher = Batcher::new(100, 1000, 2);
        batcher.add(1, 10);
        batcher.flush_started(1, 10);
        batcher.add(99, 10);
        assert!(!batcher.should_flush());
        batcher.add(1, 10);
        assert!(batcher.should_flush());
        batcher.flush_started(100, 20);
        batcher.add(500, 5000);
        assert!(!batcher.should_flush(), "two are in flight");
        batcher.flush_ended();
        assert!(batcher.should_flush());
    }

    #[test]
    fn full_by_bytes_counts_too() {
        let mut batcher = Batcher::new(100, 1000, 2);
        batcher.add(1, 10);
        batcher.flush_started(1, 10);
        batcher.add(1, 1000);
        assert!(batcher.should_flush());
        assert!(batcher.fits((0, 0), (5, 5000)), "a request larger than a batch goes alone");
        assert!(!batcher.fits((1, 900), (1, 101)));
    }
}
