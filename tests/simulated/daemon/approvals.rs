//! Loosenings that need a person on the host's list of approvers.

use tenantd::model::Entry;

use super::{Daemon, condition};
use crate::signatures::Key;

/// A daemon that wants Ada's approval for higher limits, with Bob, who may sign and not approve.
struct Guarded {
    daemon: Daemon,
    ada: Key,
    bob: Key,
}

impl Guarded {
    fn new(needed: &str) -> Self {
        let daemon = Daemon::stopped(&[], "");
        let [ada, bob] = ["ada", "bob"].map(|name| Key::new(daemon.folder(), name, &["-t", "ed25519"]));
        let signers = format!("[{{name: ada, key: {:?}}}, {{name: bob, key: {:?}}}]", ada.public(), bob.public());
        daemon.settings(&format!(
            "verify: {{mode: none, signers: {signers}}}\napprovals: {{approvers: [ada], needed: [{needed}]}}\n"
        ));
        let mut guarded = Self { daemon, ada, bob };
        guarded.limit("ant", 100);
        guarded.limit("bee", 100);
        guarded.daemon.push();
        guarded.daemon.start();
        guarded.daemon.settled();
        guarded
    }

    fn limit(&self, tenant: &str, memory: u32) {
        self.daemon.tenant(tenant, &format!("limits: {{memory: {memory}MiB}}\n"));
    }

    /// Commits and pushes everything, with a message and a signature. Returns the commit.
    fn commit(&self, message: &str, signer: Option<&Key>) -> String {
        let daemon = &self.daemon;
        daemon.git(&["add", "--all"]);
        let mut options = signer.map(Key::options).unwrap_or_default();
        options.extend(["commit", "--quiet", "--allow-empty", "-m", message].map(str::to_owned));
        daemon.git(&options.iter().map(String::as_str).collect::<Vec<_>>());
        daemon.push_ref("HEAD");
        let commit = daemon.git(&["rev-parse", "HEAD"]);
        daemon.wait("the commit is in force", || {
            (daemon.status()["source"]["applied"] == format!("main@sha1:{commit}")).then_some(())
        });
        commit
    }

    /// Waits until a tenant waits for an approval, and returns what its status says.
    #[track_caller]
    fn waits(&self, tenant: &str) -> String {
        self.daemon.wait("it waits for an approval", || {
            let status = self.daemon.status();
            let tenants = status["tenants"].as_array().unwrap();
            let ready = condition(tenants.iter().find(|one| one["tenant"] == tenant)?, "Ready").clone();
            (ready["reason"] == "ApprovalNeeded").then(|| ready["message"].as_str().unwrap().to_owned())
        })
    }

    /// Waits until a tenant's memory is so many MiB, as declared.
    #[track_caller]
    fn has(&self, tenant: &str, memory: i64) {
        let object = format!("tenantd-{tenant}");
        self.daemon.wait("the tenant is as declared", || {
            let there = self.daemon.engine.with(|state| state.container(&object).is_some());
            (there
                && self.daemon.limit(tenant, "Memory") == memory << 20
                && self.daemon.reason(tenant) == "ReconciliationSucceeded")
                .then_some(())
        });
    }

    /// That a tenant stands where it stood, and waits.
    #[track_caller]
    fn still(&self, tenant: &str, memory: i64) {
        self.waits(tenant);
        self.daemon.ask(&["reconcile"]).with(0);
        self.waits(tenant);
        assert_eq!(self.daemon.limit(tenant, "Memory"), memory << 20);
    }
}

#[test]
fn a_loosening_waits_for_somebody_who_may_approve_it() {
    let mut guarded = Guarded::new("{loosenings: [limit]}");
    guarded.limit("ant", 200);
    guarded.limit("bee", 50);
    let commit = guarded.commit("Give ant more, and bee less", None);
    let message = guarded.waits("ant");
    assert!(message.contains("an approval of ada") && message.contains("Tenantd-Approve"), "{message}");
    assert!(message.contains("limits.memory 100MiB -> 200MiB"), "{message}");
    // What tightens goes on.
    guarded.has("bee", 50);
    guarded.still("ant", 100);
    assert!(guarded.daemon.ask(&["events"]).out.contains("waits"), "it is on record");

    // Nobody else's word counts, and no word about another.
    guarded.commit("Approve\n\nTenantd-Approve: ant", None);
    guarded.still("ant", 100);
    guarded.commit("Approve\n\nTenantd-Approve: ant", Some(&guarded.bob));
    guarded.still("ant", 100);
    guarded.commit("Approve\n\nTenantd-Approve: bee", Some(&guarded.ada));
    guarded.still("ant", 100);
    guarded.commit("Signed, and no approval", Some(&guarded.ada));
    guarded.still("ant", 100);

    let repo = guarded.daemon.folder().join("repo");
    let of_repo =
        |arguments: &[&str]| guarded.daemon.ask(&[arguments, &["--repo", repo.to_str().unwrap()]].concat()).with(0).out;
    let explained = of_repo(&["explain", "ant"]);
    assert!(
        explained.contains("waits") && explained.contains("needs an approval of limits.memory 100MiB -> 200MiB"),
        "{explained}"
    );

    // Neither a restart is a way around, nor a wrong file, nor another tier's name.
    guarded.daemon.restart();
    guarded.still("ant", 100);
    guarded.daemon.tenant("ant", "wrong: key\n");
    guarded.commit("Break it", None);
    guarded.daemon.ask(&["reconcile"]).with(0);
    assert_eq!(guarded.daemon.limit("ant", "Memory"), 100 << 20);
    guarded.limit("ant", 200);
    guarded.commit("Mend it", None);
    guarded.still("ant", 100);

    guarded.commit("Approve\n\nTenantd-Approve: ant", Some(&guarded.ada));
    guarded.has("ant", 200);
    let records = guarded.daemon.records();
    let approved = records.iter().filter_map(|record| match &record.entry {
        Entry::Approved { tenant, by, loosens, .. } => Some((tenant.as_str(), by.as_str(), loosens.len())),
        _ => None,
    });
    assert_eq!(approved.collect::<Vec<_>>(), [("ant", "ada", 1)]);
    let waited = records.iter().filter_map(|record| match &record.entry {
        Entry::Waiting { tenant, revision, .. } => Some((tenant.as_str(), revision.commit.as_str())),
        _ => None,
    });
    let waited: Vec<_> = waited.collect();
    assert_eq!(waited.first(), Some(&("ant", commit.as_str())));

    let of_repo =
        |arguments: &[&str]| guarded.daemon.ask(&[arguments, &["--repo", repo.to_str().unwrap()]].concat()).with(0).out;
    assert!(!of_repo(&["explain", "ant"]).contains("needs an approval"));
    let report: serde_json::Value = serde_json::from_str(&of_repo(&["audit", "report", "--format", "json"])).unwrap();
    let totals = &report["totals"];
    assert_eq!((totals["waited"].as_u64(), totals["agreed"].as_u64()), (Some(waited.len() as u64), Some(1)));
    let kept = report["loosenings"]["kept"].as_array().unwrap();
    assert_eq!(kept.len(), waited.len() + 1);
    assert!(of_repo(&["audit", "report"]).contains("approved by ada"));
}

#[test]
fn an_approval_is_for_what_it_saw_and_counts_once() {
    let guarded = Guarded::new("{loosenings: [limit], tiers: [free]}");
    guarded.limit("ant", 200);
    let approved = guarded.commit("More\n\nTenantd-Approve: *", Some(&guarded.ada));
    guarded.has("ant", 200);
    // Tightened, and then loosened to what was approved once.
    guarded.limit("ant", 50);
    guarded.commit("Less", None);
    guarded.has("ant", 50);
    guarded.limit("ant", 200);
    guarded.commit("As it was", None);
    guarded.still("ant", 50);
    guarded.commit(&format!("Merge what was approved\n\nThis was approved in {approved}."), None);
    guarded.still("ant", 50);

    // One commit approves, and the next makes more of it before the daemon looks.
    let daemon = &guarded.daemon;
    daemon.git(&["add", "--all"]);
    let mut options = guarded.ada.options();
    options.extend(["commit", "--quiet", "--allow-empty", "-m", "Fine\n\nTenantd-Approve: ant"].map(str::to_owned));
    daemon.git(&options.iter().map(String::as_str).collect::<Vec<_>>());
    guarded.limit("ant", 400);
    guarded.commit("Even more", None);
    guarded.still("ant", 50);
    // Approved a commit earlier, with another change on top that leaves it as it was.
    daemon.git(&options.iter().map(String::as_str).collect::<Vec<_>>());
    guarded.limit("bee", 90);
    guarded.commit("Something else", None);
    guarded.has("ant", 400);

    // One that goes and comes back is judged by what it was.
    daemon.without("ant");
    guarded.commit("Remove", None);
    daemon.wait("it is gone", || daemon.engine.with(|state| state.container("tenantd-ant").is_none()).then_some(()));
    guarded.limit("ant", 500);
    guarded.commit("Add", None);
    assert!(guarded.waits("ant").contains("it is not made"));
    assert!(daemon.engine.with(|state| state.container("tenantd-ant").is_none()));
    guarded.limit("ant", 300);
    guarded.commit("Add less", None);
    guarded.has("ant", 300);
}

#[test]
fn what_the_host_does_not_name_needs_nobody() {
    let guarded = Guarded::new("{loosenings: [runtime], tiers: [free]}, {tiers: [pro]}");
    guarded.limit("ant", 200);
    guarded.commit("More", None);
    guarded.has("ant", 200);
    // The tier that a commit moves a tenant to counts, and the one that it comes from.
    guarded.daemon.tenant("ant", "tier: pro\nlimits: {memory: 300MiB}\n");
    guarded.commit("Move", None);
    guarded.still("ant", 200);
    guarded.commit("Fine\n\nTenantd-Approve: ant", Some(&guarded.ada));
    guarded.has("ant", 300);
    guarded.daemon.tenant("ant", "limits: {memory: 400MiB}\n");
    guarded.commit("Move back, with more", None);
    guarded.still("ant", 300);
}
