//! Which route a request is for, and what it asks its upstream for. Pure.

use hyper::Uri;

use crate::model::egress::{GATEWAY_NAME, Route, Upstream};

/// What a caller wrote before the part that belongs to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Called {
    /// The name of the route.
    pub name: String,
    /// The route's own URL as the caller knows it, without a slash at its end.
    pub base: String,
    /// The path below it, which begins with a slash.
    pub path: String,
    /// The query, without its question mark.
    pub query: Option<String>,
}

/// Why a request is for no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It names none.
    NoRoute,
    /// Its path could mean something else to the upstream.
    Path,
}

/// Reads a request to `gateway.internal` or to a name below it. `authority` is the host, with its port
/// where one was given, as the caller wrote it.
pub(super) fn called(authority: &str, uri: &Uri) -> Result<Called, Wrong> {
    let host = authority.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let (name, base, path) = if host == GATEWAY_NAME {
        let rest = uri.path().strip_prefix('/').ok_or(Wrong::NoRoute)?;
        let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        (name, format!("http://{authority}/{name}"), path)
    } else {
        let name = host.strip_suffix(GATEWAY_NAME).and_then(|name| name.strip_suffix('.')).ok_or(Wrong::NoRoute)?;
        (name, format!("http://{authority}"), uri.path())
    };
    let path = if path.is_empty() { "/" } else { path };
    if !is_plain(path) {
        return Err(Wrong::Path);
    }
    Ok(Called { name: name.to_owned(), base, path: path.to_owned(), query: uri.query().map(str::to_owned) })
}

/// How often a path is decoded in search of what an upstream might take it for.
const DECODINGS: usize = 4;

/// Whether a path stays below the one that it is appended to, however often it is decoded.
fn is_plain(path: &str) -> bool {
    let mut bytes = path.as_bytes().to_vec();
    for round in 0..DECODINGS {
        let is_odd = |b: &u8| *b == b'\\' || b.is_ascii_control();
        // `..;` is `..` to servers that know parameters of a part.
        let climbs = |part: &[u8]| {
            let end = part.iter().position(|b| *b == b';').unwrap_or(part.len());
            matches!(part.get(..end), Some(b"." | b".."))
        };
        if bytes.starts_with(b"//") || bytes.iter().any(is_odd) || bytes.split(|b| *b == b'/').any(climbs) {
            return false;
        }
        let (decoded, is_whole) = decode(&bytes);
        if round == 0 && !is_whole {
            return false;
        }
        if decoded == bytes {
            return true;
        }
        bytes = decoded;
    }
    false
}

/// Percent-decodes once, and says whether each `%` is followed by two hexadecimal digits. One that is
/// not stays as it is.
fn decode(bytes: &[u8]) -> (Vec<u8>, bool) {
    let (mut decoded, mut is_whole) = (Vec::with_capacity(bytes.len()), true);
    let mut rest = bytes;
    while let [byte, after @ ..] = rest {
        rest = after;
        decoded.push(match (byte, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
                hex(*high) << 4 | hex(*low)
            }
            _ => {
                is_whole &= *byte != b'%';
                *byte
            }
        });
    }
    (decoded, is_whole)
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default()
}

/// The path and query that the upstream is asked for.
pub(super) fn path_and_query(upstream: &Upstream, path: &str, query: Option<&str>) -> String {
    let path = if path == "/" && !upstream.path().is_empty() { "" } else { path };
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{}{path}{query}", upstream.path())
}

/// The host of an upstream as a `Host` header has it.
pub(super) fn authority(upstream: &Upstream) -> String {
    match upstream.port() {
        443 => upstream.host().to_owned(),
        port => format!("{}:{port}", upstream.host()),
    }
}

/// A caller's query without any parameter of this name, in whatever spelling an upstream might take for
/// it.
pub(super) fn without(query: &str, name: &str) -> String {
    let wanted = spelling(name.as_bytes());
    let is_other = |piece: &&str| {
        let key = piece.split('=').next().unwrap_or_default().replace('+', " ");
        spelling(&decode(key.as_bytes()).0) != wanted
    };
    let parameters = query.split('&').filter_map(|parameter| {
        // To some servers a semicolon separates as well.
        let mut kept = parameter.split(';').filter(is_other).peekable();
        kept.peek().is_some().then(|| kept.collect::<Vec<_>>().join(";"))
    });
    parameters.collect::<Vec<_>>().join("&")
}

/// What a parameter's name is to the most lenient of servers: without case, brackets or blanks.
fn spelling(name: &[u8]) -> Vec<u8> {
    let name = name.trim_ascii_start();
    let end = name.iter().position(|b| matches!(b, b'[' | 0)).unwrap_or(name.len());
    let plain = |b: &u8| if matches!(b, b'.' | b' ' | b'-') { b'_' } else { b.to_ascii_lowercase() };
    name.get(..end).unwrap_or_default().iter().map(plain).collect()
}

/// Where a redirect leads the caller: one on the upstream's own host, below the route's path, becomes a
/// URL of the route. All others stay as they are.
pub(super) fn location(route: &Route, base: &str, location: &str) -> Option<String> {
    let upstream = &route.upstream;
    let rest = if location.starts_with('/') && !location.starts_with("//") {
        location
    } else {
        let (scheme, rest) = location.split_at(location.find("//")?);
        if !(scheme.is_empty() || scheme.eq_ignore_ascii_case("https:")) {
            return None;
        }
        let rest = rest.get(2..)?;
        let (host, rest) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        let host = host.strip_suffix(":443").unwrap_or(host);
        if !host.eq_ignore_ascii_case(&authority(upstream)) {
            return None;
        }
        rest
    };
    let below = rest.strip_prefix(upstream.path())?;
    (below.is_empty() || below.starts_with(['/', '?', '#'])).then(|| format!("{base}{below}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    fn called_at(authority: &str, target: &str) -> std::result::Result<Called, Wrong> {
        called(authority, &target.parse().map_err(|_| Wrong::Path)?)
    }

    fn route(upstream: &str) -> Result<Route> {
        let inject = crate::model::egress::Inject::Header {
            name: "authorization".to_owned(),
            value: "Bearer ${secret:acme/crm}".parse()?,
        };
        Ok(Route { name: "crm".parse()?, upstream: upstream.parse()?, inject, cost: None })
    }

    #[test]
    fn a_route_is_named_by_the_path_or_by_the_host() {
        for (authority, target, name, base, path, query) in [
            ("gateway.internal", "/crm/v1/x?a=b", "crm", "http://gateway.internal/crm", "/v1/x", Some("a=b")),
            ("gateway.internal:80", "/crm", "crm", "http://gateway.internal:80/crm", "/", None),
            ("gateway.internal", "/crm?a", "crm", "http://gateway.internal/crm", "/", Some("a")),
            ("crm.gateway.internal", "/v1/x", "crm", "http://crm.gateway.internal", "/v1/x", None),
            ("CRM.Gateway.Internal", "/", "crm", "http://CRM.Gateway.Internal", "/", None),
            (
                "crm.gateway.internal",
                "http://crm.gateway.internal/a%2Fb",
                "crm",
                "http://crm.gateway.internal",
                "/a%2Fb",
                None,
            ),
        ] {
            let expected = Called {
                name: name.to_owned(),
                base: base.to_owned(),
                path: path.to_owned(),
                query: query.map(str::to_owned),
            };
            assert_eq!(called_at(authority, target), Ok(expected), "{authority} {target}");
        }
        assert_eq!(called_at("example.com", "/crm/").map(drop), Err(Wrong::NoRoute));
        assert_eq!(called_at("evilgateway.internal", "/crm/").map(drop), Err(Wrong::NoRoute));
    }

    #[test]
    fn no_path_leaves_the_upstreams() {
        for path in [
            "/..",
            "/../x",
            "/a/../../x",
            "/./x",
            "/%2e%2e/x",
            "/%2E./x",
            "/.%2e/x",
            "/a/%2e%2e",
            "/%252e%252e/x",
            "/%25252e%25252e/x",
            "/..%2fx",
            "/a%2f..%2f..%2fx",
            "/..%5cx",
            "/a%5cx",
            "/..;/x",
            "/..;a=b/x",
            "/%2e%2e%3b/x",
            "//evil.com/x",
            "/%2fevil.com/x",
            "/a%00b",
            "/a%0d%0ab",
            "/%",
            "/%2",
            "/%zz",
            "/%25zz/%252e%252e",
        ] {
            assert_eq!(called_at("crm.gateway.internal", path).map(drop), Err(Wrong::Path), "{path}");
            assert_eq!(called_at("gateway.internal", &format!("/crm{path}")).map(drop), Err(Wrong::Path), "{path}");
        }
        for path in ["/", "/a", "/a//b", "/a/", "/.well-known/x", "/a..b", "/...", "/a%20b", "/g%2Fp", "/a;b=c", "/%25"]
        {
            assert!(called_at("crm.gateway.internal", path).is_ok(), "{path}");
        }
    }

    #[test]
    fn the_upstreams_path_comes_first() -> Result {
        for (upstream, path, query, expected) in [
            ("https://a.example.com", "/", None, "/"),
            ("https://a.example.com", "/x", Some("b=c"), "/x?b=c"),
            ("https://a.example.com/v1/", "/x/", None, "/v1/x/"),
            ("https://a.example.com/v1", "/", Some(""), "/v1?"),
        ] {
            assert_eq!(path_and_query(&upstream.parse()?, path, query), expected);
        }
        assert_eq!(authority(&"https://A.example.com:8443".parse()?), "a.example.com:8443");
        Ok(())
    }

    #[test]
    fn the_callers_own_parameter_goes_in_every_spelling() {
        for (query, rest) in [
            ("api_key=x", ""),
            ("a=1&api_key=x&b=2&api_key=y", "a=1&b=2"),
            ("%61pi_key=x&a", "a"),
            ("API_KEY=x&a", "a"),
            ("api_key[]=x&api.key=y&api+key=z&+api_key=v&api%20key=w&api_key%5B0%5D=u&a", "a"),
            ("a=1;api_key=x&b", "a=1&b"),
            ("api_key", ""),
            ("api_keys=x&xapi_key=y&a=api_key", "api_keys=x&xapi_key=y&a=api_key"),
            ("a=%zz&&b", "a=%zz&&b"),
        ] {
            assert_eq!(without(query, "api_key"), rest, "{query}");
        }
    }

    #[test]
    fn a_redirect_within_the_upstream_stays_within_the_route() -> Result {
        let route = route("https://a.example.com/v1")?;
        let base = "http://gateway.internal/crm";
        for (from, to) in [
            ("https://a.example.com/v1/x?y", Some("http://gateway.internal/crm/x?y")),
            ("https://A.example.com:443/v1", Some("http://gateway.internal/crm")),
            ("//a.example.com/v1/x", Some("http://gateway.internal/crm/x")),
            ("/v1/x", Some("http://gateway.internal/crm/x")),
            ("/v1x", None),
            ("/other", None),
            ("x", None),
            ("?page=2", None),
            ("http://a.example.com/v1/x", None),
            ("https://b.example.com/v1/x", None),
            ("https://a.example.com:8443/v1/x", None),
            ("https://u@a.example.com/v1/x", None),
        ] {
            assert_eq!(location(&route, base, from).as_deref(), to, "{from}");
        }
        Ok(())
    }
}
