//! What a program shows of itself to the broker, and what it wants to see.

use std::fmt;

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

/// A channel whose calls carry the token, if there is one.
pub(crate) type Transport = InterceptedService<Channel, Token>;

/// The token of every call. `Debug` doesn't show it.
#[derive(Clone, Default)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl Token {
    /// `None`: it can't be one.
    pub(crate) fn new(secret: &str) -> Option<Token> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {secret}").parse().ok()?;
        value.set_sensitive(true);
        Some(Token(Some(value)))
    }

    /// The channel with this token.
    pub(crate) fn on(self, channel: Channel) -> Transport {
        InterceptedService::new(channel, self)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_some() { "Token(***)" } else { "Token(none)" })
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// How to trust a broker at a URL of `https://`, and how to be known by it. Without any of this the
/// system's certificates are trusted. `Debug` shows no certificate and no key.
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    ca: Option<Certificate>,
    identity: Option<Identity>,
}

impl Tls {
    /// Trusts the system's certificates, and shows none.
    pub fn new() -> Tls {
        Tls::default()
    }

    /// Trusts the certificates of these authorities, in PEM, instead of the system's.
    pub fn ca_certificate(mut self, pem: impl AsRef<[u8]>) -> Tls {
        self.ca = Some(Certificate::from_pem(pem));
        self
    }

    /// Shows this certificate and proves it with the key, both in PEM.
    pub fn client_certificate(mut self, pem: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Tls {
        self.identity = Some(Identity::from_pem(pem, key));
        self
    }

    pub(crate) fn config(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new();
        let config = match &self.ca {
            Some(ca) => config.ca_certificate(ca.clone()),
            None => config.with_native_roots(),
        };
        match &self.identity {
            Some(identity) => config.identity(identity.clone()),
            None => config,
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        let token = Token::new("currant_1_hunter2");
        let tls = Tls::new().ca_certificate("hunter2").client_certificate("hunter2", "hunter2");
        let shown = format!("{token:?} {token:#?} {tls:?} {tls:#?}");
        assert!(shown.contains("Token(***)") && !shown.contains("hunter2"), "{shown}");
        assert!(Token::new("a\nb").is_none());
    }
}
