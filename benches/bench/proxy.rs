//! An engine's socket with events that do not arrive: what a daemon has only its full pass against.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
};

/// Serves `at` with what `engine` answers, until the process ends. Streams of events open, and stay
/// silent.
pub fn serve_without_events(engine: &Path, at: &Path) -> std::io::Result<()> {
    let listener = UnixListener::bind(at)?;
    let engine = engine.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let engine = engine.clone();
            thread::spawn(move || pass(client, &engine));
        }
    });
    Ok(())
}

fn pass(mut client: UnixStream, engine: &Path) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut engine = UnixStream::connect(engine)?;
    let length = client.read(&mut buffer)?;
    let first = buffer.get(..length).unwrap_or_default();
    engine.write_all(first)?;
    if String::from_utf8_lossy(first).lines().next().is_some_and(|line| line.contains("/events?")) {
        return silent(client, engine);
    }
    let (mut to_engine, mut from_client) = (engine.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ended = std::io::copy(&mut from_client, &mut to_engine);
        to_engine.shutdown(Shutdown::Write)
    });
    std::io::copy(&mut engine, &mut client)?;
    client.shutdown(Shutdown::Both)
}

/// Passes the head of the answer on and nothing after it.
fn silent(mut client: UnixStream, mut engine: UnixStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && engine.read(&mut byte)? > 0 {
        head.extend(byte);
    }
    client.write_all(&head)?;
    // Returns when the client goes.
    client.read(&mut byte).map(drop)
}
