//! `tenantd run`.

use super::{
    EXIT_OK,
    args::Global,
    logging::{self, LogFormat},
    setup,
};
use crate::{daemon, host::modes};

#[derive(Debug, clap::Args)]
pub struct Run {
    /// The form of the log on standard error [default: text on a terminal, journald under systemd, else json]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
}

pub fn run(command: &Run, global: &Global) -> anyhow::Result<u8> {
    modes::keep_private();
    let host = setup::host(global)?;
    logging::begin(command.log_format);
    let global = global.clone();
    let reload = Box::new(move || setup::host(&global));
    setup::block_on(async { tokio::task::LocalSet::new().run_until(daemon::run(host, reload)).await })?;
    Ok(EXIT_OK)
}
