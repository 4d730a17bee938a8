use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use metrics::Gauge;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;

use super::{Port, refused};

/// A connection of a port, by TLS or not.
pub struct Connection {
    stream: Stream,
    /// `None`: whoever is at the other end has done his part.
    patience: Option<Patience>,
    peer: Peer,
    _place: Place,
}

/// Who is at the other end: the DNS names and URIs in his certificate, if he has shown one.
#[derive(Clone, Debug, Default)]
pub struct Peer(Arc<[String]>);

impl Peer {
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The first certificate is his own.
    fn of(certificates: &[CertificateDer<'_>]) -> Self {
        let own = certificates.first().map(webpki::EndEntityCert::try_from);
        let Some(Ok(own)) = own else { return Self::default() };
        Self(own.valid_dns_names().chain(own.valid_uri_names()).map(str::to_owned).collect())
    }
}

/// Taken by a connection for as long as it is open.
pub(super) struct Place {
    open: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    pub(super) fn new(port: Port, permit: OwnedSemaphorePermit) -> Self {
        let open = metrics::gauge!("currant_connections", "port" => port.name());
        open.increment(1.0);
        Self { open, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

impl Connection {
    pub(super) fn plain(stream: TcpStream, patience: Patience, place: Place) -> Self {
        let peer = Peer::default();
        Self { stream: Stream::Plain(stream), patience: Some(patience), peer, _place: place }
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>, patience: Patience, place: Place) -> Self {
        let (_, session) = stream.get_ref();
        let peer = session.peer_certificates().map(Peer::of).unwrap_or_default();
        let stream = Stream::Tls(Box::new(stream));
        Self { stream, patience: Some(patience), peer, _place: place }
    }

    pub fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// What is still waited for can't come any more once the patience is over.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if !self.patience.as_mut().is_some_and(|patience| patience.is_over(cx)) {
            return Poll::Pending;
        }
        refused("silence");
        self.patience = None;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn wrote(&mut self, cx: &mut Context<'_>, polled: &Poll<io::Result<usize>>) {
        if let (Some(patience), Poll::Ready(Ok(1..))) = (&mut self.patience, polled) {
            patience.wrote(cx);
        }
    }
}

/// How long the other end may take for its part.
pub(super) struct Patience {
    part: Part,
    max: Duration,
    timer: Pin<Box<Sleep>>,
}

/// What the other end has to do.
enum Part {
    /// To send so many bytes more, whatever is in them.
    Begin { bytes: usize },
    /// To ask for what can be answered, and to take the answer.
    BeAnswered,
}

/// Of HTTP/2.
const PREFACE_BYTES: usize = 24;

impl Patience {
    /// Begins now.
    pub(super) fn new(port: Port, max: Duration) -> Self {
        let part = match port {
            Port::Grpc => Part::Begin { bytes: PREFACE_BYTES },
            Port::Http => Part::BeAnswered,
        };
        Self { part, max, timer: Box::pin(sleep(max)) }
    }

    /// The end of it.
    pub(super) fn timer(&mut self) -> Pin<&mut Sleep> {
        self.timer.as_mut()
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.timer.as_mut().poll(cx).is_ready()
    }

    /// Whether the part is done with so many more bytes.
    fn read(&mut self, read: usize) -> bool {
        match &mut self.part {
            Part::Begin { bytes } => {
                *bytes = bytes.saturating_sub(read);
                *bytes == 0
            }
            Part::BeAnswered => false,
        }
    }

    fn wrote(&mut self, cx: &mut Context<'_>) {
        if matches!(self.part, Part::BeAnswered) {
            self.timer.set(sleep(self.max));
            // A new timer wakes nobody before it was asked once, and who waits for more to read may not ask
            // again.
            let _ = self.timer.as_mut().poll(cx);
        }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The same of either stream.
macro_rules! on_stream {
    ($connection:expr, $method:ident($($argument:expr),*)) => {
        match &mut $connection.stream {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = on_stream!(self, poll_read(cx, buffer));
        let Some(patience) = &mut self.patience else { return polled };
        if polled.is_pending() {
            return self.wait(cx);
        }
        if patience.read(buffer.filled().len() - before) {
            self.patience = None;
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = on_stream!(self, poll_write(cx, bytes));
        self.wrote(cx, &polled);
        if polled.is_pending() { self.wait(cx) } else { polled }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = on_stream!(self, poll_write_vectored(cx, slices));
        self.wrote(cx, &polled);
        if polled.is_pending() { self.wait(cx) } else { polled }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = on_stream!(self, poll_flush(cx));
        if polled.is_pending() { self.wait(cx) } else { polled }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = on_stream!(self, poll_shutdown(cx));
        if polled.is_pending() { self.wait(cx) } else { polled }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::Semaphore,
    };

    use super::*;

    /// Both ends of a connection; ours first.
    async fn pair(port: Port, max: Duration) -> (Connection, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let theirs = TcpStream::connect(listener.local_addr().expect("bound")).await;
        let (ours, _) = listener.accept().await.expect("accepted");
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("room");
        let place = Place::new(port, permit);
        (Connection::plain(ours, Patience::new(port, max), place), theirs.expect("connected"))
    }

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn whoever_says_too_little_loses_his_place() {
        for port in Port::ALL {
            let (mut ours, mut theirs) = pair(port, SHORT).await;
            // A byte now and then is no preface, and no question.
            let drip = tokio::spawn(async move {
                while theirs.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(SHORT / 10).await;
                }
            });
            let mut read = Vec::new();
            let error = ours.read_to_end(&mut read).await.expect_err("it never ends");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{port:?}");
            drop(ours);
            drip.await.expect("it ends with the connection");
        }
    }

    #[tokio::test]
    async fn whoever_has_begun_may_be_silent_at_the_grpc_port() {
        let (mut ours, mut theirs) = pair(Port::Grpc, SHORT).await;
        theirs.write_all(&[1; PREFACE_BYTES]).await.expect("sent");
        let mut preface = [0; PREFACE_BYTES];
        ours.read_exact(&mut preface).await.expect("read");
        let more = tokio::time::timeout(SHORT * 3, ours.read_u8()).await;
        assert!(more.is_err(), "{more:?}");
    }

    #[tokio::test]
    async fn whoever_is_answered_may_ask_again_at_the_http_port() {
        let (mut ours, mut theirs) = pair(Port::Http, SHORT * 4).await;
        for _ in 0..8 {
            theirs.write_u8(1).await.expect("asked");
            ours.read_u8().await.expect("it has its place still");
            ours.write_u8(2).await.expect("answered");
            theirs.read_u8().await.expect("the answer");
            tokio::time::sleep(SHORT).await;
        }
        let error = ours.read_u8().await.expect_err("nothing more comes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
