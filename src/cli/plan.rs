//! `tenantd plan`.

use super::{
    EXIT_CHANGES, EXIT_ERROR, EXIT_OK,
    args::{Global, Plan, PlanFormat},
    output,
    setup::{self, Look},
};
use crate::{
    model::{Desired, Plan as Planned},
    plan::render,
};

pub fn run(command: &Plan, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let only = command.source.tenant.as_deref();
    let Look { tree, desired, observed, .. } = setup::block_on(setup::look(&command.source, &host))?;
    let plan = setup::plan(&host, &desired, &observed, only)?;
    match command.format {
        PlanFormat::Text => output::plan(&plan, &tree, &observed)?,
        PlanFormat::Json => {
            let json = render::json(&plan, &tree.revision, &observed, &desired.findings);
            output::print(&format!("{json:#}\n"))?;
        }
    }
    Ok(match (is_incomplete(&plan, &desired, only), command.detailed_exitcode && !plan.is_empty()) {
        (true, _) => EXIT_ERROR,
        (false, true) => EXIT_CHANGES,
        (false, false) => EXIT_OK,
    })
}

/// Whether some tenant cannot be made as declared: its file is wrong, or something is in the way.
pub fn is_incomplete(plan: &Planned, desired: &Desired, only: Option<&str>) -> bool {
    let held = match only {
        Some(name) => desired.held.contains(name),
        None => desired.findings.iter().any(|f| f.severity == crate::model::Severity::Error),
    };
    held || plan.blocked().next().is_some()
}
