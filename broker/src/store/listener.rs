use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio_postgres::AsyncMessage;

use super::{Address, StoreError, notify::CHANNEL};
use crate::domain::{QueueId, ReadyIn};

/// What the listener heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Listening began: whatever was said before is missed.
    Listening,
    /// A queue has new ready rows.
    Ready(ReadyIn),
    /// Jobs were scheduled.
    Scheduled,
    /// Attempts that another broker holds were cancelled: this one's, perhaps.
    Cancelled,
    /// Tokens were created or revoked.
    Tokens,
    /// Queues were changed.
    Queues,
    /// Schedules were written.
    Schedules,
}

/// A connection of its own that only listens, and is always read: one that isn't would hold back
/// vacuum.
pub struct Listener;

impl Listener {
    /// Connects and listens; the stream ends with an error when the connection does.
    /// Leaves out what the broker `me` said itself.
    pub async fn listen(
        address: &Address,
        me: i32,
        connect_timeout: Duration,
    ) -> Result<impl Stream<Item = Result<Notice, StoreError>> + Unpin + use<>, StoreError> {
        let failed = |error| StoreError::of("listen", error);
        let (mut config, tls) = address.parse().map_err(|source| StoreError::Unavailable {
            statement: "listen",
            source: source.into(),
        })?;
        config.application_name("currant-broker listener");
        config.connect_timeout(connect_timeout);
        let (client, mut connection) = config.connect(tls).await.map_err(failed)?;
        let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx)).boxed();
        let mut listen = Box::pin(async move {
            client.batch_execute(&format!("/* listen */ LISTEN {CHANNEL}")).await.map(|()| client)
        });
        // Reads messages while the statement runs: nothing else drives the connection.
        let client = loop {
            tokio::select! {
                client = &mut listen => break client.map_err(failed)?,
                message = messages.next() => match message {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(failed(error)),
                    None => return Err(closed()),
                },
            }
        };
        let heard = messages.filter_map(move |message| {
            // The connection lives as long as its client.
            let _ = &client;
            std::future::ready(notice(message, me))
        });
        let end = stream::once(std::future::ready(Err(closed())));
        Ok(Box::pin(stream::once(async { Ok(Notice::Listening) }).chain(heard).chain(end)))
    }
}

fn notice(
    message: Result<AsyncMessage, tokio_postgres::Error>,
    me: i32,
) -> Option<Result<Notice, StoreError>> {
    match message {
        Ok(AsyncMessage::Notification(notification)) => parse(notification.payload(), me).map(Ok),
        Ok(_) => None,
        Err(error) => Some(Err(StoreError::of("listen", error))),
    }
}

/// A payload is `scheduled`, `tokens`, `queues` or `schedules`, or `cancelled` or a queue's number, behind
/// which a k stands if it is about jobs with keys; each with the broker's number or without: `queue/broker`.
fn parse(payload: &str, me: i32) -> Option<Notice> {
    match payload {
        "scheduled" => return Some(Notice::Scheduled),
        "tokens" => return Some(Notice::Tokens),
        "queues" => return Some(Notice::Queues),
        "schedules" => return Some(Notice::Schedules),
        _ => {}
    }
    let (queue, broker) = payload.split_once('/').unwrap_or((payload, ""));
    if broker.parse() == Ok(me) {
        return None;
    }
    if queue == "cancelled" {
        return Some(Notice::Cancelled);
    }
    let (number, keyed) = queue.strip_suffix('k').map_or((queue, false), |number| (number, true));
    let queue = number.parse().ok().map(QueueId);
    let notice = queue.map(|queue| Notice::Ready(ReadyIn { queue, keyed }));
    if notice.is_none() {
        tracing::debug!("a notification that names no queue was left aside");
    }
    notice
}

fn closed() -> StoreError {
    StoreError::Unavailable { statement: "listen", source: "the connection was closed".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads() {
        let ready = |keyed| Some(Notice::Ready(ReadyIn { queue: QueueId(7), keyed }));
        assert_eq!([parse("7", 1), parse("7/2", 1)], [ready(false), ready(false)]);
        assert_eq!([parse("7k", 1), parse("7k/2", 1)], [ready(true), ready(true)]);
        assert_eq!([parse("7/1", 1), parse("7k/1", 1)], [None, None], "said by this broker");
        assert_eq!(parse("scheduled", 1), Some(Notice::Scheduled));
        assert_eq!(parse("tokens", 1), Some(Notice::Tokens));
        assert_eq!(parse("schedules", 1), Some(Notice::Schedules));
        assert_eq!(parse("queues", 1), Some(Notice::Queues));
        assert_eq!(parse("cancelled/2", 1), Some(Notice::Cancelled));
        assert_eq!(parse("cancelled/1", 1), None, "said by this broker");
        assert_eq!(parse("", 1), None);
    }
}
