//! The name server inside, by UDP and TCP.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};

use nix::{
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
        sockopt::Ipv4PacketInfo,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpStream, UdpSocket},
    time::{sleep, timeout},
};

use super::{shared::Shared, tenants::Caller};
use crate::{
    client::Client,
    policy::{Refusal, Rule},
    protocols::dns::{self, MAX_QUESTION},
};

/// How many questions a tenant may ask for each name that it may look up: programs ask for several
/// kinds of address, and again with each search domain.
const QUESTIONS_PER_LOOKUP: u32 = 8;

/// How many questions one TCP connection may ask.
const MAX_PER_STREAM: usize = 64;

/// How long is waited after the kernel refused to give a packet.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers datagrams until the end of the process.
pub(crate) async fn serve_datagrams(gateway: Arc<Shared>, socket: UdpSocket) {
    let mut buffer = vec![0; MAX_QUESTION + 1];
    loop {
        match socket.async_io(Interest::READABLE, || receive(&socket, &mut buffer)).await {
            Ok((length, Some((local, peer)))) if length <= MAX_QUESTION => {
                let packet = buffer.get(..length).unwrap_or_default();
                let answer = match gateway.tenants.find(local, *peer.ip()) {
                    None => continue,
                    Some(Caller::Tenant(client)) => answer(&gateway, &client, local, packet),
                    Some(Caller::Foreign(client)) => {
                        let destination = format!("a look-up from {}", peer.ip());
                        refuse(&gateway, &client, destination, Rule::ForeignAddress, packet)
                    }
                };
                if let Some(answer) = answer {
                    // A tenant that does not take its answers asks again.
                    let _ = socket.try_io(Interest::WRITABLE, || reply(&socket, &answer, local, peer));
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot receive questions");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Has the kernel say which address each datagram came to.
pub(crate) fn report_destination(socket: &std::net::UdpSocket) -> io::Result<()> {
    Ok(setsockopt(socket, Ipv4PacketInfo, &true)?)
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Option<(Ipv4Addr, SocketAddrV4)>)> {
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let mut pieces = [IoSliceMut::new(buffer)];
    let received = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut pieces, Some(&mut control), MsgFlags::empty())?;
    let local = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())),
        _ => None,
    });
    let peer = received.address.map(|address| SocketAddrV4::new(address.ip(), address.port()));
    Ok((received.bytes, local.zip(peer)))
}

fn reply(socket: &UdpSocket, answer: &[u8], local: Ipv4Addr, peer: SocketAddrV4) -> io::Result<()> {
    let source = libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) };
    let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: libc::in_addr { s_addr: 0 } };
    let control = [ControlMessage::Ipv4PacketInfo(&info)];
    let pieces = [IoSlice::new(answer)];
    sendmsg(socket.as_raw_fd(), &pieces, &control, MsgFlags::empty(), Some(&SockaddrIn::from(peer)))?;
    Ok(())
}

/// Answers what comes over a connection.
pub(crate) async fn serve_stream(gateway: &Shared, client: &Client, mut stream: TcpStream, local: Ipv4Addr) {
    let request_timeout = gateway.settings().limits.handshake_timeout.get();
    for _ in 0..MAX_PER_STREAM {
        let exchange = async {
            let length = usize::from(stream.read_u16().await?);
            if length > MAX_QUESTION {
                return Ok(false);
            }
            let mut packet = vec![0; length];
            stream.read_exact(&mut packet).await?;
            let Some(answer) = answer(gateway, client, local, &packet) else { return Ok(false) };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat()).await?;
            io::Result::Ok(true)
        };
        if !matches!(timeout(request_timeout, exchange).await, Ok(Ok(true))) {
            return;
        }
    }
}

/// How many questions of one network are answered, and how many refused, at once.
fn limit(gateway: &Shared) -> u32 {
    gateway.settings().limits.lookups.saturating_mul(QUESTIONS_PER_LOOKUP)
}

/// Refuses a question, whoever on a tenant's network asks it. Who floods gets an answer that says so as often as it would be answered; the
/// rest costs nobody anything.
fn refuse(gateway: &Shared, client: &Client, destination: String, rule: Rule, packet: &[u8]) -> Option<Vec<u8>> {
    if !client.account.load.too_many.try_take(limit(gateway)) {
        client.account.load.dropped.inc();
        return None;
    }
    gateway.refusals.note(&Refusal { tenant: client.name().clone(), destination, rule });
    dns::refuse(packet)
}

/// Answers a question, or refuses it where there are too many. `None` where it gets no answer.
fn answer(gateway: &Shared, client: &Client, local: Ipv4Addr, packet: &[u8]) -> Option<Vec<u8>> {
    gateway.counters.questions.inc();
    let refusal = |rule, name: &str| Refusal { tenant: client.name().clone(), destination: name.to_owned(), rule };
    if !client.account.load.questions.try_take(limit(gateway)) {
        return refuse(gateway, client, "a look-up".to_owned(), Rule::OverLimit, packet);
    }
    let in_force = client.now();
    let answer = dns::answer(packet, &in_force.policy, local, |rule, name| refusal(rule, name).to_string())?;
    if let Some((rule, name)) = answer.refused {
        gateway.refusals.note(&refusal(rule, &name));
    }
    Some(answer.bytes)
}
