//! What a host observed, in a file: plans are made of it where neither engine nor host can be reached. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod signed;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use data_encoding::HEXLOWER;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use signed::{SnapshotError, read, sign};

use crate::model::{
    Access, Bytes, Cpus, Desired, Host, Observed, Pids, RuntimeClass, SecretName, TenantName,
    container::OWN_HOME,
    egress::{Filed, Fingerprint},
    files::digest,
    host::{Ceilings, Domain, Ingress, Overcommit, Secret, SecretGrant, SecretPlace},
    observed::{ImageState, KnownImage},
    workspace::Unenforced,
};

/// The version of the form. A change that could mislead a reader raises it, and older readers refuse.
pub const VERSION: u32 = 3;

/// One observation of an engine and its host, without any secret.
///
/// The values of variables are there as salted hashes, since somebody may have set a key by hand; what was compared of
/// secrets is there as numbers that only show which are equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The version of this form.
    pub version: u32,
    /// The version of the program that made it.
    pub tenantd: String,
    /// When the observation began.
    pub taken: Timestamp,
    /// What a plan needs of the host's settings.
    settings: Settings,
    /// What was seen, but for images.
    observed: Observed,
    /// All images of the engine.
    images: Vec<KnownImage>,
    /// What the values of variables are hashed with, in hexadecimal digits.
    salt: String,
}

/// The part of a host's settings that plans depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    data_root: PathBuf,
    pool: Ipv4Net,
    prefix: u8,
    runtimes: BTreeMap<RuntimeClass, String>,
    #[serde(default)]
    seccomp_profile: Option<PathBuf>,
    /// Ceilings, in billionths of a processor, bytes and processes.
    nano_cpus: Option<u64>,
    memory: Option<u64>,
    pids: Option<u32>,
    disk: Option<u64>,
    unenforced: Unenforced,
    overcommit: u64,
    sources: BTreeMap<String, PathBuf>,
    permit: Vec<Ipv4Net>,
    secrets: BTreeMap<SecretName, Grant>,
    #[serde(default)]
    ingress: Option<IngressSettings>,
}

/// Below which domain tenants are reached, and the widest access that they may choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct IngressSettings {
    domain: Domain,
    access: Access,
}

/// Whom a secret may serve; not where it lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Grant {
    sealed: bool,
    tenants: BTreeSet<TenantName>,
    upstreams: BTreeSet<String>,
}

impl Snapshot {
    /// Takes what may be shown out of an observation. `salt` must be as hard to guess as a key.
    pub fn new(
        host: &Host,
        mut observed: Observed,
        images: Vec<KnownImage>,
        taken: Timestamp,
        salt: &[u8; 32],
    ) -> Self {
        let salt = HEXLOWER.encode(salt);
        observed.images = BTreeMap::new();
        for spec in observed.containers.iter_mut().filter_map(|container| container.spec.as_mut()) {
            for entry in &mut spec.environment {
                *entry = hidden(&salt, entry);
            }
        }
        number_secrets(&mut observed);
        Self {
            version: VERSION,
            tenantd: env!("CARGO_PKG_VERSION").to_owned(),
            taken,
            settings: Settings::of(host),
            observed,
            images,
            salt,
        }
    }

    /// What a plan for these declarations is made of: the host's settings, as far as it needs them, and what was
    /// observed.
    pub fn view(self, desired: &Desired) -> (Host, Observed) {
        let Self { settings, mut observed, images, salt, .. } = self;
        let images = Images::of(&images);
        let references: BTreeSet<&str> = desired.tenants.values().map(|tenant| tenant.image.as_str()).collect();
        observed.images = references.into_iter().map(|it| (it.to_owned(), images.find(it))).collect();
        for container in &mut observed.containers {
            let tenant = container.tenant.as_deref().and_then(|tenant| desired.tenants.get(tenant));
            let (Some(tenant), Some(spec)) = (tenant, &mut container.spec) else { continue };
            let image = observed.images.get(tenant.image.as_str());
            let inherited = image.into_iter().flat_map(|image| match image {
                ImageState::Present(facts) => facts.environment.clone(),
                ImageState::Missing | ImageState::Unknown(_) => Vec::new(),
            });
            let known: BTreeMap<String, String> = tenant
                .variables()
                .chain(inherited)
                .chain([OWN_HOME.to_owned()])
                .map(|entry| (hidden(&salt, &entry), entry))
                .collect();
            for entry in &mut spec.environment {
                if let Some(open) = known.get(entry) {
                    entry.clone_from(open);
                }
            }
            spec.environment.sort();
        }
        (settings.host(), observed)
    }
}

impl Settings {
    fn of(host: &Host) -> Self {
        let Ceilings { cpus, memory, pids, disk } = host.ceilings;
        let grant = |(name, grant): (&SecretName, &SecretGrant)| {
            let SecretGrant { place, tenants, upstreams } = grant.clone();
            (name.clone(), Grant { sealed: place == SecretPlace::Sealed, tenants, upstreams })
        };
        Self {
            data_root: host.data_root.clone(),
            pool: host.pool,
            prefix: host.prefix,
            runtimes: host.runtimes.clone(),
            seccomp_profile: host.seccomp_profile.clone(),
            nano_cpus: cpus.map(Cpus::nanos),
            memory: memory.map(Bytes::get),
            pids: pids.map(Pids::get),
            disk: disk.map(Bytes::get),
            unenforced: host.workspaces.unenforced,
            overcommit: host.workspaces.overcommit.0,
            sources: host.sources.clone(),
            permit: host.egress.permit.clone(),
            secrets: host.egress.secrets.iter().map(grant).collect(),
            ingress: host
                .ingress
                .as_ref()
                .map(|ingress| IngressSettings { domain: ingress.domain.clone(), access: ingress.access }),
        }
    }

    /// As settings, with what no plan depends on left at its default.
    fn host(self) -> Host {
        let Self { data_root, pool, prefix, runtimes, .. } = self;
        let mut host = Host { data_root, pool, prefix, runtimes, sources: self.sources, ..Host::default() };
        host.seccomp_profile = self.seccomp_profile;
        host.ceilings = Ceilings {
            cpus: self.nano_cpus.map(Cpus::from_nanos),
            memory: self.memory.map(Bytes::new),
            pids: self.pids.map(Pids::new),
            disk: self.disk.map(Bytes::new),
        };
        host.workspaces.unenforced = self.unenforced;
        host.workspaces.overcommit = Overcommit(self.overcommit);
        host.egress.permit = self.permit;
        let grant = |Grant { sealed, tenants, upstreams }| {
            // Where it lies is the host's to know.
            let place = if sealed { SecretPlace::Sealed } else { SecretPlace::Host(Secret::File(PathBuf::new())) };
            SecretGrant { place, tenants, upstreams }
        };
        host.egress.secrets = self.secrets.into_iter().map(|(name, one)| (name, grant(one))).collect();
        host.ingress = self
            .ingress
            .map(|IngressSettings { domain, access }| Ingress { access, ..Ingress::new(Vec::new(), domain) });
        host
    }
}

/// A variable with the hash of its value in the place of the value.
fn hidden(salt: &str, entry: &str) -> String {
    let name = entry.split('=').next().unwrap_or_default();
    let hash = digest(format!("{salt}\n{entry}").as_bytes());
    format!("{name}=(salted hash {})", hash.get(..32).unwrap_or(&hash))
}

/// Puts numbers in the place of what distinguishes secrets, since a short secret could be guessed from that. Of sealed
/// ones it is taken from the encrypted text, which is no secret.
fn number_secrets(observed: &mut Observed) {
    let mut numbers: BTreeMap<Fingerprint, u64> = BTreeMap::new();
    let mut number = |fingerprint: &mut Fingerprint| {
        let next = numbers.len() as u64 + 1;
        *fingerprint = Fingerprint::numbered(*numbers.entry(*fingerprint).or_insert(next));
    };
    observed.egress.secrets.values_mut().filter_map(|secret| secret.as_mut().ok()).for_each(&mut number);
    for files in observed.egress.files.values_mut() {
        if let Filed::Present(secrets) = &mut files.secrets {
            secrets.values.values_mut().for_each(&mut number);
        }
    }
}

/// All images, by id and by each of their names.
struct Images<'a>(BTreeMap<String, &'a KnownImage>);

impl<'a> Images<'a> {
    fn of(images: &'a [KnownImage]) -> Self {
        let named = images.iter().flat_map(|image| {
            let names = image.names.iter().map(|name| canonical(name));
            names.chain([image.id.clone()]).map(move |name| (name, image))
        });
        Self(named.collect())
    }

    /// The image that a reference means, as the engine reads references.
    fn find(&self, reference: &str) -> ImageState {
        let found = match reference.starts_with("sha256:") {
            true => self.0.get(reference),
            false => self.0.get(&canonical(reference)),
        };
        found.map_or(ImageState::Missing, |image| image.state.clone())
    }
}

/// A reference with its registry, and with a tag or a digest.
fn canonical(reference: &str) -> String {
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (name, "latest"),
    };
    let path = match path.split_once('/') {
        Some(("docker.io" | "index.docker.io", rest)) if rest.contains('/') => format!("docker.io/{rest}"),
        Some(("docker.io" | "index.docker.io", rest)) => format!("docker.io/library/{rest}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => path.to_owned(),
        Some(_) => format!("docker.io/{path}"),
        None => format!("docker.io/library/{path}"),
    };
    // A digest says it all: the tag beside it counts for nothing.
    digest.map_or_else(|| format!("{path}:{tag}"), |digest| format!("{path}@{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observed::ImageFacts;

    fn image(id: &str, names: &[&str]) -> KnownImage {
        let facts = ImageFacts { id: id.to_owned(), ..ImageFacts::default() };
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        KnownImage { id: id.to_owned(), names, state: ImageState::Present(facts) }
    }

    #[test]
    fn a_reference_means_what_the_engine_takes_it_for() {
        let images = [
            image("sha256:aa", &["agent:1", "agent@sha256:d1"]),
            image("sha256:bb", &["localhost:5000/agent:1", "team/agent:latest"]),
        ];
        for (reference, id) in [
            ("agent:1", "sha256:aa"),
            ("docker.io/agent:1", "sha256:aa"),
            ("docker.io/library/agent:1", "sha256:aa"),
            ("agent:2@sha256:d1", "sha256:aa"),
            ("sha256:aa", "sha256:aa"),
            ("localhost:5000/agent:1", "sha256:bb"),
            ("index.docker.io/team/agent", "sha256:bb"),
        ] {
            let found = Images::of(&images).find(reference);
            assert!(matches!(&found, ImageState::Present(facts) if facts.id == id), "{reference}: {found:?}");
        }
        for reference in ["agent:2", "agent", "example.com/agent:1", "sha256:cc", "agent@sha256:d2"] {
            assert_eq!(Images::of(&images).find(reference), ImageState::Missing, "{reference}");
        }
    }

    #[test]
    fn equal_secrets_stay_equal_and_tell_nothing_else() {
        let mut observed = Observed::default();
        let name = |name: &str| -> SecretName { name.parse().unwrap() };
        for (secret, value) in [("a/one", "alpha"), ("a/two", "beta"), ("a/three", "alpha")] {
            observed.egress.secrets.insert(name(secret), Ok(Fingerprint::of(value)));
        }
        number_secrets(&mut observed);
        let of = |secret: &str| observed.egress.secrets[&name(secret)].clone().unwrap();
        assert!(of("a/one") == of("a/three") && of("a/one") != of("a/two"));
        assert!(of("a/one") != Fingerprint::of("alpha"));
    }
}
