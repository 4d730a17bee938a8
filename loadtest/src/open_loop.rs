//! Sends the calls of an open loop as they become due, by gRPC or by SQL.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_postgres::{Client, Statement};

use crate::{
    jobs::{Stamp, json_payload},
    pacer::Due,
    probe,
    producers::Sender,
    recorder::Recorder,
    settings::Settings,
    workers::KIND,
};

/// Jobs of one statement; each is one call of the function that SQL users have.
const ENQUEUE: &str = "-- loadtest_enqueue
SELECT currant.enqueue(queue => $1::text, kind => $2::text, payload => p::jsonb)
FROM unnest($3::text[]) AS p";

/// Where calls go.
pub(crate) enum Target {
    Grpc(Vec<Sender>),
    Sql(Vec<Arc<SqlSender>>),
}

/// Enqueues on one connection to Postgres; statements are pipelined.
pub(crate) struct SqlSender {
    client: Client,
    enqueue: Statement,
    recorder: Arc<Recorder>,
    queues: Arc<[String]>,
    payload_bytes: u32,
}

/// Sends every call when it comes; returns when all are answered. How many are under way is bounded
/// by the length of the schedule only: an open loop doesn't wait.
pub(crate) async fn send_all(mut due: mpsc::Receiver<Due>, target: &Target) -> Result<()> {
    let mut calls = JoinSet::new();
    while let Some(Due { call, first, count, intended_ns }) = due.recv().await {
        match target {
            Target::Grpc(senders) => {
                let sender = senders[call as usize % senders.len()].clone();
                calls.spawn(async move {
                    sender.send(call, first, count, intended_ns).await;
                });
            }
            Target::Sql(senders) => {
                let sender = Arc::clone(&senders[call as usize % senders.len()]);
                calls.spawn(async move { sender.send(call, first, count, intended_ns).await });
            }
        }
        while let Some(ended) = calls.try_join_next() {
            ended?;
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended?;
    }
    Ok(())
}

impl SqlSender {
    /// One for each producer, with a connection of its own.
    pub(crate) async fn for_producers(
        settings: &Settings,
        database_url: &str,
        queues: &[String],
        recorder: &Arc<Recorder>,
    ) -> Result<Vec<Arc<SqlSender>>> {
        let config = database_url.parse().context("the database's address can't be read")?;
        let one = async || {
            let client = probe::postgres::connect(&config).await?;
            let enqueue = client.prepare(ENQUEUE).await?;
            anyhow::Ok(Arc::new(SqlSender {
                client,
                enqueue,
                recorder: Arc::clone(recorder),
                queues: queues.into(),
                payload_bytes: settings.payload_bytes,
            }))
        };
        try_join_all((0..settings.producers).map(|_| one())).await
    }

    async fn send(&self, call: u64, first: u64, count: u32, intended_ns: u64) {
        let queue = &self.queues[(call % self.queues.len() as u64) as usize];
        let payloads: Vec<String> = (first..first + u64::from(count))
            .map(|index| json_payload(Stamp { index, intended_ns }, self.payload_bytes))
            .collect();
        self.recorder.issued(first, intended_ns);
        match self.client.query(&self.enqueue, &[queue, &KIND, &payloads]).await {
            Ok(rows) => {
                let ids = rows.iter().map(|row| row.get(0)).collect();
                self.recorder.acknowledged(first, intended_ns, ids);
            }
            Err(error) => self.recorder.failed(&error),
        }
    }
}
