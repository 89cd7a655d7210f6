//! The load: many connections that take an answer without an end, ask again and again, or are opened and closed.

use std::{
    env,
    net::SocketAddr,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::app;
use crate::{
    egress::load::{Measured, side_by_side, take},
    measure::quantile,
};

/// The longest head of an answer.
const MAX_HEAD: usize = 4 << 10;

/// Whom to ask, and as whom.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Way {
    pub address: SocketAddr,
    pub host: String,
    pub token: Option<String>,
}

/// What is done.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Load {
    /// One answer on each connection, as much of it as comes.
    Stream { connections: usize, seconds: u64 },
    /// One request after another on each connection.
    Ask { connections: usize, seconds: u64 },
    /// One request over a connection of its own each.
    Open { at_once: usize, seconds: u64 },
}

/// Runs the generator as a process of its own.
pub fn run(way: &Way, load: &Load) -> anyhow::Result<Measured> {
    let words = [serde_json::to_string(way)?, serde_json::to_string(load)?];
    let output = Command::new(env::current_exe()?).arg("ask").args(words).output()?;
    ensure!(output.status.success(), "the load failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The generator itself.
pub fn main(way: &str, load: &str) -> anyhow::Result<()> {
    let (way, load): (Way, Load) = (serde_json::from_str(way)?, serde_json::from_str(load)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(async {
        let way = Arc::new(way);
        match load {
            Load::Stream { connections, seconds } => stream(&way, connections, Duration::from_secs(seconds)).await,
            Load::Ask { connections, seconds } => ask_again(&way, connections, Duration::from_secs(seconds)).await,
            Load::Open { at_once, seconds } => open(&way, at_once, Duration::from_secs(seconds)).await,
        }
    })?;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

async fn connect(way: &Way) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(way.address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn request(way: &Way, path: &str, more: &str) -> String {
    let token = way.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{token}{more}\r\n", way.host)
}

/// Asks, and reads the head of the answer. Returns what came of the body with it, and the length of the whole body.
async fn begin(stream: &mut TcpStream, request: &str) -> anyhow::Result<(usize, u64)> {
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(MAX_HEAD);
    let end = loop {
        if let Some(at) = head.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        ensure!(head.len() < MAX_HEAD && stream.read_buf(&mut head).await? > 0, "the answer's head has no end");
    };
    let text = String::from_utf8_lossy(head.get(..end).unwrap_or_default()).to_ascii_lowercase();
    ensure!(text.get(9..12) == Some("200"), "{text}");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Ok((head.len() - end, length.context("the answer has no length")?))
}

/// A whole answer.
async fn ask(stream: &mut TcpStream, request: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let (came, length) = begin(stream, request).await?;
    let mut rest = vec![0; usize::try_from(length)?.saturating_sub(came)];
    stream.read_exact(&mut rest).await?;
    Ok(begun.elapsed())
}

async fn stream(way: &Arc<Way>, connections: usize, length: Duration) -> anyhow::Result<Measured> {
    let begun = Instant::now();
    let read = side_by_side(std::iter::repeat_n(Arc::clone(way), connections), |way| async move {
        let mut stream = connect(&way).await?;
        let (came, _) = begin(&mut stream, &request(&way, app::ENDLESS, "")).await?;
        Ok(came as u64 + take(&mut stream, 256 << 10, begun + length).await?)
    });
    let bytes: u64 = read.await?.into_iter().sum();
    Ok(Measured::Throughput(bytes as f64 / begun.elapsed().as_secs_f64()))
}

async fn ask_again(way: &Arc<Way>, connections: usize, length: Duration) -> anyhow::Result<Measured> {
    let begun = Instant::now();
    let asked = side_by_side(std::iter::repeat_n(Arc::clone(way), connections), |way| async move {
        let mut stream = connect(&way).await?;
        let request = request(&way, "/", "");
        let mut times = vec![ask(&mut stream, &request).await?];
        while begun.elapsed() < length {
            times.push(ask(&mut stream, &request).await?);
        }
        Ok(times)
    });
    Ok(Measured::RoundTrip(quantile(asked.await?.into_iter().flatten(), 50)))
}

async fn open(way: &Arc<Way>, at_once: usize, length: Duration) -> anyhow::Result<Measured> {
    let begun = Instant::now();
    let opened = side_by_side(std::iter::repeat_n(Arc::clone(way), at_once), |way| async move {
        let mut count = 0_u32;
        let request = request(&way, "/", "Connection: close\r\n");
        while begun.elapsed() < length {
            ask(&mut connect(&way).await?, &request).await?;
            count += 1;
        }
        Ok(count)
    });
    let count: u32 = opened.await?.into_iter().sum();
    Ok(Measured::Rate(f64::from(count) / begun.elapsed().as_secs_f64()))
}
