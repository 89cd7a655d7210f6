//! What it takes to add a key to a request: the same request of HTTP directly by TLS, by TLS within a tunnel,
//! and by a route whose key the gateway adds.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use rcgen::CertifiedKey;
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{
    GATEWAY, NAME, UPSTREAM,
    load::{self, Load, Measured, Way},
    secured::{PORT, authority},
    upstream,
};
use crate::{
    setting,
    table::{Table, verdict},
};

/// What is asked and what is answered.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The most that a key may add at the median.
const GOAL: Duration = Duration::from_millis(1);

/// The route of a policy, and the file of its secrets.
pub fn route() -> (serde_json::Value, serde_json::Value) {
    let inject = serde_json::json!({"header": {"name": "authorization", "value": "Bearer ${secret:bench/key}"}});
    (
        serde_json::json!([{"name": "crm", "upstream": format!("https://{NAME}:{PORT}"), "inject": inject}]),
        serde_json::json!({"values": {"bench/key": "s3cret-for-the-bench"}}),
    )
}

/// Starts the upstream.
pub fn start(folder: &Path) -> anyhow::Result<()> {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    fs::write(authority(folder), cert.pem())?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = upstream::in_world(|| std::net::TcpListener::bind((UPSTREAM, PORT)))?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    let mut stream = acceptor.accept(stream).await?;
                    while read_head(&mut stream).await? {
                        stream.write_all(ANSWER).await?;
                        stream.flush().await?;
                    }
                    std::io::Result::Ok(())
                });
            }
        });
    });
    Ok(())
}

/// True where a head has come, false at the end.
async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Prints what a request takes by each way.
pub fn compare(folder: &Path) -> anyhow::Result<()> {
    let rounds: usize = setting("BENCH_ROUNDS", 3)?;
    let load = Load::Request { seconds: setting("BENCH_LOAD", 2)? };
    let authority = authority(folder);
    let contenders = [
        (
            "directly, by TLS",
            Way::Tls { address: (UPSTREAM, PORT).into(), tunnel: false, authority: authority.clone() },
        ),
        ("by TLS within a tunnel", Way::Tls { address: (GATEWAY, 3128).into(), tunnel: true, authority }),
        ("by a route that adds a key", Way::Route { gateway: (GATEWAY, 80).into() }),
    ];
    let mut found = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for (row, (name, way)) in contenders.iter().enumerate() {
            found[row].push(load::run(way, &load).context(*name)?);
        }
    }
    let medians: Vec<Duration> = found.into_iter().map(Measured::middle).collect();
    let mut table =
        Table::new("One request of HTTP after another", &["", "round trip", "more than a tunnel", "goal", ""]);
    for (row, (name, _)) in contenders.iter().enumerate() {
        let micros = |time: Duration| format!("{} µs", time.as_micros());
        let mut cells = vec![(*name).to_owned(), micros(medians[row])];
        if row == contenders.len() - 1 {
            let more = medians[row].saturating_sub(medians[1]);
            cells.extend([micros(more), "< 1000 µs".to_owned(), verdict(more.as_secs_f64(), GOAL.as_secs_f64())]);
        }
        table.row(cells);
    }
    table.print();
    Ok(())
}
