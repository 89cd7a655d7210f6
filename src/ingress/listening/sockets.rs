//! The sockets that clients come to. Where systemd holds them, whoever connects while one ingress ends and the next begins waits
//! and is served.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use rustix::net::{
    SocketType,
    sockopt::{socket_acceptconn, socket_type},
};

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The kernel refuses.
    #[error("cannot listen on {0}")]
    Bind(SocketAddr, #[source] io::Error),
    /// systemd passed something else.
    #[error("systemd passes what is no listening socket of TCP; look at the ListenStream= of tenantd-ingress.socket")]
    NoListener,
    /// systemd listens where the settings do not want it.
    #[error(
        "systemd passes a socket that listens on {0}, which ingress.listen does not have; write the same addresses there and as \
         ListenStream= of tenantd-ingress.socket"
    )]
    NotDeclared(SocketAddr),
    /// A socket that was passed cannot be asked.
    #[error("cannot use a socket that systemd passes")]
    Passed(#[from] io::Error),
}

/// The sockets of the addresses of the settings: of those that were passed, and made for what is left.
///
/// # Errors
/// What was passed is not what the settings say, or an address cannot be listened on.
pub fn listen(addresses: &[SocketAddr], passed: Vec<OwnedFd>) -> Result<Vec<TcpListener>, ListenError> {
    let mut left = addresses.to_vec();
    let mut listeners = Vec::with_capacity(left.len());
    for socket in passed {
        let is_listener = socket_type(&socket).map_err(io::Error::from)? == SocketType::STREAM
            && socket_acceptconn(&socket).map_err(io::Error::from)?;
        // One of another family has no address of this kind.
        let listener = Some(socket).filter(|_| is_listener).map(TcpListener::from).ok_or(ListenError::NoListener)?;
        let address = listener.local_addr().map_err(|_| ListenError::NoListener)?;
        let place = left.iter().position(|one| *one == address).ok_or(ListenError::NotDeclared(address))?;
        left.swap_remove(place);
        listeners.push(listener);
    }
    for address in left {
        listeners.push(TcpListener::bind(address).map_err(|source| ListenError::Bind(address, source))?);
    }
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpStream, UdpSocket},
        os::unix::net::UnixListener,
    };

    use super::*;

    #[test]
    fn what_systemd_passes_is_used_and_what_is_left_is_made() -> Result<(), Box<dyn std::error::Error>> {
        let passed = TcpListener::bind("127.0.0.1:0")?;
        let own = passed.local_addr()?;
        let other = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let listeners = listen(&[other, own], vec![passed.into()])?;
        let mut found = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        found.sort_unstable();
        let mut expected = [own, other];
        expected.sort_unstable();
        assert_eq!(found, expected);
        // It waits with them.
        drop(TcpStream::connect(own)?);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_the_settings_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, again) = (listener.local_addr()?, listener.try_clone()?);
        let other: SocketAddr = "127.0.0.1:1".parse()?;
        let refused = |addresses: &[SocketAddr], passed: Vec<OwnedFd>| listen(addresses, passed).err();
        assert!(
            matches!(refused(&[other], vec![listener.try_clone()?.into()]), Some(ListenError::NotDeclared(one)) if one == address)
        );
        assert!(
            matches!(refused(&[address], vec![listener.into(), again.into()]), Some(ListenError::NotDeclared(_))),
            "twice"
        );
        let client = TcpStream::connect(TcpListener::bind("127.0.0.1:0")?.local_addr()?);
        let folder = tempfile::tempdir()?;
        let local = UnixListener::bind(folder.path().join("socket"))?;
        for passed in
            [UdpSocket::bind("127.0.0.1:0")?.into(), local.into()].into_iter().chain(client.map(OwnedFd::from))
        {
            assert!(matches!(refused(&[address], vec![passed]), Some(ListenError::NoListener)));
        }
        Ok(())
    }
}
