//! `tenantd ingress`.

use super::{
    EXIT_OK,
    args::Global,
    logging::{self, LogFormat},
    setup,
};
use crate::ingress;

#[derive(Debug, clap::Args)]
pub struct Ingress {
    /// The form of the log on standard error [default: text on a terminal, journald under systemd, else json]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
}

pub fn run(command: &Ingress, global: &Global) -> anyhow::Result<u8> {
    let (host, settings) = setup::network_process(global)?;
    logging::begin(command.log_format);
    ingress::run(&host, settings.as_deref())?;
    Ok(EXIT_OK)
}
