//! Changes of jobs: by their ids, with a verdict for each, or of all that a filter finds.

use std::io::{self, IsTerminal, Write};

use currant_worker_sdk::{
    CancelVerdict, Client, DeleteVerdict, JobCount, JobFilter, JobId, Progress as Changed,
    RetryVerdict,
};
use serde_json::json;

use crate::{
    end::{End, Failure},
    filter::{Meant, PAGE_SIZE_MAX, StateArg},
    printer::{Printer, Progress},
    shown,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Cancel,
    Retry,
    Delete,
}

impl Change {
    fn verb(self) -> &'static str {
        match self {
            Change::Cancel => "cancel",
            Change::Retry => "retry",
            Change::Delete => "delete",
        }
    }

    /// Jobs that it applies to; empty: whichever. One that runs is no job to delete, and that is said.
    fn states(self) -> &'static [StateArg] {
        match self {
            Change::Cancel => &[StateArg::Scheduled, StateArg::Ready, StateArg::Running],
            Change::Retry => &[StateArg::Dead, StateArg::Cancelled],
            Change::Delete => &[],
        }
    }

    pub(crate) async fn each(
        self,
        client: &Client,
        ids: &[JobId],
        printer: &mut Printer,
    ) -> Result<End, Failure> {
        let named = ids.iter().copied();
        let verdicts: Vec<(&str, End)> = match self {
            Change::Cancel => {
                client.cancel_many(named).await?.into_iter().map(cancel_verdict).collect()
            }
            Change::Retry => {
                client.retry_many(named).await?.into_iter().map(retry_verdict).collect()
            }
            Change::Delete => {
                client.delete_many(named).await?.into_iter().map(delete_verdict).collect()
            }
        };
        let rows: Vec<(JobId, &str)> =
            ids.iter().zip(&verdicts).map(|(id, (verdict, _))| (*id, *verdict)).collect();
        printer.things(
            &rows,
            &["ID", "VERDICT"],
            |(id, verdict)| vec![id.to_string(), (*verdict).to_owned()],
            |(id, verdict)| json!({ "id": id.to_string(), "verdict": verdict }),
        )?;
        Ok(verdicts.into_iter().map(|(_, end)| end).max().unwrap_or(End::Done))
    }

    pub(crate) async fn all(
        self,
        client: &Client,
        meant: Meant,
        printer: &mut Printer,
    ) -> Result<End, Failure> {
        let verb = self.verb();
        let Meant { queue, states, filter, yes } = meant;
        let what = words(&queue, &states, filter.is_empty());
        let states = if states.is_empty() { self.states() } else { &states };
        let every = filter.is_empty();
        let filter = filter.filter(queue.clone(), states);
        if !yes {
            let count = if every {
                standing(client, &queue, states).await?
            } else {
                found(client, filter.clone()).await?
            };
            if !confirmed(&format!("{verb} {what}{count}?"))? {
                return Err(Failure::Usage("nothing was done".to_owned()));
            }
        }
        let mut change = match self {
            Change::Cancel => client.cancel_all(filter),
            Change::Retry => client.retry_all(filter),
            Change::Delete => client.delete_all(filter),
        };
        let mut progress = Progress::new();
        while let Some(Changed { found, changed, .. }) = change.next().await? {
            progress.show(&format!("{verb}: {found} found, {changed} changed"));
        }
        drop(progress);
        let Changed { found, changed, .. } = change.progress();
        let sentence = format!("{found} found, {changed} changed");
        printer.done(&sentence, &json!({ "found": found, "changed": changed }))?;
        Ok(if changed < found { End::Refused } else { End::Done })
    }
}

/// `all scheduled or ready jobs of emails that the filter finds`
fn words(queue: &str, states: &[StateArg], every: bool) -> String {
    let states: Vec<&str> = states.iter().map(|one| shown::job::state(one.state())).collect();
    let states = if states.is_empty() { String::new() } else { states.join(" or ") + " " };
    let which = if every { "" } else { " that the filter finds" };
    format!("all {states}jobs of {queue}{which}")
}

/// How many jobs of a queue are in these states, from what its statistics say.
async fn standing(client: &Client, queue: &str, states: &[StateArg]) -> Result<String, Failure> {
    let stats = client.queue_stats(queue).await?;
    let counted = |count: JobCount| (count.jobs, count.exact);
    let all = [
        (StateArg::Scheduled, counted(stats.scheduled)),
        (StateArg::Ready, counted(stats.ready)),
        (StateArg::Running, (stats.running, true)),
        (StateArg::Succeeded, counted(stats.succeeded)),
        (StateArg::Dead, counted(stats.dead)),
        (StateArg::Cancelled, counted(stats.cancelled)),
    ];
    let wanted = all.iter().filter(|(state, _)| states.is_empty() || states.contains(state));
    let (jobs, exact) =
        wanted.fold((0, true), |(jobs, exact), (_, count)| (jobs + count.0, exact && count.1));
    Ok(format!(" ({}{jobs})", if exact { "" } else { "~" }))
}

/// How many a filter finds, from one look.
async fn found(client: &Client, filter: JobFilter) -> Result<String, Failure> {
    let mut listing = client.list(filter).page_size(PAGE_SIZE_MAX);
    let jobs = listing.next_page().await?.map_or(0, |jobs| jobs.len());
    let more = if listing.page_token().is_empty() { "" } else { " or more" };
    Ok(format!(" ({jobs}{more})"))
}

/// Asks whoever sits at the terminal.
pub(crate) fn confirmed(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{question} Say so with --yes")));
    }
    let asking = |error| Failure::System("asking".to_owned(), error);
    let mut terminal = io::stderr().lock();
    write!(terminal, "{question} [y/N] ").and_then(|()| terminal.flush()).map_err(asking)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(asking)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

fn cancel_verdict(verdict: CancelVerdict) -> (&'static str, End) {
    match verdict {
        CancelVerdict::Cancelled => ("cancelled", End::Done),
        CancelVerdict::Requested => ("requested", End::Done),
        CancelVerdict::Finished => ("finished", End::Refused),
        CancelVerdict::NotFound => ("not_found", End::NotFound),
        _ => ("unknown", End::Refused),
    }
}

fn retry_verdict(verdict: RetryVerdict) -> (&'static str, End) {
    match verdict {
        RetryVerdict::Ready => ("ready", End::Done),
        RetryVerdict::Open => ("open", End::Refused),
        RetryVerdict::Succeeded => ("succeeded", End::Refused),
        RetryVerdict::NotFound => ("not_found", End::NotFound),
        _ => ("unknown", End::Refused),
    }
}

fn delete_verdict(verdict: DeleteVerdict) -> (&'static str, End) {
    match verdict {
        DeleteVerdict::Deleted => ("deleted", End::Done),
        DeleteVerdict::Running => ("running", End::Refused),
        DeleteVerdict::NotFound => ("not_found", End::NotFound),
        _ => ("unknown", End::Refused),
    }
}
