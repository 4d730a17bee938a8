//! A TCP proxy for one link, which can be made to misbehave and to lead elsewhere.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use super::fault::{Swallows, Trouble};

const PIECE_BYTES: usize = 64 << 10;
const DRIP_BYTES: usize = 128;
const DRIP_PAUSE: Duration = Duration::from_millis(10);

/// Where a link leads.
#[derive(Clone, Debug)]
pub(super) enum Upstream {
    Tcp(SocketAddr),
    Socket(PathBuf),
}

#[derive(Clone, Debug)]
struct State {
    upstream: Option<Upstream>,
    trouble: Option<Trouble>,
    /// Connections that were made under an older one are reset.
    generation: u64,
}

/// Ends with its connections when it is dropped.
pub(super) struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    _listening: JoinSet<()>,
}

impl Proxy {
    /// On a free port of 127.0.0.1. Until it leads somewhere, connections are closed.
    pub(super) async fn start(upstream: Option<Upstream>) -> Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let address = listener.local_addr()?;
        let state = State { upstream, trouble: None, generation: 0 };
        let (state, watched) = watch::channel(state);
        let mut listening = JoinSet::new();
        listening.spawn(listen(listener, watched));
        Ok(Proxy { address, state, _listening: listening })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections lead from now on.
    pub(super) fn lead_to(&self, upstream: Option<Upstream>) {
        self.state.send_modify(|state| state.upstream = upstream);
    }

    pub(super) fn trouble(&self, trouble: Trouble) {
        self.state.send_modify(|state| state.trouble = Some(trouble));
    }

    /// Passes everything on again, what a black hole has swallowed first.
    pub(super) fn heal(&self) {
        self.state.send_modify(|state| state.trouble = None);
    }

    /// Resets all connections.
    pub(super) fn reset(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

async fn listen(listener: TcpListener, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // The others are passing: too many open files, a client that is gone already.
                let Ok((client, _)) = accepted else {
                    sleep(DRIP_PAUSE).await;
                    continue;
                };
                connections.spawn(connection(client, state.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Errors end a connection, as they do without a proxy.
async fn connection(mut client: TcpStream, state: watch::Receiver<State>) {
    let (upstream, generation) = {
        let state = state.borrow();
        (state.upstream.clone(), state.generation)
    };
    let was_reset = match upstream {
        Some(Upstream::Tcp(address)) => match TcpStream::connect(address).await {
            Ok(mut stream) => {
                // What fails for a connection that has ended shows on it soon.
                let _ = (stream.set_nodelay(true), client.set_nodelay(true));
                pump(&mut client, &mut stream, state, generation).await
            }
            Err(_) => true,
        },
        Some(Upstream::Socket(path)) => match UnixStream::connect(path).await {
            Ok(mut stream) => {
                let _ = client.set_nodelay(true);
                pump(&mut client, &mut stream, state, generation).await
            }
            Err(_) => true,
        },
        None => true,
    };
    if was_reset {
        // Then closing it sends a reset.
        let _ = client.set_zero_linger();
    }
}

/// Until one side ends or the link is reset: true.
async fn pump(
    client: &mut TcpStream,
    upstream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mut state: watch::Receiver<State>,
    generation: u64,
) -> bool {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let (requests, answers) = (state.clone(), state.clone());
    tokio::select! {
        _ = state.wait_for(|state| state.generation != generation) => true,
        _ = carry(&mut from_client, &mut to_upstream, requests, Swallows::Requests) => false,
        _ = carry(&mut from_upstream, &mut to_client, answers, Swallows::Answers) => false,
    }
}

/// Passes on in one direction until it ends.
async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut state: watch::Receiver<State>,
    direction: Swallows,
) -> io::Result<()> {
    let passes = |state: &State| match state.trouble {
        Some(Trouble::BlackHole(swallows)) => swallows != direction && swallows != Swallows::Both,
        _ => true,
    };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        // A full window upstream is part of what a black hole does to its sender.
        let _ = state.wait_for(passes).await;
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        let _ = state.wait_for(passes).await;
        let trouble = state.borrow().trouble;
        match trouble {
            Some(Trouble::Latency(late)) => {
                sleep(late).await;
                to.write_all(&piece[..length]).await?;
            }
            Some(Trouble::Drip) => {
                for drop in piece[..length].chunks(DRIP_BYTES) {
                    to.write_all(drop).await?;
                    if matches!(state.borrow().trouble, Some(Trouble::Drip)) {
                        sleep(DRIP_PAUSE).await;
                    }
                }
            }
            _ => to.write_all(&piece[..length]).await?,
        }
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A proxy before something that answers what it is sent.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Proxy::start(Some(Upstream::Tcp(address))).await.unwrap()
    }

    async fn answers(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 5];
        stream.write_all(b"hello").await.unwrap();
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().is_ok() && &answer == b"hello"
    }

    #[tokio::test]
    async fn a_black_hole_keeps_the_connection_and_what_was_sent() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answers(&mut stream).await);
        proxy.trouble(Trouble::BlackHole(Swallows::Answers));
        stream.write_all(b"hello").await.unwrap();
        let mut answer = [0; 5];
        let silent = timeout(Duration::from_millis(100), stream.read_exact(&mut answer)).await;
        assert!(silent.is_err());
        proxy.heal();
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"hello");
    }

    #[tokio::test]
    async fn a_reset_ends_connections_and_new_ones_go_on() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answers(&mut stream).await);
        proxy.reset();
        let ended = timeout(SOON, stream.read(&mut [0])).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answers(&mut stream).await);
    }

    #[tokio::test]
    async fn latency_and_drip_only_delay() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        for trouble in [Trouble::Latency(Duration::from_millis(20)), Trouble::Drip] {
            proxy.trouble(trouble);
            assert!(answers(&mut stream).await, "{trouble:?}");
        }
    }
}
