//! `tenantd schema`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{EXIT_ERROR, EXIT_OK, documents::published, failure::Failure, output};
use crate::spec::reference::fill;

#[derive(Debug, clap::Args)]
pub struct Schema {
    /// Write the schemas into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    write: Option<PathBuf>,
    /// Fail where the schemas in this folder are not up to date
    #[arg(long, value_name = "DIR")]
    check: Option<PathBuf>,
    /// With --write or --check: the document whose tables of keys are kept up to date as well
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Print one schema: tenant, fleet, tiers, host; settings (what rules are given); plan, review, history, report, status
    /// (what commands print as JSON); draft-07/tenant and the like (for older editors); operators and ingress (the calls of
    /// the sockets, as OpenAPI)
    #[arg(conflicts_with_all = ["write", "check"])]
    name: Option<String>,
}

pub fn run(command: &Schema) -> anyhow::Result<u8> {
    if let Some(dir) = &command.write {
        for (path, text) in generated(dir, command.reference.as_deref())? {
            let folder = path.parent().unwrap_or(dir);
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(EXIT_OK);
    }
    if let Some(dir) = &command.check {
        let stale: Vec<String> = generated(dir, command.reference.as_deref())?
            .into_iter()
            .filter(|(path, text)| fs::read_to_string(path).ok().as_ref() != Some(text))
            .map(|(path, _)| path.display().to_string())
            .collect();
        if stale.is_empty() {
            return Ok(EXIT_OK);
        }
        output::message(&format!(
            "not up to date: {}; the same command with --write makes them anew",
            stale.join(", ")
        ));
        return Ok(EXIT_ERROR);
    }
    let wanted = command.name.as_deref().unwrap_or("tenant");
    match published().into_iter().find(|(name, _)| name.strip_suffix(".json") == Some(wanted)) {
        Some((_, schema)) => output::print_data(&format!("{schema:#}\n"))?,
        None => {
            let what = format!("there is no schema {wanted:?}");
            let all = published();
            let names: Vec<&str> = all.iter().filter_map(|(name, _)| name.strip_suffix(".json")).collect();
            return Err(Failure::asked(what).hint(format!("name one of {}", names.join(", "))).into());
        }
    }
    Ok(EXIT_OK)
}

/// Every generated file with the text that it should have.
fn generated(dir: &Path, reference: Option<&Path>) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut files: Vec<(PathBuf, String)> =
        published().into_iter().map(|(name, schema)| (dir.join(name), format!("{schema:#}\n"))).collect();
    if let Some(path) = reference {
        let document = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((path.to_owned(), fill(&document)));
    }
    Ok(files)
}
