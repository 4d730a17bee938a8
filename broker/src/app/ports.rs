use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use tokio::net::TcpListener;

use super::ms;
use crate::{
    config::{self, Config},
    port::{self, Limits, Listener, Port, Tls, TlsFiles},
};

/// Both ports, open.
pub(super) struct Ports {
    pub(super) grpc: Listener,
    pub(super) http: Listener,
}

/// Opens them; with TLS, looks after its certificates from now on.
pub(super) async fn open(config: &Config) -> anyhow::Result<Ports> {
    let tls = load_tls(&config.tls)?;
    if let Some(tls) = tls.clone() {
        tokio::spawn(port::keep_fresh(tls, ms(config.tls.look_interval_ms)));
    }
    let grpc = bind("grpc.listen", config.grpc.listen).await?;
    let http = bind("http.listen", config.http.listen).await?;
    let grpc_limits = Limits {
        connections_max: grpc_connections_max(config, port::raise_descriptors()),
        silence_max: ms(config.grpc.opening_ms_max),
    };
    let http_limits = Limits {
        connections_max: config.http.connections_max,
        silence_max: ms(config.http.idle_ms_max),
    };
    Ok(Ports {
        grpc: Listener::new(grpc, Port::Grpc, tls.clone(), grpc_limits),
        http: Listener::new(http, Port::Http, tls, http_limits),
    })
}

async fn bind(key: &'static str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{key} = {address}"))
}

/// Descriptors for all but connections of the ports and the pool: the log, files, the runtime.
const OTHER_DESCRIPTORS: usize = 64;

/// Strangers' connections leave descriptors for those to Postgres.
fn grpc_connections_max(config: &Config, descriptors: usize) -> usize {
    let wanted = config.grpc.connections_max;
    let others = config.http.connections_max + config.database.pool_size + OTHER_DESCRIPTORS;
    let room = descriptors.saturating_sub(others).max(1);
    if room < wanted {
        tracing::info!(
            descriptors,
            room,
            wanted,
            "the limit on descriptors leaves no room for grpc.connections_max"
        );
    }
    wanted.min(room)
}

/// `None`: no TLS.
fn load_tls(files: &config::Tls) -> anyhow::Result<Option<Tls>> {
    let config::Tls { certificate_file, key_file, client_ca_file, look_interval_ms: _ } = files;
    let path = |file: &String| Some(PathBuf::from(file)).filter(|_| !file.is_empty());
    let (Some(certificate), Some(key)) = (path(certificate_file), path(key_file)) else {
        return Ok(None);
    };
    let files = TlsFiles { certificate, key, client_ca: path(client_ca_file) };
    Ok(Some(Tls::load(files).context("[tls]")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_database() {
        let config = Config::default();
        let wanted = config.grpc.connections_max;
        assert_eq!(grpc_connections_max(&config, usize::MAX), wanted);
        assert_eq!(grpc_connections_max(&config, 1024), 1024 - 256 - 6 - OTHER_DESCRIPTORS);
        assert_eq!(grpc_connections_max(&config, 10), 1);
    }
}
