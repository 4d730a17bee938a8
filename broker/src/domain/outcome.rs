use bytes::Bytes;

use super::Attempt;

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Succeeded {
        result: Bytes,
    },
    Failed {
        error: Failure,
        /// No retry will help.
        discard: bool,
        /// Instead of what the retry policy says.
        retry_after_ms: Option<u64>,
    },
    Snoozed {
        delay_ms: u64,
    },
    Released,
    Cancelled,
    /// It didn't begin, since its time to start had passed.
    Expired,
    /// The worker says that it has recorded the outcome itself. It has failed if that isn't so.
    Committed,
}

impl Outcome {
    /// In a word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Snoozed { .. } => "snoozed",
            Self::Released => "released",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Committed => "committed",
        }
    }

    /// How the attempt failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Failed { error, .. } => Some(error.clone()),
            Self::Committed => Some(Failure {
                class: "not_committed".to_owned(),
                message: "no transaction of the worker's has recorded the outcome".to_owned(),
                details: String::new(),
            }),
            Self::Expired => Some(Failure {
                class: "expired".to_owned(),
                message: "the time by which it had to start passed".to_owned(),
                details: String::new(),
            }),
            Self::Succeeded { .. } | Self::Snoozed { .. } | Self::Released | Self::Cancelled => {
                None
            }
        }
    }
}

/// How an attempt failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    pub class: String,
    pub message: String,
    pub details: String,
}

impl Failure {
    /// What it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        self.class.len() + self.message.len() + self.details.len()
    }
}

/// A failed attempt as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    pub attempt: i32,
    /// Microseconds since 1970.
    pub failed_at: i64,
    pub worker: Option<String>,
    pub session: Option<String>,
    pub failure: Failure,
}

/// An outcome reported for an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    pub attempt: Attempt,
    pub outcome: Outcome,
}

impl Completion {
    /// What it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        96 + match &self.outcome {
            Outcome::Succeeded { result } => result.len(),
            Outcome::Failed { error, .. } => error.bytes(),
            Outcome::Snoozed { .. }
            | Outcome::Released
            | Outcome::Cancelled
            | Outcome::Expired
            | Outcome::Committed => 0,
        }
    }
}

/// What a completion did, known after its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Applied,
    /// An outcome of this very attempt was already stored.
    Duplicate,
    /// The attempt is no longer current.
    Stale,
    NotFound,
}

impl Verdict {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Stale => "stale",
            Self::NotFound => "not_found",
        }
    }
}
