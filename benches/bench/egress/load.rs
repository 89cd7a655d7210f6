//! The load: many connections that stream, echo, or are opened and closed.

use std::{
    env,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{NAME, secured, upstream};
use crate::{measure::quantile, table::time};

/// How the upstream is reached.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Way {
    /// By connecting, with a greeting of TLS in front where the name counts.
    Direct { address: SocketAddr, by_name: bool },
    /// By asking a proxy.
    Connect { proxy: SocketAddr },
    /// HTTP in TLS, directly or by asking a proxy first.
    Tls { address: SocketAddr, tunnel: bool, authority: PathBuf },
    /// HTTP to the gateway, which adds a key and speaks TLS itself.
    Route { gateway: SocketAddr },
}

/// What is done.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Load {
    /// Bytes from the upstream, as many as come.
    Stream { connections: usize, seconds: u64 },
    /// One byte for eight, again and again.
    Echo { connections: usize, seconds: u64 },
    /// One byte for eight over a connection of its own each.
    Open { at_once: usize, seconds: u64 },
    /// One request of HTTP after another.
    Request { seconds: u64 },
    /// Nothing, until the connections are ended or the time is over.
    Idle { connections: usize, seconds: u64 },
}

/// What came of it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub enum Measured {
    /// Bytes in a second.
    Throughput(f64),
    /// The median of all round trips.
    RoundTrip(Duration),
    /// Connections in a second.
    Rate(f64),
    /// Nothing that is counted.
    Nothing,
}

impl Measured {
    /// The median of several rounds, as a table has it.
    pub fn median(mut all: Vec<Self>) -> String {
        all.sort_by(|a, b| a.number().total_cmp(&b.number()));
        match all.get(all.len() / 2) {
            Some(Self::Throughput(bytes)) => format!("{:.0}", bytes / f64::from(1 << 20)),
            Some(Self::RoundTrip(length)) if length.as_micros() < 10_000 => format!("{} µs", length.as_micros()),
            Some(Self::RoundTrip(length)) => time(*length),
            Some(Self::Rate(rate)) => format!("{rate:.0}"),
            Some(Self::Nothing) | None => String::new(),
        }
    }

    /// The number of the median of several rounds: bytes, seconds or connections.
    pub fn middle_number(mut all: Vec<Self>) -> f64 {
        all.sort_by(|a, b| a.number().total_cmp(&b.number()));
        all.get(all.len() / 2).map_or(0.0, |middle| middle.number())
    }

    /// The median of several round trips.
    pub fn middle(all: Vec<Self>) -> Duration {
        let times = all.into_iter().map(|one| Duration::from_secs_f64(one.number()));
        quantile(times, 50)
    }

    fn number(self) -> f64 {
        match self {
            Self::Throughput(number) | Self::Rate(number) => number,
            Self::RoundTrip(length) => length.as_secs_f64(),
            Self::Nothing => 0.0,
        }
    }
}

/// The generator as a process of the tenant.
pub fn command(way: &Way, load: &Load) -> Command {
    let mut command = Command::new("nsenter");
    command.arg("--net=/run/netns/tenant").arg(env::current_exe().unwrap_or_default());
    let words = [serde_json::to_string(way), serde_json::to_string(load)];
    command.arg("load").args(words.map(Result::unwrap_or_default));
    command
}

/// Runs it to its end.
pub fn run(way: &Way, load: &Load) -> anyhow::Result<Measured> {
    let output = command(way, load).output()?;
    ensure!(output.status.success(), "the load failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The generator itself.
pub fn main(way: &str, load: &str) -> anyhow::Result<()> {
    let (way, load): (Way, Load) = (serde_json::from_str(way)?, serde_json::from_str(load)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(generate(Arc::new(way), &load))?;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

async fn generate(way: Arc<Way>, load: &Load) -> anyhow::Result<Measured> {
    match *load {
        Load::Stream { connections, seconds } => stream(&way, connections, Duration::from_secs(seconds)).await,
        Load::Echo { connections, seconds } => echo(&way, connections, Duration::from_secs(seconds)).await,
        Load::Open { at_once, seconds } => open(way, at_once, Duration::from_secs(seconds)).await,
        Load::Request { seconds } => request(&way, Duration::from_secs(seconds)).await,
        Load::Idle { connections, seconds } => {
            let mut all = connected(&way, connections).await?;
            let ended = async { all.first_mut().context("no connection")?.read_u8().await.context("ended") };
            let _either = tokio::time::timeout(Duration::from_secs(seconds), ended).await;
            Ok(Measured::Nothing)
        }
    }
}

/// One connection to the upstream, ready to ask.
async fn connect(way: &Way) -> anyhow::Result<TcpStream> {
    match way {
        Way::Tls { address, .. } | Way::Route { gateway: address } => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        Way::Direct { address, by_name } => {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            if *by_name {
                stream.write_all(greeting()?).await?;
            }
            Ok(stream)
        }
        Way::Connect { proxy } => {
            let stream = TcpStream::connect(proxy).await?;
            stream.set_nodelay(true)?;
            tunnel(stream, upstream::PORT).await
        }
    }
}

/// Asks a proxy for a tunnel to the upstream.
async fn tunnel(mut stream: TcpStream, port: u16) -> anyhow::Result<TcpStream> {
    let request = format!("CONNECT {NAME}:{port} HTTP/1.1\r\nHost: {NAME}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // The upstream says nothing before it is asked: what comes is the answer alone.
        ensure!(head.len() < 4096 && stream.read_buf(&mut head).await? > 0, "the proxy's answer has no end");
    }
    if head.get(9..12).is_none_or(|code| code != b"200") {
        bail!("the proxy refuses: {}", String::from_utf8_lossy(&head));
    }
    Ok(stream)
}

async fn request(way: &Way, length: Duration) -> anyhow::Result<Measured> {
    let mut stream = connect(way).await?;
    match way {
        Way::Tls { tunnel: through, authority, .. } => {
            if *through {
                stream = tunnel(stream, secured::PORT).await?;
            }
            let mut stream = secured::connect(stream, authority).await?;
            requests(&mut stream, &format!("{NAME}:{}", secured::PORT), "/contacts", length).await
        }
        _ => requests(&mut stream, "gateway.internal", "/crm/contacts", length).await,
    }
}

async fn requests(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    host: &str,
    path: &str,
    length: Duration,
) -> anyhow::Result<Measured> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < length || times.is_empty() {
        let asked = Instant::now();
        secured::ask(stream, host, path).await?;
        times.push(asked.elapsed());
    }
    Ok(Measured::RoundTrip(quantile(times, 50)))
}

/// The first message of a real client of TLS, made once: to make it takes longer than to connect.
fn greeting() -> anyhow::Result<&'static [u8]> {
    static GREETING: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(made) = GREETING.get() {
        return Ok(made);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let mut client = rustls::ClientConnection::new(Arc::new(config), NAME.try_into()?)?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes)?;
    Ok(GREETING.get_or_init(|| bytes))
}

async fn connected(way: &Way, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let more = (count - all.len()).min(64);
        all.extend(futures_util::future::try_join_all((0..more).map(|_| connect(way))).await?);
    }
    Ok(all)
}

/// Does the same with many things at once, and waits for all of them.
pub async fn side_by_side<T, R, F>(all: impl IntoIterator<Item = T>, work: impl Fn(T) -> F) -> anyhow::Result<Vec<R>>
where
    R: Send + 'static,
    F: Future<Output = anyhow::Result<R>> + Send + 'static,
{
    let tasks: Vec<_> = all.into_iter().map(|one| tokio::spawn(work(one))).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await??);
    }
    Ok(results)
}

async fn stream(way: &Way, connections: usize, length: Duration) -> anyhow::Result<Measured> {
    let all = connected(way, connections).await?;
    let begun = Instant::now();
    let read = side_by_side(all, |mut stream| async move {
        // More than can come in the time.
        stream.write_u64(1 << 40).await?;
        take(&mut stream, 64 << 10, begun + length).await
    });
    let bytes: u64 = read.await?.into_iter().sum();
    Ok(Measured::Throughput(bytes as f64 / begun.elapsed().as_secs_f64()))
}

/// Takes what comes until then, so many bytes at once at most, and counts it.
pub async fn take(stream: &mut TcpStream, at_once: usize, until: Instant) -> anyhow::Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; at_once], 0);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match tokio::time::timeout(left, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => bail!("cut off"),
            Ok(read) => bytes += read? as u64,
            Err(_) => break,
        }
    }
    Ok(bytes)
}

async fn ask(stream: &mut TcpStream) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    stream.write_u64(1).await?;
    stream.read_u8().await?;
    Ok(begun.elapsed())
}

async fn echo(way: &Way, connections: usize, length: Duration) -> anyhow::Result<Measured> {
    let all = connected(way, connections).await?;
    let begun = Instant::now();
    let asked = side_by_side(all, |mut stream| async move {
        let mut times = vec![ask(&mut stream).await?];
        while begun.elapsed() < length {
            times.push(ask(&mut stream).await?);
        }
        Ok(times)
    });
    Ok(Measured::RoundTrip(quantile(asked.await?.into_iter().flatten(), 50)))
}

async fn open(way: Arc<Way>, at_once: usize, length: Duration) -> anyhow::Result<Measured> {
    let begun = Instant::now();
    let opened = side_by_side(std::iter::repeat_n(way, at_once), |way| async move {
        let mut count = 0_u32;
        while begun.elapsed() < length {
            ask(&mut connect(&way).await?).await?;
            count += 1;
        }
        Ok(count)
    });
    let count: u32 = opened.await?.into_iter().sum();
    Ok(Measured::Rate(f64::from(count) / begun.elapsed().as_secs_f64()))
}
