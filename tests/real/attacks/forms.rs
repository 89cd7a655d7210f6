//! What is said to the gateway: what it must take, and every spelling that it must not.

use std::{net::SocketAddr, sync::Arc};

use super::{Attempt, LISTED, UNLISTED, attempt};

/// Bytes as the agent reads them.
pub fn hex(text: &str) -> String {
    bytes(text.as_bytes())
}

fn bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The length of a message in front of it, as DNS over TCP has it.
pub fn length(hex: &str) -> String {
    format!("{:04x}", hex.len() / 2)
}

/// A question of DNS, with a mark of its own.
pub fn query(name: &str, kind: u16) -> String {
    let mut message = vec![0x54, 0x44, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label is short"));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    bytes(&message)
}

/// A CONNECT, and something to say in the tunnel.
pub fn connect(gateway: &str, to: &str) -> Attempt {
    proxy(gateway, &format!("CONNECT {to}"), &format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"))
}

fn proxy(gateway: &str, name: &str, request: &str) -> Attempt {
    attempt(name, format!("send tcp {gateway}:3128 {} 700", hex(request)))
}

fn by_host(gateway: &str, name: &str, request: &str) -> Attempt {
    attempt(name, format!("send tcp {gateway}:80 {} 700", hex(request)))
}

/// The first message of a real client of TLS.
fn client_hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// The same with an extension more, after all others.
fn with_extension(hello: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let mut hello = hello.to_vec();
    let mut extension = kind.to_be_bytes().to_vec();
    extension.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    extension.extend(data);
    hello.extend(&extension);
    let more = extension.len();
    let grow = |hello: &mut Vec<u8>, at: usize| {
        let value = usize::from(u16::from_be_bytes([hello[at], hello[at + 1]])) + more;
        hello[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap().to_be_bytes());
    };
    // The record, the message, and the extensions, which come after session, suites and compression.
    grow(&mut hello, 3);
    grow(&mut hello, 7);
    let session = 43;
    let suites = session + 1 + usize::from(hello[session]);
    let compression = suites + 2 + usize::from(u16::from_be_bytes([hello[suites], hello[suites + 1]]));
    grow(&mut hello, compression + 1 + 1);
    hello
}

fn tls(gateway: &str, name: &str, port: u16, hello: &[u8]) -> Attempt {
    attempt(name, format!("send tcp {gateway}:{port} {} 700", bytes(hello)))
}

/// What must be taken, and where it leads.
pub fn listed(gateway: &str) -> (Vec<Attempt>, Vec<SocketAddr>) {
    let hello = client_hello("api.listed.example");
    let tunnel = |host: &str, said: &[u8]| {
        let request = hex(&format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        attempt(format!("a tunnel to {host}"), format!("send tcp {gateway}:3128 {request}{} 900", bytes(said)))
    };
    let attempts = vec![
        tunnel("api.listed.example:443", &hello),
        tunnel("db.listed.example:5432", &[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]),
        tunnel("API.Listed.Example:443", b"anything"),
        tunnel("a.wild.example:443", b"anything"),
        tunnel("a.b.wild.example:443", b"anything"),
        proxy(gateway, "absolute form", "GET http://web.listed.example/ HTTP/1.1\r\nHost: web.listed.example\r\n\r\n"),
        by_host(gateway, "HTTP by Host", "GET / HTTP/1.1\r\nHost: web.listed.example\r\n\r\n"),
        tls(gateway, "TLS by name", 443, &hello),
        attempt("the address of a listed name", "lookup api.listed.example"),
        attempt("the address of a wildcard's name", "lookup a.b.wild.example"),
    ];
    let to = [443, 80, 5432].map(|port| SocketAddr::from((LISTED, port))).to_vec();
    (attempts, to)
}

/// What must be refused, in every language that the gateway speaks.
pub fn refused(gateway: &str) -> Vec<Attempt> {
    let mut attempts = connects(gateway);
    attempts.extend(absolute(gateway));
    attempts.extend(hosts(gateway));
    attempts.extend(hellos(gateway));
    attempts
}

fn connects(gateway: &str) -> Vec<Attempt> {
    let unlisted = UNLISTED;
    let number = u32::from(unlisted);
    let [a, b, c, d] = unlisted.octets();
    let mut attempts: Vec<Attempt> = [
        "unlisted.example:443",
        "api.listed.example:80",
        "api.listed.example:22",
        "api.listed.example:0",
        "api.listed.example:65979",
        "api.listed.example",
        "api.listed.example.:443",
        ".api.listed.example:443",
        "api..listed.example:443",
        "wild.example:443",
        ".wild.example:443",
        "x.wild.example.unlisted.example:443",
        "xwild.example:443",
        "api.listed.example@unlisted.example:443",
        "unlisted.example:443@api.listed.example:443",
        "api.listed.example%00.unlisted.example:443",
        "api.listed.example%2eunlisted.example:443",
        "api.listed.example#.unlisted.example:443",
        "api.listed.example/unlisted.example:443",
        "api.listed.example\\unlisted.example:443",
        "api.listed.example:443:443",
        "api.listed.example:+443",
        "api.listed.example:0443",
        "\u{ff41}pi.listed.example:443",
        "\u{430}pi.listed.example:443",
        "api.listed.ex\u{e4}mple:443",
        "xn--pi-7kc.listed.example:443",
        "localhost:80",
        "gateway.internal:80",
        "beta.example:443",
        "[::1]:80",
        "[::ffff:169.254.169.254]:80",
        "[fd00:ec2::254]:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "169.254.169.254:80",
        "2852039166:80",
        "0xa9fea9fe:80",
        "0251.0376.0251.0376:80",
        "0xa9.0xfe.0xa9.0xfe:80",
        "169.254.43518:80",
        "169.16689662:80",
        "127.0.0.1:3128",
        "127.1:80",
        "0:80",
    ]
    .iter()
    .map(|to| connect(gateway, to))
    .collect();
    for to in [
        format!("{unlisted}:443"),
        format!("{number}:443"),
        format!("0x{number:x}:443"),
        format!("0{a:o}.{b}.{c}.{d}:443"),
    ] {
        attempts.push(connect(gateway, &to));
    }
    for (name, request) in [
        ("a NUL in the name", "CONNECT api.listed.example\0.unlisted.example:443 HTTP/1.1\r\n\r\n"),
        ("a control character", "CONNECT unlisted.example\x0b:443 HTTP/1.1\r\n\r\n"),
        ("two names", "CONNECT api.listed.example:443 unlisted.example:443 HTTP/1.1\r\n\r\n"),
        ("a name in the Host alone", "CONNECT unlisted.example:443 HTTP/1.1\r\nHost: api.listed.example:443\r\n\r\n"),
        ("HTTP/0.9", "GET http://unlisted.example/\r\n"),
        ("HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("SOCKS 5", "\x05\x01\x00"),
        ("SOCKS 4", "\x04\x01\x01\x2d!\x20\x1c\0"),
    ] {
        attempts.push(proxy(gateway, name, request));
    }
    attempts
}

fn absolute(gateway: &str) -> Vec<Attempt> {
    let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let long =
        format!("GET http://unlisted.example/ HTTP/1.1\r\nHost: unlisted.example\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    [
        ("absolute form", get("http://unlisted.example/", "unlisted.example")),
        ("absolute form, another Host", get("http://unlisted.example/", "web.listed.example")),
        ("a listed target, another Host", get("http://web.listed.example/", "unlisted.example")),
        ("absolute form, another port", get("http://web.listed.example:8080/", "web.listed.example:8080")),
        ("https in absolute form", get("https://unlisted.example/", "unlisted.example")),
        ("ftp in absolute form", get("ftp://unlisted.example/", "unlisted.example")),
        ("a user name", get("http://web.listed.example@unlisted.example/", "unlisted.example")),
        ("a user name and a password", get("http://web.listed.example:80@unlisted.example/", "unlisted.example")),
        ("an address", get("http://45.33.32.156/", "45.33.32.156")),
        ("metadata", get("http://169.254.169.254/latest/meta-data/", "169.254.169.254")),
        ("metadata by number", get("http://2852039166/", "2852039166")),
        ("metadata by name", get("http://metadata.google.internal/", "metadata.google.internal")),
        ("the host", get("http://198.51.100.1/", "198.51.100.1")),
        ("a huge head", long),
    ]
    .into_iter()
    .map(|(name, request)| proxy(gateway, name, &request))
    .collect()
}

/// Requests of which one part would be for a host that is not listed. What is for the listed one may be
/// answered by the gateway with an error, and never carries the other along.
fn hosts(gateway: &str) -> Vec<Attempt> {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: unlisted.example\r\n\r\n";
    let head = "POST / HTTP/1.1\r\nHost: web.listed.example\r\n";
    let size = smuggled.len();
    [
        ("another Host", "GET / HTTP/1.1\r\nHost: unlisted.example\r\n\r\n".to_owned()),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n".to_owned()),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: web.listed.example\r\nHost: unlisted.example\r\n\r\n".to_owned()),
        ("two Hosts in one", "GET / HTTP/1.1\r\nHost: web.listed.example, unlisted.example\r\n\r\n".to_owned()),
        ("a folded Host", "GET / HTTP/1.1\r\nHost: web.listed.example\r\n .unlisted.example\r\n\r\n".to_owned()),
        ("a blank before the colon", "GET / HTTP/1.1\r\nHost : unlisted.example\r\n\r\n".to_owned()),
        ("lines that end with LF", "GET / HTTP/1.1\nHost: unlisted.example\n\n".to_owned()),
        (
            "a length and chunks",
            format!("{head}Content-Length: {size}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        (
            "chunks in disguise",
            format!("{head}Content-Length: {size}\r\nTransfer-Encoding: xchunked\r\n\r\n{smuggled}"),
        ),
        (
            "chunks by a tab",
            format!("{head}Content-Length: 4\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        ("two lengths", format!("{head}Content-Length: 0\r\nContent-Length: {size}\r\n\r\n{smuggled}")),
        ("a length with a sign", format!("{head}Content-Length: +0\r\n\r\n{smuggled}")),
        ("a Host of an address", "GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n".to_owned()),
        ("a Host of another port", "GET / HTTP/1.1\r\nHost: web.listed.example:8080\r\n\r\n".to_owned()),
        (
            "a request for the proxy's port",
            "CONNECT unlisted.example:443 HTTP/1.1\r\nHost: unlisted.example\r\n\r\n".to_owned(),
        ),
    ]
    .into_iter()
    .map(|(name, request)| by_host(gateway, name, &request))
    .collect()
}

fn hellos(gateway: &str) -> Vec<Attempt> {
    let listed = client_hello("api.listed.example");
    let unlisted = client_hello("unlisted.example");
    let hidden = with_extension(&listed, 0xfe0d, &[0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0]);
    let mut cut = listed.clone();
    cut.truncate(listed.len() / 2);
    let with_nul = {
        // A name of the same length, so that all lengths stay true.
        let name = b"api.listed.example";
        let at = listed.windows(name.len()).position(|part| part == name).expect("the name stands in it");
        let mut hello = listed.clone();
        hello[at + 3] = 0;
        hello
    };
    vec![
        tls(gateway, "another name by TLS", 443, &unlisted),
        tls(gateway, "a neighbour's name by TLS", 443, &client_hello("beta.example")),
        tls(gateway, "a name on another port", 80, &listed),
        tls(gateway, "a hidden name", 443, &hidden),
        tls(gateway, "a NUL in a name", 443, &with_nul),
        tls(gateway, "an address as a name", 443, &client_hello("45.33.32.156")),
        tls(gateway, "half a greeting", 443, &cut),
        tls(gateway, "no greeting at all", 443, b"SSH-2.0-agent\r\n"),
    ]
}

/// Greetings within a tunnel that was opened for another name. The tunnel itself is allowed.
pub fn within_tunnels(gateway: &str) -> Vec<Attempt> {
    let host = "api.listed.example:443";
    let request = hex(&format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let tunnel =
        |name: &str, hello: &[u8]| attempt(name, format!("send tcp {gateway}:3128 {request}{} 700", bytes(hello)));
    let hidden = with_extension(&client_hello("api.listed.example"), 0xfe0d, &[0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0]);
    vec![
        tunnel("another name within a tunnel", &client_hello("unlisted.example")),
        tunnel("a neighbour's name within a tunnel", &client_hello("beta.example")),
        tunnel("a hidden name within a tunnel", &hidden),
    ]
}

/// Names as an egress path: nothing that is asked may reach a name server of the world, except listed ones.
pub fn names(gateway: &str) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for name in [
        "secret-data.unlisted.example",
        "secret-data.api.listed.example",
        "wild.example",
        "metadata.google.internal",
        "tenantd-beta",
    ] {
        // An address, a text, an HTTPS record, everything.
        for kind in [1, 16, 65, 255] {
            let query = query(name, kind);
            attempts
                .push(attempt(format!("{name}, kind {kind}, by UDP"), format!("send udp {gateway}:53 {query} 300")));
        }
        let query = query(name, 16);
        attempts
            .push(attempt(format!("{name} by TCP"), format!("send tcp {gateway}:53 {}{query} 300", length(&query))));
    }
    let long = format!("{0}.{0}.{0}.api.listed.example", "x".repeat(60));
    attempts.push(attempt("a long name", format!("send udp {gateway}:53 {} 300", query(&long, 1))));
    attempts.push(attempt("no question at all", format!("send udp {gateway}:53 544401000000000000000000 300")));
    let circle = "544401000001000000000000c00c00010001";
    attempts.push(attempt("a name that points at itself", format!("send udp {gateway}:53 {circle} 300")));
    attempts
}

/// A listed name, in each way in which it can be asked for.
pub fn towards(gateway: &str, name: &str) -> Vec<Attempt> {
    vec![connect(gateway, &format!("{name}:443")), tls(gateway, "by TLS", 443, &client_hello(name))]
}
