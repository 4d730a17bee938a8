//! Finding jobs that are stored.

use std::{borrow::Cow, collections::VecDeque, time::SystemTime};

use currant_proto::v1::{self, ListRequest};

use crate::{
    client::Client,
    error::Error,
    job::JobId,
    retry::with_retry,
    stored_job::{JobState, StoredJob},
};

/// Which jobs of a queue are meant. All that is set has to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFilter {
    pub(crate) filter: v1::JobFilter,
}

impl JobFilter {
    /// All jobs of this queue.
    pub fn queue(queue: impl Into<Cow<'static, str>>) -> JobFilter {
        let queue = queue.into().into_owned();
        JobFilter { filter: v1::JobFilter { queue, ..v1::JobFilter::default() } }
    }

    /// In this state, or in another one that is given. Dead jobs alone are found without a look at the
    /// others.
    pub fn state(mut self, state: JobState) -> JobFilter {
        self.filter.states.push(state.into_proto().into());
        self
    }

    /// Of this kind.
    pub fn kind(mut self, kind: impl Into<Cow<'static, str>>) -> JobFilter {
        self.filter.kind = kind.into().into_owned();
        self
    }

    /// The error of whose last failed attempt contains this, in upper or lower case: at most 128
    /// characters.
    pub fn error(mut self, part: impl Into<String>) -> JobFilter {
        self.filter.error = part.into();
        self
    }

    /// With this tag; `name=value` for metadata. Only jobs that have it are looked at.
    pub fn tag(mut self, tag: impl Into<String>) -> JobFilter {
        self.filter.tag = tag.into();
        self
    }

    /// Stored at this time or later.
    pub fn created_from(mut self, time: SystemTime) -> JobFilter {
        self.filter.created_from = Some(time.into());
        self
    }

    /// Stored before this time.
    pub fn created_before(mut self, time: SystemTime) -> JobFilter {
        self.filter.created_before = Some(time.into());
        self
    }

    /// With greater ids than this one.
    pub fn above(mut self, id: JobId) -> JobFilter {
        self.filter.above_id = id.0;
        self
    }

    /// With smaller ids than this one.
    pub fn below(mut self, id: JobId) -> JobFilter {
        self.filter.below_id = id.0;
        self
    }
}

/// Jobs in the order of their ids, read as they are asked for.
///
/// They come without payload and result, and the error is cut at 500 characters: [`Client::get`] has
/// all of it.
#[derive(Clone, Debug)]
pub struct Listing {
    client: Client,
    request: ListRequest,
    read: VecDeque<StoredJob>,
    at_end: bool,
}

impl Listing {
    /// The newest first; else it is the oldest.
    pub fn newest_first(mut self) -> Listing {
        self.request.newest_first = true;
        self
    }

    /// How many jobs a call asks for: 1 to 500, default 50.
    pub fn page_size(mut self, jobs: u32) -> Listing {
        self.request.page_size = jobs;
        self
    }

    /// Goes on after the page whose [`page_token`](Listing::page_token) this was.
    pub fn from_page(mut self, token: impl Into<String>) -> Listing {
        self.request.page_token = token.into();
        self
    }

    /// Where the next page begins: for a listing that is shown page by page. Empty at the beginning.
    pub fn page_token(&self) -> &str {
        &self.request.page_token
    }

    /// The jobs of the next page, perhaps none though there are more: a call of the broker looks at
    /// 10,000 rows at most. `None`: that was the last page.
    pub async fn next_page(&mut self) -> Result<Option<Vec<StoredJob>>, Error> {
        if !self.read.is_empty() {
            return Ok(Some(self.read.drain(..).collect()));
        }
        if self.at_end {
            return Ok(None);
        }
        let answer = with_retry(self.client.deadline, || {
            let (mut inner, request) = (self.client.inner.clone(), self.request.clone());
            async move { inner.list(request).await }
        });
        let answer = answer.await?.into_inner();
        self.at_end = answer.next_page_token.is_empty();
        self.request.page_token = answer.next_page_token;
        answer.jobs.into_iter().map(StoredJob::from_proto).collect::<Result<_, _>>().map(Some)
    }

    /// The next job, over as many pages as it takes. `None`: there is no more.
    pub async fn next(&mut self) -> Result<Option<StoredJob>, Error> {
        loop {
            if let Some(job) = self.read.pop_front() {
                return Ok(Some(job));
            }
            match self.next_page().await? {
                Some(jobs) => self.read = jobs.into(),
                None => return Ok(None),
            }
        }
    }
}

impl Client {
    /// Looks for jobs. [`Error::NotFound`], at the first page, if there is no such queue.
    pub fn list(&self, filter: JobFilter) -> Listing {
        let request = ListRequest { filter: Some(filter.filter), ..ListRequest::default() };
        Listing { client: self.clone(), request, read: VecDeque::new(), at_end: false }
    }
}
