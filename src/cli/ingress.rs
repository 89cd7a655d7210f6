//! `tenantd ingress`.

use super::{
    EXIT_OK,
    args::Global,
    logging::{self, LogFormat},
    setup,
};
use crate::{
    gateway,
    host::{Owner, OwnerError, modes},
    ingress,
};

#[derive(Debug, clap::Args)]
pub struct Ingress {
    /// The form of the log on standard error [default: text on a terminal, journald under systemd, else json]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
}

pub fn run(command: &Ingress, global: &Global) -> anyhow::Result<u8> {
    modes::keep_private();
    let host = setup::host(global)?;
    // What cannot be found out here, as within a service's bounds, is no reason to keep everybody out.
    if let Err(taken @ OwnerError::Taken(_)) = setup::block_on(async { Ok(Owner::new(&host).check().await) })? {
        return Err(taken.into());
    }
    gateway::prepare(&host)?;
    logging::begin(command.log_format);
    // The working folder may be out of sight later.
    let settings = global.host.as_ref().map(std::path::absolute).transpose()?;
    ingress::run(&host, settings.as_deref())?;
    Ok(EXIT_OK)
}
