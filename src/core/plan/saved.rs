//! A plan that is carried out later, or not at all: what it was made for, and what it found.
//!
//! It holds no steps. They are planned anew from the commit and a new observation, and carried out only where they are the
//! same and nothing that they touch has moved: whoever changes such a file changes nothing else.
//!
//! It says of every tenant that was observed what it was like, also of those that nothing would be done for: so that one
//! that was taken out is missed. All of the file is under its id, which whoever agreed to the plan can keep elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{diff::hide_undeclared, guard::commit_id};
use crate::model::{
    Desired, NAME_PREFIX, Observed, Plan, REPLACEMENT_SUFFIX, Tenant, TenantName, TenantPlan,
    egress::FoundFiles,
    files::digest,
    observed::{ObservedContainer, ObservedNetwork},
    shown::short_id,
    workspace::{FoundWorkspace, Mounted, VolumeState},
};

/// The version of the form.
pub const VERSION: u32 = 2;

/// What a saved plan depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The version of this form.
    pub version: u32,
    /// The branch, tag or commit that was planned for, as it was named.
    pub rev: String,
    /// The commit that this was then, 40 hexadecimal digits.
    pub commit: String,
    /// The one tenant that was planned for, if it was one.
    pub tenant: Option<String>,
    /// What the engine calls itself.
    pub engine: String,
    /// What would be done for each tenant for whom something would be.
    pub tenants: BTreeMap<String, SavedTenant>,
    /// The hash of everything that was found of each of the others: nothing would be done for them.
    pub others: BTreeMap<String, String>,
}

/// What a tenant's part depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTenant {
    /// The hash of its steps.
    pub steps: String,
    /// The hash of everything of it that was found, by its name in plain words.
    pub objects: BTreeMap<String, String>,
}

impl Saved {
    /// What a plan depends on that was made for a commit, by the name of `rev`.
    pub fn new(
        plan: &Plan,
        desired: &Desired,
        observed: &Observed,
        rev: &str,
        commit: &str,
        only: Option<&str>,
    ) -> Self {
        let found = FoundByTenant::new(desired, observed);
        let part = |tenant: &&TenantPlan| {
            let part = SavedTenant { steps: steps(tenant), objects: found.objects(&tenant.tenant) };
            (tenant.tenant.clone(), part)
        };
        let other = |tenant: &&TenantPlan| (tenant.tenant.clone(), hash(&found.objects(&tenant.tenant)));
        let (touched, others): (Vec<_>, Vec<_>) = plan.tenants.iter().partition(|tenant| tenant.will_change());
        Self {
            version: VERSION,
            rev: rev.to_owned(),
            commit: commit.to_owned(),
            tenant: only.map(str::to_owned),
            engine: observed.engine.id.clone(),
            tenants: touched.iter().map(part).collect(),
            others: others.iter().map(other).collect(),
        }
    }

    /// Everything that is not as it was, each in a line; empty where the plan can be carried out. `plan` is what would
    /// be done now.
    pub fn moved(&self, plan: &Plan, desired: &Desired, observed: &Observed) -> Vec<String> {
        if self.engine != observed.engine.id {
            return vec![format!("the engine is {}, and the plan is for {}", observed.engine.id, self.engine)];
        }
        let found = FoundByTenant::new(desired, observed);
        let mut moved = self.left_out(plan, desired, &found);
        let plans: BTreeMap<&str, &TenantPlan> =
            plan.tenants.iter().map(|tenant| (tenant.tenant.as_str(), tenant)).collect();
        for (name, saved) in &self.tenants {
            let now = found.objects(name);
            let all: BTreeSet<&String> = saved.objects.keys().chain(now.keys()).collect();
            let before = moved.len();
            for object in all {
                match (saved.objects.get(object), now.get(object)) {
                    (Some(then), Some(now)) if then == now => {}
                    (Some(_), Some(_)) => moved.push(format!("{object} has changed")),
                    (Some(_), None) => moved.push(format!("{object} is gone")),
                    (None, _) => moved.push(format!("{object} is new")),
                }
            }
            let same = plans.get(name.as_str()).is_some_and(|planned| steps(planned) == saved.steps);
            if !same && moved.len() == before {
                moved.push(format!("tenant {name}: other steps lead to the same now, because of what is beside it or of the host's settings"));
            }
        }
        moved
    }

    /// The tenants that the file should say something of and does not, each in a line. One of which something has moved
    /// since may need steps that nobody agreed to: it is left alone.
    fn left_out(&self, plan: &Plan, desired: &Desired, found: &FoundByTenant<'_>) -> Vec<String> {
        let is_meant = |name: &str| self.tenant.as_deref().is_none_or(|only| only == name);
        let mut missed = Vec::new();
        for tenant in plan.tenants.iter().filter(|tenant| is_meant(&tenant.tenant)) {
            let name = tenant.tenant.as_str();
            match (self.tenants.contains_key(name), self.others.get(name)) {
                (true, None) => {}
                (true, Some(_)) => missed.push(format!("tenant {name} is in the file twice")),
                (false, Some(then)) => {
                    if tenant.will_change() && *then == hash(&found.objects(name)) {
                        missed.push(format!(
                            "tenant {name}: there are steps for it that the plan does not have, and nothing of it has changed"
                        ));
                    }
                }
                // One that no file declares may have come since.
                (false, None) if desired.mentions(name) => missed.push(format!("tenant {name} is not in the file")),
                (false, None) => {}
            }
        }
        let stray = self.tenants.keys().chain(self.others.keys()).filter(|name| !is_meant(name));
        missed.extend(stray.map(|name| format!("tenant {name} is in the file, which is for another one alone")));
        missed
    }
}

/// Why a file is no saved plan that can be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is something else.
    #[error("it is no plan that `tenantd plan --out` saved")]
    Other(#[source] serde_json::Error),
    /// It is of another version.
    #[error("it is a plan of version {0}, and this tenantd carries out version {VERSION}")]
    Version(u32),
    /// Somebody changed it, or wrote it anew in another form.
    #[error("it is not as `tenantd plan --out` wrote it: nothing in it counts")]
    Changed,
}

/// Puts a saved plan into the document that is written, under an id that covers all of it, and returns the text and the id.
pub fn seal(mut document: Value, saved: &Saved) -> (String, String) {
    document["saved"] = json!(saved);
    let id = commit_id(&saved.commit, &document);
    document["saved"]["id"] = json!(id);
    (format!("{document:#}\n"), id)
}

/// Reads what [`seal`] wrote, byte for byte, and returns its id.
///
/// # Errors
/// It is something else, of another version, or was changed in any way.
pub fn open(text: &str) -> Result<(Saved, String), Unusable> {
    #[derive(Deserialize)]
    struct Version {
        saved: Versioned,
    }
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Version { saved: Versioned { version } } = serde_json::from_str(text).map_err(Unusable::Other)?;
    if version != VERSION {
        return Err(Unusable::Version(version));
    }
    let mut document: Value = serde_json::from_str(text).map_err(Unusable::Other)?;
    if format!("{document:#}\n") != text {
        return Err(Unusable::Changed);
    }
    let id = document["saved"].as_object_mut().and_then(|saved| saved.remove("id"));
    let saved = Saved::deserialize(&document["saved"]).map_err(Unusable::Other)?;
    let right = commit_id(&saved.commit, &document);
    if id != Some(json!(right)) || json!(saved) != document["saved"] {
        return Err(Unusable::Changed);
    }
    Ok((saved, right))
}

/// The hash of what would be done.
fn steps(tenant: &TenantPlan) -> String {
    hash(&(&tenant.contain, &tenant.steps))
}

/// What was found, with the engine's objects by the tenants that they belong to.
struct FoundByTenant<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    containers: BTreeMap<&'a str, Vec<&'a ObservedContainer>>,
    networks: BTreeMap<&'a str, Vec<&'a ObservedNetwork>>,
}

impl<'a> FoundByTenant<'a> {
    fn new(desired: &'a Desired, observed: &'a Observed) -> Self {
        let mut found = Self { desired, observed, containers: BTreeMap::new(), networks: BTreeMap::new() };
        for container in &observed.containers {
            for tenant in tenants(container.tenant.as_deref(), &container.name) {
                found.containers.entry(tenant).or_default().push(container);
            }
        }
        for network in &observed.networks {
            for tenant in tenants(network.tenant.as_deref(), &network.spec.name) {
                found.networks.entry(tenant).or_default().push(network);
            }
        }
        found
    }

    /// Everything of a tenant, with a hash of each. What changes while a tenant works, such as how full its workspace is,
    /// is left out.
    fn objects(&self, name: &str) -> BTreeMap<String, String> {
        let Self { observed, containers, networks, .. } = self;
        let declared = self.desired.tenants.get(name);
        let mut all = BTreeMap::new();
        for container in containers.get(name).into_iter().flatten() {
            let called = format!("container {} ({})", container.name, short_id(&container.id));
            all.insert(called, of_container(container, declared));
        }
        for network in networks.get(name).into_iter().flatten() {
            all.insert(format!("network {} ({})", network.spec.name, short_id(&network.id)), hash(network));
        }
        for unobserved in observed.unobserved.iter().filter(|it| it.tenant == name) {
            all.insert(unobserved.object.clone(), hash(&unobserved.reason));
        }
        if let Some(workspace) = observed.workspaces.found.get(name) {
            all.insert(format!("workspace {name}"), of_workspace(workspace));
        }
        if let Some(files) = observed.files.get(name) {
            all.insert(format!("config files of {name}"), hash(files));
        }
        if let Ok(link) = name.parse::<TenantName>().map(|name| name.link_name())
            && let Some(found) = observed.egress.links.get(&link)
        {
            all.insert(format!("link {link}"), hash(found));
        }
        if let Some(files) = observed.egress.files.get(name) {
            all.insert(format!("policy of {name}"), of_policy(files));
        }
        if let Some(image) = declared.map(|tenant| tenant.image.as_str()) {
            all.insert(format!("image {image}"), hash(&observed.images.get(image)));
        }
        all
    }
}

/// The tenants that an object of the engine belongs to, by its label and by its name.
fn tenants<'a>(labelled: Option<&'a str>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = name.strip_suffix(REPLACEMENT_SUFFIX).unwrap_or(name).strip_prefix(NAME_PREFIX);
    labelled.into_iter().chain(named.filter(move |named| Some(*named) != labelled))
}

/// Values of variables count only as far as plans show them: a snapshot has no others.
fn of_container(container: &ObservedContainer, declared: Option<&Arc<Tenant>>) -> String {
    let mut container = container.clone();
    if let Some(spec) = &mut container.spec {
        let known: Vec<String> = declared.map(|tenant| tenant.variables().collect()).unwrap_or_default();
        spec.environment = hide_undeclared(&spec.environment, &known);
    }
    hash(&container)
}

fn of_workspace(workspace: &FoundWorkspace) -> String {
    let mut workspace = workspace.clone();
    if let Some(volume) = &mut workspace.volume {
        volume.allocated = 0;
        if let VolumeState::Mounted(Mounted { used, .. }) = &mut volume.state {
            *used = 0;
        }
    }
    hash(&workspace)
}

/// Values of secrets count by whether they would be written anew, which the steps say.
fn of_policy(files: &FoundFiles) -> String {
    let secrets = files.secrets.present().map(|secrets| {
        let names: BTreeSet<_> = secrets.values.keys().collect();
        json!({"names": names, "sealed": secrets.sealed, "edited": secrets.edited})
    });
    hash(&(&files.policy, files.edited, secrets, files.secrets.is_missing()))
}

/// The hash of a value's JSON.
fn hash(value: &impl Serialize) -> String {
    digest(&serde_json::to_vec(value).unwrap_or_default())
}
