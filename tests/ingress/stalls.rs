//! Clients that take nothing of what they asked for: what waits is their tenant's affair, and ends.

use std::{io::Write, net::TcpStream, thread, time::Duration};

use crate::{
    app::{self, Valve, bytes_at},
    frames::{END_HEADERS, END_STREAM, Frames, HEADERS, WINDOW_UPDATE, frame, head},
    net::{eventually, read_until},
    resident,
    world::{Ingress, Tenant, ends},
};

crate::trials![
    who_takes_nothing_for_too_long_is_cut_off,
    clients_of_one_tenant_that_read_nothing_get_nobody_elses_cut,
    streams_that_nobody_takes_fill_no_more_memory_than_there_is_for_them,
];

const SOON: Duration = Duration::from_secs(15);
const MUCH: u64 = 1 << 40;

/// A download of which a little is read at once, so that the kernel makes room for more, and then nothing.
fn begin_download(tenant: &Tenant) -> Option<TcpStream> {
    let mut stream = tenant.ingress.connect();
    stream.write_all(tenant.head("GET /", "").as_bytes()).ok()?;
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    take(&mut stream, 4 << 20).then_some(stream)
}

/// Reads so much. False where it ends before.
fn take(stream: &mut impl std::io::Read, bytes: usize) -> bool {
    let mut piece = vec![0; 64 << 10];
    (0..bytes / piece.len()).all(|_| stream.read_exact(&mut piece).is_ok())
}

fn who_takes_nothing_for_too_long_is_cut_off() {
    let ingress = Ingress::start("stalls", "stallTimeout: 2s", "");
    let tenant = ingress.public("stalls", app::pour(MUCH, Valve::closed()));
    let mut stalled = begin_download(&tenant).unwrap();
    let mut slow = begin_download(&tenant).unwrap();
    eventually("one is cut", SOON, || {
        assert!(take(&mut slow, 256 << 10), "who reads slowly goes on");
        thread::sleep(Duration::from_millis(50));
        ingress.metric("tenantd_ingress_connections") == 1
    });
    assert!(ends(&mut stalled) && take(&mut slow, 4 << 20));
    // Over HTTP/2 a stream ends, and the others of its connection go on.
    let ingress = Ingress::start_tls("stalls-http2", "stallTimeout: 2s");
    let tenant = ingress.public("stalls", app::pour(MUCH, Valve::closed()));
    let mut client = Frames::open(&tenant, &[]);
    client.request(1, &tenant, "/", &tenant.token(), true);
    client.request(3, &tenant, "/", &tenant.token(), true);
    for stream in [0, 3] {
        client.send(WINDOW_UPDATE, 0, stream, &(1_u32 << 30).to_be_bytes()).unwrap();
    }
    let mut taken = 0;
    client.until(|frame| {
        frame.is_reset(1) || {
            assert!(!frame.is_reset(3));
            false
        }
    });
    assert_eq!(ingress.metric("tenantd_ingress_cut_answers_total{reason=\"stalled\"}"), 1);
    while taken < 1 << 20 {
        taken += client.until(|frame| frame.is_data(3)).payload.len();
    }
}

fn clients_of_one_tenant_that_read_nothing_get_nobody_elses_cut() {
    let ingress = Ingress::start("hoards", "connections: 10000", "");
    let [hoards, neighbour] =
        ["hoards", "neighbour"].map(|name| ingress.public(name, app::pour(MUCH, Valve::closed())));
    let before = resident(ingress.pid());
    let mut modest: Vec<TcpStream> = (0..10).map(|_| begin_download(&neighbour).unwrap()).collect();
    let hoard = |count: usize| -> Vec<TcpStream> { (0..count).filter_map(|_| begin_download(&hoards)).collect() };
    let held = hoard(240);
    eventually("some are cut", SOON, || ingress.metric("tenantd_ingress_connections") < 250);
    // What was held for those is free for others, and they take it again.
    let more = hoard(60);
    thread::sleep(Duration::from_secs(3));
    let taken = resident(ingress.pid()).saturating_sub(before);
    assert!(taken < 256, "{taken} MiB");
    assert!(modest.iter_mut().all(|stream| take(stream, 16 << 20)), "none of the neighbour's is cut");
    assert!(begin_download(&neighbour).is_some());
    drop((held, more));
}

fn streams_that_nobody_takes_fill_no_more_memory_than_there_is_for_them() {
    let ingress = Ingress::start_tls("streams", "");
    let [hoards, neighbour] =
        ["hoards", "neighbour"].map(|name| ingress.public(name, app::pour(MUCH, Valve::closed())));
    let before = resident(ingress.pid());
    // Each stream may be sent as much as anybody likes, and nothing of its connection is read.
    let mut clients: Vec<Frames> = Vec::new();
    for _ in 0..6 {
        let mut client = Frames::open(&hoards, &[(4, (1 << 31) - 1)]);
        client.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()).unwrap();
        let block = head("GET", &hoards, "/", &hoards.token());
        let requests: Vec<u8> =
            (0..100).flat_map(|number| frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * number, &block)).collect();
        client.write(&requests).unwrap();
        clients.push(client);
    }
    eventually("some are cut", SOON, || ingress.metric("tenantd_ingress_cut_answers_total{reason=\"stalled\"}") > 0);
    let taken = resident(ingress.pid()).saturating_sub(before);
    assert!(taken < 400, "{taken} MiB");
    let mut stream = Frames::open(&neighbour, &[]);
    stream.request(1, &neighbour, "/", &neighbour.token(), true);
    let data = stream.until(|frame| frame.is_data(1));
    assert_eq!(data.payload, bytes_at(0, data.payload.len()));
    drop(clients);
}
