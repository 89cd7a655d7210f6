//! The keys as people write them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{
    Bandwidth, BasicName, BodySize, Credits, HeadSize, HeaderName, HelloTime, IdleTime, JsonPointer, LocalUser,
    NamespaceName, ParameterName, PermitRange, ResolverAddress, UpstreamHost,
};
use crate::{
    model::{
        SecretName, TenantName,
        egress::{RouteName, StreamMode, Template, Upstream},
    },
    spec::{
        decode::{Located, LocatedMap},
        values::{AbsolutePath, CredentialName, Number, SecretPlace},
    },
};

/// Egress: what the gateway works with, and what no allowlist can open.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressFile {
    /// The name servers that are asked. Default: those of /etc/resolv.conf.
    pub resolvers: Option<Located<Vec<Located<ResolverAddress>>>>,
    /// The port of the proxy, inside, 1024 to 65535. Default: 3128.
    pub proxy_port: Option<Located<Number<1_024, 65_535>>>,
    /// Ranges that allowlists may name: private ones, and public ones as a whole. Never those of tenant
    /// networks, of the host itself or of metadata. Default: none.
    pub permitted_ranges: Option<Located<Vec<Located<PermitRange>>>>,
    /// The folder in which the gateway finds what each tenant may reach. It belongs on a file system in
    /// memory, because of the secrets. Default: /run/tenantd/egress.
    pub policies: Option<Located<AbsolutePath>>,
    /// The gateway's own folder, the only one that it writes to. Default: /var/lib/tenantd-gateway.
    pub state: Option<Located<AbsolutePath>>,
    /// The user that the gateway becomes once it has begun. Default: tenantd-gateway.
    pub user: Option<Located<LocalUser>>,
    /// The gateway's network namespace, by its name under /run/netns. Default: tenantd.
    pub namespace: Option<Located<NamespaceName>>,
    /// A PEM file of certificate authorities that upstreams of credentials may use beside the host's own.
    /// Default: none.
    pub ca_bundle: Option<Located<AbsolutePath>>,
    /// The tenants whose TLS may carry an encrypted client hello (ECH), as every one of Chromium does, where its
    /// outer name is listed. It can hide any other name of whoever serves that one. Default: none.
    pub encrypted_client_hello: Option<Located<Vec<Located<TenantName>>>>,
    /// The private key of age that secrets in tenant files are encrypted to.
    pub identity: Option<Located<SecretPlace>>,
    /// Each secret by its name, and whom it may serve. Default: none.
    #[serde(default)]
    pub secrets: LocatedMap<SecretName, SecretFile>,
    /// What one tenant may use of the gateway.
    pub limits: Option<Located<EgressLimitsFile>>,
}

/// A secret: where it lies, one of `file`, `credential` and `sealed`, and whom it may serve.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["file"]}, {"required": ["credential"]}, {"required": ["sealed"]}]))]
pub struct SecretFile {
    /// The file that holds it, closed to everyone but root.
    pub file: Option<Located<AbsolutePath>>,
    /// The name that the unit's LoadCredential= gives it.
    pub credential: Option<Located<CredentialName>>,
    /// `true` where the files of its tenants hold it under `sealed`, encrypted to `egress.identity`.
    pub sealed: Option<Located<bool>>,
    /// The tenants that may name it.
    #[schemars(length(min = 1))]
    pub tenants: Located<Vec<Located<TenantName>>>,
    /// The hosts that it may be sent to.
    #[schemars(length(min = 1))]
    pub upstreams: Located<Vec<Located<UpstreamHost>>>,
}

/// What one tenant may use of the gateway.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressLimitsFile {
    /// Connections at once, 1 to 100000. Default: 256.
    pub connections: Option<Located<Number<1, 100_000>>>,
    /// Bytes in a second, both directions together, 16KiB to 100GiB. Default: no bound.
    pub bandwidth: Option<Located<Bandwidth>>,
    /// DNS look-ups in a second, 1 to 100000. Default: 50.
    pub lookups_per_second: Option<Located<Number<1, 100_000>>>,
    /// The most bytes that the request line and the headers of a request may have, 4KiB to 1MiB. Default: 64KiB.
    pub max_header_size: Option<Located<HeadSize>>,
    /// The most bytes that the body of a request through a credential's route may have, 1KiB to 16GiB. Default: 64MiB.
    pub max_body_size: Option<Located<BodySize>>,
    /// How long a client may take to name its destination, by a TLS client hello or the head of a request, 100ms to 2m.
    /// Default: 10s.
    pub handshake_timeout: Option<Located<HelloTime>>,
    /// How long a connection may carry nothing in either direction, 1s to 24h. Default: 1h.
    pub idle_timeout: Option<Located<IdleTime>>,
    /// How long a client or a destination may read nothing of what waits for it, 1s to 24h. Default: 5m.
    pub stall_timeout: Option<Located<IdleTime>>,
}

/// A service that the tenant reaches through the gateway, with a key that it never sees.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialFile {
    /// Its name inside: `/crm/` is reached as `http://gateway.internal/crm/…` and as
    /// `http://crm.gateway.internal/…`.
    pub route: Located<RouteName>,
    /// Where it leads. The secret's entry in `host.yaml` must name this host.
    pub upstream: Located<Upstream>,
    /// What is added to each request; the caller's own such header or parameter is removed.
    pub inject: Located<InjectFile>,
    /// What a request costs. Default: nothing.
    pub cost: Option<Located<CostFile>>,
}

/// What is added to each request: one of `header`, `query` and `basic`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["header", "value"]}, {"required": ["query", "value"]}, {"required": ["basic"], "not": {"required": ["value"]}}]))]
pub struct InjectFile {
    /// The header that gets `value`.
    pub header: Option<Located<HeaderName>>,
    /// The parameter of the query that gets `value`.
    pub query: Option<Located<ParameterName>>,
    /// The value, with `${secret:NAME}` where the secret belongs.
    pub value: Option<Located<Template>>,
    /// Basic authentication.
    pub basic: Option<Located<BasicFile>>,
}

/// Basic authentication.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicFile {
    /// The user name.
    pub username: Located<BasicName>,
    /// The password, with `${secret:NAME}` where the secret belongs.
    pub password: Located<Template>,
}

/// What a request costs.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CostFile {
    /// Credits that are reserved before it is sent.
    pub reserve: Located<Credits>,
    /// Where the answer says what it really cost. Default: it costs what was reserved.
    pub settle: Option<Located<JsonPointer>>,
    /// What is done with answers that come as a stream: `meter` or `refuse`. Default: meter.
    pub stream: Option<Located<StreamMode>>,
}

/// How many credits a tenant may use.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BudgetFile {
    /// In a day of UTC. Default: no bound.
    pub day: Option<Located<Credits>>,
    /// In a month of UTC. Default: no bound.
    pub month: Option<Located<Credits>>,
}
