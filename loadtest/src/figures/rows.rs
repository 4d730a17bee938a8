//! The rows, as data: what is measured, how, and what it should be.
//!
//! A row's commands are ordinary ones, which anybody can run alone. Where a figure is a ratio, both of
//! its sides are measured in turns, and the ratio is that of one repetition.

use super::{
    row::{
        Figure, Row, Sizes,
        Target::{self, AtLeast, AtMost, Below},
        Unit::{
            self, Jobs, JobsPerS, Kibibytes, Mebibytes, Millis, PerS, Percent, Ratio, Rows,
            Seconds, Sessions,
        },
    },
    values::{
        drain, elsewhere, end_to_end, enqueue, insert, last_to_first, mebibytes, of_ideal,
        of_limit, ratio, spread, start,
    },
};
use crate::report::Report;

const fn figure(
    what: &'static str,
    unit: Unit,
    target: Target,
    of: fn(&[Report]) -> Option<f64>,
) -> Figure {
    Figure { what, unit, target, of }
}

/// In the order of the table.
pub(super) static ROWS: [Row; 17] = [
    Row {
        name: "end-to-end",
        steps: &[
            |s, _| format!("run --workers 5 --jobs {} --limit", s.jobs(800_000)),
            |s, _| format!("run --workers 100 --jobs {} --limit", s.jobs(800_000)),
            |s, _| format!("run --workers 1000 --jobs {} --limit", s.jobs(800_000)),
        ],
        figures: &[
            figure("end to end, 5 workers", JobsPerS, Target::None, |r| end_to_end(r, 0)),
            figure("… of append-only", Ratio, AtLeast(0.65), |r| of_limit(r, 0)),
            figure("end to end, 100 workers", JobsPerS, Target::None, |r| end_to_end(r, 1)),
            figure("… of append-only", Ratio, AtLeast(0.60), |r| of_limit(r, 1)),
            figure("end to end, 1,000 workers", JobsPerS, Target::None, |r| end_to_end(r, 2)),
            figure("… of append-only", Ratio, AtLeast(0.50), |r| of_limit(r, 2)),
            figure("1,000 workers to 5, same credit each", Ratio, AtLeast(0.75), |r| {
                ratio(end_to_end(r, 2), end_to_end(r, 0))
            }),
        ],
    },
    Row {
        name: "drain",
        steps: &[|s, _| format!("drain --jobs {} --limit", s.jobs(1_000_000))],
        figures: &[
            figure("drain of a backlog of 1M", JobsPerS, AtLeast(95_000.0), |r| drain(r, 0)),
            figure("… of the same statements alone", Ratio, Target::None, |r| {
                r.first()?.figures.fraction_of_own_limit
            }),
            figure("enqueue in batches, no workers", JobsPerS, AtLeast(220_000.0), |r| {
                enqueue(r, 0)
            }),
            figure("… of the same statement alone", Ratio, Target::None, |r| {
                ratio(enqueue(r, 0), Some(r.first()?.limit.as_ref()?.enqueue.jobs_per_s))
            }),
        ],
    },
    Row {
        name: "single-calls",
        steps: &[|s, _| {
            let jobs = s.jobs(300_000);
            format!("run --batch 1 --producers 16 --in-flight 4 --channels 4 --jobs {jobs}")
        }],
        figures: &[figure(
            "single-job calls, 64 at a time, end to end",
            JobsPerS,
            AtLeast(22_000.0),
            |r| end_to_end(r, 0),
        )],
    },
    Row {
        name: "light-load",
        steps: &[
            |s, _| format!("latency --rate 100 --duration {} --limit", s.seconds(30)),
            |s, _| format!("latency --rate 100 --duration {} --sql", s.seconds(30)),
        ],
        figures: &[
            figure("100/s, call to handler start, p50", Millis, AtMost(1.3), |r| {
                start(r, 0).map(|p| p.p50)
            }),
            figure("… p99", Millis, AtMost(4.0), |r| start(r, 0).map(|p| p.p99)),
            figure("… an INSERT without a broker, p50", Millis, Target::None, |r| {
                insert(r, 0).map(|p| p.p50)
            }),
            figure("… p99", Millis, Target::None, |r| insert(r, 0).map(|p| p.p99)),
            figure("100/s by SQL, to handler start, p50", Millis, AtMost(3.0), |r| {
                start(r, 1).map(|p| p.p50)
            }),
            figure("… p99", Millis, Target::None, |r| start(r, 1).map(|p| p.p99)),
        ],
    },
    Row {
        name: "open-loop",
        steps: &[|s, _| {
            format!("latency --rate 20000 --batch 20 --duration {} --limit", s.seconds(30))
        }],
        figures: &[
            figure("20,000/s in batches of 20, p50", Millis, AtMost(1.2), |r| {
                start(r, 0).map(|p| p.p50)
            }),
            figure("… p99", Millis, AtMost(8.0), |r| start(r, 0).map(|p| p.p99)),
            figure("… an INSERT without a broker, p50", Millis, Target::None, |r| {
                insert(r, 0).map(|p| p.p50)
            }),
            figure("… p99", Millis, Target::None, |r| insert(r, 0).map(|p| p.p99)),
            // What comes in during 50 ms: a queue that grows has more than that after seconds.
            figure("… unfinished at the last enqueue", Jobs, AtMost(1000.0), |r| {
                Some(r.first()?.details.unfinished_after_load? as f64)
            }),
        ],
    },
    Row {
        name: "ten-ms",
        // 2 + 8: 20,000 jobs/s keep all handlers busy, so that workers are the limit and not Postgres.
        // 5 + 5 asks for 50,000. From the first enqueue: a warm-up would be done after the clock starts.
        steps: &[|s, _| ten_ms(2, 8, s.jobs(200_000)), |s, _| ten_ms(5, 5, s.jobs(300_000))],
        figures: &[
            figure(
                "10 ms, 100 workers, 2 + 8 credit: busiest to idlest",
                Ratio,
                AtMost(1.2),
                |r| spread(r, 0),
            ),
            figure("… throughput to ideal", Ratio, AtLeast(0.95), |r| of_ideal(r, 0)),
            figure(
                "10 ms, 100 workers, 5 + 5 credit: busiest to idlest",
                Ratio,
                AtMost(1.2),
                |r| spread(r, 1),
            ),
            figure("… throughput to ideal", Ratio, Target::None, |r| of_ideal(r, 1)),
        ],
    },
    Row {
        name: "idle",
        steps: &[|s, _| format!("idle --workers {} --channels 0", s.idle_workers)],
        figures: &[
            figure("idle sessions", Sessions, Target::None, |r| {
                Some(r.first()?.settings.workers.into())
            }),
            figure("… transactions", PerS, Below(1.0), |r| {
                r.first()?.figures.idle_transactions_per_s
            }),
            figure("… memory of the broker, each", Kibibytes, AtMost(60.0), |r| {
                Some(r.first()?.details.broker_rss_bytes_per_worker? / 1024.0)
            }),
            figure("… connected in", Seconds, AtMost(30.0), |r| {
                r.first()?.details.connect_seconds
            }),
        ],
    },
    Row {
        name: "sustained",
        steps: &[|s, _| {
            let seconds = s.sustained_seconds;
            // 10 % of the time; a warm-up of 1 %, so that the first window has no start-up in it.
            let window = (seconds / 10).max(1);
            format!("run --duration {seconds} --window {window} --warmup-percent 1")
        }],
        figures: &[
            figure("sustained", JobsPerS, Target::None, |r| end_to_end(r, 0)),
            figure("… last tenth to first tenth", Ratio, AtLeast(0.95), |r| last_to_first(r, 0)),
            figure("… stolen by the host in the first tenth", Percent, Target::None, |r| {
                Some(r.first()?.windows.as_ref()?.first_stolen_percent)
            }),
            figure("… in the last", Percent, Target::None, |r| {
                Some(r.first()?.windows.as_ref()?.last_stolen_percent)
            }),
            figure("… jobs", Jobs, Target::None, |r| Some(r.first()?.details.jobs? as f64)),
            figure("… rows of the table", Mebibytes, Target::None, |r| {
                Some(mebibytes(r.first()?.table.as_ref()?.heap_bytes))
            }),
            figure("… its indexes", Mebibytes, Target::None, |r| {
                Some(mebibytes(r.first()?.table.as_ref()?.index_bytes.values().sum()))
            }),
            figure("… dead rows", Rows, Target::None, |r| {
                Some(r.first()?.table.as_ref()?.dead_rows as f64)
            }),
        ],
    },
    Row {
        name: "old-snapshot-direct",
        steps: &[|s, _| {
            let seconds = s.snapshot_seconds;
            let window = (seconds / 6).max(1);
            format!("run --duration {seconds} --old-snapshot --window {window}")
        }],
        figures: &[
            figure("old snapshot, direct", JobsPerS, Target::None, |r| end_to_end(r, 0)),
            figure("… last sixth to first sixth", Ratio, AtLeast(0.9), |r| last_to_first(r, 0)),
        ],
    },
    Row {
        name: "old-snapshot-backlog",
        // The first drain tells how large a backlog lasts as long as it should. The last has no snapshot:
        // what it loses on its way, the one before didn't lose because of that.
        steps: &[
            |s, _| format!("drain --jobs {}", s.jobs(300_000)),
            |s, found| long_drain(s, found, "--old-snapshot"),
            |s, found| long_drain(s, found, ""),
        ],
        figures: &[
            figure("old snapshot, through the backlog", JobsPerS, Target::None, |r| drain(r, 1)),
            figure("… last sixth to first sixth", Ratio, AtLeast(0.9), |r| last_to_first(r, 1)),
            figure("… the same without a snapshot", Ratio, Target::None, |r| last_to_first(r, 2)),
        ],
    },
    Row {
        name: "mixed",
        steps: &[
            |s, _| format!("run --jobs {}", s.jobs(500_000)),
            |s, _| format!("mixed --jobs {}", s.jobs(500_000)),
            |s, _| format!("drain --jobs {}", s.jobs(500_000)),
        ],
        figures: &[
            figure("half direct, half through the backlog", JobsPerS, Target::None, |r| {
                end_to_end(r, 1)
            }),
            figure("… through the backlog", Percent, Target::None, |r| {
                r.get(1)?.figures.claimed_percent
            }),
            figure("… to the mean of direct and drain", Ratio, AtLeast(0.8), |r| {
                let mean = (end_to_end(r, 0)? + drain(r, 2)?) / 2.0;
                ratio(end_to_end(r, 1), Some(mean))
            }),
        ],
    },
    Row {
        name: "history",
        steps: &[
            |s, _| format!("run --jobs {}", s.jobs(500_000)),
            |s, _| format!("run --jobs {} --history {}", s.jobs(500_000), s.jobs(5_000_000)),
        ],
        figures: &[
            figure("5M finished jobs in the table", JobsPerS, Target::None, |r| end_to_end(r, 1)),
            figure("… to none", Ratio, AtLeast(0.9), |r| {
                ratio(end_to_end(r, 1), end_to_end(r, 0))
            }),
        ],
    },
    Row {
        name: "pruning",
        steps: &[
            |s, _| pruning(s.jobs(1_500_000), s.jobs(1_000_000), 0),
            |s, _| pruning(s.jobs(1_500_000), s.jobs(1_000_000), HALF_AN_HOUR_MS),
        ],
        figures: &[
            figure("beside pruning of 20,000 rows/s", JobsPerS, Target::None, |r| end_to_end(r, 1)),
            figure("… to none", Ratio, AtLeast(0.85), |r| {
                ratio(end_to_end(r, 1), end_to_end(r, 0))
            }),
        ],
    },
    Row {
        name: "queues",
        steps: &[
            |s, _| format!("run --jobs {}", s.jobs(500_000)),
            |s, _| format!("run --jobs {} --queues 100", s.jobs(500_000)),
        ],
        figures: &[
            figure("100 queues", JobsPerS, Target::None, |r| end_to_end(r, 1)),
            figure("… to one", Ratio, AtLeast(0.8), |r| {
                ratio(end_to_end(r, 1), end_to_end(r, 0))
            }),
        ],
    },
    Row {
        name: "limits",
        steps: &[
            |s, _| format!("run --jobs {}", s.jobs(500_000)),
            |s, _| format!("run --jobs {} --queue-concurrency-max 1000000", s.jobs(500_000)),
            |s, _| format!("run --jobs {} --queue-rate 1000000", s.jobs(500_000)),
            |s, _| format!("run --jobs {} --keys 100", s.jobs(300_000)),
            |s, _| {
                format!("run --jobs {} --keys 100 --key-concurrency-max 1000000", s.jobs(300_000))
            },
        ],
        figures: &[
            figure("a generous limit at a time", JobsPerS, Target::None, |r| end_to_end(r, 1)),
            figure("… to none", Ratio, AtLeast(0.8), |r| {
                ratio(end_to_end(r, 1), end_to_end(r, 0))
            }),
            figure("a generous rate to none", Ratio, AtLeast(0.8), |r| {
                ratio(end_to_end(r, 2), end_to_end(r, 0))
            }),
            figure("100 keys", JobsPerS, Target::None, |r| end_to_end(r, 3)),
            figure("100 keys to none", Ratio, Target::None, |r| {
                ratio(end_to_end(r, 3), end_to_end(r, 0))
            }),
            figure("a generous limit of keys to none", Ratio, AtLeast(0.8), |r| {
                ratio(end_to_end(r, 4), end_to_end(r, 3))
            }),
        ],
    },
    Row {
        name: "keys-p99",
        steps: &[|s, _| {
            format!(
                "latency --rate 200 --queues 2 --duration {} --keys 1 --key-concurrency-max 60 --work-ms 200 \
                 --concurrency 1000 --backlog {}",
                s.seconds(60),
                s.jobs(1_000_000)
            )
        }],
        figures: &[
            figure("100/s of a key, to handler start, p50", Millis, Target::None, |r| {
                elsewhere(r, 0).map(|p| p.p50)
            }),
            figure("… p99", Millis, Target::None, |r| elsewhere(r, 0).map(|p| p.p99)),
            figure("beside 1M jobs of a full key, p50", Millis, Target::None, |r| {
                start(r, 0).map(|p| p.p50)
            }),
            figure("… p99", Millis, Target::None, |r| start(r, 0).map(|p| p.p99)),
            figure("… p99 to that without them", Ratio, AtMost(1.25), |r| {
                ratio(start(r, 0).map(|p| p.p99), elsewhere(r, 0).map(|p| p.p99))
            }),
        ],
    },
    Row {
        name: "large-payloads",
        steps: &[|s, _| {
            format!("run --payload-bytes 10000 --batch 100 --jobs {} --limit", s.jobs(50_000))
        }],
        figures: &[
            figure("payloads of 10 kB", JobsPerS, Target::None, |r| end_to_end(r, 0)),
            figure("… of append-only with these", Ratio, AtLeast(0.5), |r| of_limit(r, 0)),
        ],
    },
];

/// Younger than the rows of the past, older than the run's own jobs.
const HALF_AN_HOUR_MS: u64 = 1_800_000;

fn pruning(jobs: u64, history: u64, retention_ms: u64) -> String {
    format!(
        "run --jobs {jobs} --history {history} --set retention.succeeded_ms={retention_ms} --set \
         retention.rows_per_second_max=20000"
    )
}

/// What a drain is taken to do before one was seen.
const DRAIN_JOBS_PER_S: f64 = 90_000.0;

/// As long as a snapshot is to be held, at the pace of the first drain.
fn long_drain(s: &Sizes, found: &[Report], snapshot: &str) -> String {
    let rate = drain(found, 0).unwrap_or(DRAIN_JOBS_PER_S);
    let jobs = (rate * f64::from(s.snapshot_seconds)) as u64;
    let jobs = jobs.max(1).next_multiple_of(1000);
    let window = (s.snapshot_seconds / 6).max(1);
    format!("drain --jobs {jobs} --window {window} {snapshot}")
}

/// The first key never has a place free: sixty of its jobs run, and the others wait. Of the second about twenty
/// do, so that its own limit isn't in their way. At the end, without limits, 5,000 run.
fn ten_ms(concurrency: u32, prefetch: u32, jobs: u64) -> String {
    format!(
        "run --workers 100 --work-ms 10 --concurrency {concurrency} --prefetch {prefetch} --jobs {jobs} \
         --warmup-percent 0"
    )
}
