//! Recurring jobs.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use currant_proto::v1::{self, new_job::Expiry};

use crate::{
    client::Client,
    error::Error,
    job::JobId,
    new_job::{NewJob, fresh_key},
    retry::with_retry,
    time::{from_proto, from_timestamp, to_proto},
};

const PAGE_SIZE: u32 = 1000;

/// What becomes of fires that are more than a minute late, because no broker ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// They're left out.
    #[default]
    Skip,
    /// The last of them is made.
    Latest,
    /// All are made that are no older than this, 1 minute to 10 years; the oldest first.
    All(Duration),
}

/// What becomes of a fire while the job of the fire before waits or runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It is made.
    #[default]
    Allow,
    /// It is left out.
    Skip,
    /// It is made when that job is over; one waits, no more.
    QueueOne,
}

/// A job at each time of a cron pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    name: String,
    cron: String,
    time_zone: String,
    job: NewJob,
    catch_up: CatchUp,
    overlap: Overlap,
}

impl Schedule {
    /// A schedule with a name like a queue's and a pattern of 5 fields, or 6 with seconds first, by UTC.
    pub fn new(name: impl Into<String>, cron: impl Into<String>, job: NewJob) -> Schedule {
        Schedule {
            name: name.into(),
            cron: cron.into(),
            time_zone: String::new(),
            job,
            catch_up: CatchUp::Skip,
            overlap: Overlap::Allow,
        }
    }

    /// A name of the IANA database, such as `Europe/Vienna`.
    pub fn time_zone(mut self, time_zone: impl Into<String>) -> Schedule {
        self.time_zone = time_zone.into();
        self
    }

    /// Default: [`CatchUp::Skip`].
    pub fn catch_up(mut self, catch_up: CatchUp) -> Schedule {
        self.catch_up = catch_up;
        self
    }

    /// Default: [`Overlap::Allow`].
    pub fn overlap(mut self, overlap: Overlap) -> Schedule {
        self.overlap = overlap;
        self
    }

    fn into_proto(self) -> v1::Schedule {
        let Schedule { name, cron, time_zone, job, catch_up, overlap } = self;
        let (catch_up, window) = match catch_up {
            CatchUp::Skip => (v1::CatchUp::Skip, None),
            CatchUp::Latest => (v1::CatchUp::Latest, None),
            CatchUp::All(window) => (v1::CatchUp::All, Some(to_proto(window))),
        };
        let overlap = match overlap {
            Overlap::Allow => v1::Overlap::Allow,
            Overlap::Skip => v1::Overlap::Skip,
            Overlap::QueueOne => v1::Overlap::QueueOne,
        };
        v1::Schedule {
            name,
            cron,
            time_zone,
            job: Some(job.into_proto()),
            catch_up: catch_up.into(),
            catch_up_window: window,
            overlap: overlap.into(),
        }
    }
}

/// A schedule as stored, and where it stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoredSchedule {
    /// Its name.
    pub name: String,
    /// Its pattern.
    pub cron: String,
    /// By which clock.
    pub time_zone: String,
    /// Where its jobs go.
    pub queue: String,
    /// Their kind.
    pub kind: String,
    /// Their payload; empty in a list.
    pub payload: Bytes,
    /// Of the payload.
    pub content_type: String,
    /// Their priority; None: the queue's default.
    pub priority: Option<i32>,
    /// After so many failures one is dead; None: the queue's default.
    pub max_attempts: Option<u32>,
    /// How long an attempt may run; None: the queue's default.
    pub timeout: Option<Duration>,
    /// One that hasn't started so long after its fire is cancelled; None: never.
    pub expire_after: Option<Duration>,
    /// What they are found by.
    pub tags: Vec<String>,
    /// What becomes of fires that were missed.
    pub catch_up: CatchUp,
    /// What becomes of fires that overlap.
    pub overlap: Overlap,
    /// Since when it is paused.
    pub paused_at: Option<SystemTime>,
    /// None: it is paused.
    pub next_fire: Option<SystemTime>,
    /// A fire that waits until the job before is over.
    pub waiting_fire: Option<SystemTime>,
    /// The last fire.
    pub last_fire: Option<SystemTime>,
    /// Its job.
    pub last_job: Option<JobId>,
    /// It stands in the file of a broker.
    pub from_file: bool,
    /// The token has [`Scope::View`](crate::Scope::View) and not `Read`: the payload is left out.
    pub hidden: bool,
}

impl Client {
    /// Creates a schedule, or replaces the one of that name.
    pub async fn put_schedule(&self, schedule: Schedule) -> Result<StoredSchedule, Error> {
        let schedule = Some(schedule.into_proto());
        let request = v1::UpdateScheduleRequest { schedule: schedule.clone() };
        let answer = with_retry(self.deadline, || {
            let (mut schedules, request) = (self.schedules.clone(), request.clone());
            async move { schedules.update(request).await }
        });
        match answer.await {
            Err(Error::NotFound { .. }) => {}
            answer => return read(answer?.into_inner().schedule),
        }
        let request = v1::CreateScheduleRequest { schedule };
        let answer = with_retry(self.deadline, || {
            let (mut schedules, request) = (self.schedules.clone(), request.clone());
            async move { schedules.create(request).await }
        });
        read(answer.await?.into_inner().schedule)
    }

    /// Deletes a schedule; its jobs stay. False: there was none of that name.
    pub async fn delete_schedule(&self, name: impl Into<String>) -> Result<bool, Error> {
        let request = v1::DeleteScheduleRequest { name: name.into() };
        let answer = with_retry(self.deadline, || {
            let (mut schedules, request) = (self.schedules.clone(), request.clone());
            async move { schedules.delete(request).await }
        });
        match answer.await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A schedule. [`Error::NotFound`] if there is none of that name.
    pub async fn schedule(&self, name: impl Into<String>) -> Result<StoredSchedule, Error> {
        let request = v1::GetScheduleRequest { name: name.into() };
        let answer = with_retry(self.deadline, || {
            let (mut schedules, request) = (self.schedules.clone(), request.clone());
            async move { schedules.get(request).await }
        });
        read(answer.await?.into_inner().schedule)
    }

    /// All schedules, in the order of their names.
    pub async fn schedules(&self) -> Result<Vec<StoredSchedule>, Error> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListSchedulesRequest { page_size: PAGE_SIZE, page_token };
            let answer = with_retry(self.deadline, || {
                let (mut schedules, request) = (self.schedules.clone(), request.clone());
                async move { schedules.list(request).await }
            });
            let page = answer.await?.into_inner();
            for schedule in page.schedules {
                all.push(read(Some(schedule))?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Makes no fire until it is resumed.
    pub async fn pause_schedule(&self, name: impl Into<String>) -> Result<StoredSchedule, Error> {
        let request = v1::PauseScheduleRequest { name: name.into() };
        let answer = with_retry(self.deadline, || {
            let (mut schedules, request) = (self.schedules.clone(), request.clone());
            async move { schedules.pause(request).await }
        });
        read(answer.await?.into_inner().schedule)
    }

    /// Goes on with the next time that comes.
    pub async fn resume_schedule(&self, name: impl Into<String>) -> Result<StoredSchedule, Error> {
        let request = v1::ResumeScheduleRequest { name: name.into() };
        let answer = with_retry(self.deadline, || {
            let (mut schedules, request) = (self.schedules.clone(), request.clone());
            async move { schedules.resume(request).await }
        });
        read(answer.await?.into_inner().schedule)
    }

    /// Stores a job of a schedule at once, beside its fires.
    pub async fn run_schedule(&self, name: impl Into<String>) -> Result<JobId, Error> {
        let idempotency_key = fresh_key();
        let request = v1::RunScheduleNowRequest { name: name.into(), idempotency_key };
        let answer = with_retry(self.deadline, || {
            let (mut schedules, request) = (self.schedules.clone(), request.clone());
            async move { schedules.run_now(request).await }
        });
        Ok(JobId(answer.await?.into_inner().job_id))
    }

    /// When a schedule fires next: so many times, 1 to 100.
    pub async fn next_fires(
        &self,
        name: impl Into<String>,
        count: u32,
    ) -> Result<Vec<SystemTime>, Error> {
        let request = v1::NextFiresRequest { name: name.into(), count };
        let answer = with_retry(self.deadline, || {
            let (mut schedules, request) = (self.schedules.clone(), request.clone());
            async move { schedules.next_fires(request).await }
        });
        let mut fires = Vec::new();
        for fire in answer.await?.into_inner().fires {
            fires.extend(from_timestamp(Some(fire))?);
        }
        Ok(fires)
    }
}

fn read(stored: Option<v1::StoredSchedule>) -> Result<StoredSchedule, Error> {
    let v1::StoredSchedule {
        schedule,
        paused_at,
        next_fire,
        waiting_fire,
        last_fire,
        last_job_id,
        from_file,
        hidden,
    } = stored.ok_or(Error::Protocol("no schedule in the answer"))?;
    let schedule = schedule.ok_or(Error::Protocol("no schedule in the answer"))?;
    let catch_up = match schedule.catch_up() {
        v1::CatchUp::Unspecified | v1::CatchUp::Skip => CatchUp::Skip,
        v1::CatchUp::Latest => CatchUp::Latest,
        v1::CatchUp::All => CatchUp::All(from_proto(schedule.catch_up_window).unwrap_or_default()),
    };
    let overlap = match schedule.overlap() {
        v1::Overlap::Unspecified | v1::Overlap::Allow => Overlap::Allow,
        v1::Overlap::Skip => Overlap::Skip,
        v1::Overlap::QueueOne => Overlap::QueueOne,
    };
    let job = schedule.job.unwrap_or_default();
    Ok(StoredSchedule {
        name: schedule.name,
        cron: schedule.cron,
        time_zone: schedule.time_zone,
        queue: job.queue,
        kind: job.kind,
        payload: job.payload,
        content_type: job.content_type,
        priority: job.priority,
        max_attempts: Some(job.max_attempts).filter(|max| *max != 0),
        timeout: from_proto(job.timeout),
        expire_after: match job.expiry {
            Some(Expiry::ExpireAfter(after)) => from_proto(Some(after)),
            // Each fire has its own time.
            Some(Expiry::ExpireAt(_)) | None => None,
        },
        tags: job.tags,
        catch_up,
        overlap,
        paused_at: from_timestamp(paused_at)?,
        next_fire: from_timestamp(next_fire)?,
        waiting_fire: from_timestamp(waiting_fire)?,
        last_fire: from_timestamp(last_fire)?,
        last_job: Some(JobId(last_job_id)).filter(|id| id.0 != 0),
        from_file,
        hidden,
    })
}
