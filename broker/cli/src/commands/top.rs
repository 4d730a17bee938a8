use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;
use console::Term;
use currant_worker_sdk::{Client, QueueStats};

use crate::{
    clock,
    end::{End, Failure},
    printer::{Printer, aligned},
    shown::queue as shown,
    values,
};

/// Each of them is asked about in each round.
const QUEUES_MAX: usize = 100;

#[derive(Args)]
pub(crate) struct Top {
    /// Default: all, up to 100
    queues: Vec<String>,
    /// Between two rounds
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "2s")]
    interval: Duration,
    /// End after so many rounds [default: on Ctrl-C]
    #[arg(long, value_name = "NUMBER")]
    rounds: Option<u64>,
}

/// What a round has found.
struct Round {
    queues: Vec<(String, QueueStats)>,
    /// Queues that weren't asked about.
    others: usize,
}

impl Top {
    pub(crate) async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        let live = !printer.is_json() && io::stdout().is_terminal();
        if !live {
            return self.rounds(client, printer, false).await;
        }
        printer.raw("\x1b[?1049h\x1b[?25l")?;
        let ended = tokio::select! {
            ended = self.rounds(client, printer, true) => ended,
            // Without a handler for it Ctrl-C ends the program, and the screen stays as it is.
            signal = tokio::signal::ctrl_c() => match signal {
                Ok(()) => Ok(End::Done),
                Err(error) => Err(Failure::System("waiting for Ctrl-C".to_owned(), error)),
            },
        };
        printer.raw("\x1b[?25h\x1b[?1049l")?;
        ended
    }

    async fn rounds(
        &self,
        client: &Client,
        printer: &mut Printer,
        live: bool,
    ) -> Result<End, Failure> {
        let mut done = 0;
        loop {
            let round = Round::look(client, &self.queues).await?;
            if live {
                printer.raw(&round.screen(height()))?;
            } else {
                let row = |(name, stats): &(String, QueueStats)| shown::stats_row(name, stats);
                let json = |(name, stats): &(String, QueueStats)| shown::stats_json(name, stats);
                printer.things(&round.queues, shown::STATS_HEAD, row, json)?;
            }
            done += 1;
            if self.rounds.is_some_and(|rounds| done >= rounds) {
                return Ok(End::Done);
            }
            tokio::time::sleep(self.interval).await;
        }
    }
}

impl Round {
    /// The busiest first.
    async fn look(client: &Client, named: &[String]) -> Result<Round, Failure> {
        let mut names = named.to_vec();
        if names.is_empty() {
            names = client.queues().await?.into_iter().map(|queue| queue.name).collect();
        }
        let others = names.len().saturating_sub(QUEUES_MAX);
        names.truncate(QUEUES_MAX);
        let mut queues = Vec::new();
        for name in names {
            let stats = client.queue_stats(&name).await?;
            queues.push((name, stats));
        }
        let busy = |stats: &QueueStats| stats.enqueued_per_second + stats.completed_per_second;
        queues.sort_by(|(_, a), (_, b)| {
            busy(b).total_cmp(&busy(a)).then_with(|| b.ready.jobs.cmp(&a.ready.jobs))
        });
        Ok(Round { queues, others })
    }

    /// The whole screen, written over the one before.
    fn screen(&self, height: usize) -> String {
        let sum = |of: fn(&QueueStats) -> f64| -> f64 {
            self.queues.iter().map(|(_, stats)| of(stats)).sum()
        };
        let summary = format!(
            "{}  {} ready, {} running, {:.0} in and {:.0} out a second",
            values::show_time(Some(clock::now())),
            sum(|stats| stats.ready.jobs as f64),
            sum(|stats| stats.running as f64),
            sum(|stats| stats.enqueued_per_second),
            sum(|stats| stats.completed_per_second),
        );
        let head = shown::STATS_HEAD.iter().map(|&name| name.to_owned()).collect();
        let rows = self.queues.iter().map(|(name, stats)| shown::stats_row(name, stats));
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
        let mut lines = vec![summary, String::new()];
        lines.extend(aligned(&rows));
        if self.others > 0 {
            lines.push(format!("and {} queues more: name those that are wanted", self.others));
        }
        // The last line isn't ended: the screen would move.
        lines.truncate(height.max(1));
        format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"))
    }
}

/// Lines of the terminal.
fn height() -> usize {
    usize::from(Term::stdout().size().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_has_no_more_lines_than_the_terminal() {
        let round = Round { queues: Vec::new(), others: 3 };
        let screen = round.screen(24);
        assert!(screen.starts_with("\x1b[H") && screen.contains("and 3 queues more"), "{screen}");
        assert_eq!(round.screen(2).matches("\r\n").count(), 1);
    }
}
