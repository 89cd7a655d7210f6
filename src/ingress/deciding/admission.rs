//! Who may reach a tenant.

use std::collections::BTreeSet;

use hyper::{
    Method,
    header::{HeaderMap, ORIGIN},
};
use jiff::Timestamp;

use super::{credential::Credential, target::Target};
use crate::model::{
    Access,
    host::Origin,
    ingress::{Reachable, StateContent},
    token::{Right, Token, TokenId, TokenKey},
};

/// A request that may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// By which token; `None` where everybody may come.
    pub token: Option<Shown>,
    /// The port that it goes to.
    pub port: u16,
}

/// A token that let a request in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its id.
    pub id: TokenId,
    /// When it counts no more.
    pub expires: Timestamp,
    /// The key that it was verified with.
    pub key: TokenKey,
}

/// Why a request may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There is no such tenant, or none that this token is for: which of them is not said.
    Unauthenticated,
    /// The tenant does not expose this port.
    NoSuchPort,
    /// A browser sends it with a cookie on behalf of a page of another origin.
    ForeignOrigin,
}

/// What a request is judged by, beside what is in force.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where it wants to.
    pub target: &'a Target,
    /// What it shows.
    pub credential: &'a Credential,
    /// Its method.
    pub method: &'a Method,
    /// Whether it offers a WebSocket, which browsers let any page open anywhere.
    pub is_websocket: bool,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The host that it names.
    pub host: &'a str,
}

/// Judges a request at a time. `origins` may use a cookie beside the tenant's own, and `verify` reads a token that the key has
/// signed.
///
/// # Errors
/// It may not go on.
pub fn admit(
    state: &StateContent,
    asked: Asked<'_>,
    origins: &BTreeSet<Origin>,
    now: Timestamp,
    verify: impl FnOnce(&str, &TokenKey) -> Option<Token>,
) -> Result<Admitted, Denied> {
    // A signature is checked for whatever name is asked for, so that the time tells nothing of that.
    let token = match asked.credential {
        Credential::None => None,
        Credential::Bearer(text) | Credential::Cookie(text) => verify(text, &state.key),
    };
    let tenant = &asked.target.tenant;
    let token = token.filter(|token| may(token, asked.target, state, now));
    let reachable = state.tenants.get(tenant);
    let is_public = reachable.is_some_and(|found| found.access == Access::Public);
    let (Some(reachable), true) = (reachable, token.is_some() || is_public) else {
        return Err(Denied::Unauthenticated);
    };
    let by_cookie = matches!(asked.credential, Credential::Cookie(_)) && token.is_some();
    if by_cookie && (asked.is_websocket || !asked.method.is_safe()) && !has_own_origin(asked, origins) {
        return Err(Denied::ForeignOrigin);
    }
    let port = port(reachable, asked.target.port).ok_or(Denied::NoSuchPort)?;
    let shown = |token: Token| Shown { id: token.id, expires: token.expires, key: state.key };
    Ok(Admitted { token: token.map(shown), port })
}

/// Whether what was admitted may still go on: its tenant exposes the port, and its token, if it came by one, counts.
pub fn may_go_on(state: &StateContent, target: &Target, admitted: &Admitted, now: Timestamp) -> bool {
    let Some(reachable) = state.tenants.get(&target.tenant) else { return false };
    if !reachable.ports.contains_key(&admitted.port) {
        return false;
    }
    match &admitted.token {
        Some(Shown { id, expires, key }) => now < *expires && !state.revoked.contains(id) && *key == state.key,
        None => reachable.access == Access::Public,
    }
}

fn may(token: &Token, target: &Target, state: &StateContent, now: Timestamp) -> bool {
    token.tenant == target.tenant
        && token.may.contains(&Right::Http)
        && now < token.expires
        && !state.revoked.contains(&token.id)
}

fn port(reachable: &Reachable, asked: Option<u16>) -> Option<u16> {
    match asked {
        Some(port) => reachable.ports.contains_key(&port).then_some(port),
        None => reachable.ports.keys().next().copied(),
    }
}

fn has_own_origin(asked: Asked<'_>, origins: &BTreeSet<Origin>) -> bool {
    let mut given = asked.headers.get_all(ORIGIN).into_iter();
    let (Some(origin), None) = (given.next(), given.next()) else { return false };
    // Browsers send the cookie over TLS alone, so that the page came over it as well.
    let own = format!("https://{}", asked.host);
    origin
        .to_str()
        .is_ok_and(|origin| origin.eq_ignore_ascii_case(&own) || origins.iter().any(|listed| listed.as_str() == origin))
}
