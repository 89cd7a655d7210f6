//! What the host offers and where it draws the line. Set by who owns the host, never by a commit.

use std::{collections::BTreeMap, path::PathBuf};

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{Bytes, Cpus, Pids, RuntimeClass, quantity::Timespan};

/// The host's settings with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// The engine's socket.
    pub engine: PathBuf,
    /// The folder for workspaces and the lock.
    pub data_root: PathBuf,
    /// The addresses that tenant networks are cut from.
    pub pool: Ipv4Net,
    /// The length of each tenant network's prefix.
    pub prefix: u8,
    /// The engine's runtime for each class that this host offers.
    pub runtimes: BTreeMap<RuntimeClass, String>,
    /// How long each thing may take.
    pub deadlines: Deadlines,
    /// What no tenant may exceed, whatever a commit says.
    pub ceilings: Ceilings,
    /// How many tenants are worked on at once.
    pub parallelism: usize,
}

/// How long each call to the engine may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Deadlines {
    /// One call that reads or changes something.
    pub call: Timespan,
    /// Starting a container.
    pub start: Timespan,
    /// What a container is given between TERM and KILL.
    pub stop: Timespan,
    /// How long a container that was started is watched before it counts as running.
    pub settle: Timespan,
}

/// The most that one tenant may have on this host; `None` leaves it to the tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ceilings {
    /// Processors.
    pub cpus: Option<Cpus>,
    /// Memory.
    pub memory: Option<Bytes>,
    /// Processes and threads.
    pub pids: Option<Pids>,
    /// Workspace.
    pub disk: Option<Bytes>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            engine: PathBuf::from("/var/run/docker.sock"),
            data_root: PathBuf::from("/var/lib/tenantd"),
            pool: Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 77, 0, 0), 16),
            prefix: 28,
            runtimes: BTreeMap::from([
                (RuntimeClass::Container, "runc".to_owned()),
                (RuntimeClass::Gvisor, "runsc".to_owned()),
            ]),
            deadlines: Deadlines {
                call: Timespan::seconds(30),
                start: Timespan::seconds(60),
                stop: Timespan::seconds(10),
                // A command that does not exist ended 16 to 66 ms after the engine's answer with runc,
                // and 60 to 106 ms with runsc, on an idle machine.
                settle: Timespan::milliseconds(200),
            },
            ceilings: Ceilings::default(),
            parallelism: 8,
        }
    }
}

impl Host {
    /// Where a tenant's workspace lies.
    pub fn workspace(&self, tenant: &str) -> PathBuf {
        self.data_root.join("workspaces").join(tenant)
    }
}
