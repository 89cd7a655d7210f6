//! What a browser gets of the ingress itself: a page while its tenant starts, and the cookie that lets it in.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Child,
    time::Duration,
};

use tenantd::model::Power;

use super::{
    Daemon,
    ingress::{EXPOSE, activated, ip, is_in_a_network_of_its_own, unique},
};

/// What a browser sends that goes to an address.
const BROWSER: &str = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// An ingress that ends with its owner.
struct Ingress(Child);

impl Drop for Ingress {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a request for a tenant's name, and reads until this text came, or to the end.
fn ask(tenant: &str, line: &str, headers: &str, body: &str, until: &str) -> String {
    let mut stream = TcpStream::connect("127.0.0.1:8080").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let host = format!("{tenant}.agents.example.com");
    let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n");
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    let (mut answer, mut piece) = (String::new(), [0; 4096]);
    while until.is_empty() || !answer.contains(until) {
        match stream.read(&mut piece) {
            Ok(length @ 1..) => answer += &String::from_utf8_lossy(&piece[..length]),
            Ok(0) | Err(_) => break,
        }
    }
    answer
}

fn get(tenant: &str, path: &str, headers: &str) -> String {
    ask(tenant, &format!("GET {path}"), headers, "", "")
}

/// The value of a header.
fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_browser_sees_how_a_start_goes_on_and_gets_a_cookie_for_a_token() {
    if !is_in_a_network_of_its_own() {
        return;
    }
    ip(&["link", "set", "lo", "up"]);
    let name = unique("page");
    let ant = name.as_str();
    let (daemon, _kernel) = Daemon::exposing(&[ant], &[ant], EXPOSE, "");
    let text = std::fs::read_to_string(daemon.folder().join("host.yaml")).unwrap();
    std::fs::write(daemon.folder().join("host.yaml"), text.replace("ingress: {", "ingress: {tlsTerminated: true, "))
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
    let _ingress = Ingress(activated(&daemon, &listener).spawn().unwrap());
    let token = daemon.ask(&["token", ant, "--for", "1h"]).with(0).out.trim().to_owned();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    daemon.wait("the ingress knows its tenants", || get(ant, "/", "").starts_with("HTTP/1.1 401 ").then_some(()));

    // The form, and what comes of it.
    let form = get(ant, "/deep?a=b&c", BROWSER);
    assert!(form.starts_with("HTTP/1.1 401 ") && form.contains("value=\"/deep?a=b&amp;c\""), "{form}");
    assert!(get(ant, "/deep", "").contains("text/plain"), "a program gets no page");
    let post = |headers: &str, body: &str| ask(ant, "POST /.tenantd/session", headers, body, "");
    let own = format!("Origin: https://{ant}.agents.example.com\r\nSec-Fetch-Site: same-origin\r\n");
    let signed_in = post(&format!("{FORM}{own}"), &format!("to=%2Fdeep%3Fa&token={token}"));
    assert!(signed_in.starts_with("HTTP/1.1 303 "), "{signed_in}");
    assert_eq!(header(&signed_in, "location"), Some("/deep?a"));
    let cookie = header(&signed_in, "set-cookie").unwrap();
    let (attributes, age) = cookie.split_once("; ").unwrap().1.rsplit_once("Max-Age=").unwrap();
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Lax; ");
    assert!((3000..=3600).contains(&age.parse::<u32>().unwrap()), "as long as the token: {age}");
    assert!(post(&bearer, "").starts_with("HTTP/1.1 204 "));
    for from in ["Origin: https://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: same-site\r\n"] {
        let refused = post(&format!("{FORM}{from}"), &format!("token={token}"));
        assert!(refused.starts_with("HTTP/1.1 403 ") && header(&refused, "set-cookie").is_none(), "{from} {refused}");
    }
    let in_address = ask(ant, &format!("POST /.tenantd/session?token={token}"), FORM, "", "");
    assert!(in_address.starts_with("HTTP/1.1 401 ") && header(&in_address, "set-cookie").is_none(), "{in_address}");
    let cleared = ask(ant, "DELETE /.tenantd/session", &own, "", "");
    assert!(header(&cleared, "set-cookie").unwrap().starts_with("__Host-tenantd=; ") && cleared.contains("Max-Age=0"));
    let wrong = "to=%2Fa&token=tdt_e30.AAAA";
    let alike = |tenant: &str| [get(tenant, "/a", BROWSER), ask(tenant, "POST /.tenantd/session", FORM, wrong, "")];
    assert_eq!(alike(ant), alike("nobody"), "nobody learns which tenants there are");

    // The page, where the fleet says so.
    daemon.policy("ingress: {waitingPage: true}\n");
    daemon.push();
    daemon.wait("the fleet says so", || daemon.content().waiting_page.then_some(()));
    daemon.ask(&["sleep", ant]).with(0);
    daemon.reachable_as(ant, |one| one.power == Power::Asleep && one.container.is_none());
    let cookie = format!("Cookie: __Host-tenantd={token}\r\n");
    // The ingress hears of it as the daemon says it.
    std::thread::sleep(Duration::from_millis(500));
    let page = get(ant, "/", &format!("{BROWSER}{cookie}"));
    assert!(page.contains("<h1>Starting "), "{page}");
    assert!(page.starts_with("HTTP/1.1 503 ") && header(&page, "cache-control") == Some("no-store"), "{page}");
    assert_eq!(ask(ant, "GET /.tenantd/wake", "", "", "").split(' ').nth(1), Some("401"), "who may not come in");
    // It runs in the end, and nobody listens there.
    let followed = ask(ant, "GET /.tenantd/wake", &cookie, "", "data: starting\n\n");
    assert!(followed.starts_with("HTTP/1.1 200 ") && followed.contains("event: step\ndata: starting"), "{followed}");
    assert_eq!(get(ant, "/.tenantd/other", &cookie).split(' ').nth(1), Some("404"), "no app is asked");
}
