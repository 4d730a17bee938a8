use currant_proto::v1 as pb;
use tonic::Status;

use super::{Context, filter::Filter, status, status::Violations, stored};
use crate::{
    domain::{JobId, QueueId, Scope},
    pipeline::Caller,
};

const PAGE_SIZE: u32 = 50;
const PAGE_SIZE_MAX: u32 = 500;

impl Context {
    pub(super) async fn list(
        &self,
        caller: &Caller,
        request: pb::ListRequest,
    ) -> Result<pb::ListResponse, Status> {
        let pb::ListRequest { filter, newest_first, page_size, page_token } = request;
        let mut violations = Violations::default();
        let now = self.core.clock.database_micros();
        let filter = Filter::check(filter.unwrap_or_default(), now, &mut violations);
        if page_size > PAGE_SIZE_MAX {
            violations.add("page_size", format!("1 to {PAGE_SIZE_MAX}; this is {page_size}"));
        }
        violations.into_result()?;
        let (queue, mut listing) = filter.listing(&self.core, caller, newest_first).await?;
        if !page_token.is_empty() {
            listing.pass(Token::check(&page_token, queue.id, newest_first)?);
        }
        let size = if page_size == 0 { PAGE_SIZE } else { page_size };
        let page =
            self.core.list(listing, size as usize).await.map_err(|error| status::of(&error))?;
        let reads = caller.allows(Scope::Read);
        let job =
            |job| stored::shown(reads, stored::job(job, (queue.name.clone(), queue.max_attempts)));
        let token = |passed| Token { queue: queue.id, passed, newest_first }.write();
        Ok(pb::ListResponse {
            jobs: page.jobs.into_iter().map(job).collect(),
            next_page_token: page.passed.map(token).unwrap_or_default(),
        })
    }
}

/// Where a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) queue: QueueId,
    pub(super) passed: JobId,
    pub(super) newest_first: bool,
}

impl Token {
    pub(super) fn write(self) -> String {
        let Self { queue, passed, newest_first } = self;
        format!("{:x}{:08x}{:016x}", u8::from(newest_first), queue.0, passed.0)
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() != 25 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let newest_first = match &text[..1] {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        let queue = u32::from_str_radix(&text[1..9], 16).ok()?.cast_signed();
        let passed = u64::from_str_radix(&text[9..], 16).ok()?.cast_signed();
        Some(Self { queue: QueueId(queue), passed: JobId(passed), newest_first })
    }

    /// What has been passed, if the token is of such a listing.
    pub(super) fn check(text: &str, queue: QueueId, newest_first: bool) -> Result<JobId, Status> {
        let read = Self::read(text);
        if let Some(token) = read
            && (token.queue, token.newest_first) == (queue, newest_first)
        {
            return Ok(token.passed);
        }
        Err(status::invalid("page_token", "the one of an answer to a request like this"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written(queue: i32, id: i64, newest_first: bool, text: String) {
            let token = Token { queue: QueueId(queue), passed: JobId(id), newest_first };
            prop_assert_eq!(Token::read(&token.write()), Some(token));
            prop_assert!(Token::read(&text).is_none_or(|token| token.write() == text.to_lowercase()));
            let of_this = Token::check(&token.write(), QueueId(queue), newest_first);
            prop_assert_eq!(of_this.ok(), Some(JobId(id)));
            prop_assert!(Token::check(&token.write(), QueueId(queue), !newest_first).is_err());
        }
    }
}
