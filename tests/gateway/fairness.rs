//! Tenants that take all that they can get of what all share, and what is still there for the others.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    dns::Say,
    net::{eventually, ip, read_all, read_answer, run, within},
    resident,
    world::{Gateway, HTTP, PROXY, Tenant, WEBSOCKETS, world},
};

crate::trials![
    two_of_three_tenants_cannot_take_the_thirds_places,
    who_comes_gets_places_that_were_lent_to_others,
    websockets_through_a_route_keep_their_places,
    who_comes_gets_places_of_websockets_through_a_route,
    unfinished_requests_fill_no_more_memory_than_there_is_for_them,
    heads_that_never_end_fill_no_more_memory_than_there_is_for_them,
    a_flood_of_questions_loses_nobody_elses_answers,
    downloads_that_nobody_reads_fill_no_more_memory_than_there_is_for_them,
    downloads_that_are_read_go_on_however_many_there_are,
    who_takes_nothing_of_what_waits_is_cut_off,
    look_ups_that_nobody_answers_are_no_neighbours_affair,
];

const ECHO: &str = "api.example.com:7000";

/// Connections that say nothing, until one is turned away.
fn take_all(tenant: &Tenant) -> Vec<TcpStream> {
    let mut held = Vec::new();
    loop {
        let mut stream = tenant.connect(PROXY).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        if stream.read(&mut [0]).is_ok() {
            return held;
        }
        held.push(stream);
        assert!(held.len() < 1000, "nothing is turned away");
    }
}

fn two_of_three_tenants_cannot_take_the_thirds_places() {
    world();
    // 256 places: 42 are each tenant's own, and 130 are lent.
    let gateway = Gateway::start_with("places", "connections: 10000, handshakeTimeout: 1m", Some(1024));
    let [one, two, third] = ["one", "two", "third"].map(|name| gateway.tenant(name, &[ECHO]));
    let held = [take_all(&one), take_all(&two)];
    let counts = held.each_ref().map(Vec::len);
    assert!(counts[0] > 130 && counts[1] >= 42, "{counts:?}");
    let tunnels: Vec<_> = (0..42).map(|_| third.echo(ECHO)).collect();
    assert!(third.tunnel(ECHO).unwrap_err().starts_with("HTTP/1.1 429 "));
    drop(tunnels);
    drop(held);
    eventually("all places again", Duration::from_secs(5), || third.tunnel(ECHO).is_ok());
}

fn who_comes_gets_places_that_were_lent_to_others() {
    world();
    let gateway = Gateway::start_with("comes", "connections: 10000, handshakeTimeout: 1m", Some(1024));
    let greedy = gateway.tenant("greedy", &[ECHO]);
    let first = greedy.echo(ECHO);
    let held = take_all(&greedy);
    assert!(held.len() > 240, "{}", held.len());
    let late = gateway.tenant("late", &[ECHO]);
    let tunnels: Vec<_> = (0..60).map(|_| late.echo(ECHO)).collect();
    assert!(gateway.metric("tenantd_gateway_called_back_total") >= 50);
    // Who had less than its own part keeps that, and the oldest of what it had stays.
    let mut first = first;
    assert!(crate::net::echoes(&mut first, "still here"));
    drop((held, tunnels));
}

/// Writes a policy with a route to a server of WebSockets.
fn give_websockets(tenant: &Tenant, gateway: &Gateway) {
    let secrets = gateway.settings().with_file_name("egress/secrets").join(format!("{}.json", tenant.name));
    fs::write(secrets, r#"{"values":{"live":"k3y"}}"#).unwrap();
    tenant.write(&tenant.policy(&format!(
        r#""allow":["{ECHO}"],"routes":[{{"name":"live",
            "upstream":"https://api.example.com:{WEBSOCKETS}",
            "inject":{{"header":{{"name":"authorization","value":"${{secret:live}}"}}}}}}]"#
    )));
    eventually("the route", Duration::from_secs(5), || websocket(tenant).is_ok());
}

/// A WebSocket through the route that is known to work, or how that was answered.
fn websocket(tenant: &Tenant) -> Result<TcpStream, String> {
    let mut stream = tenant.connect(HTTP).unwrap();
    let asked = "GET /live/ HTTP/1.1\r\nHost: gateway.internal\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n";
    // Whoever is turned away may be cut off while it asks.
    let _ = stream.write_all(asked.as_bytes());
    let answer = read_answer(&mut stream);
    if answer.starts_with("HTTP/1.1 101 ") && passes(&mut stream) { Ok(stream) } else { Err(answer) }
}

/// Whether a WebSocket is still there: a frame comes back. It has no mask, as one of a server's.
fn passes(stream: &mut TcpStream) -> bool {
    let (frame, mut back) = (b"\x82\x04ping", [0; 6]);
    stream.write_all(frame).is_ok() && stream.read_exact(&mut back).is_ok() && back == *frame
}

fn connections(gateway: &Gateway, tenant: &Tenant) -> u64 {
    gateway.metric(&format!("tenantd_gateway_connections{{tenant=\"{}\"}}", tenant.name))
}

fn websockets_through_a_route_keep_their_places() {
    let gateway = Gateway::start_trusting("websockets", "connections: 2", None);
    let tenant = gateway.tenant("websockets", &[]);
    give_websockets(&tenant, &gateway);
    eventually("no connection", Duration::from_secs(5), || connections(&gateway, &tenant) == 0);
    let (first, mut second) = (websocket(&tenant).unwrap(), websocket(&tenant).unwrap());
    let refused = websocket(&tenant).unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("(over-limit)"), "{refused}");
    assert_eq!(connections(&gateway, &tenant), 2);
    // What each reads and writes at once is the tenant's as well.
    assert_eq!(gateway.metric("tenantd_gateway_memory_bytes{tenant=\"websockets\"}"), 2 * (32 << 10));
    drop(first);
    let mut third = None;
    eventually("a free place", Duration::from_secs(5), || {
        third = websocket(&tenant).ok();
        third.is_some()
    });
    let mut third = third.unwrap();
    assert!([&mut second, &mut third].into_iter().all(passes));
    tenant.allow(&[]);
    assert!([&mut second, &mut third].into_iter().all(|stream| read_all(stream).is_empty()));
    eventually("all places again", Duration::from_secs(5), || connections(&gateway, &tenant) == 0);
}

fn who_comes_gets_places_of_websockets_through_a_route() {
    // 32 places: 8 are each tenant's own.
    let gateway = Gateway::start_trusting("lends", "connections: 10000", Some(128));
    let greedy = gateway.tenant("takes", &[]);
    give_websockets(&greedy, &gateway);
    let mut held: Vec<TcpStream> = (0..32).filter_map(|_| websocket(&greedy).ok()).collect();
    assert!(held.len() > 30, "{}", held.len());
    let late = gateway.tenant("comes-late", &[ECHO]);
    let tunnels: Vec<_> = (0..8).map(|_| late.echo(ECHO)).collect();
    assert!(gateway.metric("tenantd_gateway_called_back_total") >= 7);
    let ended = held.split_off(25);
    assert!(ended.into_iter().all(|mut stream| read_all(&mut stream).is_empty()));
    assert!(held.iter_mut().take(24).all(passes));
    drop(tunnels);
}

/// Writes a policy with a route that reads a request before it is sent on, and the secret that it needs.
fn give_route(tenant: &Tenant, gateway: &Gateway) {
    let secrets = gateway.settings().with_file_name("egress/secrets").join(format!("{}.json", tenant.name));
    fs::write(secrets, r#"{"values":{"llm":"k3y"}}"#).unwrap();
    let route = r#"{"name":"llm","upstream":"https://api.example.com/v1",
        "inject":{"header":{"name":"authorization","value":"${secret:llm}"}},
        "cost":{"reserve":1,"stream":"refuse"}}"#;
    tenant.write(&tenant.policy(&format!(r#""allow":["api.example.com:80"],"routes":[{route}]"#)));
    eventually("the route", Duration::from_secs(5), || {
        let body = r#"{"stream":true}"#;
        let answer = tenant.ask(HTTP, &post(body.len(), body));
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("(no-streams)")
    });
}

fn post(length: usize, body: &str) -> String {
    format!("POST /llm/ HTTP/1.1\r\nHost: gateway.internal\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Sends the beginnings of so many requests and holds them. Returns what came back of those that were
/// refused.
fn hold(tenant: &Tenant, beginning: &[u8], count: usize) -> (Vec<TcpStream>, Vec<String>) {
    let (mut held, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut stream = tenant.connect(HTTP).unwrap();
        let written = stream.write_all(beginning);
        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut first = [0; 12];
        if written.is_err() || stream.read_exact(&mut first).is_ok() {
            refused.push(String::from_utf8_lossy(&first).into_owned());
        } else {
            held.push(stream);
        }
    }
    (held, refused)
}

fn unfinished_requests_fill_no_more_memory_than_there_is_for_them() {
    let gateway = Gateway::start("hoards", "connections: 10000");
    let [hoards, second, neighbour] = ["hoards", "second", "neighbour"].map(|name| gateway.tenant(name, &[]));
    [&hoards, &second, &neighbour].into_iter().for_each(|tenant| give_route(tenant, &gateway));
    let before = resident(gateway.pid());
    // A little less than is read before a request goes on.
    let beginning = post(2 << 20, &"x".repeat((1 << 20) - 4096)).into_bytes();
    let (held, refused) = hold(&hoards, &beginning, 220);
    let (more_held, more_refused) = hold(&second, &beginning, 100);
    assert!(!refused.is_empty() && !more_refused.is_empty(), "{} and {}", held.len(), more_held.len());
    assert!(refused.iter().chain(&more_refused).any(|answer| answer == "HTTP/1.1 429"), "{refused:?}");
    assert!(held.len() >= 100 && more_held.len() >= 30, "{} and {}", held.len(), more_held.len());
    let taken = resident(gateway.pid()).saturating_sub(before);
    assert!(taken < 300, "{taken} MiB");
    let body = format!(r#"{{"prompt":"{}","stream":true}}"#, "x".repeat(900_000));
    for _ in 0..3 {
        let answer = neighbour.ask(HTTP, &post(body.len(), &body));
        assert!(answer.contains("(no-streams)"), "{answer}");
    }
    drop((held, more_held));
    eventually("memory again", Duration::from_secs(5), || {
        hoards.ask(HTTP, &post(body.len(), &body)).contains("(no-streams)")
    });
    eventually("nothing is held", Duration::from_secs(5), || {
        gateway.metric("tenantd_gateway_memory_bytes{tenant=\"second\"}") == 0
    });
}

fn heads_that_never_end_fill_no_more_memory_than_there_is_for_them() {
    let gateway = Gateway::start("heads", "connections: 10000, handshakeTimeout: 1m, maxHeaderSize: 1MiB");
    let [hoards, neighbour] = ["hoards", "neighbour"].map(|name| gateway.tenant(name, &["api.example.com:80"]));
    let before = resident(gateway.pid());
    let beginning = format!("GET / HTTP/1.1\r\nHost: api.example.com\r\nX: {}", "y".repeat(1_000_000));
    let (held, refused) = hold(&hoards, beginning.as_bytes(), 230);
    assert!(held.len() > 100 && !refused.is_empty(), "{} held", held.len());
    let taken = resident(gateway.pid()).saturating_sub(before);
    assert!(taken < 300, "{taken} MiB");
    let begun = Instant::now();
    let answer = neighbour.ask(HTTP, "GET /mine HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
    assert!(answer.contains("GET /mine "), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(held);
}

/// What the kernel keeps for the sockets of TCP in a namespace, in MiB: what was received and not read, and
/// what was written and not sent.
fn kept_by_kernel(namespace: &str) -> u64 {
    let output = Command::new("ip").args(["netns", "exec", namespace, "ss", "-tmnH", "state", "all"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let memories = text.split("skmem:(").skip(1).filter_map(|rest| rest.split(')').next());
    let of = |memory: &str| -> u64 {
        let number = |field: &str| field.strip_prefix(['r', 'w']).and_then(|digits| digits.parse::<u64>().ok());
        memory.split(',').filter_map(number).sum()
    };
    memories.map(of).sum::<u64>() >> 20
}

/// A download that never ends.
fn open_download(tenant: &Tenant, by_tunnel: bool) -> Option<TcpStream> {
    if by_tunnel {
        return tenant.tunnel("api.example.com:9000").ok();
    }
    let mut stream = tenant.connect(HTTP).ok()?;
    stream.write_all(b"GET /pour HTTP/1.1\r\nHost: api.example.com\r\n\r\n").ok()?;
    Some(stream)
}

/// A download of which a little is read at once, so that the kernel makes room for more, and then nothing.
fn begin_download(tenant: &Tenant, by_tunnel: bool) -> Option<TcpStream> {
    let mut stream = open_download(tenant, by_tunnel)?;
    let mut piece = vec![0; 64 << 10];
    for _ in 0..64 {
        stream.read_exact(&mut piece).ok()?;
    }
    Some(stream)
}

fn downloads_that_nobody_reads_fill_no_more_memory_than_there_is_for_them() {
    world();
    let gateway = Gateway::start("downloads", "connections: 10000");
    let listed = ["api.example.com:80", "api.example.com:7000", "api.example.com:9000"];
    let [hoards, neighbour] = ["hoards", "neighbour"].map(|name| gateway.tenant(name, &listed));
    let (before, kept_before) = (resident(gateway.pid()), kept_by_kernel("host"));
    let held: Vec<TcpStream> = (0..160).filter_map(|number| begin_download(&hoards, number % 2 == 0)).collect();
    assert!(held.len() > 100, "only {} began", held.len());
    thread::sleep(Duration::from_secs(3));
    let own = resident(gateway.pid()).saturating_sub(before);
    let kept = kept_by_kernel("host").saturating_sub(kept_before) + kept_by_kernel(&gateway.namespace);
    let cut = gateway.metric("tenantd_gateway_stalled_total{tenant=\"hoards\"}");
    let counted = gateway.metric("tenantd_gateway_memory_bytes{tenant=\"hoards\"}") >> 20;
    assert!(cut > 0, "{own} and {kept} MiB, {counted} MiB counted");
    assert!(own + kept < 256, "{own} and {kept} MiB, {counted} MiB counted, {cut} cut");
    assert!(counted <= 192, "{counted} MiB");
    neighbour.echo(ECHO);
    let mut download = begin_download(&neighbour, true).unwrap();
    let mut piece = vec![0; 64 << 10];
    (0..500).for_each(|_| download.read_exact(&mut piece).unwrap());
    assert_eq!(gateway.metric("tenantd_gateway_stalled_total{tenant=\"neighbour\"}"), 0);
    drop(held);
    eventually("nothing is held", Duration::from_secs(5), || {
        gateway.metric("tenantd_gateway_memory_bytes{tenant=\"hoards\"}") == 0
    });
}

fn downloads_that_are_read_go_on_however_many_there_are() {
    world();
    let gateway = Gateway::start("readers", "");
    let tenant = gateway.tenant("readers", &["api.example.com:80", "api.example.com:9000"]);
    let mut downloads: Vec<TcpStream> =
        (0..96).map(|number| open_download(&tenant, number % 2 == 0).unwrap()).collect();
    let end = Instant::now() + Duration::from_secs(4);
    // More comes than these threads can read.
    thread::scope(|scope| {
        for downloads in downloads.chunks_mut(24) {
            scope.spawn(move || {
                let mut piece = vec![0; 64 << 10];
                while Instant::now() < end {
                    downloads.iter_mut().for_each(|download| download.read_exact(&mut piece).unwrap());
                }
            });
        }
    });
    assert_eq!(gateway.metric("tenantd_gateway_stalled_total{tenant=\"readers\"}"), 0);
}

fn who_takes_nothing_of_what_waits_is_cut_off() {
    world();
    let gateway = Gateway::start("stalls", "stallTimeout: 2s");
    let tenant = gateway.tenant("stalls", &["api.example.com:80", "api.example.com:7000", "api.example.com:9000"]);
    let mut idle = tenant.echo(ECHO);
    let mut slow = begin_download(&tenant, true).unwrap();
    let stalled = [true, false].map(|by_tunnel| begin_download(&tenant, by_tunnel).unwrap());
    let counted = || gateway.metric("tenantd_gateway_stalled_total{tenant=\"stalls\"}");
    let begun = Instant::now();
    let mut piece = vec![0; 256 << 10];
    while counted() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(15), "{} were cut", counted());
        slow.read_exact(&mut piece).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    // Who reads slowly, and who has nothing to read, go on.
    (0..50).for_each(|_| slow.read_exact(&mut piece).unwrap());
    assert!(crate::net::echoes(&mut idle, "still here"));
    assert_eq!(counted(), 2);
    drop((stalled, slow));
    // What fits into the kernel's buffers is cut off by the kernel.
    eventually("one is left", Duration::from_secs(5), || connections(&gateway, &tenant) == 1);
    let mut small = tenant.echo(ECHO);
    small.write_all(&vec![b'x'; 200 << 10]).unwrap();
    assert_eq!(connections(&gateway, &tenant), 2);
    eventually("it is cut", Duration::from_secs(45), || connections(&gateway, &tenant) == 1);
    assert!(crate::net::echoes(&mut idle, "still here"));
    drop(small);
}

fn question() -> Vec<u8> {
    b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x04evil\x07example\0\0\x01\0\x01".to_vec()
}

/// Sends as many packets as a processor can, until it is told to end. From an address that nobody has, the
/// answers wait in the kernel for somebody to take them.
fn flood(tenant: &Tenant, packet: &[u8], from_nobody: bool, end: &AtomicBool) -> u64 {
    let mut address = tenant.address;
    if from_nobody {
        address = Ipv4Addr::from(u32::from(tenant.address) + 5);
        ip(&format!("-n {} addr add {address}/28 dev eth0", tenant.namespace));
    }
    let socket = within(&tenant.namespace, || UdpSocket::bind((address, 0))).unwrap();
    socket.connect((tenant.gateway, 53)).unwrap();
    if from_nobody {
        run("ip", &format!("netns exec {} sysctl -qw net.ipv4.conf.eth0.arp_ignore=8", tenant.namespace));
    }
    let mut sent = 0;
    while !end.load(Ordering::Relaxed) {
        sent += u64::from(socket.send(packet).is_ok());
    }
    sent
}

fn a_flood_of_questions_loses_nobody_elses_answers() {
    let gateway = Gateway::start("flood", "");
    let neighbour = gateway.tenant("neighbour", &["api.example.com:80"]);
    let cases = [("questions", question(), false), ("nonsense", b"x".to_vec(), false), ("nobody", question(), true)];
    for (name, packet, from_nobody) in cases {
        let floods = gateway.tenant(name, &[]);
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            let flooding = scope.spawn(|| flood(&floods, &packet, from_nobody, &end));
            let answered = (0..300).filter(|_| neighbour.look_up("api.example.com", 1).is_some()).count();
            end.store(true, Ordering::Relaxed);
            let sent = flooding.join().unwrap();
            assert!(sent > 1000, "{name}: only {sent} were sent");
            assert_eq!(answered, 300, "{name}: {sent} were sent meanwhile");
        });
        // It is told so, answered as often as anybody, and costs nothing beyond that.
        let dropped = gateway.metric(&format!("tenantd_gateway_dropped_questions_total{{tenant=\"{name}\"}}"));
        assert!(dropped > 100, "{name}: {dropped}");
        eventually("answers again", Duration::from_secs(5), || from_nobody || floods.look_up("x", 1).is_some());
    }
}

fn look_ups_that_nobody_answers_are_no_neighbours_affair() {
    let world = world();
    // 128 at once: 32 are each tenant's own, and 64 are lent.
    let gateway = Gateway::start_with("look-ups", "connections: 10000, lookupsPerSecond: 10000", Some(1024));
    let asks = gateway.tenant("asks", &["*.unanswered.example:7000"]);
    let neighbour = gateway.tenant("neighbour", &[ECHO]);
    let mut waiting: Vec<TcpStream> = (0..140)
        .map(|number| {
            let to = format!("n{number}.unanswered.example");
            world.resolver.say(&to, Say::Nothing);
            let mut stream = asks.connect(PROXY).unwrap();
            stream.write_all(format!("CONNECT {to}:7000 HTTP/1.1\r\nHost: {to}:7000\r\n\r\n").as_bytes()).unwrap();
            stream
        })
        .collect();
    neighbour.echo(ECHO);
    let answers: Vec<String> =
        waiting.iter_mut().map(|stream| String::from_utf8_lossy(&read_all(stream)).into_owned()).collect();
    let limited = answers.iter().filter(|answer| answer.contains("(over-limit)")).count();
    let unknown = answers.iter().filter(|answer| answer.contains("(no-resolver)")).count();
    assert!(limited >= 140 - 96 && unknown >= 90 && limited + unknown == 140, "{limited} and {unknown}");
}
