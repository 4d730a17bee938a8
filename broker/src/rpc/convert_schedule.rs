//! Schedules to messages and back; as in `convert`, every field is named.

use currant_proto::v1::{self as pb, new_job::Expiry};

use super::{
    check::{self, AHEAD_MS_MAX},
    convert::{self, Defaults, duration},
    convert_retry::pb_retry_policy,
    stored::timestamp,
};
use crate::domain::{
    CatchUp, CronRule, JobOptions, JobTemplate, NewJob, NewSchedule, Overlap, QueueId, Schedule,
    ScheduleRules,
};

const WINDOW_MS_MIN: u64 = 60_000;
const UTC: &str = "UTC";

/// A schedule of which `wrong` is told what can't be; `None` then. Its queue is not looked up yet.
pub(super) fn new_schedule(
    schedule: pb::Schedule,
    payload_bytes_max: usize,
    now: i64,
    mut wrong: impl FnMut(&str, String),
) -> Option<(NewSchedule, String)> {
    let pb::Schedule { name, cron, time_zone, job, catch_up, catch_up_window, overlap } = schedule;
    let mut good = true;
    let mut see = |field: &str, problem: String| {
        good = false;
        wrong(field, problem);
    };
    if let Err(problem) = check::name(&name) {
        see("name", problem);
    }
    let zone = if time_zone.is_empty() { UTC } else { &time_zone };
    let cron = CronRule::parse(&cron, zone).map_err(|(field, problem)| see(field, problem)).ok();
    let mut job = job.unwrap_or_default();
    let defaults = Defaults { queue: false, kind: false, payload_bytes_max, now };
    convert::check_new_job(&job, &defaults, |field, problem| see(&format!("job.{field}"), problem));
    if job.unique.is_some() {
        see("job.unique", "a schedule's own rules say when its jobs overlap".to_owned());
    }
    let expire_after_ms = match job.expiry.take() {
        None => None,
        Some(Expiry::ExpireAfter(after)) => check::duration_ms(&after, 1, AHEAD_MS_MAX).ok(),
        Some(Expiry::ExpireAt(_)) => {
            see("job.expiry", "expire_after: each fire has its own time".to_owned());
            None
        }
    };
    if !job.key.is_empty() {
        see("job.key", "a schedule's jobs have none".to_owned());
    }
    if job.start.is_some() {
        see("job.start", "a schedule says when its jobs start".to_owned());
    }
    let catch_up = match pb::CatchUp::try_from(catch_up) {
        Ok(pb::CatchUp::Unspecified | pb::CatchUp::Skip) => Some(CatchUp::Skip),
        Ok(pb::CatchUp::Latest) => Some(CatchUp::Latest),
        Ok(pb::CatchUp::All) => {
            let window = catch_up_window.unwrap_or_default();
            check::duration_ms(&window, WINDOW_MS_MIN, AHEAD_MS_MAX)
                .map_err(|problem| see("catch_up_window", problem))
                .ok()
                .map(|window_ms| CatchUp::All { window_ms })
        }
        Err(_) => {
            see("catch_up", "one of CatchUp".to_owned());
            None
        }
    };
    let overlap = match pb::Overlap::try_from(overlap) {
        Ok(pb::Overlap::Unspecified | pb::Overlap::Allow) => Some(Overlap::Allow),
        Ok(pb::Overlap::Skip) => Some(Overlap::Skip),
        Ok(pb::Overlap::QueueOne) => Some(Overlap::QueueOne),
        Err(_) => {
            see("overlap", "one of Overlap".to_owned());
            None
        }
    };
    if !good {
        return None;
    }
    let own_priority = job.priority.is_some();
    let queue = job.queue.clone();
    let job = convert::new_job(job, (QueueId(0), 0), "", now);
    let NewJob { queue: _, kind, payload, priority, start: _, max_attempts, options, .. } = job;
    let priority = Some(priority).filter(|_| own_priority);
    let job = JobTemplate {
        queue: QueueId(0),
        kind,
        payload,
        priority,
        max_attempts,
        options,
        expire_after_ms,
    };
    let rules = ScheduleRules { cron: cron?, catch_up: catch_up?, overlap: overlap? };
    Some((NewSchedule { name, rules, job }, queue))
}

/// `queue`: its name.
pub(super) fn schedule(schedule: Schedule, queue: String) -> pb::StoredSchedule {
    let Schedule {
        name,
        rules: ScheduleRules { cron, catch_up, overlap },
        job,
        from_file,
        paused_at,
        next_at,
        waiting_at,
        last_at,
        last_job,
    } = schedule;
    let (catch_up, window_ms) = match catch_up {
        CatchUp::Skip => (pb::CatchUp::Skip, None),
        CatchUp::Latest => (pb::CatchUp::Latest, None),
        CatchUp::All { window_ms } => (pb::CatchUp::All, Some(window_ms)),
    };
    let overlap = match overlap {
        Overlap::Allow => pb::Overlap::Allow,
        Overlap::Skip => pb::Overlap::Skip,
        Overlap::QueueOne => pb::Overlap::QueueOne,
    };
    let schedule = pb::Schedule {
        name,
        cron: cron.pattern().to_owned(),
        time_zone: cron.zone().to_owned(),
        job: Some(pb_job(job, queue)),
        catch_up: catch_up.into(),
        catch_up_window: window_ms.map(duration),
        overlap: overlap.into(),
    };
    pb::StoredSchedule {
        schedule: Some(schedule),
        paused_at: paused_at.map(timestamp),
        next_fire: next_at.map(timestamp),
        waiting_fire: waiting_at.map(timestamp),
        last_fire: last_at.map(timestamp),
        last_job_id: last_job.map_or(0, |id| id.0),
        from_file,
        hidden: false,
    }
}

fn pb_job(job: JobTemplate, queue: String) -> pb::NewJob {
    let JobTemplate { queue: _, kind, payload, priority, max_attempts, options, expire_after_ms } =
        job;
    let JobOptions {
        retry,
        timeout_ms,
        expires_at: _,
        content_type,
        tags,
        metadata,
        traceparent,
        call_jobs: _,
    } = options.map(|options| *options).unwrap_or_default();
    pb::NewJob {
        queue,
        kind,
        payload,
        content_type,
        priority: priority.map(i32::from),
        start: None,
        expiry: expire_after_ms.map(|ms| Expiry::ExpireAfter(duration(ms))),
        max_attempts: max_attempts.map_or(0, u32::from),
        retry: retry.map(pb_retry_policy),
        timeout: timeout_ms.map(duration),
        tags,
        metadata,
        traceparent,
        unique: None,
        key: String::new(),
    }
}
