//! What it takes to read everything of an engine: by tenantd's own reads, and by bollard's of the same answers.

use std::{
    io,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use bollard::{
    API_DEFAULT_VERSION, BollardRequest, Docker,
    errors::Error,
    models::ContainerInspectResponse,
    query_parameters::{ListContainersOptions, ListNetworksOptions},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, header};
use tenantd::engine::Engine;

use crate::{
    bare::{self, Connection},
    measure::{self, Run, median, peak},
    simulated::AT_ONCE,
    table::{Table, mebibytes, time},
    world,
};

/// Who reads, by the word that the process of a run is started with.
const READERS: [(&str, &str); 3] = [
    ("raw", "tenantd's own reads"),
    ("bollard", "bollard, everything kept"),
    ("bollard-parts", "bollard, eleven fields of each container kept"),
];

/// The runs of each reader.
#[derive(Default)]
pub struct Reads([Vec<Run>; READERS.len()]);

/// A table for them.
pub fn table() -> Table {
    Table::new("Everything read, simulated engine on a socket", &["by", "tenants", "time", "peak memory"])
}

impl Reads {
    /// One run of each reader.
    pub fn measure(&mut self, socket: &Path, folder: &Path) -> anyhow::Result<()> {
        for ((reader, _), runs) in READERS.iter().zip(&mut self.0) {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("reads").arg(reader).arg(socket);
            runs.push(measure::run(&command, folder).context(*reader)?);
        }
        Ok(())
    }

    /// Adds a row for each reader.
    pub fn add_to(&self, table: &mut Table, tenants: usize) {
        for ((_, name), runs) in READERS.iter().zip(&self.0) {
            table.row([(*name).to_owned(), tenants.to_string(), time(median(runs)), mebibytes(peak(runs))]);
        }
    }
}

/// The process of one run.
pub fn main(reader: &str, socket: &str) -> anyhow::Result<()> {
    let socket = Path::new(socket);
    world::runtime()?.block_on(async {
        match reader {
            "raw" => {
                let engine = Engine::connect(socket, Duration::from_secs(60)).await?;
                drop(engine.observe().await?);
            }
            "bollard" => read(&docker(socket)?, |container| container).await?,
            "bollard-parts" => read(&docker(socket)?, parts).await?,
            other => bail!("nobody reads as {other}"),
        }
        Ok(())
    })
}

/// Asks for what `Engine::observe` asks for, and keeps all answers to the end.
async fn read<T>(docker: &Docker, keep: impl Fn(ContainerInspectResponse) -> T) -> anyhow::Result<()> {
    let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
    let containers = async {
        let ids = docker.list_containers(Some(options)).await?.into_iter().filter_map(|container| container.id);
        let inspect = async |id: String| docker.inspect_container(&id, None).await.map(&keep);
        stream::iter(ids).map(inspect).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await
    };
    let kept = tokio::try_join!(docker.info(), docker.list_networks(None::<ListNetworksOptions>), containers)?;
    drop(kept);
    Ok(())
}

fn parts(container: ContainerInspectResponse) -> impl Sized {
    let state = container.state.and_then(|state| state.status);
    let config = container.config.unwrap_or_default();
    let host = container.host_config.unwrap_or_default();
    let limits = (host.memory, host.nano_cpus, host.pids_limit);
    (container.id, container.name, container.image, state, config.labels, config.env, limits, host.runtime, host.mounts)
}

/// bollard over connections that are kept, as tenantd's are.
fn docker(socket: &Path) -> anyhow::Result<Docker> {
    let (socket, idle) = (socket.to_owned(), Arc::new(Mutex::new(Vec::<Connection>::new())));
    let transport = move |request: BollardRequest| {
        let (socket, idle) = (socket.clone(), Arc::clone(&idle));
        async move {
            let kept = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let ready = {
                let mut idle = kept();
                idle.iter().position(Connection::is_ready).map(|place| idle.swap_remove(place))
            };
            let mut connection = match ready {
                Some(connection) => connection,
                None => bare::connect(&socket).await?,
            };
            let answer = send(&mut connection, request).await?;
            kept().push(connection);
            Ok(answer)
        }
    };
    Ok(Docker::connect_with_custom_transport(transport, Some("http://docker"), 60, API_DEFAULT_VERSION)?)
}

async fn send(connection: &mut Connection, request: BollardRequest) -> Result<Response<Incoming>, Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let builder = Request::builder().method(request.method()).uri(path).header(header::HOST, "docker");
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(connection.send_request(builder.body(body.into())?).await?)
}
