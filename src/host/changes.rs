//! Changes beside the engine, as the kernel reports them: links and their addresses, policies, secrets, workspaces'
//! mounts.
//!
//! Nothing is read. It reports that something may have changed, and never that nothing did: a look at
//! everything goes on beside.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use futures_util::{StreamExt, future::ready, stream::BoxStream};
use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkPayload,
    packet_route::{RouteNetlinkMessage, address::AddressAttribute, link::LinkAttribute},
};
use tokio::{sync::mpsc, task::JoinHandle, time};

use super::{Workspaces, namespace, policies, secret, watch::FolderWatch};
use crate::model::{
    Host,
    host::{Egress, SecretPlace},
    name::{BRIDGE_PREFIX, LINK_PREFIX},
};

/// How many changes may wait for whoever hears them. Beyond that one of everything is reported.
const QUEUE: usize = 1024;

/// How often is looked whether a folder or the gateway's namespace is another one now.
const AGAIN: Duration = Duration::from_secs(5);

/// What may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostChange {
    /// An interface of this name, a link or a bridge, here or in the gateway's namespace.
    Interface(String),
    /// A file with a tenant's policy or secrets for the gateway.
    Tenant(String),
    /// Secrets of this host.
    Secrets,
    /// The mount of a tenant's workspace.
    Workspace(String),
}

/// Changes on one host, from the moment that this is made.
pub struct Changes {
    news: mpsc::Receiver<HostChange>,
    task: JoinHandle<()>,
}

impl Changes {
    /// Begins to listen.
    pub fn begin(host: &Host) -> Self {
        let (sender, news) = mpsc::channel(QUEUE);
        let task = tokio::spawn(follow(host.egress.clone(), Workspaces::new(host), sender));
        Self { news, task }
    }

    /// The next change.
    pub async fn next(&mut self) -> Option<HostChange> {
        self.news.recv().await
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(egress: Egress, workspaces: Workspaces, sender: mpsc::Sender<HostChange>) {
    let notify = {
        let sender = sender.clone();
        move |change| {
            // Where the queue is full, the full scan finds what is dropped here.
            let _ = sender.try_send(change);
        }
    };
    let mut files = watch_files(&egress, notify.clone());
    let mut here = links(None);
    let (mut inside, mut inode) = (silence(), None);
    let mut mounts = pin!(workspaces.follow_mounts(|tenant| notify(HostChange::Workspace(tenant))));
    let mut again = time::interval(AGAIN);
    again.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = again.tick() => {
                files.ensure();
                let path = namespace::path(&egress.namespace).ok().filter(|path| namespace::is_there(path));
                let now = path.as_ref().and_then(|path| std::fs::metadata(path).ok()).map(|found| found.ino());
                if now != inode {
                    (inside, inode) = (path.map_or_else(silence, |path| links(Some(&path))), now);
                }
            }
            Some(name) = here.next() => notify(HostChange::Interface(name)),
            Some(name) = inside.next() => notify(HostChange::Interface(name)),
            never = &mut mounts => match never {},
            () = sender.closed() => return,
        }
    }
}

fn watch_files(egress: &Egress, notify: impl Fn(HostChange) + Send + Sync + 'static) -> FolderWatch {
    let own = policies::folders(&egress.policies);
    let secrets: BTreeSet<PathBuf> = egress
        .secrets
        .values()
        .filter_map(|grant| match &grant.place {
            SecretPlace::Host(place) => secret::locate(place).ok(),
            SecretPlace::Sealed => None,
        })
        .collect();
    let parents = secrets.iter().filter_map(|file| Some(file.parent()?.to_owned()));
    let folders: BTreeSet<PathBuf> = own.iter().cloned().chain(parents).collect();
    FolderWatch::new(folders.into_iter().collect(), move |path: &Path| {
        if secrets.contains(path) {
            notify(HostChange::Secrets);
        } else if own.iter().any(|own| path.parent() == Some(own)) {
            policies::tenant_of(path).into_iter().for_each(|tenant| notify(HostChange::Tenant(tenant)));
        }
    })
}

/// The names of our interfaces as something happens to them; nothing where the kernel does not report it.
fn links(within: Option<&Path>) -> BoxStream<'static, String> {
    const GROUPS: [MulticastGroup; 3] = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let runtime = tokio::runtime::Handle::current();
    let connect = || rtnetlink::new_multicast_connection(&GROUPS);
    let connection = match within {
        None => connect().map_err(|e| e.to_string()),
        Some(path) => namespace::within(path, "listen to links in", || {
            let _guard = runtime.enter();
            connect()
        })
        .map_err(|e| e.to_string()),
    };
    match connection {
        Ok((connection, handle, messages)) => {
            tokio::spawn(connection);
            // The connection ends with its handle.
            let with_handle = messages.map(move |(message, _)| (message, handle.clone()));
            with_handle.filter_map(|(message, _)| ready(ours(message.payload))).boxed()
        }
        Err(error) => {
            tracing::warn!(error, "the kernel does not report links; only full scans show what happens to them");
            silence()
        }
    }
}

fn silence() -> BoxStream<'static, String> {
    futures_util::stream::pending().boxed()
}

/// The name of one of our interfaces that a message is about. Of a bridge only addresses count: the engine
/// adds and removes ports all the time.
fn ours(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<String> {
    let NetlinkPayload::InnerMessage(message) = payload else { return None };
    match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) if name.starts_with(LINK_PREFIX) => Some(name),
                _ => None,
            })
        }
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            address.attributes.into_iter().find_map(|attribute| match attribute {
                AddressAttribute::Label(name) if name.starts_with(LINK_PREFIX) || name.starts_with(BRIDGE_PREFIX) => {
                    Some(name)
                }
                _ => None,
            })
        }
        _ => None,
    }
}
