//! `tenantd suspend` and `tenantd resume`.

use jiff::Timestamp;

use super::{EXIT_OK, args::Global, output, setup, time};
use crate::{
    model::finding::printable,
    web::{Client, operators},
};

#[derive(Debug, clap::Args)]
pub struct Suspend {
    /// The tenant
    tenant: String,
    /// Why, for whoever reads its status
    #[arg(long)]
    reason: String,
    /// Until when: a time such as 2026-12-01T08:00:00Z, or a duration such as 2h or 3d; 30 days at most
    #[arg(long, value_name = "TIME")]
    until: String,
}

#[derive(Debug, clap::Args)]
pub struct Resume {
    /// The tenant
    tenant: String,
}

/// Has the daemon leave a tenant alone. The daemon judges the reason and the time.
pub fn suspend(command: &Suspend, global: &Global) -> anyhow::Result<u8> {
    let until = time::until("--until", &command.until, Timestamp::now())?;
    let host = setup::host(global)?;
    let call = operators::Suspend { tenant: command.tenant.clone(), reason: command.reason.clone(), until };
    setup::block_on(async { Ok(Client::new(&host.socket).call(&call).await?) })?;
    let (tenant, reason) = (printable(&command.tenant), printable(&command.reason));
    output::print(&format!("{tenant} is left alone until {until}: {reason}\n"))?;
    Ok(EXIT_OK)
}

/// Has the daemon look after a suspended tenant again.
pub fn resume(command: &Resume, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let call = operators::Resume { tenant: command.tenant.clone() };
    setup::block_on(async { Ok(Client::new(&host.socket).call(&call).await?) })?;
    output::print(&format!("{} is reconciled again.\n", printable(&command.tenant)))?;
    Ok(EXIT_OK)
}
