//! No job is stored while another one with its key is in the way.

use std::collections::BTreeMap;

use super::{Case, Row, Violation, Wrong};
use crate::chaos::{payload::Scope, queues::UNIQUE_PERIOD};

pub(super) fn check(case: &Case, found: &mut Vec<Violation>) {
    let mut scopes: BTreeMap<Scope, Vec<&Row>> = BTreeMap::new();
    for row in &case.rows {
        if let Some(scope) = row.payload.unique {
            scopes.entry(scope).or_default().push(row);
        }
    }
    for (scope, mut rows) in scopes {
        rows.sort_by_key(|row| row.id);
        for pair in rows.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            if in_the_way_until(scope, before) > after.created_at() {
                let what = format!("job {} was in its way, within {}", before.id, scope.name());
                let evidence = pair.iter().map(|row| format!("{row:?}")).collect();
                let (wrong, job) = (Wrong::UniqueTwice, Some(after.id));
                found.push(Violation { wrong, job, what, evidence });
            }
        }
    }
}

/// Where the time in an id is rounded down, so is this.
fn in_the_way_until(scope: Scope, row: &Row) -> i64 {
    let down = |at: i64| at / 1000 * 1000;
    match scope {
        Scope::Unfinished => row.finished_at.map_or(i64::MAX, down),
        Scope::Period => row.created_at() + UNIQUE_PERIOD.as_micros() as i64,
        Scope::Waiting => match row.attempt {
            0 => row.finished_at.map_or(i64::MAX, down),
            1 => row.claimed_at.map_or(i64::MIN, down),
            // When it was taken first isn't known any more.
            _ => i64::MIN,
        },
    }
}
