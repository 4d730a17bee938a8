//! Recurring jobs: what calls ask for, and the fires. A fire moves its schedule on and stores its job in
//! one statement; of several brokers one finds the schedule where it was.

use std::{sync::Arc, time::Duration};

use super::{Caller, Core, Enqueued, PipelineError, error::log};
use crate::{
    clock::time_of_micros,
    domain::{self, JobId, JobTemplate, NewJob, NewSchedule, QueueId, ReadyIn, Schedule, Start},
    store::{self, Client, DueSchedule, StoreError},
};

const SCHEDULES_MAX: usize = 10_000;

/// Schedules that are looked at together.
const BATCH: usize = 100;

/// What a call that writes a schedule did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// There is one of that name.
    There,
    /// There is none of that name.
    Missing,
}

impl Core {
    /// A schedule and its queue's name. `None`: there is none of that name, or its queue isn't the
    /// caller's.
    pub async fn get_schedule(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
    ) -> Result<Option<(Schedule, String)>, PipelineError> {
        self.change("a schedule could not be read", async {
            let client = self.store.client().await?;
            let found = store::get_schedule(&client, name).await?;
            drop(client);
            let found = self.with_queues(found.into_iter().collect()).await?;
            Ok(found.into_iter().find(|(_, queue)| caller.may_use(queue)))
        })
        .await
    }

    /// The first schedules behind a name whose queues the caller may use, in the order of names, each
    /// with its queue's name.
    pub async fn list_schedules(
        self: &Arc<Self>,
        caller: &Caller,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(Schedule, String)>, PipelineError> {
        let looked_at = if caller.may_use_all_queues() { limit } else { BATCH };
        self.change("schedules could not be listed", async {
            let (mut after, mut schedules) = (after.to_owned(), Vec::new());
            loop {
                let client = self.store.client().await?;
                let page = store::list_schedules(&client, &after, looked_at).await?;
                drop(client);
                let last = page.last().filter(|_| page.len() == looked_at);
                let last = last.map(|schedule| schedule.name.clone());
                let page = self.with_queues(page).await?;
                schedules.extend(page.into_iter().filter(|(_, queue)| caller.may_use(queue)));
                match last {
                    Some(name) if schedules.len() < limit => after = name,
                    _ => break,
                }
            }
            schedules.truncate(limit);
            Ok(schedules)
        })
        .await
    }

    async fn with_queues(
        self: &Arc<Self>,
        schedules: Vec<Schedule>,
    ) -> Result<Vec<(Schedule, String)>, StoreError> {
        let ids: Vec<QueueId> = schedules.iter().map(|schedule| schedule.job.queue).collect();
        let queues = self.queues_by_id(&ids).await?;
        let with_queue = |schedule: Schedule| {
            let name = queues.get(&schedule.job.queue).map(|queue| queue.name.clone());
            (schedule, name.unwrap_or_default())
        };
        Ok(schedules.into_iter().map(with_queue).collect())
    }

    /// Whether there is a schedule of that name for a queue of the caller's. Who may use all queues learns
    /// it from the change itself.
    async fn may_change(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
    ) -> Result<bool, PipelineError> {
        Ok(caller.may_use_all_queues() || self.get_schedule(caller, name).await?.is_some())
    }

    pub async fn create_schedule(
        &self,
        caller: &Caller,
        schedule: &NewSchedule,
    ) -> Result<Written, PipelineError> {
        self.note_action_on(caller, "create_schedule", &schedule.name).await?;
        let next_at = self.first_fire(schedule)?;
        self.change("a schedule could not be created", async {
            let client = self.store.client().await?;
            if store::count_schedules(&client).await? >= SCHEDULES_MAX {
                return Ok(None);
            }
            let created = store::create_schedule(&client, schedule, false, Some(next_at)).await?;
            Ok(Some(if created { Written::Done } else { Written::There }))
        })
        .await?
        .ok_or_else(|| PipelineError::Full {
            what: "the number of schedules",
            limit: format!("at most {SCHEDULES_MAX} schedules"),
            retry_after: Duration::from_secs(60),
        })
    }

    pub async fn update_schedule(
        self: &Arc<Self>,
        caller: &Caller,
        schedule: &NewSchedule,
    ) -> Result<Written, PipelineError> {
        self.note_action_on(caller, "update_schedule", &schedule.name).await?;
        if !self.may_change(caller, &schedule.name).await? {
            return Ok(Written::Missing);
        }
        let next_at = self.first_fire(schedule)?;
        self.change("a schedule could not be changed", async {
            let client = self.store.client().await?;
            let updated = store::update_schedule(&client, schedule, false, Some(next_at)).await?;
            Ok(if updated { Written::Done } else { Written::Missing })
        })
        .await
    }

    pub async fn delete_schedule(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
    ) -> Result<Written, PipelineError> {
        self.note_action_on(caller, "delete_schedule", name).await?;
        if !self.may_change(caller, name).await? {
            return Ok(Written::Missing);
        }
        self.change("a schedule could not be deleted", async {
            let client = self.store.client().await?;
            let deleted = store::delete_schedule(&client, name).await?;
            Ok(if deleted { Written::Done } else { Written::Missing })
        })
        .await
    }

    /// Pauses a schedule or resumes it. `None`: there is none of that name.
    pub async fn pause_schedule(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
        paused: bool,
    ) -> Result<Option<(Schedule, String)>, PipelineError> {
        let action = if paused { "pause_schedule" } else { "resume_schedule" };
        self.note_action_on(caller, action, name).await?;
        let Some((schedule, _)) = self.get_schedule(caller, name).await? else { return Ok(None) };
        self.change("a schedule could not be paused or resumed", async {
            let client = self.store.client().await?;
            if paused {
                store::pause_schedule(&client, name).await
            } else {
                let next_at = schedule.rules.cron.after(self.clock.database_micros());
                store::resume_schedule(&client, name, next_at.map(time_of_micros)).await
            }
        })
        .await?;
        self.get_schedule(caller, name).await
    }

    /// Stores a job of a schedule at once, beside its fires. `None`: there is none of that name.
    pub async fn run_schedule(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
        idempotency_key: Option<String>,
    ) -> Result<Option<Enqueued>, PipelineError> {
        self.note_action_on(caller, "run_schedule", name).await?;
        let Some((schedule, _)) = self.get_schedule(caller, name).await? else { return Ok(None) };
        let JobTemplate {
            queue,
            kind,
            payload,
            priority,
            max_attempts,
            mut options,
            expire_after_ms,
        } = schedule.job;
        if let Some(ms) = expire_after_ms {
            let after = i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX);
            let expires_at = self.clock.database_micros().saturating_add(after);
            options.get_or_insert_default().expires_at = Some(expires_at);
        }
        let priority = match priority {
            Some(priority) => priority,
            None => self.default_priority(queue).await.map_err(|error| {
                log(&error, "a queue could not be looked up");
                PipelineError::from(&error)
            })?,
        };
        let start = Start::Now;
        let (unique, key) = (None, None);
        let job =
            NewJob { queue, kind, payload, priority, start, max_attempts, options, unique, key };
        self.enqueue(vec![job], idempotency_key).await.map(Some)
    }

    /// Writes the schedules of a file, and deletes those that came from one and aren't in it any more.
    pub async fn follow_schedule_file(&self, schedules: &[NewSchedule]) -> Result<(), StoreError> {
        let client = self.store.client().await?;
        let now = self.clock.database_micros();
        for schedule in schedules {
            let next_at = schedule.rules.cron.after(now).map(time_of_micros);
            if !store::create_schedule(&client, schedule, true, next_at).await? {
                store::update_schedule(&client, schedule, true, next_at).await?;
            }
        }
        let names: Vec<&str> = schedules.iter().map(|schedule| &*schedule.name).collect();
        let deleted = store::delete_other_schedules(&client, &names).await?;
        tracing::info!(schedules = names.len(), deleted, "the schedules of the file hold");
        Ok(())
    }

    /// Makes the fires that are due, and notes when the next is.
    pub async fn fire_schedules(self: &Arc<Self>) -> Result<(), StoreError> {
        let client = self.store.client().await?;
        let now = self.clock.database_micros();
        let mut after = String::new();
        loop {
            let due = store::due_schedules(&client, &after, time_of_micros(now), BATCH).await?;
            for one in &due {
                self.fire(&client, one, now).await?;
            }
            match due.last().filter(|_| due.len() == BATCH) {
                Some(last) => after.clone_from(&last.name),
                None => break,
            }
        }
        if let Some(at) = store::next_schedule(&client, time_of_micros(now)).await? {
            self.schedules.will_be(at.timestamp_micros());
        }
        Ok(())
    }

    async fn fire(
        self: &Arc<Self>,
        client: &Client,
        due: &DueSchedule,
        now: i64,
    ) -> Result<(), StoreError> {
        let Some(rules) = &due.rules else { return Ok(()) };
        let firing = domain::fire(rules, due.standing, now);
        let stays =
            (firing.next_at, firing.waiting_at) == (due.standing.next_at, due.standing.waiting_at);
        if firing.fires.is_empty() && stays {
            return Ok(());
        }
        if firing.next_at.is_some_and(|at| at <= now) {
            // More than are made at a time.
            self.schedules.may_be();
        }
        let priority = match due.priority {
            Some(priority) => priority,
            None => self.default_priority(due.queue).await?,
        };
        let ids: Vec<JobId> = {
            let mut ids = self.ids.lock();
            firing.fires.iter().map(|_| ids.next(now / 1000)).collect()
        };
        let fired = store::fire_schedule(client, due, &firing, &ids, priority).await;
        if matches!(fired, Err(StoreError::Unique { .. })) {
            self.ids.lock().skip();
        }
        if fired? {
            metrics::counter!("currant_schedule_fires_total").increment(ids.len() as u64);
            self.became_ready(ReadyIn::plain(due.queue), ids.into_iter().map(|id| (priority, id)));
        }
        Ok(())
    }

    async fn default_priority(self: &Arc<Self>, queue: QueueId) -> Result<i16, StoreError> {
        let queues = self.queues_by_id(&[queue]).await?;
        Ok(queues.get(&queue).map_or(self.queues.defaults.priority, |queue| queue.priority))
    }

    fn first_fire(
        &self,
        schedule: &NewSchedule,
    ) -> Result<chrono::DateTime<chrono::Utc>, PipelineError> {
        let next = schedule.rules.cron.after(self.clock.database_micros());
        next.map(time_of_micros).ok_or_else(|| PipelineError::Invalid {
            field: "schedule.cron",
            problem: "never fires".to_owned(),
        })
    }
}
