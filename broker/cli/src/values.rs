//! What people type and read: durations and times.

use std::time::{Duration, SystemTime};

use currant_worker_sdk::Keep;

use crate::clock;

/// The end of the year 9999: later ones have another form.
const LAST_TIME: Duration = Duration::from_secs(253_402_300_799);

/// `1h 30m`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; as 90s, 1h 30m or 7d"))
}

/// A time that has passed, or how long ago that is.
pub(crate) fn past(text: &str) -> Result<SystemTime, String> {
    relative(text, |ago| clock::now().checked_sub(ago))
}

/// A time that comes, or how long it is until then.
pub(crate) fn future(text: &str) -> Result<SystemTime, String> {
    relative(text, |ahead| clock::now().checked_add(ahead))
}

/// `2027-01-31`, `2027-01-31T12:00:00Z`.
pub(crate) fn time(text: &str) -> Result<SystemTime, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    humantime::parse_rfc3339_weak(&whole)
        .map_err(|_| "a time is as 2027-01-31 or 2027-01-31T12:00:00Z, in UTC".to_owned())
}

fn relative(
    text: &str,
    from_now: impl Fn(Duration) -> Option<SystemTime>,
) -> Result<SystemTime, String> {
    time(text).or_else(|problem| {
        let duration = humantime::parse_duration(text).ok().and_then(from_now);
        duration.ok_or_else(|| format!("{problem}; or a duration as 2h"))
    })
}

/// `forever`, or a duration.
pub(crate) fn keep(text: &str) -> Result<Keep, String> {
    if text == "forever" { Ok(Keep::ForEver) } else { duration(text).map(Keep::For) }
}

/// `name=value`.
pub(crate) fn metadata(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `key=number`; the key may have more of these signs.
pub(crate) fn key_weight(text: &str) -> Result<(String, u32), String> {
    let parts = text.rsplit_once('=').and_then(|(key, weight)| Some((key, weight.parse().ok()?)));
    let (key, weight) = parts.ok_or("KEY=NUMBER is wanted")?;
    Ok((key.to_owned(), weight))
}

/// For people and programs, to the millisecond; empty: none.
pub(crate) fn show_time(time: Option<SystemTime>) -> String {
    let shown = |time: SystemTime| {
        let time = time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST_TIME);
        humantime::format_rfc3339_millis(time).to_string()
    };
    time.map(shown).unwrap_or_default()
}

/// For people; empty: none.
pub(crate) fn show_duration(duration: Option<Duration>) -> String {
    let to_ms = |duration: Duration| Duration::from_millis(ms(duration));
    duration.map(|it| humantime::format_duration(to_ms(it)).to_string()).unwrap_or_default()
}

pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_each_form_and_shown_in_one() {
        let shown = |text| time(text).map(|time| show_time(Some(time)));
        assert_eq!(shown("2027-01-31").as_deref(), Ok("2027-01-31T00:00:00.000Z"));
        assert_eq!(shown("2027-01-31T12:00:00Z").as_deref(), Ok("2027-01-31T12:00:00.000Z"));
        assert_eq!(shown("2027-01-31 12:00:00").as_deref(), Ok("2027-01-31T12:00:00.000Z"));
        assert!(shown("yesterday").is_err() && shown("2h").is_err());
        let (before, after) = (past("2h"), future("2h"));
        let between = after.and_then(|after| {
            after.duration_since(before.clone()?).map_err(|error| error.to_string())
        });
        assert!(between.is_ok_and(|it| it.as_secs().abs_diff(4 * 3600) < 60), "{before:?}");
        assert!(past("soon").is_err());
    }

    #[test]
    fn durations_are_read_and_shown() {
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("5").is_err());
        assert_eq!(show_duration(Some(Duration::from_micros(90_000_001))), "1m 30s");
        assert_eq!(keep("forever"), Ok(Keep::ForEver));
        assert_eq!(keep("7d"), Ok(Keep::For(Duration::from_secs(7 * 86_400))));
        assert_eq!(metadata("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(metadata("a").is_err());
    }
}
