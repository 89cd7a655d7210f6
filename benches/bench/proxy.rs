//! An engine's socket with events that do not arrive: what a daemon has only its full pass against.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
};

/// What is answered to a request for events, which then never come.
const SILENCE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Serves `at` with what `engine` answers to all other requests, until the process ends.
pub fn serve_without_events(engine: &Path, at: &Path) -> std::io::Result<()> {
    let listener = UnixListener::bind(at)?;
    let engine = engine.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(engine) = UnixStream::connect(&engine) else { continue };
            let (Ok(to_client), Ok(from_engine)) = (client.try_clone(), engine.try_clone()) else { continue };
            thread::spawn(move || requests(client, engine));
            thread::spawn(move || answers(from_engine, to_client));
        }
    });
    Ok(())
}

fn requests(mut client: UnixStream, mut engine: UnixStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = client.read(&mut buffer)?;
        let request = buffer.get(..length).unwrap_or_default();
        let is_events = || String::from_utf8_lossy(request).lines().next().is_some_and(|l| l.contains("/events?"));
        if request.is_empty() {
            return engine.shutdown(Shutdown::Both);
        } else if is_events() {
            client.write_all(SILENCE)?;
        } else {
            engine.write_all(request)?;
        }
    }
}

fn answers(mut engine: UnixStream, mut client: UnixStream) -> std::io::Result<()> {
    std::io::copy(&mut engine, &mut client)?;
    client.shutdown(Shutdown::Both)
}
