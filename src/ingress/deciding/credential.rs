//! The token that a request shows. It is for the ingress alone, and goes no further.

use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};

use super::target::Form;

/// What a token begins with.
const TOKEN: &str = "tdt_";

/// The cookie's name. With this prefix a browser keeps a cookie for the very host that set it, and sends it over TLS alone.
pub const NAME: &str = "__Host-tenantd";

/// What a request shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    None,
    /// A token, as a program sends it.
    Bearer(String),
    /// A token, as a browser sends it by itself, whoever had it ask.
    Cookie(String),
}

impl Credential {
    /// What a request shows. On a host name that tenants share a cookie counts for nothing. Several of a kind are as good as
    /// none: what another server would take of them is not known.
    pub fn of(headers: &HeaderMap, form: &Form) -> Self {
        let mut bearers = headers.get_all(AUTHORIZATION).into_iter().filter_map(bearer);
        match (bearers.next(), bearers.next()) {
            (Some(token), None) => return Self::Bearer(token.to_owned()),
            (Some(_), Some(_)) => return Self::None,
            (None, _) => {}
        }
        if *form != Form::Host {
            return Self::None;
        }
        let mut cookies = pairs(headers).filter(|(name, _)| *name == NAME);
        match (cookies.next(), cookies.next()) {
            (Some((_, token)), None) => Self::Cookie(token.to_owned()),
            _ => Self::None,
        }
    }
}

/// Takes from a request what is for the ingress alone; on a host name that tenants share, all cookies.
pub fn strip(headers: &mut HeaderMap, form: &Form) {
    let others: Vec<HeaderValue> =
        headers.get_all(AUTHORIZATION).into_iter().filter(|value| !looks_like_ours(value)).cloned().collect();
    headers.remove(AUTHORIZATION);
    for value in others {
        headers.append(AUTHORIZATION, value);
    }
    let cookies: Vec<String> = match form {
        Form::Path(_) => Vec::new(),
        Form::Host => headers.get_all(COOKIE).into_iter().filter_map(without_ours).collect(),
    };
    headers.remove(COOKIE);
    // HTTP/2 cuts them up: RFC 9113, section 8.2.3.
    if let Some(value) = HeaderValue::from_str(&cookies.join("; ")).ok().filter(|value| !value.is_empty()) {
        headers.insert(COOKIE, value);
    }
}

/// Whether a header holds what may be one of the ingress's tokens to anybody, written in whatever way.
fn looks_like_ours(value: &HeaderValue) -> bool {
    value.as_bytes().windows(TOKEN.len()).any(|bytes| bytes.eq_ignore_ascii_case(TOKEN.as_bytes()))
}

/// The token of a header, if it is one of the ingress's.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && token.starts_with(TOKEN)).then_some(token)
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(';')).filter_map(pair)
}

fn pair(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.trim().split_once('=')?;
    Some((name.trim(), value.trim()))
}

/// A value of `Cookie` without the ingress's own; `None` where nothing is left, or where it cannot be read.
fn without_ours(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let is_ours = |part: &&str| part.split('=').next().is_some_and(|name| name.trim() == NAME);
    let left: Vec<&str> = text.split(';').filter(|part| !is_ours(part)).map(str::trim).collect();
    if left.iter().all(|part| part.is_empty()) {
        return None;
    }
    Some(left.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_token_is_read_once_and_goes_no_further() {
        let path = Form::Path("/t/ant/80".to_owned());
        let bearer = |token: &str| Credential::Bearer(token.to_owned());
        let cookie = |token: &str| Credential::Cookie(token.to_owned());
        for (given, form, expected, left) in [
            (&[("authorization", "Bearer tdt_a.b")][..], &Form::Host, bearer("tdt_a.b"), &[][..]),
            (&[("authorization", "bearer  tdt_a.b")], &path, bearer("tdt_a.b"), &[]),
            // Another's is the tenant's own affair.
            (&[("authorization", "Bearer other")], &Form::Host, Credential::None, &[("authorization", "Bearer other")]),
            (&[("authorization", "Basic dGR0Xw==")], &path, Credential::None, &[("authorization", "Basic dGR0Xw==")]),
            (
                &[("authorization", "Bearer tdt_a"), ("authorization", "Bearer tdt_b")],
                &Form::Host,
                Credential::None,
                &[],
            ),
            (
                &[("cookie", "a=1; __Host-tenantd=tdt_a.b; b=2")],
                &Form::Host,
                cookie("tdt_a.b"),
                &[("cookie", "a=1; b=2")],
            ),
            (&[("cookie", "__Host-tenantd=tdt_a; __Host-tenantd=tdt_b")], &Form::Host, Credential::None, &[]),
            (&[("cookie", "__Host-tenantd=tdt_a"), ("cookie", "c=3")], &path, Credential::None, &[]),
            (
                &[("authorization", "Bearer tdt_x"), ("cookie", "__Host-tenantd=tdt_a")],
                &Form::Host,
                bearer("tdt_x"),
                &[],
            ),
        ] {
            let mut headers_given = headers(given);
            assert_eq!(Credential::of(&headers_given, form), expected, "{given:?}");
            strip(&mut headers_given, form);
            assert_eq!(headers_given, headers(left), "{given:?}");
        }
    }
}
