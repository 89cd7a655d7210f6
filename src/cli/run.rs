//! `tenantd run`.

use super::{
    EXIT_OK,
    args::{Global, Run},
    logging, setup,
};
use crate::{daemon, host::modes};

pub fn run(command: &Run, global: &Global) -> anyhow::Result<u8> {
    modes::keep_private();
    let host = setup::host(global)?;
    logging::begin(command.log_format);
    let global = global.clone();
    let reload = Box::new(move || setup::host(&global));
    setup::block_on(async { tokio::task::LocalSet::new().run_until(daemon::run(host, reload)).await })?;
    Ok(EXIT_OK)
}
