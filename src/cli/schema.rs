//! `tenantd schema`.

use std::{fs, path::Path};

use anyhow::{Context, bail};

use super::{EXIT_ERROR, EXIT_OK, args::Schema, output};
use crate::spec::schema::schemas;

pub fn run(command: &Schema) -> anyhow::Result<u8> {
    let files = schemas().into_iter().map(|(name, schema)| (name, format!("{schema:#}\n")));
    if let Some(dir) = &command.write {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for (name, text) in files {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(EXIT_OK);
    }
    if let Some(dir) = &command.check {
        let stale: Vec<&str> =
            files.filter(|(name, text)| !is_current(dir, name, text)).map(|(name, _)| name).collect();
        if stale.is_empty() {
            return Ok(EXIT_OK);
        }
        eprintln!("not up to date: {}; `tenantd schema --write {}` makes them anew", stale.join(", "), dir.display());
        return Ok(EXIT_ERROR);
    }
    let wanted = command.name.as_deref().unwrap_or("tenant");
    match files.into_iter().find(|(name, _)| name.strip_suffix(".json") == Some(wanted)) {
        Some((_, text)) => output::print(&text)?,
        None => bail!("there is no schema {wanted:?}; write one of tenant, fleet, tiers, host"),
    }
    Ok(EXIT_OK)
}

fn is_current(dir: &Path, name: &str, text: &str) -> bool {
    fs::read_to_string(dir.join(name)).is_ok_and(|found| found == text)
}
