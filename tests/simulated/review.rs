//! What a commit changes for tenants, and whether that tightens or loosens.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tenantd::{
    model::{
        Desired, DriftMode, RuntimeClass, Tenant,
        finding::Location,
        host::{Approvals, NeedsApproval},
        policy::Loosening,
    },
    review::{self, Mark, RULES, Review},
};

use crate::{
    cli::{Cli, file},
    world::{fleet, tenant},
};

pub fn reviewed(before: &Desired, after: &Desired) -> Review {
    review::review(before, after, &|_, _, _| Location::default())
}

/// The effects in a form to compare: setting, mark, rule.
pub fn effects(review: &Review) -> BTreeSet<(String, Mark, &'static str)> {
    review.effects().map(|(_, effect)| (effect.field.clone(), effect.mark, effect.rule)).collect()
}

/// Every effect, seen from the other side.
pub fn reversed(effects: &BTreeSet<(String, Mark, &'static str)>) -> BTreeSet<(String, Mark, &'static str)> {
    effects.iter().map(|(field, mark, rule)| (field.clone(), mark.reversed(), *rule)).collect()
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

proptest! {
    /// Whatever edits nobody approves, in any order: what is in force is never looser than what was there first. A tier's and the
    /// fleet's edit, a move, a removal and a return are each another declaration of the tenant here.
    #[test]
    fn no_steps_without_an_approval_add_up_to_a_loosening(
        first in any_tenant(),
        steps in prop::collection::vec((any_tenant(), prop::sample::select(vec!["pro", "free", "new"])), 1..12),
    ) {
        let tier = |name: &str| name.parse::<tenantd::model::TierName>().unwrap();
        let guarded = NeedsApproval {
            loosenings: Loosening::ALL.into(),
            tiers: Some([tier("pro")].into()),
            except_tiers: BTreeSet::new(),
        };
        let approvals = Approvals { needed: vec![guarded], ..Approvals::default() };
        let first = first.map(|one| Tenant { tier: tier("pro"), ..one });
        let (mut in_force, mut removed) = (first.clone(), None);
        for (next, name) in steps {
            match next.map(|next| Tenant { tier: tier(name), ..next }) {
                None => removed = in_force.take().or(removed),
                Some(next) => {
                    let known = in_force.as_ref().or(removed.as_ref());
                    if review::approval::needing(known, None, &next, &approvals).is_empty() {
                        in_force = Some(next);
                    }
                }
            }
            if let (Some(first), Some(now)) = (&first, &in_force) {
                prop_assert_eq!(review::approval::needing(Some(first), None, now, &approvals), []);
                prop_assert_eq!(&now.tier, &first.tier);
            }
        }
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
fn a_changed_config_file_is_shown_line_by_line() {
    let cli = Cli::uncommitted(&["ant", "bee", "cat"]);
    for name in ["ant", "bee"] {
        cli.tenant(name, "files: [{path: agent.md, from: files/shared/agent.md}]\n");
    }
    cli.tenant("cat", "files: [{path: data, from: files/cat/data}]\n");
    std::fs::create_dir_all(cli.repo.join("files/shared")).unwrap();
    std::fs::create_dir_all(cli.repo.join("files/cat")).unwrap();
    let rules = "# Rules\nBe brief.\nCite.\nAsk.\n";
    cli.write("files/shared/agent.md", rules);
    cli.write("files/cat/data", "plain\n");
    let base = cli.commit();
    cli.write("files/shared/agent.md", &rules.replace("Be brief.", "Be \u{1b}[31mred```."));
    std::fs::write(cli.repo.join("files/cat/data"), b"\xFF").unwrap();
    cli.commit();
    let plan = |format: &str| cli.on_repo("plan", &["--base", &base, "--format", format]).with(0).out;

    let text = plan("text");
    let shown = "      agent.md\n         # Rules\n        -Be brief.\n        +Be \\u{1b}[31mred```.\n         Cite.\n         Ask.\n";
    assert_eq!(text.matches(shown).count(), 2, "{text}");
    assert!(text.contains("      data\n        @ no text: 6 bytes, then 1\n"), "{text}");
    let markdown = plan("markdown");
    let shown =
        "`agent.md` of `ant`, `bee`\n\n````diff\n # Rules\n-Be brief.\n+Be \\u{1b}[31mred```.\n Cite.\n Ask.\n````\n";
    assert_eq!(markdown.matches(shown).count(), 1, "once for all: {markdown}");
    let json: serde_json::Value = serde_json::from_str(&plan("json")).unwrap();
    assert_eq!(
        json["tenants"][2]["files"],
        serde_json::json!([{"path": "data", "lines": ["@ no text: 6 bytes, then 1"]}])
    );

    // What looks like a secret is refused, and shown on neither side.
    cli.write("files/shared/agent.md", &format!("{rules}ghp_{}\n", "a1".repeat(18)));
    cli.commit();
    for format in ["text", "markdown", "json"] {
        assert!(!cli.on_repo("plan", &["--base", &base, "--format", format]).with(1).out.contains("ghp_"), "{format}");
    }
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
fn a_wrong_file_is_reported_in_every_form_on_its_line() {
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
