//! One measured run: what all of them do before and after their load.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::time::sleep;

use crate::{
    histogram::Percentiles,
    history,
    jobs::Layout,
    old_snapshot::OldSnapshot,
    probe::{
        machine::Machine,
        postgres::{Counters, JobUpdates, PostgresProbe},
        process,
    },
    queue_limits,
    recorder::Recorder,
    report::{Details, Figures, Report, Series, Windows},
    settings::{Mode, Settings},
    stack::Stack,
    verify::{Verification, verify},
    watch::Seen,
    workers::Workers,
};

/// After this long an idle backend of Postgres has reported its counters: PGSTAT_IDLE_INTERVAL of
/// 10 s, and one more.
pub(crate) const COUNTERS_LAG: Duration = Duration::from_secs(11);

/// A stack under test, and what is known of it.
pub(crate) struct Trial {
    pub(crate) settings: Settings,
    pub(crate) stack: Stack,
    pub(crate) probe: Option<PostgresProbe>,
    pub(crate) recorder: Arc<Recorder>,
    /// Set where the time doesn't begin with an enqueue: `drain`, `mixed`.
    pub(crate) timed_from_ns: Option<u64>,
    /// Names that no other run has used.
    pub(crate) queues: Vec<String>,
    pub(crate) seen: Seen,
    old_snapshot: Option<OldSnapshot>,
    /// Jobs with smaller ids are none of this run's.
    first_id: i64,
    before: Option<Before>,
}

/// Counters at the start of what is measured.
struct Before {
    at_ns: u64,
    postgres: Option<(Counters, JobUpdates)>,
    broker_cpu: Option<Duration>,
    load_cpu: Option<Duration>,
}

impl Trial {
    /// Starts what there is to start; no job is sent yet.
    pub(crate) async fn prepare(settings: &Settings) -> Result<Trial> {
        let run = format!("{:x}-{:x}", chrono::Utc::now().timestamp_millis(), std::process::id());
        let mut queues: Vec<_> =
            (0..settings.queues).map(|n| format!("loadtest.{run}.{n}")).collect();
        if settings.mode == Mode::Mixed {
            queues.push(format!("loadtest.{run}.backlog"));
        }
        let first_id = history::first_id_of_a_run();
        let stack = Stack::start(settings, &queues).await?;
        queue_limits::set(settings, stack.endpoint(), &queues).await?;
        let probe = stack.probe().await?;
        let layout = if settings.sql { Layout::Json } else { Layout::Binary };
        let by_time = settings.rate.is_none() && settings.duration_seconds.is_some();
        let counted_from = if by_time { u64::MAX } else { settings.warmup_jobs() };
        let recorder = Recorder::new(
            layout,
            settings.numbers(),
            settings.workers,
            settings.load_threads,
            counted_from,
        );
        Ok(Trial {
            timed_from_ns: None,
            queues,
            settings: settings.clone(),
            stack,
            probe,
            recorder: Arc::new(recorder),
            seen: Seen::default(),
            old_snapshot: None,
            first_id,
            before: None,
        })
    }

    pub(crate) async fn start_workers(&self) -> Result<Workers> {
        Workers::start(&self.settings, self.stack.endpoint(), &self.queues, &self.recorder).await
    }

    /// Waits until all sessions are open, and limited queues have owners.
    pub(crate) async fn ready(&self, workers: &mut Workers) -> Result<()> {
        workers.ready().await?;
        queue_limits::owned(&self.settings, self.stack.endpoint(), &self.queues).await
    }

    /// What follows is measured.
    pub(crate) async fn measure_from_here(&mut self) -> Result<()> {
        if self.settings.old_snapshot {
            let url = self.stack.database_url();
            let url = url.context("--old-snapshot needs access to the database")?;
            self.old_snapshot = Some(OldSnapshot::open(url).await?);
        }
        let postgres = match &self.probe {
            Some(probe) => Some((probe.counters().await?, probe.job_updates().await?)),
            None => None,
        };
        self.before = Some(Before {
            at_ns: self.recorder.clock.now_ns(),
            postgres,
            broker_cpu: self.stack.broker_pid().and_then(process::cpu),
            load_cpu: process::cpu(std::process::id()),
        });
        Ok(())
    }

    /// Takes the figures, stops everything, and checks every job.
    pub(crate) async fn conclude(mut self, workers: Workers) -> Result<Report> {
        let before = self.before.take().expect("every mode measures from somewhere");
        let mut figures = Figures::default();
        // First what grows with time.
        let load_cpu = since(process::cpu(std::process::id()), before.load_cpu);
        let broker = self.stack.broker_pid();
        let broker_cpu = since(broker.and_then(process::cpu), before.broker_cpu);
        figures.broker_rss_bytes = broker.and_then(process::rss_bytes);
        let postgres_now = match &self.probe {
            Some(probe) => Some(probe.counters().await?),
            None => None,
        };

        if let Some(snapshot) = self.old_snapshot.take() {
            snapshot.close().await?;
        }
        let worker_error = workers.shutdown().await.err();
        self.stack.stop_broker().await?;
        let stored = match &self.probe {
            Some(probe) => {
                if !self.stack.is_private() {
                    sleep(COUNTERS_LAG).await;
                }
                Some(probe.stored_jobs(&self.queues, self.first_id).await?)
            }
            None => None,
        };
        let (stored, claimed) = stored.unzip();
        self.rates(&mut figures);
        let machine = Machine::look(self.postgres_settings().await?);
        let counted_jobs = self.recorder.acknowledged_count();
        let per_job = |total: f64| (counted_jobs > 0).then(|| total / counted_jobs as f64);
        let micros = |cpu: Option<Duration>| per_job(cpu?.as_secs_f64() * 1e6);
        figures.load_cpu_us_per_job = micros(load_cpu);
        figures.broker_cpu_us_per_job = micros(broker_cpu);
        if let (Some(probe), Some((first, updates)), Some(now)) =
            (&self.probe, &before.postgres, postgres_now)
        {
            let late = probe.counters().await?;
            let updates_now = probe.job_updates().await?;
            figures.wal_bytes_per_job = per_job((now.wal_bytes - first.wal_bytes) as f64);
            figures.transactions_per_job = per_job((late.transactions - first.transactions) as f64);
            figures.postgres_cpu_us_per_job = micros(since(now.cpu, first.cpu));
            figures.hot_update_percent =
                percent(updates_now.hot - updates.hot, updates_now.all - updates.all);
        }
        figures.postgres_connections = self.seen.postgres_connections;
        figures.claimed_percent = claimed
            .zip(stored.as_ref().map(Vec::len))
            .and_then(|(claimed, stored)| percent(claimed as i64, stored as i64));
        let table = match &self.probe {
            Some(probe) => Some(probe.job_table().await?),
            None => None,
        };
        let mut verification = verify(&self.recorder, stored, self.seen.stalled);
        verification.worker_error = worker_error.map(|error| format!("{error:#}"));
        figures.take_verification(&verification);
        let mut report = self.report(figures, verification, machine, before.at_ns);
        report.table = table;
        self.stack.stop().await?;
        Ok(report)
    }

    /// Throughput and latency, over the jobs that count: those from number `counted_from` on. The
    /// clock runs from the moment when the first call with such jobs was issued.
    fn rates(&self, figures: &mut Figures) {
        let recorder = &self.recorder;
        let counted = recorder.acknowledged_from(recorder.counted_from());
        if let Some(start_ns) = recorder.counted_start_ns() {
            let rate = |end_ns: u64| {
                let seconds = end_ns.saturating_sub(start_ns) as f64 / 1e9;
                (seconds > 0.0 && counted > 0).then(|| counted as f64 / seconds)
            };
            figures.enqueue_jobs_per_s = rate(recorder.last_acknowledged_ns());
            // A backlog ends later than what counts.
            let alone = self.settings.backlog == 0;
            figures.end_to_end_jobs_per_s = rate(recorder.last_finished_ns()).filter(|_| alone);
        }
        if let Some(from_ns) = self.timed_from_ns {
            let seconds = recorder.last_finished_ns().saturating_sub(from_ns) as f64 / 1e9;
            let finished = recorder.finished_count();
            let rate = (finished > 0 && seconds > 0.0).then(|| finished as f64 / seconds);
            (figures.end_to_end_jobs_per_s, figures.drain_jobs_per_s) = match self.settings.mode {
                Mode::Drain => (None, rate),
                _ => (rate, None),
            };
        }
        figures.enqueue_latency_ms = Percentiles::of(&recorder.enqueue_latency.merged());
        if self.settings.mode != Mode::Drain {
            figures.start_latency_ms = Percentiles::of(&recorder.start_latency.merged());
            figures.elsewhere_start_latency_ms =
                Percentiles::of(&recorder.elsewhere_latency.merged());
        }
    }

    /// Over the time in which there was load: to the last Enqueue that was answered, without workers
    /// before to the last completion.
    fn windows(&self) -> Option<Windows> {
        let recorder = &self.recorder;
        let load = match self.settings.mode {
            Mode::Drain => (self.timed_from_ns?, recorder.last_finished_ns()),
            _ => {
                let from_ns = self.timed_from_ns.or(recorder.counted_start_ns())?;
                (from_ns, recorder.last_acknowledged_ns())
            }
        };
        Windows::of(&self.seen.samples, load, self.settings.window_seconds)
    }

    async fn postgres_settings(&self) -> Result<Option<Vec<(String, String)>>> {
        match &self.probe {
            Some(probe) => probe.settings().await.map(Some),
            None => Ok(None),
        }
    }

    fn report(
        &self,
        figures: Figures,
        verification: Verification,
        machine: Machine,
        start_ns: u64,
    ) -> Report {
        let starts = self.recorder.worker_starts();
        let details = Details {
            jobs: Some(verification.acknowledged),
            seconds: Some(self.recorder.last_finished_ns().saturating_sub(start_ns) as f64 / 1e9),
            busiest_worker_jobs: starts.iter().max().copied(),
            idlest_worker_jobs: starts.iter().min().copied(),
            handler_ms: self.recorder.handler_ms(),
            unfinished_after_load: (self.settings.mode != Mode::Drain)
                .then_some(self.seen.unfinished_after_load),
            ..Details::default()
        };
        let mut report = Report::new(&self.settings, machine);
        report.passed = verification.passed();
        report.figures = figures;
        report.details = details;
        report.verification = Some(verification);
        report.windows = self.windows();
        report.series = Series::of(&self.seen.samples, start_ns);
        report.enqueue_histogram = Some(self.recorder.enqueue_latency.merged());
        if self.settings.mode != Mode::Drain {
            report.start_histogram = Some(self.recorder.start_latency.merged());
        }
        report
    }
}

fn since(now: Option<Duration>, then: Option<Duration>) -> Option<Duration> {
    Some(now?.saturating_sub(then?))
}

fn percent(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}
