//! `tenantd pause`, `tenantd sleep` and `tenantd start`.

use jiff::Timestamp;

use super::{EXIT_OK, args::Global, output, setup, time};
use crate::{
    model::{Power, finding::printable},
    web::{Client, operators},
};

#[derive(Debug, clap::Args)]
pub struct SetPower {
    /// The tenant
    tenant: String,
    /// Until when: a time such as 2026-12-01T08:00:00Z, or a duration such as 2h or 3d; from then on it runs. Without it, until
    /// somebody says otherwise
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Has the daemon settle what a tenant is to do, and returns before it is done.
pub fn set(command: &SetPower, power: Power, global: &Global) -> anyhow::Result<u8> {
    let until = command.until.as_deref().map(|text| time::until("--until", text, Timestamp::now())).transpose()?;
    let host = setup::host(global)?;
    let call = operators::SetPower { tenant: command.tenant.clone(), power, until };
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
