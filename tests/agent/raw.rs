//! Sockets that the standard library lacks: echoes, forged addresses, ARP.

use std::ffi::c_int;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use super::net::bytes_of;
use super::{invalid, say, system};

/// The last failed call's error, where a call failed.
pub fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The kernel's form of an IPv4 address and a port.
pub fn socket_address(address: Ipv4Addr, port: u16) -> [u8; 16] {
    let mut form = [0; 16];
    form[..2].copy_from_slice(&2_u16.to_ne_bytes());
    form[2..4].copy_from_slice(&port.to_be_bytes());
    form[4..8].copy_from_slice(&address.octets());
    form
}

/// Makes a socket, or says why not.
pub fn raw_socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<c_int> {
    // SAFETY: the call takes no memory.
    let socket = unsafe { system::socket(domain, kind, protocol) };
    if socket < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

pub fn send_to(socket: c_int, bytes: &[u8], address: &[u8]) -> io::Result<usize> {
    // SAFETY: both slices outlive the call, which reads no further than their lengths.
    checked(unsafe {
        system::sendto(socket, bytes.as_ptr().cast(), bytes.len(), 0, address.as_ptr().cast(), address.len() as u32)
    })
}

pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Asks for an echo with the kind of socket that needs no privilege.
pub fn ping(address: &str, limit: u64) -> io::Result<()> {
    const MSG_DONTWAIT: c_int = 0x40;
    let address: Ipv4Addr = address.parse().map_err(invalid)?;
    let socket = raw_socket(2, 2, 1)?;
    let mut echo = [8, 0, 0, 0, 0, 1, 0, 1, b'o', b'u', b't', b'?'];
    let sum = checksum(&echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    send_to(socket, &echo, &socket_address(address, 0))?;
    let end = Instant::now() + Duration::from_millis(limit);
    let mut buffer = [0_u8; 256];
    loop {
        // SAFETY: the kernel writes no further than the buffer's length.
        let read = checked(unsafe { system::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), MSG_DONTWAIT) });
        match read {
            Ok(_) => return say("answered"),
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(io::Error::new(ErrorKind::TimedOut, "timed out"));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends a UDP packet with a source that is not ours.
pub fn spoof(source: &str, address: &str, hex: &str) -> io::Result<()> {
    let source: Ipv4Addr = source.parse().map_err(invalid)?;
    let SocketAddr::V4(to) = address.parse().map_err(invalid)? else { return Err(invalid(())) };
    let bytes = bytes_of(hex)?;
    let length = u16::try_from(28 + bytes.len()).map_err(invalid)?;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.octets());
    packet.extend(to.ip().octets());
    packet.extend(53_001_u16.to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend((length - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(&bytes);
    let socket = raw_socket(2, 3, 255)?;
    send_to(socket, &packet, &socket_address(*to.ip(), 0))?;
    say("sent")
}

/// Tells everybody on the network that an address is at our interface, by request and by answer.
pub fn claim(address: &str) -> io::Result<()> {
    const ETH_P_ARP: u16 = 0x0806;
    let address: Ipv4Addr = address.parse().map_err(invalid)?;
    let text = |name: &str| fs::read_to_string(format!("/sys/class/net/eth0/{name}"));
    let own = bytes_of(&text("address")?.trim().replace(':', ""))?;
    let index: u32 = text("ifindex")?.trim().parse().map_err(invalid)?;
    let socket = raw_socket(17, 3, c_int::from(ETH_P_ARP.to_be()))?;
    let mut to = [0_u8; 20];
    to[..2].copy_from_slice(&17_u16.to_ne_bytes());
    to[2..4].copy_from_slice(&ETH_P_ARP.to_be_bytes());
    to[4..8].copy_from_slice(&index.to_ne_bytes());
    to[11] = 6;
    to[12..18].fill(0xff);
    for kind in [1, 2] {
        let mut frame = vec![0xff; 6];
        frame.extend(&own);
        frame.extend(ETH_P_ARP.to_be_bytes());
        frame.extend([0, 1, 8, 0, 6, 4, 0, kind]);
        frame.extend(&own);
        frame.extend(address.octets());
        frame.extend([0xff; 6]);
        frame.extend(address.octets());
        send_to(socket, &frame, &to)?;
    }
    say("claimed")
}
