//! Times of the contract and times of Rust.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

use crate::error::Error;

/// A duration for the wire. What is too long for it becomes the longest there is, which the broker
/// refuses by name.
pub(crate) fn to_proto(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A duration from the wire; None if it is unset or negative.
pub(crate) fn from_proto(duration: Option<prost_types::Duration>) -> Option<Duration> {
    duration.and_then(|duration| Duration::try_from(duration).ok())
}

/// A time from the wire.
pub(crate) fn from_timestamp(time: Option<Timestamp>) -> Result<Option<SystemTime>, Error> {
    time.map(SystemTime::try_from)
        .transpose()
        .map_err(|_| Error::Protocol("a timestamp is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive_the_wire() {
        let duration = Duration::new(90, 250);
        assert_eq!(from_proto(Some(to_proto(duration))), Some(duration));
        assert_eq!(from_proto(None), None);
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        assert_eq!(from_proto(Some(negative)), None);
        assert_eq!(to_proto(Duration::MAX).seconds, i64::MAX);
    }
}
