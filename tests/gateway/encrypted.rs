//! Hellos of TLS that carry an encrypted one, as every one of Chromium does.

use std::{
    fs,
    io::{Read, Write},
    process::Command,
};

use crate::{
    attacks::{DENIED, NOT_LISTED},
    dns::Say,
    net::{read_all, run},
    servers::{https, serve},
    world::{Gateway, PROXY, PUBLIC, TLS, Tenant, world},
};

crate::trials![who_may_encrypt_its_hello_is_let_through_by_the_outer_name];

/// The first message of Chromium 156 of Debian 12 to api.example.com, as it was caught: with a key of
/// X25519MLKEM768, extensions in an order of chance, and a decoy of ECH.
const CHROMIUM: &[u8] = include_bytes!("chromium-156.hello");

/// The same for another name.
fn to(name: &str) -> Vec<u8> {
    let known = b"api.example.com";
    let at = CHROMIUM.windows(known.len()).position(|window| window == known).unwrap();
    let mut hello = CHROMIUM.to_vec();
    hello[at..at + known.len()].copy_from_slice(name.as_bytes());
    hello
}

fn who_may_encrypt_its_hello_is_let_through_by_the_outer_name() {
    world().resolver.say("alt.example.com", Say::Addresses(vec![PUBLIC], 60));
    let gateway = Gateway::start_encrypting("encrypted", "browser");
    let allow = ["api.example.com:443", "alt.example.com:443"];
    let (browser, other) = (gateway.tenant("browser", &allow), gateway.tenant("other", &allow));
    let by_name = |tenant: &Tenant, hello: &[u8]| {
        let mut stream = tenant.connect(TLS).unwrap();
        stream.write_all(hello).unwrap();
        stream
    };
    let by_tunnel = |tenant: &Tenant, to: &str, hello: &[u8]| {
        let mut stream = tenant.tunnel(to).unwrap();
        stream.write_all(hello).unwrap();
        stream
    };
    // What comes back is the server's: a handshake, not an alert.
    for mut stream in [by_name(&browser, CHROMIUM), by_tunnel(&browser, "api.example.com:443", CHROMIUM)] {
        let mut first = [0; 6];
        stream.read_exact(&mut first).unwrap();
        assert_eq!((first[0], first[5]), (22, 2), "the server's hello: {first:?}");
    }
    assert_eq!(read_all(&mut by_name(&browser, &to("bad.example.com"))), NOT_LISTED);
    assert_eq!(read_all(&mut by_tunnel(&browser, "alt.example.com:443", CHROMIUM)), DENIED);
    // Whoever is not named is refused as before, with the reason.
    assert_eq!(read_all(&mut by_name(&other, CHROMIUM)), DENIED);
    assert_eq!(read_all(&mut by_tunnel(&other, "api.example.com:443", CHROMIUM)), DENIED);
    assert_eq!(gateway.metric("tenantd_gateway_refusals_total{tenant=\"other\",rule=\"hidden-name\"}"), 2);
}

/// A browser itself, by name and through the proxy, where `TENANTD_TEST_CHROMIUM` names its program.
pub fn a_real_browser_gets_a_page(chromium: &str) {
    const PORT: u16 = 8120;
    let config = world().tls.server.clone();
    serve("world", PORT, &world().arrivals, move |stream| https(stream, &config));
    let gateway = Gateway::start_encrypting("browser", "browser");
    let allow = ["api.example.com:8120"];
    for (name, is_let_through) in [("browser", true), ("other", false)] {
        let tenant = gateway.tenant(name, &allow);
        fs::write("/run/resolv.conf", format!("nameserver {}\n", tenant.gateway)).unwrap();
        for proxy in [String::new(), format!("--proxy-server=http://{}:{PROXY}", tenant.gateway)] {
            let profile = format!("/run/chromium-{name}-{}", proxy.len());
            let script = format!(
                "mount --bind /run/resolv.conf /etc/resolv.conf && exec timeout 60 {chromium} --headless=new --no-sandbox \
                 --disable-gpu --disable-background-networking --ignore-certificate-errors --user-data-dir={profile} {proxy} \
                 --dump-dom https://api.example.com:{PORT}/page"
            );
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{}", tenant.namespace));
            let output = command.args(["unshare", "--mount", "sh", "-c", &script]).output().unwrap();
            let page = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(page.contains("GET /page HTTP/1.1"), is_let_through, "{name} {proxy}: {page} {errors}");
            run("rm", &format!("-r {profile}"));
        }
    }
    let refused = gateway.metric("tenantd_gateway_refusals_total{tenant=\"other\",rule=\"hidden-name\"}");
    assert!(refused >= 2, "{refused}");
}
