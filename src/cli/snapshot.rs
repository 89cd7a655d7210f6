//! `tenantd snapshot`, and plans that are made of one.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use jiff::Timestamp;

use super::{
    EXIT_OK,
    args::{FromSnapshot, Global},
    failure::Failure,
    output, setup,
};
use crate::{
    daemon, host,
    model::{SignerKey, quantity::Timespan, shown::duration},
    reconcile,
    snapshot::{self, Snapshot},
};

#[derive(Debug, clap::Args)]
pub struct Command {
    /// Write it here, for its owner alone to read [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the public key that goes with this host's signatures, and do nothing else
    #[arg(long, conflicts_with = "out")]
    public_key: bool,
}

/// The largest snapshot that is read, in bytes: some ten thousand tenants take 100 MiB.
const MAX_SNAPSHOT: u64 = 1 << 30;

pub fn run(command: &Command, global: &Global) -> anyhow::Result<u8> {
    host::modes::keep_private();
    let settings = setup::host(global)?;
    if command.public_key {
        let key = host::key::open(&settings)?.public_key().to_openssh().map_err(|e| anyhow::anyhow!("{e}"))?;
        output::print(&format!("{key}\n"))?;
        return Ok(EXIT_OK);
    }
    let text = setup::block_on(async {
        let engine = setup::engine(&settings).await?;
        Ok(reconcile::take_snapshot(&engine, &settings, daemon::powers(&settings.data_root)?).await?)
    })?;
    match &command.out {
        Some(path) => {
            host::replace(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => output::print_data(&text)?,
    }
    Ok(EXIT_OK)
}

/// Reads a snapshot, and says on standard error how old it is and who signed it.
pub fn open(path: &Path, from: &FromSnapshot) -> anyhow::Result<Snapshot> {
    let shown = path.display();
    let file = fs::File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut text = String::new();
    file.take(MAX_SNAPSHOT).read_to_string(&mut text).with_context(|| format!("cannot read {shown}"))?;
    let (snapshot, key) = snapshot::read(&text).with_context(|| format!("cannot use {shown}"))?;
    let fingerprint = key.fingerprint(ssh_key::HashAlg::Sha256);
    let signer = match &from.host_key {
        Some(wanted) => {
            let wanted = wanted_key(wanted)?;
            if wanted.get().key_data() != key.key_data() {
                let what = format!("{shown} is signed by {fingerprint}, and not by {}", wanted.fingerprint());
                let hint = "take a snapshot of the host that is meant; `tenantd snapshot --public-key` says there whose key it is";
                return Err(Failure::asked(what).hint(hint).into());
            }
            format!("signed by the host's key {fingerprint}")
        }
        None => format!("signed by {fingerprint}, and --host-key names nobody whose signature counts"),
    };
    let age = Timestamp::now().duration_since(snapshot.taken);
    if age.is_negative() {
        output::message(&format!("warning: {shown} was taken at {}, which is yet to come", snapshot.taken));
    }
    output::message(&format!("snapshot of {}, {} old, {signer}", snapshot.taken, duration(age)));
    if let Some(most) = &from.max_age {
        let most = most.parse::<Timespan>().context("--max-age")?;
        if Duration::try_from(age).is_ok_and(|age| age > most.get()) {
            let what = format!("{shown} is older than {most}");
            return Err(Failure::asked(what)
                .hint("take another by `tenantd snapshot`, or let --max-age be longer")
                .into());
        }
    }
    if snapshot.tenantd != env!("CARGO_PKG_VERSION") {
        let made = &snapshot.tenantd;
        output::message(&format!("warning: tenantd {made} took it, and another version may plan otherwise"));
    }
    Ok(snapshot)
}

/// The key itself, or that of a file.
fn wanted_key(text: &str) -> anyhow::Result<SignerKey> {
    let read = || fs::read_to_string(text).with_context(|| format!("--host-key: cannot read {text}"));
    let key = if text.contains(' ') { text.to_owned() } else { read()? };
    key.trim().parse().context("--host-key")
}
