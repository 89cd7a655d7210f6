//! What several commands begin with: settings, declarations, an engine that answers, a plan.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{
    args::{ConfigPath, Global, Source},
    failure::Failure,
    output,
};
use crate::{
    daemon,
    engine::Engine,
    gateway,
    host::{Owner, OwnerError, modes},
    model::{
        Desired, Host, Observed, Plan, TenantName,
        finding::suggest,
        host,
        observed::Health,
        tree::{SourceFile, Tree},
    },
    plan, reconcile,
    source::{History, Opened, Place, SourceError, local_path, read_commit_below, read_directory},
    spec,
};

/// Where the host's settings are looked for.
pub const HOST_FILE: &str = "/etc/tenantd/host.yaml";

/// The largest settings file that is read, in bytes.
const MAX_HOST_FILE: u64 = 1 << 20;

/// The file with the host's settings: the one that is named, else the usual one if it is there.
pub fn host_file(named: Option<&Path>) -> anyhow::Result<Option<SourceFile>> {
    let path = named.unwrap_or(Path::new(HOST_FILE));
    match read_bounded(path) {
        Ok(bytes) => Ok(Some(SourceFile { path: path.display().to_string(), bytes })),
        Err(e) if e.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Reads the host's settings. The engine of the command line goes before that of the environment, and
/// that before the file's.
pub fn host(global: &Global) -> anyhow::Result<Host> {
    let mut host = match host_file(global.host.as_deref())? {
        Some(file) => spec::host(&file.path, &file.bytes).map_err(|findings| {
            let what = format!("{} is not valid, and no setting of it is used", file.path);
            output::findings(&findings, &Tree { files: vec![file], ..Tree::default() });
            Failure::settings(what).hint("mend what is listed above; docs/config.md has every setting")
        })?,
        None => Host::default(),
    };
    if let Some(url) = &global.engine {
        host.engine = spec::socket(url).context("cannot use the engine of --engine")?;
    } else if let Some(url) = env::var_os("DOCKER_HOST").filter(|url| !url.is_empty()) {
        host.engine = spec::socket(&url.to_string_lossy()).context("cannot use the engine of DOCKER_HOST")?;
    }
    Ok(host)
}

/// What the processes between tenants and the network begin with: the host's settings, the absolute path of their file, and
/// the namespace that tenants' networks end in, which is made where it is missing.
///
/// # Errors
/// The settings are wrong, a place that they name belongs to another data root, or the namespace cannot be made.
pub fn network_process(global: &Global) -> anyhow::Result<(Host, Option<PathBuf>)> {
    modes::keep_private();
    let host = host(global)?;
    // What cannot be found out here, as within a service's bounds, is no reason to stay closed.
    if let Err(taken @ OwnerError::Taken(_)) = block_on(async { Ok(Owner::new(&host).check().await) })? {
        return Err(taken.into());
    }
    gateway::prepare(&host)?;
    // The working folder may be out of sight later.
    let settings = global.host.as_ref().map(std::path::absolute).transpose()?;
    Ok((host, settings))
}

/// What is known of a config repo before it is opened.
#[derive(Clone)]
pub struct Layout {
    /// The folder of the repository with fleet.yaml in it, at a commit; empty for the top.
    below: String,
    /// The repository that this host's daemon follows, where it lies on this host.
    followed: Option<PathBuf>,
}

impl Layout {
    /// The folder that the command line names, else `source.path` of the host's settings; without any that can be read, as
    /// away from a host, the top.
    pub fn of(path: &ConfigPath, global: &Global) -> Self {
        let source = source(global);
        let followed = source.as_ref().and_then(|source| local_path(&source.url));
        let below = path.path.clone().or_else(|| source.map(|source| source.path)).unwrap_or_default();
        Self { below, followed }
    }

    /// Reads the declarations of a commit.
    ///
    /// # Errors
    /// As of [`read_commit_below`].
    pub fn read(&self, repo: &Path, rev: &str) -> Result<Tree, SourceError> {
        read_commit_below(self.place(repo), rev, &self.below)
    }

    /// The commits that led to a revision.
    ///
    /// # Errors
    /// As of [`History::open`].
    pub fn history(&self, repo: &Path, rev: &str) -> Result<History, SourceError> {
        History::open(self.place(repo), rev, &self.below)
    }

    /// Opens the repository itself, and says which of its folders is read.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(&self, repo: &Path) -> Result<(Opened, PathBuf), SourceError> {
        let below = Path::new(&self.below);
        Ok((Opened::open(self.place(repo))?, below.strip_prefix(".").unwrap_or(below).to_owned()))
    }

    fn place<'a>(&'a self, repo: &'a Path) -> Place<'a> {
        Place { path: repo, followed: self.followed.as_deref() }
    }
}

fn source(global: &Global) -> Option<host::Source> {
    let path = global.host.as_deref().unwrap_or(Path::new(HOST_FILE));
    spec::host(&path.display().to_string(), &read_bounded(path).ok()?).ok()?.source
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(path)?.len();
    if size > MAX_HOST_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is {size} bytes long")));
    }
    fs::read(path)
}

/// What is declared and what is there.
pub struct Observation {
    pub tree: Tree,
    pub desired: Desired,
    pub engine: Engine,
    pub observed: Observed,
}

/// Reads the declarations and observes the engine, side by side.
///
/// # Errors
/// The declarations cannot be read at all, or the policy for all tenants has errors, which are
/// printed; else the engine does not answer.
pub async fn observe(source: &Source, layout: &Layout, host: &Host) -> anyhow::Result<Observation> {
    let (source, layout) = (source.clone(), layout.clone());
    let reading = tokio::task::spawn_blocking(move || desired(&source, &layout));
    let engine = engine(host).await;
    let reading = async {
        let (tree, desired) = reading.await.context("cannot read the declarations")??;
        let images = match &engine {
            Ok(engine) => reconcile::observe_images(engine, &desired).await,
            Err(_) => BTreeMap::new(),
        };
        anyhow::Ok((tree, desired, images))
    };
    let observing = async {
        let Ok(engine) = &engine else { return Ok(Observed::default()) };
        reconcile::observe_all_but_images(engine, host).await.context("cannot observe the engine")
    };
    let (read, seen) = tokio::join!(reading, observing);
    let (tree, desired, images) = read?;
    let engine = engine?;
    let observed = Observed { images, powers: daemon::powers(&host.data_root)?, ..seen? };
    Ok(Observation { tree, desired, engine, observed })
}

/// Reads the files of a commit, or of a folder as it lies there.
///
/// # Errors
/// They cannot be read.
pub fn read(Source { repo, which }: &Source, layout: &Layout) -> Result<Tree, SourceError> {
    match which.worktree {
        true => read_directory(&worktree(repo, &which.path)),
        false => layout.read(repo, &which.rev),
    }
}

/// Reads the declarations.
///
/// # Errors
/// They cannot be read at all, or the policy for all tenants has errors, which are printed.
pub fn desired(source: &Source, layout: &Layout) -> anyhow::Result<(Tree, Desired)> {
    let tree = read(source, layout)?;
    let desired = spec::compile(&tree);
    output::findings(&desired.findings, &tree);
    if !desired.policy_usable {
        return Err(without_policy("nobody's settings are known, so nothing is planned").into());
    }
    Ok((tree, desired))
}

/// The folder with fleet.yaml in it as it lies there: what was named, and below that only what was named as well.
pub fn worktree(repo: &Path, path: &ConfigPath) -> PathBuf {
    path.path.as_ref().map_or_else(|| repo.to_owned(), |path| repo.join(path))
}

/// The engine that the host's settings name.
pub async fn engine(host: &Host) -> anyhow::Result<Engine> {
    let engine = Engine::connect(&host.engine, host.deadlines.call.get()).await;
    engine.with_context(|| format!("cannot use the engine on {}", host.engine.display()))
}

/// Plans for one tenant or for all.
pub fn plan(host: &Host, desired: &Desired, observed: &Observed, only: Option<&str>) -> anyhow::Result<Plan> {
    let mut plan = plan::plan(desired, host, observed);
    // It changes by itself, and nothing is done by it: two plans are equal without.
    plan.tenants.iter_mut().for_each(|tenant| tenant.health = Health::default());
    if let Some(name) = only {
        plan.tenants.retain(|tenant| tenant.tenant == name);
        if plan.tenants.is_empty() {
            let what = format!("there is no tenant {name:?}, declared or running");
            return Err(unknown(what, name, desired).into());
        }
    }
    Ok(plan)
}

/// No tenant has this name: with the one that was probably meant.
pub fn unknown(what: String, name: &str, desired: &Desired) -> Failure {
    let names = desired.tenants.keys().map(TenantName::as_str);
    Failure::asked(what).hint(match suggest(name, names) {
        Some(meant) => format!("did you mean {meant}?"),
        None => {
            "`tenantd status` lists those that the daemon knows, and tenants/ in the config repo all that are declared"
                .to_owned()
        }
    })
}

/// The policy for all tenants has errors, with what that means.
pub fn without_policy(so: &str) -> Failure {
    let what = format!("fleet.yaml, tiers.yaml or the folder tenants has errors; {so}");
    Failure::asked(what).hint("mend what is listed above; `tenantd validate` lists every error")
}

/// Runs a command that waits for an engine, on this thread.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(work)
}
