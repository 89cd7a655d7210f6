//! `tenantd approve` and `tenantd reconcile`.

use super::{
    EXIT_OK,
    args::{Approve, Global, Reconcile},
    client::Client,
    output, setup,
};
use crate::model::finding::printable;

/// Brings a held commit into force.
pub fn approve(command: &Approve, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let answer = setup::block_on(async {
        let client = Client::new(&host.socket);
        Ok(client.post(&["approve", &command.plan], None).await?)
    })?;
    let revision = answer["revision"].as_str().unwrap_or("the commit");
    output::print(&format!("Approved: {} is in force.\n", printable(revision)))?;
    Ok(EXIT_OK)
}

/// Has the daemon look now.
pub fn reconcile(command: &Reconcile, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let path = [Some("reconcile"), command.tenant.as_deref()];
    let path: Vec<&str> = path.into_iter().flatten().collect();
    setup::block_on(async { Ok(Client::new(&host.socket).post(&path, None).await?) })?;
    let what = command.tenant.as_deref().unwrap_or("every tenant");
    output::print(&format!("The daemon looks at {} now; `tenantd status` shows what it finds.\n", printable(what)))?;
    Ok(EXIT_OK)
}
