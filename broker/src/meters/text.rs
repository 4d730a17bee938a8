use std::{fmt::Write, sync::Arc};

use super::{
    families::{FAMILIES, Family},
    histogram::{BOUNDS_MICROS, Histogram},
    queues::QueueMeter,
};
use crate::{domain::QueueStats, engine::QueueLoad};

/// The families of queues in Prometheus' text form.
pub fn by_queue(queues: &[(Arc<str>, QueueMeter)]) -> String {
    let mut text = Text { out: String::new(), queues };
    text.count("currant_jobs_enqueued_total", |meter| meter.enqueued);
    text.count("currant_jobs_delivered_total", |meter| meter.delivered);
    text.outcomes("currant_jobs_completed_total");
    text.count("currant_attempts_failed_total", |meter| meter.failed);
    text.count("currant_attempts_retried_total", |meter| meter.retried);
    text.histogram("currant_start_latency_seconds", |meter| &meter.start);
    text.histogram("messaging_process_duration_seconds", |meter| &meter.run);
    text.load("currant_queue_sessions", |load| Some(load.sessions));
    text.load("currant_queue_credit", |load| Some(load.credit));
    text.load("currant_queue_attempts_held", |load| Some(load.held));
    text.load("currant_queue_jobs_buffered", |load| Some(load.buffered));
    text.load("currant_queue_jobs_backlog", |load| load.backlog);
    text.paused("currant_queue_paused");
    text.depths("currant_queue_jobs");
    text.ages("currant_queue_oldest_ready_seconds");
    text.out
}

struct Text<'a> {
    out: String,
    queues: &'a [(Arc<str>, QueueMeter)],
}

impl Text<'_> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = self.out.write_fmt(line);
        self.out.push('\n');
    }

    fn head(&mut self, name: &str) {
        let Some(Family { kind, meaning, .. }) = FAMILIES.iter().find(|one| one.name == name)
        else {
            unreachable!("{name} isn't among the families")
        };
        self.line(format_args!("# HELP {name} {meaning}"));
        self.line(format_args!("# TYPE {name} {}", kind.name()));
    }

    fn count(&mut self, name: &str, of: impl Fn(&QueueMeter) -> u64) {
        self.head(name);
        for (queue, meter) in self.queues {
            let label = label(queue);
            self.line(format_args!("{name}{{{label}}} {}", of(meter)));
        }
    }

    fn outcomes(&mut self, name: &str) {
        self.head(name);
        for (queue, meter) in self.queues {
            let label = label(queue);
            let QueueMeter { succeeded, dead, cancelled, .. } = meter;
            for (outcome, count) in
                [("succeeded", succeeded), ("dead", dead), ("cancelled", cancelled)]
            {
                self.line(format_args!("{name}{{{label},outcome=\"{outcome}\"}} {count}"));
            }
        }
    }

    /// A queue of which there is nothing to say has no line.
    fn load(&mut self, name: &str, of: impl Fn(QueueLoad) -> Option<usize>) {
        self.head(name);
        for (queue, meter) in self.queues {
            if let Some(value) = meter.load.and_then(&of) {
                let label = label(queue);
                self.line(format_args!("{name}{{{label}}} {value}"));
            }
        }
    }

    fn paused(&mut self, name: &str) {
        self.head(name);
        for (queue, meter) in self.queues {
            if let Some(paused) = meter.paused {
                self.line(format_args!("{name}{{{}}} {}", label(queue), u8::from(paused)));
            }
        }
    }

    /// A queue that couldn't be read has no lines, here and in `ages`.
    fn depths(&mut self, name: &str) {
        self.head(name);
        for (queue, meter) in self.queues {
            let Some(depth) = meter.depth else { continue };
            let label = label(queue);
            let QueueStats { scheduled, ready, succeeded, dead, cancelled, .. } = depth;
            for (state, count) in [
                ("scheduled", scheduled),
                ("ready", ready),
                ("succeeded", succeeded),
                ("dead", dead),
                ("cancelled", cancelled),
            ] {
                self.line(format_args!("{name}{{{label},state=\"{state}\"}} {}", count.jobs));
            }
        }
    }

    fn ages(&mut self, name: &str) {
        self.head(name);
        for (queue, meter) in self.queues {
            if let Some(depth) = meter.depth {
                let seconds = depth.oldest_ready_ms.unwrap_or(0) as f64 / 1e3;
                self.line(format_args!("{name}{{{}}} {seconds}", label(queue)));
            }
        }
    }

    fn histogram(&mut self, name: &str, of: impl Fn(&QueueMeter) -> &Histogram) {
        self.head(name);
        for (queue, meter) in self.queues {
            let (label, Histogram { counts, sum_micros }) = (label(queue), of(meter));
            let mut sum = 0;
            for (bound, count) in BOUNDS_MICROS.iter().zip(counts) {
                sum += count;
                let bound = seconds(*bound);
                self.line(format_args!("{name}_bucket{{{label},le=\"{bound}\"}} {sum}"));
            }
            let count: u64 = counts.iter().sum();
            self.line(format_args!("{name}_bucket{{{label},le=\"+Inf\"}} {count}"));
            self.line(format_args!("{name}_sum{{{label}}} {}", seconds(*sum_micros)));
            self.line(format_args!("{name}_count{{{label}}} {count}"));
        }
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn label(queue: &str) -> String {
    let escaped = queue.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("messaging_destination_name=\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::QueueId, meters::Meters};

    #[test]
    fn each_family_has_its_head_and_a_line_a_queue() {
        let mut meters = Meters::new(1);
        let meter = meters.queue(QueueId(1));
        meter.enqueued = 3;
        meter.dead = 1;
        for micros in [900, 1_500, 4_000_000_000] {
            meter.run.record(micros);
        }
        meters.set_loads([(QueueId(1), QueueLoad { held: 2, ..QueueLoad::default() })]);
        let text = by_queue(&meters.named(|_| Some("a\"b".into())));
        let label = "messaging_destination_name=\"a\\\"b\"";
        for line in [
            "# TYPE currant_jobs_enqueued_total counter".to_owned(),
            format!("currant_jobs_enqueued_total{{{label}}} 3"),
            format!("currant_jobs_completed_total{{{label},outcome=\"dead\"}} 1"),
            format!("messaging_process_duration_seconds_bucket{{{label},le=\"0.001\"}} 1"),
            format!("messaging_process_duration_seconds_bucket{{{label},le=\"0.002\"}} 2"),
            format!("messaging_process_duration_seconds_bucket{{{label},le=\"3600\"}} 2"),
            format!("messaging_process_duration_seconds_bucket{{{label},le=\"+Inf\"}} 3"),
            format!("messaging_process_duration_seconds_sum{{{label}}} 4000.0024"),
            format!("messaging_process_duration_seconds_count{{{label}}} 3"),
            format!("currant_queue_attempts_held{{{label}}} 2"),
        ] {
            assert!(text.lines().any(|one| one == line), "{line} isn't in\n{text}");
        }
        assert!(!text.contains("currant_queue_jobs_backlog{"), "nobody has looked");
    }
}
