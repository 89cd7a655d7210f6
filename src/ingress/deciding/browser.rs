//! What a browser shows by itself: whether a request wants a page, the paths that are the ingress's own, and where a browser may
//! be led.

use hyper::{
    Method,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, ORIGIN},
};
use percent_encoding::percent_decode_str;

/// What the paths begin with that no app is asked, on the names that tenants have for themselves.
const OWN: &str = "/.tenantd";

/// What a request is for, and from where: browsers say it themselves, and no page can say otherwise.
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A path of the ingress's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPath {
    /// How the tenant's start goes on.
    Wake,
    /// The cookie that lets a browser in.
    Session,
    /// Nothing.
    Unknown,
}

impl OwnPath {
    /// Which one it is; `None` for one that is the tenant's.
    pub fn of(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(OWN)?;
        match rest {
            "/wake" => Some(Self::Wake),
            "/session" => Some(Self::Session),
            _ if rest.is_empty() || rest.starts_with('/') => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// Whether a page is what a request is for: a browser goes to an address, and shows what comes.
pub fn wants_page(method: &Method, headers: &HeaderMap, is_websocket: bool) -> bool {
    let takes_html = || {
        let types = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        types.flat_map(|types| types.split(',')).any(|one| {
            let name = one.split(';').next().unwrap_or_default().trim();
            name.eq_ignore_ascii_case("text/html")
        })
    };
    let is_navigation = headers.get(MODE).is_none_or(|mode| mode.as_bytes() == b"navigate");
    let is_program = headers.contains_key(AUTHORIZATION) || is_websocket;
    matches!(*method, Method::GET | Method::HEAD) && !is_program && is_navigation && takes_html()
}

/// Whether a request comes from a page of the very host that it names, or from no page at all.
pub fn is_of_own_page(headers: &HeaderMap, host: &str) -> bool {
    let own = format!("https://{host}");
    let is_own = |origin: &[u8]| origin.eq_ignore_ascii_case(own.as_bytes());
    let is_same_site = |site: &[u8]| matches!(site, b"same-origin" | b"none");
    headers.get_all(ORIGIN).into_iter().all(|origin| is_own(origin.as_bytes()))
        && headers.get_all(SITE).into_iter().all(|site| is_same_site(site.as_bytes()))
}

/// The path, with its query, that a browser is led to on the host where it is; `/` for what could lead elsewhere.
pub fn way_back(to: &str) -> &str {
    let is_plain = to.bytes().all(|byte| byte.is_ascii_graphic()) && !to.contains('\\');
    let leads_here = to.starts_with('/') && !to.starts_with("//");
    let path = to.split(['?', '#']).next().unwrap_or_default();
    if is_plain && leads_here && OwnPath::of(path).is_none() { to } else { "/" }
}

/// A field of a form, as `application/x-www-form-urlencoded` has it; `None` where it is there twice or not at all.
pub fn field(form: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(form).ok()?;
    let mut values = text.split('&').filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
    let (Some((_, value)), None) = (values.next(), values.next()) else { return None };
    let value = value.replace('+', " ");
    percent_decode_str(&value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn who_goes_to_an_address_in_a_browser_wants_a_page_and_no_program_does() {
        let navigate = ("sec-fetch-mode", "navigate");
        for (method, given, is_websocket, expected) in [
            (Method::GET, &[HTML][..], false, true),
            (Method::HEAD, &[HTML, navigate], false, true),
            (Method::GET, &[("accept", "application/json, Text/HTML;q=0.1")], false, true),
            (Method::POST, &[HTML, navigate], false, false),
            (Method::GET, &[HTML, navigate], true, false),
            (Method::GET, &[HTML, ("sec-fetch-mode", "cors")], false, false),
            (Method::GET, &[HTML, ("authorization", "Bearer tdt_x")], false, false),
            (Method::GET, &[HTML, ("authorization", "Basic x")], false, false),
            (Method::GET, &[("accept", "*/*")], false, false),
            (Method::GET, &[("accept", "text/htmlx")], false, false),
            (Method::GET, &[], false, false),
        ] {
            assert_eq!(wants_page(&method, &headers(given), is_websocket), expected, "{method} {given:?}");
        }
    }

    #[test]
    fn what_lies_below_one_path_is_the_ingress_own() {
        for (path, expected) in [
            ("/.tenantd/wake", Some(OwnPath::Wake)),
            ("/.tenantd/session", Some(OwnPath::Session)),
            ("/.tenantd", Some(OwnPath::Unknown)),
            ("/.tenantd/", Some(OwnPath::Unknown)),
            ("/.tenantd/wake/", Some(OwnPath::Unknown)),
            ("/.tenantd/wake/x", Some(OwnPath::Unknown)),
            ("/.tenantdx", None),
            ("/.Tenantd/wake", None),
            ("/x/.tenantd/wake", None),
            ("/", None),
        ] {
            assert_eq!(OwnPath::of(path), expected, "{path}");
        }
    }

    #[test]
    fn only_a_page_of_the_very_host_sets_its_cookie() {
        let host = "ant.agents.example.com";
        for (given, expected) in [
            (&[][..], true),
            (&[("origin", "https://ant.agents.example.com")], true),
            (&[("origin", "https://ant.agents.example.com"), ("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("origin", "https://bee.agents.example.com")], false),
            (&[("origin", "http://ant.agents.example.com")], false),
            (&[("origin", "https://ant.agents.example.com:8443")], false),
            (&[("origin", "null")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
        ] {
            assert_eq!(is_of_own_page(&headers(given), host), expected, "{given:?}");
        }
    }

    #[test]
    fn a_browser_is_led_back_to_this_host_alone() {
        for good in ["/", "/a/b?c=d&e=/f", "/a#b", "/.tenantdx"] {
            assert_eq!(way_back(good), good);
        }
        for bad in [
            "",
            "a",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example/",
            "/a b",
            "/a\r\nb: c",
            "/é",
            "/.tenantd/session",
            "/.tenantd/wake?x",
        ] {
            assert_eq!(way_back(bad), "/", "{bad:?}");
        }
    }

    #[test]
    fn a_form_says_a_thing_once() {
        let form = b"to=%2Fa%3Fb%3D1%262&token=tdt_a-b.c_d+e";
        assert_eq!(field(form, "to").as_deref(), Some("/a?b=1&2"));
        assert_eq!(field(form, "token").as_deref(), Some("tdt_a-b.c_d e"));
        assert_eq!(field(form, "other"), None);
        assert_eq!(field(b"token=a&token=b", "token"), None);
        assert_eq!(field(b"token=%ff", "token"), None);
        assert_eq!(field(b"\xff", "token"), None);
    }
}
