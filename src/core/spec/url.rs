//! Where a config repo can be followed from.

use std::{net::IpAddr, str::FromStr};

use super::values::AbsolutePath;
use crate::model::Invalid;

/// A path on this host, a URL of ssh, https, http or git, or `user@host:path`. It holds no secret, and
/// nothing that git or ssh could take for an option or a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceUrl {
    text: String,
    transport: Transport,
}

/// How a config repo is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// From this host's own files.
    Path,
    /// With `ssh`.
    Ssh,
    /// Encrypted, or not leaving this host.
    Https,
    /// In the clear.
    Http,
    /// In the clear, by git's own protocol.
    Git,
}

impl SourceUrl {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How the repo is read.
    pub const fn transport(&self) -> Transport {
        self.transport
    }
}

/// The longest URL that is taken, in bytes.
const MAX_URL: usize = 2048;

impl FromStr for SourceUrl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // The text is not repeated: it may hold what someone took for the place of a password.
        let transport = if text.len() > MAX_URL {
            return Err(bad("the URL is too long"));
        } else if text.starts_with('/') {
            text.parse::<AbsolutePath>()?;
            Transport::Path
        } else if let Some((scheme, rest)) = text.split_once("://") {
            with_scheme(scheme, rest)?
        } else {
            short_form(text)?;
            Transport::Ssh
        };
        Ok(Self { text: text.to_owned(), transport })
    }
}

crate::text_value!(SourceUrl, "SourceUrl", {
    "type": "string",
    "maxLength": 2048,
    "pattern": "^(/[^/]|(ssh|https?|git)://[^-/]|[A-Za-z0-9._+-]+@[A-Za-z0-9][A-Za-z0-9.-]*:[^:-])",
    "examples": ["/srv/fleet.git", "https://git.example.com/ops/fleet.git", "git@git.example.com:ops/fleet.git"]
});

fn bad(message: &str) -> Invalid {
    let help = "write an absolute path, a URL that begins with ssh://, https://, http:// or git://, or user@host:path";
    Invalid::new("bad-url", message, help)
}

fn with_scheme(scheme: &str, rest: &str) -> Result<Transport, Invalid> {
    let transport = match scheme {
        "ssh" => Transport::Ssh,
        "https" => Transport::Https,
        "http" => Transport::Http,
        "git" => Transport::Git,
        _ => return Err(bad("this is no transport that is used")),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = match authority.rsplit_once('@') {
        None => authority,
        Some((user, host)) => {
            // Some hosts take a token for the user's name.
            if user.contains(':') || transport != Transport::Ssh {
                return Err(secret());
            }
            if !is_word(user) {
                return Err(bad("the user's name is wrong"));
            }
            host
        }
    };
    let Some(host) = host_without_port(host) else { return Err(bad("the host is wrong")) };
    if path.is_empty() {
        return Err(bad("the URL ends with the host"));
    }
    if path.contains(|c: char| c.is_whitespace() || c.is_control() || "?#\\@".contains(c)) {
        return Err(bad("the path holds a character that has no place there"));
    }
    let stays_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    Ok(if transport == Transport::Http && stays_here { Transport::Https } else { transport })
}

/// `user@host:path`, as ssh writes it.
fn short_form(text: &str) -> Result<(), Invalid> {
    let Some((user, place)) = text.split_once('@') else {
        return Err(bad("this is no URL of a repository"));
    };
    if user.contains(':') {
        return Err(secret());
    }
    let Some((host, path)) = place.split_once(':') else {
        return Err(bad("the path is missing"));
    };
    if !is_word(user) || !is_host(host) {
        return Err(bad("the user's name or the host is wrong"));
    }
    if path.is_empty() || path.starts_with(['-', ':']) || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(bad("the path is wrong"));
    }
    Ok(())
}

fn secret() -> Invalid {
    Invalid::new(
        "secret",
        "the URL holds a user with a password or token",
        "leave the user out; `username` and `password` say who asks, `sshKey` does for ssh",
    )
}

/// The host alone, where host and port can be used.
fn host_without_port(text: &str) -> Option<&str> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port.strip_prefix(':').or(port.is_empty().then_some("1"))?)
        }
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, "1"));
            if !is_host(host) {
                return None;
            }
            (host, port)
        }
    };
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_port.then_some(host)
}

fn is_host(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_with_its_transport() {
        for (text, transport) in [
            ("/srv/fleet.git", Transport::Path),
            ("/srv/our fleet", Transport::Path),
            ("ssh://git@git.example.com:2222/ops/fleet.git", Transport::Ssh),
            ("ssh://[2001:db8::1]:22/fleet", Transport::Ssh),
            ("git@git.example.com:ops/fleet.git", Transport::Ssh),
            ("git@host:/srv/fleet.git", Transport::Ssh),
            ("https://git.example.com/ops/fleet.git", Transport::Https),
            ("http://git.example.com:8080/ops/fleet.git", Transport::Http),
            ("http://127.0.0.1:8080/fleet.git", Transport::Https),
            ("http://[::1]:8080/fleet.git", Transport::Https),
            ("git://git.example.com/fleet.git", Transport::Git),
        ] {
            let url = text.parse::<SourceUrl>();
            assert_eq!(url.as_ref().map(SourceUrl::transport), Ok(transport), "{text}");
            assert_eq!(url.map(|url| url.as_str().to_owned()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_git_could_run_or_would_pass_on_is_refused() {
        for (text, code) in [
            ("", "bad-url"),
            ("fleet.git", "bad-url"),
            ("../fleet.git", "bad-url"),
            ("/srv/../etc", "bad-path"),
            ("/", "bad-path"),
            ("-oProxyCommand=id", "bad-url"),
            ("--upload-pack=id", "bad-url"),
            ("--upload-pack=id@host:path", "bad-url"),
            ("ext::sh -c id", "bad-url"),
            ("ext::sh -c id@host:path", "secret"),
            ("fd::17", "bad-url"),
            ("file:///srv/fleet.git", "bad-url"),
            ("ftp://host/fleet", "bad-url"),
            ("SSH://host/fleet", "bad-url"),
            ("ssh://-oProxyCommand=id/fleet", "bad-url"),
            ("ssh://git@-oProxyCommand=id/fleet", "bad-url"),
            ("ssh://-l@host/fleet", "bad-url"),
            ("git@-oProxyCommand=id:fleet", "bad-url"),
            ("git@host:-fleet", "bad-url"),
            ("git@host::fleet", "bad-url"),
            ("git@host:", "bad-url"),
            ("git@host", "bad-url"),
            ("host:path", "bad-url"),
            ("https://host", "bad-url"),
            ("https://host/", "bad-url"),
            ("https:///fleet", "bad-url"),
            ("https://host:0/fleet", "bad-url"),
            ("https://host:port/fleet", "bad-url"),
            ("https://host:+1/fleet", "bad-url"),
            ("https://[::1/fleet", "bad-url"),
            ("https://[host]/fleet", "bad-url"),
            ("https://host/fleet?token=x", "bad-url"),
            ("https://host/fleet x", "bad-url"),
            ("https://ghp_x@host/fleet", "secret"),
            ("https://user:word@host/fleet", "secret"),
            ("ssh://user:word@host/fleet", "secret"),
            ("user:word@host:fleet", "secret"),
        ] {
            let refused = text.parse::<SourceUrl>();
            assert_eq!(refused.as_ref().map_err(|e| e.code).err(), Some(code), "{text}");
            assert!(text.len() < 12 || refused.is_err_and(|e| !e.to_string().contains(text) || code == "bad-path"));
        }
        assert!(format!("https://host/{}", "a".repeat(MAX_URL)).parse::<SourceUrl>().is_err());
    }
}
