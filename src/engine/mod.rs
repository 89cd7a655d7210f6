//! What is needed of a Docker Engine, over its own API on a unix socket.
//!
//! Every call has a deadline that covers the body too, and every body a bound. A call that timed
//! out may still take effect: its outcome is unknown until the engine is observed again.

pub mod encode;

mod commands;
mod connection;
mod events;
mod facts;
mod http;
mod images;
mod inspect;
mod logs;
mod observe;
mod origin;
mod remembered;
mod rows;
mod selftest;
mod version;

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    models::{
        ContainerCreateBody, ContainerCreateResponse, ContainerUpdateBody, NetworkConnectRequest,
        NetworkDisconnectRequest, RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::{CreateContainerOptions, RemoveContainerOptions, RenameContainerOptions, StopContainerOptions},
};
use hyper::Method;
use serde::de::DeserializeOwned;

pub use events::{EngineEvent, Events};
pub use http::CallError;
pub use logs::LogRequest;
pub use observe::Listed;
pub use selftest::{SELFTEST_CODE, SELFTEST_IMAGE};
pub use version::{ApiVersion, VersionError};

use crate::model::{Container, EngineDefaults, Network, step::LiveLimits};
use commands::Commands;
use http::{Http, query};

/// A Docker Engine that answers.
pub struct Engine {
    http: Arc<Http>,
    /// Over the same connections.
    commands: Commands,
    api: ApiVersion,
    call: Duration,
    /// What the engine was seen to add to what it is sent. It lasts as long as the connection to its events: another
    /// configuration needs a restart of the engine.
    defaults: Mutex<EngineDefaults>,
    images: images::ImageClaims,
    facts: remembered::Listening,
}

/// Why an engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It cannot be reached, or does not answer as an engine does.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It speaks another version.
    #[error(transparent)]
    Version(#[from] VersionError),
}

impl Engine {
    /// Connects and agrees on a version.
    ///
    /// `call` is the deadline of each call that is not given another.
    ///
    /// # Errors
    /// The engine cannot be reached or is too old or too new.
    pub async fn connect(socket: &Path, call: Duration) -> Result<Self, ConnectError> {
        let http = Arc::new(Http::new(socket));
        // `/version` takes an engine as long as twenty inspections: it runs programs to answer that.
        let newest = http.header("/_ping", "api-version", call).await?;
        let api = match newest.as_deref().and_then(version::told_by_the_newest) {
            Some(api) => api,
            None => {
                let answer = http.call(Method::GET, "/version", None, call).await?;
                version::negotiate(&http::parse("GET /version", &answer)?)?
            }
        };
        Ok(Self {
            commands: Commands::new(&http, api)?,
            http,
            api,
            call,
            defaults: Mutex::default(),
            images: images::ImageClaims::default(),
            facts: remembered::Listening::default(),
        })
    }

    /// The version of the API that is spoken.
    pub fn api(&self) -> ApiVersion {
        self.api
    }

    /// What its own configuration adds to containers and networks, as far as it was seen.
    pub fn defaults(&self) -> EngineDefaults {
        self.defaults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers what its own configuration adds.
    pub fn learn(&self, change: impl FnOnce(&mut EngineDefaults)) {
        change(&mut self.defaults.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Makes a container of an image that nothing is asked for, looks at it and removes it, without ever starting it: what
    /// it has is what the engine adds.
    ///
    /// Whoever is killed in between leaves it behind, and the next one removes it.
    ///
    /// # Errors
    /// The engine refuses it or does not answer in time.
    pub async fn sample(&self, image: &str) -> Result<Container, CallError> {
        self.remove_samples().await?;
        let body = encode::sample(image);
        let created = self.create(None, body).await?;
        let found = self.inspect_container(&created.id).await;
        self.remove_container(&created.id).await?;
        let gone = || CallError::Malformed {
            call: "POST /containers/create".to_owned(),
            detail: "the container was gone before it could be inspected".to_owned(),
        };
        found?.and_then(|found| found.spec).map(|spec| *spec).ok_or_else(gone)
    }

    /// Makes a container under a name.
    ///
    /// # Errors
    /// The engine refuses it or does not answer in time.
    pub async fn create_container(&self, name: &str, spec: &Container) -> Result<ContainerCreateResponse, CallError> {
        let creation = format!("{:032x}", fastrand::u128(..));
        self.create(Some(name), encode::container(spec, &creation)?).await
    }

    async fn create(
        &self,
        name: Option<&str>,
        body: ContainerCreateBody,
    ) -> Result<ContainerCreateResponse, CallError> {
        let options = CreateContainerOptions { name: name.map(str::to_owned), ..CreateContainerOptions::default() };
        let create = self.commands.docker.create_container(Some(options), body);
        self.commands.run(Method::POST, "/containers/create", self.call, create).await
    }

    /// Starts a container within a deadline of its own. One that runs is left alone.
    ///
    /// # Errors
    /// It does not start, or not in time.
    pub async fn start_container(&self, id: &str, deadline: Duration) -> Result<(), CallError> {
        let path = format!("/containers/{id}/start");
        self.commands.run(Method::POST, &path, deadline, self.commands.docker.start_container(id, None)).await
    }

    /// Stops a container: TERM, and KILL after `grace`. One that is stopped is left alone.
    ///
    /// # Errors
    /// The engine refuses or does not answer in time.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CallError> {
        let path = format!("/containers/{id}/stop");
        let t = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(t), signal: None };
        self.commands
            .run(Method::POST, &path, self.call + grace, self.commands.docker.stop_container(id, Some(options)))
            .await
    }

    /// Freezes a container. One that is frozen is left alone.
    ///
    /// # Errors
    /// The engine refuses or does not answer in time.
    pub async fn pause_container(&self, id: &str) -> Result<(), CallError> {
        let path = format!("/containers/{id}/pause");
        match self.commands.run(Method::POST, &path, self.call, self.commands.docker.pause_container(id)).await {
            Err(CallError::Refused { message, .. }) if message.contains("already paused") => Ok(()),
            other => other,
        }
    }

    /// Thaws a container. One that is not frozen is left alone.
    ///
    /// # Errors
    /// The engine refuses or does not answer in time.
    pub async fn unpause_container(&self, id: &str) -> Result<(), CallError> {
        let path = format!("/containers/{id}/unpause");
        match self.commands.run(Method::POST, &path, self.call, self.commands.docker.unpause_container(id)).await {
            Err(CallError::Refused { message, .. }) if message.contains("is not paused") => Ok(()),
            other => other,
        }
    }

    /// Removes a container, killed if it runs. One that is gone is no error.
    ///
    /// # Errors
    /// The engine refuses or does not answer in time.
    pub async fn remove_container(&self, id: &str) -> Result<(), CallError> {
        let path = format!("/containers/{id}");
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        let remove = self.commands.docker.remove_container(id, Some(options));
        match absent_is_fine(self.commands.run(Method::DELETE, &path, self.call, remove).await) {
            Err(busy @ CallError::Refused { status: 409, .. }) if busy.to_string().contains("already in progress") => {
                // An earlier call does it: one that timed out, or another client's.
                tokio::time::timeout(self.call, self.gone(id)).await.unwrap_or(Err(busy))
            }
            other => other,
        }
    }

    /// Waits until a container is gone.
    async fn gone(&self, id: &str) -> Result<(), CallError> {
        while self.inspect_container(id).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Changes limits and takes the engine's restart policy away, in place.
    ///
    /// # Errors
    /// The engine refuses, as it does below current use; nothing has changed then.
    pub async fn update_container(&self, id: &str, limits: &LiveLimits) -> Result<(), CallError> {
        let path = format!("/containers/{id}/update");
        let body = ContainerUpdateBody {
            memory: Some(limits.memory),
            memory_swap: Some(limits.memory),
            nano_cpus: Some(limits.nano_cpus),
            pids_limit: Some(limits.pids_limit),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            ..ContainerUpdateBody::default()
        };
        self.commands.run(Method::POST, &path, self.call, self.commands.docker.update_container(id, body)).await
    }

    /// Gives a container another name. One that has it already is left alone.
    ///
    /// # Errors
    /// The name is taken, or the engine does not answer in time.
    pub async fn rename_container(&self, id: &str, name: &str) -> Result<(), CallError> {
        let path = format!("/containers/{id}/rename");
        let options = RenameContainerOptions { name: name.to_owned() };
        match self
            .commands
            .run(Method::POST, &path, self.call, self.commands.docker.rename_container(id, options))
            .await
        {
            Err(CallError::Refused { message, .. }) if message.contains("same name as its current name") => Ok(()),
            other => other,
        }
    }

    /// Makes a network.
    ///
    /// # Errors
    /// The engine refuses it, as it does when its addresses are in use, or does not answer in time.
    pub async fn create_network(&self, spec: &Network) -> Result<(), CallError> {
        let path = self.versioned("/networks/create");
        self.http.call(Method::POST, &path, Some(&encode::network(spec)), self.call).await.map(drop)
    }

    /// Removes a network. One that is gone is no error.
    ///
    /// # Errors
    /// Containers are on it, or the engine does not answer in time.
    pub async fn remove_network(&self, id: &str) -> Result<(), CallError> {
        let path = format!("/networks/{id}");
        absent_is_fine(
            self.commands.run(Method::DELETE, &path, self.call, self.commands.docker.remove_network(id)).await,
        )
    }

    /// Puts a container on a network, with that address whenever it runs.
    ///
    /// # Errors
    /// The engine refuses or does not answer in time.
    pub async fn connect_container(
        &self,
        network: &str,
        container: &str,
        address: Option<Ipv4Addr>,
    ) -> Result<(), CallError> {
        let path = format!("/networks/{network}/connect");
        let body =
            NetworkConnectRequest { container: container.to_owned(), endpoint_config: address.map(encode::endpoint) };
        match self
            .commands
            .run(Method::POST, &path, self.call, self.commands.docker.connect_network(network, body))
            .await
        {
            Err(CallError::Refused { message, .. }) if message.contains("already exists in network") => Ok(()),
            other => other,
        }
    }

    /// Takes a container off a network. One that is not on it is no error.
    ///
    /// # Errors
    /// The engine refuses or does not answer in time.
    pub async fn disconnect_container(&self, network: &str, container: &str) -> Result<(), CallError> {
        let path = format!("/networks/{network}/disconnect");
        let body = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
        match self
            .commands
            .run(Method::POST, &path, self.call, self.commands.docker.disconnect_network(network, body))
            .await
        {
            Err(CallError::Refused { message, .. }) if message.contains("is not connected to") => Ok(()),
            other => absent_is_fine(other),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.get_within(path, self.call).await
    }

    async fn get_list<T: DeserializeOwned>(&self, path: &str, take: impl FnMut(T)) -> Result<(), CallError> {
        self.http.list(&self.versioned(path), self.call, take).await
    }

    async fn get_within<T: DeserializeOwned>(&self, path: &str, deadline: Duration) -> Result<T, CallError> {
        let path = self.versioned(path);
        let answer = self.http.call(Method::GET, &path, None, deadline).await?;
        http::parse(&path, &answer)
    }

    fn versioned(&self, path: &str) -> String {
        self.api.path(path)
    }
}

fn absent_is_fine(result: Result<(), CallError>) -> Result<(), CallError> {
    match result {
        Err(CallError::Refused { status: 404, .. }) => Ok(()),
        other => other,
    }
}
