//! What is planned for a workspace, by what was found of it. No engine and no mount is needed for that.

use tenantd::{
    model::{
        Bytes, Host, Observed, Step, Tenant, TenantPlan,
        observed::{EngineFacts, ImageFacts, ImageState as Reference},
        plan::Note,
        workspace::{
            Backend, DeclaredVolume, Disk, Folder, FoundVolume, FoundWorkspace, Mounted, ObservedWorkspaces,
            OperatorRequest, Owner, RequestedAction, Restore, Unenforced, VolumeSpec, VolumeState, WorkspaceCapability,
            WorkspacePath,
        },
    },
    plan,
};

use crate::world::{IMAGE, fleet, tenant};

const MIB: u64 = 1 << 20;

/// A host that makes images, and what was found of the tenant `ant` there.
fn observed(found: FoundWorkspace) -> Observed {
    let engine = EngineFacts {
        cpus: "2".parse().unwrap(),
        runtimes: ["runc".to_owned()].into(),
        seccomp: true,
        ..EngineFacts::default()
    };
    let images = [(IMAGE.to_owned(), Reference::Present(ImageFacts::default()))].into();
    let workspaces = ObservedWorkspaces {
        capability: WorkspaceCapability {
            backend: Backend::Image,
            why: "a test says so".to_owned(),
            ..WorkspaceCapability::default()
        },
        found: [("ant".to_owned(), found)].into(),
        disk: Some(Disk { size: 100 << 30, free: 50 << 30 }),
        ..ObservedWorkspaces::default()
    };
    Observed { engine, images, workspaces, ..Observed::default() }
}

/// A tenant of 64 MiB, with room for 2 GiB.
fn ant() -> Tenant {
    let mut ant = tenant("ant");
    ant.limits.disk = Bytes::mib(64);
    ant
}

fn planned(ant: Tenant, observed: &Observed) -> TenantPlan {
    plan::plan(&fleet([ant]), &Host::default(), observed).tenants.remove(0)
}

/// A mounted image, all of it as declared.
fn mounted() -> Mounted {
    Mounted {
        capacity: Some(2100 * MIB),
        limit: Some(64 * MIB),
        used: 10 * MIB,
        declared: Some(DeclaredVolume { limit: 64 * MIB, noexec: false }),
        noexec: false,
        confined: true,
        files: Some(Folder::proper(Owner::TENANT)),
    }
}

fn image(state: VolumeState) -> FoundWorkspace {
    let volume = FoundVolume { backend: Backend::Image, length: Some(2200 * MIB), allocated: 12 * MIB, state };
    FoundWorkspace { place: WorkspacePath::Link, volume: Some(volume), request: None }
}

/// The steps that concern the workspace, by a word for each.
fn steps(plan: &TenantPlan) -> Vec<&'static str> {
    let word = |step: &Step| match step {
        Step::PrepareWorkspace { .. } => Some("folder"),
        Step::MakeVolume { .. } => Some("make"),
        Step::MountVolume { .. } => Some("mount"),
        Step::UnmountVolume { .. } => Some("unmount"),
        Step::ResizeVolume { .. } => Some("resize"),
        Step::GrowImage { .. } => Some("grow"),
        Step::RescueImage { .. } => Some("rescue"),
        Step::RepairImage { .. } => Some("repair"),
        Step::MoveIntoVolume { .. } => Some("move"),
        Step::RestoreWorkspace { .. } => Some("restore"),
        Step::DeleteArchived { .. } => Some("delete"),
        Step::ArchiveWorkspace { .. } => Some("archive"),
        _ => None,
    };
    plan.steps.iter().filter_map(|planned| word(&planned.step)).collect()
}

fn code(plan: &TenantPlan) -> &str {
    plan.blocked.as_ref().map_or("", |blocked| blocked.code.as_str())
}

#[test]
fn each_state_of_an_image_leads_to_its_steps() {
    let damaged = || VolumeState::Damaged { reason: "holes".to_owned(), mounted: false };
    let requested = |found: FoundWorkspace| FoundWorkspace {
        request: Some(OperatorRequest { what: RequestedAction::Repair, by: "ada".to_owned() }),
        ..found
    };
    let old =
        FoundWorkspace { place: WorkspacePath::Folder(Folder::proper(Owner::TENANT)), ..FoundWorkspace::default() };
    let half = FoundWorkspace { place: old.place, ..image(VolumeState::Mounted(mounted())) };
    let table: Vec<(&str, FoundWorkspace, &str, &[&str])> = vec![
        ("nothing", FoundWorkspace::default(), "", &["make", "mount"]),
        ("in order", image(VolumeState::Mounted(mounted())), "", &[]),
        ("lost", image(VolumeState::Unmounted { covered: None }), "", &["mount"]),
        ("covered", image(VolumeState::Unmounted { covered: Some("tmpfs".to_owned()) }), "", &["mount"]),
        ("removed", image(VolumeState::Gone { attached: false }), "workspace-gone", &[]),
        ("removed and open", image(VolumeState::Gone { attached: true }), "workspace-gone", &[]),
        (
            "a link to nothing",
            FoundWorkspace { place: WorkspacePath::Link, ..FoundWorkspace::default() },
            "workspace-gone",
            &[],
        ),
        (
            "to be written back",
            requested(image(VolumeState::Gone { attached: true })),
            "",
            &["rescue", "repair", "mount"],
        ),
        ("damaged", image(damaged()), "workspace-damaged", &[]),
        ("to be repaired", requested(image(damaged())), "", &["repair", "mount"]),
        ("a folder", old, "", &["make", "mount", "move", "mount"]),
        ("half moved", half, "", &["mount", "move", "mount"]),
        (
            "a file",
            FoundWorkspace { place: WorkspacePath::Other, ..FoundWorkspace::default() },
            "workspace-not-a-folder",
            &[],
        ),
    ];
    for (what, found, blocked, expected) in table {
        let plan = planned(ant(), &observed(found));
        assert_eq!((code(&plan), steps(&plan)), (blocked, expected.to_vec()), "{what}");
    }
}

#[test]
fn each_difference_of_a_mounted_image_is_named_and_put_right() {
    type Change = fn(&mut Mounted);
    let table: [(&str, Change, &str); 7] = [
        ("limit", |found| found.limit = Some(65 * MIB), "resize"),
        ("limit", |found| found.declared = None, "resize"),
        ("noexec", |found| found.noexec = true, "mount"),
        ("options", |found| found.confined = false, "mount"),
        ("folder", |found| found.files = None, "mount"),
        ("mode", |found| found.files = Some(Folder { uid: 1000, mode: 0o755 }), "mount"),
        ("uid", |found| found.files = Some(Folder { uid: 0, mode: 0o700 }), "mount"),
    ];
    for (name, change, expected) in table {
        let mut found = mounted();
        change(&mut found);
        let plan = planned(ant(), &observed(image(VolumeState::Mounted(found))));
        assert_eq!((code(&plan), steps(&plan)), ("", vec![expected]), "{name}");
        assert_eq!(plan.changes[0].attributes.iter().map(|a| a.attribute.name).collect::<Vec<_>>(), [name]);
    }
}

#[test]
fn a_limit_is_refused_below_what_is_used_and_beyond_the_image_it_needs_the_tenant_stopped() {
    let of = |limit: u64, used: u64| {
        let mut ant = ant();
        ant.limits.disk = Bytes::new(limit);
        planned(ant, &observed(image(VolumeState::Mounted(Mounted { used, ..mounted() }))))
    };
    let plan = of(32 * MIB, 40 * MIB);
    assert_eq!(code(&plan), "disk-in-use");
    assert!(plan.blocked.unwrap().reason.contains("8MiB too many"));
    assert_eq!(steps(&of(40 * MIB, 40 * MIB)), ["resize"], "what is used is enough");
    assert_eq!(steps(&of(2000 * MIB, 40 * MIB)), ["resize"]);
    assert_eq!(steps(&of(3000 * MIB, 40 * MIB)), ["grow", "mount"]);
    // More than is used already, as after a full disk: nothing is refused that does not shrink.
    assert_eq!(code(&of(64 * MIB, 70 * MIB)), "");
}

#[test]
fn who_fills_its_workspace_holds_up_its_disk_limit_and_nothing_else() {
    let full = |limit: u64| Mounted { used: 40 * MIB, limit: Some(limit), ..mounted() };
    let of = |ant: Tenant, found: Mounted, change: fn(&mut Observed)| {
        let mut observed = observed(image(VolumeState::Mounted(found)));
        change(&mut observed);
        planned(ant, &observed)
    };
    let mut less = ant();
    less.limits.disk = Bytes::new(32 * MIB);
    let as_it_is: fn(&mut Observed) = |_| {};
    let plan = of(less.clone(), full(64 * MIB), as_it_is);
    assert_eq!((code(&plan), steps(&plan)), ("disk-in-use", Vec::new()));
    assert!(
        plan.steps.iter().any(|planned| matches!(planned.step, Step::CreateContainer { .. })),
        "all else is carried out"
    );
    assert!(!plan.is_stopped());
    // What else its workspace must have is set, within the limit that it had.
    let limit_of = |plan: &TenantPlan| {
        plan.steps.iter().find_map(|planned| match &planned.step {
            Step::MountVolume { spec, .. } | Step::ResizeVolume { spec, .. } => Some(spec.limit.get()),
            _ => None,
        })
    };
    let mut noexec = less.clone();
    noexec.sandbox.workspace_noexec = true;
    let plan = of(noexec, full(64 * MIB), as_it_is);
    assert_eq!((code(&plan), steps(&plan), limit_of(&plan)), ("disk-in-use", vec!["mount"], Some(64 * MIB)));
    // What somebody raised by hand does not become its limit by that.
    let plan = of(less.clone(), full(1000 * MIB), as_it_is);
    assert_eq!((code(&plan), steps(&plan), limit_of(&plan)), ("disk-in-use", vec!["resize"], Some(64 * MIB)));
    // Whatever else is in the way still stops it.
    let plan = of(less.clone(), full(64 * MIB), |observed| observed.images.clear());
    assert_eq!((code(&plan), plan.steps.len()), ("image-missing", 0));
    let plan = of(less, full(64 * MIB), |observed| observed.engine.seccomp = false);
    assert_eq!((code(&plan), plan.steps.len()), ("seccomp-unsupported", 0));
}

/// A mounted subvolume, all of it as declared.
fn subvolume(limit: Option<u64>, used: u64) -> FoundWorkspace {
    let state = VolumeState::Mounted(Mounted { capacity: None, limit, used, ..mounted() });
    let volume = FoundVolume { backend: Backend::Btrfs, length: None, allocated: used, state };
    FoundWorkspace { place: WorkspacePath::Link, volume: Some(volume), request: None }
}

#[test]
fn a_subvolume_takes_any_limit_while_its_tenant_runs() {
    let of = |wanted: u64, found: Option<u64>, used: u64| {
        let mut ant = ant();
        ant.limits.disk = Bytes::new(wanted);
        planned(ant, &observed(subvolume(found, used)))
    };
    let declared = Some(64 * MIB);
    assert_eq!(steps(&of(64 * MIB, declared, 10 * MIB)), [""; 0], "an image's host leaves it what it is");
    assert_eq!(steps(&of(3000 * MIB, declared, 10 * MIB)), ["resize"], "beyond any image");
    let plan = of(32 * MIB, declared, 40 * MIB);
    assert_eq!(code(&plan), "disk-in-use");
    assert!(plan.blocked.unwrap().reason.contains("8MiB too many"));
    for taken in [None, Some(500 * MIB)] {
        let plan = of(64 * MIB, taken, 70 * MIB);
        assert_eq!((code(&plan), steps(&plan)), ("", vec!["resize"]), "what somebody changed is put back");
        assert!(plan.changes[0].attributes[0].weakens);
    }
}

#[test]
fn a_workspace_stays_in_what_it_is_kept_in() {
    let with = |backend: Backend, found: FoundWorkspace, restore: Option<&str>, lack: Option<Backend>| {
        let mut observed = observed(found);
        observed.workspaces.capability.backend = backend;
        observed.workspaces.capability.lacks =
            lack.into_iter().map(|lack| (lack, "a test says so".to_owned())).collect();
        observed.workspaces.archived = restore.into_iter().map(str::to_owned).collect();
        planned(Tenant { restore: restore.map(|name| Restore::Entry(name.to_owned())), ..ant() }, &observed)
    };
    let made = |plan: &TenantPlan| {
        plan.steps.iter().find_map(|planned| match &planned.step {
            Step::MakeVolume { spec, .. } | Step::MountVolume { spec, .. } => Some(spec.backend),
            _ => None,
        })
    };
    let lost = image(VolumeState::Unmounted { covered: None });
    assert_eq!(made(&with(Backend::Btrfs, lost, None, None)), Some(Backend::Image), "an image stays one");
    assert_eq!(made(&with(Backend::Btrfs, FoundWorkspace::default(), None, None)), Some(Backend::Btrfs));
    for (archived, kept_in) in [("ant.1.abc.img", Backend::Image), ("ant.1.abc.subvol", Backend::Btrfs)] {
        for backend in [Backend::Image, Backend::Btrfs, Backend::Folder] {
            let plan = with(backend, FoundWorkspace::default(), Some(archived), None);
            assert_eq!(
                (steps(&plan), made(&plan)),
                (vec!["restore", "mount"], Some(kept_in)),
                "{archived}, {backend:?}"
            );
        }
        let plan = with(Backend::Folder, FoundWorkspace::default(), Some(archived), Some(kept_in));
        assert_eq!(code(&plan), "disk-unenforced", "{archived} cannot be used");
    }
    let damaged = VolumeState::Damaged { reason: "it is no subvolume".to_owned(), mounted: false };
    let volume = FoundVolume { backend: Backend::Btrfs, length: None, allocated: 0, state: damaged };
    let request = Some(OperatorRequest { what: RequestedAction::Repair, by: "ada".to_owned() });
    let found = FoundWorkspace { place: WorkspacePath::Link, volume: Some(volume), request };
    assert_eq!(code(&with(Backend::Btrfs, found, None, None)), "workspace-damaged", "no program puts one right");
}

#[test]
fn what_is_archived_is_restored_only_when_somebody_says_so() {
    let with = |restore: Option<Restore>, request: Option<RequestedAction>, archived: &[&str]| {
        let request = request.map(|what| OperatorRequest { what, by: "ada".to_owned() });
        let mut observed = observed(FoundWorkspace { request, ..FoundWorkspace::default() });
        observed.workspaces.archived = archived.iter().map(ToString::to_string).collect();
        planned(Tenant { restore, ..ant() }, &observed)
    };
    let (own, copy, others) = ("ant.1.abc.img", "ant.2.abc.damaged.img", "bee.1.abc.img");
    let entry = |name: &str| Some(Restore::Entry(name.to_owned()));
    assert_eq!(code(&with(None, None, &[own])), "workspace-archived");
    assert_eq!(code(&with(None, None, &[others, copy])), "", "what was another's, or a copy, asks nothing");
    assert_eq!(steps(&with(Some(Restore::Nothing), None, &[own])), ["make", "mount"]);
    assert_eq!(steps(&with(entry(own), None, &[own])), ["restore", "mount"]);
    assert_eq!(steps(&with(entry("ant.1.abc"), None, &["ant.1.abc"])), ["restore", "make", "mount", "move", "mount"]);
    assert_eq!(code(&with(entry(own), None, &[])), "workspace-archived", "what is gone cannot be given back");
    let restore = RequestedAction::Restore { name: others.to_owned() };
    assert_eq!(steps(&with(None, Some(restore), &[own])), ["restore", "mount"], "an operator may say so for any");
    let delete = RequestedAction::Delete { name: own.to_owned() };
    assert_eq!(steps(&with(Some(Restore::Nothing), Some(delete), &[own])), ["delete", "make", "mount"]);
}

#[test]
fn without_enforcement_a_tenant_is_blocked_unless_the_host_accepts_it() {
    let mut observed = observed(FoundWorkspace::default());
    observed.workspaces.capability = WorkspaceCapability {
        backend: Backend::Folder,
        why: "the program mke2fs is missing".to_owned(),
        ..WorkspaceCapability::default()
    };
    let mut host = Host::default();
    let plan = |host: &Host| plan::plan(&fleet([ant()]), host, &observed).tenants.remove(0);
    let refused = plan(&host);
    assert_eq!(code(&refused), "disk-unenforced");
    assert!(refused.blocked.unwrap().reason.contains("mke2fs is missing"), "it says why");
    host.workspaces.unenforced = Unenforced::Accept;
    let accepted = plan(&host);
    assert_eq!((code(&accepted), steps(&accepted)), ("", vec!["folder"]));
    assert_eq!(accepted.notes, [Note::DiskUnenforced]);
}

#[test]
fn a_commitment_beyond_the_disk_is_reported() {
    let observed = observed(image(VolumeState::Mounted(mounted())));
    let many = fleet((0..30).map(|number| tenant(&format!("t-{number}"))));
    let commitment = |host: &Host| plan::commitment(&many, host, &observed).unwrap();
    let mut host = Host::default();
    assert_eq!((commitment(&host).committed, commitment(&host).disk), (30 << 30, (50 << 30) + 12 * MIB));
    assert_eq!(commitment(&host).warning(), None);
    host.workspaces.overcommit = tenantd::model::host::Overcommit(50);
    assert!(commitment(&host).warning().unwrap().contains("commits 30GiB"));
}

#[test]
fn an_image_has_room_for_what_its_tier_allows_and_its_host() {
    let spec = |host: &Host, ant: Tenant| {
        let plan = plan::plan(&fleet([ant]), host, &observed(FoundWorkspace::default())).tenants.remove(0);
        plan.steps.iter().find_map(|planned| match &planned.step {
            Step::MakeVolume { spec, .. } => Some(*spec),
            _ => None,
        })
    };
    let mut host = Host::default();
    let expected = |room| {
        Some(VolumeSpec { backend: Backend::Image, limit: Bytes::mib(64), room, noexec: false, owner: Owner::TENANT })
    };
    assert_eq!(spec(&host, ant()), expected(Bytes::gib(2)));
    host.ceilings.disk = Some(Bytes::gib(1));
    assert_eq!(spec(&host, ant()), expected(Bytes::gib(1)));
}
