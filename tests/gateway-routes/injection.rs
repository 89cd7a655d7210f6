//! What reaches an upstream, and what of it comes back.

use tenantd::model::egress::{Inject, SecretName};

use crate::world::{SECRET, answer, header_route, in_force, run};

fn secret() -> SecretName {
    "acme/crm".parse().unwrap()
}

#[test]
fn the_upstream_gets_the_key_and_nothing_of_the_callers_own() {
    run(
        |_, _| (),
        |_| answer("200 OK", "hello"),
        |world| async move {
            let got = world
            .get(
                "/crm/contacts?page=2",
                "Authorization: Bearer mine\r\nAUTHORIZATION: Basic bWluZQ==\r\nX-Other: 1\r\nCookie: a=b\r\n\
                 Accept-Encoding: gzip\r\nTE: trailers\r\nProxy-Authorization: x\r\nConnection: authorization, x-gone\r\nX-Gone: 1\r\n",
            )
            .await;
            assert!(got.starts_with("HTTP/1.1 200 OK") && got.ends_with("hello"), "{got}");
            assert!(!got.contains(SECRET), "{got}");
            let seen = world.seen().remove(0);
            assert_eq!(seen.line(), "GET /v1/contacts?page=2 HTTP/1.1");
            assert_eq!(seen.header("authorization"), [format!("Bearer {SECRET}")]);
            assert_eq!(seen.header("host"), ["api.example.com"]);
            assert_eq!((seen.header("x-other"), seen.header("cookie")), (vec!["1"], vec!["a=b"]));
            assert_eq!(seen.header("accept-encoding"), ["identity"]);
            for gone in ["te", "proxy-authorization", "x-gone", "connection"] {
                assert!(seen.header(gone).is_empty(), "{gone}: {}", seen.head);
            }
        },
    );
}

#[test]
fn a_route_has_a_host_name_of_its_own_for_programs_that_take_only_a_base_url() {
    run(
        |_, _| (),
        |_| answer("200 OK", "hello"),
        |world| async move {
            let request = "GET http://crm.gateway.internal/contacts HTTP/1.1\r\nHost: crm.gateway.internal\r\nConnection: close\r\n\r\n";
            assert!(world.call(request).await.ends_with("hello"));
            let request = "POST /contacts HTTP/1.1\r\nHost: crm.gateway.internal:80\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody";
            assert!(world.call(request).await.ends_with("hello"));
            let seen = world.seen();
            assert_eq!(seen[0].line(), "GET /v1/contacts HTTP/1.1");
            assert_eq!((seen[1].line(), &seen[1].body[..]), ("POST /v1/contacts HTTP/1.1", &b"body"[..]));
        },
    );
}

#[test]
fn an_offer_of_http2_is_dropped_and_the_request_answered() {
    run(
        |_, _| (),
        |_| answer("200 OK", "hello"),
        |world| async move {
            let offer = "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: Upgrade, HTTP2-Settings\r\n";
            let got = world.get("/crm/", offer).await;
            assert!(got.starts_with("HTTP/1.1 200 ") && got.ends_with("hello"), "{got}");
            let body = format!(
                "POST /crm/ HTTP/1.1\r\nHost: gateway.internal\r\n{offer}Connection: close\r\nContent-Length: 2\r\n\r\nhi"
            );
            assert!(world.call(&body).await.ends_with("hello"));
            for seen in world.seen() {
                for gone in ["upgrade", "http2-settings", "connection"] {
                    assert!(seen.header(gone).is_empty(), "{gone}: {}", seen.head);
                }
            }
            assert_eq!(world.seen()[1].body, b"hi");
        },
    );
}

#[test]
fn a_key_in_the_query_replaces_the_callers() {
    let inject = Inject::Query { name: "key".to_owned(), value: "${secret:acme/crm}".parse().unwrap() };
    run(
        |_, routes| routes[0].inject = inject,
        |seen| answer("200 OK", &seen.head),
        |world| async move {
            let got = world.get("/crm/x?a=1&key=mine&%6bey=mine&KEY=mine&b=2", "Authorization: Bearer own\r\n").await;
            let seen = world.seen().remove(0);
            assert_eq!(seen.line(), "GET /v1/x?a=1&b=2&key=s3cret-k3y%2Fwith%2Bodd%3Dchars HTTP/1.1");
            assert_eq!(seen.header("authorization"), ["Bearer own"]);
            let escaped = "s3cret-k3y%2Fwith%2Bodd%3Dchars".len();
            assert!(got.contains(&format!("&key={} HTTP", "*".repeat(escaped))), "{got}");
            assert!(!got.contains("s3cret"), "{got}");
        },
    );
}

#[test]
fn basic_authentication_is_made_of_the_key() {
    let inject = Inject::Basic { username: "ant".to_owned(), password: "${secret:acme/crm}".parse().unwrap() };
    run(
        |_, routes| routes[0].inject = inject,
        |seen| answer("401 Unauthorized", &seen.head),
        |world| async move {
            let got = world.get("/crm/", "Authorization: Basic bWluZTptaW5l\r\n").await;
            let basic = "YW50OnMzY3JldC1rM3kvd2l0aCtvZGQ9Y2hhcnM=";
            assert_eq!(world.seen()[0].header("authorization"), [format!("Basic {basic}")]);
            assert!(got.contains("Basic ***") && !got.contains(basic.trim_end_matches('=')), "{got}");
        },
    );
}

#[test]
fn no_path_leaves_the_upstreams_own() {
    run(
        |_, _| (),
        |_| answer("200 OK", ""),
        |world| async move {
            for path in
                ["/crm/../admin", "/crm/%2e%2e/admin", "/crm/..%2fadmin", "/crm//evil.com", "/crm/a/..%5c..%5cadmin"]
            {
                let got = world.get(path, "").await;
                assert!(got.starts_with("HTTP/1.1 400 ") && got.contains("(malformed-path)"), "{path}: {got}");
            }
            assert!(world.seen().is_empty());
        },
    );
}

#[test]
fn a_route_that_is_not_there_is_named() {
    run(
        |_, _| (),
        |_| answer("200 OK", ""),
        |world| async move {
            for path in ["/other/x", "/", "/CRM/x"] {
                let got = world.get(path, "").await;
                assert!(
                    got.starts_with("HTTP/1.1 404 ") && got.contains("tenant ant") && got.contains("(no-route)"),
                    "{got}"
                );
            }
            let trace = "TRACE /crm/ HTTP/1.1\r\nHost: gateway.internal\r\nConnection: close\r\n\r\n";
            let refused = world.call(trace).await;
            assert!(refused.starts_with("HTTP/1.1 501 ") && refused.contains("takes no TRACE"), "{refused}");
            assert!(world.seen().is_empty());
        },
    );
}

#[test]
fn a_new_key_is_sent_from_the_next_request_on() {
    run(
        |_, _| (),
        |_| answer("200 OK", ""),
        |world| async move {
            world.get("/crm/", "").await;
            let routes = world.in_force.borrow().policy.routes.clone();
            world.in_force.send_replace(in_force(&routes, "the-next-one"));
            world.get("/crm/", "").await;
            world.in_force.send_modify(|now| {
                let mut secrets = now.secrets.clone();
                secrets.remove(&secret());
                *now = std::sync::Arc::new(tenantd::gateway::InForce { policy: now.policy.clone(), secrets });
            });
            let got = world.get("/crm/", "").await;
            assert!(got.starts_with("HTTP/1.1 503 ") && got.contains("(no-secret)"), "{got}");
            let seen = world.seen();
            assert_eq!(seen.len(), 2);
            assert_eq!(seen[1].header("authorization"), ["Bearer the-next-one"]);
            assert_eq!((seen[0].connection, seen[1].connection), (0, 0), "the connection is used again");
        },
    );
}

#[test]
fn an_upstream_under_another_name_gets_nothing() {
    run(
        |_, routes| routes[0] = header_route("https://other.example.com"),
        |_| answer("200 OK", ""),
        |world| async move {
            let got = world.get("/crm/", "").await;
            assert!(got.starts_with("HTTP/1.1 502 ") && got.contains("(untrusted)"), "{got}");
            assert!(world.seen().is_empty());
        },
    );
}

#[test]
fn a_redirect_is_handed_to_the_caller_without_the_key() {
    run(
        |_, _| (),
        |seen| {
            let to = seen.line().split(' ').nth(1).unwrap().trim_start_matches("/v1/").replace("!", "://");
            answer(&format!("302 Found\r\nLocation: {to}"), "")
        },
        |world| async move {
            for (asked, location) in [
                ("/crm/https!b.example.com/x", "https://b.example.com/x".to_owned()),
                ("/crm/https!api.example.com/v1/x?y", "http://gateway.internal/crm/x?y".to_owned()),
                (
                    &format!("/crm/https!b.example.com/?k={SECRET}"),
                    format!("https://b.example.com/?k={}", "*".repeat(SECRET.len())),
                ),
            ] {
                let got = world.get(asked, "").await;
                let found = got.lines().find_map(|line| line.strip_prefix("location: ")).map(str::to_owned);
                assert_eq!(found, Some(location), "{got}");
            }
            assert_eq!(world.seen().len(), 3, "none was followed");
        },
    );
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    run(
        |settings, _| settings.limits.body = "1KiB".parse().unwrap(),
        |_| answer("200 OK", ""),
        |world| async move {
            let long = "x".repeat(1025);
            let head = "POST /crm/ HTTP/1.1\r\nHost: gateway.internal\r\nConnection: close\r\n";
            let got = world.call(&format!("{head}Content-Length: 1025\r\n\r\n{long}")).await;
            assert!(got.starts_with("HTTP/1.1 413 ") && got.contains("(too-large)"), "{got}");
            let got = world.call(&format!("{head}Transfer-Encoding: chunked\r\n\r\n401\r\n{long}\r\n0\r\n\r\n")).await;
            assert!(got.starts_with("HTTP/1.1 413 "), "{got}");
            assert!(world.seen().is_empty());
            let got = world.call(&format!("{head}Content-Length: 1024\r\n\r\n{}", &long[1..])).await;
            assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
        },
    );
}

#[test]
fn trailers_of_the_caller_stay_behind() {
    run(
        |_, _| (),
        |_| answer("200 OK", ""),
        |world| async move {
            let request = "POST /crm/ HTTP/1.1\r\nHost: gateway.internal\r\nConnection: close\r\nTrailer: Authorization\r\n\
                       Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nAuthorization: Bearer mine\r\n\r\n";
            assert!(world.call(request).await.starts_with("HTTP/1.1 200 "));
            let seen = world.seen().remove(0);
            assert_eq!(seen.body, b"4\r\nbody\r\n0\r\n\r\n");
            assert_eq!(seen.header("authorization"), [format!("Bearer {SECRET}")]);
            assert!(seen.header("trailer").is_empty());
        },
    );
}
