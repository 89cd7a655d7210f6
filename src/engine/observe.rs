//! One observation of an engine: two lists, and an inspection of each container that carries our label.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    CallError, Engine,
    encode::SAMPLE_LABEL,
    inspect,
    origin::{ImageClaim, Origin},
    query,
};
use crate::model::{
    Claim, NAME_PREFIX, Network, Observed, TENANT_LABEL, TenantName,
    observed::{EngineFacts, ImageState, KnownImage, Member, ObservedContainer, ObservedNetwork, RunState, Unobserved},
};

/// How many inspections are asked for at once. More than 8 gain nothing on one engine.
pub(super) const AT_ONCE: usize = 8;

/// How long one inspection may take. The engine answers in under a millisecond, and in one to two
/// seconds for a container that is just starting; for one that is stuck it never does.
const INSPECTION: Duration = Duration::from_secs(5);

impl Engine {
    /// Observes the engine, its networks and the containers that concern us; not at images.
    ///
    /// A container that cannot be inspected in time is reported as unobserved; the others are not
    /// held up by it.
    ///
    /// # Errors
    /// The engine cannot be reached, or refuses a list.
    pub async fn observe(&self) -> Result<Observed, CallError> {
        // All at once: to report itself takes the engine longest, and inspections need nothing of that.
        let containers = async {
            let (mut list, mut inspected) = (List::default(), Observed::default());
            self.list_containers(None, &mut list).await?;
            self.inspect_listed(list.containers, &mut inspected).await;
            Ok((list.members, inspected))
        };
        let (engine, networks, (members, inspected)) = tokio::try_join!(self.facts(), self.networks(), containers)?;
        let Observed { containers, unobserved, .. } = inspected;
        Ok(Observed { containers, unobserved, ..assemble(engine, networks, members) })
    }

    /// Observes the engine and its networks, and lists the containers that concern us.
    ///
    /// # Errors
    /// As those of [`Engine::observe`].
    pub async fn overview(&self) -> Result<(Observed, Vec<Listed>), CallError> {
        let mut list = List::default();
        let lists = self.list_containers(None, &mut list);
        let (engine, networks, ()) = tokio::try_join!(self.facts(), self.networks(), lists)?;
        Ok((assemble(engine, networks, list.members), list.containers))
    }

    /// Observes one tenant's containers, what is on its network or has its names, and the list
    /// of all networks. `facts` is what the engine said of itself at an earlier observation.
    ///
    /// # Errors
    /// The engine cannot be reached, or refuses a list.
    pub async fn observe_tenant(&self, tenant: &TenantName, facts: &EngineFacts) -> Result<Observed, CallError> {
        let (name, replacement) = (tenant.object_name(), tenant.replacement_name());
        let mut lists = [List::default(), List::default(), List::default()];
        let [labelled, named, members] = &mut lists;
        // Filters of different kinds must all hold; here any of them will do.
        let label = json!({"label": [format!("{TENANT_LABEL}={tenant}")]});
        let names = json!({"name": [format!("^/{name}$"), format!("^/{}$", replacement.replace('.', "\\."))]});
        let network = json!({"network": [name]});
        let ((), (), (), networks, endpoints) = tokio::try_join!(
            self.list_containers(Some(label), labelled),
            self.list_containers(Some(names), named),
            self.list_containers(Some(network), members),
            self.networks(),
            self.endpoints(&name)
        )?;
        let mut list = lists.into_iter().reduce(List::merge).unwrap_or_default();
        if let Some(network) = endpoints {
            self.add_members(&mut list, network).await;
        }
        let facts = EngineFacts { defaults: self.defaults(), ..facts.clone() };
        let mut observed = assemble(facts, networks, list.members);
        self.inspect_listed(list.containers, &mut observed).await;
        Ok(observed)
    }

    /// What the network of a name says itself of who is on it. The list of containers knows that only
    /// some time after the event that reports it.
    async fn endpoints(&self, name: &str) -> Result<Option<inspect::InspectedNetwork>, CallError> {
        match self.get(&format!("/networks/{name}")).await {
            Ok(network) => Ok(Some(network)),
            // There is none, or there are several: then the lists must do.
            Err(CallError::Refused { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Adds those on a network whom the list does not have there yet.
    async fn add_members(&self, list: &mut List, network: inspect::InspectedNetwork) {
        let inspect::InspectedNetwork { id: network, containers: endpoints } = network;
        let listed = list.members.entry(network).or_default();
        for id in endpoints.into_keys().filter(|id| !id.starts_with("ep-")) {
            if listed.iter().any(|member| member.id == id) {
                continue;
            }
            // One that cannot be inspected is going, or the next observation shows it.
            if let Ok(Some(found)) = self.inspect_member(&id).await {
                listed.push(Member { id, name: found.name, tenant: found.tenant });
            }
        }
    }

    /// What images say of tenants, by their ids. One that is known already is asked for no more.
    async fn image_claims(&self, ids: BTreeSet<&str>) -> BTreeMap<String, ImageClaim> {
        let ask = |id: &str| {
            let id = id.to_owned();
            async move { (id.clone(), self.image_claim(&id).await) }
        };
        let asked: Vec<_> = ids.into_iter().map(ask).collect();
        stream::iter(asked).buffer_unordered(AT_ONCE).collect().await
    }

    /// What one image says of tenants.
    async fn image_claim(&self, id: &str) -> ImageClaim {
        if let Some(claim) = self.images.get(id) {
            return ImageClaim::Known(claim);
        }
        let claim = match self.get::<inspect::InspectedImage>(&format!("/images/{}/json", query(id))).await {
            Ok(image) => Arc::new(image.claim()),
            Err(CallError::Refused { status: 404, .. }) => return ImageClaim::Gone,
            Err(e) => return ImageClaim::Unknown(e.to_string()),
        };
        self.images.add(id, &claim);
        ImageClaim::Known(claim)
    }

    async fn list_containers(&self, filters: Option<Value>, list: &mut List) -> Result<(), CallError> {
        let filters = filters.map_or_else(String::new, |filters| format!("&filters={}", query(&filters.to_string())));
        self.get_list(&format!("/containers/json?all=1{filters}"), |container| list.add(container)).await?;
        self.settle(list).await;
        Ok(())
    }

    /// Finds out whose the listed containers are. Images that are known already are asked for no more.
    async fn settle(&self, list: &mut List) {
        let claiming = list.containers.iter().filter(|listed| listed.claim.tenant.is_some());
        let images = self.image_claims(claiming.map(|listed| listed.image.as_str()).collect()).await;
        let mut inherited = BTreeSet::new();
        for listed in &mut list.containers {
            let Some(image) = images.get(&listed.image) else { continue };
            listed.origin = Origin::of(&listed.claim, &listed.name, image);
            if listed.origin.looks_like().is_some() {
                inherited.insert(listed.id.clone());
            }
        }
        if inherited.is_empty() {
            return;
        }
        let members = list.members.values_mut().flatten();
        members.filter(|member| inherited.contains(&member.id)).for_each(|member| member.tenant = None);
    }

    /// The network of a name, if there is one.
    ///
    /// # Errors
    /// The engine does not answer in time.
    pub async fn find_network(&self, name: &str) -> Result<Option<ObservedNetwork>, CallError> {
        Ok(self.networks().await?.into_iter().find(|network| network.spec.name == name))
    }

    /// The network of a name without those on it, if there is just one.
    ///
    /// # Errors
    /// The engine does not answer in time.
    pub async fn inspect_network(&self, name: &str) -> Result<Option<Network>, CallError> {
        match self.get::<inspect::ListedNetwork>(&format!("/networks/{name}")).await {
            Ok(network) => Ok(Some(network.network())),
            Err(CallError::Refused { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn networks(&self) -> Result<Vec<ObservedNetwork>, CallError> {
        let mut networks = Vec::new();
        let add = |network: inspect::ListedNetwork| {
            let id = network.id.clone();
            let spec = network.network();
            let tenant = spec.labels.get(TENANT_LABEL).cloned();
            networks.push(ObservedNetwork { id, tenant, spec, members: Vec::new() });
        };
        self.get_list("/networks", add).await?;
        Ok(networks)
    }

    /// Adds listed containers to an observation, inspected where they carry our label.
    pub async fn inspect_listed(&self, listed: Vec<Listed>, observed: &mut Observed) {
        let mut inspections = stream::iter(listed)
            .map(|listed| async move {
                let unobserved = |tenant: &String, reason: String| Unobserved {
                    tenant: tenant.clone(),
                    object: format!("container {}", listed.name),
                    reason,
                    listed: None,
                };
                let tenant = match &listed.origin {
                    Origin::Tenant(tenant) => tenant.clone(),
                    Origin::Unsettled(tenant, reason) => return Err(Some(unobserved(tenant, reason.clone()))),
                    Origin::Foreign | Origin::Inherited(_) => return Ok(listed.as_foreign()),
                };
                match self.inspect_container(&listed.id).await {
                    Ok(Some(mut container)) => {
                        container.tenant = Some(tenant);
                        Ok(container)
                    }
                    Ok(None) => Err(None),
                    Err(e) => Err(Some(Unobserved {
                        listed: matches!(e, CallError::TimedOut { .. })
                            .then(|| ObservedContainer { tenant: Some(tenant.clone()), ..listed.as_foreign() }),
                        ..unobserved(&tenant, e.to_string())
                    })),
                }
            })
            .buffer_unordered(AT_ONCE);
        while let Some(result) = inspections.next().await {
            match result {
                Ok(container) => observed.containers.push(container),
                Err(Some(unobserved)) => observed.unobserved.push(unobserved),
                // It went away between the list and the inspection.
                Err(None) => {}
            }
        }
        observed.containers.sort_by(|a, b| a.id.cmp(&b.id));
        observed.unobserved.sort_by(|a, b| a.tenant.cmp(&b.tenant));
    }

    /// Inspects one container, without finding out whose it is; `None` where it is gone.
    ///
    /// # Errors
    /// The engine does not answer in time.
    pub async fn inspect_container(&self, id: &str) -> Result<Option<ObservedContainer>, CallError> {
        Ok(self.inspected(id).await?.map(|inspected| observed(inspected, &Origin::Foreign)))
    }

    /// The same, with whose it is.
    async fn inspect_member(&self, id: &str) -> Result<Option<ObservedContainer>, CallError> {
        let Some(inspected) = self.inspected(id).await? else { return Ok(None) };
        let (claim, image) = inspected.claim();
        let origin = match claim.tenant {
            Some(_) => Origin::of(&claim, inspected.name(), &self.image_claim(image).await),
            None => Origin::Foreign,
        };
        Ok(Some(observed(inspected, &origin)))
    }

    async fn inspected(&self, id: &str) -> Result<Option<inspect::Inspected>, CallError> {
        let path = format!("/containers/{id}/json");
        match self.get_within(&path, self.call.min(INSPECTION)).await {
            Ok(inspected) => Ok(Some(inspected)),
            Err(CallError::Refused { status: 404, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Removes containers that were made to be inspected, and were left behind a minute ago or earlier: younger ones may be
    /// somebody's who looks just now.
    pub(super) async fn remove_samples(&self) -> Result<(), CallError> {
        let filter = json!({"label": [SAMPLE_LABEL], "status": ["created"]});
        let mut left = Vec::new();
        let path = format!("/containers/json?all=1&filters={}", query(&filter.to_string()));
        self.get_list(&path, |row: inspect::ListedSample| left.push(row)).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for row in left.iter().filter(|row| row.created + 60 < now) {
            self.remove_container(&row.id).await?;
        }
        Ok(())
    }

    /// The id of the container that carries a tenant's label, preferring the one of the declared name.
    ///
    /// # Errors
    /// The engine does not answer in time.
    pub async fn find_tenant(&self, tenant: &str, name: &str) -> Result<Option<String>, CallError> {
        let filter = json!({"label": [format!("{TENANT_LABEL}={tenant}")]});
        let mut list = List::default();
        self.list_containers(Some(filter), &mut list).await?;
        list.containers.retain(|container| container.tenant().is_some());
        list.containers.sort_by_key(|container| container.name != name);
        Ok(list.containers.into_iter().next().map(|container| container.id))
    }

    /// All images, each with its names and what it brings into a container.
    ///
    /// # Errors
    /// The engine cannot be reached, or refuses the list.
    pub async fn all_images(&self) -> Result<Vec<KnownImage>, CallError> {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let add = |row: inspect::ListedImage| names.entry(row.id.clone()).or_default().extend(row.names());
        self.get_list("/images/json", add).await?;
        let ids = names.keys().cloned().collect();
        let mut states = self.images(&ids).await;
        let image = |(id, names): (String, _)| {
            let state = states.remove(&id).unwrap_or(ImageState::Missing);
            KnownImage { id, names, state }
        };
        Ok(names.into_iter().map(image).collect())
    }

    /// Observes images, by reference.
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

/// Puts the parts of an overview together: who is on which network, and everything in a stable order.
fn assemble(
    engine: EngineFacts,
    mut networks: Vec<ObservedNetwork>,
    mut members: BTreeMap<String, Vec<Member>>,
) -> Observed {
    for network in networks.iter_mut().filter(|network| network.tenant.is_some()) {
        network.members = members.remove(&network.id).unwrap_or_default();
        network.members.sort_by(|a, b| a.name.cmp(&b.name));
    }
    networks.sort_by(|a, b| a.id.cmp(&b.id));
    Observed { engine, networks, ..Observed::default() }
}

/// What is kept of a list of containers.
#[derive(Default)]
struct List {
    /// Those that concern us.
    containers: Vec<Listed>,
    /// Which containers are on each network, by its id.
    members: BTreeMap<String, Vec<Member>>,
}

/// A listed container that concerns us: by its label, or by a name that we would use.
pub struct Listed {
    /// Its full id.
    pub id: String,
    /// Its name, without the engine's slash.
    pub name: String,
    claim: Claim,
    /// The id of its image.
    image: String,
    origin: Origin,
    state: RunState,
}

fn observed(inspected: inspect::Inspected, origin: &Origin) -> ObservedContainer {
    let (id, state, exit_code) = (inspected.id.clone(), inspected.run_state(), inspected.state.exit_code);
    let health = inspected.state.health();
    let (spec, networks) = inspected.container();
    ObservedContainer {
        id,
        tenant: origin.tenant().cloned(),
        looks_like: origin.looks_like().cloned(),
        state,
        exit_code,
        health,
        networks: networks.ids(),
        addresses: networks.addresses(),
        name: spec.name.clone(),
        spec: Some(Box::new(spec)),
    }
}

impl List {
    fn add(&mut self, row: inspect::ListedContainer) {
        let (name, tenant) = (row.name(), row.labels.get(TENANT_LABEL).cloned());
        for endpoint in row.network_settings.networks.into_values() {
            let member = Member { id: row.id.clone(), name: name.clone(), tenant: tenant.clone() };
            self.members.entry(endpoint.network_id).or_default().push(member);
        }
        if tenant.is_some() || name.starts_with(NAME_PREFIX) {
            self.containers.push(Listed {
                id: row.id,
                name,
                claim: Claim::of(&row.labels),
                image: row.image_id,
                origin: Origin::Foreign,
                state: inspect::run_state(&row.state),
            });
        }
    }

    /// Both lists as one; what is in both of them counts once.
    fn merge(mut self, other: Self) -> Self {
        for container in other.containers {
            if self.containers.iter().all(|known| known.id != container.id) {
                self.containers.push(container);
            }
        }
        for (network, members) in other.members {
            let known = self.members.entry(network).or_default();
            for member in members {
                if known.iter().all(|known| known.id != member.id) {
                    known.push(member);
                }
            }
        }
        self
    }
}

impl Listed {
    /// The tenant whose it is.
    pub fn tenant(&self) -> Option<&String> {
        self.origin.tenant()
    }

    /// The tenant that it merely looks like.
    pub fn looks_like(&self) -> Option<&String> {
        self.origin.looks_like()
    }

    /// What is known of it without an inspection, as of a container that is not ours.
    pub fn as_foreign(&self) -> ObservedContainer {
        ObservedContainer {
            id: self.id.clone(),
            name: self.name.clone(),
            looks_like: self.looks_like().cloned(),
            state: self.state,
            ..ObservedContainer::default()
        }
    }
}
