//! What a tenant is told of whoever asks, and what of its answer a browser may keep.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{credential, target::Form};

/// Whether a header says where a request comes from. The ingress alone says that: whatever a client sends is taken away. Many
/// apps take `_` for `-`.
fn is_forwarded(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    name.starts_with("x-forwarded-") || name == "forwarded" || name == "x-real-ip"
}

/// What an answer says of all that has its host name, which tenants share where a path names them.
const OF_THE_WHOLE_HOST: [HeaderName; 3] = [
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("service-worker-allowed"),
    header::STRICT_TRANSPORT_SECURITY,
];

/// Tells a tenant who asks, and how: `host` is the name that was asked for.
pub fn forward(headers: &mut HeaderMap, client: IpAddr, scheme: &'static str, host: &str, form: &Form) {
    let given: Vec<HeaderName> = headers.keys().filter(|name| is_forwarded(name)).cloned().collect();
    for name in given {
        headers.remove(name);
    }
    let mut say = |name: &'static str, value: &str| {
        // A host that is no header's value was refused before.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    say("x-forwarded-for", &client.to_string());
    say("x-forwarded-host", host);
    say("x-forwarded-proto", scheme);
    if let Form::Path(prefix) = form {
        say("x-forwarded-prefix", prefix);
    }
}

/// Takes from an answer what would reach other tenants in a browser: cookies for other host names, or in the place of the
/// ingress's own; on a host name that tenants share, all cookies and what speaks for the whole host.
pub fn keep_tenants_apart(headers: &mut HeaderMap, form: &Form) {
    if matches!(form, Form::Path(_)) {
        for name in &OF_THE_WHOLE_HOST {
            headers.remove(name);
        }
    }
    if !headers.contains_key(header::SET_COOKIE) {
        return;
    }
    let stays = |value: &&HeaderValue| *form == Form::Host && is_of_one_host(value.as_bytes());
    let left: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).into_iter().filter(stays).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for value in left {
        headers.append(header::SET_COOKIE, value);
    }
}

fn is_of_one_host(cookie: &[u8]) -> bool {
    let mut parts = cookie.split(|byte| *byte == b';').map(|part| {
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        name.trim_ascii()
    });
    let is_ours = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(credential::NAME.as_bytes()));
    !is_ours && !parts.any(|name| name.eq_ignore_ascii_case(b"domain"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ingress_says_where_a_request_comes_from() {
        let mut headers = HeaderMap::new();
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_proto",
            "x-real-ip",
            "x_real_ip",
            "x-forwarded-user",
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("evil"));
        }
        forward(&mut headers, [192, 0, 2, 7].into(), "https", "ant.example.com", &Form::Path("/t/ant/80".to_owned()));
        let mut said: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        said.sort_unstable();
        assert_eq!(
            said,
            [
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-host", "ant.example.com"),
                ("x-forwarded-prefix", "/t/ant/80"),
                ("x-forwarded-proto", "https"),
            ]
        );
    }

    #[test]
    fn a_cookie_stays_with_its_host() {
        let given = [
            "a=1; Path=/; HttpOnly",
            "b=2; Domain=example.com",
            "c=3;domain = .example.com",
            "__Host-tenantd=tdt_x; Secure; Path=/",
            "d=domain",
        ];
        for (form, expected) in
            [(Form::Host, &["a=1; Path=/; HttpOnly", "d=domain"][..]), (Form::Path(String::new()), &[])]
        {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(header::SET_COOKIE, HeaderValue::from_static(value));
            }
            keep_tenants_apart(&mut headers, &form);
            let left: Vec<&str> =
                headers.get_all(header::SET_COOKIE).into_iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(left, expected, "{form:?}");
        }
    }
}
