//! A real PostgreSQL server in the world, and its own client within a tenant: a protocol that names no host.
//!
//! `make test` installs both; no service is started but the one of this test.

use std::{
    fs, io,
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    net::{eventually, run, within},
    world::{PUBLIC, Tenant, world},
};

crate::trials![a_database_is_reached_by_a_tunnel_where_it_is_listed];

const PORT: u16 = 5433;

/// Where the server keeps its data, in its own root.
const DATA: &str = "/data/database";

/// The server. It ends with this.
struct Postgres(Child);

impl Postgres {
    fn start() -> Self {
        let root = root();
        let own = |program: &str| {
            let mut command = Command::new("chroot");
            command.args(["--userspec=nobody:nogroup", "--groups="]).arg(root);
            command.arg(programs().join(program)).env("LC_ALL", "C");
            command
        };
        let made = own("initdb").args(["-D", DATA, "-U", "tester", "-A", "trust", "--no-sync"]).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        fs::write(root.join("data/database/pg_hba.conf"), "host all all 0.0.0.0/0 trust\n").unwrap();
        let address = Ipv4Addr::from(PUBLIC);
        let settings = [
            format!("listen_addresses={address}"),
            format!("port={PORT}"),
            "unix_socket_directories=".to_owned(),
            "fsync=off".to_owned(),
        ];
        let mut command = own("postgres");
        command.args(["-D", DATA]).args(settings.iter().flat_map(|setting| ["-c", setting]));
        let log = fs::File::create(root.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let server = Self(within("world", || command.spawn().unwrap()));
        eventually("PostgreSQL answers", Duration::from_secs(20), || {
            within("world", || TcpStream::connect((address, PORT))).is_ok()
        });
        server
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A root that other users than root can follow paths in, wherever the tests run.
fn root() -> &'static Path {
    let root = Path::new("/run/postgres");
    fs::create_dir_all(root).unwrap();
    run("mount", "-t tmpfs -o mode=755 tmpfs /run/postgres");
    for folder in ["usr", "etc", "dev", "proc"] {
        fs::create_dir(root.join(folder)).unwrap();
        run("mount", &format!("--rbind /{folder} /run/postgres/{folder}"));
    }
    for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        symlink(target, root.join(link)).unwrap();
    }
    fs::create_dir(root.join("data")).unwrap();
    fs::set_permissions(root.join("data"), fs::Permissions::from_mode(0o777)).unwrap();
    root
}

/// Where Debian keeps the server's programs, by version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is needed").flatten();
    versions.map(|version| version.path().join("bin")).max().unwrap()
}

/// Listens within a tenant, and leads whoever comes through a tunnel, as a program for that purpose would.
fn forward(tenant: &'static Tenant, to: &'static str) -> u16 {
    let listener = within(&tenant.namespace, || TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = tenant.tunnel(to) else { continue };
            far.set_read_timeout(None).unwrap();
            for (mut from, mut to) in
                [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far.try_clone().unwrap(), near)]
            {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    port
}

fn ask(tenant: &Tenant, port: u16, query: &str) -> Result<String, String> {
    let mut command = Command::new("psql");
    let address = format!("host=127.0.0.1 port={port} user=tester dbname=postgres connect_timeout=5");
    command.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", query, &address]);
    let output = within(&tenant.namespace, || command.stdin(Stdio::null()).output().unwrap());
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn a_database_is_reached_by_a_tunnel_where_it_is_listed() {
    let gateway = &world().gateway;
    let _server = Postgres::start();
    let leak = |tenant: Tenant| -> &'static Tenant { Box::leak(Box::new(tenant)) };
    let tenant = leak(gateway.tenant("database", &["api.example.com:5433"]));
    let port = forward(tenant, "api.example.com:5433");
    assert_eq!(ask(tenant, port, "select sum(n) from generate_series(1, 100000) n").as_deref(), Ok("5000050000"));
    let long = ask(tenant, port, "select repeat('tenantd ', 500000)").unwrap();
    assert_eq!(long.len(), "tenantd ".len() * 500_000 - 1, "and without the last space");

    // Without a proxy nothing says where such a connection wants to.
    let mut direct = Command::new("psql");
    direct.arg(format!("host={} port={PORT} user=tester dbname=postgres connect_timeout=5", tenant.gateway));
    let output = within(&tenant.namespace, || direct.stdin(Stdio::null()).output().unwrap());
    assert!(!output.status.success());

    let other = leak(gateway.tenant("no-database", &["api.example.com:443"]));
    let closed = forward(other, "api.example.com:5433");
    assert!(ask(other, closed, "select 1").is_err());
}
