//! Each setting of a config repo, with a pair of files that differ in it and what a careful person says of the change.
//!
//! Every pair is looked at from both sides, so that it stands for both directions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tenantd::{
    model::{
        Desired,
        tree::{Carried, SourceFile, Tree},
    },
    review::{Mark, RULES},
    spec::{self, schema::schemas},
};

use crate::review::{effects, reversed, reviewed};

const FLEET: &str = "apiVersion: tenantd/v1\nkind: Fleet\n";
const DEFAULTS: &str = "defaults: {tier: free, image: \"agency/agent:1.4\"}\n";
const TEAM: &str = "cpus: 4, memory: 4GiB, disk: 20GiB, sessions: 5";

/// What a file says of the tenant `ant`, of the fleet, or of the tier `team`, which `ant` is of.
#[derive(Clone, Copy)]
enum Side {
    Tenant(&'static str),
    Fleet(&'static str),
    Tier(&'static str),
}

fn declared(side: Side) -> Desired {
    let (mut fleet, mut tier, mut tenant) = (DEFAULTS.to_owned(), TEAM.to_owned(), "tier: team\n".to_owned());
    match side {
        Side::Tenant(lines) => tenant = format!("{}{lines}", if lines.contains("tier:") { "" } else { "tier: team\n" }),
        // What the fleet's defaults give counts where the tenant says nothing itself.
        Side::Fleet(lines) if lines.contains("defaults:") => (fleet, tenant) = (lines.to_owned(), String::new()),
        Side::Fleet(lines) => fleet.push_str(lines),
        Side::Tier(entries) => tier = entries.to_owned(),
    }
    let files = [
        ("fleet.yaml", format!("{FLEET}{fleet}")),
        ("tenants/ant.yaml", format!("apiVersion: tenantd/v1\nkind: Tenant\ntenant: ant\n{tenant}")),
        (
            "tiers.yaml",
            format!(
                "apiVersion: tenantd/v1\nkind: Tiers\ntiers:\n  free: {{{TEAM}}}\n  pro: {{{TEAM}}}\n  team: {{{tier}}}\n"
            ),
        ),
    ];
    let files = files.map(|(path, text)| SourceFile { path: path.to_owned(), bytes: text.into_bytes() });
    let mut carried: BTreeMap<String, Carried> =
        ["files/ant/a", "files/ant/b"].map(|path| (path.to_owned(), Carried::File(path.as_bytes().into()))).into();
    let schemas = ["files/ant/a.json", "schemas/a.json", "rules/a.json", "rules/b.json"];
    carried.extend(schemas.map(|path| (path.to_owned(), Carried::File(b"{}".as_slice().into()))));
    let tree = Tree { files: files.into(), carried: carried.into(), ..Tree::default() };
    let desired = spec::compile(&tree);
    assert_eq!(desired.findings, [], "{tree:?}");
    desired
}

const L: Mark = Mark::Loosens;
const T: Mark = Mark::Tightens;
const N: Mark = Mark::Neutral;

/// Each effect: setting, mark, rule.
type Wanted = &'static [(&'static str, Mark, &'static str)];

/// A setting by its place in the schema, the two sides, and what is said of the change.
type Pair = (&'static str, &'static str, &'static str, Wanted);

macro_rules! crm {
    ($rest:literal) => {
        crm!("https://c.example.com", "header: X-Key, value: \"${secret:crm}\"", $rest)
    };
    ($upstream:literal, $inject:literal, $rest:literal) => {
        concat!("credentials: [{route: /crm/, upstream: \"", $upstream, "\", inject: {", $inject, "}", $rest, "}]\n")
    };
}

macro_rules! sealed {
    ($text:literal) => {
        concat!(
            crm!(""),
            "sealed: {crm: \"-----BEGIN AGE ENCRYPTED FILE-----\\n",
            $text,
            "\\n-----END AGE ENCRYPTED FILE-----\"}\n"
        )
    };
}

const DIGEST: &str =
    "image: \"agency/agent@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n";
const CRM: &str = "credentials./crm/";

/// What stands in a tenant's file.
const TENANTS: &[Pair] = &[
    ("tier", "", "", &[]),
    ("tier", "tier: team\n", "tier: pro\n", &[("tier", N, "tier")]),
    ("runtime", "runtime: gvisor\n", "", &[("runtime", L, "runtime")]),
    ("runtime", "runtime: gvisor\n", "runtime: microvm\n", &[("runtime", T, "runtime")]),
    ("runtime", "runtime: microvm\n", "runtime: container\n", &[("runtime", L, "runtime")]),
    ("image", "image: \"agency/agent:2\"\n", "", &[("image", N, "content")]),
    ("image", DIGEST, "", &[("image", L, "image")]),
    (
        "image",
        DIGEST,
        "image: \"agency/agent@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"\n",
        &[("image", N, "content")],
    ),
    ("image", DIGEST, "image: \"agency/sha256:1\"\n", &[("image", L, "image")]),
    ("command[]", "command: [\"/a\"]\n", "command: [\"/b\"]\n", &[("command", N, "content")]),
    (
        "environment.*",
        "environment: {A: x}\n",
        "environment: {A: y, B: z}\n",
        &[("environment.A", N, "content"), ("environment.B", N, "content")],
    ),
    ("environment.*", "", "environment: {LD_PRELOAD: /workspace/x.so}\n", &[("environment.LD_PRELOAD", L, "variable")]),
    (
        "environment.*",
        "environment: {https_proxy: \"http://a.example.com\"}\n",
        "environment: {https_proxy: \"http://b.example.com\"}\n",
        &[("environment.https_proxy", L, "variable"), ("environment.https_proxy", T, "variable")],
    ),
    ("limits.cpus", "limits: {cpus: 2}\n", "limits: {cpus: 0.5}\n", &[("limits.cpus", T, "limit")]),
    ("limits.memory", "limits: {memory: 1GiB}\n", "", &[("limits.memory", L, "limit")]),
    ("limits.memory", "limits: {memory: 1024MiB}\n", "limits: {memory: 1GiB}\n", &[]),
    ("limits.pids", "limits: {pids: 64}\n", "limits: {pids: 65}\n", &[("limits.pids", L, "limit")]),
    ("limits.disk", "limits: {disk: 1GiB}\n", "limits: {disk: 512MiB}\n", &[("limits.disk", T, "limit")]),
    ("allowlist[]", "", "allowlist: [\"api.example.com:443\"]\n", &[("allowlist", L, "allowlist")]),
    (
        "allowlist[]",
        "allowlist: [\"a.example.com:443\"]\n",
        "allowlist: [\"a.example.com:8443\"]\n",
        &[("allowlist", L, "allowlist"), ("allowlist", T, "allowlist")],
    ),
    (
        "allowlist[]",
        "allowlist: [\"a.example.com:443\"]\n",
        "allowlist: [\"*.example.com:443\"]\n",
        &[("allowlist", L, "allowlist"), ("allowlist", N, "allowlist")],
    ),
    (
        "allowlist[]",
        "allowlist: [\"*.example.com:443\"]\n",
        "allowlist: [\"*.example.com:443\", \"a.example.com:443\"]\n",
        &[("allowlist", N, "allowlist")],
    ),
    (
        "allowlist[]",
        "allowlist: [\"*.example.com:443\"]\n",
        "allowlist: [\"*.eu.example.com:443\"]\n",
        &[("allowlist", T, "allowlist"), ("allowlist", N, "allowlist")],
    ),
    (
        "allowlist[]",
        "allowlist: [\"*.example.com:443\"]\n",
        "allowlist: [\"*.example.com:443\", \"example.com:443\"]\n",
        &[("allowlist", L, "allowlist")],
    ),
    (
        "allowlist[]",
        "allowlist: [\"*.example.com:443\"]\n",
        "allowlist: [\"*.example.com:443\", \"notexample.com:443\"]\n",
        &[("allowlist", L, "allowlist")],
    ),
    (
        "allowlist[]",
        "allowlist: [\"10.1.0.0/16:443\"]\n",
        "allowlist: [\"10.1.2.3:443\"]\n",
        &[("allowlist", T, "allowlist"), ("allowlist", N, "allowlist")],
    ),
    ("allowlist[]", "allowlist: [\"A.example.com:443\"]\n", "allowlist: [\"a.example.com:443\"]\n", &[]),
    ("expose[].port", "", "expose: [{port: 8080}]\n", &[("expose", L, "ingress")]),
    (
        "expose[].port",
        "expose: [{port: 8080, path: /a}]\n",
        "expose: [{port: 80, path: /a}]\n",
        &[("expose", L, "ingress"), ("expose", T, "ingress")],
    ),
    // When a tenant is ready says nothing of who comes in.
    (
        "expose[].path",
        "expose: [{port: 8080}, {port: 80}]\n",
        "expose: [{port: 80}, {port: 8080, path: /healthz}]\n",
        &[("expose.8080.path", N, "content")],
    ),
    ("access", "access: token\n", "", &[]),
    ("access", "", "access: public\n", &[("access", L, "ingress")]),
    ("source", "", "source: handbook\n", &[("source", L, "source")]),
    ("source", "source: handbook\n", "source: rules\n", &[("source", L, "source"), ("source", T, "source")]),
    (
        "files[].from",
        "files: [{path: x, from: files/ant/a}]\n",
        "files: [{path: x, from: files/ant/b}]\n",
        &[("files.x", N, "content")],
    ),
    (
        "files[].path",
        "files: [{path: x, from: files/ant/a}]\n",
        "files: [{path: y, from: files/ant/a}]\n",
        &[("files.x", N, "content"), ("files.y", N, "content")],
    ),
    (
        "files[].apply",
        "files: [{path: x, from: files/ant/a}]\n",
        "files: [{path: x, from: files/ant/a, apply: inPlace}]\n",
        &[("files.x", N, "content")],
    ),
    // The same file is given, whatever it was held against.
    (
        "files[].schema",
        "files: [{path: x, from: files/ant/a.json, schema: schemas/a.json}]\n",
        "files: [{path: x, from: files/ant/a.json}]\n",
        &[],
    ),
    ("workspace.restore", "workspace: {restore: none}\n", "", &[]),
    (
        "workspace.restore",
        "workspace: {restore: none}\n",
        "workspace: {restore: ant.2026-01-01T00-00-00}\n",
        &[("workspace.restore", L, "workspace")],
    ),
    (
        "workspace.restore",
        "workspace: {restore: ant.2026-01-01T00-00-00}\n",
        "workspace: {restore: ant.2026-02-01T00-00-00}\n",
        &[("workspace.restore", L, "workspace"), ("workspace.restore", T, "workspace")],
    ),
    ("credentials[].route", "", crm!(""), &[(CRM, L, "credential")]),
    (
        "credentials[].route",
        crm!(""),
        "credentials: [{route: /cab/, upstream: \"https://c.example.com\", inject: {header: X-Key, value: \"${secret:crm}\"}}]\n",
        &[(CRM, T, "credential"), ("credentials./cab/", L, "credential")],
    ),
    (
        "credentials[].upstream",
        crm!(""),
        crm!("https://d.example.com", "header: X-Key, value: \"${secret:crm}\"", ""),
        &[(CRM, L, "credential"), (CRM, T, "credential")],
    ),
    (
        "credentials[].inject.header",
        crm!(""),
        crm!("https://c.example.com", "header: X-Other, value: \"${secret:crm}\"", ""),
        &[(CRM, L, "credential"), (CRM, T, "credential")],
    ),
    (
        "credentials[].inject.value",
        crm!(""),
        crm!("https://c.example.com", "header: X-Key, value: \"${secret:admin}\"", ""),
        &[(CRM, L, "credential"), (CRM, T, "credential")],
    ),
    (
        "credentials[].inject.query",
        crm!(""),
        crm!("https://c.example.com", "query: key, value: \"${secret:crm}\"", ""),
        &[(CRM, L, "credential"), (CRM, T, "credential")],
    ),
    (
        "credentials[].inject.basic.username",
        crm!("https://c.example.com", "basic: {username: a, password: \"${secret:crm}\"}", ""),
        crm!("https://c.example.com", "basic: {username: b, password: \"${secret:crm}\"}", ""),
        &[(CRM, L, "credential"), (CRM, T, "credential")],
    ),
    (
        "credentials[].inject.basic.password",
        crm!("https://c.example.com", "basic: {username: a, password: \"${secret:crm}\"}", ""),
        crm!("https://c.example.com", "basic: {username: a, password: \"${secret:admin}\"}", ""),
        &[(CRM, L, "credential"), (CRM, T, "credential")],
    ),
    (
        "credentials[].cost.reserve",
        crm!(", cost: {reserve: 5}"),
        crm!(", cost: {reserve: 4}"),
        &[("credentials./crm/.cost.reserve", L, "budget")],
    ),
    ("credentials[].cost.reserve", crm!(", cost: {reserve: 5}"), crm!(""), &[("credentials./crm/.cost", L, "budget")]),
    // Whether what an answer says is more than what is reserved, or less than another part of it, depends on the answer.
    (
        "credentials[].cost.settle",
        crm!(", cost: {reserve: 5, settle: /usage/total}"),
        crm!(", cost: {reserve: 5, settle: /usage/cached}"),
        &[("credentials./crm/.cost.settle", L, "budget"), ("credentials./crm/.cost.settle", T, "budget")],
    ),
    (
        "credentials[].cost.settle",
        crm!(", cost: {reserve: 5}"),
        crm!(", cost: {reserve: 5, settle: /usage/total}"),
        &[("credentials./crm/.cost.settle", L, "budget"), ("credentials./crm/.cost.settle", T, "budget")],
    ),
    (
        "credentials[].cost.stream",
        crm!(", cost: {reserve: 5, stream: refuse}"),
        crm!(", cost: {reserve: 5}"),
        &[("credentials./crm/.cost.stream", L, "budget")],
    ),
    // A key in another place, and cheaper on the way: both show.
    (
        "credentials[].cost.reserve",
        crm!(", cost: {reserve: 5}"),
        crm!("https://c.example.com", "query: key, value: \"${secret:crm}\"", ""),
        &[(CRM, L, "credential"), (CRM, T, "credential"), ("credentials./crm/.cost", L, "budget")],
    ),
    // Another name for the same service is no way around its cost, and one as dear is none.
    (
        "credentials[].cost.reserve",
        crm!(", cost: {reserve: 5}"),
        "credentials: [{route: /cab/, upstream: \"https://c.example.com/v2\", inject: {header: X-Key, value: \"${secret:crm}\"}}]\n",
        &[(CRM, T, "credential"), ("credentials./cab/", L, "credential"), ("credentials./cab/.cost", L, "budget")],
    ),
    (
        "credentials[].cost.reserve",
        crm!(", cost: {reserve: 5}"),
        "credentials: [{route: /cab/, upstream: \"https://c.example.com/v2\", inject: {header: X-Key, value: \"${secret:crm}\"}, cost: {reserve: 5}}]\n",
        &[(CRM, T, "credential"), ("credentials./cab/", L, "credential")],
    ),
    ("sealed.*", crm!(""), sealed!("YQ=="), &[("sealed.crm", L, "credential")]),
    ("sealed.*", sealed!("YQ=="), sealed!("Yg=="), &[("sealed.crm", L, "credential"), ("sealed.crm", T, "credential")]),
    ("budget.day", "budget: {day: 10}\n", "budget: {day: 20}\n", &[("budget.day", L, "budget")]),
    ("budget.month", "budget: {day: 10, month: 100}\n", "budget: {day: 10}\n", &[("budget.month", L, "budget")]),
    ("driftDetection.mode", "", "driftDetection: {mode: warn}\n", &[("driftDetection.mode", L, "detection")]),
    (
        "driftDetection.mode",
        "driftDetection: {mode: disabled}\n",
        "driftDetection: {mode: warn}\n",
        &[("driftDetection.mode", T, "detection")],
    ),
];

/// The same of fleet.yaml.
const POLICIES: &[Pair] = &[
    (
        "defaults.tier",
        "defaults: {tier: free, image: \"a:1\"}\n",
        "defaults: {tier: pro, image: \"a:1\"}\n",
        &[("tier", N, "tier")],
    ),
    (
        "defaults.image",
        "defaults: {tier: free, image: \"a@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}\n",
        "defaults: {tier: free, image: \"a:1\"}\n",
        &[("image", L, "image")],
    ),
    (
        "defaults.command[]",
        "defaults: {tier: free, image: \"a:1\"}\n",
        "defaults: {tier: free, image: \"a:1\", command: [sh]}\n",
        &[("command", N, "content")],
    ),
    (
        "defaults.environment.*",
        "defaults: {tier: free, image: \"a:1\"}\n",
        "defaults: {tier: free, image: \"a:1\", environment: {NODE_TLS_REJECT_UNAUTHORIZED: \"0\", MODE: b}}\n",
        &[("environment.NODE_TLS_REJECT_UNAUTHORIZED", L, "variable"), ("environment.MODE", N, "content")],
    ),
    (
        "hardening.tmpSize",
        "hardening: {tmpSize: 64MiB}\n",
        "hardening: {tmpSize: 128MiB}\n",
        &[("hardening.tmpSize", L, "limit")],
    ),
    (
        "hardening.shmSize",
        "hardening: {shmSize: 64MiB}\n",
        "hardening: {shmSize: 32MiB}\n",
        &[("hardening.shmSize", T, "limit")],
    ),
    (
        "hardening.openFiles",
        "hardening: {openFiles: 2048}\n",
        "hardening: {openFiles: 4096}\n",
        &[("hardening.openFiles", L, "limit")],
    ),
    (
        "hardening.workspaceNoexec",
        "hardening: {workspaceNoexec: true}\n",
        "",
        &[("hardening.workspaceNoexec", L, "hardening")],
    ),
    ("hardening.init", "hardening: {init: false}\n", "", &[("hardening.init", T, "hardening")]),
    ("logs.maxSize", "logs: {maxSize: 1MiB}\n", "logs: {maxSize: 2MiB}\n", &[("logs.maxSize", L, "limit")]),
    ("logs.maxFiles", "logs: {maxFiles: 3}\n", "logs: {maxFiles: 2}\n", &[("logs.maxFiles", T, "limit")]),
    ("logs.compress", "", "logs: {compress: true}\n", &[("logs.compress", N, "upkeep")]),
    ("driftDetection.mode", "", "driftDetection: {mode: disabled}\n", &[("driftDetection.mode", L, "detection")]),
    (
        "guards.removals.percent",
        "guards: {removals: {percent: 10}}\n",
        "guards: {removals: {percent: 20}}\n",
        &[("guards.removals.percent", L, "guard")],
    ),
    (
        "guards.removals.atLeast",
        "guards: {removals: {atLeast: 5}}\n",
        "guards: {removals: {atLeast: 3}}\n",
        &[("guards.removals.atLeast", T, "guard")],
    ),
    (
        "guards.removals.window",
        "guards: {removals: {window: 12h}}\n",
        "guards: {removals: {window: 1h}}\n",
        &[("guards.removals.window", L, "guard")],
    ),
    ("retry.initial", "retry: {initial: 1s}\n", "retry: {initial: 2s}\n", &[("retry", N, "upkeep")]),
    ("retry.max", "retry: {max: 1m}\n", "retry: {max: 2m}\n", &[("retry", N, "upkeep")]),
    ("rules[]", "rules: [rules/a.json]\n", "", &[("rules.a.json", L, "rule")]),
    (
        "rules[]",
        "rules: [rules/a.json]\n",
        "rules: [rules/b.json]\n",
        &[("rules.a.json", L, "rule"), ("rules.b.json", T, "rule")],
    ),
    (
        "ingress.waitingPage",
        "ingress: {waitingPage: false}\n",
        "ingress: {waitingPage: true}\n",
        &[("ingress.waitingPage", N, "upkeep")],
    ),
    (
        "health.trialPeriod",
        "health: {trialPeriod: 10s}\n",
        "health: {trialPeriod: 1s}\n",
        &[("health.trialPeriod", T, "guard")],
    ),
];

/// The same of a tier. What it would allow and no tenant has is nothing that a tenant may do.
const TIERS: &[Pair] = &[
    ("tiers.*.cpus", TEAM, "cpus: 5, memory: 4GiB, disk: 20GiB, sessions: 5", &[("limits.cpus", L, "limit")]),
    ("tiers.*.memory", TEAM, "cpus: 4, memory: 5GiB, disk: 20GiB, sessions: 5", &[("limits.memory", L, "limit")]),
    ("tiers.*.disk", TEAM, "cpus: 4, memory: 4GiB, disk: 19GiB, sessions: 5", &[("limits.disk", T, "limit")]),
    ("tiers.*.sessions", TEAM, "cpus: 4, memory: 4GiB, disk: 20GiB, sessions: 6", &[("sessions", L, "limit")]),
    (
        "tiers.*.pids",
        TEAM,
        "cpus: 4, memory: 4GiB, disk: 20GiB, sessions: 5, pids: 300",
        &[("limits.pids", L, "limit")],
    ),
    (
        "tiers.*.access",
        TEAM,
        "cpus: 4, memory: 4GiB, disk: 20GiB, sessions: 5, access: public",
        &[("access", L, "ingress")],
    ),
    (
        "tiers.*.runtime",
        TEAM,
        "cpus: 4, memory: 4GiB, disk: 20GiB, sessions: 5, runtime: gvisor",
        &[("runtime", T, "runtime")],
    ),
    (
        "tiers.*.allowedRuntimes[]",
        TEAM,
        "cpus: 4, memory: 4GiB, disk: 20GiB, sessions: 5, allowedRuntimes: [container]",
        &[],
    ),
    ("tiers.*.mayRaise.cpus", TEAM, "cpus: 4, memory: 4GiB, disk: 20GiB, sessions: 5, mayRaise: {cpus: 8}", &[]),
    ("tiers.*.mayRaise.memory", TEAM, "cpus: 4, memory: 4GiB, disk: 20GiB, sessions: 5, mayRaise: {memory: 8GiB}", &[]),
    ("tiers.*.mayRaise.disk", TEAM, "cpus: 4, memory: 4GiB, disk: 20GiB, sessions: 5, mayRaise: {disk: 30GiB}", &[]),
    ("tiers.*.mayRaise.pids", TEAM, "cpus: 4, memory: 4GiB, disk: 20GiB, sessions: 5, mayRaise: {pids: 512}", &[]),
];

/// What a file is and whose, of which there is no other value: another name is a tenant that is gone and one that is new.
const FIXED: &[&str] = &[
    "tenant.apiVersion",
    "tenant.kind",
    "tenant.tenant",
    "fleet.apiVersion",
    "fleet.kind",
    "tiers.apiVersion",
    "tiers.kind",
];

fn expected(effects: &[(&str, Mark, &'static str)]) -> BTreeSet<(String, Mark, &'static str)> {
    effects.iter().map(|(field, mark, rule)| ((*field).to_owned(), *mark, *rule)).collect()
}

/// Every pair with its setting's place: the file's kind, and the keys.
fn pairs() -> impl Iterator<Item = (String, [Side; 2], Wanted)> {
    let of = |kind: &'static str, side: fn(&'static str) -> Side, pairs: &'static [Pair]| {
        pairs
            .iter()
            .map(move |(setting, a, b, wanted)| (format!("{kind}.{setting}"), [a, b].map(|it| side(it)), *wanted))
    };
    of("tenant", Side::Tenant, TENANTS).chain(of("fleet", Side::Fleet, POLICIES)).chain(of("tiers", Side::Tier, TIERS))
}

#[test]
fn each_change_is_marked_as_a_careful_person_would() {
    let mut rules = BTreeSet::new();
    for (setting, sides, wanted) in pairs() {
        let [before, after] = sides.map(declared);
        let forth = effects(&reviewed(&before, &after));
        assert_eq!(forth, expected(wanted), "{setting}");
        let back = effects(&reviewed(&after, &before));
        assert_eq!(back, reversed(&forth), "{setting}: the way back has the other marks");
        rules.extend(wanted.iter().map(|(.., rule)| *rule));
    }
    assert_eq!(rules, RULES.iter().map(|(name, _)| *name).collect(), "each rule has a pair");
}

/// The places of all settings below a part of a schema.
fn settings(schema: &Value, part: &Value, place: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = part["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        return settings(schema, &schema["$defs"][name], place, found);
    }
    if let Some(some) = part["anyOf"].as_array() {
        return some.iter().filter(|one| one["type"] != "null").for_each(|one| settings(schema, one, place, found));
    }
    let below = |key: &str| part[key].as_object().into_iter().flatten();
    let mut parts: Vec<(String, &Value)> =
        below("properties").map(|(key, part)| (format!("{place}.{key}"), part)).collect();
    parts.extend(below("patternProperties").map(|(_, part)| (format!("{place}.*"), part)));
    parts.extend(
        part["additionalProperties"].is_object().then(|| (format!("{place}.*"), &part["additionalProperties"])),
    );
    parts.extend(part["items"].is_object().then(|| (format!("{place}[]"), &part["items"])));
    if parts.is_empty() {
        found.insert(place.to_owned());
    }
    parts.iter().for_each(|(place, part)| settings(schema, part, place, found));
}

#[test]
fn every_setting_of_the_schemas_has_a_pair() {
    let mut all = BTreeSet::new();
    for (name, schema) in schemas().into_iter().filter(|(name, _)| !["host.json", "settings.json"].contains(name)) {
        settings(&schema, &schema, name.strip_suffix(".json").unwrap(), &mut all);
    }
    let mut judged: BTreeSet<String> = FIXED.iter().map(|&setting| setting.to_owned()).collect();
    judged.extend(pairs().map(|(setting, ..)| setting));
    assert_eq!(all, judged, "each setting has a labelled pair");
    assert!(all.len() > 60, "the schemas were walked: {}", all.len());
}

#[test]
fn what_a_new_tenant_opens_is_reported_and_what_it_is_made_of_is_not() {
    let nothing = Desired { policy_usable: true, ..Desired::default() };
    let rows: [(&str, Wanted); 7] = [
        ("runtime: microvm\nenvironment: {LD_PRELOAD: /x}\nbudget: {day: 5}\n", &[]),
        ("allowlist: [\"a.example.com:443\"]\n", &[("allowlist", L, "allowlist")]),
        ("expose: [{port: 80, path: /}]\naccess: public\n", &[("expose", L, "ingress"), ("access", L, "ingress")]),
        ("source: handbook\n", &[("source", L, "source")]),
        ("workspace: {restore: ant.2026-01-01T00-00-00}\n", &[("workspace.restore", L, "workspace")]),
        (crm!(", cost: {reserve: 5}"), &[(CRM, L, "credential")]),
        ("workspace: {restore: none}\n", &[]),
    ];
    for (lines, wanted) in rows {
        let (policy, after) = (declared(Side::Tenant("")).policy, declared(Side::Tenant(lines)));
        let before = Desired { policy, ..nothing.clone() };
        let forth = effects(&reviewed(&before, &after));
        assert_eq!(forth, expected(wanted), "{lines}");
        assert_eq!(effects(&reviewed(&after, &before)), reversed(&forth), "{lines}");
    }
}
