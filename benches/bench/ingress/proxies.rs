//! The others, as Debian has them, set up for the same job: a name leads to the app, over connections that are kept.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context;

use super::{APP_OF_OTHERS, DOMAIN, app, daemon::PUBLIC};
use crate::egress::wait;

/// Where each listens.
pub const NGINX: u16 = 8082;
pub const HAPROXY: u16 = 8083;

/// A proxy that ends when this is dropped.
pub struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn start(folder: &Path) -> anyhow::Result<Vec<Proxy>> {
    let (show, port) = (folder.display(), app::PORT);
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {show}/nginx-{kind};"))
        .join(" ");
    // An answer that a client takes slowly is not to be written to a disk.
    let nginx = format!(
        "daemon off;\nuser root;\nworker_processes auto;\nworker_rlimit_nofile 16384;\npid {show}/nginx.pid;\n\
         error_log {show}/nginx.log crit;\nevents {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  {paths}\n  keepalive_requests 100000000;\n  \
         upstream app {{ server {APP_OF_OTHERS}:{port}; keepalive 64; keepalive_requests 100000000; }}\n  \
         server {{\n    listen 127.0.0.1:{NGINX};\n    server_name {PUBLIC}.{DOMAIN};\n    location / {{\n      \
         proxy_pass http://app;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
         proxy_set_header Host $host;\n      proxy_set_header X-Forwarded-For $remote_addr;\n      \
         proxy_set_header X-Forwarded-Proto $scheme;\n      proxy_max_temp_file_size 0;\n    }}\n  }}\n}}\n"
    );
    let haproxy = format!(
        "global\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 10s\n  timeout client 600s\n  timeout server 600s\n  \
         option forwardfor\n  http-reuse always\nfrontend names\n  bind 127.0.0.1:{HAPROXY}\n  \
         http-request set-header X-Forwarded-Proto http\n  use_backend app if {{ req.hdr(host) -i {PUBLIC}.{DOMAIN} }}\n\
         backend app\n  server app {APP_OF_OTHERS}:{port}\n"
    );
    for (file, text) in [("nginx.conf", nginx), ("haproxy.conf", haproxy)] {
        fs::write(folder.join(file), text)?;
    }
    let start = |name: &str, words: &str, port: u16| {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n 16384; exec {words}")).stdin(Stdio::null());
        let log = File::create(folder.join(format!("{name}.out")))?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        let proxy = Proxy(child.with_context(|| format!("{name} cannot be run"))?);
        wait(name, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
            .with_context(|| fs::read_to_string(folder.join(format!("{name}.out"))).unwrap_or_default())?;
        anyhow::Ok(proxy)
    };
    Ok(vec![
        start("nginx", &format!("nginx -c {show}/nginx.conf"), NGINX)?,
        start("haproxy", &format!("haproxy -db -f {show}/haproxy.conf"), HAPROXY)?,
    ])
}
