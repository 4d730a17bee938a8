use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls::ServerConfig;

use super::{
    Port,
    certificates::{Material, TlsError, TlsFiles},
};
use crate::causes::causes;

/// The TLS of both ports. Clones share it.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    current: Arc<Mutex<Current>>,
}

struct Current {
    material: Material,
    configs: [Arc<ServerConfig>; Port::ALL.len()],
}

impl Current {
    fn new(material: Material, files: &TlsFiles) -> Result<Self, TlsError> {
        let config = material.config(files)?;
        let configs = Port::ALL.map(|port| {
            let mut config = config.clone();
            config.alpn_protocols = vec![port.protocol().to_vec()];
            Arc::new(config)
        });
        Ok(Self { material, configs })
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one can't be read or isn't what it should be.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let current = Current::new(Material::read(&files)?, &files)?;
        Ok(Self { files, current: Arc::new(Mutex::new(current)) })
    }

    pub(super) fn config(&self, port: Port) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().configs[port as usize])
    }

    /// Reads the files again; connections that are made from now on use what is in them. Whether that is
    /// something else. After an error all is as before.
    fn read_again(&self) -> Result<bool, TlsError> {
        let material = Material::read(&self.files)?;
        if material == self.current.lock().material {
            return Ok(false);
        }
        let new = Current::new(material, &self.files)?;
        *self.current.lock() = new;
        Ok(true)
    }
}

/// Looks at the files at an interval, for ever.
pub async fn keep_fresh(tls: Tls, interval: Duration) {
    let mut failing = false;
    loop {
        tokio::time::sleep(interval).await;
        let again = tls.clone();
        let read = match tokio::task::spawn_blocking(move || again.read_again()).await {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "nobody looks at the certificates any more");
                return;
            }
        };
        let count = |result| {
            metrics::counter!("currant_certificates_read_total", "result" => result).increment(1);
        };
        match read {
            Ok(false) => failing = false,
            Ok(true) => {
                failing = false;
                count("changed");
                tracing::info!("the certificates have changed and were read");
            }
            Err(error) => {
                count("failed");
                // Once is enough.
                if !failing {
                    tracing::warn!(
                        error = %causes(&error),
                        "the certificates can't be read; those from before stay in use"
                    );
                }
                failing = true;
            }
        }
    }
}
