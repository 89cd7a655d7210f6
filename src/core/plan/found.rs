//! What was found, by tenant.

use std::collections::BTreeMap;

use super::workspace;
use crate::model::{
    NAME_PREFIX, Observed, REPLACEMENT_SUFFIX, TenantName,
    files::FoundFiles,
    observed::{ObservedContainer, ObservedNetwork},
    plan::Lookalike,
    workspace::FoundWorkspace,
};

/// What was found that concerns one tenant.
#[derive(Default)]
pub(super) struct Found<'a> {
    /// Containers with its label.
    pub(super) containers: Vec<&'a ObservedContainer>,
    /// Networks with its label.
    pub(super) networks: Vec<&'a ObservedNetwork>,
    /// Its workspace.
    pub(super) workspace: Option<&'a FoundWorkspace>,
    /// Its config files.
    pub(super) files: Option<&'a FoundFiles>,
    /// Whether the gateway has files of it.
    pub(super) has_gateway_files: bool,
    /// Why an object of it could not be observed: object and reason.
    pub(super) unobserved: Option<(&'a str, &'a str)>,
    /// An object that has its name and not its label: kind and id.
    pub(super) name_conflict: Option<(&'static str, &'a str)>,
    /// Whether a container that is not the tenant's has the name that its replacement would have.
    pub(super) replacement_name_taken: bool,
    /// Containers that have its label from their image.
    pub(super) lookalikes: Vec<Lookalike>,
}

impl Found<'_> {
    /// Whether anything of it is ours, so that it counts as a tenant although no file declares it.
    pub(super) fn is_ours(&self) -> bool {
        !self.containers.is_empty()
            || !self.networks.is_empty()
            || self.workspace.is_some_and(|found| found.exists() || workspace::deletes(found))
            || self.files.is_some()
            || self.has_gateway_files
            || self.unobserved.is_some()
    }
}

/// What was found, by the tenants that it concerns.
pub(super) fn index(observed: &Observed) -> BTreeMap<&str, Found<'_>> {
    let mut all = BTreeMap::new();
    index_containers(observed, &mut all);
    index_existing(observed, &mut all);
    all
}

/// Adds containers, and what could not be observed.
pub(super) fn index_containers<'a>(observed: &'a Observed, all: &mut BTreeMap<&'a str, Found<'a>>) {
    for container in &observed.containers {
        if let Some(tenant) = &container.tenant {
            all.entry(tenant).or_default().containers.push(container);
        }
        if let (Some(tenant), Some(lookalike)) = (&container.looks_like, Lookalike::of(container)) {
            all.entry(tenant).or_default().lookalikes.push(lookalike);
        }
        if let Some(name) = container.name.strip_prefix(NAME_PREFIX)
            && container.tenant.as_deref() != Some(name)
        {
            let found = all.entry(name).or_default();
            found.name_conflict = Some(("container", &container.id));
            if let Some(name) = name.strip_suffix(REPLACEMENT_SUFFIX)
                && container.tenant.as_deref() != Some(name)
            {
                all.entry(name).or_default().replacement_name_taken = true;
            }
        }
    }
    for unobserved in &observed.unobserved {
        all.entry(&unobserved.tenant).or_default().unobserved = Some((&unobserved.object, &unobserved.reason));
    }
}

/// What exists beside the containers: networks, workspaces, config files, and whom the gateway has files of.
pub(super) fn index_existing<'a>(observed: &'a Observed, all: &mut BTreeMap<&'a str, Found<'a>>) {
    for network in &observed.networks {
        if let Some(tenant) = &network.tenant {
            all.entry(tenant).or_default().networks.push(network);
        }
        if let Some(name) = network.spec.name.strip_prefix(NAME_PREFIX)
            && network.tenant.as_deref() != Some(name)
        {
            all.entry(name).or_default().name_conflict = Some(("network", &network.id));
        }
    }
    for (name, workspace) in &observed.workspaces.found {
        if name.parse::<TenantName>().is_ok() {
            all.entry(name).or_default().workspace = Some(workspace);
        }
    }
    for (name, files) in &observed.files {
        all.entry(name).or_default().files = Some(files);
    }
    for name in observed.egress.files.keys() {
        all.entry(name).or_default().has_gateway_files = true;
    }
}
