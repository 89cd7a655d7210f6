//! What a commit changes for tenants, and whether that tightens or loosens.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tenantd::{
    model::{
        Desired, DriftMode, RuntimeClass, Tenant,
        finding::Location,
        tree::{SourceFile, Tree},
    },
    review::{self, Mark, RULES, Review},
    spec,
};

use crate::{
    cli::{Cli, file},
    world::{fleet, tenant},
};

const FLEET: &str = "apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {tier: free, image: \"agency/agent:1.4\"}\n";

/// A fleet with one tenant of these lines, and these lines more in fleet.yaml.
fn declared(policy: &str, lines: &str) -> Desired {
    let tenant = format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: ant\ntier: team\n{lines}");
    let files = [("fleet.yaml", format!("{FLEET}{policy}")), ("tenants/ant.yaml", tenant)];
    let files = files.map(|(path, text)| SourceFile { path: path.to_owned(), bytes: text.into_bytes() });
    let carried = ["files/ant/a", "files/ant/b"]
        .map(|path| (path.to_owned(), tenantd::model::tree::Carried::File(path.as_bytes().into())));
    let desired =
        spec::compile(&Tree { files: files.into(), carried: BTreeMap::from(carried).into(), ..Tree::default() });
    assert_eq!(desired.findings, [], "{policy}{lines}");
    desired
}

fn reviewed(before: &Desired, after: &Desired) -> Review {
    review::review(before, after, &|_, _, _| Location::default())
}

/// The effects in a form to compare: setting, mark, rule.
fn effects(review: &Review) -> BTreeSet<(String, Mark, &'static str)> {
    review.effects().map(|(_, effect)| (effect.field.clone(), effect.mark, effect.rule)).collect()
}

/// The lines before, those after, and each effect: setting, mark, rule.
type Pair = (&'static str, &'static str, &'static [(&'static str, Mark, &'static str)]);

const L: Mark = Mark::Loosens;
const T: Mark = Mark::Tightens;
const N: Mark = Mark::Neutral;

/// Pairs of tenant files, each with what a careful person says of the change.
const TENANTS: &[Pair] = &[
    ("", "", &[]),
    ("runtime: gvisor\n", "", &[("runtime", L, "runtime")]),
    ("runtime: gvisor\n", "runtime: microvm\n", &[("runtime", T, "runtime")]),
    ("runtime: microvm\n", "runtime: container\n", &[("runtime", L, "runtime")]),
    ("tier: pro\n", "", &[]),
    ("limits: {memory: 1GiB}\n", "", &[("limits.memory", L, "limit")]),
    ("limits: {cpus: 2}\n", "limits: {cpus: 0.5}\n", &[("limits.cpus", T, "limit")]),
    (
        "limits: {pids: 64, disk: 1GiB}\n",
        "limits: {pids: 65, disk: 512MiB}\n",
        &[("limits.pids", L, "limit"), ("limits.disk", T, "limit")],
    ),
    ("limits: {memory: 1024MiB}\n", "limits: {memory: 1GiB}\n", &[]),
    ("", "allowlist: [\"api.example.com:443\"]\n", &[("allowlist", L, "allowlist")]),
    (
        "allowlist: [\"a.example.com:443\"]\n",
        "allowlist: [\"a.example.com:8443\"]\n",
        &[("allowlist", L, "allowlist"), ("allowlist", T, "allowlist")],
    ),
    (
        "allowlist: [\"a.example.com:443\"]\n",
        "allowlist: [\"*.example.com:443\"]\n",
        &[("allowlist", L, "allowlist"), ("allowlist", N, "allowlist")],
    ),
    (
        "allowlist: [\"*.example.com:443\"]\n",
        "allowlist: [\"*.example.com:443\", \"a.example.com:443\"]\n",
        &[("allowlist", N, "allowlist")],
    ),
    (
        "allowlist: [\"*.example.com:443\"]\n",
        "allowlist: [\"*.eu.example.com:443\"]\n",
        &[("allowlist", T, "allowlist"), ("allowlist", N, "allowlist")],
    ),
    (
        "allowlist: [\"*.example.com:443\"]\n",
        "allowlist: [\"*.example.com:443\", \"example.com:443\"]\n",
        &[("allowlist", L, "allowlist")],
    ),
    (
        "allowlist: [\"*.example.com:443\"]\n",
        "allowlist: [\"*.example.com:443\", \"notexample.com:443\"]\n",
        &[("allowlist", L, "allowlist")],
    ),
    (
        "allowlist: [\"10.1.0.0/16:443\"]\n",
        "allowlist: [\"10.1.2.3:443\"]\n",
        &[("allowlist", T, "allowlist"), ("allowlist", N, "allowlist")],
    ),
    ("allowlist: [\"A.example.com:443\"]\n", "allowlist: [\"a.example.com:443\"]\n", &[]),
    (
        "",
        "credentials: [{route: /crm/, upstream: \"https://c.example.com\", inject: {header: X-Key, value: \"${secret:crm}\"}}]\n",
        &[("credentials./crm/", L, "credential")],
    ),
    (
        "credentials: [{route: /crm/, upstream: \"https://c.example.com\", inject: {header: X-Key, value: \"${secret:crm}\"}}]\n",
        "credentials: [{route: /crm/, upstream: \"https://d.example.com\", inject: {header: X-Key, value: \"${secret:crm}\"}}]\n",
        &[("credentials./crm/", L, "credential"), ("credentials./crm/", T, "credential")],
    ),
    (
        "credentials: [{route: /crm/, upstream: \"https://c.example.com\", inject: {header: X-Key, value: \"${secret:crm}\"}}]\n",
        "credentials: [{route: crm, upstream: \"https://c.example.com\", inject: {header: X-Key, value: \"${secret:crm}\"}, cost: {reserve: 5}}]\n",
        &[("credentials./crm/.cost", N, "content")],
    ),
    ("budget: {day: 10}\n", "budget: {day: 20}\n", &[("budget.day", L, "budget")]),
    ("budget: {day: 10, month: 100}\n", "budget: {day: 10}\n", &[("budget.month", L, "budget")]),
    ("", "source: handbook\n", &[("source", L, "source")]),
    ("source: handbook\n", "source: rules\n", &[("source", L, "source"), ("source", T, "source")]),
    ("", "driftDetection: {mode: warn}\n", &[("driftDetection.mode", L, "detection")]),
    (
        "driftDetection: {mode: disabled}\n",
        "driftDetection: {mode: warn}\n",
        &[("driftDetection.mode", T, "detection")],
    ),
    (
        "environment: {A: x}\n",
        "environment: {A: y, B: z}\n",
        &[("environment.A", N, "content"), ("environment.B", N, "content")],
    ),
    ("command: [\"/a\"]\n", "command: [\"/b\"]\n", &[("command", N, "content")]),
    ("image: \"agency/agent:2\"\n", "", &[("image", N, "content")]),
    (
        "files: [{path: x, from: files/ant/a}]\n",
        "files: [{path: x, from: files/ant/b}]\n",
        &[("files.x", N, "content")],
    ),
    ("workspace: {restore: none}\n", "", &[("workspace.restore", N, "content")]),
];

/// The same of fleet.yaml.
const POLICIES: &[Pair] = &[
    ("hardening: {tmpSize: 64MiB}\n", "hardening: {tmpSize: 128MiB}\n", &[("hardening.tmpSize", L, "limit")]),
    (
        "hardening: {shmSize: 64MiB, openFiles: 2048}\n",
        "hardening: {shmSize: 32MiB, openFiles: 4096}\n",
        &[("hardening.shmSize", T, "limit"), ("hardening.openFiles", L, "limit")],
    ),
    ("hardening: {workspaceNoexec: true}\n", "", &[("hardening.workspaceNoexec", L, "hardening")]),
    ("hardening: {init: false}\n", "", &[("hardening.init", N, "content")]),
    (
        "logs: {maxSize: 1MiB, maxFiles: 3}\n",
        "logs: {maxSize: 2MiB, maxFiles: 2}\n",
        &[("logs.maxSize", L, "limit"), ("logs.maxFiles", T, "limit")],
    ),
    (
        "guards: {removals: {percent: 10, atLeast: 5}}\n",
        "guards: {removals: {percent: 20, atLeast: 3}}\n",
        &[("guards.removals.percent", L, "guard"), ("guards.removals.atLeast", T, "guard")],
    ),
    ("retry: {initial: 1s}\n", "retry: {initial: 2s}\n", &[("retry", N, "upkeep")]),
    ("health: {after: 10s}\n", "health: {after: 1s}\n", &[("health.after", N, "upkeep")]),
];

fn expected(pair: &[(&str, Mark, &'static str)]) -> BTreeSet<(String, Mark, &'static str)> {
    pair.iter().map(|(field, mark, rule)| ((*field).to_owned(), *mark, *rule)).collect()
}

/// Every effect, seen from the other side.
fn reversed(effects: &BTreeSet<(String, Mark, &'static str)>) -> BTreeSet<(String, Mark, &'static str)> {
    effects.iter().map(|(field, mark, rule)| (field.clone(), mark.reversed(), *rule)).collect()
}

#[test]
fn each_change_is_marked_as_a_careful_person_would() {
    let mut rules = BTreeSet::new();
    let tenants = TENANTS.iter().map(|(a, b, wanted)| {
        let lines = |lines: &str| match lines.strip_prefix("tier: pro\n") {
            // One that only says what holds anyway changes nothing.
            Some(rest) => declared("", rest),
            None => declared("", lines),
        };
        (lines(a), lines(b), *wanted)
    });
    let policies = POLICIES.iter().map(|(a, b, wanted)| (declared(a, ""), declared(b, ""), *wanted));
    for (before, after, wanted) in tenants.chain(policies) {
        let forth = effects(&reviewed(&before, &after));
        assert_eq!(forth, expected(wanted));
        assert_eq!(effects(&reviewed(&after, &before)), reversed(&forth), "the way back has the other marks");
        rules.extend(wanted.iter().map(|(.., rule)| *rule));
    }
    assert_eq!(rules, RULES.iter().map(|(name, _)| *name).collect(), "each rule has a pair");
}

#[test]
fn the_rules_are_documented_as_they_are() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reviewing.md")).unwrap();
    for (name, says) in RULES {
        assert!(text.contains(&format!("| `{name}` | {says} |\n")), "docs/reviewing.md has the rule {name}");
    }
}

fn any_tenant() -> impl Strategy<Value = Option<Tenant>> {
    let entries = prop::collection::btree_set(
        prop::sample::select(vec![
            "a.example.com:443",
            "*.example.com:443",
            "*.b.example.com:443",
            "c.example.com:80",
            "10.0.0.0/8:443",
            "10.1.1.1:443",
        ]),
        0..5,
    );
    let classes = prop::sample::select(RuntimeClass::ALL.to_vec());
    let modes = prop::sample::select(vec![DriftMode::Disabled, DriftMode::Warn, DriftMode::Enabled]);
    let some =
        (entries, classes, modes, 1u64..4, 1u32..4, prop::option::of(1u64..3), any::<bool>(), prop::option::of("[ab]"));
    prop::option::weighted(
        0.9,
        some.prop_map(|(entries, class, drift, memory, pids, day, noexec, source)| {
            let mut one = Tenant { class, drift, source, ..tenant("ant") };
            one.allowlist = entries.into_iter().map(|entry| entry.parse().unwrap()).collect();
            one.limits.memory = tenantd::model::Bytes::mib(64 * memory);
            one.limits.pids = tenantd::model::Pids::new(pids);
            one.budget.day = day;
            one.sandbox.workspace_noexec = noexec;
            one
        }),
    )
}

proptest! {
    #[test]
    fn to_swap_the_sides_swaps_the_marks(before in any_tenant(), after in any_tenant()) {
        let (before, after) = (fleet(before), fleet(after));
        let forth = reviewed(&before, &after);
        prop_assert_eq!(effects(&reviewed(&after, &before)), reversed(&effects(&forth)));
        prop_assert_eq!(forth.is_empty(), before.tenants == after.tenants);
        prop_assert!(reviewed(&before, &before).is_empty());
    }
}

#[test]
fn an_edit_of_a_tier_shows_every_tenant_that_it_touches() {
    let names: Vec<String> = (0..40).map(|n| format!("t{n:02}")).collect();
    let cli = Cli::uncommitted(&names.iter().map(String::as_str).collect::<Vec<_>>());
    cli.tenant("other", "tier: large\n");
    let tiers = |memory: &str| {
        format!(
            "apiVersion: tenantd/v1\nkind: Tiers\ntiers:\n  free: {{cpus: 1, memory: {memory}, disk: 1GiB, sessions: 1}}\n  \
             large: {{cpus: 2, memory: 4GiB, disk: 1GiB, sessions: 1}}\n"
        )
    };
    cli.write("tiers.yaml", &tiers("512MiB"));
    let base = cli.commit();
    cli.write("tiers.yaml", &tiers("1GiB"));
    let now = cli.commit();
    // Neither an engine nor a host's settings are needed.
    cli.host_file("engine: unix:///nowhere\nnonsense: true\n");
    let plan = |options: &[&str]| cli.on_repo("plan", &[&["--base", &base], options].concat());

    let text = plan(&["--detailed-exitcode"]).with(2).out;
    assert!(text.starts_with(&format!("Base: sha1:{base}\nNow:  main@sha1:{now}\n")), "{text}");
    for name in &names {
        assert!(text.contains(&format!("  ~ {name} changes\n")), "{name}:\n{text}");
    }
    assert_eq!(text.matches("loosens  limits.memory 512MiB -> 1GiB  (tiers.yaml:4)").count(), 40);
    assert!(!text.contains("other") && text.ends_with("Tenants: 40 changed; 40 are loosened.\n"), "{text}");

    let json: serde_json::Value = serde_json::from_str(&plan(&["--format", "json"]).with(0).out).unwrap();
    assert_eq!((json["tenants"].as_array().unwrap().len(), json["totals"]["loosens"].as_u64()), (40, Some(40)));
    assert_eq!(
        json["tenants"][0]["effects"][0]["at"],
        serde_json::json!({"file": "tiers.yaml", "line": 4, "column": 27, "length": 4})
    );

    let annotations = plan(&["--format", "github"]).with(0).out;
    assert_eq!(annotations.lines().count(), 1, "one line, one annotation: {annotations}");
    assert!(
        annotations
            .starts_with("::warning file=tiers.yaml,line=4,col=27,endColumn=31,title=loosens-limit::40 tenants (t00,"),
        "{annotations}"
    );

    let markdown = plan(&["--format", "markdown"]).with(0).out;
    assert!(markdown.contains("| `limits.memory` | `512MiB` | `1GiB` | 40: `t00`,"), "{markdown}");

    let only = plan(&["--tenant", "t07"]).with(0).out;
    assert!(only.contains("~ t07") && !only.contains("t08"), "{only}");
    assert!(plan(&["--tenant", "nobody"]).with(1).err.contains("neither side declares a tenant \"nobody\""));
    assert!(plan(&["--rev", &base]).with(0).out.contains("No changes. Both sides declare the same."));
    assert!(cli.on_repo("plan", &["--base", "no-such-branch"]).with(1).err.contains("names no commit"));
}

#[test]
fn a_long_review_stays_short_enough_for_a_comment_and_loosenings_come_first() {
    let cli = Cli::uncommitted(&[]);
    let names: Vec<String> = (0..1500).map(|n| format!("tenant-of-a-rather-long-name-{n:04}")).collect();
    for name in &names {
        cli.tenant(name, "allowlist: [\"a.example.com:443\"]\n");
    }
    let base = cli.commit();
    for (number, name) in names.iter().enumerate() {
        let variable = format!("environment: {{A: value-{number}}}\n");
        let more = if number == 700 {
            "allowlist: [\"a.example.com:443\", \"evil.example.com:443\"]\n"
        } else {
            "allowlist: []\n"
        };
        cli.tenant(name, &format!("{variable}{more}"));
    }
    cli.commit();
    let markdown = cli.on_repo("plan", &["--base", &base, "--format", "markdown"]).with(0).out;
    assert!(markdown.chars().count() <= 60_000, "{}", markdown.chars().count());
    assert!(markdown.contains("rows more are left out here"), "it says so");
    let place = |what: &str| markdown.find(what).unwrap_or_else(|| panic!("{what}"));
    assert!(place("#### Loosens") < place("evil.example.com") && place("evil.example.com") < place("#### Tightens"));
    assert!(place("#### Tightens") < place("#### Neutral"));
}

#[test]
fn a_wrong_file_is_told_in_every_form_on_its_line() {
    let cli = Cli::new(&["ant", "bee"]);
    cli.tenant("ant", "limits: {memory: plenty}\n");
    cli.tenant("bee", "environment: {A: \"<&]]>|`@all\"}\n");
    cli.write("tenants/ant.yaml", &file("ant", "limits: {memory: plenty}\n"));
    let plan = |format: &str| cli.on_repo("plan", &["--base", "HEAD", "--worktree", "--format", format]).with(1).out;
    assert!(plan("text").contains("! ant is held: its file has errors"));
    let junit = plan("junit");
    assert!(
        junit.contains("failures=\"1\"") && junit.contains("name=\"ant\"") && junit.contains("tenants/ant.yaml:4:18"),
        "{junit}"
    );
    assert!(junit.contains("environment.A + &lt;&amp;]]&gt;|`@all"), "{junit}");
    assert!(plan("github").contains("::error file=tenants/ant.yaml,line=4,col=18,"));
    let sarif: serde_json::Value = serde_json::from_str(&plan("sarif")).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results[0]["locations"][0]["physicalLocation"]["region"]["startLine"], 4);
    assert!(results.iter().any(|result| result["ruleId"] == "neutral-content"));
    assert!(plan("markdown").contains("| `none` | ``<&]]>\\|`@all`` |"), "{}", plan("markdown"));

    // Without a policy on one side nothing can be said.
    cli.commit();
    cli.write("fleet.yaml", "nonsense: true\n");
    assert!(
        cli.on_repo("plan", &["--base", "HEAD", "--worktree"])
            .with(1)
            .err
            .contains("fleet.yaml, tiers.yaml or the folder tenants has errors")
    );
}
