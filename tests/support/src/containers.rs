//! What can be asked of a container that is there.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::Call;
use crate::create::{check_name, restart_policy, settle_limits};
use crate::options::Runtime;
use crate::routes::{self, Answer, With, json_answer};
use crate::state::{Container, Outcome, Refusal, State, refuse, rfc3339};

/// One line of the list; it borrows, for a list is long.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    id: &'a Value,
    names: [&'a Value; 1],
    image: &'a Value,
    #[serde(rename = "ImageID")]
    image_id: &'a Value,
    command: &'a Value,
    created: u64,
    ports: [(); 0],
    labels: &'a Value,
    state: &'a Value,
    status: String,
    host_config: Value,
    network_settings: Networks<'a>,
    mounts: &'a Value,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Networks<'a> {
    networks: BTreeMap<&'a String, With<'a>>,
}

/// The endpoints as the list tells them: without aliases.
fn endpoints(doc: &Value) -> Networks<'_> {
    let all = doc["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
    let plain = |doc| With { doc, key: "Aliases", value: &Value::Null };
    Networks { networks: all.map(|(name, endpoint)| (name, plain(endpoint))).collect() }
}

/// The document that inspect answers: with the limits of the engine's configuration of today, whenever it was made.
pub(crate) fn shown(state: &State, id: &str) -> Value {
    let mut doc = state.containers[id].doc.clone();
    let limits = &mut doc["HostConfig"]["Ulimits"];
    let mut all = limits.as_array().cloned().unwrap_or_default();
    for limit in &state.options.default_ulimits {
        if all.iter().all(|own| own["Name"] != limit["Name"]) {
            all.push(limit.clone());
        }
    }
    if !all.is_empty() {
        *limits = all.into();
    }
    doc
}

pub(crate) fn list(state: &State, call: &Call) -> Outcome {
    let filters = routes::filters(call)?;
    let known = |key: &String| matches!(key.as_str(), "label" | "name" | "id" | "status" | "network");
    if let Some(unknown) = filters.keys().find(|key| !known(key)) {
        return refuse(400, format!("Invalid filter '{unknown}'"));
    }
    let all = routes::is_set(call, "all") || filters.contains_key("status");
    let any = |key: &str, holds: &dyn Fn(&str) -> bool| {
        filters.get(key).is_none_or(|terms| terms.iter().any(|term| holds(term)))
    };
    let wanted = |container: &&Container| {
        let doc = &container.doc;
        let text = |field: &'static str| doc[field].as_str().unwrap_or_default();
        let on = |term: &str| {
            let endpoints = &doc["NetworkSettings"]["Networks"];
            endpoints.get(term).is_some()
                || endpoints.as_object().is_some_and(|all| all.values().any(|endpoint| endpoint["NetworkID"] == term))
        };
        (all || doc["State"]["Running"] == true)
            && filters.get("label").is_none_or(|labels| routes::has_labels(&doc["Config"]["Labels"], labels))
            && any("name", &|term| text("Name").contains(term))
            && any("id", &|term| text("Id").starts_with(term))
            && any("status", &|term| doc["State"]["Status"] == term)
            && any("network", &on)
    };
    let mut found: Vec<&Container> = state.containers.values().filter(wanted).collect();
    found.sort_unstable_by_key(|container| std::cmp::Reverse(container.created));
    let lines: Vec<Line> = found
        .into_iter()
        .map(|Container { doc, created }| Line {
            id: &doc["Id"],
            names: [&doc["Name"]],
            image: &doc["Config"]["Image"],
            image_id: &doc["Image"],
            command: &doc["Path"],
            created: created / 1_000_000_000,
            ports: [],
            labels: &doc["Config"]["Labels"],
            state: &doc["State"]["Status"],
            status: status(&doc["State"]),
            host_config: json!({"NetworkMode": doc["HostConfig"]["NetworkMode"]}),
            network_settings: endpoints(doc),
            mounts: &doc["Mounts"],
        })
        .collect();
    json_answer(200, &lines)
}

/// The state as the list words it. The engine tells how long; here it is always the same.
fn status(state: &Value) -> String {
    match state["Status"].as_str().unwrap_or_default() {
        "running" => "Up Less than a second".into(),
        "paused" => "Up Less than a second (Paused)".into(),
        "exited" => format!("Exited ({}) Less than a second ago", state["ExitCode"]),
        "created" => "Created".into(),
        other => other.into(),
    }
}

impl State {
    fn doc_mut(&mut self, id: &str) -> &mut Value {
        &mut self.containers.get_mut(id).expect("the caller found it").doc
    }

    fn is(&self, id: &str, flag: &str) -> bool {
        self.containers[id].doc["State"][flag] == true
    }

    /// A running container's end: state, events, endpoints; and removal where that was asked for.
    pub(crate) fn die(&mut self, id: &str, code: i64, oom: bool) {
        let finished = rfc3339(self.tick());
        let doc = self.doc_mut(id);
        let auto_remove = doc["HostConfig"]["AutoRemove"] == true;
        self.memory.remove(id);
        let doc = self.doc_mut(id);
        set(
            &mut doc["State"],
            &json!({
                "Status": "exited", "Running": false, "Paused": false, "Pid": 0, "ExitCode": code,
                "OOMKilled": oom, "FinishedAt": finished,
            }),
        );
        self.changed = true;
        self.container_event(id, "die", &[("exitCode", &code.to_string())]);
        for endpoint in self.endpoints(id) {
            self.detach(id, &endpoint);
        }
        if auto_remove {
            self.destroy(id);
        }
    }

    fn destroy(&mut self, id: &str) {
        self.changed = true;
        self.container_event(id, "destroy", &[]);
        let container = self.containers.remove(id).expect("the caller found it");
        self.container_names.remove(container.doc["Name"].as_str().unwrap_or_default().trim_start_matches('/'));
    }
}

fn set(target: &mut Value, fields: &Value) {
    for (key, value) in fields.as_object().into_iter().flatten() {
        target[key] = value.clone();
    }
}

pub(crate) fn start(state: &mut State, id: &str) -> Outcome {
    if state.is(id, "Paused") {
        return refuse(409, "cannot start a paused container, try unpause instead");
    }
    if state.is(id, "Running") {
        return Ok(Answer::Empty(304));
    }
    if let Err(refusal) = attach_all(state, id) {
        for endpoint in state.endpoints(id) {
            if state.containers[id].doc["NetworkSettings"]["Networks"][&endpoint]["EndpointID"] != "" {
                state.detach(id, &endpoint);
            }
        }
        set(&mut state.doc_mut(id)["State"], &json!({"ExitCode": 128, "Error": refusal.1}));
        return Err(refusal);
    }
    let freed = state.freed.remove(id);
    let runtime = &state.containers[id].doc["HostConfig"]["Runtime"];
    let hangs = |known: &Runtime| known.hangs && *runtime == known.name;
    if !freed && state.options.runtimes.iter().any(hangs) {
        state.stuck.insert(id.to_owned());
        return Ok(Answer::Stuck);
    }
    let started = state.tick();
    let sandbox = state.ids.next_id();
    let pid = 1_000 + started % 4_000_000;
    let doc = state.doc_mut(id);
    set(
        &mut doc["State"],
        &json!({
            "Status": "running", "Running": true, "Paused": false, "OOMKilled": false, "Pid": pid, "ExitCode": 0,
            "Error": "", "StartedAt": rfc3339(started),
        }),
    );
    let directory = format!("/var/lib/docker/containers/{id}");
    set(
        doc,
        &json!({
            "ResolvConfPath": format!("{directory}/resolv.conf"),
            "HostnamePath": format!("{directory}/hostname"),
            "HostsPath": format!("{directory}/hosts"),
            "LogPath": format!("{directory}/{id}-json.log"),
        }),
    );
    set(
        &mut doc["NetworkSettings"],
        &json!({
            "SandboxKey": format!("/var/run/docker/netns/{}", &sandbox[..12]), "SandboxID": sandbox,
        }),
    );
    state.changed = true;
    state.container_event(id, "start", &[]);
    let doc = &state.containers[id].doc;
    let runtime = state.options.runtimes.iter().find(|known| doc["HostConfig"]["Runtime"] == known.name);
    if let Some(code) = runtime.and_then(|runtime| runtime.ends_with).or_else(|| exit_code(doc)) {
        state.die(id, code, false);
    }
    Ok(Answer::Empty(204))
}

/// The code that a container ends with right after its start, where its variable `SIM_EXIT` says so.
fn exit_code(doc: &Value) -> Option<i64> {
    if doc["Path"] == "/selftest" {
        return Some(77);
    }
    let variables = doc["Config"]["Env"].as_array()?;
    variables.iter().find_map(|variable| variable.as_str()?.strip_prefix("SIM_EXIT=")?.parse().ok())
}

/// Connects every endpoint that is not connected: by the network's id where the container ran on it
/// before, by its name where not.
fn attach_all(state: &mut State, id: &str) -> Result<(), Refusal> {
    for endpoint in state.endpoints(id) {
        let settings = &state.containers[id].doc["NetworkSettings"]["Networks"][&endpoint];
        if settings["EndpointID"] != "" {
            continue;
        }
        let pinned =
            settings["NetworkID"].as_str().filter(|id| !id.is_empty() && !crate::networks::is_predefined(&endpoint));
        let network = state.find_network(pinned.unwrap_or(&endpoint))?;
        state.attach(id, &endpoint, &network)?;
    }
    Ok(())
}

/// `POST /containers/{id}/wait` on a container that has ended.
pub(crate) fn wait(state: &State, id: &str) -> Outcome {
    if state.is(id, "Running") {
        return Ok(Answer::Stuck);
    }
    json_answer(200, &json!({"StatusCode": state.containers[id].doc["State"]["ExitCode"], "Error": null}))
}

pub(crate) fn stop(state: &mut State, id: &str) -> Outcome {
    if !state.is(id, "Running") {
        return Ok(Answer::Empty(304));
    }
    end(state, id);
    if state.containers.contains_key(id) {
        state.container_event(id, "stop", &[]);
    }
    Ok(Answer::Empty(204))
}

/// Ends the process as stop does: a paused one is woken and killed.
fn end(state: &mut State, id: &str) {
    state.container_event(id, "kill", &[("signal", "15")]);
    let mut code = 143;
    if state.is(id, "Paused") {
        state.container_event(id, "unpause", &[]);
        state.container_event(id, "kill", &[("signal", "9")]);
        code = 137;
    }
    state.die(id, code, false);
}

pub(crate) fn restart(state: &mut State, id: &str) -> Outcome {
    if state.is(id, "Running") {
        end(state, id);
        state.container_event(id, "stop", &[]);
    }
    let answer = start(state, id)?;
    if matches!(answer, Answer::Empty(_)) {
        state.container_event(id, "restart", &[]);
    }
    Ok(answer)
}

pub(crate) fn kill(state: &mut State, call: &Call, term: &str, id: &str) -> Outcome {
    if !state.is(id, "Running") {
        return refuse(409, format!("Cannot kill container: {term}: Container {id} is not running"));
    }
    let asked = call.parameter("signal").filter(|signal| !signal.is_empty()).unwrap_or_else(|| "KILL".into());
    let asked = asked.trim_start_matches("SIG").to_uppercase();
    let signals =
        [("HUP", 1), ("INT", 2), ("QUIT", 3), ("KILL", 9), ("USR1", 10), ("USR2", 12), ("TERM", 15), ("WINCH", 28)];
    let number =
        signals.iter().find(|(name, number)| asked == *name || asked == number.to_string()).map(|(_, number)| *number);
    let Some(number) = number else {
        return refuse(400, format!("Invalid signal: {asked}"));
    };
    state.container_event(id, "kill", &[("signal", &number.to_string())]);
    if matches!(number, 2 | 3 | 9 | 15) {
        state.die(id, 128 + number, false);
    }
    Ok(Answer::Empty(204))
}

pub(crate) fn pause(state: &mut State, id: &str) -> Outcome {
    if !state.is(id, "Running") {
        return refuse(409, format!("Container {id} is not running"));
    }
    if state.is(id, "Paused") {
        return refuse(409, format!("Container {id} is already paused"));
    }
    set_paused(state, id, true);
    Ok(Answer::Empty(204))
}

pub(crate) fn unpause(state: &mut State, id: &str) -> Outcome {
    if !state.is(id, "Paused") {
        return refuse(500, format!("Container {id} is not paused"));
    }
    set_paused(state, id, false);
    Ok(Answer::Empty(204))
}

fn set_paused(state: &mut State, id: &str, paused: bool) {
    let status = if paused { "paused" } else { "running" };
    set(&mut state.doc_mut(id)["State"], &json!({"Paused": paused, "Status": status}));
    state.changed = true;
    state.container_event(id, if paused { "pause" } else { "unpause" }, &[]);
}

/// `POST /containers/{id}/update`: for numbers zero means unchanged, except that a `PidsLimit` of
/// zero or less takes the limit away; fields that cannot be updated are ignored.
pub(crate) fn update(state: &mut State, id: &str, body: &Value) -> Outcome {
    let mut body = body.clone();
    let warnings = settle_limits(state, &mut body)?;
    let policy = restart_policy(&body["RestartPolicy"])?;
    let doc = &state.containers[id].doc;
    let mut host = doc["HostConfig"].clone();
    let sent = |key: &str| body[key].as_i64().filter(|value| *value != 0);
    let has = |key: &str| doc["HostConfig"][key].as_i64().unwrap_or_default();
    let cannot = |status, text: &str| refuse(status, format!("Cannot update container {id}: {text}"));
    let conflict = |text: &str| cannot(409, text);
    for (key, what) in [("CpuPeriod", "CPU Period"), ("CpuQuota", "CPU Quota")] {
        if sent("NanoCpus").is_some() && has(key) > 0 {
            return conflict(&format!(
                "Conflicting options: Nano CPUs cannot be updated as {what} has already been set"
            ));
        }
        if sent(key).is_some() && has("NanoCpus") > 0 {
            return conflict(&format!(
                "Conflicting options: {what} cannot be updated as NanoCPUs has already been set"
            ));
        }
    }
    if sent("Memory").is_some_and(|memory| memory > has("MemorySwap")) && sent("MemorySwap").is_none() {
        return conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    for key in
        ["Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuQuota", "CpuPeriod", "CpuShares", "BlkioWeight"]
    {
        if let Some(value) = sent(key) {
            host[key] = value.into();
        }
    }
    for key in ["CpusetCpus", "CpusetMems"] {
        if body[key].as_str().is_some_and(|text| !text.is_empty()) {
            host[key] = body[key].clone();
        }
    }
    if let Some(pids) = body["PidsLimit"].as_i64() {
        host["PidsLimit"] = pids.max(0).into();
    }
    if policy["Name"] != "" {
        host["RestartPolicy"] = policy;
    }
    if doc["State"]["Running"] == true {
        let runtime = doc["HostConfig"]["Runtime"].as_str().unwrap_or_default();
        let number = |key: &str| host[key].as_i64().unwrap_or_default();
        let failed = format!("{runtime} did not terminate successfully: exit status");
        if state.options.runtimes.iter().any(|known| known.name == runtime && !known.live_update) {
            return cannot(500, &format!("{failed} 128: unknown"));
        }
        if number("MemorySwap") > 0 && number("MemorySwap") < number("Memory") {
            return cannot(
                500,
                &format!("{failed} 1: failed to write memory.memsw.limit_in_bytes: invalid argument: unknown"),
            );
        }
    }
    let running = doc["State"]["Running"] == true;
    let memory = host["Memory"].as_i64().filter(|memory| *memory > 0).unwrap_or(i64::MAX);
    let used = state.memory.get(id).copied().filter(|used| running && *used > memory);
    if let Some(used) = used.filter(|_| state.options.cgroup_version == 1) {
        let runtime = doc["HostConfig"]["Runtime"].as_str().unwrap_or_default();
        return cannot(
            500,
            &format!(
                "{runtime} did not terminate successfully: exit status 1: unable to set memory limit to {memory} \
                 (current usage: {used}, peak usage: {used}): unknown"
            ),
        );
    }
    state.changed = doc["HostConfig"] != host;
    state.doc_mut(id)["HostConfig"] = host;
    state.container_event(id, "update", &[]);
    if used.is_some() {
        // The kernel takes the limit, and kills what does not fit.
        state.container_event(id, "oom", &[]);
        state.die(id, 137, true);
    }
    json_answer(200, &json!({"Warnings": Some(warnings).filter(|warnings| !warnings.is_empty())}))
}

pub(crate) fn rename(state: &mut State, call: &Call, id: &str) -> Outcome {
    let new = call.parameter("name").unwrap_or_default().trim_start_matches('/').to_owned();
    let old = state.containers[id].doc["Name"].as_str().unwrap_or_default().to_owned();
    if new.is_empty() {
        return refuse(400, "Neither old nor new names may be empty");
    }
    if old == format!("/{new}") {
        return refuse(400, "Renaming a container with the same name as its current name");
    }
    check_name(state, &new)
        .map_err(|Refusal(status, text)| Refusal(status, format!("Error when allocating new name: {text}")))?;
    state.container_names.remove(old.trim_start_matches('/'));
    state.container_names.insert(new.clone(), id.to_owned());
    state.doc_mut(id)["Name"] = format!("/{new}").into();
    state.rename_member(id, &new);
    state.changed = true;
    state.container_event(id, "rename", &[("oldName", &old)]);
    Ok(Answer::Empty(204))
}

pub(crate) fn remove(state: &mut State, call: &Call, id: &str) -> Outcome {
    if state.is(id, "Running") {
        if !routes::is_set(call, "force") {
            let (what, first) =
                if state.is(id, "Paused") { ("paused", "Unpause and then stop") } else { ("running", "Stop") };
            return refuse(
                409,
                format!(
                    "You cannot remove a {what} container {id}. {first} the container before attempting removal or force remove"
                ),
            );
        }
        state.container_event(id, "kill", &[("signal", "9")]);
        state.die(id, 137, false);
    }
    if state.containers.contains_key(id) {
        state.destroy(id);
    }
    Ok(Answer::Empty(204))
}

/// Bytes of output in the frame that tells the streams apart.
fn frame(body: &mut Vec<u8>, stream: u8, bytes: &[u8]) {
    body.extend([stream, 0, 0, 0]);
    body.extend(u32::try_from(bytes.len()).expect("a line is short").to_be_bytes());
    body.extend(bytes);
}

/// One line of output, and what else was printed.
pub(crate) fn logs(state: &State, call: &Call, id: &str) -> Outcome {
    if !routes::is_set(call, "stdout") && !routes::is_set(call, "stderr") {
        return refuse(400, "Bad parameters: you must choose at least one stream");
    }
    let doc = &state.containers[id].doc;
    let mut body = Vec::new();
    if doc["State"]["StartedAt"] != "0001-01-01T00:00:00Z" && routes::is_set(call, "stdout") {
        let line = format!("output of {}\n", doc["Name"].as_str().unwrap_or_default().trim_start_matches('/'));
        frame(&mut body, 1, line.as_bytes());
    }
    state.printed.iter().for_each(|(stream, bytes)| frame(&mut body, *stream, bytes));
    let kind = if state.options.api_at_least(42) {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/octet-stream"
    };
    Ok(Answer::Text { status: 200, kind, body })
}
