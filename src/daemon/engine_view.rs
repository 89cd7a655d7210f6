//! What is known of the engine: whether it answers, what it is like, and which objects are whose.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::link::Link;
use crate::{
    engine::Engine,
    model::{
        Host, NAME_PREFIX, REPLACEMENT_SUFFIX, observed::EngineFacts, plan::Lookalike, status::EngineStatus,
        workspace::WorkspaceCapability,
    },
    reconcile::Runtimes,
};

pub(super) struct EngineView {
    pub(super) link: Link,
    /// `None` while it does not answer.
    pub(super) engine: Option<Arc<Engine>>,
    /// Since when its events arrive: the daemon began, or the engine was away.
    pub(super) back: Option<Instant>,
    pub(super) status: EngineStatus,
    pub(super) runtimes: Arc<Runtimes>,
    /// Whether runtimes are being tested.
    pub(super) testing: bool,
    pub(super) facts: Arc<EngineFacts>,
    /// How new workspaces are made where it runs.
    pub(super) capability: WorkspaceCapability,
    pub(super) objects: KnownObjects,
}

impl EngineView {
    pub(super) fn begin(host: &Host) -> Self {
        Self {
            link: Link::begin(host.engine.clone(), host.deadlines.call.get()),
            engine: None,
            back: None,
            status: EngineStatus::default(),
            runtimes: Arc::default(),
            testing: false,
            facts: Arc::default(),
            capability: WorkspaceCapability::default(),
            objects: KnownObjects::default(),
        }
    }

    /// Takes new settings.
    pub(super) fn connect_anew(&mut self, host: &Host) {
        self.link = Link::begin(host.engine.clone(), host.deadlines.call.get());
    }

    /// It answers, and its events arrive from now on.
    pub(super) fn is_up(&mut self, engine: Arc<Engine>, now: Instant) {
        self.engine = Some(engine);
        self.back = Some(now);
        self.runtimes.forget();
        self.status.up = true;
        self.status.events = true;
        self.status.error = None;
    }

    /// It answers, and its events do not arrive. Whether that is news.
    pub(super) fn is_up_without_events(&mut self, engine: Arc<Engine>) -> bool {
        let is_news = self.engine.replace(engine).is_none();
        if is_news {
            self.status.error = None;
        }
        self.status.up = true;
        self.status.events = false;
        is_news
    }

    /// It does not answer. Whether that is news.
    pub(super) fn is_down(&mut self, reason: String) -> bool {
        let is_news = self.status.up || self.status.error.is_none();
        self.engine = None;
        self.status.up = false;
        self.status.events = false;
        self.status.error = Some(reason);
        is_news
    }
}

/// Which objects of the engine are whose, as far as scans and events show. Pure.
#[derive(Debug, Default)]
pub(super) struct KnownObjects {
    /// The tenant of each container of ours, by the container's id.
    containers: BTreeMap<String, String>,
    /// Tenants that have a container or a network.
    pub(super) present: BTreeSet<String>,
    /// Containers that merely look like a tenant's and were reported, by their ids.
    lookalikes: BTreeMap<String, String>,
    /// Containers whose limits the engine refused to lower.
    pub(super) refused_limits: BTreeSet<String>,
}

impl KnownObjects {
    /// Takes in what a full scan found. What happened to the `touched` tenants meanwhile is known from events.
    pub(super) fn scanned(
        &mut self,
        containers: BTreeMap<String, String>,
        present: BTreeSet<String>,
        lookalikes: &[Lookalike],
        touched: &BTreeSet<String>,
    ) {
        self.containers.retain(|id, tenant| containers.contains_key(id) || touched.contains(tenant));
        self.containers.extend(containers);
        self.refused_limits.retain(|id| self.containers.contains_key(id));
        self.present = present;
        self.lookalikes.retain(|id, tenant| touched.contains(tenant) || lookalikes.iter().any(|found| found.id == *id));
    }

    /// Remembers containers that merely look like a tenant's, and returns those that are new.
    pub(super) fn note_lookalikes<'a>(&mut self, found: &'a [Lookalike]) -> Vec<&'a Lookalike> {
        let is_new = |one: &&Lookalike| self.lookalikes.insert(one.id.clone(), one.tenant.clone()).is_none();
        found.iter().filter(is_new).collect()
    }

    /// The tenant of a container.
    pub(super) fn owner(&self, container: &str) -> Option<&String> {
        self.containers.get(container)
    }

    /// A container of a tenant's is there.
    pub(super) fn appeared(&mut self, container: &str, tenant: &str) {
        if !self.containers.contains_key(container) {
            self.containers.insert(container.to_owned(), tenant.to_owned());
        }
    }

    /// A container is gone.
    pub(super) fn vanished(&mut self, container: &str) {
        self.containers.remove(container);
        self.refused_limits.remove(container);
    }

    /// The tenant that an object of this name is, or pretends to be.
    pub(super) fn tenant_by_name(&self, name: &str, is_declared: impl FnOnce(&str) -> bool) -> Option<String> {
        let name = tenant_in(name)?;
        (is_declared(name) || self.present.contains(name)).then(|| name.to_owned())
    }

    /// Whether a container is a tenant's own. One that has the tenant's labels from its image says nothing of the tenant:
    /// events do not say that, so that those of a container count which is known to be the tenant's, or has its name.
    pub(super) fn is_of(&self, tenant: &str, container: &str, name: &str) -> bool {
        let is_known = self.containers.get(container).is_some_and(|owner| owner == tenant);
        is_known || (tenant_in(name) == Some(tenant) && !self.lookalikes.contains_key(container))
    }
}

/// The tenant whose name an object's name holds.
fn tenant_in(name: &str) -> Option<&str> {
    let name = name.strip_prefix(NAME_PREFIX)?;
    Some(name.strip_suffix(REPLACEMENT_SUFFIX).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(containers: &[(&str, &str)]) -> BTreeMap<String, String> {
        containers.iter().map(|(id, tenant)| ((*id).to_owned(), (*tenant).to_owned())).collect()
    }

    fn name(tenant: &str) -> String {
        format!("{NAME_PREFIX}{tenant}")
    }

    #[test]
    fn a_scan_forgets_what_is_gone_but_for_tenants_that_something_happened_to() {
        let mut objects = KnownObjects::default();
        objects.scanned(known(&[("1", "ant"), ("2", "bee")]), BTreeSet::new(), &[], &BTreeSet::new());
        objects.refused_limits.extend(["1".to_owned(), "2".to_owned()]);
        let touched = BTreeSet::from(["bee".to_owned()]);
        objects.scanned(known(&[("3", "cat")]), BTreeSet::from(["cat".to_owned()]), &[], &touched);
        assert_eq!((objects.owner("1"), objects.owner("2")), (None, Some(&"bee".to_owned())));
        assert_eq!(objects.owner("3"), Some(&"cat".to_owned()));
        assert_eq!(objects.refused_limits, BTreeSet::from(["2".to_owned()]));
        objects.vanished("2");
        assert_eq!((objects.owner("2"), objects.refused_limits.len()), (None, 0));
    }

    #[test]
    fn an_object_that_bears_a_tenants_name_is_asked_for_by_it() {
        let objects = KnownObjects { present: BTreeSet::from(["bee".to_owned()]), ..KnownObjects::default() };
        let found = |name: &str| objects.tenant_by_name(name, |name| name == "ant");
        assert_eq!(found(&name("ant")).as_deref(), Some("ant"));
        assert_eq!(found(&format!("{}{REPLACEMENT_SUFFIX}", name("bee"))).as_deref(), Some("bee"));
        assert_eq!((found(&name("cat")), found("ant")), (None, None));
    }

    #[test]
    fn a_container_is_known_by_its_id_or_its_name() {
        let mut objects = KnownObjects::default();
        assert!(objects.is_of("ant", "1", &name("ant")));
        assert!(!objects.is_of("ant", "1", "else"));
        objects.appeared("1", "ant");
        objects.appeared("1", "bee");
        assert!(objects.is_of("ant", "1", "else") && !objects.is_of("bee", "1", "else"));
        assert!(!objects.is_of("ant", "2", &name("bee")));
    }
}
