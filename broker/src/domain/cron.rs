use std::{fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, TimeZone};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

/// Times by a cron pattern in a time zone.
///
/// A clock that goes forward: a fixed time of day that is left out comes right after the gap; times by
/// intervals that are left out don't come. A clock that goes back: a fixed time of day comes once, the first
/// time; times by intervals come twice.
#[derive(Clone)]
pub struct CronRule {
    cron: Arc<Cron>,
    pattern: String,
    zone: Tz,
}

const PATTERN_CHARS_MAX: usize = 256;

impl CronRule {
    /// A pattern of 5 fields, or 6 with seconds first; a zone as in the IANA database. The error says which
    /// field is wrong.
    pub fn parse(pattern: &str, zone: &str) -> Result<Self, (&'static str, String)> {
        let tz = Tz::from_str(zone).map_err(|_| {
            ("time_zone", "a name of the IANA database, such as Europe/Vienna".to_owned())
        })?;
        if pattern.chars().count() > PATTERN_CHARS_MAX {
            return Err(("cron", format!("at most {PATTERN_CHARS_MAX} characters")));
        }
        let parser =
            CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(pattern).map_err(|error| ("cron", error.to_string()))?;
        Ok(Self { cron: Arc::new(cron), pattern: pattern.to_owned(), zone: tz })
    }

    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The first time after this one, in microseconds since 1970. `None`: there is none.
    pub fn after(&self, micros: i64) -> Option<i64> {
        // Fires are at whole seconds.
        let from = self.local(micros.div_euclid(1_000_000))?;
        let next = self.cron.find_next_occurrence(&from, false).ok()?;
        Some(next.timestamp() * 1_000_000)
    }

    /// The last time up to this one, in microseconds since 1970.
    pub fn last_until(&self, micros: i64) -> Option<i64> {
        let until = self.local(micros.div_euclid(1_000_000))?;
        let last = self.cron.find_previous_occurrence(&until, true).ok()?;
        Some(last.timestamp() * 1_000_000)
    }

    fn local(&self, seconds: i64) -> Option<DateTime<Tz>> {
        self.zone.timestamp_opt(seconds, 0).single()
    }
}

impl fmt::Debug for CronRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} in {}", self.pattern, self.zone.name())
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate, Timelike};
    use proptest::prelude::*;

    use super::*;

    const ZONES: [&str; 6] = [
        "UTC",
        "Europe/Vienna",
        "America/New_York",
        "Australia/Lord_Howe", // by half an hour
        "America/Santiago",    // at midnight
        "Asia/Kathmandu",
    ];

    fn at(zone: &str, text: &str) -> i64 {
        let zone = Tz::from_str(zone).expect("a zone");
        let naive = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").expect("a time");
        zone.from_local_datetime(&naive).earliest().expect("it exists").timestamp() * 1_000_000
    }

    fn fires(pattern: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let rule = CronRule::parse(pattern, zone).expect("a good rule");
        let mut next = at(zone, from);
        let mut fires = Vec::new();
        for _ in 0..count {
            next = rule.after(next).expect("it goes on");
            let local = rule.local(next / 1_000_000).expect("it exists");
            fires.push(local.format("%m-%d %H:%M %z").to_string());
        }
        fires
    }

    #[test]
    fn a_fixed_time_that_the_clock_leaps_over_comes_after_the_gap() {
        let fires = fires("30 2 * * *", "Europe/Vienna", "2026-03-27 12:00", 3);
        assert_eq!(fires, ["03-28 02:30 +0100", "03-29 03:00 +0200", "03-30 02:30 +0200"]);
    }

    #[test]
    fn a_fixed_time_that_comes_twice_fires_the_first_time() {
        let fires = fires("30 2 * * *", "Europe/Vienna", "2026-10-24 12:00", 2);
        assert_eq!(fires, ["10-25 02:30 +0200", "10-26 02:30 +0100"]);
    }

    #[test]
    fn intervals_go_on_by_the_clock_on_the_wall() {
        let spring = fires("*/30 * * * *", "Europe/Vienna", "2026-03-29 01:00", 3);
        assert_eq!(spring, ["03-29 01:30 +0100", "03-29 03:00 +0200", "03-29 03:30 +0200"]);
        let autumn = fires("*/30 * * * *", "Europe/Vienna", "2026-10-25 02:00", 4);
        assert_eq!(
            autumn,
            ["10-25 02:30 +0200", "10-25 02:00 +0100", "10-25 02:30 +0100", "10-25 03:00 +0100"]
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |pattern, zone| CronRule::parse(pattern, zone).expect_err("wrong").0;
        assert_eq!(wrong("* * * * *", "Mars/Olympus"), "time_zone");
        for pattern in ["", "* * * *", "61 * * * *", "x", "* * * * * * 2030", &"1,".repeat(200)] {
            assert_eq!(wrong(pattern, "UTC"), "cron", "{pattern}");
        }
        let never = CronRule::parse("0 0 30 2 *", "UTC").expect("it can be read");
        assert_eq!(never.after(0), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Against the clock on the wall, minute by minute: intervals fire whenever it shows a time of theirs.
        #[test]
        fn intervals_fire_whenever_the_wall_clock_says_so(
            zone in 0..ZONES.len(), day in 0u32..366, step in prop::sample::select(vec![5u32, 7, 15, 20]),
        ) {
            let zone = ZONES[zone];
            let rule = CronRule::parse(&format!("*/{step} * * * *"), zone).expect("a good rule");
            let start = NaiveDate::from_yo_opt(2027, day.clamp(1, 365)).expect("a day");
            let start = start.and_hms_opt(0, 0, 0).expect("midnight").and_utc().timestamp();
            let mut expected = Vec::new();
            for minute in 0..2 * 24 * 60 {
                let local = rule.local(start + minute * 60).expect("it exists");
                if local.minute().is_multiple_of(step) {
                    expected.push((start + minute * 60) * 1_000_000);
                }
            }
            let mut next = start * 1_000_000 - 1;
            for fire in expected {
                next = rule.after(next).expect("it goes on");
                prop_assert_eq!(next, fire);
                prop_assert_eq!(rule.last_until(fire), Some(fire));
                prop_assert_eq!(rule.last_until(fire + 59_999_999), Some(fire));
            }
        }

        /// A fixed time of day: once on each day, at that time if the clock shows it.
        #[test]
        fn a_fixed_time_fires_once_a_day(zone in 0..ZONES.len(), hour in 0u32..24, minute in 0u32..60) {
            let zone = ZONES[zone];
            let rule = CronRule::parse(&format!("{minute} {hour} * * *"), zone).expect("a good rule");
            let mut next = at(zone, "2026-12-31 23:59");
            for day in 1..=365 {
                next = rule.after(next).expect("it goes on");
                let local = rule.local(next / 1_000_000).expect("it exists");
                prop_assert_eq!((local.year(), local.ordinal()), (2027, day), "{}", local);
                let wall = local.date_naive().and_hms_opt(hour, minute, 0).expect("a time");
                if let Some(shown) = rule.zone.from_local_datetime(&wall).earliest() {
                    prop_assert_eq!(local, shown);
                } else {
                    prop_assert!(local.naive_local() > wall, "{} in place of {}", local, wall);
                }
            }
        }
    }
}
