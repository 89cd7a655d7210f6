//! A client that makes given calls and does nothing else: what the engine itself takes.
//!
//! It reads no answer's content, decides nothing and knows no tenant. No client of the same calls can
//! be much faster.

use std::{
    collections::VecDeque,
    fs, io,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{net::UnixStream, task::JoinSet};

use crate::{
    measure::{self, Run},
    world,
};

/// One call to the engine.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Call {
    pub method: String,
    pub path: String,
    pub body: Option<Value>,
}

impl Call {
    pub fn new(method: &str, path: impl Into<String>, body: Option<Value>) -> Self {
        Self { method: method.to_owned(), path: path.into(), body }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path, None)
    }
}

/// Chains of calls. The calls of a chain come one after another.
pub type Chains = Vec<Vec<Call>>;

/// What is to be called: one stage after another, the chains of a stage side by side.
#[derive(Debug, Deserialize, Serialize)]
pub struct Script {
    /// How many chains run at once.
    pub at_once: usize,
    pub stages: Vec<Chains>,
}

/// What came back, all in all.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Received {
    pub calls: usize,
    /// Of the answers' bodies.
    pub bytes: usize,
}

/// Runs a script in a process of its own.
pub fn measured(script: &Script, socket: &Path, folder: &Path) -> anyhow::Result<(Run, Received)> {
    let file = folder.join("script.json");
    fs::write(&file, serde_json::to_vec(script)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare").arg(socket).arg(&file);
    let run = measure::run(&command, folder).context("the bare client")?;
    let received = serde_json::from_str(&run.output)?;
    Ok((run, received))
}

/// That process.
pub fn main(socket: &str, script: &str) -> anyhow::Result<()> {
    let script: Script = serde_json::from_slice(&fs::read(script)?)?;
    let received = world::runtime()?.block_on(play(script, Path::new(socket)))?;
    println!("{}", serde_json::to_string(&received)?);
    Ok(())
}

/// Makes all calls. Each of the connections is used for as many as it can.
pub async fn play(script: Script, socket: &Path) -> anyhow::Result<Received> {
    let mut received = Received::default();
    let mut idle = Vec::new();
    for chains in script.stages {
        let count = chains.len().min(script.at_once);
        let queue = Arc::new(Mutex::new(VecDeque::from(chains)));
        let mut workers = JoinSet::new();
        for _ in 0..count {
            let connection = match idle.pop() {
                Some(connection) => connection,
                None => connect(socket).await?,
            };
            workers.spawn(work(connection, Arc::clone(&queue)));
        }
        while let Some(done) = workers.join_next().await {
            let (connection, more) = done??;
            idle.push(connection);
            received.calls += more.calls;
            received.bytes += more.bytes;
        }
    }
    Ok(received)
}

/// Makes one call and returns its answer.
pub fn ask(socket: &Path, call: &Call) -> anyhow::Result<String> {
    world::runtime()?.block_on(async {
        let mut answer = Vec::new();
        exchange(&mut connect(socket).await?, call, |bytes| answer.extend(bytes)).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })
}

/// Makes calls one after another.
pub fn make(socket: &Path, calls: Vec<Call>) -> anyhow::Result<()> {
    world::runtime()?.block_on(play(Script { at_once: 1, stages: vec![vec![calls]] }, socket)).map(drop)
}

/// A connection to the engine.
pub type Connection = http1::SendRequest<Full<Bytes>>;

/// Opens one.
pub async fn connect(socket: &Path) -> io::Result<Connection> {
    let stream = UnixStream::connect(socket).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn work(
    mut connection: Connection,
    queue: Arc<Mutex<VecDeque<Vec<Call>>>>,
) -> anyhow::Result<(Connection, Received)> {
    let mut received = Received::default();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(chain) = next else { return Ok((connection, received)) };
        for call in chain {
            exchange(&mut connection, &call, |bytes| received.bytes += bytes.len()).await?;
            received.calls += 1;
        }
    }
}

/// Makes one call and hands its answer over as it comes.
async fn exchange(connection: &mut Connection, call: &Call, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
    let mut request = Request::builder().method(call.method.as_str()).uri(&call.path).header(header::HOST, "docker");
    let body = call.body.as_ref().map(Value::to_string);
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    connection.ready().await?;
    let answer = connection.send_request(request.body(Full::from(body.unwrap_or_default()))?).await?;
    let status = answer.status();
    let mut body = answer.into_body();
    if !status.is_success() && status.as_u16() != 304 {
        let text = body.collect().await?.to_bytes();
        bail!("{} {} answered {status}: {}", call.method, call.path, String::from_utf8_lossy(&text));
    }
    while let Some(frame) = body.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            take(bytes);
        }
    }
    Ok(())
}
