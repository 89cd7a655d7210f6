//! The ports that a tenant exposes.

use std::collections::{BTreeMap, btree_map::Entry};

use super::files::ExposeFile;
use crate::{
    model::{Expose, Finding},
    spec::{decode::Located, fleet::value},
};

/// The most ports that one tenant exposes.
const MAX_PORTS: usize = 32;

/// The ports that a file declares.
pub(in crate::spec) fn expose(
    file: &str,
    field: Option<&Located<Vec<Located<ExposeFile>>>>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<u16, Expose> {
    let Some(field) = field else { return BTreeMap::new() };
    let entries = field.get().map_or(&[][..], Vec::as_slice);
    if entries.len() > MAX_PORTS {
        let message = format!("{} ports are exposed", entries.len());
        findings.push(field.error(file, "out-of-range", &message, Some(&format!("keep them to {MAX_PORTS}"))));
    }
    let mut ports = BTreeMap::new();
    for content in entries.iter().filter_map(Located::get) {
        let Some(port) = content.port.get().and_then(|port| u16::try_from(port.0).ok()) else { continue };
        match ports.entry(port) {
            Entry::Vacant(place) => {
                place.insert(Expose { path: value(content.path.as_ref()).cloned() });
            }
            Entry::Occupied(_) => {
                let message = format!("the port {port} is listed twice");
                findings.push(content.port.error(file, "duplicate-port", &message, Some("remove one")));
            }
        }
    }
    ports
}
