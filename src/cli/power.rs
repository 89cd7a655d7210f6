//! `tenantd pause`, `tenantd sleep` and `tenantd start`.

use jiff::Timestamp;
use serde_json::json;

use super::{
    EXIT_OK,
    args::{Global, SetPower},
    client::Client,
    output, setup, time,
};
use crate::model::{Power, finding::printable};

/// Has the daemon settle what a tenant is to do, and returns before it is done.
pub fn set(command: &SetPower, power: Power, global: &Global) -> anyhow::Result<u8> {
    let until = command.until.as_deref().map(|text| time::until(text, Timestamp::now())).transpose()?;
    let host = setup::host(global)?;
    let body = json!({"power": power, "until": until});
    setup::block_on(async {
        let client = Client::new(&host.socket);
        Ok(client.post(&["tenants", &command.tenant, "power"], Some(&body)).await?)
    })?;
    let what = match power {
        Power::Running => "is started",
        Power::Paused => "is paused",
        Power::Asleep => "is put to sleep",
    };
    let until = until.map_or_else(String::new, |until| format!(" until {until}"));
    output::print(&format!("{} {what}{until}.\n", printable(&command.tenant)))?;
    Ok(EXIT_OK)
}
