//! Names to addresses: asked once, bounded in time and size, and remembered for each tenant by itself.
//!
//! A tenant's names have a memory of their own, so that nobody can drive out another's, and nobody can
//! tell from the time of an answer what another has asked for.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, rdata::RData};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::OnceCell,
    time::timeout,
};

use super::{Client, Rule};

/// How long one server may take, and all of them together.
const SERVER: Duration = Duration::from_secs(2);
const ALL: Duration = Duration::from_secs(5);

/// The largest answer: that of a UDP packet without fragments, as DNS Flag Day 2020 has it, and that of
/// a name with more addresses than are used.
const MAX_PACKET: usize = 1232;
const MAX_STREAM: usize = 16 << 10;

/// How many addresses of a name are used, and how many aliases are followed.
const MAX_ADDRESSES: usize = 16;
const MAX_ALIASES: usize = 8;

/// How long an answer is remembered, whatever it says.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);
/// How long it is remembered that there is none.
const SHORTEST_NONE: Duration = Duration::from_secs(5);
const LONGEST_NONE: Duration = Duration::from_secs(30);
/// How long it is remembered that nobody answered.
const NOBODY: Duration = Duration::from_secs(1);

/// How many names of one tenant are remembered.
const MAX_NAMES: usize = 256;

/// The most that is read of resolv.conf, in bytes, and how many of its servers are used.
const MAX_CONF: u64 = 64 << 10;
const MAX_SERVERS: usize = 3;

/// The names that were looked up for a tenant.
#[derive(Debug, Default)]
pub struct Names(Mutex<HashMap<String, Slot>>);

/// An answer that is there, or on its way for all who asked for it.
type Slot = Arc<OnceCell<Answer>>;

#[derive(Clone, Debug)]
struct Answer {
    addresses: Vec<Ipv4Addr>,
    until: Instant,
}

impl Names {
    fn slot(&self, name: &str) -> Slot {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_over = |slot: &Slot| slot.get().is_some_and(|answer| answer.until <= now);
        if let Some(slot) = names.get(name)
            && !is_over(slot)
        {
            return Arc::clone(slot);
        }
        if names.len() >= MAX_NAMES {
            names.retain(|_, slot| !is_over(slot));
        }
        if names.len() >= MAX_NAMES {
            let oldest = names.iter().min_by_key(|(_, slot)| slot.get().map(|answer| answer.until));
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                names.remove(&oldest);
            }
        }
        let slot = Slot::default();
        names.insert(name.to_owned(), Arc::clone(&slot));
        slot
    }
}

/// Asks the resolvers of the host's settings.
#[derive(Debug, Default)]
pub struct Resolver {
    servers: RwLock<Arc<[SocketAddr]>>,
}

impl Resolver {
    /// Asks these servers from now on; none for those of /etc/resolv.conf as it is now.
    pub fn set_servers(&self, servers: &[SocketAddr]) {
        let servers = if servers.is_empty() { read_servers(Path::new("/etc/resolv.conf")) } else { servers.to_vec() };
        *self.servers.write().unwrap_or_else(PoisonError::into_inner) = servers.into();
    }

    /// The IPv4 addresses of a name, as `client`'s memory or a resolver has them.
    ///
    /// # Errors
    /// There are none, nobody answers in time, or the tenant has looked up too much.
    pub async fn lookup(&self, client: &Client, name: &str, per_second: u32) -> Result<Vec<Ipv4Addr>, Rule> {
        let slot = client.names.slot(name);
        let ask = async || {
            if !client.load.lookups.try_take(per_second) {
                return Err(Rule::OverLimit);
            }
            Ok(self.ask(name).await)
        };
        let answer = slot.get_or_try_init(ask).await?;
        if answer.addresses.is_empty() { Err(Rule::Unresolved) } else { Ok(answer.addresses.clone()) }
    }

    async fn ask(&self, name: &str) -> Answer {
        let servers = Arc::clone(&self.servers.read().unwrap_or_else(PoisonError::into_inner));
        let ask_all = async {
            for server in servers.iter() {
                match timeout(SERVER, ask_one(*server, name)).await {
                    Ok(Ok(answer)) => return Some(answer),
                    Ok(Err(error)) => tracing::debug!(%server, %error, "a resolver did not answer as it should"),
                    Err(_) => tracing::debug!(%server, "a resolver did not answer in time"),
                }
            }
            None
        };
        let (addresses, lasts) = timeout(ALL, ask_all).await.ok().flatten().unwrap_or((Vec::new(), NOBODY));
        Answer { addresses, until: Instant::now() + lasts }
    }
}

/// Asks one server, by UDP from a fresh port, and by TCP where the answer does not fit.
async fn ask_one(server: SocketAddr, name: &str) -> io::Result<(Vec<Ipv4Addr>, Duration)> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let id = u16::from_be_bytes(id);
    let question = question(id, name)?;
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From now on the kernel passes on nothing that comes from elsewhere.
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match read_answer(buffer.get(..length).unwrap_or_default(), id, name) {
            Read::Other => {}
            Read::Truncated => break,
            Read::Failed => return Err(io::Error::other("the server failed")),
            Read::Answer(addresses, lasts) => return Ok((addresses, lasts)),
        }
    }
    match read_answer(&ask_by_stream(server, &question).await?, id, name) {
        Read::Answer(addresses, lasts) => Ok((addresses, lasts)),
        _ => Err(io::Error::other("the answer by TCP is none")),
    }
}

async fn ask_by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_STREAM {
        return Err(io::Error::other("the answer is too long"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn question(id: u16, name: &str) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(io::Error::other)?;
    packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(io::Error::other)
}

#[derive(Debug, PartialEq)]
enum Read {
    /// It is no answer to this question.
    Other,
    /// There is more of it by TCP.
    Truncated,
    /// The server could not say.
    Failed,
    /// The addresses, perhaps none, and for how long that holds.
    Answer(Vec<Ipv4Addr>, Duration),
}

fn read_answer(bytes: &[u8], id: u16, name: &str) -> Read {
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
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Read::Truncated;
    }
    match packet.rcode() {
        RCODE::NoError => follow(&packet, name),
        RCODE::NameError => Read::Answer(Vec::new(), none_lasts(&packet)),
        _ => Read::Failed,
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

/// The servers of resolv.conf; those whose address is not understood are left out.
fn read_servers(path: &Path) -> Vec<SocketAddr> {
    let text = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, MAX_CONF), &mut text)?;
        Ok(text)
    });
    let text = text.unwrap_or_default();
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| *word == "nameserver")?;
        words.next()?.parse::<IpAddr>().ok()
    });
    addresses.take(MAX_SERVERS).map(|address| SocketAddr::new(address, 53)).collect()
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
    }

    #[test]
    fn a_tenants_memory_is_bounded_and_forgets_what_is_over() {
        let names = Names::default();
        for number in 0..2 * MAX_NAMES {
            let until = Instant::now() + Duration::from_secs(60);
            names.slot(&number.to_string()).set(Answer { addresses: Vec::new(), until }).unwrap();
        }
        assert_eq!(names.0.lock().unwrap().len(), MAX_NAMES);
        names.slot("over").set(Answer { addresses: Vec::new(), until: Instant::now() }).unwrap();
        assert!(names.slot("over").get().is_none());
    }

    #[test]
    fn servers_are_read_as_a_resolver_reads_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# x\nnameserver 10.0.0.2\nsearch a\nnameserver fe80::1%eth0\nnameserver ::1\n")
            .unwrap();
        let read: Vec<String> = read_servers(file.path()).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["10.0.0.2:53", "[::1]:53"]);
    }
}
