//! Rules for single values; a problem says what is wrong and what the limit is.

use tonic::Status;

use super::status::Violations;
use crate::{
    domain::{JobId, NAME_CHARS_MAX, PRIORITY_MAX, PRIORITY_MIN, is_name},
    engine::SessionId,
};

pub(super) const MS_PER_YEAR: u64 = 365 * 24 * 3600 * 1000;
/// Of anything that lies ahead.
pub const AHEAD_MS_MAX: u64 = 10 * MS_PER_YEAR;
/// 2000-01-01.
pub(super) const TIME_MICROS_MIN: i64 = 946_684_800_000_000;

const PAGE_SIZE: usize = 100;
const PAGE_SIZE_MAX: usize = 1000;

/// Jobs that one call may change.
const JOBS_PER_CHANGE_MAX: usize = 1000;

/// The jobs that a call is to change.
pub(super) fn job_ids(ids: Vec<i64>) -> Result<Vec<JobId>, Status> {
    let mut violations = Violations::default();
    if let Err(problem) = count(ids.len(), 1, JOBS_PER_CHANGE_MAX) {
        violations.add("job_ids", problem);
    }
    violations.into_result()?;
    Ok(ids.into_iter().map(JobId).collect())
}

/// How long a page is.
pub(super) fn page_size(size: u32) -> Result<usize, Status> {
    page(size, "")
}

/// The same, and whether its token is the name that the page before ended with.
pub(super) fn page(size: u32, token: &str) -> Result<usize, Status> {
    let limit = if size == 0 { PAGE_SIZE } else { size as usize };
    let mut violations = Violations::default();
    if let Err(problem) = count(limit, 1, PAGE_SIZE_MAX) {
        violations.add("page_size", problem);
    }
    if !token.is_empty() && !is_name(token) {
        violations.add("page_token", "as in the answer before");
    }
    violations.into_result()?;
    Ok(limit)
}

/// A queue's or a kind's name.
pub(super) fn name(value: &str) -> Result<(), String> {
    if is_name(value) {
        return Ok(());
    }
    Err(format!(
        "1 to {NAME_CHARS_MAX} characters of A-Z a-z 0-9 . _ : / -, starting with a letter or \
         digit; this has {} characters",
        value.chars().count()
    ))
}

pub(super) fn priority(value: i32) -> Result<i16, String> {
    i16::try_from(value)
        .ok()
        .filter(|value| (PRIORITY_MIN..=PRIORITY_MAX).contains(value))
        .ok_or_else(|| format!("{PRIORITY_MIN} to {PRIORITY_MAX}; this is {value}"))
}

/// Text that is stored as it is.
pub(super) fn text(value: &str, chars_max: usize) -> Result<(), String> {
    if value.contains('\0') {
        return Err("a NUL character can't be stored".to_owned());
    }
    let chars = value.chars().count();
    if chars > chars_max {
        return Err(format!("at most {chars_max} characters; this has {chars}"));
    }
    Ok(())
}

/// The name of an entry of metadata.
pub(super) fn metadata_name(value: &str, chars_max: usize) -> Result<(), String> {
    if value.is_empty() || value.contains('=') {
        return Err(format!("a name: 1 to {chars_max} characters without =; this is {value:?}"));
    }
    text(value, chars_max)
}

pub(super) fn bytes(value: &[u8], max: usize) -> Result<(), String> {
    if value.len() > max {
        return Err(format!("at most {max} bytes; this has {}", value.len()));
    }
    Ok(())
}

pub(super) fn count(len: usize, min: usize, max: usize) -> Result<(), String> {
    if (min..=max).contains(&len) {
        return Ok(());
    }
    Err(format!("{min} to {max}; this has {len}"))
}

/// A duration in milliseconds within bounds.
pub(super) fn duration_ms(
    value: &prost_types::Duration,
    min_ms: u64,
    max_ms: u64,
) -> Result<u64, String> {
    let limits = || format!("{min_ms} ms to {max_ms} ms");
    // The conversion of prost_types overflows at the ends.
    let nanos = i128::from(value.seconds) * 1_000_000_000 + i128::from(value.nanos);
    let nanos = u128::try_from(nanos).map_err(|_| limits())?;
    // A wait of less than a millisecond is one of a millisecond.
    u64::try_from(nanos.div_ceil(1_000_000))
        .ok()
        .filter(|ms| (min_ms..=max_ms).contains(ms))
        .ok_or_else(limits)
}

/// How long handlers ran.
pub(super) fn run_time(value: &prost_types::Duration) -> Result<std::time::Duration, String> {
    let good = value.seconds >= 0 && (0..1_000_000_000).contains(&value.nanos);
    let seconds = u64::try_from(value.seconds).ok().filter(|_| good);
    seconds
        .map(|seconds| std::time::Duration::new(seconds, value.nanos.unsigned_abs()))
        .ok_or_else(|| "not below 0 s".to_owned())
}

/// A time in microseconds since 1970.
pub(super) fn time_micros(value: &prost_types::Timestamp, now: i64) -> Result<i64, String> {
    let limits = || "not before the year 2000, not more than 10 years ahead".to_owned();
    if !(0..1_000_000_000).contains(&value.nanos) {
        return Err("nanos: 0 to 999999999".to_owned());
    }
    let latest = now.saturating_add(i64::try_from(AHEAD_MS_MAX * 1000).unwrap_or(i64::MAX));
    value
        .seconds
        .checked_mul(1_000_000)
        .and_then(|micros| micros.checked_add(i64::from(value.nanos / 1000)))
        .filter(|micros| (TIME_MICROS_MIN..=latest).contains(micros))
        .ok_or_else(limits)
}

pub(super) fn session(value: &str) -> Result<SessionId, String> {
    let digits = value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(value, 16)
        .ok()
        // Zero stands for a completion without a session.
        .filter(|id| digits && *id != 0)
        .map(SessionId)
        .ok_or_else(|| "32 hexadecimal digits, as in the Welcome".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        for good in ["a", "Z9", "mail.out_1:eu/x-y", &"a".repeat(128)] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in ["", ".a", "-", "a b", "ä", "a\0", "a\n", &"a".repeat(129)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_and_durations_are_bounded() {
        let duration = |seconds, nanos| prost_types::Duration { seconds, nanos };
        assert_eq!(duration_ms(&duration(1, 500_000_000), 0, 5000), Ok(1500));
        assert_eq!(duration_ms(&duration(0, 1), 1, 5000), Ok(1), "rounded up");
        assert!(duration_ms(&duration(-1, 0), 0, 5000).is_err());
        assert!(duration_ms(&duration(5, 1), 0, 5000).is_err());
        assert_eq!(duration_ms(&duration(2, -500_000_000), 0, 5000), Ok(1500));
        for (seconds, nanos) in [(i64::MIN, i32::MIN), (i64::MAX, i32::MAX), (i64::MIN, 0)] {
            assert!(duration_ms(&duration(seconds, nanos), 0, 5000).is_err());
        }
        let time = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
        let now = 1_700_000_000_000_000;
        assert_eq!(time_micros(&time(1_700_000_001, 2000), now), Ok(1_700_000_001_000_002));
        assert!(time_micros(&time(0, 0), now).is_err());
        assert!(time_micros(&time(i64::MAX, 0), now).is_err());
        assert!(time_micros(&time(1_700_000_000, -1), now).is_err());
        assert!(time_micros(&time(1_700_000_000 + 11 * 31_536_000, 0), now).is_err());
    }

    #[test]
    fn sessions() {
        assert_eq!(session(&format!("{:032x}", 7)), Ok(SessionId(7)));
        for bad in ["", "7", &"g".repeat(32), &format!("+{:031x}", 7), &"0".repeat(32)] {
            assert!(session(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(seconds: i64, nanos: i32, text: String, now: i64) {
            let _ = duration_ms(&prost_types::Duration { seconds, nanos }, 0, AHEAD_MS_MAX);
            let _ = run_time(&prost_types::Duration { seconds, nanos });
            let _ = time_micros(&prost_types::Timestamp { seconds, nanos }, now);
            let _ = (name(&text), session(&text));
        }
    }
}
