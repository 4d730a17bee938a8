//! The worker processes of a trial, and what they have done together.

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::{select_all, try_join_all};
use serde_json::{Value, json};

use super::{
    install::Node,
    program::{Event, Program, Tally},
};

pub(super) struct Crew {
    workers: Vec<Program>,
    /// By each of them, since it began.
    finished: Vec<u64>,
    last_finished_us: u64,
}

impl Crew {
    /// All are connected; none works yet.
    pub(super) async fn start(
        node: &Node,
        name: &str,
        config: &Value,
        processes: u64,
    ) -> Result<Crew> {
        let workers = (0..processes).map(|_| Program::start(node, name, config));
        let workers = try_join_all(workers).await?;
        Ok(Crew { finished: vec![0; workers.len()], workers, last_finished_us: 0 })
    }

    /// They work from now on. Returns when the first of them began to start.
    pub(super) async fn work(&mut self) -> Result<u64> {
        for worker in &mut self.workers {
            worker.command("start", json!({})).await?;
        }
        let mut start_us = u64::MAX;
        for number in 0..self.workers.len() {
            let answer = loop {
                match self.workers[number].next().await? {
                    Event::Answer(answer) => break answer,
                    event => self.progress(number, event)?,
                }
            };
            start_us = start_us.min(answer.start_us()?);
        }
        Ok(start_us)
    }

    pub(super) async fn rest(&mut self) -> Result<()> {
        for worker in &mut self.workers {
            worker.command("stop", json!({})).await?;
            worker.answer().await?;
        }
        Ok(())
    }

    /// Waits until they have finished so many jobs since they began. Returns when the last one was.
    pub(super) async fn finish(&mut self, jobs: u64) -> Result<u64> {
        while self.finished.iter().sum::<u64>() < jobs {
            let next = self.workers.iter_mut().map(|worker| Box::pin(worker.next()));
            let (event, number, _) = select_all(next).await;
            self.progress(number, event?)?;
        }
        Ok(self.last_finished_us)
    }

    /// What each has seen; an error unless together they did each of the jobs `0..jobs` once.
    pub(super) async fn tallies(&mut self, jobs: u64) -> Result<Vec<Tally>> {
        let mut tallies = Vec::with_capacity(self.workers.len());
        for worker in &mut self.workers {
            worker.command("report", json!({})).await?;
            tallies.push(worker.answer().await?.tally()?);
        }
        check(&tallies, jobs)?;
        Ok(tallies)
    }

    pub(super) async fn stop(self) -> Result<()> {
        for worker in self.workers {
            worker.stop().await?;
        }
        Ok(())
    }

    fn progress(&mut self, number: usize, event: Event) -> Result<()> {
        let Event::Progress { finished, at_us } = event else {
            bail!("a worker should work but says {event:?}");
        };
        self.finished[number] = finished;
        self.last_finished_us = self.last_finished_us.max(at_us);
        Ok(())
    }
}

/// Each of the jobs `0..jobs` started exactly once, in whichever process, and as many are finished.
fn check(tallies: &[Tally], jobs: u64) -> Result<()> {
    let mut starts = vec![0u32; usize::try_from(jobs)?];
    for tally in tallies {
        ensure!(tally.starts.len() as u64 == jobs, "a worker counted other jobs");
        for (sum, digit) in starts.iter_mut().zip(tally.starts.chars()) {
            *sum += digit.to_digit(10).context("a worker's count is no digit")?;
        }
    }
    let missing = starts.iter().filter(|starts| **starts == 0).count();
    let repeated = starts.iter().filter(|starts| **starts > 1).count();
    ensure!(
        missing + repeated == 0,
        "of {jobs} jobs {missing} never started and {repeated} started more than once"
    );
    let finished: u64 = tallies.iter().map(|tally| tally.finished).sum();
    ensure!(finished == jobs, "of {jobs} jobs {finished} were finished");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(starts: &str, finished: u64) -> Tally {
        Tally { starts: starts.to_owned(), finished, latencies_us: Vec::new() }
    }

    #[test]
    fn jobs_may_be_spread_over_processes() {
        assert!(check(&[tally("1001", 2), tally("0110", 2)], 4).is_ok());
    }

    #[test]
    fn a_job_that_is_missing_or_ran_twice_fails_the_run() {
        let wrong = |tallies: &[Tally]| match check(tallies, 4) {
            Ok(()) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(wrong(&[tally("1101", 4)]).contains("1 never started"));
        assert!(wrong(&[tally("1111", 4), tally("0010", 0)]).contains("1 started more than once"));
        assert!(wrong(&[tally("1211", 4)]).contains("1 started more than once"));
        assert!(wrong(&[tally("1111", 3)]).contains("3 were finished"));
        assert!(wrong(&[tally("1111", 5)]).contains("5 were finished"));
        assert!(wrong(&[tally("111", 4)]).contains("other jobs"));
    }
}
