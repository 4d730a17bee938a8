/// Which job with the same key and queue is in the way of a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueScope {
    /// One that no broker has taken for a worker.
    Waiting,
    /// One that isn't over.
    Unfinished,
    /// One that was stored less than so many milliseconds ago.
    Period { ms: u64 },
}

/// What becomes of a new job that another is in the way of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueConflict {
    Existing,
    Replace,
    Reject,
}

/// A key of which there is one job at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    pub key: String,
    pub scope: UniqueScope,
    pub conflict: UniqueConflict,
}

/// What became of a job of a call in which some have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueVerdict {
    Stored,
    /// The id is that of the job in the way.
    Existing,
    /// So it is here, and that job is this one now.
    Replaced,
}
