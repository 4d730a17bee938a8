//! How clients and brokers of a run trust each other: not at all, or by TLS and a token.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, Result};
use currant_worker_sdk::{Client, Tls, WorkerBuilder};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::broker_process;

/// Of a worker's process.
const TOKEN: &str = "CURRANT_CHAOS_TOKEN";
const CA_FILE: &str = "CURRANT_CHAOS_CA_FILE";
/// Whom the brokers' certificate is for: everything goes through proxies on this address.
const HOST: &str = "127.0.0.1";
/// Begins what `token create` prints.
const SECRET: &str = "currant_";

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Credentials(Option<Arc<Secure>>);

struct Secure {
    ca: String,
    ca_file: PathBuf,
    certificate_file: PathBuf,
    key_file: PathBuf,
    secret: String,
}

impl Credentials {
    /// An authority, a certificate of it, and a token that may do everything. Migrates the database.
    pub(super) async fn make(directory: &Path, database_url: &str) -> Result<Credentials> {
        let (ca, certificate, key) = certificates()?;
        let write = |name: &str, pem: &str| {
            let path = directory.join(name);
            fs::write(&path, pem).with_context(|| format!("can't write {}", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        let words = ["token", "create", "--name", "chaos", "--scope", "admin", "--queue", "*"];
        broker_process::once(database_url, &["migrate"]).await?;
        let printed = broker_process::once(database_url, &words).await?;
        let secret = printed.lines().find(|line| line.starts_with(SECRET));
        Ok(Credentials(Some(Arc::new(Secure {
            ca_file: write("ca.pem", &ca)?,
            certificate_file: write("certificate.pem", &certificate)?,
            key_file: write("key.pem", &key)?,
            ca,
            secret: secret.context("no secret was printed")?.to_owned(),
        }))))
    }

    /// Of the variables that `pass_on` has set.
    pub(super) fn of_environment() -> Result<Credentials> {
        let Some(ca_file) = std::env::var_os(CA_FILE).map(PathBuf::from) else {
            return Ok(Credentials::default());
        };
        Ok(Credentials(Some(Arc::new(Secure {
            ca: fs::read_to_string(&ca_file).context("can't read the authority's certificate")?,
            ca_file,
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
            secret: std::env::var(TOKEN).context("no token")?,
        }))))
    }

    /// For a worker's process.
    pub(super) fn pass_on(&self, command: &mut Command) {
        if let Some(secure) = &self.0 {
            command.env(TOKEN, &secure.secret).env(CA_FILE, &secure.ca_file);
        }
    }

    pub(super) fn broker_settings(&self) -> Result<Vec<(String, String)>> {
        let Some(secure) = &self.0 else { return Ok(Vec::new()) };
        let path =
            |path: &Path| path.to_str().map(str::to_owned).context("a path that isn't UTF-8");
        let settings = [
            ("tls.certificate_file", path(&secure.certificate_file)?),
            ("tls.key_file", path(&secure.key_file)?),
            ("access.required", "true".to_owned()),
        ];
        Ok(settings.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// Of a gRPC port.
    pub(super) fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.0.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    pub(super) fn ca_file(&self) -> Option<&Path> {
        self.0.as_ref().map(|secure| &*secure.ca_file)
    }

    pub(super) fn ca(&self) -> Option<&str> {
        self.0.as_ref().map(|secure| &*secure.ca)
    }

    pub(super) fn secret(&self) -> Option<&str> {
        self.0.as_ref().map(|secure| &*secure.secret)
    }

    pub(super) async fn connect(&self, address: SocketAddr) -> Result<Client> {
        let url = self.url(address);
        Ok(match &self.0 {
            Some(secure) => Client::connect_tls(url, secure.tls()).await?.token(&secure.secret)?,
            None => Client::connect(url).await?,
        })
    }

    pub(super) fn on_worker(&self, builder: WorkerBuilder) -> WorkerBuilder {
        match &self.0 {
            Some(secure) => builder.tls(secure.tls()).token(&secure.secret),
            None => builder,
        }
    }
}

impl Secure {
    fn tls(&self) -> Tls {
        Tls::new().ca_certificate(&self.ca)
    }
}

impl std::fmt::Debug for Secure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("***")
    }
}

/// In PEM: of an authority, of the brokers by it, and the key.
fn certificates() -> Result<(String, String, String)> {
    let mut authority = CertificateParams::new(Vec::new())?;
    // Who signs has another name than what it signs, or OpenSSL takes that for signed by itself.
    authority.distinguished_name.push(DnType::CommonName, "chaos authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let ca = authority.self_signed(&key)?.pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(vec![HOST.to_owned()])?;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok((ca, certificate, key.serialize_pem()))
}
