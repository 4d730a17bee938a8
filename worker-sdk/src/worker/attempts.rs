//! Attempts as keys.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use currant_proto::v1;

use crate::job::JobId;

/// One run of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) job: JobId,
    pub(crate) number: u32,
}

pub(crate) type AttemptMap<V> = HashMap<Attempt, V, BuildHasherDefault<AttemptHasher>>;
pub(crate) type AttemptSet = HashSet<Attempt, BuildHasherDefault<AttemptHasher>>;

impl From<v1::Attempt> for Attempt {
    fn from(attempt: v1::Attempt) -> Attempt {
        let v1::Attempt { job_id, attempt } = attempt;
        Attempt { job: JobId(job_id), number: attempt }
    }
}

impl From<Attempt> for v1::Attempt {
    fn from(attempt: Attempt) -> v1::Attempt {
        let Attempt { job, number } = attempt;
        v1::Attempt { job_id: job.0, attempt: number }
    }
}

pub(crate) fn from_proto(attempts: Vec<v1::Attempt>) -> Vec<Attempt> {
    attempts.into_iter().map(Attempt::from).collect()
}

/// A few instructions instead of SipHash: this runs several times a job, and the ids are made by the
/// broker, not by an attacker.
#[derive(Default)]
pub(crate) struct AttemptHasher(u64);

/// 2^64 divided by the golden ratio: spreads ids that differ in a few low bits.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for AttemptHasher {
    fn write_i64(&mut self, id: i64) {
        self.0 = (self.0 ^ id.cast_unsigned()).wrapping_mul(SPREAD);
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(SPREAD);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    /// The product's high bits depend on all of the input, its low bits don't: turn them round.
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}
