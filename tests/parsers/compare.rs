//! What the gateway reads of bytes that others wrote, beside what a parser of another hand reads: httparse, rustls and
//! domain. Each function panics where something passes here that is read differently there; what is refused here may
//! pass elsewhere. The properties beside this file and the targets under `tests/fuzz/` feed them.

use std::net::Ipv4Addr;

use domain::{
    base::{Message, ToName, iana::Class},
    rdata::{A, Cname},
};
use tenantd::{
    gateway::{
        policy::authority::Host,
        protocols::{
            client_hello, dns,
            http_head::{self, Body, Framing},
            reply::{self, Read},
        },
    },
    model::EgressPolicy,
};

/// The head of a request: its end, its first line, whom it is for and how long its body is.
pub fn request(bytes: &[u8]) {
    let end = http_head::end(bytes, 0);
    let Ok(Some(length)) = end else { return };
    for cut in 0..length {
        // However it is cut on its way, it ends in the same place.
        if let Ok(found) = http_head::end(&bytes[..cut], 0) {
            assert_eq!(found, None, "{cut} bytes of {bytes:?}");
            assert_eq!(http_head::end(bytes, cut), end, "from {cut} of {bytes:?}");
        }
    }
    let Ok(ours) = http_head::parse(&bytes[..length]) else { return };
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut theirs = httparse::Request::new(&mut fields);
    let shown = String::from_utf8_lossy(bytes);
    assert_eq!(theirs.parse(bytes), Ok(httparse::Status::Complete(length)), "{shown:?}");
    assert_eq!((theirs.method, theirs.path), (Some(&*ours.method), Some(&*ours.target)), "{shown:?}");
    let values = |name: &str| -> Vec<&[u8]> {
        let named = theirs.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value).collect()
    };
    let hosts: Vec<&[u8]> = ours.host.iter().map(|host| host.as_bytes()).collect();
    assert_eq!(values("host"), hosts, "{shown:?}");
    let framing = match (values("transfer-encoding").as_slice(), values("content-length").as_slice()) {
        ([], []) => Framing::Length(0),
        ([], [length]) => Framing::Length(std::str::from_utf8(length).unwrap().parse().unwrap()),
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        both => panic!("{both:?} in {shown:?}"),
    };
    assert_eq!(ours.framing, framing, "{shown:?}");
    let words = |name: &str| {
        let values = values(name).into_iter().map(|value| String::from_utf8_lossy(value).to_ascii_lowercase());
        values.flat_map(|value| value.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>()).collect()
    };
    let (connection, upgrade): (Vec<String>, Vec<String>) = (words("connection"), words("upgrade"));
    let is_offered = connection.contains(&"upgrade".to_owned()) && upgrade.contains(&"websocket".to_owned());
    assert_eq!(ours.upgrade, is_offered && ours.method == "GET" && theirs.version == Some(1), "{shown:?}");
}

/// A body in chunks: where each chunk and the whole end.
pub fn chunks(bytes: &[u8]) {
    let mut body = Body::new(Framing::Chunked);
    let Ok(length) = body.advance(bytes) else { return };
    let mut at = 0;
    loop {
        match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete((line, 0))) => {
                at += line;
                break;
            }
            Ok(httparse::Status::Complete((line, size))) => {
                let end = (at + line).saturating_add(usize::try_from(size).unwrap());
                if end.saturating_add(2) > bytes.len() {
                    return assert!(!body.is_over(), "{bytes:?}");
                }
                assert_eq!(&bytes[end..end + 2], b"\r\n", "{bytes:?}");
                at = end + 2;
            }
            Ok(httparse::Status::Partial) => return assert!(!body.is_over(), "{bytes:?}"),
            // A line is judged when it is whole.
            Err(_) if !bytes[at..length].contains(&b'\n') => return assert!(!body.is_over(), "{bytes:?}"),
            Err(error) => panic!("{error} in {bytes:?}"),
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; 4096];
    match httparse::parse_headers(&bytes[at..], &mut fields) {
        Ok(httparse::Status::Complete((trailers, _))) => {
            assert_eq!((length, body.is_over()), (at + trailers, true), "{bytes:?}");
        }
        Ok(httparse::Status::Partial) => assert!(!body.is_over(), "{bytes:?}"),
        Err(_) if !body.is_over() => {}
        Err(error) => panic!("{error} in the trailers of {bytes:?}"),
    }
}

/// The first message of TLS: the server's name.
pub fn client_hello(bytes: &[u8]) {
    let Ok(Some(ours)) = client_hello::parse(bytes) else { return };
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return;
        }
        // What a server of rustls would not have for other reasons is no matter of names.
        if let Ok(Some(accepted)) = acceptor.accept() {
            let theirs = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
            return assert_eq!(ours.name.as_ref().and_then(Host::name), theirs.as_deref(), "{bytes:?}");
        }
    }
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

fn policy() -> EgressPolicy {
    let policy = r#"{"v":2,"tenant":"ant","subnet":"10.77.0.0/28","allow":["api.example.com:443","*.stripe.com:443"]}"#;
    serde_json::from_str(policy).unwrap()
}

/// A tenant's question to the name server inside: nobody gets an address who has not asked for a listed name.
pub fn question(bytes: &[u8]) {
    let Some(answer) = dns::answer(bytes, &policy(), GATEWAY, |rule, name| format!("{name} {rule}")) else { return };
    let reply = Message::from_octets(&answer.bytes).unwrap();
    assert!(reply.header().qr() && answer.bytes[..2] == bytes[..2], "{bytes:?}");
    let addresses: Vec<_> = reply.answer().unwrap().limit_to::<A>().collect::<Result<_, _>>().unwrap();
    if addresses.is_empty() {
        return;
    }
    let asked = Message::from_octets(bytes).unwrap();
    let (asked, answered) = (asked.sole_question().unwrap(), reply.sole_question().unwrap());
    assert_eq!(asked, answered, "{bytes:?}");
    let name = asked.qname().to_string().to_ascii_lowercase();
    let is_listed = ["api.example.com", "gateway.internal"].contains(&&*name)
        || [".stripe.com", ".gateway.internal"].iter().any(|end| name.ends_with(end));
    assert!(is_listed && asked.qclass() == Class::IN, "{name} of {bytes:?}");
    for record in addresses {
        assert!(record.owner().name_eq(asked.qname()) && record.data().addr() == GATEWAY, "{bytes:?}");
    }
}

/// What a resolver answers: the addresses are of the name that was asked for, or of what that is an alias of.
pub fn reply(bytes: &[u8]) {
    let Read::Answer(addresses, _) = reply::read_answer(bytes, 7, "a.example") else { return };
    if addresses.is_empty() {
        return;
    }
    let message = Message::from_octets(bytes).unwrap();
    assert!(message.header().qr() && message.header().id() == 7 && !message.header().tc(), "{bytes:?}");
    let lower = |name: &dyn std::fmt::Display| name.to_string().to_ascii_lowercase();
    assert_eq!(lower(message.sole_question().unwrap().qname()), "a.example", "{bytes:?}");
    let mut names = vec!["a.example".to_owned()];
    let aliases: Vec<_> = message.answer().unwrap().limit_to::<Cname<_>>().filter_map(Result::ok).collect();
    for _ in 0..aliases.len() {
        for alias in &aliases {
            if names.contains(&lower(alias.owner())) {
                names.push(lower(alias.data().cname()));
            }
        }
    }
    let theirs: Vec<_> = message.answer().unwrap().limit_to_in::<A>().filter_map(Result::ok).collect();
    for address in addresses {
        let is_there = |record: &domain::base::Record<_, A>| {
            record.data().addr() == address && names.contains(&lower(record.owner()))
        };
        assert!(theirs.iter().any(is_there), "{address} of {bytes:?}");
    }
}
