//! What is behind the proxies: a server that answers with two bytes, or with as many as anybody takes.

use std::{net::Ipv4Addr, thread};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::egress::upstream::{in_namespace, serve_all};

/// Its port.
pub const PORT: u16 = 8080;

/// The path of the answer that has no end within a run.
pub const ENDLESS: &str = "/endless";

/// What is written at once.
static BLOCK: [u8; 256 << 10] = [b'x'; 256 << 10];

const SHORT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// Begins it, on threads of its own.
pub fn start() -> anyhow::Result<()> {
    let listener = in_namespace("app", || std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    thread::spawn(move || runtime.block_on(serve_all(listener, serve)));
    Ok(())
}

/// Answers one request without a body after another.
async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(4 << 10);
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        if !head.starts_with(format!("GET {ENDLESS} ").as_bytes()) {
            stream.write_all(SHORT).await?;
            continue;
        }
        let length = 1_u64 << 40;
        let endless = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(endless.as_bytes()).await?;
        let mut left = length;
        while left > 0 {
            stream.write_all(&BLOCK).await?;
            left -= BLOCK.len() as u64;
        }
    }
}
