//! Names inside: those that are listed lead to the gateway, and there are no others.
//!
//! Nothing is asked of anybody: a question of a tenant ends here, whatever it holds.

use std::net::Ipv4Addr;

use simple_dns::{OPCODE, Packet, PacketFlag};

use crate::{
    model::{EgressPolicy, egress::GATEWAY_NAME},
    policy::{Rule, authority::Host, decide::is_listed},
};

/// The longest question that is read, in bytes: a name of 255 with everything around it, and options.
pub const MAX_QUESTION: usize = 1232;

/// How long an answer may be remembered, in seconds: a change of the policy should show soon.
const TTL: u32 = 5;

const HEADER: usize = 12;
const A: u16 = 1;
const ANY: u16 = 255;
const OPT: u16 = 41;
const INTERNET: u16 = 1;
const FORMAT_ERROR: u16 = 1;
const NO_SUCH_NAME: u16 = 3;
const NOT_IMPLEMENTED: u16 = 4;
const REFUSED: u16 = 5;
/// Extended errors: RFC 8914.
const EXTENDED_ERROR: u16 = 15;
const BLOCKED: u16 = 15;

/// An answer, and why it is a refusal, if it is.
#[derive(Debug)]
pub struct Answer {
    /// The packet.
    pub bytes: Vec<u8>,
    /// The rule that says no, and the name as it was asked for.
    pub refused: Option<(Rule, String)>,
}

/// A question as far as it was understood.
struct Asked<'a> {
    id: u16,
    recursion: bool,
    /// The question as it came, to be sent back.
    section: &'a [u8],
    name: String,
    kind: u16,
    class: u16,
    options: bool,
}

/// Answers a tenant's packet. `None` where it is none that deserves an answer.
///
/// `explain` makes the text that goes with a refusal.
pub fn answer(
    packet: &[u8],
    policy: &EgressPolicy,
    gateway: Ipv4Addr,
    explain: impl FnOnce(Rule, &str) -> String,
) -> Option<Answer> {
    let parsed = match Packet::parse(packet) {
        Ok(parsed) if parsed.has_flags(PacketFlag::RESPONSE) => return None,
        Ok(parsed) => parsed,
        Err(_) => return broken(packet),
    };
    if parsed.opcode() != OPCODE::StandardQuery {
        return Some(plain(packet, NOT_IMPLEMENTED));
    }
    let Some(asked) = read(packet, &parsed) else { return Some(plain(packet, FORMAT_ERROR)) };
    if asked.class != INTERNET {
        return Some(Answer { bytes: asked.reply(REFUSED, None, None), refused: None });
    }
    let rule = match Host::parse(&asked.name) {
        Ok(host) if is_gateway(&host) || is_listed(policy, &host) => None,
        Ok(_) => Some(Rule::NotListed),
        Err(rule) => Some(rule),
    };
    let Some(rule) = rule else {
        let address = matches!(asked.kind, A | ANY).then_some(gateway);
        return Some(Answer { bytes: asked.reply(0, address, None), refused: None });
    };
    let name = crate::policy::authority::shown(asked.name.as_bytes());
    let text = explain(rule, &name);
    Some(Answer { bytes: asked.reply(NO_SUCH_NAME, None, Some(&text)), refused: Some((rule, name)) })
}

/// Refuses a packet unread. `None` where it is none that deserves an answer.
pub fn refuse(packet: &[u8]) -> Option<Vec<u8>> {
    broken(packet).map(|_| plain(packet, REFUSED).bytes)
}

/// Whether a name is the gateway's own, or that of a route.
pub fn is_gateway(host: &Host) -> bool {
    let name = host.name().unwrap_or_default();
    name == GATEWAY_NAME || name.strip_suffix(GATEWAY_NAME).is_some_and(|front| front.ends_with('.'))
}

fn read<'a>(packet: &'a [u8], parsed: &Packet<'_>) -> Option<Asked<'a>> {
    let [_] = parsed.questions.as_slice() else { return None };
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // A name in a question has nothing before it to point to.
        let label = packet.get(at..at + length).filter(|_| length < 64)?;
        // A dot within a label would make another name of it.
        let is_plain = !label.contains(&b'.');
        labels.push(if is_plain { String::from_utf8_lossy(label).into_owned() } else { "\u{fffd}".to_owned() });
        at += length;
    }
    let number = |at: usize| packet.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
    Some(Asked {
        id: parsed.id(),
        recursion: parsed.has_flags(PacketFlag::RECURSION_DESIRED),
        section: packet.get(HEADER..at + 4)?,
        name: labels.join("."),
        kind: number(at)?,
        class: number(at + 2)?,
        options: parsed.opt().is_some(),
    })
}

impl Asked<'_> {
    fn reply(&self, code: u16, address: Option<Ipv4Addr>, blocked: Option<&str>) -> Vec<u8> {
        // A response, authoritative, recursion available; and desired where that was said.
        let flags = 0x8480 | if self.recursion { 0x0100 } else { 0 } | code;
        let counts = [1, u16::from(address.is_some()), 0, u16::from(self.options)];
        let mut bytes: Vec<u8> = [self.id, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect();
        bytes.extend_from_slice(self.section);
        if let Some(address) = address {
            // The name of the question, by its place.
            bytes.extend([0xc0, 12]);
            bytes.extend([A, INTERNET].into_iter().flat_map(u16::to_be_bytes));
            bytes.extend(TTL.to_be_bytes());
            bytes.extend([0, 4]);
            bytes.extend(address.octets());
        }
        if self.options {
            bytes.extend(options(blocked));
        }
        bytes
    }
}

/// The record with options, and in it an extended error.
fn options(blocked: Option<&str>) -> Vec<u8> {
    let mut data = Vec::new();
    if let Some(text) = blocked {
        let text = text.as_bytes().get(..text.len().min(400)).unwrap_or_default();
        let length = u16::try_from(text.len() + 2).unwrap_or_default();
        data.extend([EXTENDED_ERROR, length, BLOCKED].into_iter().flat_map(u16::to_be_bytes));
        data.extend_from_slice(text);
    }
    let size = u16::try_from(MAX_QUESTION).unwrap_or(u16::MAX);
    let mut record = vec![0];
    record.extend([OPT, size, 0, 0].into_iter().flat_map(u16::to_be_bytes));
    record.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
    record.extend(data);
    record
}

/// An answer without a question, for what cannot be read as one.
fn plain(packet: &[u8], code: u16) -> Answer {
    let id = packet.get(..2).unwrap_or(&[0, 0]);
    let mut bytes = id.to_vec();
    bytes.extend((0x8400 | code).to_be_bytes());
    bytes.extend([0; 8]);
    Answer { bytes, refused: None }
}

fn broken(packet: &[u8]) -> Option<Answer> {
    // A response is never answered, nor is what has no header.
    let is_query = packet.len() >= HEADER && packet.get(2).is_some_and(|flags| flags & 0x80 == 0);
    is_query.then(|| plain(packet, FORMAT_ERROR))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::{CLASS, Name, QCLASS, QTYPE, Question, RCODE, TYPE, rdata::RData};

    use super::*;
    use crate::model::egress::{Budget, POLICY_VERSION};

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

    fn policy() -> EgressPolicy {
        EgressPolicy {
            v: POLICY_VERSION,
            tenant: "acme".parse().unwrap(),
            subnet: "10.77.0.0/28".parse().unwrap(),
            address: Some([10, 77, 0, 2].into()),
            allow: ["api.example.com:443", "*.stripe.com:443"].map(|entry| entry.parse().unwrap()).into(),
            routes: Vec::new(),
            budget: Budget::default(),
        }
    }

    fn query(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(77);
        let name = Name::new_unchecked(name).into_owned();
        packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
        packet.build_bytes_vec().unwrap()
    }

    fn ask(packet: &[u8]) -> Option<Answer> {
        answer(packet, &policy(), GATEWAY, |rule, name| format!("{name} {rule}"))
    }

    #[test]
    fn listed_names_lead_to_the_gateway_and_others_do_not_exist() {
        for (name, kind, code, addresses) in [
            ("api.example.com", TYPE::A, RCODE::NoError, 1),
            ("API.Example.com", TYPE::A, RCODE::NoError, 1),
            ("a.b.stripe.com", TYPE::A, RCODE::NoError, 1),
            ("gateway.internal", TYPE::A, RCODE::NoError, 1),
            ("ghl.gateway.internal", TYPE::A, RCODE::NoError, 1),
            ("api.example.com", TYPE::AAAA, RCODE::NoError, 0),
            ("api.example.com", TYPE::TXT, RCODE::NoError, 0),
            ("stripe.com", TYPE::A, RCODE::NameError, 0),
            ("secret-data.evil.example", TYPE::A, RCODE::NameError, 0),
            ("secret-data.evil.example", TYPE::TXT, RCODE::NameError, 0),
            ("evilgateway.internal", TYPE::A, RCODE::NameError, 0),
        ] {
            let bytes = ask(&query(name, kind)).unwrap().bytes;
            let reply = Packet::parse(&bytes).unwrap();
            assert_eq!((reply.rcode(), reply.answers.len(), reply.id()), (code, addresses, 77), "{name} {kind:?}");
            for record in &reply.answers {
                assert!(record.name.to_string().eq_ignore_ascii_case(name) && record.ttl <= 5);
                assert!(matches!(&record.rdata, RData::A(a) if Ipv4Addr::from(a.address) == GATEWAY));
            }
        }
    }

    #[test]
    fn a_refusal_says_why_where_that_can_be_read() {
        let mut packet = query("evil.example", TYPE::A);
        let count = packet.get_mut(11).unwrap();
        *count = 1;
        packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let Answer { bytes, refused } = ask(&packet).unwrap();
        assert_eq!(refused, Some((Rule::NotListed, "evil.example".to_owned())));
        assert!(Packet::parse(&bytes).unwrap().opt().is_some());
        assert!(String::from_utf8_lossy(&bytes).contains("evil.example not-listed"));
    }

    #[test]
    fn what_is_no_question_gets_no_answer_or_an_error() {
        let mut response = query("api.example.com", TYPE::A);
        response[2] |= 0x80;
        assert!(ask(&response).is_none());
        assert!(ask(b"").is_none() && ask(&[0; 11]).is_none());
        let mut two = query("api.example.com", TYPE::A);
        two[5] = 2;
        let code = |bytes: &[u8]| ask(bytes).map(|answer| answer.bytes[3] & 15);
        assert_eq!(code(&two), Some(1));
        let mut update = query("api.example.com", TYPE::A);
        update[2] |= 5 << 3;
        assert_eq!(code(&update), Some(4));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = ask(&bytes);
        }
    }
}
