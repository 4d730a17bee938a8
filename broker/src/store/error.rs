use tokio_postgres::error::{DbError, SqlState};

/// Stands for the statement where no connection was had.
pub(super) const CONNECT: &str = "connect";

/// Why a statement has no result.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached, the connection was lost, or it refused for now. Whether a write
    /// committed isn't known.
    #[error("{statement}: the database is unavailable")]
    Unavailable {
        statement: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A unique constraint forbids it; nothing was written.
    #[error("{statement}: a row is there already ({violation:?})")]
    Unique { statement: &'static str, violation: Violation },
    /// Another job is in the way of a unique one; nothing was written.
    #[error("{statement}: {message}")]
    KeyTaken { statement: &'static str, message: String },
    /// Another transaction has had the key of a unique job for as long as this one waits; nothing was written.
    #[error("{statement}: another transaction holds the key {key:?} of the queue {queue}")]
    KeyHeld { statement: &'static str, queue: String, key: String },
    /// Others hold this broker for dead: it may take no job any more. Nothing was written.
    #[error("{statement}: other brokers hold this one for dead")]
    HeldForDead { statement: &'static str },
    /// The database refused the statement; nothing was written.
    #[error("{statement}: the database refused")]
    Refused {
        statement: &'static str,
        #[source]
        source: Refusal,
    },
    /// Stored data is not what this broker writes.
    #[error("{table}.{column} of {key}: {problem}")]
    Corrupt { table: &'static str, column: &'static str, key: String, problem: String },
}

/// The unique constraints that an insert can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    JobId,
    IdempotencyKey,
    Other,
}

/// What the database says, but for its details: they show values of the row, payloads among them.
#[derive(Debug, thiserror::Error)]
#[error("{severity}: {message} ({code})")]
pub struct Refusal {
    severity: String,
    message: String,
    code: String,
}

impl From<&DbError> for Refusal {
    fn from(error: &DbError) -> Self {
        Self {
            severity: error.severity().to_owned(),
            message: error.message().to_owned(),
            code: error.code().code().to_owned(),
        }
    }
}

impl StoreError {
    /// Whether a write may have been done although it has no good answer.
    pub fn may_have_committed(&self) -> bool {
        matches!(self, Self::Unavailable { statement, .. } if *statement != CONNECT)
    }

    pub(super) fn of(statement: &'static str, source: tokio_postgres::Error) -> Self {
        let Some(error) = source.as_db_error() else {
            return Self::Unavailable { statement, source: source.into() };
        };
        let code = error.code();
        if *code == SqlState::UNIQUE_VIOLATION {
            let violation = match error.constraint() {
                Some("job_pkey") => Violation::JobId,
                Some("job_idempotency") => Violation::IdempotencyKey,
                _ => Violation::Other,
            };
            return Self::Unique { statement, violation };
        }
        // What currant.enqueue_unique raises.
        if code.code() == "QC004" {
            return Self::KeyTaken { statement, message: error.message().to_owned() };
        }
        // Connection exceptions, resources, operator intervention (shutdown, time-outs), and what
        // succeeds when repeated: deadlocks, a standby that is becoming the primary, and a database
        // that takes no connections for now.
        let passing = ["08", "53", "57", "40"].contains(&&code.code()[..2])
            || *code == SqlState::READ_ONLY_SQL_TRANSACTION
            || *code == SqlState::LOCK_NOT_AVAILABLE
            || *code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE;
        let refusal = Refusal::from(error);
        if passing {
            Self::Unavailable { statement, source: refusal.into() }
        } else {
            Self::Refused { statement, source: refusal }
        }
    }

    /// Whether the same statement may succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::KeyHeld { .. })
    }

    /// Whether it waited for a lock for as long as it may; nothing was written.
    pub fn is_locked(&self) -> bool {
        let is_locked = |refusal: &Refusal| refusal.code == SqlState::LOCK_NOT_AVAILABLE.code();
        match self {
            Self::KeyHeld { .. } => true,
            Self::Unavailable { source, .. } => source.downcast_ref().is_some_and(is_locked),
            _ => false,
        }
    }
}
