//! Who may come in, and who may not: whatever is tried, one answer, and nothing reaches a tenant.

use std::{io::Write, net::TcpStream, sync::Mutex, time::Duration};

use tenantd::model::{
    Access, Power, Token,
    token::{Right, SigningKey},
};

use crate::{
    app::{self, answer, head, header},
    frames::{self, END_HEADERS, END_STREAM, Frames, HEADERS},
    net::{eventually, read_answer},
    world::{DOMAIN, Ingress, PORT, Tenant, key, world},
};

crate::trials![
    no_other_token_lets_anybody_in,
    who_may_not_come_in_wakes_nobody,
    a_cookie_lets_in_on_the_tenants_own_name_alone,
    a_page_of_another_origin_cannot_use_the_cookie,
    a_host_is_one_host_however_it_is_spelled,
    a_path_leads_to_the_tenant_that_it_names_and_to_no_other,
    no_credential_reaches_a_tenant_or_a_log,
    cookies_of_tenants_stay_with_their_tenant,
    who_needs_no_token_wakes_only_so_often,
];

fn token_of(tenant: &str, key: &SigningKey, may: &[Right]) -> String {
    let id = tenantd::model::TokenId::of_random(&[9; 32]);
    let expires = (std::time::SystemTime::now() + Duration::from_secs(3600)).try_into().unwrap();
    Token { id, tenant: tenant.parse().unwrap(), may: may.iter().copied().collect(), expires }.sign(key)
}

/// The answer to a request with these lines, on each way that leads to a tenant.
fn by_all_ways(tenant: &Tenant, lines: &str) -> [String; 3] {
    [
        format!("GET / HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", tenant.host()),
        format!("GET / HTTP/1.1\r\nHost: {PORT}-{}\r\n{lines}\r\n", tenant.host()),
        format!("GET /t/{}/{PORT}/ HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n", tenant.name),
    ]
    .map(|request| tenant.ingress.ask(&request))
}

fn no_other_token_lets_anybody_in() {
    let ingress = &world().ingress;
    let tenant = ingress.private("guarded");
    let other = ingress.private("neighbour");
    let good = tenant.token();
    assert!(
        by_all_ways(&tenant, &format!("Authorization: Bearer {good}\r\n"))
            .iter()
            .all(|a| a.starts_with("HTTP/1.1 200 "))
    );
    let arrivals = tenant.arrivals();
    let (claims, signature) = good.rsplit_once('.').unwrap();
    let (other_claims, _) =
        token_of("neighbour", &key(), &Right::ALL).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let mut flipped = good.clone().into_bytes();
    let last = flipped.len() - 10;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let expired = tenant.token_for(Duration::ZERO).1;
    let refused = by_all_ways(&tenant, "")[0].clone();
    assert!(refused.starts_with("HTTP/1.1 401 ") && refused.contains("www-authenticate: Bearer"), "{refused}");
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for lines in [
        String::new(),
        bearer(&other.token()),
        bearer(&expired),
        bearer(&token_of("guarded", &SigningKey::from_seed(&[8; 32]), &Right::ALL)),
        bearer(&token_of("guarded", &key(), &[])),
        bearer(&String::from_utf8(flipped).unwrap()),
        bearer(claims),
        bearer(&format!("{claims}.")),
        bearer(&format!("{other_claims}.{signature}")),
        bearer(&format!("{claims}.{}", "A".repeat(86))),
        bearer(&format!("{good}x")),
        bearer(&format!("{good}.{signature}")),
        bearer(&good[4..]),
        bearer(&good.to_uppercase()),
        bearer(&"tdt_".repeat(2000)),
        format!("Authorization: Basic {good}\r\n"),
        format!("Authorization: {good}\r\n"),
        format!("Authorization: Bearer\t{good}\r\n"),
        format!("Authorization: Bearer {good}, Bearer {good}\r\n"),
        format!("{}{}", bearer(&good), bearer(&good)),
        format!("{}{}", bearer(&other.token()), bearer(&good)),
        format!("Proxy-Authorization: Bearer {good}\r\n"),
        format!("X-Authorization: Bearer {good}\r\nToken: {good}\r\n"),
        format!("Connection: Authorization\r\nX-Token: {good}\r\n"),
    ] {
        for answer in by_all_ways(&tenant, &lines) {
            assert_eq!(answer, refused, "{lines:?}");
        }
    }
    for path in [format!("/?token={good}"), format!("/?access_token={good}"), format!("/{good}")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", tenant.host());
        assert_eq!(ingress.ask(&request), refused, "{path}");
    }
    // Whether a name is that of a tenant is not told.
    for name in ["nobody", "neighbou", "guarded-2", "www"] {
        for credential in
            [String::new(), bearer(&good), bearer(&token_of(name, &SigningKey::from_seed(&[8; 32]), &Right::ALL))]
        {
            let by_host = format!("GET / HTTP/1.1\r\nHost: {name}.{DOMAIN}\r\n{credential}\r\n");
            let by_path = format!("GET /t/{name}/{PORT}/ HTTP/1.1\r\nHost: localhost\r\n{credential}\r\n");
            for request in [by_host, by_path] {
                assert_eq!(ingress.ask(&request), refused, "{request}");
            }
        }
    }
    // A port that is not exposed is told to who may come in, and nobody else.
    let hidden =
        |credential: &str| ingress.ask(&format!("GET / HTTP/1.1\r\nHost: 22-{}\r\n{credential}\r\n", tenant.host()));
    assert!(hidden(&bearer(&good)).starts_with("HTTP/1.1 404 "));
    assert_eq!(hidden(""), refused);
    assert_eq!(tenant.arrivals(), arrivals, "nothing of all that has arrived");
}

fn who_may_not_come_in_wakes_nobody() {
    let ingress = Ingress::start("wakes-nobody", "", "");
    let [asleep, public] = [("asleep", Access::Token), ("open", Access::Public)]
        .map(|(name, access)| ingress.tenant(name, access, app::mirror));
    for tenant in [&asleep, &public] {
        tenant.say(|found| {
            (found.power, found.running, found.address, found.container) = (Power::Asleep, false, None, None)
        });
    }
    let answers = by_all_ways(&asleep, "");
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 401 ")), "{answers:?}");
    let wrong_port = ingress.ask(&format!("GET / HTTP/1.1\r\nHost: 22-{}\r\n\r\n", public.host()));
    assert!(wrong_port.starts_with("HTTP/1.1 404 "), "{wrong_port}");
    for malformed in ["Content-Length: 1\r\nContent-Length: 2\r\n", "Transfer-Encoding: x\r\n", "X : y\r\n"] {
        let answers = by_all_ways(&public, malformed);
        assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 400 ")), "{answers:?}");
    }
    let mut held = ingress.connect();
    held.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", public.host()).as_bytes()).unwrap();
    eventually("who may come in wakes", Duration::from_secs(5), || ingress.daemon.woken() == ["open"]);
}

/// A request over TLS to a tenant's name, and its answer.
fn browse(tenant: &Tenant, line: &str, lines: &str) -> String {
    let mut stream = tenant.ingress.connect_tls(&tenant.name, &["http/1.1"]);
    let request = format!("{line} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", tenant.host());
    stream.write_all(request.as_bytes()).unwrap();
    read_answer(&mut stream)
}

fn a_cookie_lets_in_on_the_tenants_own_name_alone() {
    let tenant = world().tls.private("cookies");
    let (good, other) = (tenant.token(), world().tls.private("other-cookies").token());
    let is_in = |answer: &str| match &answer[..13] {
        "HTTP/1.1 200 " => true,
        "HTTP/1.1 401 " => false,
        _ => panic!("{answer}"),
    };
    for (cookies, may) in [
        (format!("Cookie: __Host-tenantd={good}\r\n"), true),
        (format!("Cookie: a=1; __Host-tenantd={good}; b=2\r\n"), true),
        (format!("Cookie: a=1\r\nCookie: __Host-tenantd={good}\r\n"), true),
        (format!("Cookie: __Host-tenantd={good}; __Host-tenantd={other}\r\n"), false),
        (format!("Cookie: __Host-tenantd={other}; __Host-tenantd={good}\r\n"), false),
        (format!("Cookie: __Host-tenantd={good}\r\nCookie: __Host-tenantd={good}\r\n"), false),
        (format!("Cookie: __Host-tenantd={other}\r\n"), false),
        (format!("Cookie: __host-tenantd={good}\r\n"), false),
        (format!("Cookie: __Secure-tenantd={good}\r\nCookie: tenantd={good}\r\n"), false),
        (format!("Cookie: __Host-tenantd=\"{good}\"\r\n"), false),
        (format!("Cookie: __Host-tenantd={good}\r\nAuthorization: Bearer {other}\r\n"), false),
        (format!("Cookie: __Host-tenantd={other}\r\nAuthorization: Bearer {good}\r\n"), true),
    ] {
        assert_eq!(is_in(&browse(&tenant, "GET /", &cookies)), may, "{cookies:?}");
    }
    let mut stream = tenant.ingress.connect_tls("cookies", &["http/1.1"]);
    let by_path = format!("GET /t/cookies/{PORT}/ HTTP/1.1\r\nHost: {DOMAIN}\r\nCookie: __Host-tenantd={good}\r\n\r\n");
    stream.write_all(by_path.as_bytes()).unwrap();
    assert!(!is_in(&read_answer(&mut stream)), "on a name that tenants share it counts for nothing");
}

fn a_page_of_another_origin_cannot_use_the_cookie() {
    let ingress = Ingress::start("origins", "", "  origins: [\"https://app.example.com:8443\"]\n");
    let tenant = ingress.private("origins");
    let cookie = format!("Cookie: __Host-tenantd={}\r\n", tenant.token());
    let own = format!("Origin: https://{}\r\n", tenant.host());
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let foreign = [
        String::new(),
        "Origin: null\r\n".to_owned(),
        "Origin: https://evil.example\r\n".to_owned(),
        format!("Origin: http://{}\r\n", tenant.host()),
        format!("Origin: https://{}.evil.example\r\n", tenant.host()),
        format!("Origin: https://evil-{}\r\n", tenant.host()),
        format!("Origin: https://neighbour.{DOMAIN}\r\n"),
        "Origin: https://app.example.com\r\n".to_owned(),
        format!("{own}{own}"),
        format!("Origin: https://{} https://evil.example\r\n", tenant.host()),
        format!("Referer: https://{}/\r\n", tenant.host()),
    ];
    let status = |line: &str, more: &str| {
        let request = format!("{line} HTTP/1.1\r\nHost: {}\r\n{cookie}{more}\r\n", tenant.host());
        ingress.ask(&request).split(' ').nth(1).unwrap().to_owned()
    };
    for origin in &foreign {
        for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE"] {
            assert_eq!(status(&format!("{method} /"), origin), "403", "{method} {origin:?}");
        }
        assert_eq!(status("GET /", &format!("{origin}{websocket}")), "403", "a WebSocket {origin:?}");
        assert_eq!(status("GET /", origin), "200", "what changes nothing {origin:?}");
    }
    for origin in [own, "Origin: https://app.example.com:8443\r\n".to_owned()] {
        assert_eq!(status("POST /", &format!("{origin}Content-Length: 0\r\n")), "200", "{origin:?}");
        assert_eq!(status("GET /", &format!("{origin}{websocket}")), "101", "{origin:?}");
    }
    // A program that shows its token has no origin.
    let bearer = tenant.head("POST /", "Content-Length: 0\r\nOrigin: https://evil.example\r\n");
    assert!(ingress.ask(&bearer).starts_with("HTTP/1.1 200 "));
}

fn a_host_is_one_host_however_it_is_spelled() {
    let tenant = world().ingress.private("spelled");
    let token = tenant.token();
    let ask = |line: &str, hosts: &str| {
        tenant.ingress.ask(&format!("{line} HTTP/1.1\r\n{hosts}Authorization: Bearer {token}\r\n\r\n"))
    };
    let host = tenant.host();
    for good in [host.to_uppercase(), format!("{host}."), format!("{host}:80"), format!("{host}.:65535")] {
        let answer = ask("GET /", &format!("Host: {good}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{good:?} was answered {answer}");
    }
    for bad in [
        format!("{host}.."),
        format!(".{host}"),
        format!("a.{host}"),
        format!("user@{host}"),
        format!("{host}@evil.example"),
        format!("{host}:80:80"),
        format!("{host}:x"),
        format!("{host}%2e"),
        format!("{host}%00"),
        format!("{host}#"),
        format!("{host}/"),
        format!("{host}?"),
        format!("{host}\\"),
        format!("{host},evil.example"),
        format!("{host} evil.example"),
        format!("{host};evil.example"),
        format!("xn--{host}"),
        format!("[{host}]"),
        format!("spelled\u{3002}{DOMAIN}"),
        format!("ｓpelled.{DOMAIN}"),
        format!("spelled_.{DOMAIN}"),
        format!("0-{host}"),
        format!("08080-{host}"),
        format!("+8080-{host}"),
        format!("99999-{host}"),
        format!("8080-8080-{host}"),
        format!("8080--{host}"),
        format!("-{host}"),
        format!("{host}.evil.example"),
        String::new(),
    ] {
        let answer = ask("GET /", &format!("Host: {bad}\r\n"));
        let refused = ["HTTP/1.1 400 ", "HTTP/1.1 401 ", "HTTP/1.1 404 "];
        assert!(refused.iter().any(|status| answer.starts_with(status)), "{bad:?} was answered {answer}");
    }
    for (line, hosts) in [
        ("GET /".to_owned(), String::new()),
        ("GET /".to_owned(), format!("Host: {host}\r\nHost: {host}\r\n")),
        ("GET /".to_owned(), format!("Host: neighbour.{DOMAIN}\r\nHost: {host}\r\n")),
        (format!("GET http://{host}/"), format!("Host: neighbour.{DOMAIN}\r\n")),
        (format!("GET http://neighbour.{DOMAIN}/"), format!("Host: {host}\r\n")),
        (format!("GET http://u:p@{host}/"), format!("Host: {host}\r\n")),
        (format!("GET //{host}/"), "Host: evil.example\r\n".to_owned()),
        (format!("GET {host}"), format!("Host: {host}\r\n")),
        (format!("GET ftp://{host}/"), format!("Host: {host}\r\n")),
        (format!("CONNECT {host}:80"), format!("Host: {host}:80\r\n")),
    ] {
        let answer = ask(&line, &hosts);
        let refused = ["HTTP/1.1 400 ", "HTTP/1.1 401 ", "HTTP/1.1 404 ", "HTTP/1.1 501 "];
        assert!(refused.iter().any(|status| answer.starts_with(status)), "{line} {hosts:?} was answered {answer}");
    }
    // Over HTTP/2 it is named in two ways, which must be one.
    let secure = world().tls.private("spelled");
    let token = format!("Bearer {}", secure.token());
    for (authority, hosts) in [
        (Some(host.as_str()), vec![format!("neighbour.{DOMAIN}")]),
        (Some(host.as_str()), vec![host.clone(), host.clone()]),
        (None, vec![host.clone(), format!("neighbour.{DOMAIN}")]),
        (None, vec![]),
        (Some("u@spelled.agents.example.com"), vec![]),
    ] {
        let mut all = vec![(":method", "GET"), (":scheme", "https"), (":path", "/")];
        all.extend(authority.map(|authority| (":authority", authority)));
        all.push(("authorization", &token));
        all.extend(hosts.iter().map(|host| ("host", host.as_str())));
        let mut client = Frames::open(&secure, &[]);
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &frames::fields(&all)).unwrap();
        let answer = client.next_of(1);
        assert!(answer.is_none_or(|frame| !frame.is_ok(1)), "{authority:?} {hosts:?}");
    }
}

fn a_path_leads_to_the_tenant_that_it_names_and_to_no_other() {
    let ingress = &world().ingress;
    let seen: &Mutex<Vec<String>> = Box::leak(Box::default());
    let keeps = move |mut stream: TcpStream| {
        loop {
            let head = head(&mut stream);
            if head.is_empty() {
                return;
            }
            seen.lock().unwrap().push(head.split(' ').nth(1).unwrap().to_owned());
            answer(&mut stream, b"here").unwrap();
        }
    };
    let tenant = ingress.tenant("by-path", Access::Token, keeps);
    let other = ingress.private("not-by-path");
    let arrivals = other.arrivals();
    let bearer = format!("Authorization: Bearer {}\r\n", tenant.token());
    let ask = |path: &str| ingress.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n"));
    // What follows the port is the tenant's, and read by nobody here.
    for rest in [
        "/",
        "/../not-by-path/8080/",
        "/..%2f..%2fnot-by-path%2f8080/",
        "/%2e%2e/%2e%2e/not-by-path/8080/",
        "/..;/not-by-path/8080/",
        "//evil.example/",
        "/\\..\\not-by-path",
        "/t/not-by-path/8080/",
        "/a?b=/t/not-by-path/8080/",
        "/%00%0d%0aHost:%20evil",
        "/%",
    ] {
        seen.lock().unwrap().clear();
        let answer = ask(&format!("/t/by-path/{PORT}{rest}"));
        assert!(answer.ends_with("here"), "{rest}: {answer}");
        assert_eq!(*seen.lock().unwrap(), [rest], "the tenant sees what follows as it was sent");
    }
    for path in [
        "/t/by-path/8080%2f",
        "/t/by-path%2f8080/",
        "/t/by%2dpath/8080/",
        "/t/%62y-path/8080/",
        "/t//by-path/8080/",
        "//t/by-path/8080/",
        "/T/by-path/8080/",
        "/t/BY-PATH/8080/",
        "/./t/by-path/8080/",
        "/x/../t/by-path/8080/",
        "/t/../t/by-path/8080/",
        "/t/by-path/08080/",
        "/t/by-path/8080:/",
        "/t/by-path/+8080/",
        "/t/by-path/65536/",
        "/t/by-path/22/",
        "/t/by-path/",
        "/t/by-path",
        "/t/not-by-path/8080/",
        "/t/not-by-path/8080/../../by-path/8080/",
        "*",
    ] {
        seen.lock().unwrap().clear();
        let answer = ask(path);
        let refused = ["HTTP/1.1 400 ", "HTTP/1.1 401 ", "HTTP/1.1 404 "];
        assert!(refused.iter().any(|status| answer.starts_with(status)), "{path}: {answer}");
        assert!(seen.lock().unwrap().is_empty(), "{path}");
    }
    assert_eq!(other.arrivals(), arrivals);
}

fn no_credential_reaches_a_tenant_or_a_log() {
    let ingress = Ingress::start("secrets", "", "");
    let tenant = ingress.private("secrets");
    let other = ingress.private("others-secrets");
    let (good, foreign) = (tenant.token(), other.token());
    for lines in [
        format!("Authorization: Bearer {good}\r\n"),
        format!("Authorization: bearer   {good}  \r\n"),
        format!("Authorization: Bearer {good}\r\nAuthorization: Basic dTpw\r\n"),
        format!("Authorization: Bearer {good}\r\nCookie: __Host-tenantd={foreign}; a=1\r\n"),
        format!("Authorization: Bearer {good}\r\nAuthorization: Token {foreign}\r\n"),
        format!("Cookie: a=1; __Host-tenantd={good} ;b=2\r\n"),
        format!("Cookie:__Host-tenantd={good}\r\n"),
    ] {
        let answer = ingress.ask(&format!("GET / HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", tenant.host()));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{lines:?} was answered {answer}");
        assert!(!answer.contains("tdt_") && !answer.contains("__Host-tenantd"), "{lines:?}: {answer}");
        let (is_basic, is_cookie) = (lines.contains("Basic"), lines.contains("a=1"));
        assert_eq!(
            (answer.contains("authorization: Basic dTpw"), answer.contains("a=1")),
            (is_basic, is_cookie),
            "{answer}"
        );
    }
    // The tenant's own, where everybody may come.
    let public = ingress.public("open-secrets", app::mirror);
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer its-own\r\n\r\n", public.host());
    assert_eq!(
        header(ingress.ask(&request).split_once("\r\n\r\n").unwrap().1, "authorization"),
        Some("Bearer its-own")
    );
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {foreign}\r\n\r\n", tenant.host()),
        format!("GET /{good} HTTP/1.1\r\nHost: {}\r\n\r\n", tenant.host()),
        format!("GET / HTTP/1.1\r\nHost: {}\r\nAuthorization : Bearer {good}\r\n\r\n", tenant.host()),
        format!("{good} / HTTP/1.1\r\nHost: {}\r\n\r\n", tenant.host()),
    ] {
        ingress.send(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    }
    let log = ingress.log();
    for token in [&good, &foreign] {
        let (claims, signature) = token.rsplit_once('.').unwrap();
        assert!(!log.contains(claims) && !log.contains(signature), "{log}");
    }
}

fn cookies_of_tenants_stay_with_their_tenant() {
    let tenant = world().tls.public("sets-cookies", |mut stream| {
        let lines = "Set-Cookie: own=1; Path=/; HttpOnly\r\nSet-Cookie: wide=1; Domain=example.com\r\n\
                     Set-Cookie: wider=1;DOMAIN = .agents.example.com\r\nSet-Cookie: __Host-tenantd=tdt_x; Secure; Path=/\r\n\
                     Set-Cookie: __host-TENANTD=x; Domain=a\r\nService-Worker-Allowed: /\r\nClear-Site-Data: \"*\"\r\n\
                     Strict-Transport-Security: max-age=9\r\nX-App: 1\r\n";
        while !head(&mut stream).is_empty() {
            write!(stream, "HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n").unwrap();
        }
    });
    let by_host = browse(&tenant, "GET /", "");
    let cookies: Vec<&str> = by_host.lines().filter(|line| line.starts_with("set-cookie")).collect();
    assert_eq!(cookies, ["set-cookie: own=1; Path=/; HttpOnly"], "{by_host}");
    assert!(by_host.contains("strict-transport-security"), "{by_host}");
    let mut stream = tenant.ingress.connect_tls("sets-cookies", &["http/1.1"]);
    let by_path = format!("GET /t/sets-cookies/{PORT}/ HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n");
    stream.write_all(by_path.as_bytes()).unwrap();
    let by_path = read_answer(&mut stream);
    for name in ["set-cookie", "service-worker-allowed", "clear-site-data", "strict-transport-security"] {
        assert!(!by_path.contains(name), "{name}: {by_path}");
    }
    assert!(by_path.contains("x-app: 1"), "{by_path}");
}

fn who_needs_no_token_wakes_only_so_often() {
    let ingress = Ingress::start("rates", "publicWakesPerMinute: 2", "");
    let [public, neighbour] = ["rates", "rates-2"].map(|name| ingress.public(name, app::mirror));
    let asleep = |tenant: &Tenant| tenant.say(|found| (found.power, found.running) = (Power::Paused, false));
    let awake = |tenant: &Tenant| tenant.say(|found| (found.power, found.running) = (Power::Running, true));
    let request = |tenant: &Tenant| format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", tenant.host());
    let wakes = |tenant: &Tenant, head: String| {
        asleep(tenant);
        let woken = ingress.daemon.woken().len();
        let mut held = ingress.connect();
        held.write_all(head.as_bytes()).unwrap();
        eventually("the daemon is asked", Duration::from_secs(5), || ingress.daemon.woken().len() > woken);
        awake(tenant);
        assert!(read_answer(&mut held).starts_with("HTTP/1.1 200 "));
    };
    wakes(&public, request(&public));
    wakes(&public, request(&public));
    asleep(&public);
    eventually("too often", Duration::from_secs(5), || ingress.ask(&request(&public)).starts_with("HTTP/1.1 429 "));
    assert!(header(&ingress.ask(&request(&public)), "retry-after").is_some());
    assert_eq!(ingress.daemon.woken().len(), 2);
    // Who has a token, and another tenant, have nothing to do with that.
    wakes(&public, public.head("GET /", ""));
    wakes(&neighbour, request(&neighbour));
}
