//! Keys of unique jobs.

use currant_proto::v1 as pb;

use super::check::{self, AHEAD_MS_MAX};
use crate::domain::{Unique, UniqueConflict, UniqueScope, UniqueVerdict};

const KEY_CHARS_MAX: usize = 128;
const PERIOD_MS_MIN: u64 = 1000;

/// A key, or what is wrong with it.
pub(super) fn unique(unique: &pb::Unique) -> Result<Unique, String> {
    let pb::Unique { key, scope, period, conflict } = unique;
    if key.is_empty() {
        return Err(format!("key: 1 to {KEY_CHARS_MAX} characters"));
    }
    check::text(key, KEY_CHARS_MAX).map_err(|problem| format!("key: {problem}"))?;
    let period = match period {
        None => None,
        Some(period) => Some(
            check::duration_ms(period, PERIOD_MS_MIN, AHEAD_MS_MAX)
                .map_err(|problem| format!("period: {problem}"))?,
        ),
    };
    let scope = match (pb::UniqueScope::try_from(*scope), period) {
        (Ok(pb::UniqueScope::Period), Some(ms)) => UniqueScope::Period { ms },
        (Ok(pb::UniqueScope::Period), None) => return Err("period: has to be set".to_owned()),
        (_, Some(_)) => return Err("period: only with the scope PERIOD".to_owned()),
        (Ok(pb::UniqueScope::Waiting), None) => UniqueScope::Waiting,
        (Ok(pb::UniqueScope::Unfinished | pb::UniqueScope::Unspecified), None) => {
            UniqueScope::Unfinished
        }
        (Err(_), None) => return Err("scope: not one that this broker knows".to_owned()),
    };
    let conflict = match pb::UniqueConflict::try_from(*conflict) {
        Ok(pb::UniqueConflict::Existing | pb::UniqueConflict::Unspecified) => {
            UniqueConflict::Existing
        }
        Ok(pb::UniqueConflict::Replace) => UniqueConflict::Replace,
        Ok(pb::UniqueConflict::Reject) => UniqueConflict::Reject,
        Err(_) => return Err("conflict: not one that this broker knows".to_owned()),
    };
    Ok(Unique { key: key.clone(), scope, conflict })
}

pub(super) fn verdict(verdict: UniqueVerdict) -> pb::UniqueVerdict {
    match verdict {
        UniqueVerdict::Stored => pb::UniqueVerdict::Stored,
        UniqueVerdict::Existing => pb::UniqueVerdict::Existing,
        UniqueVerdict::Replaced => pb::UniqueVerdict::Replaced,
    }
}
