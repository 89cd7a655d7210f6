//! What people read, whole. A change of it is read line by line.

use serde_json::{Value, json};

use crate::{cli::Cli, samples::samples, world::image};

/// A plan of these changes, as it is printed.
fn plan(cli: &Cli, code: i32) -> String {
    let ended = cli.plan().with(code);
    assert_eq!(ended.err, "");
    cli.golden(&ended.out)
}

#[test]
fn a_first_plan_and_its_apply() {
    let cli = Cli::new(&["ant"]);
    cli.tenant("bee", "runtime: gvisor\nlimits: {cpus: 0.25, memory: 128MiB}\n");
    cli.commit();
    insta::assert_snapshot!("first_plan", plan(&cli, 2));
    // Side by side is no order to read: one tenant is applied.
    let ended = cli.on_repo("apply", &["--yes", "--tenant", "ant"]).with(0);
    let steps = ended.out.lines().skip_while(|line| !line.starts_with("Plan:")).collect::<Vec<_>>().join("\n");
    let time = |line: &str| match line.split_once(" after ") {
        Some((before, _)) => format!("{before} after [TIME]\n"),
        None => format!("{line}\n"),
    };
    insta::assert_snapshot!("first_apply", steps.lines().map(time).collect::<String>());
    insta::assert_snapshot!("next_plan", cli.golden(&cli.on_repo("plan", &["--tenant", "ant"]).with(0).out));
}

#[test]
fn drift_that_is_repaired_in_place() {
    let cli = Cli::new(&["ant", "bee", "cat"]);
    cli.apply().with(0);
    let limits = json!({"Memory": 1u64 << 30, "MemorySwap": 1u64 << 30, "PidsLimit": -1});
    cli.world.act("POST", "/containers/tenantd-ant/update", limits);
    cli.world.act("POST", "/networks/create", json!({"Name": "shared"}));
    cli.world.act("POST", "/networks/shared/connect", json!({"Container": "tenantd-ant"}));
    cli.world.act("POST", "/containers/tenantd-bee/stop", Value::Null);
    cli.world.act("POST", "/containers/tenantd-cat/rename?name=kitten", Value::Null);
    cli.world.foreign("foreign", "tenantd-cat");
    insta::assert_snapshot!(plan(&cli, 2));
}

#[test]
fn a_replacement_by_a_commit_and_by_drift() {
    let cli = Cli::new(&["ant", "bee", "cat"]);
    cli.apply().with(0);
    cli.world.engine.with(|state| state.options.images[0] = image("tenantd/test:1", "rebuilt"));
    cli.tenant("ant", "command: [/serve]\nenvironment: {MODE: quiet}\nlimits: {memory: 64MiB}\n");
    cli.commit();
    cli.world.tamper("tenantd-bee", |doc| {
        doc["HostConfig"]["Privileged"] = true.into();
        doc["HostConfig"]["CapAdd"] = json!(["SYS_ADMIN"]);
    });
    cli.world.engine.with(|state| state.network_mut("tenantd-cat")["Internal"] = false.into());
    insta::assert_snapshot!(plan(&cli, 2));
}

#[test]
fn a_removal() {
    let cli = Cli::new(&["ant", "bee"]);
    cli.apply().with(0);
    std::fs::remove_file(cli.repo.join("tenants/ant.yaml")).unwrap();
    cli.commit();
    insta::assert_snapshot!(plan(&cli, 2));
}

#[test]
fn what_is_blocked() {
    let cli = Cli::new(&["ant", "bee", "cat", "dog"]);
    cli.apply().with(0);
    cli.world.act("DELETE", "/containers/tenantd-ant?force=1", Value::Null);
    cli.world.foreign("tenantd-ant", "bridge");
    cli.tenant("bee", "runtime: microvm\n");
    cli.tenant("dog", "image: agency/agent:2\n");
    cli.commit();
    let cat = cli.world.id("tenantd-cat");
    cli.host_file(&format!("engine: {}\nceilings: {{memory: 256MiB}}\n", cli.world.engine.url()));
    cli.world.tamper("tenantd-dog", |doc| doc["HostConfig"]["ReadonlyRootfs"] = false.into());
    assert!(!cat.is_empty());
    insta::assert_snapshot!(plan(&cli, 1));
}

/// The forms for forges, of one plan with everything in it.
#[test]
fn a_plan_in_each_form() {
    let cli = Cli::new(&["ant", "bee"]);
    cli.apply().with(0);
    cli.world.tamper("tenantd-ant", |doc| doc["HostConfig"]["Privileged"] = json!(true));
    cli.tenant("bee", "limits: {memory: 64MiB}\n");
    cli.tenant("cat", "");
    cli.tenant("dog", "runtime: microvm\n");
    cli.commit();
    for form in ["markdown", "junit", "sarif", "github"] {
        let ended = cli.on_repo("plan", &["--format", form]).with(1);
        insta::assert_snapshot!(format!("plan_{form}"), cli.golden(&ended.out));
    }
}

/// In the tenant's own file, or in the tier or the fleet that it comes from.
#[test]
fn each_remark_of_a_plan_stands_on_the_line_of_its_setting() {
    let cli = Cli::new(&["ant", "bee", "cat"]);
    cli.apply().with(0);
    cli.tenant("ant", "command: [/other]\n");
    cli.tenant("bee", "environment:\n  A: one\n  MODE: quiet\n");
    cli.write("tiers.yaml", "apiVersion: tenantd/v1\nkind: Tiers\ntiers:\n  free: {cpus: 0.5,\n    memory: 400MiB,\n    disk: 1GiB, sessions: 1}\n");
    cli.commit();
    let printed = cli.on_repo("plan", &["--format", "github"]).with(0).out;
    let at = |what: &str| {
        let line = printed.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {printed}"));
        let place = line.split_once("file=").unwrap().1.split_once(",col=").unwrap().0;
        place.to_owned()
    };
    assert_eq!(at("container.ant must be replaced"), "tenants/ant.yaml,line=4");
    assert_eq!(at("container.bee must be replaced"), "tenants/bee.yaml,line=5");
    assert_eq!(at("container.cat will be updated in-place: memory"), "tiers.yaml,line=5");
}

/// A comment on a pull request fits, however much there is to say.
#[test]
fn a_plan_of_many_tenants_fits_into_a_comment() {
    let cli = Cli::uncommitted(&[]);
    for number in 0..400 {
        cli.tenant(&format!("tenant-{number:03}"), "runtime: microvm\n");
    }
    cli.commit();
    let ended = cli.on_repo("plan", &["--format", "markdown"]).with(1);
    let length = ended.out.chars().count();
    assert!(length <= 60_000 && length > 50_000, "{length}");
    assert!(ended.out.contains("rows more are left out here"), "{}", &ended.out[ended.out.len() - 200..]);
}

#[test]
fn a_report_in_each_form() {
    let root = env!("CARGO_MANIFEST_DIR");
    for form in ["text", "json", "sarif", "github"] {
        let mut all = String::new();
        for sample in samples("invalid") {
            let name = sample.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            // Each form shows what is special to it: a repo with many findings, one without a place,
            // and text that could be taken for the form's own.
            if !["bad-destination", "missing-file", "not-utf8", "wrong-unit", "control-character--direction"]
                .contains(&sample.file_name().unwrap().to_str().unwrap())
            {
                continue;
            }
            let mut command = crate::cli::bare(&["validate", &name, "--format", form]);
            command.current_dir(root);
            let ended = crate::cli::end(command).with(1);
            all.push_str(&format!("== {name}\n{}{}\n", ended.err, ended.out));
            match form {
                "json" => assert!(!serde_json::from_str::<Value>(&ended.out).unwrap()["valid"].as_bool().unwrap()),
                "sarif" => assert_eq!(serde_json::from_str::<Value>(&ended.out).unwrap()["version"], "2.1.0"),
                _ => {}
            }
        }
        insta::assert_snapshot!(format!("report_{form}"), all.replace(env!("CARGO_PKG_VERSION"), "[VERSION]"));
    }
}
