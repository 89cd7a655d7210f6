//! `tenantd suspend` and `tenantd resume`.

use jiff::Timestamp;

use super::{
    EXIT_OK,
    args::{self, Global},
    output, setup, time,
};
use crate::{
    model::finding::printable,
    web::{
        Client,
        operators::{Resume, Suspend},
    },
};

/// Has the daemon leave a tenant alone. The daemon judges the reason and the time.
pub fn suspend(command: &args::Suspend, global: &Global) -> anyhow::Result<u8> {
    let until = time::until(&command.until, Timestamp::now())?;
    let host = setup::host(global)?;
    let call = Suspend { tenant: command.tenant.clone(), reason: command.reason.clone(), until };
    setup::block_on(async { Ok(Client::new(&host.socket).call(&call).await?) })?;
    let (tenant, reason) = (printable(&command.tenant), printable(&command.reason));
    output::print(&format!("{tenant} is left alone until {until}: {reason}\n"))?;
    Ok(EXIT_OK)
}

/// Has the daemon look after a suspended tenant again.
pub fn resume(command: &args::Resume, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let call = Resume { tenant: command.tenant.clone() };
    setup::block_on(async { Ok(Client::new(&host.socket).call(&call).await?) })?;
    output::print(&format!("{} is looked after again.\n", printable(&command.tenant)))?;
    Ok(EXIT_OK)
}
