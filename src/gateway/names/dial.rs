//! Dialling: the very addresses that were looked up once and judged.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, getsockname, socket_with};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    race::{DELAY, Worked, race},
    resolve::Resolver,
    resolved::Names,
};
use crate::{
    accounting::account::Account,
    model::EgressPolicy,
    policy::{
        Rule,
        authority::{Authority, Host},
        decide::may_dial,
        in_force::Newest,
    },
    proxy::wire,
};

/// How long it may take until a destination is connected, all of its addresses together.
const CONNECT: Duration = Duration::from_secs(10);

/// Dials for tenants. It works in the network namespace of the threads that call it: the host's.
#[derive(Debug)]
pub struct Dialer {
    resolver: Resolver,
    rules: RwLock<Arc<Rules>>,
}

/// What the host's settings say about dialling.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The addresses that tenants' networks are cut from.
    pub pool: Ipv4Net,
    /// Who is asked for names; empty for those of /etc/resolv.conf.
    pub resolvers: Vec<SocketAddr>,
    /// How many names a tenant may look up in a second.
    pub lookups: u32,
}

/// What is remembered for a tenant of the names that it asked for.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// Their addresses.
    names: Names,
    /// Which addresses worked where others did not.
    worked: Worked,
}

impl Dialer {
    /// Dials as the host's settings say.
    pub fn new(rules: Rules) -> Self {
        let resolver = Resolver::default();
        resolver.set_servers(&rules.resolvers);
        Self { resolver, rules: RwLock::new(Arc::new(rules)) }
    }

    /// Dials as changed settings say from now on.
    pub fn set_rules(&self, rules: Rules) {
        self.resolver.set_servers(&rules.resolvers);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Connects a tenant with a destination that its allowlist or a route of its own has let through. The addresses are
    /// judged by what is in force when they are there.
    ///
    /// # Errors
    /// The addresses may not be dialled, or it does not answer.
    pub(crate) async fn connect(
        &self,
        account: &Account,
        remembered: &Remembered,
        in_force: &Newest,
        to: &Authority,
    ) -> Result<TcpStream, Rule> {
        let rules = Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner));
        let addresses = match &to.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.resolver.lookup(account, &remembered.names, name, rules.lookups).await?,
        };
        let addresses = permitted(&in_force.now().policy, &addresses, to.port, rules.pool)?;
        let addresses = remembered.worked.first(to, addresses, Instant::now());
        match connect_first(account, &addresses, to.port).await {
            Ok((address, stream)) => {
                remembered.worked.note(to, &addresses, address, Instant::now());
                Ok(stream)
            }
            Err(error) => {
                tracing::debug!(tenant = %account.tenant(), destination = %to, %error, "a destination does not answer");
                Err(Rule::Unreachable)
            }
        }
    }
}

/// The addresses that may be dialled, in their order.
fn permitted(policy: &EgressPolicy, addresses: &[Ipv4Addr], port: u16, pool: Ipv4Net) -> Result<Vec<Ipv4Addr>, Rule> {
    let may = |address: &Ipv4Addr| {
        let is_pool = pool.contains(address);
        may_dial(policy, *address, port, is_own(*address), is_pool).is_ok()
    };
    let permitted: Vec<Ipv4Addr> = addresses.iter().copied().filter(may).collect();
    if permitted.is_empty() { Err(Rule::AddressNotPublic) } else { Ok(permitted) }
}

/// Whether an address is one of this host's: the kernel then chooses it as the source as well. A
/// datagram's socket is connected without a packet.
fn is_own(address: Ipv4Addr) -> bool {
    // Any port but 0 will do.
    const PORT: u16 = 9;
    let source = || -> io::Result<SocketAddr> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrV4::new(address, PORT))?;
        Ok(SocketAddr::try_from(getsockname(&socket)?)?)
    };
    // Where there is no route, nothing can be dialled either.
    source().is_ok_and(|source| source.ip() == address)
}

/// Connects with the first of several addresses that answers. Each attempt beside the first has a place of its own
/// among those of all tenants.
async fn connect_first(account: &Account, addresses: &[Ipv4Addr], port: u16) -> io::Result<(Ipv4Addr, TcpStream)> {
    let attempt = |address| TcpStream::connect((address, port));
    let place = || account.attempt();
    let racing = timeout(CONNECT, race(addresses, attempt, place, || sleep(DELAY)));
    let (address, stream) = racing.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    wire::bound(&stream)?;
    Ok((address, stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_known() {
        assert!(is_own(Ipv4Addr::LOCALHOST));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 77)));
    }
}
