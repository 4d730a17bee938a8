//! Changes of jobs: by their ids, with a verdict for each, or of all that a filter finds.

use std::io::{self, IsTerminal, Write};

use currant_worker_sdk::{
    CancelVerdict, Client, DeleteVerdict, JobFilter, JobId, Progress as Changed, RetryVerdict,
};
use serde_json::json;

use crate::{
    end::{End, Failure},
    printer::{Printer, Progress},
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

    /// `what`: the jobs in words, for the question whether that is meant.
    pub(crate) async fn all(
        self,
        client: &Client,
        filter: JobFilter,
        (what, yes): (&str, bool),
        printer: &mut Printer,
    ) -> Result<End, Failure> {
        let verb = self.verb();
        if !yes && !confirmed(&format!("{verb} {what}?"))? {
            return Err(Failure::Usage("nothing was done".to_owned()));
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
        Ok(End::Done)
    }
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
