//! What is reached: a server that sends as many bytes as it is asked for, and a name server.

use std::{fs::File, net::Ipv4Addr, path::Path, thread};

use anyhow::anyhow;
use nix::sched::{CloneFlags, setns};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

/// The server's port.
pub const PORT: u16 = 443;

/// The name server's address.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);

/// What is written at once.
static BLOCK: [u8; 256 << 10] = [b'x'; 256 << 10];

/// The first byte of a greeting of TLS, which is read and thrown away.
const HANDSHAKE: u8 = 0x16;

/// Begins both, on threads of their own.
pub fn start(address: Ipv4Addr) -> anyhow::Result<()> {
    let listener = in_world(move || std::net::TcpListener::bind((address, PORT)))?;
    let names = in_world(|| std::net::UdpSocket::bind((RESOLVER, 53)))?;
    for socket in [listener.set_nonblocking(true), names.set_nonblocking(true)] {
        socket?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::spawn(answer_names(UdpSocket::from_std(names)?, address));
            serve_all(listener, serve).await
        })
    });
    Ok(())
}

/// Serves each connection on a task of its own, for ever.
pub async fn serve_all<F>(listener: std::net::TcpListener, serve: impl Fn(TcpStream) -> F) -> std::io::Result<()>
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::from_std(listener)?;
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    }
}

/// Makes a socket of the world.
pub fn in_world<T: Send + 'static>(bind: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> anyhow::Result<T> {
    in_namespace("world", bind)
}

/// Makes a socket in a network namespace.
pub fn in_namespace<T: Send + 'static>(
    name: &str,
    bind: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let namespace = File::open(Path::new("/run/netns").join(name))?;
    let bound = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        anyhow::Ok(bind()?)
    });
    bound.join().map_err(|_| anyhow!("the thread in the namespace has ended"))?
}

/// Each eight bytes ask for so many.
async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0; 1];
    if stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE {
        let mut head = [0; 5];
        stream.read_exact(&mut head).await?;
        let mut rest = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        stream.read_exact(&mut rest).await?;
    }
    loop {
        let mut left = stream.read_u64().await?;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK.len());
            stream.write_all(&BLOCK[..length]).await?;
            left -= length as u64;
        }
    }
}

/// Every name leads to the server, for an hour.
async fn answer_names(socket: UdpSocket, address: Ipv4Addr) -> std::io::Result<()> {
    let mut query = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut query).await?;
        // The question ends with a label of no length, its kind and its class.
        let name = query.get(12..length).and_then(|rest| rest.iter().position(|byte| *byte == 0));
        let Some(end) = name.map(|name| 12 + name + 5).filter(|end| *end <= length) else { continue };
        let is_address = query[end - 4..end - 2] == [0, 1];
        let mut reply = query[..2].to_vec();
        reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
        reply.extend(&query[12..end]);
        if is_address {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4]);
            reply.extend(address.octets());
        }
        socket.send_to(&reply, from).await?;
    }
}
