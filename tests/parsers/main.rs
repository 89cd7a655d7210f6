//! The gateway's readers of what tenants and resolvers send, compared with parsers of another hand. Samples are changed
//! a little at a time, so that most of what comes out is almost right; `tests/fuzz/` does the same for as long as one wants.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compare;

use proptest::{collection::vec, prelude::*, sample::Index, test_runner::Config};
use simple_dns::{
    CLASS, Name, Packet, QCLASS, QTYPE, Question, ResourceRecord, TYPE,
    rdata::{A, CNAME, RData},
};
use tenantd::gateway::protocols::{
    http_head,
    reply::{Read, read_answer},
};

/// One change of a sample.
#[derive(Clone, Debug)]
enum Edit {
    Put(Index, &'static [u8]),
    Set(Index, u8),
    Remove(Index),
    Double(Index, Index),
}

/// What means something to one of the readers, or to somebody else.
const WORDS: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\r\n",
    b"\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b",",
    b";",
    b"0\r\n\r\n",
    b"Host: b\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: websocket\r\n",
    b"\xc0\x0c",
    b"\0\0",
];

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<Index>(), prop::sample::select(WORDS)).prop_map(|(at, word)| Edit::Put(at, word)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        2 => any::<Index>().prop_map(Edit::Remove),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Edit::Double(from, to)),
    ]
}

/// A sample, with up to four changes.
fn changed(samples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(samples), vec(edit(), 0..5)).prop_map(|(mut bytes, edits)| {
        for edit in edits {
            let place = |at: &Index| at.index(bytes.len() + 1);
            match edit {
                Edit::Put(at, word) => drop(bytes.splice(place(&at)..place(&at), word.iter().copied())),
                Edit::Set(at, byte) if !bytes.is_empty() => {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                Edit::Remove(at) if !bytes.is_empty() => drop(bytes.remove(at.index(bytes.len()))),
                Edit::Double(from, to) => {
                    let (from, to) = (place(&from).min(place(&to)), place(&from).max(place(&to)));
                    let twice = bytes[from..to].to_vec();
                    drop(bytes.splice(to..to, twice));
                }
                Edit::Set(..) | Edit::Remove(_) => {}
            }
        }
        bytes
    })
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn requests() -> Vec<Vec<u8>> {
    texts(&[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a.example/x?y HTTP/1.0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Y: z\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c, websocket\r\nHTTP2-Settings: x\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    ])
}

fn bodies() -> Vec<Vec<u8>> {
    texts(&["5\r\nhello\r\n0\r\n\r\nGET", "00a;x=y\r\n0123456789\r\n1\r\n!\r\n0\r\nX: y\r\nZ: w\r\n\r\n", "0\r\n\r\n"])
}

fn hellos() -> Vec<Vec<u8>> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let config = std::sync::Arc::new(config);
    let names = ["api.example.com", "x.y", "10.0.0.1"];
    let hello = |name: &&str| {
        let mut bytes = Vec::new();
        let name = (*name).to_owned().try_into().unwrap();
        rustls::ClientConnection::new(config.clone(), name).unwrap().write_tls(&mut bytes).unwrap();
        bytes
    };
    names.iter().map(hello).collect()
}

fn packet(id: u16, is_reply: bool, asked: &str, kind: TYPE, answers: &[(&str, Result<[u8; 4], &str>)]) -> Vec<u8> {
    let mut packet = if is_reply { Packet::new_reply(id) } else { Packet::new_query(id) };
    let name = |name: &str| Name::new(name).unwrap().into_owned();
    packet.questions.push(Question::new(name(asked), QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    for (owner, answer) in answers {
        let data = match answer {
            Ok(address) => RData::A(A { address: u32::from_be_bytes(*address) }),
            Err(alias) => RData::CNAME(CNAME(name(alias))),
        };
        packet.answers.push(ResourceRecord::new(name(owner), CLASS::IN, 60, data));
    }
    // Both ways of writing names, in full and by pointing back.
    if is_reply && answers.len() > 1 { packet.build_bytes_vec_compressed() } else { packet.build_bytes_vec() }.unwrap()
}

fn questions() -> Vec<Vec<u8>> {
    let asked =
        [("api.example.com", TYPE::A), ("a.stripe.com", TYPE::A), ("evil.example", TYPE::A), ("stripe.com", TYPE::TXT)];
    asked.iter().map(|(name, kind)| packet(9, false, name, *kind, &[])).collect()
}

fn replies() -> Vec<Vec<u8>> {
    vec![
        packet(7, true, "a.example", TYPE::A, &[("a.example", Ok([1, 2, 3, 4]))]),
        packet(7, true, "a.example", TYPE::A, &[("a.example", Err("b.example")), ("b.example", Ok([1, 2, 3, 4]))]),
        packet(7, true, "a.example", TYPE::A, &[("evil.example", Ok([6, 6, 6, 6])), ("a.example", Ok([1, 2, 3, 4]))]),
    ]
}

proptest! {
    #![proptest_config(Config::with_cases(4096))]

    #[test]
    fn a_request_that_passes_is_read_by_httparse_in_the_same_way(bytes in changed(requests())) {
        compare::request(&bytes);
    }

    #[test]
    fn a_body_in_chunks_that_passes_is_read_by_httparse_in_the_same_way(bytes in changed(bodies())) {
        compare::chunks(&bytes);
    }

    #[test]
    fn a_hello_that_passes_is_for_whom_rustls_takes_it(bytes in changed(hellos())) {
        compare::client_hello(&bytes);
    }

    #[test]
    fn an_address_is_given_to_who_asks_for_a_listed_name_alone(bytes in changed(questions())) {
        compare::question(&bytes);
    }

    #[test]
    fn an_answer_that_is_believed_says_the_same_to_another_reader(bytes in changed(replies())) {
        compare::reply(&bytes);
    }
}

/// What the comparisons have found.
#[test]
fn what_was_found_stays_refused() {
    for text in ["GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n"] {
        compare::request(text.as_bytes());
        assert!(http_head::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    // An address of eleven bytes.
    let mut answer = packet(7, true, "a.example", TYPE::A, &[("a.example", Ok(*b"Host"))]);
    let length = answer.len() - 5;
    answer[length] = 11;
    answer.extend(b": b\r\n..");
    compare::reply(&answer);
    assert_eq!(read_answer(&answer, 7, "a.example"), Read::Other);
}
