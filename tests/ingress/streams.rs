//! Bodies that are passed on as they come, however long they are, and held up by who takes them slowly.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::{
    app::{self, Valve, bytes_at, head, header},
    net::{read_answer, read_until},
    resident,
    world::{Ingress, world},
};

crate::trials![
    events_arrive_one_by_one,
    a_download_waits_for_its_client_and_arrives_whole,
    an_upload_waits_for_its_tenant_and_arrives_whole,
    bodies_go_both_ways_at_once,
];

/// More than all buffers between a client and a tenant hold together, the kernel's included.
const LENGTH: u64 = 96 << 20;
const BUFFERED: u64 = 48 << 20;

/// What the process may take for one connection, in MiB.
const TAKEN: u64 = 16;

/// What a counter stands at once it moves no more.
fn at_rest(counter: impl Fn() -> u64) -> u64 {
    let mut before = counter();
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = counter();
        if now == before && now > 0 {
            return now;
        }
        before = now;
    }
}

fn events_arrive_one_by_one() {
    let (say, says) = mpsc::channel::<String>();
    let says = std::sync::Mutex::new(says);
    let tenant = world().ingress.public("events", move |mut stream| {
        head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").unwrap();
        for text in says.lock().unwrap().iter() {
            stream.write_all(format!("data: {text}\n\n").as_bytes()).unwrap();
        }
    });
    let mut stream = world().ingress.connect();
    stream.write_all(tenant.head("GET /", "Accept: text/event-stream\r\n").as_bytes()).unwrap();
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
    for number in 0..5 {
        // Each has arrived before the next is sent.
        say.send(number.to_string()).unwrap();
        let event = format!("data: {number}\n\n");
        assert!(read_until(&mut stream, &event).ends_with(&event), "{number}");
    }
    drop(say);
    assert!(read_until(&mut stream, "0\r\n\r\n").ends_with("0\r\n\r\n"));
}

fn a_download_waits_for_its_client_and_arrives_whole() {
    let ingress = Ingress::start("downloads", "", "");
    let valve = Valve::closed();
    let tenant = ingress.public("downloads", app::pour(LENGTH, Arc::clone(&valve)));
    let before = resident(ingress.pid());
    let mut stream = ingress.connect();
    stream.write_all(tenant.head("GET /", "").as_bytes()).unwrap();
    let sent = at_rest(|| valve.gone());
    assert!(sent < BUFFERED, "{sent} bytes were sent to a client that reads nothing");
    let taken = resident(ingress.pid()).saturating_sub(before);
    assert!(taken < TAKEN, "{taken} MiB");
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(head.contains(&format!("content-length: {LENGTH}\r\n")), "{head}");
    is_whole(&mut stream);
    let taken = resident(ingress.pid()).saturating_sub(before);
    assert!(taken < TAKEN, "{taken} MiB after all");
}

/// Reads such a body to its end.
fn is_whole(stream: &mut impl Read) {
    let mut piece = vec![0; 256 << 10];
    let mut place = 0;
    while place < LENGTH {
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "it ends after {place} bytes");
        assert!(piece[..length] == bytes_at(place, length), "other bytes after {place}");
        place += length as u64;
    }
}

/// Reads a request's body once a valve is open, and answers how long it was.
fn slow_reader(valve: Arc<Valve>) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        let head = head(&mut stream);
        valve.pass();
        let mut place = 0;
        let length = header(&head, "content-length").map(|length| length.parse::<u64>().unwrap());
        if let Some(length) = length {
            assert_eq!(length, LENGTH);
            is_whole(&mut stream);
            place = LENGTH;
        } else {
            loop {
                let line = read_until(&mut stream, "\r\n");
                let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
                let mut piece = vec![0; size + 2];
                stream.read_exact(&mut piece).unwrap();
                if size == 0 {
                    break;
                }
                assert!(piece[..size] == bytes_at(place, size), "other bytes after {place}");
                place += size as u64;
            }
        }
        app::answer(&mut stream, format!("{place} bytes").as_bytes()).unwrap();
    }
}

fn an_upload_waits_for_its_tenant_and_arrives_whole() {
    let ingress = Ingress::start("uploads", "", "");
    for is_chunked in [false, true] {
        let valve = Valve::closed();
        let name = if is_chunked { "chunked" } else { "plain" };
        let tenant = ingress.public(name, slow_reader(Arc::clone(&valve)));
        let framing =
            if is_chunked { "Transfer-Encoding: chunked\r\n".into() } else { format!("Content-Length: {LENGTH}\r\n") };
        let before = resident(ingress.pid());
        let mut stream = ingress.connect();
        stream.set_write_timeout(None).unwrap();
        stream.write_all(tenant.head("POST /", &framing).as_bytes()).unwrap();
        let sent = AtomicU64::new(0);
        thread::scope(|scope| {
            let mut writing = stream.try_clone().unwrap();
            let sent = &sent;
            scope.spawn(move || {
                let mut place = 0;
                while place < LENGTH {
                    let piece = bytes_at(place, 1 << 20);
                    if is_chunked {
                        write!(writing, "{:x}\r\n", piece.len()).unwrap();
                    }
                    writing.write_all(&piece).unwrap();
                    if is_chunked {
                        writing.write_all(b"\r\n").unwrap();
                    }
                    place += piece.len() as u64;
                    sent.store(place, Ordering::Relaxed);
                }
                if is_chunked {
                    writing.write_all(b"0\r\n\r\n").unwrap();
                }
            });
            let taken = at_rest(|| sent.load(Ordering::Relaxed));
            assert!(taken < BUFFERED, "{name}: {taken} bytes were taken for a tenant that reads nothing");
            let resident = resident(ingress.pid()).saturating_sub(before);
            assert!(resident < TAKEN, "{name}: {resident} MiB");
            valve.open();
        });
        let answer = read_answer(&mut stream);
        assert!(answer.ends_with(&format!("{LENGTH} bytes")), "{name}: {answer}");
    }
}

fn bodies_go_both_ways_at_once() {
    let tenant = world().ingress.public("both-ways", |mut stream| {
        let head = head(&mut stream);
        let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").unwrap();
        let mut piece = vec![0; 64 << 10];
        let mut left = length;
        while left > 0 {
            let read = stream.read(&mut piece).unwrap();
            stream.write_all(&piece[..read]).unwrap();
            left -= read;
        }
    });
    let length = 32 << 20;
    let mut stream = world().ingress.connect();
    stream.write_all(tenant.head("POST /", &format!("Content-Length: {length}\r\n")).as_bytes()).unwrap();
    thread::scope(|scope| {
        let mut writing = stream.try_clone().unwrap();
        scope.spawn(move || writing.write_all(&bytes_at(0, length)).unwrap());
        read_until(&mut stream, "\r\n\r\n");
        let mut back = vec![0; length];
        stream.read_exact(&mut back).unwrap();
        assert!(back == bytes_at(0, length));
    });
}
