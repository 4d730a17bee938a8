//! The HTTP/2 settings of the channels that the SDK makes.

use std::time::Duration;

use tonic::transport::{Endpoint, Error};

use crate::credentials::Tls;

/// h2 kills a connection that has many small frames unread, counted against the window, so the
/// connection's window is large. The adaptive window would make it small again.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages up to this size are taken; the broker's own limits are smaller.
pub(crate) const DECODE_BYTES_MAX: usize = 64 << 20;

/// Whether a URL says that the connection is by TLS.
pub(crate) fn is_tls(url: &str) -> bool {
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

/// An endpoint with the settings for many streams on one connection.
pub(crate) fn endpoint(url: &str, tls: &Tls) -> Result<Endpoint, Error> {
    let mut endpoint = Endpoint::from_shared(url.to_owned())?;
    if is_tls(url) {
        endpoint = endpoint.tls_config(tls.config())?;
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_adaptive_window(false)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}
