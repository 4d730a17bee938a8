use std::{fmt, net::IpAddr, str::FromStr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long the other end of a connection may leave what is sent there, a keep-alive at least, unacknowledged.
pub(super) const SILENT_MAX: Duration = Duration::from_secs(25);

/// Where the database is and how its certificate is verified.
#[derive(Clone)]
pub struct Address {
    /// With `sslmode=require` the connection is by TLS and the certificate is verified, with its host's
    /// name. Anything else is a connection without TLS.
    pub url: String,
    /// A file of certificates in PEM, which are trusted instead of the system's.
    pub ca_file: Option<String>,
}

/// Why there is no such address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("it is no connection string")]
    Url(#[source] tokio_postgres::Error),
    #[error("no certificate of an authority can be read from {file}")]
    NoCa { file: String },
    #[error("the system has no certificate of an authority; set database.ca_file")]
    NoSystemCa,
    #[error("TLS can't be used")]
    Tls(#[from] rustls::Error),
}

/// The URL may have a password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("url", &"***").field("ca_file", &self.ca_file).finish()
    }
}

impl From<&str> for Address {
    fn from(url: &str) -> Self {
        Self { url: url.to_owned(), ca_file: None }
    }
}

impl Address {
    /// Whether what goes over the wire can be read there: without TLS to another machine.
    pub fn is_exposed(&self) -> bool {
        let Ok(config) = tokio_postgres::Config::from_str(&self.url) else { return false };
        let is_here = |host: &Host| match host {
            Host::Tcp(name) => {
                name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
            Host::Unix(_) => true,
        };
        // Where there are both, the addresses are what is connected to.
        let all_here = match config.get_hostaddrs() {
            [] => config.get_hosts().iter().all(is_here),
            addresses => addresses.iter().all(IpAddr::is_loopback),
        };
        config.get_ssl_mode() != SslMode::Require && !all_here
    }

    /// For the driver; a connection whose other end has gone without a word ends within [`SILENT_MAX`].
    pub(super) fn parse(
        &self,
    ) -> Result<(tokio_postgres::Config, MakeRustlsConnect), AddressError> {
        let mut config = tokio_postgres::Config::from_str(&self.url).map_err(AddressError::Url)?;
        config.keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3);
        config.tcp_user_timeout(SILENT_MAX);
        let mut roots = RootCertStore::empty();
        if config.get_ssl_mode() == SslMode::Require {
            match &self.ca_file {
                Some(file) => {
                    let read = CertificateDer::pem_file_iter(file)
                        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>());
                    for certificate in read.unwrap_or_default() {
                        roots.add(certificate)?;
                    }
                    if roots.is_empty() {
                        return Err(AddressError::NoCa { file: file.clone() });
                    }
                }
                None => {
                    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                    if roots.is_empty() {
                        return Err(AddressError::NoSystemCa);
                    }
                }
            }
        } else {
            config.ssl_mode(SslMode::Disable);
        }
        let provider = Arc::new(ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok((config, MakeRustlsConnect::new(client)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_ends_soon_when_the_other_end_has_gone() {
        let (config, _) = Address::from("postgres://u@db.example.com/d").parse().expect("a URL");
        assert!(config.get_keepalives());
        let interval = config.get_keepalives_interval().expect("it is set");
        let probes = interval * config.get_keepalives_retries().expect("it is set");
        assert!(config.get_keepalives_idle() + probes <= SILENT_MAX);
        assert_eq!(config.get_tcp_user_timeout(), Some(&SILENT_MAX));
    }

    #[test]
    fn only_another_machine_without_tls_is_exposed() {
        for (url, exposed) in [
            ("host=/tmp user=u", false),
            ("postgres://u@localhost/d", false),
            ("postgres://u@127.0.0.2/d", false),
            ("postgres://u@[::1]/d", false),
            ("postgres://u@db.example.com/d", true),
            ("postgres://u@db.example.com/d?sslmode=prefer", true),
            ("postgres://u@db.example.com/d?sslmode=require", false),
            ("postgres://u@localhost,db.example.com/d", true),
            ("hostaddr=127.0.0.1 user=u", false),
            ("host=localhost hostaddr=10.0.0.7 user=u", true),
        ] {
            assert_eq!(Address::from(url).is_exposed(), exposed, "{url}");
        }
    }
}
