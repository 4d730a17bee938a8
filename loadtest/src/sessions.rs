//! Idle worker sessions, by the protocol alone: subscribe, heartbeat, receive nothing.
//!
//! Unlike the SDK's workers these say when their session is open, and ten thousand of them fit into
//! one process.

use anyhow::{Context, Result, bail};
use currant_proto::v1::{
    HeartbeatRequest, SubscribeRequest, SubscribeResponse, Welcome, subscribe_response::Message,
    worker_service_client::WorkerServiceClient,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, interval_at},
};
use tonic::{Streaming, transport::Channel};

use crate::{
    channels::{self, Token},
    settings::Settings,
};

/// Sessions being opened at the same time.
const OPENING_MAX: usize = 64;

/// Open sessions; closed when dropped.
pub(crate) struct Sessions {
    tasks: JoinSet<Result<()>>,
}

impl Sessions {
    /// Opens a session for each worker; all are welcomed when this returns.
    pub(crate) async fn open(
        settings: &Settings,
        endpoint: &str,
        queues: &[String],
    ) -> Result<Sessions> {
        // With --channels 0 each connects for itself.
        let shared = channels::open(
            endpoint,
            settings.ca_file.as_deref(),
            settings.channels.min(settings.workers),
        )
        .await?;
        let own = channels::endpoint(endpoint, settings.ca_file.as_deref())?;
        let open = |number: u32| {
            let (shared, own) = (&shared, &own);
            async move {
                let channel = match shared.get(number as usize % shared.len().max(1)) {
                    Some(channel) => channel.clone(),
                    None => own.connect().await.context("can't connect a session of its own")?,
                };
                Session::open(settings, channel, number, queues).await
            }
        };
        let opened: Vec<Session> = stream::iter((0..settings.workers).map(open))
            .buffer_unordered(OPENING_MAX)
            .try_collect()
            .await?;
        let mut tasks = JoinSet::new();
        for session in opened {
            tasks.spawn(session.stay());
        }
        Ok(Sessions { tasks })
    }

    /// Stays idle for a while. Fails if a session ends meanwhile.
    pub(crate) async fn idle(&mut self, time: Duration) -> Result<()> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            Some(ended) = self.tasks.join_next() => ended?,
        }
    }
}

struct Session {
    token: Option<Token>,
    client: WorkerServiceClient<Channel>,
    stream: Streaming<SubscribeResponse>,
    welcome: Welcome,
}

impl Session {
    async fn open(
        settings: &Settings,
        channel: Channel,
        number: u32,
        queues: &[String],
    ) -> Result<Session> {
        let mut client = WorkerServiceClient::new(channel);
        let request = SubscribeRequest {
            worker: format!("loadtest-idle-{number}"),
            queues: queues.to_vec(),
            max_in_flight: settings.concurrency + settings.prefetch,
            concurrency: settings.concurrency,
            session_id: String::new(),
            held: Vec::new(),
        };
        let mut stream = client
            .subscribe(channels::request(settings.token.as_ref(), request)?)
            .await?
            .into_inner();
        match stream.message().await?.and_then(|response| response.message) {
            Some(Message::Welcome(welcome)) => {
                let token = settings.token.clone();
                Ok(Session { token, client, stream, welcome })
            }
            other => bail!("a stream began with {other:?}, not with a Welcome"),
        }
    }

    /// Heartbeats at the interval of the Welcome; ends only by an error.
    async fn stay(mut self) -> Result<()> {
        let asked = self.welcome.heartbeat_interval.context("a Welcome without an interval")?;
        let every = Duration::try_from(asked).context("a negative heartbeat interval")?;
        let mut beats = interval_at(Instant::now() + every, every);
        loop {
            tokio::select! {
                message = self.stream.message() => {
                    match message?.context("a stream ended")?.message {
                        Some(Message::KeepAlive(_)) => {}
                        other => bail!("an idle session received {other:?}"),
                    }
                }
                _ = beats.tick() => {
                    let request = HeartbeatRequest {
                        session_id: self.welcome.session_id.clone(),
                        epoch: self.welcome.epoch,
                        received_seq: 0,
                        held: Vec::new(),
                        max_in_flight: None,
                    };
                    let request = channels::request(self.token.as_ref(), request)?;
                    self.client.heartbeat(request).await?;
                }
            }
        }
    }
}
