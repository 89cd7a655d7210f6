//! Which tenant a request is for, and which of its ports.

use crate::model::TenantName;

/// What begins a path that names a tenant.
const PREFIX: &str = "/t/";

/// Where a request wants to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The tenant.
    pub tenant: TenantName,
    /// The port; `None` for the tenant's first one.
    pub port: Option<u16>,
    /// How it is named.
    pub form: Form,
}

/// How a request names its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// By a host name of its own: `TENANT.DOMAIN` or `PORT-TENANT.DOMAIN`.
    Host,
    /// By a path, on a host name that it shares with others: `/t/TENANT/PORT/…`. This is the part that names it.
    Path(String),
}

impl Target {
    /// Where a request wants to, by its host, which may carry a port, and its path. `None` where that names nobody.
    pub fn of(host: &str, path: &str, domain: &str) -> Option<Self> {
        match label(host, domain) {
            Some(label) => Self::of_label(&label),
            None => Self::of_path(path),
        }
    }

    fn of_label(label: &str) -> Option<Self> {
        let (port, name) = match label.split_once('-') {
            Some((digits, name)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => (Some(port(digits)?), name),
            Some(_) | None => (None, label),
        };
        Some(Self { tenant: name.parse().ok()?, port, form: Form::Host })
    }

    fn of_path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(PREFIX)?;
        let mut parts = rest.splitn(3, '/');
        let (name, digits) = (parts.next()?, parts.next()?);
        let prefix = format!("{PREFIX}{name}/{digits}");
        Some(Self { tenant: name.parse().ok()?, port: Some(port(digits)?), form: Form::Path(prefix) })
    }

    /// The path that the tenant gets to see, with what follows it.
    pub fn inner_path<'a>(&self, path_and_query: &'a str) -> std::borrow::Cow<'a, str> {
        let Form::Path(prefix) = &self.form else { return path_and_query.into() };
        match path_and_query.strip_prefix(prefix.as_str()) {
            Some(rest) if rest.starts_with('/') => rest.into(),
            Some(rest) => format!("/{rest}").into(),
            None => path_and_query.into(),
        }
    }
}

/// The one label before the domain. `None` where the host is another one.
fn label(host: &str, domain: &str) -> Option<String> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let label = name.strip_suffix(domain)?.strip_suffix('.')?;
    // A name of several labels names nobody, and is none of the domain's own paths either.
    Some(label.to_owned())
}

/// A port as it is written: without a sign or a zero in front.
fn port(digits: &str) -> Option<u16> {
    let port: u16 = digits.parse().ok()?;
    (port > 0 && port.to_string() == digits).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "agents.example.com";

    fn shown(host: &str, path: &str) -> Option<String> {
        let target = Target::of(host, path, DOMAIN)?;
        let port = target.port.map_or("first".to_owned(), |port| port.to_string());
        Some(format!("{} {port} {}", target.tenant, target.inner_path(path)))
    }

    #[test]
    fn a_host_name_or_a_path_names_a_tenant_and_a_port() {
        for (host, path, expected) in [
            ("ant.agents.example.com", "/a?b", Some("ant first /a?b")),
            ("ANT.Agents.Example.com.:8080", "/", Some("ant first /")),
            ("8080-ant.agents.example.com", "/t/bee/80/", Some("ant 8080 /t/bee/80/")),
            ("a-b.agents.example.com", "/", Some("a-b first /")),
            ("agents.example.com", "/t/ant/8080/x?y=/", Some("ant 8080 /x?y=/")),
            ("127.0.0.1:8080", "/t/ant/8080", Some("ant 8080 /")),
            ("localhost", "/t/ant/8080/", Some("ant 8080 /")),
            // What names nobody.
            ("agents.example.com", "/", None),
            ("agents.example.com", "/t/ant", None),
            ("agents.example.com", "/t/ant/0/", None),
            ("agents.example.com", "/t/ant/08080/", None),
            ("agents.example.com", "/t/ant/+80/", None),
            ("agents.example.com", "/t/ant/65536/", None),
            ("agents.example.com", "/t/an%74/80/", None),
            ("agents.example.com", "//t/ant/80/", None),
            ("a.ant.agents.example.com", "/t/ant/80/", None),
            ("-ant.agents.example.com", "/", None),
            ("99999-ant.agents.example.com", "/", None),
            ("ant.agents.example.com.evil.example", "/", None),
            ("antagents.example.com", "/", None),
        ] {
            assert_eq!(shown(host, path).as_deref(), expected, "{host} {path}");
        }
    }
}
