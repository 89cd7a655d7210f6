//! `GET /info` and the images.

use serde_json::{Map, Value, json};

use crate::Call;
use crate::options::{Image, Options, with_default_tag};
use crate::routes::{json_answer, template};
use crate::state::{Outcome, State, refuse};

pub(crate) fn info(state: &State) -> Outcome {
    let options = &state.options;
    let mut info = template(include_str!("../templates/info.json"));
    let count = |status: &str| state.containers().filter(|doc| doc["State"]["Status"] == status).count();
    let (running, paused) = (count("running"), count("paused"));
    let runtimes: Map<String, Value> =
        options.runtimes.iter().map(|runtime| (runtime.name.clone(), json!({"path": runtime.name}))).collect();
    let set = json!({
        "ID": options.id,
        "Containers": state.containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": state.containers.len() - running - paused,
        "Images": options.images.len(),
        "Runtimes": runtimes,
        "DefaultRuntime": options.default_runtime,
        "NCPU": options.cpus,
        "ServerVersion": options.version["Version"],
        "KernelVersion": options.version["KernelVersion"],
        "CgroupVersion": options.cgroup_version.to_string(),
        "MemoryLimit": options.limits.memory,
        "SwapLimit": options.limits.swap,
        "PidsLimit": options.limits.pids,
        "CpuCfsPeriod": options.limits.cpu,
        "CpuCfsQuota": options.limits.cpu,
        "CPUShares": options.limits.cpu,
        "SecurityOptions": security(options),
        "DockerRootDir": match options.userns {
            Some((uid, gid)) => format!("{}/{uid}.{gid}", options.root),
            None => options.root.clone(),
        },
        "Warnings": warnings(state),
    });
    for (key, value) in set.as_object().into_iter().flatten() {
        info[key] = value.clone();
    }
    json_answer(200, &info)
}

fn security(options: &Options) -> Vec<String> {
    let profile = if options.seccomp { "default" } else { "unconfined" };
    let seccomp = format!("name=seccomp,profile={}", options.seccomp_profile.as_deref().unwrap_or(profile));
    let others = [(options.selinux, "name=selinux"), (options.userns.is_some(), "name=userns")];
    let others = others.into_iter().filter(|(there, _)| *there).map(|(_, name)| name.to_owned());
    std::iter::once(seccomp).chain(others).collect()
}

fn warnings(state: &State) -> Option<Vec<&'static str>> {
    let limits = &state.options.limits;
    let all = [
        (limits.memory, "WARNING: No memory limit support"),
        (limits.swap, "WARNING: No swap limit support"),
        (limits.pids, "WARNING: No pids limit support"),
        (limits.cpu, "WARNING: No cpu cfs quota support"),
    ];
    let missing: Vec<_> = all.into_iter().filter(|(there, _)| !there).map(|(_, warning)| warning).collect();
    (!missing.is_empty()).then_some(missing)
}

pub(crate) fn image(state: &State, reference: &str) -> Outcome {
    let Some(image) = state.options.image(reference) else {
        return refuse(404, format!("no such image: {reference}: No such image: {}", with_default_tag(reference)));
    };
    json_answer(
        200,
        &json!({
            "Id": image.id(),
            "RepoTags": [image.reference],
            "RepoDigests": [image.digest()],
            "Created": "2024-01-01T00:00:00Z",
            "Architecture": "amd64",
            "Os": "linux",
            "Size": 762_352,
            "Config": image.config,
            "RootFS": {"Type": "layers", "Layers": [image.id()]},
        }),
    )
}

/// `POST /images/create?fromSrc=-`: an image out of an archive.
pub(crate) fn import(state: &mut State, call: &Call) -> Outcome {
    let part = |name: &str| call.parameter(name).unwrap_or_default();
    let config = json!({"Entrypoint": ["/selftest"], "Env": [part("changes")]});
    let image = Image { config, ..Image::new(&format!("{}:{}", part("repo"), part("tag"))) };
    let id = image.id();
    state.tag_image(image);
    json_answer(200, &json!({"status": id}))
}

pub(crate) fn remove_image(state: &mut State, reference: &str) -> Outcome {
    if state.options.image(reference).is_none() {
        return refuse(404, format!("No such image: {}", with_default_tag(reference)));
    }
    state.remove_image(reference);
    json_answer(200, &json!([{"Untagged": reference}]))
}

pub(crate) fn images(state: &State) -> Outcome {
    let summary = |image: &Image| {
        json!({
            "Containers": -1,
            "Created": 1_704_067_200,
            "Id": image.id(),
            "Labels": image.config["Labels"],
            "ParentId": "",
            "RepoDigests": [image.digest()],
            "RepoTags": [image.reference],
            "SharedSize": -1,
            "Size": 762_352,
        })
    };
    json_answer(200, &state.options.images.iter().map(summary).collect::<Vec<_>>())
}
