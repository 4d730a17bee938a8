//! What a broker's `/metrics` says.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::credentials::Credentials;

const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(super) async fn scrape(address: SocketAddr, credentials: &Credentials) -> Result<String> {
    let token = credentials.secret().map(|secret| format!("Authorization: Bearer {secret}\r\n"));
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n{}\r\n",
        token.unwrap_or_default()
    );
    let read = async {
        let stream = TcpStream::connect(address).await?;
        match credentials.ca() {
            Some(ca) => {
                let name = ServerName::from(address.ip());
                exchange(connector(ca)?.connect(name, stream).await?, &request).await
            }
            None => exchange(stream, &request).await,
        }
    };
    let answer = timeout(ANSWER_MAX, read).await.context("no metrics came")?;
    answer.context("can't read a broker's metrics")
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{}", answer.lines().next().unwrap_or_default());
    Ok(answer)
}

fn connector(ca: &str) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

/// The sum over all brokers of a family, such as `x_total`, or of its series with some labels, such as
/// `x_total{a="b",c="d"}`; what a broker doesn't show counts as nothing.
pub(super) fn sum(texts: &[String], name: &str) -> f64 {
    let (family, wanted) = name.split_once('{').unwrap_or((name, ""));
    let wanted: Vec<&str> = wanted.trim_end_matches('}').split_terminator(',').collect();
    let value = |line: &str| {
        let rest = line.strip_prefix(family)?;
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(labels) => labels.split_once('}')?,
            None => ("", rest),
        };
        let are_there = wanted.iter().all(|wanted| labels.split(',').any(|label| label == *wanted));
        rest.strip_prefix(' ')?.trim().parse::<f64>().ok().filter(|_| are_there)
    };
    texts.iter().flat_map(|text| text.lines()).filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_found_by_its_whole_name_with_all_its_series_or_those_of_some_labels() {
        let one = "# TYPE a counter\na{b=\"c\",d=\"e\"} 2\na{b=\"d\",d=\"e\"} 3\naa 7\n".to_owned();
        let texts = [one.clone(), one];
        assert_eq!(sum(&texts, "a"), 10.0);
        assert_eq!(sum(&texts, "a{b=\"c\"}"), 4.0);
        assert_eq!(sum(&texts, "a{d=\"e\"}"), 10.0);
        assert_eq!(sum(&texts, "a{b=\"e\"}"), 0.0);
        assert_eq!(sum(&texts, "a{d=\"e\",b=\"d\"}"), 6.0);
        assert_eq!(sum(&texts, "aa"), 14.0);
        assert_eq!(sum(&texts, "b"), 0.0);
    }
}
