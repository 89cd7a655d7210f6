//! What tenantd makes of a fleet, as the calls that make it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tenantd::{
    engine::{CallError, Engine, encode},
    model::{Container, Host, NAME_PREFIX, Network, PlannedStep, Step},
    plan, reconcile, source, spec,
};

use crate::{
    bare::{Call, Chains},
    world::{self, World},
};

/// How many calls are made at once to clean up.
const AT_ONCE: usize = 8;

/// One tenant, as tenantd declares it to the engine.
pub struct Member {
    pub network: Network,
    pub container: Container,
    /// What makes the container.
    body: Value,
}

/// All tenants of a world.
pub struct Fleet {
    pub members: Vec<Member>,
    /// The engine's API, such as `/v1.41`.
    api: String,
}

impl Fleet {
    /// Plans the fleet for an engine that has nothing yet.
    pub fn of(world: &World) -> anyhow::Result<Self> {
        let host = host(world)?;
        let desired = spec::compile(&source::read_commit(&world.repo(), "HEAD")?);
        let (api, observed) = world::runtime()?.block_on(async {
            let engine = connect(&host).await?;
            anyhow::Ok((engine.api(), reconcile::observe(&engine, &host, &desired).await?))
        })?;
        let steps = plan::plan(&desired, &host, &observed).tenants.into_iter().map(|tenant| tenant.steps);
        let members: Vec<Member> = steps.filter_map(member).collect();
        ensure!(members.len() == desired.tenants.len(), "the engine is not empty, or has no image");
        Ok(Self { members, api: format!("/v{api}") })
    }

    /// Network, container and start of each tenant.
    pub fn first_up(&self) -> Vec<Chains> {
        let chain = |member: &Member| std::iter::once(self.network(member)).chain(self.container(member)).collect();
        vec![self.members.iter().map(chain).collect()]
    }

    /// A list, and an inspection of each container.
    pub fn observe(&self) -> Vec<Chains> {
        let inspect =
            |member: &Member| vec![Call::get(format!("{}/containers/{}/json", self.api, member.container.name))];
        vec![self.list(), self.members.iter().map(inspect).collect()]
    }

    /// The same, and what tenantd has to know besides: the engine's own limits and its networks.
    pub fn observe_further(&self) -> Vec<Chains> {
        let mut stages = self.observe();
        let others = ["info", "networks"].map(|what| vec![Call::get(format!("{}/{what}", self.api))]);
        stages.iter_mut().take(1).for_each(|first| first.extend(others.clone()));
        stages
    }

    /// A list, and what is missing made anew.
    pub fn heal(&self, missing: &[&Member]) -> Vec<Chains> {
        vec![self.list(), missing.iter().map(|member| self.container(member).collect()).collect()]
    }

    /// Some members, others in each round.
    pub fn pick(&self, round: usize, count: usize) -> Vec<&Member> {
        self.members.iter().cycle().skip(round * count).take(count.min(self.members.len())).collect()
    }

    fn list(&self) -> Chains {
        vec![vec![Call::get(format!("{}/containers/json?all=1", self.api))]]
    }

    /// One tenant's network.
    pub fn network(&self, member: &Member) -> Call {
        self.post("/networks/create", Some(encode::network(&member.network)))
    }

    /// Create and start of one tenant's container.
    pub fn container(&self, member: &Member) -> impl Iterator<Item = Call> + use<> {
        let name = &member.container.name;
        let create = format!("/containers/create?name={name}");
        let start = format!("/containers/{name}/start");
        [self.post(&create, Some(member.body.clone())), self.post(&start, None)].into_iter()
    }

    /// The removal of one tenant's container.
    pub fn removal(&self, member: &Member) -> Call {
        self.call("DELETE", &format!("/containers/{}?force=1&v=1", member.container.name))
    }

    /// The limits of one tenant's container, with another limit of memory where one is given.
    pub fn update(&self, member: &Member, memory: Option<i64>) -> Call {
        let Container { name, nano_cpus, pids_limit, .. } = &member.container;
        let memory = memory.unwrap_or(member.container.memory);
        let limits = json!({
            "Memory": memory, "MemorySwap": memory, "NanoCpus": nano_cpus, "PidsLimit": pids_limit,
            "RestartPolicy": {"Name": "no"},
        });
        self.post(&format!("/containers/{name}/update"), Some(limits))
    }

    /// A call of the engine's API without a body.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(method, format!("{}{path}", self.api), None)
    }

    /// A call of the engine's API.
    pub fn post(&self, path: &str, body: Option<Value>) -> Call {
        Call::new("POST", format!("{}{path}", self.api), body)
    }

    /// Makes the folders that the containers mount. Only what a tenant may write to belongs to it.
    pub fn make_workspaces(&self) -> anyhow::Result<()> {
        for mount in self.members.iter().flat_map(|member| &member.container.mounts) {
            fs::create_dir_all(&mount.source)?;
            if !mount.writable {
                continue;
            }
            fs::set_permissions(&mount.source, fs::Permissions::from_mode(0o700))?;
            chown(&mount.source, Some(1000), Some(1000))?;
        }
        Ok(())
    }
}

fn member(steps: Vec<PlannedStep>) -> Option<Member> {
    let (mut network, mut container) = (None, None);
    for planned in steps {
        match planned.step {
            Step::CreateNetwork { spec } => network = Some(*spec),
            Step::CreateContainer { spec, .. } => container = Some(*spec),
            _ => {}
        }
    }
    let (network, container) = (network?, container?);
    let body = serde_json::to_value(encode::container(&container, "bench").ok()?).ok()?;
    Some(Member { network, container, body })
}

/// The settings of a world's host.
pub fn host(world: &World) -> anyhow::Result<Host> {
    let file = world.host();
    let host = spec::host(&file.display().to_string(), &fs::read(&file)?);
    host.map_err(|findings| anyhow::anyhow!("{findings:?}"))
}

async fn connect(host: &Host) -> anyhow::Result<Engine> {
    Engine::connect(&host.engine, host.deadlines.call.get()).await.context("the engine does not answer")
}

/// Removes containers by name.
pub fn remove(socket: &Path, members: &[&Member]) -> anyhow::Result<()> {
    let host = Host { engine: socket.to_owned(), ..Host::default() };
    world::runtime()?.block_on(async {
        let engine = connect(&host).await?;
        let removals = members.iter().map(|member| engine.remove_container(&member.container.name));
        at_once(removals).await
    })
}

/// Removes all containers and networks that have a name of ours, whoever made them.
pub fn clean(socket: &Path) -> anyhow::Result<()> {
    let host = Host { engine: socket.to_owned(), ..Host::default() };
    world::runtime()?.block_on(async {
        let engine = connect(&host).await?;
        let observed = engine.observe().await?;
        at_once(observed.containers.iter().map(|container| engine.remove_container(&container.id))).await?;
        let networks = observed.networks.iter().filter(|network| network.spec.name.starts_with(NAME_PREFIX));
        at_once(networks.map(|network| engine.remove_network(&network.id))).await
    })
}

async fn at_once(calls: impl Iterator<Item = impl Future<Output = Result<(), CallError>>>) -> anyhow::Result<()> {
    Ok(stream::iter(calls).buffer_unordered(AT_ONCE).try_collect::<()>().await?)
}
