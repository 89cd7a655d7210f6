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
    lookalikes,
    properties::{NAMES, Tampering, any_story, apply_tampering, tamper, tampered},
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
    lookalikes::commit(&cli.world, "tenantd-ant", "x:1");
    lookalikes::run(&cli.world, "mydebug", "x:1", "bridge", json!({}));
    let ended = cli.apply_saved().with(0);
    assert!(ended.out.contains("1 tenant converged"), "{}", ended.out);
    assert_eq!(cli.world.state("mydebug"), "running");
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
        world.foreign("foreign", "bridge");
        world.act("POST", "/networks/tenantd-ant/connect", json!({"Container": "foreign"}));
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
    bad(&text.replace("\"version\": 2", "\"version\": 1"), "of version 1, and this tenantd carries out version 2");
    let ended = cli.run(&["apply", &path, "--tenant", "ant"]).with(1);
    assert!(ended.err.contains("it is"), "{}", ended.err);
    cli.on_repo("plan", &["--out", &path, "--worktree"]).with(2);
}

/// Every way to take one thing out of a document, to have it twice, or to have it somewhere else.
fn edits(value: &Value, whole: &dyn Fn(Value) -> Value, edited: &mut Vec<Value>) {
    match value {
        Value::Object(entries) => {
            for (key, below) in entries {
                let mut without = entries.clone();
                without.remove(key);
                edited.push(whole(Value::Object(without)));
                let mut again = entries.clone();
                again.insert(format!("{key}2"), below.clone());
                edited.push(whole(Value::Object(again)));
                edits(
                    below,
                    &|below| {
                        let mut entries = entries.clone();
                        entries.insert(key.clone(), below);
                        whole(Value::Object(entries))
                    },
                    edited,
                );
            }
        }
        Value::Array(items) => {
            for (place, below) in items.iter().enumerate() {
                let with = |change: &dyn Fn(&mut Vec<Value>)| {
                    let mut items = items.clone();
                    change(&mut items);
                    whole(Value::Array(items))
                };
                edited.push(with(&|items| drop(items.remove(place))));
                edited.push(with(&|items| items.insert(place, below.clone())));
                if place > 0 && items[place - 1] != *below {
                    edited.push(with(&|items| items.swap(place - 1, place)));
                }
                edits(below, &|below| with(&|items| items[place] = below.clone()), edited);
            }
        }
        Value::String(text) => edited.push(whole(json!(format!("{text}0")))),
        other => edited.push(whole(json!([other]))),
    }
}

/// Two tenants that a plan changes, and one that it leaves.
fn three() -> (Cli, String) {
    let cli = Cli::new(&["ant", "bee", "cat"]);
    cli.apply().with(0);
    cli.tenant("ant", "limits: {memory: 64MiB}\n");
    cli.tenant("bee", "limits: {memory: 64MiB}\n");
    cli.commit();
    cli.save(&[]);
    let text = fs::read_to_string(cli.saved_path()).unwrap();
    (cli, text)
}

#[test]
fn whatever_is_taken_out_of_the_file_doubled_or_moved_it_is_refused() {
    let (cli, text) = three();
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut edited = Vec::new();
    edits(&document, &|value| value, &mut edited);
    assert!(edited.len() > 300, "{}", edited.len());
    for value in &edited {
        assert!(plan::saved::open(&format!("{value:#}\n")).is_err(), "{value:#}");
    }
    // As the command has it, with those that bear on what is done.
    let saved = |act: &dyn Fn(&mut Value)| {
        let mut document = document.clone();
        act(&mut document["saved"]);
        format!("{document:#}\n")
    };
    let without = |what: &'static str, name: &'static str| {
        saved(&move |saved| drop(saved[what].as_object_mut().unwrap().remove(name)))
    };
    let texts = [
        without("tenants", "bee"),
        without("others", "cat"),
        saved(&|saved| saved["tenant"] = json!("ant")),
        // The same to a reader of JSON, and not what was written.
        text.replacen("\"saved\": {", "\"saved\": {\n    \"rev\": \"HEAD\",", 1),
        text.replacen("{\n", "{\n\n", 1),
        text.trim_end().to_owned(),
    ];
    for text in texts {
        assert_ne!(text, fs::read_to_string(cli.saved_path()).unwrap());
        let before = cli.world.engine.mutations();
        let kept = fs::read_to_string(cli.saved_path()).unwrap();
        fs::write(cli.saved_path(), &text).unwrap();
        let ended = cli.apply_saved().with(1);
        assert!(ended.err.contains("cannot use") && ended.err.contains("is"), "{}", ended.err);
        assert_eq!(cli.world.engine.mutations(), before);
        fs::write(cli.saved_path(), kept).unwrap();
    }
    assert!(cli.apply_saved().with(0).out.contains("2 tenants converged"));
}

#[test]
fn what_was_taken_out_is_missed_even_under_a_right_id() {
    let (cli, text) = three();
    let document: Value = serde_json::from_str(&text).unwrap();
    let (saved, id) = plan::saved::open(&text).unwrap();
    assert!(id.starts_with(&saved.commit[..12]) && id.len() == 45, "{id}");
    let refused = |act: &dyn Fn(&mut Saved), why: &str| {
        let mut edited = saved.clone();
        act(&mut edited);
        let mut document = document.clone();
        document["saved"] = Value::Null;
        let (text, other) = plan::saved::seal(document, &edited);
        assert_ne!(other, id);
        fs::write(cli.saved_path(), text).unwrap();
        cli.refused(why);
        // Who kept the id that was agreed to need not even look.
        let ended =
            cli.run(&["apply", &cli.saved_path(), "--repo", cli.repo.to_str().unwrap(), "--plan-id", &id]).with(1);
        assert!(ended.err.contains("--plan-id names another"), "{}", ended.err);
    };
    refused(&|saved| drop(saved.tenants.remove("bee")), "tenant bee is not in the file");
    refused(&|saved| saved.tenants.clear(), "tenant ant is not in the file");
    refused(&|saved| drop(saved.others.remove("cat")), "tenant cat is not in the file");
    refused(
        &|saved| {
            let bee = saved.tenants.remove("bee").unwrap();
            let all = serde_json::to_vec(&bee.objects).unwrap();
            saved.others.insert("bee".to_owned(), tenantd::model::files::digest(&all));
        },
        "tenant bee: there are steps for it that the plan does not have, and nothing of it has changed",
    );
    refused(&|saved| drop(saved.others.insert("bee".to_owned(), "0".repeat(64))), "tenant bee is in the file twice");
    refused(
        &|saved| saved.tenant = Some("ant".to_owned()),
        "tenant bee is in the file, which is for another one alone",
    );
    for object in saved.tenants["bee"].objects.keys() {
        refused(&|saved| drop(saved.tenants.get_mut("bee").unwrap().objects.remove(object)), " is new");
    }
    refused(&|saved| saved.tenants.get_mut("bee").unwrap().steps.push('0'), "other steps lead to the same now");

    fs::write(cli.saved_path(), &text).unwrap();
    let repo = cli.repo.to_str().unwrap();
    cli.run(&["apply", &cli.saved_path(), "--repo", repo, "--plan-id", &id[..20]]).with(1);
    cli.run(&["apply", repo, "--yes", "--plan-id", &id]).with(1);
    cli.run(&["apply", &cli.saved_path(), "--repo", repo, "--plan-id", &id]).with(0);
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

/// Makes one folder what another is, or is not: where all tenants are blocked there is no data root.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    if !from.exists() {
        return;
    }
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
        let (world, desired) = (tampered(&story), story.desired);
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
                let one = (0..NAMES.len(), tamper()).new_tree(&mut runner).unwrap().current();
                apply_tampering(
                    &world,
                    NAMES[one.0],
                    NAMES[(one.0 + 1) % NAMES.len()],
                    &one.1,
                    1000 + number * 2 + time,
                );
                what.push(one);
            }
            let (now, seen) = world.try_plan(&desired).unwrap();
            let moved = saved.moved(&now, &desired, &seen);
            let mut is_changed = what.iter().any(|(_, tamper)| on_disk(tamper));
            if moved.is_empty() {
                assert!(before == everything_of(&world, &touched), "{what:?} was overlooked");
                let mut part = now.clone();
                part.tenants.retain(|tenant| touched.contains(tenant.tenant.as_str()));
                let steps = |plan: &tenantd::model::Plan| -> Vec<_> {
                    let wanted = plan.tenants.iter().filter(|tenant| touched.contains(tenant.tenant.as_str()));
                    wanted.map(|tenant| tenant.all_steps().cloned().collect::<Vec<_>>()).collect()
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
fn on_disk(tamper: &Tampering) -> bool {
    matches!(
        tamper,
        Tampering::RemoveWorkspace
            | Tampering::OpenWorkspace
            | Tampering::LinkWorkspace
            | Tampering::WriteConfig(_)
            | Tampering::LinkConfig(_)
            | Tampering::RemoveConfig
    )
}
