//! Every setting that is in force for a tenant, with its value.

use serde_json::{Value, json};

use super::marks::written;
use crate::model::{
    Tenant,
    desired::{Limits, Sandbox},
    egress::Budget,
};

/// The settings of a tenant by the names that files give them, in the order of a tenant's file; a list entry by entry.
/// What is not set at all is null.
pub fn settings(tenant: &Tenant) -> Vec<(String, Value)> {
    let Tenant {
        name: _,
        tier,
        class,
        image,
        command,
        environment,
        limits: Limits { cpus, memory, pids, disk },
        // It follows from the tier's limits.
        disk_room: _,
        source,
        files,
        restore,
        sessions,
        allowlist,
        routes,
        sealed,
        budget: Budget { day, month },
        sandbox: Sandbox { tmp_size, shm_size, open_files, init, log_size, log_files, workspace_noexec },
        drift,
    } = tenant;
    let mut all: Vec<(String, Value)> = Vec::new();
    let mut add = |field: &str, value: Value| all.push((field.to_owned(), value));
    add("tier", json!(tier));
    add("runtime", json!(class));
    add("image", json!(image));
    add("command", json!(command));
    for (name, value) in environment {
        add(&format!("environment.{name}"), json!(value));
    }
    add("limits.cpus", written(cpus));
    add("limits.memory", written(memory));
    add("limits.pids", written(pids));
    add("limits.disk", written(disk));
    add("sessions", json!(sessions));
    if allowlist.is_empty() {
        add("allowlist", Value::Null);
    }
    for destination in allowlist {
        add("allowlist", json!(destination));
    }
    for route in routes {
        add(&format!("credentials./{}/", route.name.as_str()), json!(route.upstream));
    }
    for name in sealed.keys() {
        add(&format!("sealed.{}", name.as_str()), json!("(sealed)"));
    }
    add("budget.day", json!(day));
    add("budget.month", json!(month));
    add("source", json!(source));
    for file in files {
        add(&format!("files.{}", file.path), json!(file.content.digest.get(..12)));
    }
    add("workspace.restore", json!(restore));
    add("hardening.tmpSize", written(tmp_size));
    add("hardening.shmSize", written(shm_size));
    add("hardening.openFiles", written(open_files));
    add("hardening.init", json!(init));
    add("hardening.workspaceNoexec", json!(workspace_noexec));
    add("logs.maxSize", written(log_size));
    add("logs.maxFiles", written(log_files));
    add("driftDetection.mode", json!(drift));
    all
}
