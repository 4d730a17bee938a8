//! Changing all jobs that a filter finds.

use currant_proto::v1::{self, ChangeAllRequest, ChangeAllResponse};
use tonic::{Code, Status, Streaming};

use crate::{client::Client, error::Error, listing::JobFilter, retry::Reconnect};

/// A change of all jobs that a filter finds, on its way: it goes on as it is asked for progress.
///
/// Jobs that are stored after the call aren't meant. Survives the end of its broker.
#[derive(Debug)]
pub struct ChangeAll {
    client: Client,
    request: ChangeAllRequest,
    stream: Option<Streaming<ChangeAllResponse>>,
    /// Of calls that broke off.
    before: Progress,
    now: Progress,
    done: bool,
    reconnect: Reconnect,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Jobs that the filter has found.
    pub found: u64,
    /// Of these, changed; the change doesn't apply to the others. Too few by what was done right before
    /// a broker's end.
    pub changed: u64,
}

impl ChangeAll {
    /// Waits for some jobs more, 500 at most. `None`: all is done, and that was told.
    /// [`Error::GaveUp`] if the broker can't be reached until the client's
    /// [`deadline`](Client::deadline).
    pub async fn next(&mut self) -> Result<Option<Progress>, Error> {
        while !self.done {
            match self.message().await {
                Ok(ChangeAllResponse { found, changed, page_token }) => {
                    self.reconnect.answered();
                    self.now = Progress { found, changed };
                    self.done = page_token.is_empty();
                    self.request.page_token = page_token;
                    return Ok(Some(self.progress()));
                }
                Err(status) => {
                    self.stream = None;
                    self.before = self.progress();
                    self.now = Progress::default();
                    self.reconnect.lost(status).await?;
                }
            }
        }
        Ok(None)
    }

    /// Goes on to the end.
    pub async fn finish(mut self) -> Result<Progress, Error> {
        while self.next().await?.is_some() {}
        Ok(self.progress())
    }

    /// What has been done so far.
    pub fn progress(&self) -> Progress {
        Progress {
            found: self.before.found + self.now.found,
            changed: self.before.changed + self.now.changed,
        }
    }

    async fn message(&mut self) -> Result<ChangeAllResponse, Status> {
        if self.stream.is_none() {
            let (mut inner, request) = (self.client.inner.clone(), self.request.clone());
            self.stream = Some(inner.change_all(request).await?.into_inner());
        }
        let ended = || Status::new(Code::Unavailable, "the stream of the change ended");
        match &mut self.stream {
            Some(stream) => stream.message().await?.ok_or_else(ended),
            None => Err(ended()),
        }
    }
}

impl Client {
    /// Cancels all jobs that the filter finds and that aren't over. Nothing is done until
    /// [`ChangeAll::next`] or [`ChangeAll::finish`].
    pub fn cancel_all(&self, filter: JobFilter) -> ChangeAll {
        self.change_all(filter, v1::Change::Cancel)
    }

    /// Makes all dead and cancelled jobs that the filter finds ready again, as
    /// [`cancel_all`](Client::cancel_all).
    pub fn retry_all(&self, filter: JobFilter) -> ChangeAll {
        self.change_all(filter, v1::Change::Retry)
    }

    /// Deletes all jobs that the filter finds and that don't run, as
    /// [`cancel_all`](Client::cancel_all).
    pub fn delete_all(&self, filter: JobFilter) -> ChangeAll {
        self.change_all(filter, v1::Change::Delete)
    }

    fn change_all(&self, filter: JobFilter, change: v1::Change) -> ChangeAll {
        let request = ChangeAllRequest {
            filter: Some(filter.filter),
            change: change.into(),
            page_token: String::new(),
        };
        ChangeAll {
            client: self.clone(),
            request,
            stream: None,
            before: Progress::default(),
            now: Progress::default(),
            done: false,
            reconnect: Reconnect::new(self.deadline),
        }
    }
}
