//! `tenantd suspend` and `tenantd resume`.

use jiff::Timestamp;
use serde_json::json;

use super::{
    EXIT_OK,
    args::{Global, Resume, Suspend},
    client::Client,
    output, setup, time,
};
use crate::model::finding::printable;

/// Has the daemon leave a tenant alone. The daemon judges the reason and the time.
pub fn suspend(command: &Suspend, global: &Global) -> anyhow::Result<u8> {
    let until = time::until(&command.until, Timestamp::now())?;
    let host = setup::host(global)?;
    let body = json!({"reason": command.reason, "until": until});
    setup::block_on(async {
        let client = Client::new(&host.socket);
        Ok(client.post(&["tenants", &command.tenant, "suspend"], Some(&body)).await?)
    })?;
    let (tenant, reason) = (printable(&command.tenant), printable(&command.reason));
    output::print(&format!("{tenant} is left alone until {until}: {reason}\n"))?;
    Ok(EXIT_OK)
}

/// Has the daemon look after a suspended tenant again.
pub fn resume(command: &Resume, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    setup::block_on(async {
        let client = Client::new(&host.socket);
        Ok(client.post(&["tenants", &command.tenant, "resume"], None).await?)
    })?;
    output::print(&format!("{} is looked after again.\n", printable(&command.tenant)))?;
    Ok(EXIT_OK)
}
