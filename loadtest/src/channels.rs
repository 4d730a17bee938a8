//! gRPC connections of the load.

use std::time::Duration;

use anyhow::{Context, Result};
use tonic::transport::{Channel, Endpoint};

/// h2 gives up on a connection that holds many small unread frames; the smaller the window, the
/// fewer it tolerates.
const WINDOW_BYTES: u32 = 16 << 20;
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// An endpoint with the windows that streams of jobs need.
pub(crate) fn endpoint(url: &str) -> Result<Endpoint> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("{url:?} is no endpoint, such as http://127.0.0.1:7070"))?;
    Ok(endpoint
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_MAX))
}

/// `count` connections to a broker, each open.
pub(crate) async fn open(url: &str, count: u32) -> Result<Vec<Channel>> {
    let endpoint = endpoint(url)?;
    let mut channels = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let channel = endpoint.connect().await;
        channels.push(channel.with_context(|| format!("can't connect to {url}"))?);
    }
    Ok(channels)
}
