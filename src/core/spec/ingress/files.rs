//! The keys as people write them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{IngressAddress, IngressUser, WakeTime};
use crate::{
    model::{
        host::{Domain, Origin},
        ingress::{Access, HealthPath},
    },
    spec::{
        decode::Located,
        egress::values::{HeadSize, HelloTime, IdleTime},
        values::{AbsolutePath, Number, SocketPath},
    },
};

/// Ingress: where it listens, and who may reach tenants through it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressFile {
    /// The addresses that it listens on, at most 8. What comes there is in the clear, unless `tls` is set.
    #[schemars(length(min = 1, max = 8))]
    pub listen: Located<Vec<Located<IngressAddress>>>,
    /// The domain below which tenants are reached: `TENANT.DOMAIN`, and `PORT-TENANT.DOMAIN`.
    pub domain: Located<Domain>,
    /// The widest `access` that a tenant's file may choose: `token` or `public`. Default: token.
    pub access: Option<Located<Access>>,
    /// What it serves TLS with. Default: none, for a proxy in front of it.
    pub tls: Option<Located<TlsFile>>,
    /// Whether a proxy in front of it terminates TLS, and nobody else reaches it: then browsers may get a cookie, and tenants are
    /// told that requests came over https. Not together with `tls`. Default: false.
    pub tls_terminated: Option<Located<bool>>,
    /// Origins of pages beside a tenant's own that may open a WebSocket, or send what changes something, with a cookie of
    /// ingress. Default: none.
    pub origins: Option<Located<Vec<Located<Origin>>>>,
    /// The user that it becomes once it has begun. Default: tenantd-ingress.
    pub user: Option<Located<IngressUser>>,
    /// Its own folder, the only one that it writes to. Default: /var/lib/tenantd-ingress.
    pub state: Option<Located<AbsolutePath>>,
    /// The daemon's socket for it, at most 100 bytes long, in a folder of its own: it sees all of that. Default: /run/tenantd/ingress/daemon.sock.
    pub socket: Option<Located<SocketPath>>,
    /// How long a request waits for its tenant to be woken, 1s to 10m. Default: 60s.
    pub wake_timeout: Option<Located<WakeTime>>,
    /// What clients may use of it.
    pub limits: Option<Located<IngressLimitsFile>>,
}

/// What ingress serves TLS with. Both files are read again when they change.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsFile {
    /// A PEM file with the certificate for `*.DOMAIN`, and behind it those that lead to its authority.
    pub certificate: Located<AbsolutePath>,
    /// A PEM file with the certificate's private key.
    pub key: Located<AbsolutePath>,
}

/// What clients may use of ingress.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressLimitsFile {
    /// Connections of clients at once, 1 to 100000. Default: 4096.
    pub connections: Option<Located<Number<1, 100_000>>>,
    /// Requests of one tenant that are under way at once, 1 to 100000. Default: 512.
    pub requests_per_tenant: Option<Located<Number<1, 100_000>>>,
    /// Requests that wait at once for one tenant to be woken, 1 to 100000. Default: 64.
    pub held_per_tenant: Option<Located<Number<1, 100_000>>>,
    /// Requests that wait at once for tenants to be woken, 1 to 100000. Default: 1024.
    pub held: Option<Located<Number<1, 100_000>>>,
    /// How often in a minute requests without a token wake a public tenant, 1 to 6000. Default: 6.
    pub public_wakes_per_minute: Option<Located<Number<1, 6_000>>>,
    /// The most bytes that the request line and the headers of a request may have, 4KiB to 1MiB. Default: 64KiB.
    pub max_header_size: Option<Located<HeadSize>>,
    /// How long a client may take for its TLS handshake, and for the head of a request, 100ms to 2m. Default: 10s.
    pub handshake_timeout: Option<Located<HelloTime>>,
    /// How long a connection may carry nothing in either direction, 1s to 24h. Default: 5m.
    pub idle_timeout: Option<Located<IdleTime>>,
    /// How long a client or a tenant may read nothing of what waits for it, 1s to 24h. Default: 1m.
    pub stall_timeout: Option<Located<IdleTime>>,
}

/// A port that ingress lets requests in to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExposeFile {
    /// The port on which the tenant serves HTTP/1.1, 1 to 65535.
    pub port: Located<Number<1, 65_535>>,
    /// The tenant counts as ready when a GET of this path is answered with 2xx or 3xx. Default: when the port accepts a
    /// connection.
    pub path: Option<Located<HealthPath>>,
}
