//! What several commands begin with: settings, declarations, an engine that answers, a plan.

use std::{env, fs, io, path::Path};

use anyhow::{Context, bail};

use super::{
    args::{Global, Source},
    output,
};
use crate::{
    engine::Engine,
    model::{
        Desired, Host, Observed, Plan, TenantName,
        tree::{SourceFile, Tree},
    },
    plan, reconcile,
    source::{read_commit, read_directory},
    spec,
};

/// Where the host's settings are looked for.
const HOST_FILE: &str = "/etc/tenantd/host.yaml";

/// The largest settings file that is read, in bytes.
const MAX_HOST_FILE: u64 = 1 << 20;

/// Reads the host's settings. The engine of the command line goes before that of the environment, and
/// that before the file's.
pub fn host(global: &Global) -> anyhow::Result<Host> {
    let (path, required) = match &global.host {
        Some(path) => (path.as_path(), true),
        None => (Path::new(HOST_FILE), false),
    };
    let mut host = match read_bounded(path) {
        Ok(bytes) => {
            let file = SourceFile { path: path.display().to_string(), bytes };
            spec::host(&file.path, &file.bytes).map_err(|findings| {
                output::findings(&findings, &Tree { files: vec![file], ..Tree::default() });
                anyhow::anyhow!("{} is not valid, and no setting of it is used", path.display())
            })?
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound && !required => Host::default(),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    if let Some(url) = &global.engine {
        host.engine = spec::socket(url).context("cannot use the engine of --engine")?;
    } else if let Some(url) = env::var_os("DOCKER_HOST").filter(|url| !url.is_empty()) {
        host.engine = spec::socket(&url.to_string_lossy()).context("cannot use the engine of DOCKER_HOST")?;
    }
    Ok(host)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(path)?.len();
    if size > MAX_HOST_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is {size} bytes long")));
    }
    fs::read(path)
}

/// What is declared and what is there.
pub struct Look {
    pub tree: Tree,
    pub desired: Desired,
    pub engine: Engine,
    pub observed: Observed,
}

/// Reads the declarations and looks at the engine, side by side.
///
/// # Errors
/// The declarations cannot be read at all, or the policy for all tenants has errors, which are
/// printed; else the engine does not answer.
pub async fn look(source: &Source, host: &Host) -> anyhow::Result<Look> {
    let source = source.clone();
    let reading = tokio::task::spawn_blocking(move || desired(&source));
    let looking = async {
        let engine = engine(host).await?;
        let observed = reconcile::observe_all_but_images(&engine, host).await.context("cannot observe the engine")?;
        anyhow::Ok((engine, observed))
    };
    let (read, looked) = tokio::join!(reading, looking);
    let (tree, desired) = read.context("cannot read the declarations")??;
    let (engine, mut observed) = looked?;
    reconcile::observe_images(&engine, &desired, &mut observed).await;
    Ok(Look { tree, desired, engine, observed })
}

/// Reads the declarations.
///
/// # Errors
/// They cannot be read at all, or the policy for all tenants has errors, which are printed.
pub fn desired(source: &Source) -> anyhow::Result<(Tree, Desired)> {
    let Source { repo, which } = source;
    let tree = if which.worktree { read_directory(repo)? } else { read_commit(repo, &which.rev)? };
    let desired = spec::compile(&tree);
    output::findings(&desired.findings, &tree);
    if !desired.policy_usable {
        bail!(
            "fleet.yaml, tiers.yaml or the folder tenants has errors; nobody's settings are known, so nothing is planned"
        );
    }
    Ok((tree, desired))
}

/// The engine that the host's settings name.
pub async fn engine(host: &Host) -> anyhow::Result<Engine> {
    let engine = Engine::connect(&host.engine, host.deadlines.call.get()).await;
    engine.with_context(|| format!("cannot use the engine on {}", host.engine.display()))
}

/// Plans for one tenant or for all.
pub fn plan(host: &Host, desired: &Desired, observed: &Observed, only: Option<&str>) -> anyhow::Result<Plan> {
    let mut plan = plan::plan(desired, host, observed);
    if let Some(name) = only {
        plan.tenants.retain(|tenant| tenant.tenant == name);
        if plan.tenants.is_empty() {
            bail!("there is no tenant {name:?}, declared or running{}", meant(name, desired));
        }
    }
    Ok(plan)
}

/// The tenant that a name was probably meant to be, as the end of a sentence; empty where there is none.
pub fn meant(name: &str, desired: &Desired) -> String {
    let names = desired.tenants.keys().map(TenantName::as_str);
    crate::model::finding::suggest(name, names).map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}

/// Runs a command that waits for an engine, on this thread.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(work)
}
