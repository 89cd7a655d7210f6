//! Answers of resolvers, read as far as needed. Pure.
//!
//! What is no answer to the very question is none; addresses are those of the name that was asked for, through the
//! aliases of the answer itself.

use std::{io, net::Ipv4Addr, time::Duration};

use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, rdata::RData};

/// How many addresses of a name are used, and how many aliases are followed.
const MAX_ADDRESSES: usize = 16;
const MAX_ALIASES: usize = 8;

/// How long an answer is remembered, whatever it says.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);
/// How long it is remembered that there is none.
const SHORTEST_NONE: Duration = Duration::from_secs(5);
const LONGEST_NONE: Duration = Duration::from_secs(30);

/// The packet that asks for the IPv4 addresses of a name.
///
/// # Errors
/// It is no name.
pub fn question(id: u16, name: &str) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(io::Error::other)?;
    packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(io::Error::other)
}

/// What a packet is to who asked.
#[derive(Debug, PartialEq)]
pub enum Read {
    /// It is no answer to this question.
    Other,
    /// There is more of it by TCP.
    Truncated,
    /// The server could not say.
    Failed,
    /// The addresses, perhaps none, and for how long that holds.
    Answer(Vec<Ipv4Addr>, Duration),
}

/// Reads a packet that came after the question for `name` with this id.
pub fn read_answer(bytes: &[u8], id: u16, name: &str) -> Read {
    let Ok(packet) = Packet::parse(bytes) else { return Read::Other };
    let is_asked = |question: &Question<'_>| {
        is_name(&question.qname, name)
            && question.qtype == QTYPE::TYPE(TYPE::A)
            && question.qclass == QCLASS::CLASS(CLASS::IN)
    };
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return Read::Other;
    }
    if !matches!(packet.questions.as_slice(), [question] if is_asked(question)) {
        return Read::Other;
    }
    if !addresses_are_whole(bytes, packet.answers.len()).unwrap_or(false) {
        return Read::Other;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Read::Truncated;
    }
    match packet.rcode() {
        RCODE::NoError => follow(&packet, name),
        RCODE::NameError => Read::Answer(Vec::new(), none_lasts(&packet)),
        _ => Read::Failed,
    }
}

/// Whether each address of so many answers has the four bytes of one: simple-dns takes the first four of any number,
/// and other readers none of them. `None` where the packet ends before.
fn addresses_are_whole(bytes: &[u8], answers: usize) -> Option<bool> {
    const HEADER: usize = 12;
    // A name, a type, a class.
    let mut at = after_name(bytes, HEADER)? + 4;
    for _ in 0..answers {
        at = after_name(bytes, at)?;
        let [kind @ .., _, _, _, _, _, _, high, low]: [u8; 10] = bytes.get(at..at + 10)?.try_into().ok()?;
        let length = u16::from_be_bytes([high, low]);
        if kind == u16::from(TYPE::A).to_be_bytes() && length != 4 {
            return Some(false);
        }
        at += 10 + usize::from(length);
    }
    Some(true)
}

/// Where what follows a name begins. A name ends with the root, or where it points back.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

/// Follows aliases within the answer to addresses.
fn follow(packet: &Packet<'_>, name: &str) -> Read {
    let mut current = name.to_owned();
    let mut lasts = LONGEST;
    for _ in 0..=MAX_ALIASES {
        let of_current = || packet.answers.iter().filter(|record| is_name(&record.name, &current));
        let addresses: Vec<(Ipv4Addr, u32)> = of_current()
            .filter_map(|record| match &record.rdata {
                RData::A(a) if record.class == CLASS::IN => Some((Ipv4Addr::from(a.address), record.ttl)),
                _ => None,
            })
            .take(MAX_ADDRESSES)
            .collect();
        if let Some(shortest) = addresses.iter().map(|(_, ttl)| *ttl).min() {
            let lasts = lasts.min(Duration::from_secs(shortest.into())).max(SHORTEST);
            return Read::Answer(addresses.into_iter().map(|(address, _)| address).collect(), lasts);
        }
        let alias = of_current().find_map(|record| match &record.rdata {
            RData::CNAME(alias) => Some((alias.0.to_string().to_ascii_lowercase(), record.ttl)),
            _ => None,
        });
        let Some((alias, ttl)) = alias else { break };
        lasts = lasts.min(Duration::from_secs(ttl.into()));
        current = alias;
    }
    Read::Answer(Vec::new(), none_lasts(packet))
}

/// For how long there is no address: RFC 2308, within bounds.
fn none_lasts(packet: &Packet<'_>) -> Duration {
    let said = packet.name_servers.iter().find_map(|record| match &record.rdata {
        RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
        _ => None,
    });
    said.map_or(SHORTEST_NONE, |seconds| Duration::from_secs(seconds.into()).clamp(SHORTEST_NONE, LONGEST_NONE))
}

fn is_name(found: &Name<'_>, name: &str) -> bool {
    found.to_string().eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use simple_dns::{
        ResourceRecord,
        rdata::{A, AAAA, CNAME},
    };

    use super::*;

    fn a(name: &'static str, address: [u8; 4], ttl: u32) -> ResourceRecord<'static> {
        let rdata = RData::A(A { address: u32::from_be_bytes(address) });
        ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, ttl, rdata)
    }

    fn alias(name: &'static str, to: &'static str, ttl: u32) -> ResourceRecord<'static> {
        let rdata = RData::CNAME(CNAME(Name::new_unchecked(to)));
        ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, ttl, rdata)
    }

    fn reply(id: u16, asked: &'static str, answers: Vec<ResourceRecord<'static>>) -> Packet<'static> {
        let mut packet = Packet::new_reply(id);
        let name = Name::new_unchecked(asked);
        packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
        packet.answers = answers;
        packet
    }

    fn read(packet: &Packet<'_>) -> Read {
        read_answer(&packet.build_bytes_vec().unwrap(), 7, "a.example")
    }

    #[test]
    fn addresses_are_those_of_the_name_that_was_asked_for() {
        let lasts = Duration::from_secs;
        let one = || vec![Ipv4Addr::new(1, 2, 3, 4)];
        let found = reply(7, "A.example", vec![a("a.EXAMPLE", [1, 2, 3, 4], 60)]);
        assert_eq!(read(&found), Read::Answer(one(), lasts(60)));
        let aliased = vec![alias("a.example", "b.example", 30), a("b.example", [1, 2, 3, 4], 0)];
        assert_eq!(read(&reply(7, "a.example", aliased)), Read::Answer(one(), SHORTEST));
        let elsewhere = vec![a("evil.example", [1, 2, 3, 4], 60)];
        assert_eq!(read(&reply(7, "a.example", elsewhere)), Read::Answer(vec![], SHORTEST_NONE));
        let circle = vec![alias("a.example", "b.example", 9), alias("b.example", "a.example", 9)];
        assert_eq!(read(&reply(7, "a.example", circle)), Read::Answer(vec![], SHORTEST_NONE));
        let aaaa = RData::AAAA(AAAA { address: Ipv6Addr::LOCALHOST.into() });
        let aaaa = ResourceRecord::new(Name::new_unchecked("a.example"), CLASS::IN, 60, aaaa);
        assert_eq!(read(&reply(7, "a.example", vec![aaaa])), Read::Answer(vec![], SHORTEST_NONE));
    }

    #[test]
    fn what_answers_another_question_is_no_answer() {
        assert_eq!(read(&reply(8, "a.example", vec![])), Read::Other);
        assert_eq!(read(&reply(7, "b.example", vec![])), Read::Other);
        let mut query = reply(7, "a.example", vec![]);
        query.remove_flags(PacketFlag::RESPONSE);
        assert_eq!(read(&query), Read::Other);
        let mut failed = reply(7, "a.example", vec![]);
        *failed.rcode_mut() = RCODE::ServerFailure;
        assert_eq!(read(&failed), Read::Failed);
        assert_eq!(read_answer(b"nonsense", 7, "a.example"), Read::Other);
        // An address of five bytes, behind one of four.
        let two = reply(7, "a.example", vec![a("b.example", [1, 2, 3, 4], 60), a("a.example", [1, 2, 3, 4], 60)]);
        let mut bytes = two.build_bytes_vec().unwrap();
        assert!(matches!(read_answer(&bytes, 7, "a.example"), Read::Answer(..)));
        let at = bytes.len() - 5;
        bytes[at] = 5;
        bytes.push(0);
        assert_eq!(read_answer(&bytes, 7, "a.example"), Read::Other);
    }
}
