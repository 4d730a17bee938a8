//! gRPC connections of the load, and its token.

use std::{convert::Infallible, fmt, fs, path::Path, str::FromStr, time::Duration};

use anyhow::{Context, Result};
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// h2 gives up on a connection that holds many small unread frames; the smaller the window, the
/// fewer it tolerates.
const WINDOW_BYTES: u32 = 16 << 20;
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The secret of a token. `Debug` doesn't show it.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = Infallible;

    fn from_str(secret: &str) -> Result<Token, Infallible> {
        Ok(Token(secret.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// The message, with the token if there is one.
pub(crate) fn request<T>(token: Option<&Token>, message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {}", token.secret()).parse().context("--token can't be one")?;
        request.metadata_mut().insert("authorization", value);
    }
    Ok(request)
}

/// An endpoint with the windows that streams of jobs need. At `https://` it trusts the certificates of
/// `ca_file`, or else the system's.
pub(crate) fn endpoint(url: &str, ca_file: Option<&Path>) -> Result<Endpoint> {
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("{url:?} is no endpoint, such as http://127.0.0.1:7070"))?;
    if url.starts_with("https://") {
        let tls = match ca_file {
            Some(file) => {
                let pem = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        endpoint = endpoint.tls_config(tls).context("TLS")?;
    }
    Ok(endpoint
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_MAX))
}

/// `count` connections to a broker, each open.
pub(crate) async fn open(url: &str, ca_file: Option<&Path>, count: u32) -> Result<Vec<Channel>> {
    let endpoint = endpoint(url, ca_file)?;
    let mut channels = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let channel = endpoint.connect().await;
        channels.push(channel.with_context(|| format!("can't connect to {url}"))?);
    }
    Ok(channels)
}
