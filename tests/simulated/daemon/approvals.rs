//! Loosenings that need a person on the host's list of approvers.

use rustix::process::Signal;
use tenantd::model::{
    Entry,
    status::{ConditionKind, Reason},
};

use super::{Daemon, at, condition, shown};
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
        let mut guarded = Self { daemon, ada, bob };
        guarded.limit("ant", 100);
        guarded.limit("bee", 100);
        guarded.daemon.push();
        guarded.daemon.start();
        guarded.daemon.settled();
        // What is in force by then is what later commits are compared with.
        guarded.settings("ada", needed);
        guarded.daemon.restart();
        guarded.daemon.settled();
        guarded
    }

    /// Writes what is needed, and of whom.
    fn settings(&self, approvers: &str, needed: &str) {
        let [ada, bob] = [&self.ada, &self.bob].map(Key::public);
        self.daemon.settings(&format!(
            "verify: {{mode: none, signers: [{{name: ada, key: {ada:?}}}, {{name: bob, key: {bob:?}}}]}}\n\
             approvals: {{fleet: prod, approvers: [{approvers}], needed: [{needed}]}}\n"
        ));
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
        daemon.wait("the commit is in force", || (daemon.status().source.applied == at(&commit)).then_some(()));
        commit
    }

    /// Commits everything, as somebody at some time or now.
    fn made(&self, message: &str, signer: Option<&Key>, days_ago: i64) -> String {
        let daemon = &self.daemon;
        daemon.git(&["add", "--all"]);
        let date = format!("{} +0000", jiff::Timestamp::now().as_second() - days_ago * 86_400);
        let mut options = signer.map(Key::options).unwrap_or_default();
        options.extend(["commit", "--quiet", "--allow-empty", "-m", message].map(str::to_owned));
        daemon.git_at(&date, &options.iter().map(String::as_str).collect::<Vec<_>>());
        daemon.git(&["rev-parse", "HEAD"])
    }

    /// Pushes what is checked out, whatever was there, and waits until it is in force.
    fn force(&self, commit: &str) {
        let daemon = &self.daemon;
        daemon.push_ref(commit);
        daemon.wait("the commit is in force", || (daemon.status().source.applied == at(commit)).then_some(()));
    }

    /// The line that approves what waits, as the status has it.
    #[track_caller]
    fn line(&self, tenant: &str) -> String {
        let message = self.waits(tenant);
        message.split('`').nth(1).unwrap().to_owned()
    }

    /// The lines that approve what lies in the repo and is not committed.
    fn lines(&self) -> String {
        let repo = self.daemon.folder().join("repo");
        let words = ["plan", "--base", "HEAD", "--worktree", "--approval", "prod", repo.to_str().unwrap()];
        self.daemon.ask(&words).with(0).out
    }

    /// Has Ada approve what waits of a tenant. Returns the commit.
    #[track_caller]
    fn approve(&self, tenant: &str) -> String {
        let line = self.line(tenant);
        self.commit(&format!("Approve\n\n{line}"), Some(&self.ada))
    }

    /// Waits until a tenant waits for an approval, and returns what its status says.
    #[track_caller]
    fn waits(&self, tenant: &str) -> String {
        self.daemon.wait("it waits for an approval", || {
            let status = self.daemon.status();
            let one = shown(&status, tenant)?;
            let ready = condition(&one.conditions, ConditionKind::Ready);
            (ready.reason == Reason::ApprovalNeeded).then(|| ready.message.clone())
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
fn a_rule_that_goes_or_has_other_words_waits_and_one_that_comes_does_not() {
    let guarded = Guarded::new("{loosenings: [rule]}");
    let repo = guarded.daemon.folder().join("repo");
    let rule =
        |most: u32| format!(r#"{{"properties": {{"limits": {{"properties": {{"pids": {{"maximum": {most}}}}}}}}}}}"#);
    crate::repo::write(&repo, &[("rules/house.json", &rule(500))]);
    guarded.daemon.policy("rules: [rules/house.json]\n");
    let commit = guarded.commit("A rule", None);
    guarded.daemon.settled();
    assert_eq!(shown(&guarded.daemon.status(), "ant").unwrap().revision, at(&commit));

    crate::repo::write(&repo, &[("rules/house.json", &rule(600))]);
    guarded.commit("A weaker rule", None);
    assert!(guarded.waits("ant").contains("rules.house.json"), "{}", guarded.waits("ant"));
    guarded.waits("bee");
    guarded.approve("ant");
    guarded.daemon.wait("ant is approved", || (guarded.daemon.reason("ant") != "ApprovalNeeded").then_some(()));

    // Bee still has the first one: without any, it waits for the same.
    guarded.daemon.policy("");
    guarded.commit("No rule", None);
    for tenant in ["ant", "bee"] {
        assert!(guarded.waits(tenant).contains("rules.house.json"));
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

    // Nobody else's word counts, and no word about another tenant, another declaration or another fleet.
    let line = guarded.line("ant");
    let approve = format!("Approve\n\n{line}");
    guarded.commit(&approve, None);
    guarded.still("ant", 100);
    guarded.commit(&approve, Some(&guarded.bob));
    guarded.still("ant", 100);
    for (from, to, why) in [
        ("ant@", "bee@", None),
        ("fleet=prod", "fleet=test", Some("it is for the fleet test")),
        ("; fleet=prod", "", Some("it names no fleet")),
        ("@", "@0", Some("it is for another declaration")),
    ] {
        let other = guarded.commit(&approve.replace(from, to), Some(&guarded.ada));
        guarded.still("ant", 100);
        let message = guarded.waits("ant");
        let why = why.map(|why| format!("the approval of ada in {} does not count: {why}", &other[..12]));
        assert_eq!(message.contains("does not count"), why.is_some(), "{message}");
        assert!(why.is_none_or(|why| message.contains(&why)), "{message}");
    }
    // The form of former versions says what it lacks.
    guarded.commit("Approve\n\nTenantd-Approve: ant, *", Some(&guarded.ada));
    guarded.still("ant", 100);
    assert!(guarded.waits("ant").contains("it names no declaration"), "{}", guarded.waits("ant"));
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

    guarded.approve("ant");
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
    let message = format!("More\n\n{}", guarded.lines());
    let approved = guarded.commit(&message, Some(&guarded.ada));
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
    guarded.made(&format!("Fine\n\n{}", guarded.line("ant")), Some(&guarded.ada), 0);
    guarded.limit("ant", 400);
    guarded.commit("Even more", None);
    guarded.still("ant", 50);
    // Approved a commit earlier, with another change on top that leaves it as it was.
    guarded.made(&format!("Fine\n\n{}", guarded.line("ant")), Some(&guarded.ada), 0);
    guarded.limit("bee", 90);
    guarded.commit("Something else", None);
    guarded.has("ant", 400);

    // One that goes and comes back is judged by what it was.
    let daemon = &guarded.daemon;
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
fn one_line_approves_all_that_waits_and_nothing_that_came_later() {
    let guarded = Guarded::new("{loosenings: [limit]}");
    let line = || guarded.daemon.status().source.approve;
    assert_eq!(line(), None);
    guarded.limit("ant", 200);
    guarded.commit("More for one", None);
    guarded.waits("ant");
    assert_eq!(line(), None, "one has a line of its own");
    guarded.limit("bee", 200);
    guarded.commit("More for both", None);
    guarded.waits("bee");
    let both = line().unwrap();
    assert!(both.starts_with("Tenantd-Approve: *@") && guarded.daemon.ask(&["status"]).out.contains(&both), "{both}");
    // More waits by now than was shown.
    guarded.limit("bee", 300);
    guarded.commit(&format!("Approve\n\n{both}"), Some(&guarded.ada));
    guarded.still("ant", 100);
    guarded.still("bee", 100);
    let message = format!("Approve\n\n{}", line().unwrap());
    guarded.commit(&message, Some(&guarded.ada));
    guarded.has("ant", 200);
    guarded.has("bee", 300);
}

/// A commit of the same content and signature, whose armour is written otherwise.
fn armoured_otherwise(guarded: &Guarded, commit: &str, length: usize) -> String {
    let object = guarded.daemon.git(&["cat-file", "commit", commit]) + "\n";
    let (begin, end) = ("gpgsig -----BEGIN SSH SIGNATURE-----\n", " -----END SSH SIGNATURE-----\n");
    let (head, rest) = object.split_once(begin).unwrap();
    let (body, tail) = rest.split_once(end).unwrap();
    let body: String = body.split_ascii_whitespace().collect();
    let body: String =
        body.as_bytes().chunks(length).map(|line| format!(" {}\n", std::str::from_utf8(line).unwrap())).collect();
    let file = guarded.daemon.folder().join("object");
    std::fs::write(&file, format!("{head}{begin}{body}{end}{tail}")).unwrap();
    let made = guarded.daemon.git(&["hash-object", "-t", "commit", "-w", file.to_str().unwrap()]);
    assert_ne!(made, commit);
    made
}

#[test]
fn a_used_approval_is_used_in_every_form_and_on_every_way_back() {
    let mut guarded = Guarded::new("{loosenings: [limit]}");
    let old = guarded.daemon.git(&["rev-parse", "HEAD"]);
    guarded.limit("ant", 200);
    guarded.commit("More", None);
    let approval = guarded.approve("ant");
    guarded.has("ant", 200);
    let approved_tree = guarded.daemon.git(&["rev-parse", "HEAD^{tree}"]);
    guarded.limit("ant", 50);
    guarded.commit("Less", None);
    guarded.has("ant", 50);

    // Merges of the approval itself, and of the same content and signature in another form.
    let merge = |guarded: &Guarded, other: &str, tree: &str| {
        let head = guarded.daemon.git(&["rev-parse", "HEAD"]);
        let made = guarded.daemon.git(&["commit-tree", "-p", &head, "-p", other, "-m", "Merge", tree]);
        guarded.daemon.git(&["reset", "--quiet", "--hard", &made]);
        guarded.force(&made);
    };
    for other in
        [approval.clone(), armoured_otherwise(&guarded, &approval, 64), armoured_otherwise(&guarded, &approval, 140)]
    {
        merge(&guarded, &other, &approved_tree);
        guarded.still("ant", 50);
    }

    // Away, so that what was accepted holds it no more, and back.
    for restart in [false, true] {
        guarded.force(&old);
        if restart {
            guarded.daemon.restart();
        }
        guarded.daemon.git(&["reset", "--quiet", "--hard", &old]);
        guarded.limit("ant", 50);
        guarded.commit("Less again", None);
        guarded.has("ant", 50);
        merge(&guarded, &approval, &approved_tree);
        guarded.still("ant", 50);
        assert!(guarded.waits("ant").contains("counts once"), "{}", guarded.waits("ant"));
    }
    guarded.approve("ant");
    guarded.has("ant", 200);
}

#[test]
fn approvals_grow_old_and_none_comes_from_the_future() {
    let guarded = Guarded::new("{loosenings: [limit]}");
    guarded.limit("ant", 200);
    guarded.commit("More", None);
    let line = guarded.line("ant");
    for (days_ago, why) in [(31, "it is older than 720h"), (-1, "its time lies ahead of this host's clock")] {
        let made = guarded.made(&format!("Approve\n\n{line}"), Some(&guarded.ada), days_ago);
        guarded.force(&made);
        guarded.still("ant", 100);
        assert!(guarded.waits("ant").contains(why), "{}", guarded.waits("ant"));
    }
    let made = guarded.made(&format!("Approve\n\n{line}"), Some(&guarded.ada), 29);
    guarded.force(&made);
    guarded.has("ant", 200);
}

#[test]
fn no_used_approval_counts_again_on_a_host_that_lost_its_state() {
    let mut guarded = Guarded::new("{loosenings: [limit]}");
    guarded.limit("ant", 200);
    let before = guarded.commit("More", None);
    let approval = guarded.approve("ant");
    guarded.has("ant", 200);
    guarded.limit("ant", 100);
    guarded.commit("Less", None);
    guarded.has("ant", 100);
    guarded.daemon.end(Signal::KILL);
    std::fs::remove_file(guarded.daemon.host.data_root.join("state.json")).unwrap();
    guarded.daemon.start();
    guarded.waits("ant");
    for commit in [&before, &approval] {
        guarded.force(commit);
        guarded.still("ant", 100);
    }
    assert!(guarded.waits("ant").contains("it came before, and counts once"), "{}", guarded.waits("ant"));
    guarded.daemon.git(&["reset", "--quiet", "--hard", &approval]);
    guarded.approve("ant");
    guarded.has("ant", 200);
}

#[test]
fn who_waits_is_judged_by_the_settings_that_are_in_force() {
    let mut guarded = Guarded::new("{loosenings: [limit]}");
    guarded.limit("ant", 200);
    guarded.commit("More", None);
    guarded.still("ant", 100);
    // Others may approve.
    guarded.settings("ada, bob", "{loosenings: [limit]}");
    guarded.daemon.signal(Signal::HUP);
    guarded.daemon.wait("others may approve", || guarded.waits("ant").contains("ada or bob").then_some(()));
    guarded.still("ant", 100);
    // Nobody needs to, by a reload and by a restart.
    guarded.settings("ada", "{loosenings: [runtime]}");
    guarded.daemon.signal(Signal::HUP);
    guarded.has("ant", 200);
    let withdrawn =
        |record: &tenantd::model::Record| matches!(&record.entry, Entry::Withdrawn { tenant, .. } if tenant == "ant");
    assert!(guarded.daemon.records().iter().any(withdrawn));
    guarded.settings("ada", "{loosenings: [limit]}");
    guarded.daemon.restart();
    guarded.has("ant", 200);
    guarded.limit("ant", 300);
    guarded.commit("Still more", None);
    guarded.still("ant", 200);
    guarded.settings("ada", "{loosenings: [runtime]}");
    guarded.daemon.restart();
    guarded.has("ant", 300);
}

#[test]
fn what_is_bad_already_asks_for_no_other_approval() {
    let guarded = Guarded::new("{loosenings: [limit]}");
    guarded.daemon.proved();
    guarded.daemon.tenant("ant", "environment: {SIM_EXIT: \"3\"}\nlimits: {memory: 200MiB}\n");
    guarded.commit("More, and an end", None);
    guarded.approve("ant");
    guarded.daemon.wait("it is bad", || (guarded.daemon.reason("ant") == "BadCommit").then_some(()));
    guarded.limit("bee", 50);
    guarded.commit("Another's", None);
    guarded.has("bee", 50);
    assert_eq!(guarded.daemon.reason("ant"), "BadCommit");
    // The same with something else in it is another declaration.
    guarded.limit("ant", 200);
    guarded.commit("More, and no end", None);
    guarded.still("ant", 100);
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
    guarded.approve("ant");
    guarded.has("ant", 300);
    guarded.daemon.tenant("ant", "limits: {memory: 400MiB}\n");
    guarded.commit("Move back, with more", None);
    guarded.still("ant", 300);
}

#[test]
fn who_ends_himself_stays_in_the_tier_that_guards_him() {
    let mut guarded = Guarded::new("{loosenings: [limit], tiers: [pro]}");
    guarded.daemon.proved();
    // However slow the machine is, the trial lasts until it ends.
    guarded.daemon.policy("health: {trialPeriod: 1m}\nretry: {initial: 200ms, max: 1s}\n");
    guarded.commit("More time", None);
    guarded.daemon.tenant("ant", "tier: pro\ncommand: [agent, b]\nlimits: {memory: 100MiB}\n");
    let before = guarded.daemon.ids()["ant"].clone();
    guarded.commit("Move in", None);
    guarded.approve("ant");
    guarded.daemon.wait("it is made anew", || {
        let now = guarded.daemon.ids().get("ant").cloned();
        (now.is_some() && now.as_ref() != Some(&before) && guarded.daemon.reason("ant") == "ReconciliationSucceeded")
            .then_some(())
    });
    guarded.daemon.settled();
    guarded.daemon.engine.with(|state| state.exit("tenantd-ant", 1, false));
    guarded.daemon.wait("it went back", || (guarded.daemon.reason("ant") == "BadCommit").then_some(()));
    // Neither a wrong file, a restart nor that it was gone makes it one of the tier that ran before.
    guarded.daemon.tenant("ant", "wrong: key\n");
    guarded.commit("Break it", None);
    guarded.daemon.restart();
    guarded.limit("ant", 300);
    guarded.commit("More, in the tier that nobody guards", None);
    let message = guarded.waits("ant");
    assert!(message.contains("tier pro -> free") && message.contains("limits.memory 100MiB -> 300MiB"), "{message}");
    guarded.still("ant", 100);
    guarded.approve("ant");
    guarded.has("ant", 300);
}

#[test]
fn no_name_of_a_tier_or_of_a_tenant_is_a_way_around() {
    let guarded = Guarded::new("{loosenings: [limit], tiers: [free]}");
    let tiers = |rest: &str| {
        let free = "cpus: 1, memory: 512MiB, disk: 2GiB, sessions: 1";
        let text =
            format!("apiVersion: tenantd/v1\nkind: Tiers\ntiers:\n  free: {{{free}}}\n  other: {{{free}{rest}}}\n");
        std::fs::write(guarded.daemon.folder().join("repo/tiers.yaml"), text).unwrap();
    };
    // Another tier that gives the same, and then gives more.
    tiers("");
    guarded.daemon.tenant("ant", "tier: other\nlimits: {memory: 100MiB}\n");
    guarded.commit("Only another name", None);
    assert!(guarded.waits("ant").contains("tier free -> other"), "{}", guarded.waits("ant"));
    guarded.still("ant", 100);
    tiers(", pids: 512, mayRaise: {memory: 1GiB}");
    guarded.daemon.tenant("ant", "tier: other\nlimits: {memory: 1GiB}\n");
    guarded.commit("Raise it", None);
    guarded.still("ant", 100);
    // Another tenant with more, in the place of the first.
    guarded.daemon.without("ant");
    guarded.limit("ant2", 400);
    guarded.commit("Only another name", None);
    assert!(guarded.waits("ant2").contains("limits.memory + 400MiB"), "{}", guarded.waits("ant2"));
    assert!(guarded.daemon.engine.with(|state| state.container("tenantd-ant2").is_none()));
    // The first comes back under its name, in the tier that nobody guards.
    guarded.daemon.tenant("ant", "tier: other\nlimits: {memory: 1GiB}\n");
    guarded.commit("Back", None);
    assert!(guarded.waits("ant").contains("tier free -> other"), "{}", guarded.waits("ant"));
}

#[test]
fn a_tier_that_the_repo_adds_is_guarded_where_the_host_names_those_that_are_not() {
    let guarded = Guarded::new("{loosenings: [limit], exceptTiers: [free]}");
    guarded.limit("ant", 200);
    guarded.commit("Not guarded", None);
    guarded.has("ant", 200);
    guarded.daemon.tenant("cat", "tier: pro\nlimits: {memory: 100MiB}\n");
    guarded.commit("Guarded", None);
    guarded.waits("cat");
    guarded.approve("cat");
    guarded.has("cat", 100);
    guarded.daemon.tenant("cat", "limits: {memory: 100MiB}\n");
    guarded.commit("Leave", None);
    guarded.still("cat", 100);
}

#[test]
fn what_a_waiting_commit_tightens_is_carried_out() {
    let mut guarded = Guarded::new("{loosenings: [limit]}");
    let has = |guarded: &Guarded, memory: i64, pids: i64| {
        let daemon = &guarded.daemon;
        daemon.wait("the stricter of both is in force", || {
            let now = (daemon.limit("ant", "Memory"), daemon.limit("ant", "PidsLimit"));
            (now == (memory << 20, pids)).then_some(())
        });
    };
    let first = guarded.daemon.git(&["rev-parse", "HEAD"]);
    guarded.daemon.proved();
    guarded.daemon.tenant("ant", "limits: {memory: 200MiB, pids: 50}\n");
    let second = guarded.commit("More memory, and less processes", None);
    let message = guarded.waits("ant");
    has(&guarded, 100, 50);
    assert!(message.contains(&format!("the stricter of {} and {}", &first[..12], &second[..12])), "{message}");
    // Neither a wrong file nor a restart brings back what was taken, nor the container's end.
    guarded.daemon.tenant("ant", "wrong: key\n");
    guarded.commit("Break it", None);
    guarded.daemon.engine.with(|state| state.exit("tenantd-ant", 1, false));
    guarded.daemon.runs("ant");
    guarded.daemon.restart();
    guarded.waits("ant");
    has(&guarded, 100, 50);
    // Less and less: each commit is held to what was in force before it.
    guarded.daemon.tenant("ant", "limits: {memory: 80MiB, pids: 70}\n");
    guarded.commit("Less memory, and more processes", None);
    guarded.waits("ant");
    has(&guarded, 80, 50);
    guarded.approve("ant");
    has(&guarded, 80, 70);
}
