//! What tenantd is run on: a config repo, the host's settings, a data root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use git2::{ObjectType, Repository, RepositoryInitOptions, Signature};

use crate::measure::{self, Run};

/// The branch that is followed.
const BRANCH: &str = "main";

/// The memory limit that every second tenant declares for itself.
const MEMORY: &str = "256MiB";

/// Workspaces that are plain folders, so that nothing but the engine is measured.
pub const FOLDERS: &str = "workspaces: {backend: folder, unenforced: accept}\n";

/// A config repo with one commit, and a host of its own.
pub struct World {
    folder: PathBuf,
    socket: PathBuf,
}

impl World {
    /// Makes a fleet of tenants in a folder. The first tenants are the same for every size.
    pub fn new(folder: &Path, socket: &Path, image: &str, tenants: usize) -> anyhow::Result<Self> {
        Self::declaring(folder, socket, image, (0..tenants).map(tenant), FOLDERS)
    }

    /// Makes a fleet of these tenants in a folder, each a name and the text of its file, on a host with these settings.
    pub fn declaring(
        folder: &Path,
        socket: &Path,
        image: &str,
        tenants: impl IntoIterator<Item = (String, String)>,
        more: &str,
    ) -> anyhow::Result<Self> {
        let world = Self { folder: folder.to_owned(), socket: socket.to_owned() };
        fs::create_dir_all(folder)?;
        world.settings(socket, more)?;
        commit(&world.repo(), &fleet(image), tenants)?;
        Ok(world)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The engine's socket.
    pub fn engine(&self) -> &Path {
        &self.socket
    }

    /// The daemon's socket.
    pub fn control(&self) -> PathBuf {
        self.folder.join("tenantd.sock")
    }

    /// Writes the host's settings: an engine's socket, and what else is to be said.
    pub fn settings(&self, engine: &Path, more: &str) -> anyhow::Result<()> {
        Ok(fs::write(self.host(), host(self, engine, more))?)
    }

    pub fn repo(&self) -> PathBuf {
        self.folder.join("repo")
    }

    pub fn host(&self) -> PathBuf {
        self.folder.join("host.yaml")
    }

    pub fn data_root(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Runs `tenantd VERB REPO`, which must end with exit code 0.
    pub fn tenantd(&self, words: &[&str]) -> anyhow::Result<Run> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
        command.args(words).arg(self.repo()).arg("--host").arg(self.host());
        command.env_remove("DOCKER_HOST");
        measure::run(&command, &self.folder).with_context(|| format!("tenantd {}", words.join(" ")))
    }
}

/// Room for more than 10,000 networks.
fn host(world: &World, engine: &Path, more: &str) -> String {
    format!(
        "apiVersion: tenantd/v1\nkind: Host\nengine: unix://{}\ndataRoot: {}\nnetwork: {{pool: 10.0.0.0/12, prefix: 29}}\n\
         source: {{url: {}, branch: {BRANCH}}}\nsocket: {}\n{more}",
        engine.display(),
        world.data_root().display(),
        world.repo().display(),
        world.control().display(),
    )
}

fn fleet(image: &str) -> String {
    format!(
        "apiVersion: tenantd/v1\nkind: Fleet\ndefaults:\n  tier: free\n  image: {image}\n  environment:\n    AGENT_INTERVAL: \"3600\"\n"
    )
}

/// One tenant's file: of each tier some, some with limits and variables of their own. None has an egress path:
/// tenantd runs beside the engine's machine here.
fn tenant(number: usize) -> (String, String) {
    let name = tenant_name(number);
    let tier = ["free", "pro", "team", "enterprise"][number % 4];
    let mut text = format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: {name}\ntier: {tier}\n");
    if number.is_multiple_of(2) {
        text += &format!("limits: {{cpus: 0.5, memory: {MEMORY}, pids: 128, disk: 1GiB}}\n");
    }
    if number.is_multiple_of(3) {
        text += &format!("environment:\n  CUSTOMER: \"{number}\"\n  REGION: eu-central-1\n");
    }
    (name, text)
}

/// Writes one commit, all objects in one pack, as a clone has them.
fn commit(path: &Path, fleet: &str, tenants: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<()> {
    let mut options = RepositoryInitOptions::new();
    let repository = Repository::init_opts(path, options.bare(true).initial_head(BRANCH))?;
    let objects = repository.odb()?;
    let memory = objects.add_new_mempack_backend(1000)?;
    let mut folder = repository.treebuilder(None)?;
    for (name, text) in tenants {
        let blob = objects.write(ObjectType::Blob, text.as_bytes())?;
        folder.insert(format!("{name}.yaml"), blob, 0o100_644)?;
    }
    let mut root = repository.treebuilder(None)?;
    root.insert("fleet.yaml", objects.write(ObjectType::Blob, fleet.as_bytes())?, 0o100_644)?;
    root.insert("tenants", folder.write()?, 0o040_000)?;
    let tree = repository.find_tree(root.write()?)?;
    let author = Signature::now("bench", "bench@localhost")?;
    repository.commit(Some("HEAD"), &author, &author, "A fleet", &tree, &[])?;
    let mut pack = git2::Buf::new();
    memory.dump(&repository, &mut pack)?;
    let mut writer = objects.packwriter()?;
    std::io::Write::write_all(&mut writer, &pack)?;
    writer.commit()?;
    memory.reset()?;
    Ok(())
}

/// Somebody's clone of the config repo.
pub struct Clone {
    folder: PathBuf,
}

impl Clone {
    pub fn of(world: &World) -> anyhow::Result<Self> {
        let clone = Self { folder: world.folder().join("clone") };
        git(world.folder(), &["clone", "--quiet", &world.repo().display().to_string(), "clone"])?;
        Ok(clone)
    }

    /// Commits another memory limit for some of the tenants that have one of their own.
    pub fn commit(&self, changed: usize, memory: &str) -> anyhow::Result<()> {
        for number in with_limits(changed) {
            let (name, text) = tenant(number);
            fs::write(self.folder.join(format!("tenants/{name}.yaml")), text.replace(MEMORY, memory))?;
        }
        git(&self.folder, &["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qam", "Limits"])
    }

    /// Commits an allowlist of one entry for one tenant.
    pub fn allow(&self, number: usize, entry: &str) -> anyhow::Result<()> {
        let (name, text) = tenant(number);
        fs::write(self.folder.join(format!("tenants/{name}.yaml")), text + &format!("allowlist: [\"{entry}\"]\n"))?;
        git(&self.folder, &["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qam", "Allowlist"])
    }

    pub fn push(&self) -> anyhow::Result<()> {
        git(&self.folder, &["push", "--quiet"])
    }
}

/// The name of a tenant by its number.
pub fn tenant_name(number: usize) -> String {
    format!("customer-{number:05}")
}

/// The first tenants that have limits of their own, by number.
pub fn with_limits(count: usize) -> impl Iterator<Item = usize> {
    (0..).step_by(2).take(count)
}

fn git(folder: &Path, words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("git").arg("-C").arg(folder).args(words).output().context("git")?;
    ensure!(output.status.success(), "git {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}

pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
