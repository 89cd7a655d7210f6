//! Egress paths on this host: links, the gateway's namespace, and what the gateway is given.

use std::{collections::BTreeMap, path::Path};

use super::{
    link::{LinkError, Links},
    listener::listener,
    namespace::{self, NamespaceError},
    owner::{Owner, OwnerError},
    policies::{Policies, PolicyError},
    seal::{self, SealError},
    secret::{self, SecretError},
};
use crate::fault::chain;
use crate::model::{
    EgressPolicy, Host, SecretName, TenantName,
    egress::{EgressCapability, Fingerprint, FoundLink, ObservedEgress, Sealed, SecretValues},
    host::{Egress, SecretPlace},
    name::LINK_PREFIX,
    step::{DeclaredEgress, LeftSecrets},
};

/// Why an egress path could not be observed, made or removed.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The gateway's namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// What the gateway is given.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The places are another data root's.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The host keeps no such secret.
    #[error("the host keeps no secret {0}")]
    NoSecret(SecretName),
    /// It is to come from the tenant's file, and does not.
    #[error("the secret {0} is to come from the tenant's file")]
    NotSealed(SecretName),
    /// What a tenant's file holds cannot be decrypted.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The subnet has no address for the gateway.
    #[error("the subnet of {0} has no address for the gateway")]
    NoAddress(TenantName),
}

/// The egress paths of all tenants of one host.
pub struct EgressPaths<'a> {
    settings: &'a Egress,
    policies: Policies,
    owner: Owner<'a>,
}

impl<'a> EgressPaths<'a> {
    /// Those that the host's settings describe.
    pub fn new(host: &'a Host) -> Self {
        let settings = &host.egress;
        Self { settings, policies: Policies::new(&settings.policies, &settings.user), owner: Owner::new(host) }
    }

    /// Fails where the settings name a place that is another data root's, and takes those where something is written for the
    /// gateway already: what an earlier version wrote has no mark. Where that cannot be found out, observations say so.
    ///
    /// # Errors
    /// A place is another's.
    pub async fn begin(&self) -> Result<(), OwnerError> {
        let result = match self.policies.tenants() {
            Ok(tenants) if !tenants.is_empty() => self.owner.claim().await,
            Ok(_) | Err(_) => self.owner.check().await,
        };
        match result {
            Err(taken @ OwnerError::Taken(_)) => Err(taken),
            Err(OwnerError::Io { .. } | OwnerError::Namespace(_) | OwnerError::Link(_)) | Ok(()) => Ok(()),
        }
    }

    /// Observes everything, with all secrets of the host.
    ///
    /// # Errors
    /// The files cannot be listed. Links that cannot be observed are reported by the capability.
    pub async fn observe(&self, engine_is_here: bool) -> Result<ObservedEgress, EgressError> {
        let mut observed = self.capability(engine_is_here, None).await;
        if !matches!(observed.capability, EgressCapability::Taken(_)) {
            for tenant in self.policies.tenants()? {
                observed.files.extend(self.policies.observe(&tenant).map(|found| (tenant, found)));
            }
        }
        observed.secrets = self.fingerprints(self.settings.secrets.keys());
        Ok(observed)
    }

    /// Observes one tenant, with the secrets that are asked for. A tenant that is named as a link is, is that link's
    /// owner.
    pub async fn observe_tenant<'s>(
        &self,
        tenant: &TenantName,
        secrets: impl Iterator<Item = &'s SecretName>,
        engine_is_here: bool,
    ) -> ObservedEgress {
        let link = if is_link(tenant.as_str()) { tenant.to_string() } else { tenant.link_name() };
        let mut observed = self.capability(engine_is_here, Some(&link)).await;
        if !matches!(observed.capability, EgressCapability::Taken(_)) {
            observed.files.extend(self.policies.observe(tenant.as_str()).map(|found| (tenant.to_string(), found)));
        }
        observed.secrets = self.fingerprints(secrets);
        observed
    }

    /// The capability and its links.
    async fn capability(&self, engine_is_here: bool, only: Option<&str>) -> ObservedEgress {
        let of = |capability| ObservedEgress { capability, ..ObservedEgress::default() };
        let unknown = |e: &dyn std::error::Error| of(EgressCapability::Unknown(chain(e)));
        let inside = match self.owner.checked().await {
            Err(taken @ OwnerError::Taken(_)) => return of(EgressCapability::Taken(taken.to_string())),
            Ok(_) | Err(_) if !engine_is_here => return ObservedEgress::default(),
            Err(e) => return unknown(&e),
            Ok(inside) => inside,
        };
        let capability = if inside.is_some() { EgressCapability::Ready } else { EgressCapability::GatewayMissing };
        match self.look_inside(inside, only).await {
            Ok((sysctls, links)) => ObservedEgress { capability, sysctls, links, ..ObservedEgress::default() },
            Err(e) => unknown(&e),
        }
    }

    /// Sysctls of the namespace that are not as they should be, and the links of this side and, where it is there, of the
    /// namespace's.
    async fn look_inside(
        &self,
        inside: Option<Links>,
        only: Option<&str>,
    ) -> Result<(Vec<String>, BTreeMap<String, FoundLink>), EgressError> {
        let sysctls = match &inside {
            Some(_) => namespace::open_sysctls(&namespace::path(&self.settings.namespace)?)?,
            None => Vec::new(),
        };
        let links = match inside {
            Some(links) => links,
            None => Links::open(None)?,
        };
        Ok((sysctls, links.observe(only).await?))
    }

    fn fingerprints<'s>(
        &self,
        names: impl Iterator<Item = &'s SecretName>,
    ) -> BTreeMap<SecretName, Result<Fingerprint, String>> {
        let kept = names.filter_map(|name| match &self.settings.secrets.get(name)?.place {
            SecretPlace::Host(place) => Some((name, place)),
            SecretPlace::Sealed => None,
        });
        let print = |place| match secret::read(place) {
            Ok(value) => Ok(Fingerprint::of(value.as_str())),
            Err(error) => Err(chain(&error)),
        };
        kept.map(|(name, place)| (name.clone(), print(place))).collect()
    }

    /// The value of a secret as it is now.
    fn value(&self, name: &SecretName, sealed: &BTreeMap<SecretName, Sealed>) -> Result<String, EgressError> {
        let grant = self.settings.secrets.get(name).ok_or_else(|| EgressError::NoSecret(name.clone()))?;
        let value = match &grant.place {
            SecretPlace::Host(place) => secret::read(place)?,
            SecretPlace::Sealed => {
                let text = sealed.get(name).ok_or_else(|| EgressError::NotSealed(name.clone()))?;
                seal::open(name, text, self.settings.identity.as_ref())?
            }
        };
        Ok(value.as_str().to_owned())
    }

    /// Makes an egress path as declared: the link, then the secrets, and what it allows last.
    ///
    /// # Errors
    /// A secret cannot be read, the kernel refuses, or the gateway's namespace is not there. What is not allowed before
    /// is not allowed then either.
    pub async fn open(&self, egress: &DeclaredEgress) -> Result<(), EgressError> {
        let tenant = &egress.policy.tenant;
        let values = egress.secrets.iter().map(|name| Ok((name.clone(), self.value(name, &egress.sealed)?)));
        let values: SecretValues = values.collect::<Result<_, EgressError>>()?;
        let first = egress.policy.subnet.hosts().next().ok_or_else(|| EgressError::NoAddress(tenant.clone()))?;
        let address = ipnet::Ipv4Net::new(first, egress.policy.subnet.prefix_len())
            .map_err(|_| EgressError::NoAddress(tenant.clone()))?;
        let path = namespace::path(&self.settings.namespace)?;
        self.owner.claim().await?;
        namespace::set_sysctls_of(&path)?;
        Links::open(Some(&path))?.make(&egress.link, tenant.as_str(), &egress.bridge, address).await?;
        self.policies.write_secrets(tenant, values, &egress.sealed)?;
        Ok(self.policies.write(&egress.policy)?)
    }

    /// Writes a policy that allows less than the one in force, and leaves only some secrets. One that cannot be read now
    /// keeps its former value, unless somebody else changed the file.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn narrow(
        &self,
        tenant: &TenantName,
        policy: Option<&EgressPolicy>,
        secrets: Option<&LeftSecrets>,
    ) -> Result<(), EgressError> {
        self.owner.claim().await?;
        if let Some(policy) = policy {
            self.policies.write(policy)?;
        }
        let Some(LeftSecrets { names, sealed }) = secrets else { return Ok(()) };
        let former = self.policies.secrets(tenant);
        let (mut values, mut prints) = (SecretValues::new(), BTreeMap::new());
        for name in names {
            let now = self.value(name, sealed).ok();
            let now = now.map(|value| (value, sealed.get(name).map(|text| Fingerprint::of(text.as_str()))));
            let kept = || former.as_ref().and_then(|file| file.kept(name));
            if let Some((value, print)) = now.or_else(kept) {
                values.insert(name.clone(), value);
                prints.extend(print.map(|print| (name.clone(), print)));
            }
        }
        Ok(self.policies.write_secrets_of(tenant, values, prints)?)
    }

    /// Closes what leads from a tenant's bridge to the host, and sets the sysctls of the gateway's namespace.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn guard(&self, link: &str, bridge: &str) -> Result<(), EgressError> {
        self.owner.claim().await?;
        let path = namespace::path(&self.settings.namespace)?;
        let inside = namespace::is_there(&path).then_some(path.as_path());
        if let Some(path) = inside {
            namespace::set_sysctls_of(path)?;
        }
        Ok(Links::open(inside)?.guard(link, bridge).await?)
    }

    /// Removes a tenant's egress path: what the gateway is given goes first, the link last.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn close(&self, tenant: &str, link: &str) -> Result<(), EgressError> {
        self.owner.claim().await?;
        self.policies.remove(tenant)?;
        let path = namespace::path(&self.settings.namespace)?;
        let links = Links::open(namespace::is_there(&path).then_some(path.as_path()))?;
        Ok(links.remove(link).await?)
    }
}

fn is_link(name: &str) -> bool {
    name.starts_with(LINK_PREFIX)
}

/// Whether an engine is this host's own: its socket was made in the network namespace that this process is in. Where
/// the kernel does not say, a bridge that the engine reports must be here.
pub async fn engine_is_here(socket: &Path, bridges: impl Iterator<Item = &str>) -> bool {
    if let Some(same) = same_namespace(socket).await {
        return same;
    }
    let Ok(links) = Links::open(None) else { return false };
    let mut any = false;
    for bridge in bridges {
        if !links.has(bridge).await.unwrap_or(false) {
            return false;
        }
        any = true;
    }
    any
}

/// Whether the process that listens on a socket has the network of this one.
async fn same_namespace(socket: &Path) -> Option<bool> {
    let pid = listener(socket).await?;
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    let ours = std::fs::read_link("/proc/self/ns/net").ok()?;
    Some(theirs == ours)
}
