//! The files of counts: `TENANT/2026-11.json`, replaced as a whole.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use super::{Count, Days};
use crate::{host, model::TenantName};

/// The version of the format. A newer one is refused.
const VERSION: u32 = 1;

/// The longest file that is read, in bytes: a month of a full allowlist takes about 5 MB.
const MAX_FILE: u64 = 16 << 20;

/// Why counts cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A file or folder refused.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path} holds no counts", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A newer version of the program wrote it.
    #[error("{path} was written by a newer tenantd", path = .0.display())]
    Newer(PathBuf),
}

impl UsageError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

#[derive(Serialize, Deserialize)]
struct Month {
    v: u32,
    days: Days,
}

/// The file that says since when there have been counts. No tenant has such a name.
const SINCE: &str = ".since";

/// Makes the folder where there is none, and notes when that was.
pub(super) fn begin(folder: &Path, now: Timestamp) -> Result<(), UsageError> {
    prepare(folder)?;
    if counted_since(folder)?.is_none() {
        let path = folder.join(SINCE);
        host::replace(&path, format!("{now}\n").as_bytes()).map_err(|e| UsageError::io("write", &path, e))?;
    }
    Ok(())
}

/// Since when there have been counts; `None` where there are none.
///
/// # Errors
/// The file that says so cannot be read.
pub fn counted_since(folder: &Path) -> Result<Option<Timestamp>, UsageError> {
    let path = folder.join(SINCE);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(UsageError::io("read", &path, e)),
    }
}

/// Makes a folder.
pub(super) fn prepare(folder: &Path) -> Result<(), UsageError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| UsageError::io("make", folder, e))
}

/// Everything that the files say, by tenant. What is no file of counts is passed over.
///
/// # Errors
/// A folder or file cannot be read, or was written by a newer version. There being none is no error.
pub fn read(folder: &Path) -> Result<BTreeMap<TenantName, Days>, UsageError> {
    let mut tenants = BTreeMap::new();
    for name in names(folder)? {
        let Ok(tenant) = name.parse::<TenantName>() else { continue };
        let own = folder.join(&name);
        let mut days = Days::new();
        for month in months(&own)? {
            days.extend(read_month(&own.join(month))?);
        }
        tenants.insert(tenant, days);
    }
    Ok(tenants)
}

/// Adds counts to a day, and drops the oldest months beyond so many.
pub(super) fn add(
    folder: &Path,
    tenant: &TenantName,
    day: Date,
    counts: &BTreeMap<String, Count>,
    kept: usize,
) -> Result<(), UsageError> {
    let own = folder.join(tenant.as_str());
    prepare(&own)?;
    let path = own.join(format!("{:04}-{:02}.json", day.year(), day.month()));
    let mut days = read_month(&path)?;
    let of_day = days.entry(day).or_default();
    for (destination, count) in counts {
        of_day.entry(destination.clone()).or_default().add(count);
    }
    let failed = |e| UsageError::io("write", &path, e);
    let text = serde_json::to_vec(&Month { v: VERSION, days }).map_err(|e| failed(e.into()))?;
    host::replace(&path, &text).map_err(failed)?;
    let months = months(&own)?;
    for old in months.iter().take(months.len().saturating_sub(kept)) {
        let old = own.join(old);
        fs::remove_file(&old).map_err(|e| UsageError::io("remove", &old, e))?;
    }
    Ok(())
}

fn read_month(path: &Path) -> Result<Days, UsageError> {
    let failed = |e| UsageError::io("read", path, e);
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => drop(file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Days::new()),
        Err(e) => return Err(failed(e)),
    }
    let month: Month =
        serde_json::from_slice(&bytes).map_err(|source| UsageError::Malformed { path: path.to_owned(), source })?;
    if month.v > VERSION {
        return Err(UsageError::Newer(path.to_owned()));
    }
    Ok(month.days)
}

/// The months of a tenant, in order.
fn months(own: &Path) -> Result<Vec<String>, UsageError> {
    let is_month =
        |name: &String| name.strip_suffix(".json").is_some_and(|month| format!("{month}-01").parse::<Date>().is_ok());
    let mut months: Vec<String> = names(own)?.into_iter().filter(is_month).collect();
    months.sort();
    Ok(months)
}

fn names(folder: &Path) -> Result<Vec<String>, UsageError> {
    let failed = |e| UsageError::io("read", folder, e);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let names: io::Result<Vec<Option<String>>> = names.collect();
    Ok(names.map_err(failed)?.into_iter().flatten().collect())
}
