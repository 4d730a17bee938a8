//! The schedules of a file, which hold from a broker's start.

use std::{path::Path, sync::Arc};

use anyhow::{Context, anyhow, ensure};

use crate::{
    config::{self, CatchUpKey, Config, OverlapKey},
    domain::{
        CatchUp, CronRule, JobOptions, JobTemplate, NewSchedule, Overlap, PRIORITY_MAX,
        PRIORITY_MIN, ScheduleRules, is_name,
    },
    pipeline::Core,
    rpc::AHEAD_MS_MAX,
};

/// Writes the schedules of the file, if there is one.
pub(super) async fn follow_file(core: &Arc<Core>, config: &Config) -> anyhow::Result<()> {
    if config.schedules.file.is_empty() {
        return Ok(());
    }
    let mut schedules = Vec::new();
    for entry in config::load_schedules(Path::new(&config.schedules.file))? {
        let name = entry.name.clone();
        schedules.push(new_schedule(core, entry).await.with_context(|| name)?);
    }
    core.follow_schedule_file(&schedules).await.context("the database")
}

async fn new_schedule(
    core: &Arc<Core>,
    entry: config::ScheduleEntry,
) -> anyhow::Result<NewSchedule> {
    for (key, value) in [("name", &entry.name), ("queue", &entry.queue), ("kind", &entry.kind)] {
        ensure!(is_name(value), "{key}: 1 to 128 characters of A-Z a-z 0-9 . _ : / -");
    }
    let priority = entry.priority.unwrap_or_default();
    ensure!((PRIORITY_MIN..=PRIORITY_MAX).contains(&priority), "priority: -100 to 100");
    ensure!((1..=1000).contains(&entry.max_attempts.unwrap_or(1)), "max_attempts: 1 to 1000");
    let expire_after_ms = entry.expire_after_ms;
    ensure!(
        (1..=AHEAD_MS_MAX).contains(&expire_after_ms.unwrap_or(1)),
        "expire_after_ms: 1 to {AHEAD_MS_MAX}"
    );
    let cron = CronRule::parse(&entry.cron, &entry.time_zone)
        .map_err(|(key, problem)| anyhow!("{key}: {problem}"))?;
    let catch_up = match entry.catch_up {
        CatchUpKey::Skip => CatchUp::Skip,
        CatchUpKey::Latest => CatchUp::Latest,
        CatchUpKey::All => CatchUp::All { window_ms: entry.catch_up_window_ms },
    };
    let overlap = match entry.overlap {
        OverlapKey::Allow => Overlap::Allow,
        OverlapKey::Skip => Overlap::Skip,
        OverlapKey::QueueOne => Overlap::QueueOne,
    };
    let queue = core.resolve_queues(&[&entry.queue]).await.context("queue")?[0].id;
    let options = JobOptions {
        timeout_ms: entry.timeout_ms,
        content_type: entry.content_type,
        ..JobOptions::default()
    };
    let job = JobTemplate {
        queue,
        kind: entry.kind,
        payload: entry.payload.into(),
        priority: entry.priority,
        max_attempts: entry.max_attempts,
        options: (options != JobOptions::default()).then(|| Box::new(options)),
        expire_after_ms,
    };
    let rules = ScheduleRules { cron, catch_up, overlap };
    Ok(NewSchedule { name: entry.name, rules, job })
}
