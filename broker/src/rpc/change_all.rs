use currant_proto::v1 as pb;
use futures_util::{Stream, stream};
use tonic::Status;

use super::{Context, filter::Filter, list::Token, status, status::Violations};
use crate::{
    domain::first_id_at_ms,
    pipeline::{Caller, Change, Progress},
};

impl Context {
    pub(super) async fn change_all(
        &self,
        caller: &Caller,
        request: pb::ChangeAllRequest,
    ) -> Result<impl Stream<Item = Result<pb::ChangeAllResponse, Status>> + Send + use<>, Status>
    {
        let change = match request.change() {
            pb::Change::Unspecified => None,
            pb::Change::Cancel => Some(Change::Cancel),
            pb::Change::Retry => Some(Change::Retry),
            pb::Change::Delete => Some(Change::Delete),
        };
        let pb::ChangeAllRequest { filter, change: _, page_token } = request;
        let mut violations = Violations::default();
        let now = self.core.clock.database_micros();
        let filter = Filter::check(filter.unwrap_or_default(), now, &mut violations);
        if change.is_none() {
            violations.add("change", "cancel, retry or delete");
        }
        violations.into_result()?;
        let Some(change) = change else { return Err(status::invalid("change", "has to be set")) };
        let (queue, mut listing) = filter.listing(&self.core, caller, false).await?;
        // What comes meanwhile isn't meant.
        listing.below = listing.below.min(first_id_at_ms(now / 1000 + 1));
        if !page_token.is_empty() {
            listing.pass(Token::check(&page_token, queue.id, false)?);
        }
        let running = self.core.change_all(caller.clone(), listing, change);
        let running = running.map_err(|error| status::of(&error))?;
        Ok(stream::try_unfold(running, move |mut running| {
            let queue = queue.id;
            async move {
                let progress = running.next().await.map_err(|error| status::of(&error))?;
                let Some(Progress { found, changed, passed }) = progress else { return Ok(None) };
                let token = |passed| Token { queue, passed, newest_first: false }.write();
                let page_token = passed.map(token).unwrap_or_default();
                let message = pb::ChangeAllResponse { found, changed, page_token };
                Ok(Some((message, running)))
            }
        }))
    }
}
