//! A queue is paused and resumed, again and again, whatever goes on meanwhile.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use currant_worker_sdk::Client;
use fastrand::Rng;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    credentials::Credentials,
    history::{Event, Writer},
    queues::PAUSED,
};

/// Between pauses, and of one: longer than any broker takes to hear of it.
const BETWEEN_MS: std::ops::Range<u64> = 2000..4000;
const PAUSE_MS: std::ops::Range<u64> = 4000..6000;
/// Of one call; a pause that fails may still have come about.
const CALL_MAX: Duration = Duration::from_secs(5);
/// After the faults.
const RESUME_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

pub(super) struct Pauses {
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Pauses {
    /// At each broker in turn.
    pub(super) async fn start(
        seed: u64,
        addresses: &[SocketAddr],
        credentials: &Credentials,
        history: &Writer,
    ) -> Result<Pauses> {
        let mut clients = Vec::new();
        for address in addresses {
            clients.push(credentials.connect(*address).await?.deadline(CALL_MAX));
        }
        let stop = CancellationToken::new();
        let rng = Rng::with_seed(seed);
        let task = tokio::spawn(pause_again_and_again(clients, rng, history.clone(), stop.clone()));
        Ok(Pauses { stop, task })
    }

    /// The queue is resumed then.
    pub(super) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await.context("the pauses")?
    }
}

async fn pause_again_and_again(
    clients: Vec<Client>,
    mut rng: Rng,
    history: Writer,
    stop: CancellationToken,
) -> Result<()> {
    // A resume that failed may yet come about, within the next pause.
    let mut doubt = false;
    for client in clients.iter().cycle() {
        let rest =
            async |ms| stop.run_until_cancelled(sleep(Duration::from_millis(ms))).await.is_some();
        if !rest(rng.u64(BETWEEN_MS)).await {
            break;
        }
        if client.pause_queue(PAUSED).await.is_ok() && !doubt {
            history.write(Event::Paused { queue: PAUSED.to_owned() })?;
        }
        rest(rng.u64(PAUSE_MS)).await;
        history.write(Event::ResumeAsked { queue: PAUSED.to_owned() })?;
        doubt = client.resume_queue(PAUSED).await.is_err();
    }
    let deadline = Instant::now() + RESUME_MAX;
    loop {
        match clients[0].resume_queue(PAUSED).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error).context("can't resume"),
            Err(_) => sleep(POLL).await,
        }
    }
}
