use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Limits, Port, Tls,
    connection::{Connection, Patience, Place},
    refused,
};

/// After an error of accept: a lack of descriptors or memory, that goes when what is open ends.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts the connections of a port and does their handshakes side by side: one that takes its time holds
/// up none. A connection over the limit is closed at once.
pub struct Listener {
    listener: TcpListener,
    port: Port,
    tls: Option<Tls>,
    limits: Limits,
    places: Arc<Semaphore>,
    handshakes: JoinSet<Option<(Connection, SocketAddr)>>,
}

impl Listener {
    /// `tls`: `None` for a port without.
    pub fn new(listener: TcpListener, port: Port, tls: Option<Tls>, limits: Limits) -> Self {
        let max = limits.connections_max as f64;
        metrics::gauge!("currant_connections_max", "port" => port.name()).set(max);
        metrics::gauge!("currant_connections", "port" => port.name()).set(0.0);
        let places = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
        Self { listener, port, tls, limits, places, handshakes: JoinSet::new() }
    }

    /// The next connection whose handshake is done. Cancel safe.
    pub async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, address)) => {
                        if let Some(connection) = self.admit(stream, address) {
                            return (connection, address);
                        }
                    }
                    // It was gone before it was here.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        refused("descriptors");
                        tracing::debug!(%error, "no connection can be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// `None`: refused, or its handshake comes first.
    fn admit(&mut self, stream: TcpStream, address: SocketAddr) -> Option<Connection> {
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            refused("full");
            return None;
        };
        let place = Place::new(self.port, permit);
        let patience = Patience::new(self.port, self.limits.silence_max);
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it was looked at");
            return None;
        }
        let Some(tls) = &self.tls else { return Some(Connection::plain(stream, patience, place)) };
        let acceptor = TlsAcceptor::from(tls.config(self.port));
        self.handshakes.spawn(async move {
            let connection = shake_hands(acceptor, stream, patience, place).await;
            connection.map(|connection| (connection, address))
        });
        None
    }
}

/// Takes no longer than a connection may be silent.
async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    mut patience: Patience,
    place: Place,
) -> Option<Connection> {
    let shaken = tokio::select! {
        shaken = acceptor.accept(stream) => shaken,
        () = patience.timer() => {
            refused("silence");
            return None;
        }
    };
    match shaken {
        Ok(stream) => Some(Connection::tls(stream, patience, place)),
        Err(error) => {
            refused("handshake");
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}
