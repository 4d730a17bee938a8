//! For `broker/benches`: parts of the engine that only it uses.

use std::time::Duration;

use bytes::Bytes;

use super::{
    backlog::Backlog,
    buffer::Buffer,
    fill::{Room, fill},
};
use crate::domain::{JobId, TakenJob};

/// A job as the database gives it, taken for the first time.
pub fn taken(id: JobId, payload: Bytes) -> TakenJob {
    TakenJob {
        id,
        attempt: 1,
        priority: 0,
        failures: 0,
        max_attempts: None,
        run_at: None,
        kind: "noop".to_owned(),
        payload,
        options: None,
        key: None,
    }
}

/// Puts the jobs into a buffer and takes them out again, so many at a time.
pub fn buffer(jobs: Vec<TakenJob>, at_a_time: usize) -> Vec<Vec<TakenJob>> {
    let mut buffer = Buffer::default();
    for job in jobs {
        buffer.push(job);
    }
    std::iter::from_fn(|| {
        Some(buffer.take(at_a_time, usize::MAX)).filter(|taken| !taken.is_empty())
    })
    .collect()
}

/// Shares the jobs among sessions that hold so many and can take `free` more.
pub fn share(held: impl IntoIterator<Item = usize>, free: usize, jobs: usize) -> usize {
    let mut rooms: Vec<Room> = held
        .into_iter()
        .enumerate()
        .map(|(index, held)| Room { index, held, free, share: 0 })
        .collect();
    fill(&mut rooms, jobs);
    rooms.iter().map(|room| room.share).max().unwrap_or_default()
}

/// Notes rows of a backlog and claims them, so many at a time; how many claims that took.
pub fn backlog(rows: &[(i16, JobId)], at_a_time: usize) -> usize {
    let (now, took) = (Duration::from_secs(1), Duration::from_millis(1));
    let mut backlog = Backlog::new();
    backlog.next_claim(now);
    backlog.claimed(now, took, at_a_time, &[]);
    for (priority, id) in rows {
        backlog.note(*priority, *id);
    }
    let mut claims = 0;
    for claimed in rows.chunks(at_a_time) {
        backlog.next_claim(now);
        backlog.claimed(now, took, at_a_time, claimed);
        claims += 1;
    }
    claims
}
