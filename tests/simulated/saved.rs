//! Plans that are saved and carried out later, or refused.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use tenantd::{
    model::TENANT_LABEL,
    plan::{self, saved::Saved},
};

use crate::{
    cli::{Cli, Ended},
    properties::{NAMES, Spoil, any_story, befall, spoil, spoiled},
    world::{World, image, text},
};

impl Cli {
    fn saved_path(&self) -> String {
        self.world.folder().join("plan.json").to_str().unwrap().to_owned()
    }

    fn save(&self, options: &[&str]) -> Value {
        self.on_repo("plan", &[&["--out", &self.saved_path()], options].concat());
        serde_json::from_str(&fs::read_to_string(self.saved_path()).unwrap()).unwrap()
    }

    fn apply_saved(&self) -> Ended {
        self.run(&["apply", &self.saved_path(), "--repo", self.repo.to_str().unwrap()])
    }

    #[track_caller]
    fn refused(&self, why: &str) {
        let (mutations, before) = (self.world.engine.mutations(), self.world.engine.dump());
        let ended = self.apply_saved().with(1);
        assert!(ended.err.contains(why) && ended.err.contains("is refused"), "{why}: {}", ended.err);
        assert!((self.world.engine.mutations(), self.world.engine.dump()) == (mutations, before), "{why}");
    }
}

#[test]
fn a_saved_plan_is_carried_out_as_long_as_nothing_moved() {
    let cli = Cli::new(&["ant", "bee"]);
    let saved = cli.save(&[]);
    assert_eq!(saved["saved"]["commit"].as_str().unwrap().len(), 40);
    assert_eq!(saved["resource_changes"].as_array().unwrap().len(), 6);
    let ended = cli.apply_saved().with(0);
    assert!(ended.out.ends_with("Apply complete: 2 tenants converged, 0 failed, 0 blocked.\n"), "{}", ended.out);
    // It was for an engine without these tenants.
    cli.refused("moved: container tenantd-ant (");
    cli.save(&[]);
    assert!(cli.apply_saved().with(0).out.contains("No changes."));

    // Others may move.
    cli.tenant("ant", "limits: {memory: 64MiB}\n");
    cli.commit();
    cli.save(&[]);
    cli.world.act("POST", "/containers/tenantd-bee/stop", Value::Null);
    let ended = cli.apply_saved().with(0);
    assert!(ended.out.contains("1 tenant converged"), "{}", ended.out);
    assert_eq!(cli.world.state("tenantd-bee"), "exited");
}

#[test]
fn a_saved_plan_is_refused_by_the_name_of_what_moved() {
    let cli = Cli::new(&["ant", "bee"]);
    cli.apply().with(0);
    cli.tenant("ant", "environment: {MODE: fast}\n");
    cli.commit();
    cli.save(&[]);
    let kept = cli.world.engine.with(|state| state.keep());
    let moved = |why: &str, act: &dyn Fn(&World)| {
        act(&cli.world);
        cli.refused(why);
        cli.world.engine.with(|state| state.restore(&kept));
    };
    moved("moved: container tenantd-ant (", &|world| {
        drop(world.act("POST", "/containers/tenantd-ant/pause", Value::Null))
    });
    moved(") is gone", &|world| drop(world.act("DELETE", "/containers/tenantd-ant?force=1", Value::Null)));
    moved("moved: container copy (", &|world| {
        world.act(
            "POST",
            "/containers/create?name=copy",
            json!({"Image": "tenantd/test:1", "Labels": {TENANT_LABEL: "ant"}}),
        );
    });
    moved("moved: network tenantd-ant (", &|world| {
        world.foreign("stranger", "bridge");
        world.act("POST", "/networks/tenantd-ant/connect", json!({"Container": "stranger"}));
    });
    moved("moved: image tenantd/test:1 has changed", &|world| {
        world.engine.with(|state| state.tag_image(image("tenantd/test:1", "other")));
    });
    fs::set_permissions(cli.world.workspace("ant"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    cli.refused("moved: workspace ant has changed");
    fs::set_permissions(cli.world.workspace("ant"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();

    // The host's settings, and the engine itself.
    cli.host_file(&format!("engine: {}\nceilings: {{memory: 32MiB}}\n", cli.world.engine.url()));
    cli.refused("moved: tenant ant: other steps");
    cli.host_file(&format!("engine: {}\n", cli.world.engine.url()));
    let other = World::new();
    cli.host_file(&format!("engine: {}\n", other.engine.url()));
    other.engine.with(|state| state.options.id = "OTHER".to_owned());
    cli.refused("moved: the engine is OTHER, and the plan is for ");
    cli.host_file(&format!("engine: {}\n", cli.world.engine.url()));

    // The commit.
    let path = cli.saved_path();
    let text = fs::read_to_string(&path).unwrap();
    cli.tenant("bee", "environment: {MODE: slow}\n");
    cli.commit();
    cli.refused("and HEAD is main@sha1:");

    // The file itself.
    let bad = |text: &str, why: &str| {
        fs::write(&path, text).unwrap();
        let ended = cli.apply_saved().with(1);
        assert!(ended.err.contains(why), "{why}: {}", ended.err);
    };
    bad("{", "it is no plan that");
    bad("{\"format_version\": \"1.0\"}", "it is no plan that");
    bad(&text.replace("\"version\": 1", "\"version\": 2"), "of version 2");
    let ended = cli.run(&["apply", &path, "--tenant", "ant"]).with(1);
    assert!(ended.err.contains("it is"), "{}", ended.err);
    cli.on_repo("plan", &["--out", &path, "--worktree"]).with(2);
}

#[test]
fn a_plan_that_was_saved_elsewhere_is_carried_out_on_its_host() {
    let cli = Cli::new(&["ant", "bee"]);
    cli.apply().with(0);
    cli.tenant("ant", "environment: {MODE: fast}\nlimits: {memory: 64MiB}\n");
    cli.commit();
    let (snapshot, repo) = (cli.world.folder().join("snapshot"), cli.repo.to_str().unwrap());
    cli.run(&["snapshot", "--out", snapshot.to_str().unwrap()]).with(0);
    let arguments = ["plan", repo, "--snapshot", snapshot.to_str().unwrap(), "--out", &cli.saved_path()];
    crate::cli::end(crate::cli::bare(&arguments)).with(0);
    cli.apply_saved().with(0);
    assert!(cli.plan().with(0).out.contains("No changes."));
}

/// How many stories, and how much is done in each behind the plan's back.
const STORIES: usize = 50;
const INTERFERENCES: usize = 200;

/// All that there is of some tenants: their objects on the engine, what has their names, and their folders on the host.
fn everything_of(world: &World, tenants: &BTreeSet<&str>) -> String {
    let is_its = |label: &Value, name: &Value| {
        let name = name.as_str().unwrap_or_default().trim_start_matches('/');
        let named = name.strip_prefix("tenantd-").map(|name| name.strip_suffix(".new").unwrap_or(name));
        label.as_str().or(named).is_some_and(|tenant| tenants.contains(tenant))
            || named.is_some_and(|tenant| tenants.contains(tenant))
    };
    let mut all = String::new();
    for doc in
        world.engine.containers().iter().filter(|doc| is_its(&doc["Config"]["Labels"][TENANT_LABEL], &doc["Name"]))
    {
        // What is not ours is never touched, and not looked into.
        let is_ours = doc["Config"]["Labels"].get(TENANT_LABEL).is_some();
        all += &if is_ours { format!("{doc}\n") } else { format!("{} {}\n", doc["Id"], doc["State"]["Status"]) };
    }
    for mut doc in world.engine.networks().into_iter().filter(|doc| is_its(&doc["Labels"][TENANT_LABEL], &doc["Name"]))
    {
        // One that is stopped is still on it, and there again when it starts.
        doc["Containers"] = Value::Null;
        let is_on = |container: &&Value| {
            let networks = container["NetworkSettings"]["Networks"].as_object();
            networks.is_some_and(|all| all.values().any(|endpoint| endpoint["NetworkID"] == doc["Id"]))
        };
        let containers = world.engine.containers();
        let members: Vec<&Value> = containers.iter().filter(is_on).map(|container| &container["Id"]).collect();
        let is_ours = doc["Labels"].get(TENANT_LABEL).is_some();
        all += &if is_ours { format!("{doc} {members:?}\n") } else { format!("{}\n", doc["Id"]) };
    }
    for tenant in tenants {
        for folder in [world.workspace(tenant), world.host.files(tenant)] {
            describe(&folder, &mut all);
        }
    }
    all
}

fn describe(path: &Path, all: &mut String) {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    let content = if metadata.is_file() { fs::read(path).unwrap() } else { Vec::new() };
    *all += &format!("{} {:o} {} {} {content:?}\n", path.display(), metadata.mode(), metadata.uid(), metadata.nlink());
    if metadata.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| describe(entry, all));
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// 10,000 interferences, none of which is overlooked: where a plan is not refused, all that it touches is as it was,
/// and it does just what was saved.
#[test]
fn no_interference_makes_a_saved_plan_do_anything_else() {
    let mut runner = TestRunner::new(Config::default());
    let (mut refused, mut done) = (0, 0);
    for _ in 0..STORIES {
        let story = any_story().new_tree(&mut runner).unwrap().current();
        let (world, desired) = (spoiled(&story), story.desired);
        let (planned, observed) = world.try_plan(&desired).unwrap();
        let saved = Saved::new(&planned, &desired, &observed, "main", &"a".repeat(40), None);
        let touched: BTreeSet<&str> = saved.tenants.keys().map(String::as_str).collect();
        let before = everything_of(&world, &touched);
        let kept = world.engine.with(|state| state.keep());
        let copied = world.folder().join("copy");
        copy(&world.host.data_root, &copied);
        for number in 0..INTERFERENCES {
            let times = 1 + number % 2;
            let mut what = Vec::new();
            for time in 0..times {
                let one = (0..NAMES.len(), spoil()).new_tree(&mut runner).unwrap().current();
                befall(&world, NAMES[one.0], NAMES[(one.0 + 1) % NAMES.len()], &one.1, 1000 + number * 2 + time);
                what.push(one);
            }
            let (now, seen) = world.try_plan(&desired).unwrap();
            let moved = saved.moved(&now, &desired, &seen);
            let mut is_changed = what.iter().any(|(_, spoil)| on_disk(spoil));
            if moved.is_empty() {
                assert!(before == everything_of(&world, &touched), "{what:?} was overlooked");
                let mut part = now.clone();
                part.tenants.retain(|tenant| touched.contains(tenant.tenant.as_str()));
                let steps = |plan: &tenantd::model::Plan| -> Vec<_> {
                    let wanted = plan.tenants.iter().filter(|tenant| touched.contains(tenant.tenant.as_str()));
                    wanted.map(|tenant| (tenant.contain.clone(), tenant.steps.clone())).collect()
                };
                assert!(steps(&planned) == steps(&now), "{what:?} leads to other steps:\n{}", text(&now));
                if done % 20 == 0 && !part.is_empty() {
                    let run = world.carry_out(part).unwrap();
                    assert_eq!(run.failures(), Vec::<String>::new(), "{what:?}");
                    assert!(run.steps.iter().all(|(tenant, _)| touched.contains(tenant.as_str())), "{what:?}");
                    let after = world.plan(&desired);
                    // One that was blocked may be free now.
                    let is_done =
                        |name: &str| touched.contains(name) && planned.blocked().all(|(blocked, _)| blocked != name);
                    let left = after.tenants.iter().filter(|it| is_done(&it.tenant) && it.will_change());
                    assert_eq!(left.count(), 0, "{what:?}\n{}", text(&after));
                    is_changed = true;
                }
                done += 1;
            } else {
                refused += 1;
            }
            world.engine.with(|state| state.restore(&kept));
            if is_changed {
                copy(&copied, &world.host.data_root);
            }
        }
        let (now, seen) = world.try_plan(&desired).unwrap();
        assert_eq!(saved.moved(&now, &desired, &seen), Vec::<String>::new(), "nothing has moved");
        assert!(plan::plan(&desired, &world.host, &seen) == now);
    }
    assert_eq!(refused + done, STORIES * INTERFERENCES);
    assert!(refused > 1000 && done > 1000, "{refused} refused, {done} not");
}

/// Whether it changes what lies on the host.
fn on_disk(spoil: &Spoil) -> bool {
    matches!(
        spoil,
        Spoil::RemoveWorkspace
            | Spoil::OpenWorkspace
            | Spoil::LinkWorkspace
            | Spoil::WriteConfig(_)
            | Spoil::LinkConfig(_)
            | Spoil::RemoveConfig
    )
}
