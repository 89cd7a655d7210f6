//! `tenantd approve` and `tenantd reconcile`.

use super::{EXIT_OK, args::Global, output, setup};
use crate::{
    model::finding::printable,
    web::{Client, operators},
};

#[derive(Debug, clap::Args)]
pub struct Approve {
    /// The whole id that `tenantd status` shows beside the held commit: it lets in that commit with what is shown, and
    /// nothing else
    #[arg(value_name = "PLAN-ID")]
    plan: String,
}

#[derive(Debug, clap::Args)]
pub struct Reconcile {
    /// Only this tenant
    tenant: Option<String>,
}

/// Brings a held commit into force.
pub fn approve(command: &Approve, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let call = operators::Approve { plan: command.plan.clone() };
    let approved = setup::block_on(async { Ok(Client::new(&host.socket).call(&call).await?) })?;
    output::print(&format!("Approved: {} is in force.\n", printable(&approved.revision.to_string())))?;
    Ok(EXIT_OK)
}

/// Has the daemon look now.
pub fn reconcile(command: &Reconcile, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let call = operators::Reconcile { tenant: command.tenant.clone() };
    setup::block_on(async { Ok(Client::new(&host.socket).call(&call).await?) })?;
    let what = command.tenant.as_deref().unwrap_or("every tenant");
    output::print(&format!("The daemon observes {} now; `tenantd status` shows the result.\n", printable(what)))?;
    Ok(EXIT_OK)
}
