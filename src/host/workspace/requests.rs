//! What an operator asked for, until it is done.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use super::{WorkspaceError, Workspaces, paths::make};
use crate::{model::workspace::OperatorRequest, modes};

/// Notes what somebody asked for. It appears whole or not at all.
pub(super) fn write(workspaces: &Workspaces, tenant: &str, request: &OperatorRequest) -> Result<(), WorkspaceError> {
    let path = workspaces.request_of(tenant);
    let parent = path.parent().unwrap_or(Path::new("."));
    make(parent)?;
    let new = parent.join(format!(".{tenant}.new"));
    let text = serde_json::to_vec(request).map_err(io::Error::from);
    let written = text.and_then(|text| modes::create(&new)?.write_all(&text)).and_then(|()| fs::rename(&new, &path));
    written.map_err(WorkspaceError::io("write", &path))
}

/// Reads what somebody asked for. One that makes no sense is none.
pub(super) fn read(workspaces: &Workspaces, tenant: &str) -> Option<OperatorRequest> {
    serde_json::from_slice(&fs::read(workspaces.request_of(tenant)).ok()?).ok()
}
