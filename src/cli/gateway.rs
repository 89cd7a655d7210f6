//! `tenantd gateway`.

use super::{
    EXIT_OK,
    args::{Gateway, Global},
    logging, setup,
};
use crate::gateway;

pub fn run(command: &Gateway, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    gateway::prepare(&host)?;
    if command.prepare {
        return Ok(EXIT_OK);
    }
    logging::begin(command.log_format);
    let global = global.clone();
    gateway::run(&host, move || setup::host(&global))?;
    Ok(EXIT_OK)
}
