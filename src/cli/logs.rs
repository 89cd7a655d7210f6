//! `tenantd logs`.

use std::io;

use anyhow::{Context, bail};

use super::{
    EXIT_OK,
    args::{Global, Logs},
    setup,
};
use crate::{engine::LogRequest, model::TenantName};

pub fn run(command: &Logs, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let tenant: TenantName = command.tenant.parse().context("cannot show logs")?;
    let request = LogRequest { follow: command.follow, timestamps: command.timestamps, tail: command.tail };
    setup::block_on(async {
        let engine = setup::engine(&host).await?;
        let Some(container) = engine.find_tenant(tenant.as_str(), &tenant.object_name()).await? else {
            bail!("the tenant {tenant} has no container");
        };
        engine.copy_logs(&container, request, &mut io::stdout().lock(), &mut io::stderr().lock()).await?;
        Ok(EXIT_OK)
    })
}
