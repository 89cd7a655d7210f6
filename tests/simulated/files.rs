//! Config files: what a plan does about them, and what is then on the host.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use serde_json::Value;
use tenantd::model::{Step, Tenant, files::Apply};

use crate::world::{Run, World, config_file, fleet, tenant, text};

/// A tenant with one file of each kind.
fn ant(restart: &str, in_place: &str) -> Tenant {
    let files =
        [config_file("agent/rules.md", in_place, Apply::InPlace), config_file("agent.json", restart, Apply::Restart)];
    Tenant { files: files.into(), ..tenant("ant") }
}

fn identity(world: &World) -> Vec<String> {
    world.ids().remove("ant").unwrap_or_default()
}

/// What the tenant's container would read.
fn read(world: &World, path: &str) -> String {
    let mounts = world.engine.with(|state| state.container("tenantd-ant").unwrap()["Mounts"].clone());
    let mount = mounts.as_array().unwrap().iter().find(|mount| mount["Destination"] == "/config").cloned();
    let mount = mount.unwrap();
    assert_eq!(mount["RW"], Value::Bool(false));
    fs::read_to_string(Path::new(mount["Source"].as_str().unwrap()).join(path)).unwrap()
}

fn writes(run: &Run) -> usize {
    run.steps.iter().filter(|(_, step)| matches!(step, Step::WriteFiles { .. })).count()
}

#[test]
fn a_changed_file_is_applied_as_it_says() {
    let world = World::new();
    world.converge(&fleet([ant("one", "first")]));
    assert_eq!((read(&world, "agent.json"), read(&world, "agent/rules.md")), ("one".to_owned(), "first".to_owned()));
    let first = identity(&world);

    let run = world.converge(&fleet([ant("one", "second")]));
    assert!(text(&run.plan).contains("files.ant will be updated in-place"), "{}", text(&run.plan));
    assert_eq!((read(&world, "agent/rules.md").as_str(), writes(&run)), ("second", 1));
    assert_eq!(identity(&world), first, "it runs on");

    let run = world.converge(&fleet([ant("two", "second")]));
    assert!(text(&run.plan).contains("changed files are applied by a restart"), "{}", text(&run.plan));
    assert_eq!((read(&world, "agent.json").as_str(), writes(&run)), ("two", 1));
    let second = identity(&world);
    assert_ne!(second, first);
    let order: Vec<&Step> = run.steps.iter().map(|(_, step)| step).collect();
    let place = |wanted: fn(&Step) -> bool| order.iter().position(|step| wanted(step)).unwrap();
    assert!(place(|step| matches!(step, Step::Remove { .. })) < place(|step| matches!(step, Step::WriteFiles { .. })));
    assert!(
        place(|step| matches!(step, Step::WriteFiles { .. }))
            < place(|step| matches!(step, Step::CreateContainer { .. }))
    );

    // One that goes is applied like those that stay.
    let only = |apply| Tenant { files: vec![config_file("agent/rules.md", "second", apply)], ..tenant("ant") };
    world.converge(&fleet([only(Apply::InPlace)]));
    assert_eq!(identity(&world), second);
    assert!(!world.host.files("ant").join("agent.json").exists());

    world.converge(&fleet([tenant("ant")]));
    assert!(!world.host.files("ant").exists());
    assert_ne!(identity(&world), second);
}

#[test]
fn what_somebody_did_to_files_is_found_and_put_right() {
    let world = World::new();
    let declared = fleet([ant("one", "first")]);
    world.converge(&declared);
    let folder = world.host.files("ant");
    let victim = world.folder().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("precious"), "precious").unwrap();
    type Change = Box<dyn Fn()>;
    let at = |path: &str| folder.join(path);
    let (file, rules) = (at("agent.json"), at("agent/rules.md"));
    let remove = |path: &Path| drop(fs::remove_dir_all(path).or_else(|_| fs::remove_file(path)));
    let cases: Vec<(&str, &str, Change)> = vec![
        (
            "content",
            "~ content",
            Box::new({
                let file = file.clone();
                move || fs::write(&file, "mine").unwrap()
            }),
        ),
        (
            "in place",
            "~ content",
            Box::new({
                let rules = rules.clone();
                move || fs::write(&rules, "mine").unwrap()
            }),
        ),
        (
            "removed",
            "~ content",
            Box::new({
                let file = file.clone();
                move || fs::remove_file(&file).unwrap()
            }),
        ),
        (
            "mode",
            "have set its mode",
            Box::new({
                let file = file.clone();
                move || fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap()
            }),
        ),
        (
            "folder's mode",
            "its mode",
            Box::new({
                let folder = folder.clone();
                move || fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap()
            }),
        ),
        (
            "owner",
            "belong to root",
            Box::new({
                let file = file.clone();
                move || std::os::unix::fs::chown(&file, Some(1000), None).unwrap()
            }),
        ),
        (
            "hard link",
            "another name",
            Box::new({
                let (file, victim) = (file.clone(), victim.clone());
                move || fs::hard_link(&file, victim.join("agent")).unwrap()
            }),
        ),
        (
            "hard link to the host's",
            "content",
            Box::new({
                let (file, victim) = (file.clone(), victim.clone());
                move || {
                    remove(&file);
                    fs::hard_link(victim.join("precious"), &file).unwrap()
                }
            }),
        ),
        (
            "link",
            "symbolic link",
            Box::new({
                let (file, victim) = (file.clone(), victim.clone());
                move || {
                    remove(&file);
                    symlink(victim.join("precious"), &file).unwrap()
                }
            }),
        ),
        (
            "link in place of a folder",
            "symbolic link",
            Box::new({
                let (rules, victim) = (at("agent"), victim.clone());
                move || {
                    remove(&rules);
                    symlink(&victim, &rules).unwrap()
                }
            }),
        ),
        (
            "link beside",
            "symbolic link",
            Box::new({
                let (new, victim) = (at("more"), victim.clone());
                move || symlink(&victim, &new).unwrap()
            }),
        ),
        (
            "folder beside",
            "content",
            Box::new({
                let new = at("a/b/c");
                move || {
                    fs::create_dir_all(&new).unwrap();
                    fs::write(new.join("d"), "").unwrap()
                }
            }),
        ),
        (
            "file in place of a folder",
            "content",
            Box::new({
                let rules = at("agent");
                move || {
                    remove(&rules);
                    fs::write(&rules, "").unwrap()
                }
            }),
        ),
        (
            "folder in place of a file",
            "content",
            Box::new({
                let file = file.clone();
                move || {
                    remove(&file);
                    fs::create_dir(&file).unwrap()
                }
            }),
        ),
        (
            "socket",
            "a device, a pipe or a socket",
            Box::new({
                let new = at("socket");
                move || drop(std::os::unix::net::UnixListener::bind(&new).unwrap())
            }),
        ),
        (
            "all of it",
            "content",
            Box::new({
                let folder = folder.clone();
                move || remove(&folder)
            }),
        ),
        (
            "a link in place of all",
            "a link or a file",
            Box::new({
                let (folder, victim) = (folder.clone(), victim.clone());
                move || {
                    remove(&folder);
                    symlink(&victim, &folder).unwrap()
                }
            }),
        ),
    ];
    for (name, shown, tamper) in cases {
        tamper();
        let run = world.converge(&declared);
        let plan = text(&run.plan);
        assert!(plan.contains(shown) && plan.contains("drift"), "{name}:\n{plan}");
        assert_eq!(
            (read(&world, "agent.json").as_str(), read(&world, "agent/rules.md").as_str()),
            ("one", "first"),
            "{name}"
        );
        let mode = |path: &Path| fs::symlink_metadata(path).map(|found| (found.uid(), found.mode() & 0o7777)).unwrap();
        assert_eq!((mode(&folder), mode(&file)), ((0, 0o755), (0, 0o444)), "{name}");
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{name}: {names:?}");
        assert_eq!(
            fs::read_to_string(victim.join("precious")).unwrap(),
            "precious",
            "{name}: nothing of the host is touched"
        );
        assert_eq!(fs::symlink_metadata(victim.join("precious")).unwrap().mode() & 0o7777, 0o644, "{name}");
    }
}

#[test]
fn a_tenant_that_goes_leaves_no_files() {
    let world = World::new();
    world.converge(&fleet([ant("one", "first"), tenant("bee")]));
    world.converge(&fleet([tenant("bee")]));
    assert_eq!(fs::read_dir(world.host.data_root.join("files")).unwrap().count(), 0);
}

#[test]
fn an_apply_that_was_cut_off_is_gone_on_with() {
    let world = World::new();
    world.converge(&fleet([ant("one", "first")]));
    let plan = world.plan(&fleet([ant("two", "second")]));
    // All but the last of the steps up to where files are written, or up to the note of them.
    let folder = world.host.data_root.join("files");
    let noted = fs::read_to_string(folder.join("ant.sha256")).unwrap();
    world.carry_out(plan).unwrap();
    fs::write(folder.join("ant.sha256"), noted).unwrap();
    fs::write(folder.join(".ant.new"), "half").unwrap();
    let before = identity(&world);
    world.converge(&fleet([ant("two", "second")]));
    assert_eq!(identity(&world), before, "only the note is written again");
}
