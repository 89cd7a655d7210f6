//! One look at an engine: two lists, and an inspection of each container that carries our label.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{CallError, Engine, inspect, query};
use crate::model::{
    Cpus, NAME_PREFIX, Observed, TENANT_LABEL, TenantName,
    observed::{EngineFacts, ImageState, Member, ObservedContainer, ObservedNetwork, RunState, Unobserved},
};

/// How many inspections are asked for at once. More than 8 gain nothing on one engine.
const AT_ONCE: usize = 8;

/// How long one inspection may take. The engine answers in under a millisecond, and in one to two
/// seconds for a container that is just starting; for one that is stuck it never does.
const INSPECTION: Duration = Duration::from_secs(5);

impl Engine {
    /// Looks at the engine, its networks and the containers that concern us; not at images.
    ///
    /// A container that cannot be inspected in time is reported as unobserved; the others are not
    /// held up by it.
    ///
    /// # Errors
    /// The engine cannot be reached, or refuses a list.
    pub async fn observe(&self) -> Result<Observed, CallError> {
        // What the engine says of itself takes it longer than a list: it runs programs to know.
        let (engine, networks, containers) = tokio::try_join!(self.facts(), self.networks(), self.containers())?;
        Ok(assemble(engine, networks, containers))
    }

    /// Looks at one tenant's containers, at what is on its network or has its names, and at the list
    /// of all networks. `facts` is what the engine said of itself at an earlier look.
    ///
    /// # Errors
    /// The engine cannot be reached, or refuses a list.
    pub async fn observe_tenant(&self, tenant: &TenantName, facts: &EngineFacts) -> Result<Observed, CallError> {
        let (name, replacement) = (tenant.object_name(), tenant.replacement_name());
        // Filters of different kinds must all hold; here any of them will do.
        let lists = [
            json!({"label": [format!("{TENANT_LABEL}={tenant}")]}),
            json!({"name": [format!("^/{name}$"), format!("^/{}$", replacement.replace('.', "\\."))]}),
            json!({"network": [name]}),
        ];
        let [labelled, named, members] = lists.map(|filters| self.list_containers(Some(filters)));
        let (labelled, named, members, networks, endpoints) =
            tokio::try_join!(labelled, named, members, self.networks(), self.endpoints(&name))?;
        let mut seen = BTreeSet::new();
        let listed = [labelled, named, members].into_iter().flatten().filter(|one| seen.insert(one.id.clone()));
        let mut containers = self.inspect_listed(listed.collect()).await;
        if let Some(network) = endpoints {
            self.add_members(&mut containers, network).await;
        }
        Ok(assemble(facts.clone(), networks, containers))
    }

    /// What the network of a name says itself of who is on it. The list of containers knows that only
    /// some time after the event that tells of it.
    async fn endpoints(&self, name: &str) -> Result<Option<inspect::InspectedNetwork>, CallError> {
        match self.get(&format!("/networks/{name}")).await {
            Ok(network) => Ok(Some(network)),
            // There is none, or there are several: then the lists must do.
            Err(CallError::Refused { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Adds those on a network whom the list does not have there yet.
    async fn add_members(&self, containers: &mut Containers, network: inspect::InspectedNetwork) {
        let inspect::InspectedNetwork { id: network, containers: endpoints } = network;
        let listed = containers.members.entry(network).or_default();
        for id in endpoints.into_keys().filter(|id| !id.starts_with("ep-")) {
            if listed.iter().any(|member| member.id == id) {
                continue;
            }
            // One that cannot be inspected is going, or the next look tells.
            if let Ok(Some(found)) = self.inspect_container(&id).await {
                listed.push(Member { id, name: found.name, tenant: found.tenant });
            }
        }
    }

    async fn list_containers(&self, filters: Option<Value>) -> Result<Vec<inspect::ListedContainer>, CallError> {
        let filters = filters.map_or_else(String::new, |filters| format!("&filters={}", query(&filters.to_string())));
        self.get(&format!("/containers/json?all=1{filters}")).await
    }

    /// The network of a name, if there is one.
    ///
    /// # Errors
    /// The engine does not answer in time.
    pub async fn find_network(&self, name: &str) -> Result<Option<ObservedNetwork>, CallError> {
        Ok(self.networks().await?.into_iter().find(|network| network.spec.name == name))
    }

    async fn networks(&self) -> Result<Vec<ObservedNetwork>, CallError> {
        let networks: Vec<inspect::ListedNetwork> = self.get("/networks").await?;
        let observed = |network: inspect::ListedNetwork| {
            let id = network.id.clone();
            let spec = network.network();
            ObservedNetwork { id, tenant: spec.labels.get(TENANT_LABEL).cloned(), spec, members: Vec::new() }
        };
        Ok(networks.into_iter().map(observed).collect())
    }

    async fn containers(&self) -> Result<Containers, CallError> {
        Ok(self.inspect_listed(self.list_containers(None).await?).await)
    }

    /// Inspects those of a list that carry our label.
    async fn inspect_listed(&self, listed: Vec<inspect::ListedContainer>) -> Containers {
        let mut all = Containers { members: members(&listed), ..Containers::default() };
        let mut inspections = stream::iter(listed.into_iter().filter_map(Seen::of))
            .map(|seen| async move {
                let Some(tenant) = seen.tenant.clone() else { return Ok(seen.stranger()) };
                match self.inspect_container(&seen.id).await {
                    Ok(Some(mut container)) => {
                        container.tenant = Some(tenant);
                        Ok(container)
                    }
                    Ok(None) => Err(None),
                    Err(e) => Err(Some(Unobserved {
                        object: format!("container {}", seen.name),
                        reason: e.to_string(),
                        listed: matches!(e, CallError::TimedOut { .. })
                            .then(|| ObservedContainer { tenant: Some(tenant.clone()), ..seen.stranger() }),
                        tenant,
                    })),
                }
            })
            .buffer_unordered(AT_ONCE);
        while let Some(result) = inspections.next().await {
            match result {
                Ok(container) => all.containers.push(container),
                Err(Some(unobserved)) => all.unobserved.push(unobserved),
                // It went away between the list and the inspection.
                Err(None) => {}
            }
        }
        drop(inspections);
        all
    }

    /// Looks at one container; `None` where it is gone.
    ///
    /// # Errors
    /// The engine does not answer in time.
    pub async fn inspect_container(&self, id: &str) -> Result<Option<ObservedContainer>, CallError> {
        let path = format!("/containers/{id}/json");
        match self.get_within::<inspect::Inspected>(&path, self.call.min(INSPECTION)).await {
            Ok(inspected) => {
                let (id, state, exit_code) = (inspected.id.clone(), inspected.run_state(), inspected.state.exit_code);
                let (spec, networks) = inspected.container();
                Ok(Some(ObservedContainer {
                    id,
                    tenant: spec.labels.get(TENANT_LABEL).cloned(),
                    state,
                    exit_code,
                    networks: networks.ids(),
                    name: spec.name.clone(),
                    spec: Some(Box::new(spec)),
                }))
            }
            Err(CallError::Refused { status: 404, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The id of the container that carries a tenant's label, preferring the one of the declared name.
    ///
    /// # Errors
    /// The engine does not answer in time.
    pub async fn find_tenant(&self, tenant: &str, name: &str) -> Result<Option<String>, CallError> {
        let filter = json!({"label": [format!("{TENANT_LABEL}={tenant}")]});
        let mut listed = self.list_containers(Some(filter)).await?;
        listed.sort_by_key(|c| c.name() != name);
        Ok(listed.into_iter().next().map(|c| c.id))
    }

    async fn facts(&self) -> Result<EngineFacts, CallError> {
        let info: inspect::Info = self.get("/info").await?;
        let limits = [
            ("memory", info.memory_limit),
            ("swap", info.swap_limit),
            ("cpus", info.cpu_cfs_quota && info.cpu_cfs_period),
            ("pids", info.pids_limit),
        ];
        let seccomp = info
            .security_options
            .iter()
            .any(|option| option.starts_with("name=seccomp") && !option.contains("profile=unconfined"));
        Ok(EngineFacts {
            version: info.server_version,
            api_version: self.api.to_string(),
            cpus: Cpus::whole(info.cpus.max(1)),
            runtimes: info.runtimes.into_keys().collect(),
            missing_limits: limits.into_iter().filter(|(_, present)| !present).map(|(name, _)| name).collect(),
            seccomp,
        })
    }

    /// Looks at images, by reference.
    pub async fn images(&self, references: &BTreeSet<String>) -> BTreeMap<String, ImageState> {
        stream::iter(references)
            .map(|reference| async move {
                let path = format!("/images/{}/json", query(reference));
                let state = match self.get::<inspect::InspectedImage>(&path).await {
                    Ok(image) => ImageState::Present(image.facts()),
                    Err(CallError::Refused { status: 404, .. }) => ImageState::Missing,
                    Err(e) => ImageState::Unknown(e.to_string()),
                };
                (reference.clone(), state)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await
    }
}

/// Puts the parts of a look together: who is on which network, and everything in a stable order.
fn assemble(engine: EngineFacts, networks: Vec<ObservedNetwork>, containers: Containers) -> Observed {
    let Containers { containers, unobserved, mut members } = containers;
    let mut observed = Observed { engine, networks, containers, unobserved, ..Observed::default() };
    for network in observed.networks.iter_mut().filter(|network| network.tenant.is_some()) {
        network.members = members.remove(&network.id).unwrap_or_default();
        network.members.sort_by(|a, b| a.name.cmp(&b.name));
    }
    observed.containers.sort_by(|a, b| a.id.cmp(&b.id));
    observed.networks.sort_by(|a, b| a.id.cmp(&b.id));
    observed.unobserved.sort_by(|a, b| a.tenant.cmp(&b.tenant));
    observed
}

/// What the list of containers leads to.
#[derive(Default)]
struct Containers {
    containers: Vec<ObservedContainer>,
    unobserved: Vec<Unobserved>,
    members: BTreeMap<String, Vec<Member>>,
}

/// A listed container that concerns us: by its label, or by a name that we would use.
struct Seen {
    id: String,
    name: String,
    tenant: Option<String>,
    state: RunState,
}

impl Seen {
    fn of(listed: inspect::ListedContainer) -> Option<Self> {
        let name = listed.name();
        let tenant = listed.labels.get(TENANT_LABEL).cloned();
        (tenant.is_some() || name.starts_with(NAME_PREFIX)).then(|| Self {
            name,
            tenant,
            state: inspect::run_state(&listed.state),
            id: listed.id,
        })
    }

    fn stranger(self) -> ObservedContainer {
        ObservedContainer { id: self.id, name: self.name, state: self.state, ..ObservedContainer::default() }
    }
}

/// Which containers are on each network, by its id.
fn members(listed: &[inspect::ListedContainer]) -> BTreeMap<String, Vec<Member>> {
    let mut members: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for container in listed {
        for endpoint in container.network_settings.networks.values() {
            members.entry(endpoint.network_id.clone()).or_default().push(Member {
                id: container.id.clone(),
                name: container.name(),
                tenant: container.labels.get(TENANT_LABEL).cloned(),
            });
        }
    }
    members
}
