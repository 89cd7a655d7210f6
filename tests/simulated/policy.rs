//! The policies of the example repo, evaluated over what the real commands print.

use std::path::PathBuf;

use regorus::{Engine, Value};
use serde_json::json;

use crate::cli::Cli;

/// The messages of a rule, for an input.
fn messages(policy: &str, rule: &str, input: &str) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("example-repo/policies/{policy}.rego"));
    let mut engine = Engine::new();
    engine.add_policy_from_file(path).unwrap();
    engine.set_input(Value::from_json_str(input).unwrap());
    let found = engine.eval_rule(format!("data.tenantd.{policy}.{rule}")).unwrap();
    let Value::Set(found) = found else { panic!("{rule} is no set: {found:?}") };
    found.iter().map(|message| message.as_string().unwrap().to_string()).collect()
}

#[test]
fn the_policy_for_pull_requests_says_what_may_not_be_merged() {
    let names = ["ant", "bee", "cat", "dog"];
    let cli = Cli::uncommitted(&names);
    cli.tenant("dog", "runtime: gvisor\n");
    let base = cli.commit();
    let review = |cli: &Cli| cli.run(&["plan", cli.repo.to_str().unwrap(), "--base", &base, "--format", "json"]).out;
    assert_eq!(messages("review", "deny", &review(&cli)), Vec::<String>::new());

    cli.tenant("ant", "allowlist: [api.example.com:443]\n");
    cli.commit();
    assert_eq!(messages("review", "deny", &review(&cli)), Vec::<String>::new());

    cli.tenant("ant", "allowlist: [\"*.example.com:443\"]\n");
    cli.tenant("bee", "wrong: key\n");
    cli.commit();
    let denied = messages("review", "deny", &review(&cli));
    assert_eq!(denied.len(), 2, "{denied:?}");
    assert!(denied.contains(&"ant: *.example.com:443 is a wildcard; list the names".to_owned()), "{denied:?}");
    assert!(denied.iter().any(|message| message.starts_with("tenants/bee.yaml:4: ")), "{denied:?}");

    for name in names {
        cli.tenant(name, "allowlist: [api.example.com:443]\n");
    }
    cli.commit();
    let denied = messages("review", "deny", &review(&cli));
    assert_eq!(denied, ["4 tenants are loosened at once; three at most", "dog: runtime gvisor -> container is weaker"]);
}

#[test]
fn the_policy_for_plans_sees_what_a_plan_would_do() {
    let cli = Cli::new(&["ant", "bee"]);
    let plan = |cli: &Cli| cli.on_repo("plan", &["--format", "json"]).out;
    assert_eq!(messages("plan", "deny", &plan(&cli)), Vec::<String>::new());
    cli.apply().with(0);
    assert_eq!(messages("plan", "warn", &plan(&cli)), Vec::<String>::new());

    cli.world.tamper("tenantd-ant", |doc| doc["HostConfig"]["Privileged"] = json!(true));
    cli.tenant("cat", "runtime: microvm\n");
    std::fs::remove_file(cli.repo.join("tenants/bee.yaml")).unwrap();
    cli.commit();
    let text = plan(&cli);
    assert_eq!(messages("plan", "warn", &text), ["bee: its workspace is archived", "container.ant has drifted"]);
    let denied = messages("plan", "deny", &text);
    assert!(denied.len() == 1 && denied[0].starts_with("cat: "), "{denied:?}");

    // A plan that would do what none ever does.
    let mut plan: serde_json::Value = serde_json::from_str(&text).unwrap();
    let changes = plan["resource_changes"].as_array_mut().unwrap();
    let ant = changes.iter_mut().find(|change| change["address"] == "container.ant").unwrap();
    ant["change"]["after"]["cap_drop"] = json!([]);
    ant["change"]["after"]["read_only"] = json!(false);
    let mount =
        json!({"target": "/etc", "kind": "bind", "source": "/etc", "writable": true, "propagation": "rprivate"});
    ant["change"]["after"]["mounts"].as_array_mut().unwrap().push(mount);
    let denied = messages("plan", "deny", &plan.to_string());
    for expected in ["ant: /etc is writable", "ant: capabilities are kept", "ant: its root can be written"] {
        assert!(denied.contains(&expected.to_owned()), "{expected}: {denied:?}");
    }
}
