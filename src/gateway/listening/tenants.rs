//! Who is served: the policies of a folder, each by the address that its tenant finds the gateway at, and of everybody who
//! comes there the one address that is the tenant's own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    fs::{self, File},
    io::{self, Read},
    net::Ipv4Addr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use ipnet::Ipv4Net;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::{
    accounting::limits::Pools,
    client::Client,
    host::{SecretsFile, policies},
    model::{EgressPolicy, TenantName, egress::POLICY_VERSION},
    policy::in_force::InForce,
};

/// The largest file that is read, in bytes: more than a thousand entries.
const MAX_FILE: u64 = 1 << 20;

/// Who is served, by the gateway's address in their network.
#[derive(Debug)]
pub struct Tenants {
    by_gateway: RwLock<Arc<ByGateway>>,
    pools: Arc<Pools>,
}

/// Each tenant, by the gateway's address in its network.
type ByGateway = HashMap<Ipv4Addr, Member>;

/// A tenant on its network.
#[derive(Debug)]
struct Member {
    subnet: Ipv4Net,
    /// Its own address there, if it has one.
    address: Option<Ipv4Addr>,
    client: Arc<Client>,
}

/// Whose a connection or a question is.
#[derive(Debug)]
pub enum Caller {
    /// It is the tenant's.
    Tenant(Arc<Client>),
    /// It comes from another address of this tenant's network.
    Foreign(Arc<Client>),
}

/// What is to be listened on for the tenants that are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// The ports that they may go to.
    pub ports: BTreeSet<u16>,
    /// The gateway's addresses in their networks.
    pub addresses: BTreeSet<Ipv4Addr>,
}

impl Tenants {
    /// Nobody yet. Whoever comes shares these.
    pub fn new(pools: Arc<Pools>) -> Self {
        Self { by_gateway: RwLock::default(), pools }
    }

    /// Whose connection it is that came from `peer` to `local`: both must be of one tenant's network.
    pub fn find(&self, local: Ipv4Addr, peer: Ipv4Addr) -> Option<Caller> {
        let all = self.all();
        let Member { subnet, address, client } = all.get(&local)?;
        if peer == local || !subnet.contains(&peer) {
            return None;
        }
        Some(match *address == Some(peer) {
            true => Caller::Tenant(Arc::clone(client)),
            false => Caller::Foreign(Arc::clone(client)),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all().len()
    }

    /// All of them.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.all().values().map(|member| Arc::clone(&member.client)).collect()
    }

    /// Serves these from now on.
    fn serve(&self, all: ByGateway) {
        self.pools.serve(&all.values().map(|member| member.client.name().clone()).collect());
        *self.by_gateway.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
    }

    fn all(&self) -> Arc<ByGateway> {
        Arc::clone(&self.by_gateway.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The gateway's address in a tenant's network: the first of a host.
pub fn gateway_of(subnet: Ipv4Net) -> Option<Ipv4Addr> {
    subnet.hosts().next()
}

/// Keeps what is in force as the folder says.
#[derive(Debug)]
pub struct Loader {
    folder: PathBuf,
    known: BTreeMap<TenantName, Known>,
}

#[derive(Debug)]
struct Known {
    stamps: [Option<Stamp>; 2],
    /// `None` where its files are broken: then it is closed.
    served: Option<Served>,
}

#[derive(Debug)]
struct Served {
    in_force: watch::Sender<Arc<InForce>>,
    client: Arc<Client>,
}

/// What distinguishes one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Loader {
    /// Reads nothing yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), known: BTreeMap::new() }
    }

    /// The folders whose files are read.
    pub fn folders(&self) -> [PathBuf; 2] {
        policies::folders(&self.folder)
    }

    /// Reads what has changed since the last time, and serves accordingly: a tenant whose file is gone
    /// or broken is closed, what shrank is cut, and all others are left alone. It says what is to be listened
    /// on.
    ///
    /// # Errors
    /// The folder cannot be read. What was in force stays so.
    pub fn load(&mut self, tenants: &Tenants) -> io::Result<Listening> {
        let found = self.list()?;
        let mut changed = false;
        let gone: Vec<TenantName> = self.known.keys().filter(|name| !found.contains(*name)).cloned().collect();
        for name in gone {
            tracing::info!(tenant = %name, "the policy is gone, and the egress path is closed");
            self.known.remove(&name);
            changed = true;
        }
        for name in found {
            changed |= self.reload(name, &tenants.pools);
        }
        if changed {
            tenants.serve(self.by_gateway());
        }
        Ok(Listening { ports: self.ports(), addresses: tenants.all().keys().copied().collect() })
    }

    fn list(&self) -> io::Result<BTreeSet<TenantName>> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(self.folder.join("policies"))? {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
            found.extend(name.and_then(|name| name.parse().ok()));
        }
        Ok(found)
    }

    /// Whether something changed for a tenant.
    fn reload(&mut self, name: TenantName, pools: &Arc<Pools>) -> bool {
        let paths = self.folders().map(|folder| folder.join(format!("{name}.json")));
        let stamps = [0, 1].map(|which: usize| paths.get(which).and_then(|path| stamp(path)));
        let entry = self.known.entry(name);
        if let Entry::Occupied(known) = &entry
            && known.get().stamps == stamps
        {
            return false;
        }
        let name = entry.key().clone();
        let read = read(&name, &paths).inspect_err(|error| {
            tracing::error!(tenant = %name, error, "the policy cannot be used, and the egress path is closed");
        });
        let known = entry.or_insert(Known { stamps, served: None });
        known.stamps = stamps;
        known.update(&name, read.ok(), pools);
        true
    }

    fn by_gateway(&self) -> ByGateway {
        let mut all = HashMap::new();
        let mut doubled = Vec::new();
        for Served { client, .. } in self.known.values().filter_map(|known| known.served.as_ref()) {
            let EgressPolicy { subnet, address, .. } = client.now().policy;
            let Some(gateway) = gateway_of(subnet) else { continue };
            if all.insert(gateway, Member { subnet, address, client: Arc::clone(client) }).is_some() {
                doubled.push(gateway);
            }
        }
        for gateway in doubled {
            tracing::error!(%gateway, "two policies have the same network; neither tenant is served");
            all.remove(&gateway);
        }
        all
    }

    fn ports(&self) -> BTreeSet<u16> {
        let served = self.known.values().filter_map(|known| known.served.as_ref());
        served
            .flat_map(|served| served.client.now().policy.allow.iter().map(|entry| entry.port()).collect::<Vec<_>>())
            .collect()
    }
}

impl Served {
    /// Whether the tenant has the address of a policy already.
    fn is_at(&self, policy: &EgressPolicy) -> bool {
        let now = self.client.now();
        (now.policy.subnet, now.policy.address) == (policy.subnet, policy.address)
    }
}

impl Known {
    fn update(&mut self, name: &TenantName, read: Option<InForce>, pools: &Arc<Pools>) {
        let Some(read) = read else {
            self.served = None;
            return;
        };
        match &self.served {
            // With its address a tenant's connections end.
            Some(served) if served.is_at(&read.policy) => {
                let same = {
                    let now = served.in_force.borrow();
                    now.policy == read.policy && now.secrets == read.secrets
                };
                if !same {
                    tracing::info!(tenant = %name, entries = read.policy.allow.len(), "another policy is in force");
                    served.in_force.send_replace(Arc::new(read));
                }
            }
            _ => {
                tracing::info!(tenant = %name, entries = read.policy.allow.len(), "a policy is in force");
                let (in_force, changes) = watch::channel(Arc::new(read));
                let client = Arc::new(Client::new(name.clone(), changes, Arc::clone(pools)));
                self.served = Some(Served { in_force, client });
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::symlink_metadata(path).ok()?;
    Some(Stamp { inode: found.ino(), size: found.size(), changed: (found.ctime(), found.ctime_nsec()) })
}

fn read(name: &TenantName, [policy, secrets]: &[PathBuf; 2]) -> Result<InForce, String> {
    let policy: EgressPolicy = read_file(policy)?.ok_or("the policy is gone")?;
    if policy.v > POLICY_VERSION {
        return Err(format!("it has version {}, and this tenantd knows versions up to {POLICY_VERSION}", policy.v));
    }
    if policy.v < POLICY_VERSION {
        return Err(format!(
            "it has version {}, which does not say which address is the tenant's own; tenantd writes it anew once it looks \
             at a tenant that is not suspended",
            policy.v
        ));
    }
    if policy.tenant != *name {
        return Err(format!("it is that of {}", policy.tenant));
    }
    let Some(gateway) = gateway_of(policy.subnet) else {
        return Err(format!("{} has no address for the gateway", policy.subnet));
    };
    if let Some(address) = policy.address.filter(|address| *address == gateway || !policy.subnet.contains(address)) {
        return Err(format!("{address} is none that a container can have in {}", policy.subnet));
    }
    let secrets: SecretsFile = read_file(secrets)?.unwrap_or_default();
    Ok(InForce { policy, secrets: secrets.values })
}

/// `None` where there is no file. Errors of the form name a place and no content.
fn read_file<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let failed = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", path.display());
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|e| failed(&e))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(&"it is longer than 1 MiB"));
    }
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|e| failed(&format!("it is not of the form, line {} column {}", e.line(), e.column())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{authority::Authority, decide::decide};

    struct Folder {
        _folder: tempfile::TempDir,
        path: PathBuf,
        loader: Loader,
        tenants: Tenants,
    }

    fn folder() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        for name in ["policies", "secrets"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let path = folder.path().to_owned();
        let loader = Loader::new(&path);
        Folder { _folder: folder, path, loader, tenants: Tenants::new(Arc::new(Pools::new(1 << 12))) }
    }

    impl Folder {
        fn write(&self, name: &str, text: &str) {
            let path = self.path.join("policies").join(format!("{name}.json"));
            fs::write(path.with_extension("new"), text).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }

        fn allow(&self, name: &str, subnet: &str, entries: &str) {
            let first: Ipv4Net = subnet.parse().unwrap();
            self.allow_at(name, subnet, first.hosts().nth(1), entries);
        }

        fn allow_at(&self, name: &str, subnet: &str, address: Option<Ipv4Addr>, entries: &str) {
            let address = serde_json::to_string(&address).unwrap();
            self.write(
                name,
                &format!(r#"{{"v":2,"tenant":"{name}","subnet":"{subnet}","address":{address},"allow":[{entries}]}}"#),
            );
        }

        fn find(&self, local: [u8; 4], peer: [u8; 4]) -> Option<String> {
            self.tenants.find(local.into(), peer.into()).map(|caller| match caller {
                Caller::Tenant(client) => client.name().to_string(),
                Caller::Foreign(client) => format!("foreign to {}", client.name()),
            })
        }

        fn client(&self, local: [u8; 4], peer: [u8; 4]) -> Arc<Client> {
            match self.tenants.find(local.into(), peer.into()) {
                Some(Caller::Tenant(client)) => client,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_tenant_is_known_by_the_address_that_it_came_to_and_from() {
        let mut folder = folder();
        folder.allow("ant", "10.77.0.0/28", r#""a.example:443""#);
        folder.allow("bee", "10.77.0.16/28", r#""b.example:8443""#);
        let listening = folder.loader.load(&folder.tenants).unwrap();
        assert_eq!(listening.ports, BTreeSet::from([443, 8443]));
        assert_eq!(listening.addresses, BTreeSet::from([[10, 77, 0, 1].into(), [10, 77, 0, 17].into()]));
        assert_eq!(folder.find([10, 77, 0, 1], [10, 77, 0, 2]).as_deref(), Some("ant"));
        assert_eq!(folder.find([10, 77, 0, 17], [10, 77, 0, 18]).as_deref(), Some("bee"));
        assert_eq!(folder.find([10, 77, 0, 17], [10, 77, 0, 2]), None);
        assert_eq!(folder.find([10, 77, 0, 1], [10, 77, 0, 1]), None);
        assert_eq!(folder.find([10, 77, 0, 33], [10, 77, 0, 34]), None);
    }

    #[test]
    fn no_other_address_of_its_network_is_the_tenants() {
        let mut folder = folder();
        folder.allow("ant", "10.77.0.0/28", r#""a.example:443""#);
        folder.loader.load(&folder.tenants).unwrap();
        for other in [0, 3, 14, 15] {
            assert_eq!(folder.find([10, 77, 0, 1], [10, 77, 0, other]).as_deref(), Some("foreign to ant"), "{other}");
        }
        let ant = folder.client([10, 77, 0, 1], [10, 77, 0, 2]);
        folder.allow_at("ant", "10.77.0.0/28", Some([10, 77, 0, 14].into()), r#""a.example:443""#);
        folder.loader.load(&folder.tenants).unwrap();
        assert!(ant.in_force.is_gone(), "what is connected from the former address is cut");
        assert_eq!(folder.find([10, 77, 0, 1], [10, 77, 0, 2]).as_deref(), Some("foreign to ant"));
        assert_eq!(folder.find([10, 77, 0, 1], [10, 77, 0, 14]).as_deref(), Some("ant"));
        folder.allow_at("ant", "10.77.0.0/28", None, r#""a.example:443""#);
        folder.loader.load(&folder.tenants).unwrap();
        assert_eq!(folder.find([10, 77, 0, 1], [10, 77, 0, 14]).as_deref(), Some("foreign to ant"));
    }

    #[test]
    fn what_is_gone_broken_or_newer_is_closed_and_nobody_else() {
        for text in [
            None,
            Some("{"),
            Some(r#"{"v":3,"tenant":"ant","subnet":"10.77.0.0/28","address":"10.77.0.2","allow":[]}"#),
            Some(r#"{"v":2,"tenant":"bee","subnet":"10.77.0.0/28","address":"10.77.0.2","allow":[]}"#),
            Some(r#"{"v":2,"tenant":"ant","subnet":"10.77.0.0/28","address":"10.77.0.2","allow":["*.com:443"]}"#),
            Some(r#"{"v":2,"tenant":"ant","subnet":"10.77.0.16/28","address":"10.77.0.18","allow":[]}"#),
            // An address that no container of the network can have.
            Some(r#"{"v":2,"tenant":"ant","subnet":"10.77.0.0/28","address":"10.77.0.1","allow":[]}"#),
            Some(r#"{"v":2,"tenant":"ant","subnet":"10.77.0.0/28","address":"10.77.0.18","allow":[]}"#),
            // One of an earlier version, for which everybody on the network was the tenant.
            Some(r#"{"v":1,"tenant":"ant","subnet":"10.77.0.0/28","allow":["a.example:443"]}"#),
        ] {
            let mut folder = folder();
            folder.allow("ant", "10.77.0.0/28", r#""a.example:443""#);
            folder.allow("cat", "10.77.0.32/28", r#""c.example:443""#);
            folder.loader.load(&folder.tenants).unwrap();
            let ant = folder.client([10, 77, 0, 1], [10, 77, 0, 2]);
            match text {
                Some(text) => folder.write("ant", text),
                None => fs::remove_file(folder.path.join("policies/ant.json")).unwrap(),
            }
            folder.loader.load(&folder.tenants).unwrap();
            assert_eq!(folder.find([10, 77, 0, 1], [10, 77, 0, 2]), None, "{text:?}");
            assert!(ant.in_force.is_gone(), "{text:?}");
            assert_eq!(folder.find([10, 77, 0, 33], [10, 77, 0, 34]).as_deref(), Some("cat"));
        }
    }

    #[test]
    fn two_tenants_of_one_network_are_both_closed() {
        let mut folder = folder();
        folder.allow("ant", "10.77.0.0/28", "");
        folder.allow("bee", "10.77.0.0/28", "");
        folder.loader.load(&folder.tenants).unwrap();
        assert!(folder.tenants.clients().is_empty());
    }

    #[test]
    fn a_change_reaches_who_is_connected() {
        let mut folder = folder();
        folder.allow("ant", "10.77.0.0/28", r#""a.example:443""#);
        folder.loader.load(&folder.tenants).unwrap();
        let ant = folder.client([10, 77, 0, 1], [10, 77, 0, 2]);
        let to = Authority::parse("b.example:443", None).unwrap();
        assert!(decide(&ant.now().policy, &to).is_err());
        folder.allow("ant", "10.77.0.0/28", r#""a.example:443","b.example:443""#);
        folder.loader.load(&folder.tenants).unwrap();
        assert!(decide(&ant.now().policy, &to).is_ok() && !ant.in_force.is_gone());
    }
}
