//! What the gateway is given: a policy for each tenant, and the values of its secrets beside it.
//!
//! `policies/NAME.json` and `secrets/NAME.json` can be read by root and the gateway's group, and policies by root alone where
//! there is no gateway's user yet. Both are written beside their place and moved there, so that whoever reads sees one or the other, and never a part.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{modes, users};
use crate::model::{
    EgressPolicy, SecretName, TenantName,
    egress::{Filed, Fingerprint, FoundFiles, FoundSecrets, Sealed, SecretValues},
    files::short_digest,
};

/// The most that is read of one file, in bytes: a thousand destinations and a hundred routes are a tenth of it.
const MAX_FILE: u64 = 4 << 20;

/// The folders of policies and of secrets.
const POLICIES: &str = "policies";
const SECRETS: &str = "secrets";

/// What the file of a tenant ends with.
const ENDING: &str = ".json";

/// The folders of policies and of secrets.
pub fn folders(root: &Path) -> [PathBuf; 2] {
    [root.join(POLICIES), root.join(SECRETS)]
}

/// The tenant that a file in one of these folders is about.
pub(super) fn tenant_of(path: &Path) -> Option<String> {
    let stem = path.file_name()?.to_str()?.strip_suffix(ENDING)?;
    stem.parse::<TenantName>().is_ok().then(|| stem.to_owned())
}

/// The files for all tenants.
#[derive(Clone, Debug)]
pub struct Policies {
    root: PathBuf,
    /// The gateway's user, whose group may read secrets.
    user: String,
}

/// Why a file could not be read or written. No variant holds any of a secret.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The kernel refuses.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The gateway's user is not there, so that nobody could be given a secret.
    #[error("there is no user {0} on this host, whose group the gateway's secrets would belong to")]
    NoUser(String),
}

/// A policy with what shows whether somebody else changed it. The gateway takes no notice of that.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    policy: EgressPolicy,
    #[serde(default)]
    written: String,
}

/// The secrets of a tenant, as the gateway gets it: a file beside the policy that the gateway alone can read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SecretsFile {
    /// Their values.
    pub values: SecretValues,
    /// The encrypted text that a value came from, for those that came from one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sealed: BTreeMap<SecretName, Fingerprint>,
    /// Tells whether somebody else changed it.
    #[serde(default)]
    written: String,
}

impl SecretsFile {
    /// The value of a secret, and the sealed text that it came from.
    pub(super) fn kept(&self, name: &SecretName) -> Option<(String, Option<Fingerprint>)> {
        Some((self.values.get(name)?.clone(), self.sealed.get(name).copied()))
    }

    fn mark(&self) -> String {
        mark(&(&self.values, &self.sealed))
    }
}

impl Policies {
    /// The files below a folder.
    pub fn new(root: &Path, user: &str) -> Self {
        Self { root: root.to_owned(), user: user.to_owned() }
    }

    fn path(&self, folder: &str, tenant: &str) -> PathBuf {
        self.root.join(folder).join(format!("{tenant}{ENDING}"))
    }

    /// The tenants that have a file. None where nothing was ever written.
    ///
    /// # Errors
    /// A folder exists and cannot be read.
    pub fn tenants(&self) -> Result<BTreeSet<String>, PolicyError> {
        let mut tenants = BTreeSet::new();
        for path in folders(&self.root) {
            let failed = |source| PolicyError::Io { action: "read", path: path.clone(), source };
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(e)),
            };
            for entry in entries {
                tenants.extend(tenant_of(Path::new(&entry.map_err(failed)?.file_name())));
            }
        }
        Ok(tenants)
    }

    /// What is there of a tenant; `None` where there is nothing.
    pub fn observe(&self, tenant: &str) -> Option<FoundFiles> {
        let mut found = FoundFiles::default();
        match read(&self.path(POLICIES, tenant), 0o022) {
            Filed::Missing => {}
            Filed::Wrong(reason) => found.policy = Filed::Wrong(reason),
            Filed::Present(bytes) => match serde_json::from_slice::<Written>(&bytes) {
                Ok(file) => {
                    found.edited = file.written != mark(&file.policy);
                    found.policy = Filed::Present(file.policy);
                }
                Err(_) => found.policy = Filed::Wrong("it is not a policy".to_owned()),
            },
        }
        found.secrets = match read(&self.path(SECRETS, tenant), 0o027) {
            Filed::Missing => Filed::Missing,
            Filed::Wrong(reason) => Filed::Wrong(reason),
            Filed::Present(bytes) => match serde_json::from_slice::<SecretsFile>(&bytes) {
                Ok(file) => Filed::Present(FoundSecrets {
                    edited: file.written != file.mark(),
                    values: file.values.into_iter().map(|(name, value)| (name, Fingerprint::of(&value))).collect(),
                    sealed: file.sealed,
                }),
                Err(_) => Filed::Wrong("it does not hold secrets".to_owned()),
            },
        };
        (!found.policy.is_missing() || !found.secrets.is_missing()).then_some(found)
    }

    /// Writes a policy.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn write(&self, policy: &EgressPolicy) -> Result<(), PolicyError> {
        let path = self.path(POLICIES, policy.tenant.as_str());
        let group = self.group()?;
        self.folder(POLICIES, group)?;
        let written = Written { policy: policy.clone(), written: mark(policy) };
        replace(&path, &written, group)
    }

    /// Writes the values of a tenant's secrets, and which of them came encrypted; without any, the file goes.
    ///
    /// # Errors
    /// The kernel refuses, or there is no such user as the gateway's.
    pub fn write_secrets(
        &self,
        tenant: &TenantName,
        values: SecretValues,
        sealed: &BTreeMap<SecretName, Sealed>,
    ) -> Result<(), PolicyError> {
        let sealed = sealed.iter().map(|(name, text)| (name.clone(), Fingerprint::of(text.as_str()))).collect();
        self.write_secrets_of(tenant, values, sealed)
    }

    /// The same, with the encrypted texts known by their fingerprints alone.
    pub(super) fn write_secrets_of(
        &self,
        tenant: &TenantName,
        values: SecretValues,
        sealed: BTreeMap<SecretName, Fingerprint>,
    ) -> Result<(), PolicyError> {
        let path = self.path(SECRETS, tenant.as_str());
        if values.is_empty() {
            return remove(&path);
        }
        let group = self.group()?.ok_or_else(|| PolicyError::NoUser(self.user.clone()))?;
        self.folder(SECRETS, Some(group))?;
        let mut file = SecretsFile { values, sealed, written: String::new() };
        file.written = file.mark();
        replace(&path, &file, Some(group))
    }

    /// A tenant's secrets as they were written here; `None` where there are none, or somebody else changed them.
    pub(super) fn secrets(&self, tenant: &TenantName) -> Option<SecretsFile> {
        let Filed::Present(bytes) = read(&self.path(SECRETS, tenant.as_str()), 0o027) else { return None };
        let file = serde_json::from_slice::<SecretsFile>(&bytes).ok()?;
        (file.written == file.mark()).then_some(file)
    }

    /// Removes what the gateway was given of a tenant: first what it may reach, then its secrets.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&self, tenant: &str) -> Result<(), PolicyError> {
        remove(&self.path(POLICIES, tenant))?;
        remove(&self.path(SECRETS, tenant))
    }

    /// The gateway's group, if its user is there.
    fn group(&self) -> Result<Option<u32>, PolicyError> {
        let failed = |source| PolicyError::Io { action: "read", path: PathBuf::from("/etc/passwd"), source };
        Ok(users::user_ids(&self.user).map_err(failed)?.map(|(_, group)| group))
    }

    fn folder(&self, name: &str, group: Option<u32>) -> Result<(), PolicyError> {
        let path = self.root.join(name);
        let failed = |source| PolicyError::Io { action: "make", path: path.clone(), source };
        if let Some(parent) = self.root.parent() {
            // The gateway has to get there.
            modes::make(parent, 0o755).map_err(failed)?;
        }
        for folder in [&self.root, &path] {
            modes::make(folder, modes::FOLDER).map_err(failed)?;
            // Whoever made it.
            give(folder, group, modes::FOLDER, 0o750).map_err(failed)?;
        }
        Ok(())
    }
}

/// Tells whether something is as it was written. It keeps nobody from changing it; whoever can write there is root.
fn mark<T: Serialize>(content: &T) -> String {
    let text = serde_json::to_vec(content).unwrap_or_default();
    short_digest(&text, 32)
}

/// Reads a file that must be ours and closed as far as the bits `closed` say.
fn read(path: &Path, closed: u32) -> Filed<Vec<u8>> {
    let wrong = |reason: &str| Filed::Wrong(reason.to_owned());
    // A pipe or a link in the file's place must not lead anywhere.
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits();
    let file = match File::options().read(true).custom_flags(i32::try_from(flags).unwrap_or_default()).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Filed::Missing,
        Err(e) => return Filed::Wrong(e.to_string()),
    };
    let Ok(metadata) = file.metadata() else { return wrong("it cannot be read") };
    if !metadata.is_file() {
        return wrong("it is not a file");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & closed != 0 {
        return wrong("it is open to others");
    }
    let mut bytes = Vec::new();
    match file.take(MAX_FILE + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > MAX_FILE => wrong("it is longer than 4 MiB"),
        Ok(_) => Filed::Present(bytes),
        Err(e) => Filed::Wrong(e.to_string()),
    }
}

/// Lets a group read, if there is one, and nobody else but root.
fn give(path: &Path, group: Option<u32>, alone: u32, shared: u32) -> io::Result<()> {
    chown(path, None, group)?;
    fs::set_permissions(path, Permissions::from_mode(if group.is_some() { shared } else { alone }))
}

fn replace<T: Serialize>(path: &Path, content: &T, group: Option<u32>) -> Result<(), PolicyError> {
    let beside = path.with_extension("new");
    let result = (|| {
        let mut bytes = serde_json::to_vec(content)?;
        bytes.push(b'\n');
        modes::create(&beside)?.write_all(&bytes)?;
        give(&beside, group, modes::FILE, 0o640)?;
        fs::rename(&beside, path)
    })();
    result.map_err(|source| PolicyError::Io { action: "write", path: path.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), PolicyError> {
    remove_if_there(path).map_err(|source| PolicyError::Io { action: "remove", path: path.to_owned(), source })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::model::egress::{Budget, POLICY_VERSION};

    fn policy() -> Result<EgressPolicy, Box<dyn Error>> {
        Ok(EgressPolicy {
            v: POLICY_VERSION,
            tenant: "acme".parse()?,
            subnet: "10.77.0.0/28".parse()?,
            address: Some([10, 77, 0, 2].into()),
            allow: BTreeSet::from(["api.example.com:443".parse()?]),
            routes: Vec::new(),
            budget: Budget::default(),
        })
    }

    #[test]
    fn a_policy_is_read_as_it_was_written_and_a_change_by_hand_is_seen() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let policies = Policies::new(&folder.path().join("egress"), "root");
        assert!(policies.observe("acme").is_none() && policies.tenants()?.is_empty());
        let mut policy = policy()?;
        policies.write(&policy)?;
        let found = policies.observe("acme").ok_or("nothing was written")?;
        assert_eq!((found.policy.present(), found.edited), (Some(&policy), false));

        let path = folder.path().join("egress/policies/acme.json");
        let modes = |folder: &Path| -> io::Result<[u32; 3]> {
            let path = folder.join("policies/acme.json");
            let mode = |path: &Path| Ok::<_, io::Error>(fs::metadata(path)?.mode() & 0o7777);
            Ok([mode(folder)?, mode(&folder.join("policies"))?, mode(&path)?])
        };
        assert_eq!(modes(&folder.path().join("egress"))?, [0o750, 0o750, 0o640], "for the gateway's group");
        let alone = folder.path().join("alone");
        Policies::new(&alone, "no-such-user").write(&policy)?;
        assert_eq!(modes(&alone)?, [0o700, 0o700, 0o600], "for root alone");
        // What an earlier build made is closed by the next write.
        fs::set_permissions(&alone, Permissions::from_mode(0o755))?;
        Policies::new(&alone, "root").write(&policy)?;
        assert_eq!(modes(&alone)?, [0o750, 0o750, 0o640]);
        let text = fs::read_to_string(&path)?;
        fs::write(&path, text.replace("api.example.com", "evil.example.com"))?;
        policy.allow = BTreeSet::from(["evil.example.com:443".parse()?]);
        let found = policies.observe("acme").ok_or("nothing was written")?;
        assert_eq!((found.policy.present(), found.edited), (Some(&policy), true));

        for tampered in ["", "{", "[]", "{\"v\": 1}"] {
            fs::write(&path, tampered)?;
            assert!(matches!(policies.observe("acme").map(|found| found.policy), Some(Filed::Wrong(_))), "{tampered}");
        }
        policies.remove("acme")?;
        assert!(policies.observe("acme").is_none() && policies.tenants()?.is_empty());
        Ok(())
    }

    #[test]
    fn secrets_are_closed_to_others_and_never_shown() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let policies = Policies::new(folder.path(), "root");
        let (tenant, name): (TenantName, crate::model::SecretName) = ("acme".parse()?, "acme/crm".parse()?);
        let values = SecretValues::from([(name.clone(), "s3cret".to_owned())]);
        policies.write_secrets(&tenant, values.clone(), &BTreeMap::new())?;
        let path = folder.path().join("secrets/acme.json");
        assert_eq!(fs::metadata(&path)?.mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(folder.path().join("secrets"))?.mode() & 0o7777, 0o750);
        let found = policies.observe("acme").ok_or("nothing was written")?;
        let secrets = found.secrets.present().ok_or("no secrets")?;
        assert!(secrets.values.get(&name) == Some(&Fingerprint::of("s3cret")) && !secrets.edited);
        assert!(!format!("{found:?}").contains("s3cret"));
        fs::write(&path, fs::read_to_string(&path)?.replace("s3cret", "another"))?;
        let found = policies.observe("acme").ok_or("nothing was written")?;
        assert!(found.secrets.present().is_some_and(|secrets| secrets.edited));

        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
        let found = policies.observe("acme").ok_or("nothing was written")?;
        assert_eq!(found.secrets, Filed::Wrong("it is open to others".to_owned()));
        policies.write_secrets(&tenant, SecretValues::new(), &BTreeMap::new())?;
        assert!(policies.observe("acme").is_none());
        let nobody = Policies::new(folder.path(), "no-such-user");
        let refused = nobody.write_secrets(&tenant, values, &BTreeMap::new());
        assert!(matches!(refused, Err(PolicyError::NoUser(_))));
        Ok(())
    }
}
