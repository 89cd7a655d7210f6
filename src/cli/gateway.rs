//! `tenantd gateway`.

use super::{
    EXIT_OK,
    args::Global,
    logging::{self, LogFormat},
    setup,
};
use crate::gateway;

#[derive(Debug, clap::Args)]
pub struct Gateway {
    /// Only make the network namespace that tenants' networks end in
    #[arg(long)]
    prepare: bool,
    /// The form of the log on standard error [default: text on a terminal, journald under systemd, else json]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
}

pub fn run(command: &Gateway, global: &Global) -> anyhow::Result<u8> {
    let (host, settings) = setup::network_process(global)?;
    if command.prepare {
        return Ok(EXIT_OK);
    }
    logging::begin(command.log_format);
    let global = Global { host: settings.clone(), ..global.clone() };
    gateway::run(&host, settings.as_deref(), move || setup::host(&global))?;
    Ok(EXIT_OK)
}
