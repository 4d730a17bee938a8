//! What a job's payload says: its number in this run, and when it was meant to be enqueued.
//!
//! Binary, for gRPC: `index` and `intended_ns`, both u64 little endian, then filler up to the size
//! asked for. The filler is pseudo-random so that Postgres can't compress large payloads away.
//! JSON, for SQL: `{"index": …, "intended_ns": …, "filler": "…"}`.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Bytes of the binary stamp: the smallest payload.
pub(crate) const STAMP_BYTES: usize = 16;

/// What the load puts into a payload and reads back in the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// Counts the jobs of a run, from 0.
    pub(crate) index: u64,
    /// On the load's monotonic clock, in nanoseconds since its start.
    pub(crate) intended_ns: u64,
}

/// How stamps are written into payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Binary,
    Json,
}

impl Layout {
    /// None: not a payload of this program.
    pub(crate) fn decode(self, payload: &[u8]) -> Option<Stamp> {
        match self {
            Layout::Binary => {
                let (index, rest) = payload.split_first_chunk()?;
                let intended_ns = rest.first_chunk()?;
                Some(Stamp {
                    index: u64::from_le_bytes(*index),
                    intended_ns: u64::from_le_bytes(*intended_ns),
                })
            }
            Layout::Json => serde_json::from_slice(payload).ok(),
        }
    }
}

/// The binary payloads of one call: `count` jobs from number `first` on, all in one buffer.
pub(crate) fn binary_batch(
    first: u64,
    count: u32,
    intended_ns: u64,
    payload_bytes: u32,
) -> impl ExactSizeIterator<Item = Bytes> {
    let size = (payload_bytes as usize).max(STAMP_BYTES);
    let filler = filler();
    let mut buffer = BytesMut::with_capacity(size * count as usize);
    for index in first..first + u64::from(count) {
        buffer.put_u64_le(index);
        buffer.put_u64_le(intended_ns);
        let mut left = size - STAMP_BYTES;
        // Different jobs start at different places of the block.
        let mut from = (index as usize * 64) % filler.len();
        while left > 0 {
            let part = left.min(filler.len() - from);
            buffer.put_slice(&filler[from..from + part]);
            left -= part;
            from = 0;
        }
    }
    let mut rest = buffer.freeze();
    (0..count).map(move |_| rest.split_to(size))
}

/// One payload for `currant.enqueue`, about `payload_bytes` long.
pub(crate) fn json_payload(stamp: Stamp, payload_bytes: u32) -> String {
    let Stamp { index, intended_ns } = stamp;
    let head = format!(r#"{{"index": {index}, "intended_ns": {intended_ns}, "filler": ""#);
    let filler = (payload_bytes as usize).saturating_sub(head.len() + 2);
    format!("{head}{:x<filler$}\"}}", "")
}

/// Bytes of the block that fillers are cut from.
const FILLER_BYTES: usize = 1 << 16;

/// Made once by splitmix64 from a fixed seed, so that runs are alike.
fn filler() -> &'static [u8] {
    static FILLER: OnceLock<Vec<u8>> = OnceLock::new();
    FILLER.get_or_init(|| {
        let mut state = 0u64;
        let mut block = Vec::with_capacity(FILLER_BYTES);
        while block.len() < FILLER_BYTES {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            block.put_u64_le(word ^ (word >> 31));
        }
        block
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn binary_payloads_round_trip_and_have_the_size_asked_for() {
        for payload_bytes in [16, 17, 100, 200_000] {
            let payloads: Vec<_> = binary_batch(41, 3, 77, payload_bytes).collect();
            assert_eq!(payloads.len(), 3);
            for (payload, index) in payloads.iter().zip(41..) {
                assert_eq!(payload.len(), payload_bytes as usize);
                let stamp = Layout::Binary.decode(payload).unwrap();
                assert_eq!(stamp, Stamp { index, intended_ns: 77 });
            }
        }
    }

    #[test]
    fn json_payloads_round_trip_also_as_postgres_rewrites_them() {
        let stamp = Stamp { index: 5, intended_ns: u64::MAX };
        let payload = json_payload(stamp, 100);
        assert_eq!(payload.len(), 100);
        assert_eq!(Layout::Json.decode(payload.as_bytes()), Some(stamp));
        let reordered = br#"{"filler": "", "intended_ns": 2, "index": 1}"#;
        let stamp = Stamp { index: 1, intended_ns: 2 };
        assert_eq!(Layout::Json.decode(reordered), Some(stamp));
    }

    #[test]
    fn foreign_payloads_are_told_apart() {
        assert_eq!(Layout::Binary.decode(b"short"), None);
        assert_eq!(Layout::Json.decode(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), None);
    }

    #[test]
    fn the_filler_does_not_repeat_within_a_payload() {
        let words: std::collections::HashSet<_> = filler().chunks(8).collect();
        assert_eq!(words.len(), FILLER_BYTES / 8);
    }
}
