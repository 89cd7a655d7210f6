//! What a tunnel that was asked for by name begins with: a hello of TLS in it must be for that name.

use std::{pin::pin, time::Duration};

use tokio::{io::AsyncReadExt, net::tcp::ReadHalf, time::timeout};

use crate::{
    policy::{Rule, authority::Host},
    protocols::client_hello::{self, MAX_BYTES},
    proxy::relay::End,
};

/// What the first bytes of a tunnel may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    /// How long a hello of TLS may take once it has begun.
    pub time: Duration,
    /// Whether it may carry an encrypted one.
    pub may_be_encrypted: bool,
}

impl Admission {
    /// Reads the first bytes of a tunnel until it is sure that they are not TLS for another host.
    ///
    /// # Errors
    /// They are, cannot be read, take too long, or break off.
    pub(crate) async fn admit(self, from: &mut ReadHalf<'_>, first: &mut Vec<u8>, host: &Host) -> Result<(), End> {
        if first.is_empty() {
            from.readable().await.map_err(|_| End::Broken)?;
            first.reserve(1 << 10);
            if read_some(from, first).await? == 0 {
                return Ok(());
            }
        }
        if !client_hello::looks_like_tls(first) {
            return Ok(());
        }
        let mut whole = pin!(async {
            loop {
                match client_hello::parse(first).map_err(End::Refused)? {
                    Some(found) => {
                        let name = found.judged_name(self.may_be_encrypted).map_err(End::Refused)?;
                        // Nobody asks for an address by name.
                        let is_same = name.as_ref().map_or(host.name().is_none(), |name| name == host);
                        return if is_same { Ok(()) } else { Err(End::Refused(Rule::NameDiffers)) };
                    }
                    None if first.len() >= MAX_BYTES => return Err(End::Refused(Rule::MalformedHello)),
                    None if !client_hello::looks_like_tls(first) => return Ok(()),
                    None if read_some(from, first).await? == 0 => return Err(End::Broken),
                    None => {}
                }
            }
        });
        timeout(self.time, whole.as_mut()).await.unwrap_or(Err(End::Refused(Rule::TooLate)))
    }
}

async fn read_some(from: &mut ReadHalf<'_>, bytes: &mut Vec<u8>) -> Result<usize, End> {
    from.read_buf(bytes).await.map_err(|_| End::Broken)
}
