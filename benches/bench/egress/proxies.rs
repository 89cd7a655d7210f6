//! The others, as Debian has them, set up for the nearest same job.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context;

use super::{NAME, load::Way, upstream, wait};

/// A proxy that ends when this is dropped.
pub struct Proxy {
    pub name: &'static str,
    address: SocketAddr,
    kind: ProxyKind,
    child: Child,
}

#[derive(Clone, Copy, PartialEq)]
enum ProxyKind {
    /// CONNECT, with a list of hosts that are allowed.
    Connect,
    /// TLS by its server name, with a list of those.
    ByName,
    /// Every connection goes to one place: no language, no decision.
    Blind,
}

impl Proxy {
    /// How it is asked, if it can do that at all.
    pub fn way(&self, by_name: bool) -> Option<Way> {
        match self.kind {
            ProxyKind::Connect if !by_name => Some(Way::Connect { proxy: self.address }),
            ProxyKind::ByName if by_name => Some(Way::Direct { address: self.address, by_name: true }),
            ProxyKind::Blind if !by_name => Some(Way::Direct { address: self.address, by_name: false }),
            _ => None,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn start(folder: &Path, on: Ipv4Addr, to: Ipv4Addr) -> anyhow::Result<Vec<Proxy>> {
    let port = upstream::PORT;
    let show = folder.display();
    let squid = format!(
        "http_port {on}:3129\nacl listed dstdomain {NAME}\nacl ports port {port}\nacl CONNECT method CONNECT\n\
         http_access allow CONNECT listed ports\nhttp_access deny all\ncache deny all\ncache_mem 0\naccess_log none\n\
         cache_log {show}/squid.log\npid_filename {show}/squid.pid\nworkers 1\nmax_filedescriptors 8192\n\
         coredump_dir none\nshutdown_lifetime 0 seconds\n"
    );
    let tinyproxy = format!(
        "Port 3130\nListen {on}\nTimeout 600\nMaxClients 2000\nConnectPort {port}\nFilter \"{show}/tinyproxy.filter\"\n\
         FilterDefaultDeny Yes\nLogFile \"{show}/tinyproxy.log\"\nLogLevel Critical\n"
    );
    let haproxy = format!(
        "global\n  maxconn 4096\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 600s\n  timeout server 600s\n\
         frontend names\n  bind {on}:3131\n  tcp-request inspect-delay 5s\n  tcp-request content accept if {{ req.ssl_hello_type 1 }}\n  \
         use_backend up if {{ req.ssl_sni -i {NAME} }}\nfrontend blind\n  bind {on}:3132\n  default_backend up\n\
         backend up\n  server up {to}:{port}\n"
    );
    fs::write(folder.join("tinyproxy.filter"), format!("^{}$\n", NAME.replace('.', "\\.")))?;
    for (file, text) in [("squid.conf", squid), ("tinyproxy.conf", tinyproxy), ("haproxy.conf", haproxy)] {
        fs::write(folder.join(file), text)?;
    }
    let start = |name, words: &str, port: u16, kind| {
        let mut command = Command::new("sh");
        // Ten thousand descriptors for all of them, as for the gateway.
        command.arg("-c").arg(format!("ulimit -n 16384; exec {words}")).stdin(Stdio::null());
        let log = File::create(folder.join(format!("{name}.out")))?;
        let child =
            command.stdout(log.try_clone()?).stderr(log).spawn().with_context(|| format!("{name} cannot be run"))?;
        let proxy = Proxy { name, address: (on, port).into(), kind, child };
        wait(name, || TcpStream::connect(proxy.address).ok())
            .with_context(|| fs::read_to_string(folder.join(format!("{name}.out"))).unwrap_or_default())?;
        anyhow::Ok(proxy)
    };
    let haproxy = start("haproxy", &format!("haproxy -db -f {show}/haproxy.conf"), 3131, ProxyKind::ByName)?;
    let blind = start("haproxy, blind", "sleep infinity", 3132, ProxyKind::Blind)?;
    Ok(vec![
        start("squid", &format!("squid -N -f {show}/squid.conf"), 3129, ProxyKind::Connect)?,
        start("tinyproxy", &format!("tinyproxy -d -c {show}/tinyproxy.conf"), 3130, ProxyKind::Connect)?,
        haproxy,
        blind,
    ])
}
