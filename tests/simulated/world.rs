//! A simulated engine, a data root and a host around them: what each test begins with.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tenantd::{
    engine::Engine,
    model::{
        Desired, Host, ImageRef, Observed, Plan, Powers, RuntimeClass, Step, TENANT_LABEL, Tenant, TierName,
        desired::{Limits, Sandbox},
        files::{Apply, ConfigFile, Content},
        host::WorkspaceSettings,
        quantity::Timespan,
        workspace::{Backend, BackendChoice, Restore, Unenforced},
    },
    plan,
    reconcile::{self, Applied, Event},
    snapshot::{self, Snapshot},
};
use tenantd_test_support::{Image, Options, SimEngine};

/// The image that tenants run where a test says nothing else.
pub const IMAGE: &str = "tenantd/test:1";

/// An engine, the folder that tenantd keeps workspaces in, and the settings that lead to both.
pub struct World {
    pub engine: SimEngine,
    pub host: Host,
    /// What tenants were asked to do.
    pub powers: Arc<Powers>,
    runtime: tokio::runtime::Runtime,
    folder: TempDir,
}

/// What happened in one apply: the steps in their order and what became of each tenant.
pub struct Run {
    pub plan: Plan,
    pub steps: Vec<(String, Step)>,
    /// The tenants in the order in which their steps ended.
    pub done: Vec<String>,
    pub applied: Applied,
}

impl Run {
    /// The failures as people read them, `tenant: error: cause`.
    pub fn failures(&self) -> Vec<String> {
        let failed = |o: &reconcile::Outcome| Some(format!("{}: {}", o.tenant, chain(o.failure.as_ref()?)));
        self.applied.outcomes.iter().filter_map(failed).collect()
    }
}

/// An error and its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl World {
    pub fn new() -> Self {
        Self::of(Options::default())
    }

    pub fn of(options: Options) -> Self {
        let engine = SimEngine::start(options);
        let folder = tempfile::tempdir().unwrap();
        let mut host =
            Host { engine: engine.socket().to_owned(), data_root: folder.path().join("data"), ..Host::default() };
        // Tests on the simulated engine run where nothing can be mounted.
        host.workspaces =
            WorkspaceSettings { backend: BackendChoice::Folder, unenforced: Unenforced::Accept, ..Default::default() };
        host.deadlines.stop = Timespan::seconds(1);
        // The folder of policies is one test's alone.
        host.egress.policies = folder.path().join("egress");
        // Nothing that the simulated engine starts ends by itself.
        host.deadlines.min_running = Timespan::seconds(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { engine, host, powers: Arc::default(), runtime, folder }
    }

    /// A folder of this test alone.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A tenant's plain folder.
    pub fn workspace(&self, tenant: &str) -> PathBuf {
        self.host.workspace(tenant, Backend::Folder)
    }

    /// Looks and plans on a connection of its own, as each run of the program does.
    pub fn try_plan(&self, desired: &Desired) -> Result<(Plan, Observed), String> {
        self.runtime.block_on(async {
            let engine = connect(&self.host).await?;
            let mut observed = reconcile::observe(&engine, &self.host, desired).await.map_err(|e| chain(&e))?;
            observed.powers = Arc::clone(&self.powers);
            Ok((plan::plan(desired, &self.host, &observed), observed))
        })
    }

    pub fn observe(&self, desired: &Desired) -> Observed {
        self.try_plan(desired).unwrap().1
    }

    pub fn plan(&self, desired: &Desired) -> Plan {
        self.try_plan(desired).unwrap().0
    }

    /// Looks and plans as the daemon does, so many tenants at a time.
    pub fn survey(&self, desired: &Desired, at_a_time: usize) -> Plan {
        self.runtime.block_on(async {
            let engine = connect(&self.host).await.unwrap();
            let known = reconcile::Known { powers: Arc::clone(&self.powers), ..reconcile::Known::default() };
            reconcile::survey(&engine, &self.host, Some(desired), at_a_time, known).await.unwrap().plan
        })
    }

    /// A snapshot, as another machine reads it.
    pub fn snapshot(&self) -> Snapshot {
        let text = self.runtime.block_on(async {
            let engine = connect(&self.host).await.unwrap();
            reconcile::take_snapshot(&engine, &self.host, Arc::clone(&self.powers)).await.unwrap()
        });
        snapshot::read(&text).unwrap().0
    }

    /// Carries out a plan that was made before.
    pub fn carry_out(&self, plan: Plan) -> Result<Run, String> {
        let (steps, done) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let applied = self.runtime.block_on(async {
            let engine = connect(&self.host).await?;
            let report = |event: Event<'_>| match event {
                Event::Step { tenant, step } => steps.borrow_mut().push((tenant.to_owned(), step.clone())),
                Event::Done(outcome) => done.borrow_mut().push(outcome.tenant.clone()),
            };
            Ok::<_, String>(reconcile::apply(&engine, &self.host, &plan, None, &report).await)
        })?;
        Ok(Run { plan, steps: steps.into_inner(), done: done.into_inner(), applied })
    }

    /// Looks, plans and carries out, as `tenantd apply` does.
    pub fn try_apply(&self, desired: &Desired) -> Result<Run, String> {
        self.carry_out(self.try_plan(desired)?.0)
    }

    pub fn apply(&self, desired: &Desired) -> Run {
        self.try_apply(desired).unwrap()
    }

    /// Applies, and fails unless every tenant is then as declared.
    pub fn converge(&self, desired: &Desired) -> Run {
        let run = self.apply(desired);
        assert_eq!(run.failures(), Vec::<String>::new());
        assert_eq!(run.plan.blocked().count(), 0, "{:?}", run.plan.blocked().collect::<Vec<_>>());
        let next = self.plan(desired);
        assert!(next.is_empty(), "after an apply the next plan is not empty:\n{}", text(&next));
        run
    }

    /// Does something behind tenantd's back, which the engine must accept.
    pub fn act(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.engine.act(method, path, &body);
        assert!(status < 400, "{method} {path}: {status} {answer}");
        answer
    }

    /// Changes the document of a container behind everybody's back.
    pub fn tamper(&self, container: &str, change: impl FnOnce(&mut Value)) {
        self.engine.with(|state| change(state.container_mut(container)));
    }

    /// A container of somebody else's, running, on a network.
    pub fn foreign(&self, name: &str, network: &str) -> String {
        let body = json!({"Image": IMAGE, "HostConfig": {"NetworkMode": network}});
        self.act("POST", &format!("/containers/create?name={name}"), body);
        self.act("POST", &format!("/containers/{name}/start"), Value::Null);
        self.id(name)
    }

    /// A container's id, by its name.
    pub fn id(&self, name: &str) -> String {
        let id = self.engine.with(|state| state.container(name).map(|doc| doc["Id"].as_str().unwrap().to_owned()));
        id.unwrap_or_else(|| panic!("no container is named {name}"))
    }

    /// Containers by the tenant of their label; those without one under an empty name.
    pub fn ids(&self) -> BTreeMap<String, Vec<String>> {
        by_tenant(&self.engine.containers(), |doc| &doc["Config"]["Labels"])
    }

    /// Networks by the tenant of their label, but for the engine's own three.
    pub fn network_ids(&self) -> BTreeMap<String, Vec<String>> {
        let own = |doc: &&Value| !matches!(doc["Name"].as_str(), Some("bridge" | "host" | "none"));
        let networks: Vec<Value> = self.engine.networks().iter().filter(own).cloned().collect();
        by_tenant(&networks, |doc| &doc["Labels"])
    }

    /// A container's state, such as `running`; empty where there is none.
    pub fn state(&self, name: &str) -> String {
        let status = |doc: &Value| doc["State"]["Status"].as_str().unwrap().to_owned();
        self.engine.with(|state| state.container(name).map(status)).unwrap_or_default()
    }

    /// The folders that are archived, by the name of their tenant.
    pub fn archived(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.host.data_root.join("archive")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

async fn connect(host: &Host) -> Result<Engine, String> {
    Engine::connect(&host.engine, host.deadlines.call.get()).await.map_err(|e| chain(&e))
}

fn by_tenant(documents: &[Value], labels: impl Fn(&Value) -> &Value) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for doc in documents {
        let tenant = labels(doc)[TENANT_LABEL].as_str().unwrap_or_default();
        all.entry(tenant.to_owned()).or_default().push(doc["Id"].as_str().unwrap().to_owned());
    }
    all
}

/// A plan as people read it.
pub fn text(plan: &Plan) -> String {
    plan::render::text(plan, plan::render::Style::Plain)
}

/// A tenant of 128 MiB, half a processor and 64 processes.
pub fn tenant(name: &str) -> Tenant {
    Tenant {
        name: name.parse().unwrap(),
        tier: "free".parse::<TierName>().unwrap(),
        class: RuntimeClass::Container,
        image: IMAGE.parse::<ImageRef>().unwrap(),
        command: None,
        environment: BTreeMap::new(),
        limits: Limits {
            cpus: "0.5".parse().unwrap(),
            memory: "128MiB".parse().unwrap(),
            pids: "64".parse().unwrap(),
            disk: "1GiB".parse().unwrap(),
        },
        disk_room: "2GiB".parse().unwrap(),
        source: None,
        files: Vec::new(),
        restore: Some(Restore::Nothing),
        sessions: 1,
        routes: Vec::new(),
        sealed: BTreeMap::new(),
        budget: Default::default(),
        allowlist: Default::default(),
        expose: Default::default(),
        access: Default::default(),
        sandbox: Sandbox::default(),
        drift: Default::default(),
        rules: Default::default(),
    }
}

/// A config file with a line of text.
pub fn config_file(path: &str, text: &str, apply: Apply) -> ConfigFile {
    ConfigFile { path: path.to_owned(), content: Content::new(text.as_bytes().into()), apply }
}

/// A fleet of these tenants.
pub fn fleet(tenants: impl IntoIterator<Item = Tenant>) -> Desired {
    let tenants = tenants.into_iter().map(|tenant| (tenant.name.clone(), tenant.into())).collect();
    Desired { tenants, policy_usable: true, ..Desired::default() }
}

/// A fleet of tenants that are alike but for their names.
pub fn named(names: &[&str]) -> Desired {
    fleet(names.iter().map(|name| tenant(name)))
}

/// An image that sets a variable and nothing else, so that its id differs from others'.
pub fn image(reference: &str, mark: &str) -> Image {
    Image { config: json!({"Cmd": ["/sleep"], "Env": ["PATH=/bin", format!("MARK={mark}")]}), ..Image::new(reference) }
}
