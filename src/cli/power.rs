//! `tenantd pause`, `tenantd sleep` and `tenantd start`.

use jiff::Timestamp;

use super::{
    EXIT_OK,
    args::{Global, SetPower as Command},
    output, setup, time,
};
use crate::{
    model::{Power, finding::printable},
    web::{Client, operators::SetPower},
};

/// Has the daemon settle what a tenant is to do, and returns before it is done.
pub fn set(command: &Command, power: Power, global: &Global) -> anyhow::Result<u8> {
    let until = command.until.as_deref().map(|text| time::until(text, Timestamp::now())).transpose()?;
    let host = setup::host(global)?;
    let call = SetPower { tenant: command.tenant.clone(), power, until };
    setup::block_on(async { Ok(Client::new(&host.socket).call(&call).await?) })?;
    let what = match power {
        Power::Running => "is started",
        Power::Paused => "is paused",
        Power::Asleep => "is put to sleep",
    };
    let until = until.map_or_else(String::new, |until| format!(" until {until}"));
    output::print(&format!("{} {what}{until}.\n", printable(&command.tenant)))?;
    Ok(EXIT_OK)
}
