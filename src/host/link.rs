//! Links: the veth pair from each tenant's bridge into the gateway's namespace.
//!
//! A socket for links belongs to the namespace that it was made in. So the one for the inside is made by a thread
//! that enters the namespace for just that, and is used from here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_route::{
        address::{AddressAttribute, AddressMessage},
        link::{InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage},
    },
};

use super::namespace::{self, NamespaceError};
use crate::model::{egress::FoundLink, name::LINK_PREFIX};

/// How long everything that is asked of the kernel for one observation or one link may take. It answers at once.
const DEADLINE: Duration = Duration::from_secs(10);

/// The interface that every namespace has.
const LOOPBACK: &str = "lo";

/// The longest alias of an interface, in bytes: one less than IFALIASZ of linux/if.h.
const MAX_ALIAS: usize = 255;

/// ENODEV of errno.h: there is no such link.
const NO_DEVICE: i32 = 19;

/// What keeps the host from answering on an interface, under /proc/sys/net: no IPv6 at all, no IPv4 packet whose
/// answer would leave elsewhere, no ARP for an address of another interface.
const CLOSED: [(&str, &str, &str); 3] =
    [("ipv6/conf", "disable_ipv6", "1"), ("ipv4/conf", "rp_filter", "1"), ("ipv4/conf", "arp_ignore", "2")];

/// What a link's end in the gateway's namespace must not do, whatever that namespace's own sysctls say: hand packets
/// on, answer for others, take a packet that came by another way.
const INSIDE: [(&str, &str, &str); 4] = [
    ("ipv4/conf", "forwarding", "0"),
    ("ipv4/conf", "proxy_arp", "0"),
    ("ipv4/conf", "rp_filter", "1"),
    ("ipv6/conf", "disable_ipv6", "1"),
];

/// Why a link could not be observed or made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The gateway's namespace cannot be used.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel refuses.
    #[error("cannot {action}")]
    Kernel {
        /// What was tried.
        action: String,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
    /// A socket or a sysctl cannot be used.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The tenant's bridge is not there.
    #[error("the bridge {0} is not on this host")]
    NoBridge(String),
    /// The kernel did not answer in time.
    #[error("the kernel did not answer within {} s", DEADLINE.as_secs())]
    TimedOut,
}

/// Sockets for links, here and in the gateway's namespace.
pub(super) struct Links {
    outer: Handle,
    inner: Option<(Handle, PathBuf)>,
}

/// An interface.
struct Port {
    index: u32,
    name: String,
    alias: String,
    up: bool,
    /// The index of its other end, in the namespace where that is.
    peer: Option<u32>,
    bridge: Option<u32>,
}

/// An address of an interface.
struct Address {
    index: u32,
    shown: String,
    message: AddressMessage,
}

/// All interfaces of one namespace, and their addresses.
#[derive(Default)]
struct Side {
    ports: Vec<Port>,
    addresses: Vec<Address>,
}

impl Side {
    fn named(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }

    fn addresses_of(&self, index: u32) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |address| address.index == index)
    }
}

impl Links {
    /// Opens both sockets; that for the inside only where a namespace is named.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel has no socket.
    pub(super) fn open(namespace: Option<&Path>) -> Result<Self, LinkError> {
        let runtime = tokio::runtime::Handle::current();
        let failed = |source| LinkError::Io { action: "open a socket for links".to_owned(), source };
        let (connection, outer, _) = rtnetlink::new_connection().map_err(failed)?;
        tokio::spawn(connection);
        let inner = match namespace {
            None => None,
            Some(path) => {
                let (connection, handle, _) = namespace::within(path, "open a socket for links in", || {
                    let _guard = runtime.enter();
                    rtnetlink::new_connection()
                })?;
                tokio::spawn(connection);
                Some((handle, path.to_owned()))
            }
        };
        Ok(Self { outer, inner })
    }

    /// All links of ours, or that of one name.
    ///
    /// # Errors
    /// The kernel refuses, or does not answer in time.
    pub(super) async fn observe(&self, only: Option<&str>) -> Result<BTreeMap<String, FoundLink>, LinkError> {
        within_deadline(async {
            let outer = side(&self.outer, only).await?;
            let inner = match &self.inner {
                Some((handle, _)) => side(handle, only).await?,
                None => Side::default(),
            };
            let ports = outer.ports.iter().chain(&inner.ports);
            let names: BTreeSet<&str> =
                ports.map(|port| port.name.as_str()).filter(|name| name.starts_with(LINK_PREFIX)).collect();
            let names = names.into_iter().filter(|name| only.is_none_or(|only| only == *name));
            let mut links: BTreeMap<String, FoundLink> =
                names.map(|name| (name.to_owned(), found(name, &outer, &inner))).collect();
            if let Some((_, path)) = &self.inner {
                let there = links.iter_mut().filter(|(name, _)| inner.named(name).is_some());
                look_inside(path, there)?;
            }
            Ok(links)
        })
        .await
    }

    /// Makes a link as declared, whatever is there: its end inside with one address, its end here as a port of the
    /// bridge, and neither end nor bridge a way to the host.
    ///
    /// # Errors
    /// The bridge is not there, the kernel refuses, or does not answer in time.
    pub(super) async fn make(&self, link: &str, alias: &str, bridge: &str, address: Ipv4Net) -> Result<(), LinkError> {
        within_deadline(async {
            let Some((inner, path)) = &self.inner else {
                let source = io::Error::from(io::ErrorKind::NotFound);
                return Err(LinkError::Io { action: "find the gateway's namespace".to_owned(), source });
            };
            let bridge_index =
                port(&self.outer, bridge).await?.ok_or_else(|| LinkError::NoBridge(bridge.to_owned()))?.index;
            let (here, there) = self.pair(link, inner, path).await?;
            self.guard(link, bridge).await?;
            set_inside(path, link)?;
            self.address(inner, there, address).await?;
            let up = LinkUnspec::new_with_index(there).alias(alias).up().build();
            change(inner, up, || format!("bring up {link} inside")).await?;
            let joined = LinkUnspec::new_with_index(here).alias(alias).controller(bridge_index).up().build();
            change(&self.outer, joined, || format!("join {link} with {bridge}")).await
        })
        .await
    }

    /// Both ends of a pair, here and inside. Whatever else has the name is removed.
    async fn pair(&self, link: &str, inner: &Handle, namespace: &Path) -> Result<(u32, u32), LinkError> {
        let (here, there) = (port(&self.outer, link).await?, port(inner, link).await?);
        if let (Some(here), Some(there)) = (&here, &there)
            && are_peers(here, there)
        {
            return Ok((here.index, there.index));
        }
        for (handle, end) in [(&self.outer, here), (inner, there)] {
            if let Some(end) = end {
                delete(handle, end.index, link).await?;
            }
        }
        let action = || format!("make the link {link}");
        let file = fs::File::open(namespace).map_err(|source| LinkError::Io { action: action(), source })?;
        let peer = LinkUnspec::new_with_name(link).setns_by_fd(file.as_raw_fd()).build();
        let pair = LinkMessageBuilder::<LinkVeth>::new(link, link).set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        let made = self.outer.link().add(pair.build()).execute().await;
        made.map_err(|source| LinkError::Kernel { action: action(), source })?;
        match (port(&self.outer, link).await?, port(inner, link).await?) {
            (Some(here), Some(there)) if are_peers(&here, &there) => Ok((here.index, there.index)),
            _ => Err(LinkError::Kernel { action: action(), source: rtnetlink::Error::RequestFailed }),
        }
    }

    /// Gives an interface inside one address and no other.
    async fn address(&self, inner: &Handle, index: u32, address: Ipv4Net) -> Result<(), LinkError> {
        let shown = address.to_string();
        let present = addresses(inner, Some(index)).await?;
        for other in present.iter().filter(|present| present.shown != shown) {
            remove_address(inner, other).await?;
        }
        if present.iter().any(|present| present.shown == shown) {
            return Ok(());
        }
        let added = inner.address().add(index, IpAddr::V4(address.addr()), address.prefix_len()).execute().await;
        added.map_err(|source| LinkError::Kernel { action: format!("add the address {shown}"), source })
    }

    /// Takes from a link's end here and from its bridge whatever the host could be reached by, and sets the sysctls
    /// of its end inside.
    ///
    /// # Errors
    /// The kernel refuses, or does not answer in time.
    pub(super) async fn guard(&self, link: &str, bridge: &str) -> Result<(), LinkError> {
        within_deadline(async {
            for name in [link, bridge] {
                let Some(port) = port(&self.outer, name).await? else { continue };
                close(name, &CLOSED)?;
                for address in addresses(&self.outer, Some(port.index)).await? {
                    remove_address(&self.outer, &address).await?;
                }
            }
            match &self.inner {
                Some((_, path)) => set_inside(path, link),
                None => Ok(()),
            }
        })
        .await
    }

    /// Removes a link. One that is gone is no error.
    ///
    /// # Errors
    /// The kernel refuses, or does not answer in time.
    pub(super) async fn remove(&self, link: &str) -> Result<(), LinkError> {
        within_deadline(async {
            let handles = [Some(&self.outer), self.inner.as_ref().map(|(inner, _)| inner)];
            for handle in handles.into_iter().flatten() {
                // The end inside goes with the one here.
                if let Some(end) = port(handle, link).await? {
                    delete(handle, end.index, link).await?;
                }
            }
            Ok(())
        })
        .await
    }

    /// What the loopback interface inside is marked with, if it is.
    ///
    /// # Errors
    /// The kernel refuses, or does not answer in time.
    pub(super) async fn mark(&self) -> Result<Option<PathBuf>, LinkError> {
        let Some((inner, _)) = &self.inner else { return Ok(None) };
        let loopback = within_deadline(port(inner, LOOPBACK)).await?;
        Ok(loopback.map(|port| port.alias).filter(|alias| !alias.is_empty()).map(PathBuf::from))
    }

    /// Marks the loopback interface inside.
    ///
    /// # Errors
    /// The path is longer than an alias can be, the kernel refuses, or does not answer in time.
    pub(super) async fn set_mark(&self, mark: &Path) -> Result<(), LinkError> {
        let Some((inner, _)) = &self.inner else { return Ok(()) };
        let action = || format!("mark the gateway's namespace with {}", mark.display());
        let alias = mark.to_str().filter(|path| path.len() <= MAX_ALIAS);
        let alias = alias.ok_or_else(|| LinkError::Io {
            action: action(),
            source: io::Error::other(format!("a mark is text of at most {MAX_ALIAS} bytes; choose a shorter dataRoot")),
        })?;
        within_deadline(async {
            let Some(loopback) = port(inner, LOOPBACK).await? else { return Ok(()) };
            change(inner, LinkUnspec::new_with_index(loopback.index).alias(alias).build(), action).await
        })
        .await
    }

    /// Whether there is an interface of a name here.
    ///
    /// # Errors
    /// The kernel refuses, or does not answer in time.
    pub(super) async fn has(&self, name: &str) -> Result<bool, LinkError> {
        within_deadline(async { Ok(port(&self.outer, name).await?.is_some()) }).await
    }
}

async fn within_deadline<T>(work: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    tokio::time::timeout(DEADLINE, work).await.unwrap_or(Err(LinkError::TimedOut))
}

fn are_peers(here: &Port, there: &Port) -> bool {
    here.peer == Some(there.index) && there.peer == Some(here.index)
}

/// A link out of what is there of it on both sides.
fn found(name: &str, outer: &Side, inner: &Side) -> FoundLink {
    let (here, there) = (outer.named(name), inner.named(name));
    let bridge = here.and_then(|here| outer.ports.iter().find(|port| Some(port.index) == here.bridge));
    let joined = matches!((here, there), (Some(here), Some(there)) if are_peers(here, there));
    let ends = || here.into_iter().chain(there);
    FoundLink {
        alias: ends().map(|end| end.alias.clone()).find(|alias| !alias.is_empty()).unwrap_or_default(),
        joined,
        bridge: bridge.map(|bridge| bridge.name.clone()).unwrap_or_default(),
        up: joined && ends().all(|end| end.up),
        addresses: there
            .into_iter()
            .flat_map(|there| inner.addresses_of(there.index))
            .map(|address| address.shown.clone())
            .collect(),
        host_side: here.into_iter().chain(bridge).flat_map(|port| reachable(port, outer)).collect(),
        // Those are read by a thread that is inside.
        sysctls: BTreeSet::new(),
    }
}

/// By what the host can be reached on an interface.
fn reachable(port: &Port, side: &Side) -> Vec<String> {
    let name = &port.name;
    let sysctls = open_on(name, &CLOSED);
    let addresses = side.addresses_of(port.index).map(|address| format!("{} on {name}", address.shown));
    sysctls.into_iter().chain(addresses).collect()
}

/// Which sysctls of an interface of the calling thread's namespace are not as they must be.
fn open_on(name: &str, sysctls: &[(&str, &str, &str)]) -> Vec<String> {
    let is_open = |(family, sysctl, value): &&(&str, &str, &str)| {
        // What a kernel does not have cannot be open.
        fs::read_to_string(sysctl_path(family, name, sysctl)).is_ok_and(|found| found.trim() != *value)
    };
    sysctls.iter().filter(is_open).map(|(_, sysctl, _)| format!("{sysctl} on {name}")).collect()
}

fn close(name: &str, sysctls: &[(&str, &str, &str)]) -> Result<(), LinkError> {
    sysctls.iter().try_for_each(|(family, sysctl, value)| set(&sysctl_path(family, name, sysctl), value))
}

fn look_inside<'a>(
    namespace: &Path,
    links: impl Iterator<Item = (&'a String, &'a mut FoundLink)> + Send,
) -> Result<(), LinkError> {
    Ok(namespace::within(namespace, "read the sysctls of", || {
        links.for_each(|(name, link)| link.sysctls = open_on(name, &INSIDE).into_iter().collect());
        Ok(())
    })?)
}

fn set_inside(namespace: &Path, link: &str) -> Result<(), LinkError> {
    namespace::within(namespace, "set the sysctls of", || Ok(close(link, &INSIDE)))?
}

fn sysctl_path(family: &str, interface: &str, sysctl: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(family).join(interface).join(sysctl)
}

fn set(path: &Path, value: &str) -> Result<(), LinkError> {
    match fs::read_to_string(path) {
        Ok(found) if found.trim() == value => return Ok(()),
        // A kernel without IPv6 has nothing to switch off.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        _ => {}
    }
    fs::write(path, value).map_err(|source| LinkError::Io { action: format!("set {}", path.display()), source })
}

/// All interfaces and addresses, or those that the link of one name leads to.
async fn side(handle: &Handle, only: Option<&str>) -> Result<Side, LinkError> {
    let ports = match only {
        None => {
            let listed: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.map_err(observing)?;
            listed.iter().map(Port::of).collect()
        }
        Some(name) => {
            let own = port(handle, name).await?;
            let bridge = match own.as_ref().and_then(|own| own.bridge) {
                Some(index) => get(handle, handle.link().get().match_index(index)).await?,
                None => None,
            };
            own.into_iter().chain(bridge).collect::<Vec<_>>()
        }
    };
    let addresses = if ports.is_empty() { Vec::new() } else { addresses(handle, None).await? };
    Ok(Side { ports, addresses })
}

fn observing(source: rtnetlink::Error) -> LinkError {
    LinkError::Kernel { action: "look at the links".to_owned(), source }
}

async fn port(handle: &Handle, name: &str) -> Result<Option<Port>, LinkError> {
    get(handle, handle.link().get().match_name(name.to_owned())).await
}

async fn get(_: &Handle, request: rtnetlink::LinkGetRequest) -> Result<Option<Port>, LinkError> {
    match request.execute().try_next().await {
        Ok(found) => Ok(found.as_ref().map(Port::of)),
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code().abs() == NO_DEVICE => Ok(None),
        Err(e) => Err(observing(e)),
    }
}

async fn addresses(handle: &Handle, of: Option<u32>) -> Result<Vec<Address>, LinkError> {
    let request = handle.address().get();
    let request = match of {
        Some(index) => request.set_link_index_filter(index),
        None => request,
    };
    let listed: Vec<AddressMessage> = request.execute().try_collect().await.map_err(observing)?;
    Ok(listed.into_iter().filter_map(Address::of).collect())
}

async fn remove_address(handle: &Handle, address: &Address) -> Result<(), LinkError> {
    let removed = handle.address().del(address.message.clone()).execute().await;
    removed.map_err(|source| LinkError::Kernel { action: format!("remove the address {}", address.shown), source })
}

async fn change(handle: &Handle, message: LinkMessage, action: impl FnOnce() -> String) -> Result<(), LinkError> {
    let changed = handle.link().change(message).execute().await;
    changed.map_err(|source| LinkError::Kernel { action: action(), source })
}

async fn delete(handle: &Handle, index: u32, name: &str) -> Result<(), LinkError> {
    match handle.link().del(index).execute().await {
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code().abs() == NO_DEVICE => Ok(()),
        other => other.map_err(|source| LinkError::Kernel { action: format!("remove the link {name}"), source }),
    }
}

impl Port {
    fn of(message: &LinkMessage) -> Self {
        let mut port = Self {
            index: message.header.index,
            name: String::new(),
            alias: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            peer: None,
            bridge: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => port.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => port.alias.clone_from(alias),
                LinkAttribute::Link(index) => port.peer = Some(*index),
                LinkAttribute::Controller(index) => port.bridge = Some(*index).filter(|index| *index > 0),
                _ => {}
            }
        }
        port
    }
}

impl Address {
    fn of(message: AddressMessage) -> Option<Self> {
        let local = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        let address = local.or_else(|| {
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
        })?;
        let shown = format!("{address}/{}", message.header.prefix_len);
        Some(Self { index: message.header.index, shown, message })
    }
}
