//! What calls did to jobs, as messages.

use currant_proto::v1 as pb;

use crate::domain::{CancelVerdict, DeleteVerdict, RetryVerdict};

pub(super) fn cancel(verdict: CancelVerdict) -> pb::CancelVerdict {
    match verdict {
        CancelVerdict::Cancelled => pb::CancelVerdict::Cancelled,
        CancelVerdict::Requested => pb::CancelVerdict::Requested,
        CancelVerdict::Finished => pb::CancelVerdict::Finished,
        CancelVerdict::NotFound => pb::CancelVerdict::NotFound,
    }
}

pub(super) fn retry(verdict: RetryVerdict) -> pb::RetryVerdict {
    match verdict {
        RetryVerdict::Ready => pb::RetryVerdict::Ready,
        RetryVerdict::Open => pb::RetryVerdict::Open,
        RetryVerdict::Succeeded => pb::RetryVerdict::Succeeded,
        RetryVerdict::NotFound => pb::RetryVerdict::NotFound,
    }
}

pub(super) fn delete(verdict: DeleteVerdict) -> pb::DeleteVerdict {
    match verdict {
        DeleteVerdict::Deleted => pb::DeleteVerdict::Deleted,
        DeleteVerdict::Running => pb::DeleteVerdict::Running,
        DeleteVerdict::NotFound => pb::DeleteVerdict::NotFound,
    }
}
