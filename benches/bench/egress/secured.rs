//! The upstream that speaks HTTP in TLS, as its clients know it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::NAME;

/// The port of the upstream that speaks HTTP in TLS.
pub const PORT: u16 = 8443;

/// Where the upstream's certificate lies, which its clients trust.
pub fn authority(folder: &Path) -> PathBuf {
    folder.join("authority.pem")
}

/// A connection by TLS to the upstream.
pub async fn connect(stream: TcpStream, authority: &Path) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).map_err(anyhow::Error::msg)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(NAME)?;
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// Asks once, and waits for the answer.
pub async fn ask(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    host: &str,
    path: &str,
) -> anyhow::Result<()> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        anyhow::ensure!(stream.read_buf(&mut answer).await? > 0, "cut off: {}", String::from_utf8_lossy(&answer));
    }
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "refused: {}", String::from_utf8_lossy(&answer));
    Ok(())
}
