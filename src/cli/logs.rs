//! `tenantd logs`.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;

use super::{EXIT_OK, args::Global, failure::Failure, setup, terminal::Readable};
use crate::{engine::LogRequest, model::TenantName};

#[derive(Debug, clap::Args)]
pub struct Logs {
    /// The tenant
    tenant: String,
    /// Follow: show what is printed from now on
    #[arg(long, short)]
    follow: bool,
    /// Only this many lines from the end
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// Begin each line with its time
    #[arg(long, short)]
    timestamps: bool,
}

pub fn run(command: &Logs, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let tenant: TenantName = command.tenant.parse().context("cannot show logs")?;
    let request = LogRequest { follow: command.follow, timestamps: command.timestamps, tail: command.tail };
    setup::block_on(async {
        let engine = setup::engine(&host).await?;
        let Some(container) = engine.find_tenant(tenant.as_str(), &tenant.object_name()).await? else {
            let what = format!("the tenant {tenant} has no container");
            return Err(Failure::asked(what).hint(format!("`tenantd status {tenant}` says why")).into());
        };
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let mut out = Copied::new(stdout.is_terminal(), stdout.lock());
        let mut err = Copied::new(stderr.is_terminal(), stderr.lock());
        engine.copy_logs(&container, request, &mut out, &mut err).await?;
        // Where nobody reads any more there is nothing to finish.
        let _ = out.finish().and_then(|()| err.finish());
        Ok(EXIT_OK)
    })
}

/// What a tenant printed: as it is for programs, readable for people on a terminal.
enum Copied<W: Write> {
    Raw(W),
    Readable(Readable<W>),
}

impl<W: Write> Copied<W> {
    fn new(on_terminal: bool, inner: W) -> Self {
        if on_terminal { Self::Readable(Readable::new(inner)) } else { Self::Raw(inner) }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Raw(mut inner) => inner.flush(),
            Self::Readable(readable) => readable.finish(),
        }
    }
}

impl<W: Write> Write for Copied<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Raw(inner) => inner.write(bytes),
            Self::Readable(inner) => inner.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Raw(inner) => inner.flush(),
            Self::Readable(inner) => inner.flush(),
        }
    }
}
