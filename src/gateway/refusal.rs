//! What is refused, and why, in words that name the tenant, the destination and the rule.

use std::fmt;

use crate::model::TenantName;

/// Something that a tenant may not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who.
    pub tenant: TenantName,
    /// Where to, as asked for, made safe to print and cut to a length.
    pub destination: String,
    /// Which rule says no.
    pub rule: Rule,
}

/// Why something is refused. The kebab-case name stands in answers, records and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The allowlist has no entry for it.
    NotListed,
    /// The name leads to an address that is not public, and no entry permits it.
    AddressNotPublic,
    /// It is no plain host and port: spellings of addresses, odd characters, user names.
    Malformed,
    /// The server name or Host within a connection is another than the one that was let through.
    NameDiffers,
    /// The server name is hidden by encryption.
    HiddenName,
    /// It does not say where it wants to, or not in a protocol that is understood.
    UnknownProtocol,
    /// The name has no address, or its resolvers do not answer.
    Unresolved,
    /// The destination does not answer.
    Unreachable,
    /// The tenant uses as much as it may.
    OverLimit,
    /// The gateway has no such route.
    NoRoute,
    /// The route's secret is not there.
    NoSecret,
    /// The budget is used up.
    OverBudget,
    /// The route takes no requests for streams.
    NoStreams,
    /// The request's body is longer than a route takes.
    TooLarge,
    /// The answer is encoded, so that a key in it would not be seen.
    HiddenAnswer,
    /// The upstream's certificate is not accepted.
    Untrusted,
    /// The route costs credits, and the ledger cannot be written.
    NoLedger,
}

impl Rule {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotListed => "not-listed",
            Self::AddressNotPublic => "address-not-public",
            Self::Malformed => "malformed",
            Self::NameDiffers => "name-differs",
            Self::HiddenName => "hidden-name",
            Self::UnknownProtocol => "unknown-protocol",
            Self::Unresolved => "unresolved",
            Self::Unreachable => "unreachable",
            Self::OverLimit => "over-limit",
            Self::NoRoute => "no-route",
            Self::NoSecret => "no-secret",
            Self::OverBudget => "over-budget",
            Self::NoStreams => "no-streams",
            Self::TooLarge => "too-large",
            Self::HiddenAnswer => "hidden-answer",
            Self::Untrusted => "untrusted",
            Self::NoLedger => "no-ledger",
        }
    }

    /// What it says, after "the destination".
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotListed => "is not on the tenant's allowlist",
            Self::AddressNotPublic => "leads to an address that is not public",
            Self::Malformed => "is not a plain host name and port",
            Self::NameDiffers => "is not the name that the connection was opened for",
            Self::HiddenName => "is hidden by encrypted client hello",
            Self::UnknownProtocol => {
                "is not named by the connection; use the proxy for protocols other than TLS and HTTP"
            }
            Self::Unresolved => "has no address",
            Self::Unreachable => "does not answer",
            Self::OverLimit => "is one too many: the tenant uses as much as it may",
            Self::NoRoute => "is not one of the tenant's routes",
            Self::NoSecret => "needs a secret that the gateway was not given",
            Self::OverBudget => "costs more credits than the tenant has left",
            Self::NoStreams => "would be a stream, and the route takes none",
            Self::TooLarge => "takes no request of this size",
            Self::HiddenAnswer => "answers in an encoding that could hide a key",
            Self::Untrusted => "has a certificate that is not accepted",
            Self::NoLedger => "costs credits, and the gateway cannot record them",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, destination, rule } = self;
        write!(f, "tenantd: refused for tenant {tenant}: {destination} {} ({rule})", rule.reason())
    }
}
