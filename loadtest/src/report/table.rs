//! The figures as lines of text, for the table on the terminal and for the one on the page.

use std::fmt::Write;

use super::Report;
use crate::{histogram::Percentiles, limit::Rate};

/// One line: what it is, its value, and what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) note: &'static str,
}

/// A titled group of lines.
pub(super) type Group = (&'static str, Vec<Line>);

/// The groups that have something to say.
pub(super) fn groups(report: &Report) -> Vec<Group> {
    let groups = [
        ("Throughput", throughput(report)),
        ("Latency", latency(report)),
        ("Check", check(report)),
        ("Cost", cost(report)),
        ("Job table", job_table(report)),
        ("Postgres alone", limits(report)),
    ];
    groups.into_iter().filter(|(_, lines)| !lines.is_empty()).collect()
}

/// The whole table, for a terminal.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    for (title, lines) in groups(report) {
        let _ = writeln!(text, "\n{title}");
        for Line { name, value, note } in lines {
            let line = format!("  {name:<28} {value:>24}  {note}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    if let Some(points) = &report.sweep {
        let _ =
            writeln!(text, "\n  workers     jobs/s   start p50 ms   start p99 ms   connections");
        for point in points {
            let ms = |pick: fn(&Percentiles) -> f64| {
                point.figures.start_latency_ms.as_ref().map_or("-".to_owned(), |p| millis(pick(p)))
            };
            let _ = writeln!(
                text,
                "  {:>7} {:>10}   {:>12}   {:>12}   {:>11}{}",
                point.workers,
                point.figures.end_to_end_jobs_per_s.map_or("-".to_owned(), whole),
                ms(|p| p.p50),
                ms(|p| p.p99),
                point.figures.postgres_connections.map_or("-".to_owned(), |n| n.to_string()),
                if point.passed { "" } else { "   FAILED" },
            );
        }
    }
    let verdict = verdict(report);
    let _ = writeln!(text, "\n{verdict}");
    text
}

/// One sentence.
pub(super) fn verdict(report: &Report) -> String {
    match (&report.verification, report.passed) {
        (_, false) => "FAILED: see the check above".to_owned(),
        (Some(found), true) => {
            let jobs = whole(found.acknowledged as f64);
            let database = if found.database.is_some() { ", in the database too" } else { "" };
            format!("passed: {jobs} jobs, none lost, none finished twice{database}")
        }
        (None, true) if report.sweep.is_some() => {
            "passed: in no run a job was lost or finished twice".to_owned()
        }
        (None, true) => "done".to_owned(),
    }
}

fn throughput(report: &Report) -> Vec<Line> {
    let figures = &report.figures;
    let rate = |name, value: Option<f64>, note| {
        value.map(|value| Line { name, value: format!("{} jobs/s", whole(value)), note })
    };
    let lines = [
        rate(
            "end to end",
            figures.end_to_end_jobs_per_s,
            "first enqueue to last committed completion",
        ),
        rate("enqueue", figures.enqueue_jobs_per_s, "acknowledged, so committed"),
        rate("drain", figures.drain_jobs_per_s, "start of the workers to last completion"),
        figures.fraction_of_limit.map(|fraction| Line {
            name: "share of Postgres' limit",
            value: format!("{:.0} %", fraction * 100.0),
            note: "of append-only, below",
        }),
        figures.fraction_of_own_limit.map(|fraction| Line {
            name: "share of our own limit",
            value: format!("{:.0} %", fraction * 100.0),
            note: "of the same statements, below",
        }),
        report.details.unfinished_after_load.map(|jobs| Line {
            name: "unfinished at last enqueue",
            value: format!("{} jobs", whole(jobs as f64)),
            note: "large: the queue grew",
        }),
        worker_spread(report),
        report.details.handler_ms.map(|ms| Line {
            name: "a handler took",
            value: format!("{} ms", millis(ms)),
            note: "in the mean",
        }),
        report.details.seconds.map(|seconds| Line {
            name: "time",
            value: format!("{seconds:.2} s"),
            note: "warm-up included",
        }),
    ];
    let mut lines: Vec<_> = lines.into_iter().flatten().collect();
    if let Some(windows) = &report.windows {
        let value = |rate: f64| format!("{} jobs/s in {:.1} s", whole(rate), windows.seconds);
        let note = "finished";
        lines.push(Line { name: "at the beginning", value: value(windows.first_jobs_per_s), note });
        lines.push(Line { name: "at the end", value: value(windows.last_jobs_per_s), note });
        let (first, last) = (windows.first_stolen_percent, windows.last_stolen_percent);
        if first.max(last) >= 0.1 {
            let value = format!("{first:.1} % and {last:.1} %");
            let note = "of the cores' time, by the host, at the beginning and at the end";
            lines.push(Line { name: "stolen", value, note });
        }
    }
    lines
}

fn worker_spread(report: &Report) -> Option<Line> {
    let (most, fewest) = (report.details.busiest_worker_jobs?, report.details.idlest_worker_jobs?);
    let value = format!("{} to {} jobs", whole(fewest.into()), whole(most.into()));
    Some(Line { name: "a worker ran", value, note: "idlest to busiest" })
}

fn latency(report: &Report) -> Vec<Line> {
    let start = report.figures.start_latency_ms.as_ref();
    let elsewhere = report.figures.elsewhere_start_latency_ms.as_ref();
    let enqueue = report.figures.enqueue_latency_ms.as_ref();
    let insert = report.figures.insert_latency_ms.as_ref();
    let all = [
        (start, ["start p50", "start p95", "start p99", "start max"], "enqueue to handler start"),
        (
            elsewhere,
            ["elsewhere p50", "elsewhere p95", "elsewhere p99", "elsewhere max"],
            "the same in queues without the backlog",
        ),
        (
            enqueue,
            ["enqueue p50", "enqueue p95", "enqueue p99", "enqueue max"],
            "call to acknowledgement",
        ),
        (
            insert,
            ["INSERT p50", "INSERT p95", "INSERT p99", "INSERT max"],
            "Postgres alone: call to commit",
        ),
    ];
    let mut lines = Vec::new();
    for (percentiles, names, note) in all {
        let Some(Percentiles { p50, p95, p99, max }) = percentiles else { continue };
        for (name, value) in names.into_iter().zip([p50, p95, p99, max]) {
            let value = format!("{} ms", millis(*value));
            lines.push(Line { name, value, note: if name == names[0] { note } else { "" } });
        }
    }
    lines
}

fn check(report: &Report) -> Vec<Line> {
    let Some(found) = &report.verification else { return Vec::new() };
    let count = |name, value: u64, note| Line { name, value: whole(value as f64), note };
    let mut lines = vec![
        count("acknowledged", found.acknowledged, "jobs whose Enqueue was answered"),
        count("finished", found.finished, "of these"),
        count("lost", found.lost, "of these, not finished"),
        count("finished twice", found.finished_twice, "more than one completion applied"),
        count("redelivered", found.redelivered, "handler starts beyond the first"),
    ];
    let unusual = [
        count("never started", found.never_started, "acknowledged, but no handler saw them"),
        count("ids repeated", found.ids_repeated, "one id for two jobs"),
        count("finished, not acknowledged", found.finished_unacknowledged, ""),
        count("foreign deliveries", found.foreign, "none of this run's jobs"),
        count("failed Enqueue calls", found.failed_calls, "after all retries"),
        count("stale completions", found.stale, "the attempt was no longer current"),
        count("completions not found", found.not_found, ""),
    ];
    lines.extend(unusual.into_iter().filter(|line| line.value != "0"));
    if found.stalled {
        let note = "given up: no progress for a minute";
        lines.push(Line { name: "stalled", value: "yes".to_owned(), note });
    }
    if let Some(error) = &found.worker_error {
        lines.push(Line { name: "a worker", value: error.clone(), note: "" });
    }
    if let Some(error) = &found.first_failure {
        lines.push(Line { name: "the first failed call", value: error.clone(), note: "" });
    }
    if let Some(database) = &found.database {
        lines.push(count("succeeded in the database", database.succeeded, "of the acknowledged"));
        let wrong = [
            count("missing in the database", database.missing, "acknowledged"),
            count("unfinished there", database.unfinished, "acknowledged"),
            count("dead or cancelled there", database.not_succeeded, "acknowledged"),
            count("there unacknowledged", database.unacknowledged, ""),
        ];
        lines.extend(wrong.into_iter().filter(|line| line.value != "0"));
    }
    lines
}

fn cost(report: &Report) -> Vec<Line> {
    let figures = &report.figures;
    let line = |name, value: Option<String>, note| value.map(|value| Line { name, value, note });
    let micros = |value: Option<f64>| value.map(|us| format!("{us:.2} µs/job"));
    let bytes = |value: Option<f64>| value.map(|b| format!("{:.1} MiB", b / f64::from(1 << 20)));
    let lines = [
        line("CPU of Postgres", micros(figures.postgres_cpu_us_per_job), "all its processes"),
        line("CPU of the broker", micros(figures.broker_cpu_us_per_job), ""),
        line("CPU of the load", micros(figures.load_cpu_us_per_job), "producers and workers"),
        line("WAL", figures.wal_bytes_per_job.map(|b| format!("{b:.0} B/job")), ""),
        line(
            "transactions",
            figures.transactions_per_job.map(|n| format!("{n:.5} /job")),
            "of the whole database",
        ),
        line(
            "HOT updates",
            figures.hot_update_percent.map(|percent| format!("{percent:.1} %")),
            "of all updates of the job table",
        ),
        line(
            "through the backlog",
            figures.claimed_percent.map(|percent| format!("{percent:.1} %")),
            "of the jobs; taken by a claim, the others while stored",
        ),
        line("memory of the broker", bytes(figures.broker_rss_bytes.map(|b| b as f64)), "resident"),
        line(
            "memory a worker",
            report.details.broker_rss_bytes_per_worker.map(|b| format!("{:.1} KiB", b / 1024.0)),
            "of the broker's",
        ),
        line(
            "Postgres connections",
            figures.postgres_connections.map(|n| n.to_string()),
            "of the broker, at most",
        ),
        line(
            "transactions when idle",
            figures.idle_transactions_per_s.map(|n| format!("{n:.2} /s")),
            "of the whole database",
        ),
        line(
            "all workers connected in",
            report.details.connect_seconds.map(|s| format!("{s:.2} s")),
            "",
        ),
    ];
    lines.into_iter().flatten().collect()
}

fn job_table(report: &Report) -> Vec<Line> {
    let Some(table) = &report.table else { return Vec::new() };
    let line = |name, value, note| Line { name, value, note };
    let size = |bytes: i64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    vec![
        line("rows", size(table.heap_bytes), "without what is stored out of line"),
        line("stored out of line", size(table.toast_bytes), "large payloads and results"),
        line("indexes", size(table.index_bytes.values().sum()), "all of them"),
        line("live rows", whole(table.live_rows as f64), "by Postgres' statistics"),
        line("dead rows", whole(table.dead_rows as f64), "versions not removed yet"),
    ]
}

fn limits(report: &Report) -> Vec<Line> {
    let Some(limits) = &report.limit else { return Vec::new() };
    let line = |name, rate: &Rate, note| {
        let cpu = rate.cpu_us_per_job.map_or(String::new(), |us| format!(", {us:.1} µs"));
        let jobs = whole(rate.jobs_per_s);
        Line { name, value: format!("{jobs} jobs/s, {:.0} B{cpu}", rate.wal_bytes_per_job), note }
    };
    vec![
        line("append-only", &limits.append_only, "INSERT taken + INSERT completion"),
        line("direct", &limits.direct, "our COPY taken + UPDATE"),
        line("backlog", &limits.backlog, "our COPY ready + claim + UPDATE"),
        line("enqueue", &limits.enqueue, "our COPY ready"),
    ]
}

/// A whole number with separators: 123,457.
pub(crate) fn whole(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits or so.
pub(crate) fn millis(ms: f64) -> String {
    match ms {
        _ if ms < 1.0 => format!("{ms:.3}"),
        _ if ms < 100.0 => format!("{ms:.2}"),
        _ => whole(ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0.0, 12.0, 123.4, 1234.0, 1234567.0].map(whole).join(" "), {
            "0 12 123 1,234 1,234,567"
        });
        assert_eq!([0.0421, 1.5, 2500.0].map(millis).join(" "), "0.042 1.50 2,500");
    }

    #[test]
    fn the_table_has_what_was_measured_and_nothing_else() {
        let text = render(&example());
        for wanted in ["end to end", "123,457 jobs/s", "start p99", "finished twice", "passed:"] {
            assert!(text.contains(wanted), "{wanted} in\n{text}");
        }
        assert!(!text.contains("drain"), "{text}");
    }

    #[test]
    fn what_went_wrong_is_shown() {
        let mut report = example();
        report.passed = false;
        if let Some(found) = &mut report.verification {
            found.never_started = 3;
            found.stalled = true;
        }
        let text = render(&report);
        assert!(text.contains("never started") && text.contains("stalled"), "{text}");
        assert!(text.contains("FAILED"), "{text}");
    }
}
