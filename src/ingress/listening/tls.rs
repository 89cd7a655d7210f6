//! The host's certificate, which is read again when it changes.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::model::host::Tls;

/// Why the certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing of the kind.
    #[error("cannot read {path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// The key does not go with the certificate, or is of a kind that is not known.
    #[error("the certificate {certificate} and the key {key} do not go together", certificate = .0.certificate.display(), key = .0.key.display())]
    Mismatch(Tls, #[source] rustls::Error),
}

/// The certificate that clients get to see: the one of the files, as it last could be used.
#[derive(Debug)]
pub struct Certificate {
    files: Tls,
    now: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    stamps: [Stamp; 2],
}

/// By what a file is told from the one before: its inode, its size, and when it was last changed.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn read(files: Tls) -> Result<Arc<Self>, TlsError> {
        let current = Current::read(&files)?;
        Ok(Arc::new(Self { files, now: RwLock::new(current) }))
    }

    /// Reads the files again, if they have changed. What cannot be used leaves the former in force.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn renew(&self) -> Result<bool, TlsError> {
        let stamps = stamps(&self.files);
        if self.now.read().unwrap_or_else(PoisonError::into_inner).stamps == stamps {
            return Ok(false);
        }
        let read = Current::read(&self.files);
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(current) => {
                *now = current;
                Ok(true)
            }
            Err(error) => {
                // Said once for each change.
                now.stamps = stamps;
                Err(error)
            }
        }
    }

    /// What connections are spoken to with: HTTP/2 and HTTP/1.1 over TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// The library refuses its own defaults.
    pub fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config =
            builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

impl Current {
    fn read(files: &Tls) -> Result<Self, TlsError> {
        // Taken first: what is written meanwhile is read again.
        let stamps = stamps(files);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::File { path, source }
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
            .and_then(Iterator::collect)
            .map_err(failed(&files.certificate))?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(failed(&files.key))?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| TlsError::Mismatch(files.clone(), error))?;
        Ok(Self { key: Arc::new(key), stamps })
    }
}

fn stamps(files: &Tls) -> [Stamp; 2] {
    [&files.certificate, &files.key].map(|path| stamp(path).ok())
}

fn stamp(path: &Path) -> io::Result<(u64, u64, i64, i64)> {
    let found = fs::metadata(path)?;
    Ok((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}
