//! What a daemon says to the ingress of tenants that run: where they are, and that one needs a token.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Permissions},
    io::{Read, Write},
    net::Ipv4Addr,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    thread,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tenantd::model::{
    Access, Power, TenantName, Token, TokenId,
    ingress::{Expose, IngressState, Reachable, StateContent},
    token::{Right, SigningKey},
};

use super::{APP, app};

/// The tenant that everybody may reach, and the one that needs a token. Both are the same app.
pub const PUBLIC: &str = "public";
pub const GUARDED: &str = "guarded";

/// How long a question waits that has the newest state already.
const PARKED: Duration = Duration::from_secs(3);

/// The version of the only state.
const VERSION: &str = "1";

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

/// A token of the tenant that needs one.
pub fn token() -> anyhow::Result<String> {
    let token = Token {
        id: TokenId::of_random(&[7; 32]),
        tenant: GUARDED.parse().map_err(anyhow::Error::msg)?,
        may: BTreeSet::from([Right::Http]),
        expires: Timestamp::now() + SignedDuration::from_hours(24),
    };
    Ok(token.sign(&key()))
}

fn state() -> anyhow::Result<IngressState> {
    let reachable = |access, address: Ipv4Addr| Reachable {
        access,
        ports: BTreeMap::from([(app::PORT, Expose::default())]),
        address: Some(address),
        container: Some("app".to_owned()),
        power: Power::Running,
        running: true,
        waits_for_memory: false,
        closed: None,
    };
    let mut tenants = BTreeMap::new();
    for (name, access) in [(PUBLIC, Access::Public), (GUARDED, Access::Token)] {
        let name: TenantName = name.parse().map_err(anyhow::Error::msg)?;
        tenants.insert(name, reachable(access, APP));
    }
    let content = StateContent { key: key().public(), revoked: BTreeSet::new(), waiting_page: false, tenants };
    Ok(IngressState { version: VERSION.to_owned(), content: Some(content) })
}

/// Begins to answer on a socket in this folder, until the process ends.
pub fn start(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let socket = folder.join("daemon.sock");
    let listener = UnixListener::bind(&socket)?;
    fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    let news = serde_json::to_string(&state()?)?;
    let same = serde_json::to_string(&IngressState { version: VERSION.to_owned(), content: None })?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (news, same) = (news.clone(), same.clone());
            thread::spawn(move || answer(stream, &news, &same));
        }
    });
    Ok(())
}

fn answer(mut stream: UnixStream, news: &str, same: &str) -> std::io::Result<()> {
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => head.extend(buffer.get(..length).unwrap_or_default()),
        }
    }
    let knows_it = head.starts_with(format!("GET /v1/state/{VERSION} ").as_bytes());
    if knows_it {
        thread::sleep(PARKED);
    }
    let body = if knows_it { same } else { news };
    let kind = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
    write!(stream, "{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
