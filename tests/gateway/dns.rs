//! A resolver that says what a test wants it to.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord,
    rdata::{A, CNAME, RData},
};

use crate::net::within;

/// How a name is answered.
#[derive(Clone)]
pub enum Say {
    /// With these addresses, for so many seconds.
    Addresses(Vec<[u8; 4]>, u32),
    /// Through another name.
    Alias(&'static str, [u8; 4]),
    /// Not at all.
    Nothing,
    /// That it fails.
    Failure,
    /// By TCP only.
    ByStream([u8; 4]),
    /// First with lies: another id, another question, from another port. Then with the address.
    AfterLies([u8; 4]),
}

#[derive(Clone, Default)]
pub struct Resolver(Arc<Mutex<ServerState>>);

#[derive(Default)]
struct ServerState {
    says: HashMap<String, Say>,
    asked: HashMap<String, usize>,
}

impl Resolver {
    /// Answers on an address of a namespace.
    pub fn serve(namespace: &str, address: Ipv4Addr) -> Self {
        let resolver = Self::default();
        let datagrams = within(namespace, || UdpSocket::bind((address, 53))).unwrap();
        let liar = within(namespace, || UdpSocket::bind((address, 5353))).unwrap();
        let streams = within(namespace, || TcpListener::bind((address, 53))).unwrap();
        let by_datagram = resolver.clone();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, peer)) = datagrams.recv_from(&mut buffer) {
                by_datagram.answer_datagram(&buffer[..length], peer, &datagrams, &liar);
            }
        });
        let by_stream = resolver.clone();
        thread::spawn(move || {
            for mut stream in streams.incoming().flatten() {
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_ok() {
                    let mut query = vec![0; u16::from_be_bytes(length).into()];
                    stream.read_exact(&mut query).unwrap();
                    let answer = by_stream.answer_stream(&query);
                    let _ = stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes());
                    let _ = stream.write_all(&answer);
                }
            }
        });
        resolver
    }

    pub fn say(&self, name: &str, say: Say) {
        self.0.lock().unwrap().says.insert(name.to_owned(), say);
    }

    /// How often a name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.0.lock().unwrap().asked.get(name).copied().unwrap_or(0)
    }

    /// The names that were asked for.
    pub fn all_asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.keys().cloned().collect()
    }

    fn find(&self, query: &[u8]) -> Option<(String, Say)> {
        let name = Packet::parse(query).ok()?.questions.first()?.qname.to_string();
        let mut state = self.0.lock().unwrap();
        *state.asked.entry(name.clone()).or_default() += 1;
        let say = state.says.get(&name).cloned().unwrap_or(Say::Addresses(Vec::new(), 60));
        Some((name, say))
    }

    fn answer_datagram(&self, query: &[u8], peer: SocketAddr, socket: &UdpSocket, liar: &UdpSocket) {
        let Some((name, say)) = self.find(query) else { return };
        let reply = match say {
            Say::Nothing => return,
            Say::Addresses(addresses, ttl) => build(query, &name, &addresses, ttl),
            Say::Alias(alias, address) => aliased(query, &name, alias, address),
            Say::Failure => failed(query),
            Say::ByStream(_) => truncated(query),
            Say::AfterLies(address) => {
                let lie = build(query, &name, &[[93, 184, 216, 66]], 60);
                let mut other_id = lie.clone();
                other_id[0] ^= 0xff;
                let _ = socket.send_to(&other_id, peer);
                let mut other_question = lie.clone();
                other_question[13] ^= 1;
                let _ = socket.send_to(&other_question, peer);
                let _ = liar.send_to(&lie, peer);
                let _ = socket.send_to(b"no answer at all", peer);
                build(query, &name, &[address], 60)
            }
        };
        let _ = socket.send_to(&reply, peer);
    }

    fn answer_stream(&self, query: &[u8]) -> Vec<u8> {
        match self.find(query) {
            Some((name, Say::ByStream(address))) => build(query, &name, &[address], 60),
            _ => failed(query),
        }
    }
}

fn reply(query: &[u8]) -> Packet<'_> {
    let mut reply = Packet::parse(query).unwrap().into_reply();
    reply.set_flags(PacketFlag::RESPONSE);
    reply
}

fn record<'a>(name: &'a str, address: [u8; 4], ttl: u32) -> ResourceRecord<'a> {
    let rdata = RData::A(A { address: u32::from_be_bytes(address) });
    ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, ttl, rdata)
}

fn build(query: &[u8], name: &str, addresses: &[[u8; 4]], ttl: u32) -> Vec<u8> {
    let mut reply = reply(query);
    if addresses.is_empty() {
        *reply.rcode_mut() = RCODE::NameError;
    }
    reply.answers = addresses.iter().map(|address| record(name, *address, ttl)).collect();
    reply.build_bytes_vec().unwrap()
}

fn aliased(query: &[u8], name: &str, alias: &str, address: [u8; 4]) -> Vec<u8> {
    let mut reply = reply(query);
    let rdata = RData::CNAME(CNAME(Name::new_unchecked(alias)));
    reply.answers =
        vec![ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, rdata), record(alias, address, 60)];
    reply.build_bytes_vec().unwrap()
}

fn failed(query: &[u8]) -> Vec<u8> {
    let mut reply = reply(query);
    *reply.rcode_mut() = RCODE::ServerFailure;
    reply.build_bytes_vec().unwrap()
}

fn truncated(query: &[u8]) -> Vec<u8> {
    let mut reply = reply(query);
    reply.set_flags(PacketFlag::TRUNCATION);
    reply.build_bytes_vec().unwrap()
}
