//! Watches a run: samples for the plot, the progress bar, and the moment at which it is over.

use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval};

use crate::{probe::machine, settings::Settings, trial::Trial};

const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// The broker's life, the connections to Postgres and the host are looked at once in so many samples:
/// 0.5 s.
const LOOK_EVERY: usize = 50;
/// A run without any progress for so long, besides the work of a job, is given up.
const STALL: Duration = Duration::from_secs(60);

/// Totals at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// On the run's clock.
    pub(crate) at_ns: u64,
    pub(crate) acknowledged: u64,
    pub(crate) finished: u64,
    /// What a host had taken of all cores' time by the last look at it.
    pub(crate) stolen_ms: u64,
}

impl Sample {
    fn same_counts(&self, other: &Sample) -> bool {
        (self.acknowledged, self.finished) == (other.acknowledged, other.finished)
    }
}

/// What was seen during a run.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) samples: Vec<Sample>,
    /// The most client connections seen.
    pub(crate) postgres_connections: Option<u32>,
    /// Jobs acknowledged and not finished when the last Enqueue was answered.
    pub(crate) unfinished_after_load: u64,
    /// No progress: the run was given up.
    pub(crate) stalled: bool,
}

/// What a phase of a run works towards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Every call is answered.
    Enqueued,
    /// And every acknowledged job is finished.
    Finished,
}

impl Trial {
    /// Drives `load` and samples until the goal is reached.
    ///
    /// Fails with what `load` fails with, and when the broker dies. A run that stalls is no error:
    /// the check will say what is missing.
    pub(crate) async fn watch(
        &mut self,
        goal: Goal,
        load: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let mut load = std::pin::pin!(load);
        let mut loading = true;
        let bar = bar(&self.settings, goal);
        let mut ticks = interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut stolen_ms = machine::stolen_ms();
        let mut last = self.sample(stolen_ms);
        let mut progress_ns = last.at_ns;
        for tick in 1.. {
            tokio::select! {
                ended = &mut load, if loading => {
                    ended?;
                    loading = false;
                    let now = self.sample(stolen_ms);
                    self.seen.unfinished_after_load = now.acknowledged.saturating_sub(now.finished);
                }
                _ = ticks.tick() => {}
            }
            let sample = self.sample(stolen_ms);
            self.seen.samples.push(sample);
            bar.set_position(match goal {
                Goal::Enqueued => sample.acknowledged,
                Goal::Finished => sample.finished,
            });
            if !loading && (goal == Goal::Enqueued || sample.finished >= sample.acknowledged) {
                break;
            }
            // An open loop can be slower than one job in that time.
            if !sample.same_counts(&last) || (loading && self.settings.rate.is_some()) {
                progress_ns = sample.at_ns;
            }
            last = sample;
            if Duration::from_nanos(sample.at_ns - progress_ns) > stall_max(&self.settings) {
                self.seen.stalled = true;
                break;
            }
            if tick % LOOK_EVERY == 0 {
                self.stack.check_broker()?;
                stolen_ms = machine::stolen_ms();
                self.look_at_connections().await?;
            }
        }
        self.look_at_connections().await?;
        bar.finish_and_clear();
        Ok(())
    }

    fn sample(&self, stolen_ms: u64) -> Sample {
        // In this order: a job can't be seen finished before it is seen acknowledged for long.
        let finished = self.recorder.finished_count();
        let acknowledged = self.recorder.acknowledged_count();
        Sample { at_ns: self.recorder.clock.now_ns(), acknowledged, finished, stolen_ms }
    }

    async fn look_at_connections(&mut self) -> Result<()> {
        if let Some(probe) = &self.probe {
            let now = probe.connections().await?;
            self.seen.postgres_connections = self.seen.postgres_connections.max(Some(now));
        }
        Ok(())
    }
}

fn stall_max(settings: &Settings) -> Duration {
    STALL + 3 * Duration::from_millis(settings.work_ms.into())
}

/// On standard error, if that is a terminal. A run by time has no length.
fn bar(settings: &Settings, goal: Goal) -> ProgressBar {
    let by_time = settings.duration_seconds.is_some() && settings.rate.is_none();
    let (bar, template) = if by_time {
        (ProgressBar::no_length(), "{prefix} {spinner} {human_pos} jobs  {elapsed}  {per_sec}")
    } else {
        let bar = ProgressBar::new(settings.backlog + settings.jobs);
        (bar, "{prefix} [{bar:40}] {human_pos}/{human_len} jobs  {elapsed}  {per_sec}")
    };
    let style = ProgressStyle::with_template(template).expect("the template is a valid constant");
    bar.with_style(style.progress_chars("=> ")).with_prefix(match goal {
        Goal::Enqueued => "enqueued",
        Goal::Finished => "finished",
    })
}
