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

/// Declares the rules with all that is known of each: its name in answers, records and metrics, and its reason,
/// which follows the destination in a sentence.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal, $reason:literal;)*) => {
        /// Why something is refused. The kebab-case name stands in answers, records and metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$rule),*];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)*
                }
            }

            /// What it says, after the destination. It is true of every place that refuses with this rule.
            pub const fn reason(self) -> &'static str {
                match self {
                    $(Self::$rule => $reason,)*
                }
            }
        }
    };
}

rules! {
    /// It comes from another address of the tenant's network than that of its container.
    ForeignAddress = "foreign-address", "is not from the address of the tenant's container";
    /// The allowlist has no entry for it.
    NotListed = "not-listed", "is not on the tenant's allowlist";
    /// The name leads to an address that is not public, and no entry permits it, or to one that nobody may have.
    AddressNotPublic = "address-not-public", "leads to an address that may not be dialled: not public and not listed, or the host's own";
    /// Spellings of addresses, odd characters, user names, ports that are no plain number.
    Malformed = "malformed", "is not a plain host name or IPv4 address with a plain port";
    /// The head of a request is not as RFC 9112 wants it sent; the destination is its first line.
    MalformedRequest = "malformed-request", "does not begin a request that every server reads in the same way (RFC 9112)";
    /// The first message of TLS has lengths that do not fit, a name twice, or an odd one.
    MalformedHello = "malformed-hello", "begins with a TLS hello that not every server reads in the same way";
    /// The path of a request to a route climbs, or may do so once it is decoded.
    MalformedPath = "malformed-path", "is asked for a path that could lead out of the route's own";
    /// The head of a request is too long.
    HeadTooLarge = "head-too-large", "begins a request whose head is longer than egress.limits.maxHeaderSize, or has more than 100 lines";
    /// The Host of a request or the server name within a tunnel is another than the one that was let through.
    NameDiffers = "name-differs", "is not what the Host header or the TLS server name within says";
    /// The Host of a request names another port than the one that the connection came to.
    PortDiffers = "port-differs", "names another port than the one that the connection came to";
    /// An absolute form that is not `http:`.
    OtherScheme = "other-scheme", "is asked for with another scheme than http; use CONNECT for TLS";
    /// CONNECT behind another request.
    LateTunnel = "late-tunnel", "asks for a tunnel behind another request; CONNECT is for a connection of its own";
    /// TRACE through a route: it echoes the key.
    UnsupportedMethod = "unsupported-method", "takes no TRACE and no CONNECT";
    /// The server name is hidden by encryption.
    HiddenName = "hidden-name", "has its TLS server name hidden by an encrypted client hello (ECH)";
    /// It does not say where it wants to, or not in a protocol that is understood.
    UnknownProtocol = "unknown-protocol", "names no destination in a protocol that is understood (TLS with a server name, HTTP/1.1); use the proxy for others";
    /// The first message has begun and does not go on.
    TooLate = "too-late", "was not sent the whole of its first message in time";
    /// The body of a request breaks off, or is not in well-formed chunks.
    IncompleteBody = "incomplete-body", "was sent a request whose body broke off, took too long or is not well-formed";
    /// The name has no address.
    Unresolved = "unresolved", "has no IPv4 address";
    /// None of the host's resolvers has answered.
    NoResolver = "no-resolver", "cannot be looked up: no resolver of the host gave an answer";
    /// No address can be connected, or nothing comes back.
    Unreachable = "unreachable", "cannot be reached, or does not answer";
    /// What comes back is not HTTP/1.1, or agrees to a protocol that was not offered.
    BadAnswer = "bad-answer", "gives an answer that is not HTTP/1.1, or none to the request";
    /// TLS fails, but not for the certificate.
    NoTls = "no-tls", "does not agree on TLS with the gateway";
    /// The tenant uses as much as it may.
    OverLimit = "over-limit", "is one too many: the tenant uses as much as it may";
    /// The gateway has no such route.
    NoRoute = "no-route", "is not one of the tenant's routes";
    /// The route's secret is not there, or holds what no header can.
    NoSecret = "no-secret", "needs a secret that the gateway was not given, or that cannot be sent";
    /// The budget is used up.
    OverBudget = "over-budget", "costs more credits than the tenant has left";
    /// The route takes no requests for streams.
    NoStreams = "no-streams", "would be a stream, and the route takes none";
    /// The request's body is longer than a route takes.
    TooLarge = "too-large", "takes no request of this size";
    /// The answer is encoded, so that a key in it would not be seen.
    HiddenAnswer = "hidden-answer", "answers in an encoding that could hide a key";
    /// The upstream's certificate is not accepted.
    Untrusted = "untrusted", "has a certificate that is not accepted";
    /// The route costs credits, and the ledger cannot be written.
    NoLedger = "no-ledger", "costs credits, and the gateway cannot record them";
}

/// Why a request that was sent on got no answer. A body that broke off is the client's affair.
pub(crate) fn unanswered(error: &hyper::Error) -> Rule {
    if error.is_user() {
        Rule::IncompleteBody
    } else if error.is_parse() {
        Rule::BadAnswer
    } else {
        Rule::Unreachable
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_list_every_rule_with_its_reason() {
        let docs = include_str!("../../../docs/operations.md");
        let table = docs.split("| rule | what it says of the destination |\n| --- | --- |\n").nth(1).unwrap();
        let rows: Vec<String> = table.lines().take_while(|line| line.starts_with('|')).map(str::to_owned).collect();
        let expected: Vec<String> = Rule::ALL.iter().map(|rule| format!("| `{rule}` | {} |", rule.reason())).collect();
        assert_eq!(rows, expected);
    }
}
