//! The agent that tests and the demo run as a tenant. It does by word what a real agent may try:
//! serve, write, fill a disk, use memory, start processes, connect, and try to escape.
//!
//! It needs nothing but the standard library and is built without Cargo; see `build-image`.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_ulong, c_void};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

mod kernel;
mod net;
mod raw;
mod work;

use kernel::walk;
use net::{connect, dial, get, hold, lookup, names_server, send, upstream};
use raw::{claim, ping, spoof};
use work::Head;

const USAGE: &str = "\
agent [COMMAND]
  serve                     HTTP on port 8080: hostname and uptime, GET /log, or /work?id=ID, which takes a body and
                            answers who was asked what, after `wait` milliseconds with `bytes` bytes more; a
                            WebSocket there echoes (the default)
  sleep [SECONDS]           sleep, without SECONDS for ever
  end                       end the container, by a TERM to its first process
  env                       print the environment
  id                        print user, groups, capabilities and seccomp state
  mounts                    print the mounts
  write PATH TEXT           write a file
  cat PATH                  print a file
  remove PATH               remove a file
  subvolume FOLDER          make two subvolumes of btrfs there, one of them with no quota group above it
  walk FOLDER [WORD...]     print each path below that can be read, without following links, as `read PATH`, and
                            those that show a WORD, as `shows WORD PATH`; each WORD is given backwards, so that
                            the walk does not find its own command line
  fill PATH BYTES           write that many zeros to a file
  eat-memory BYTES [SECONDS]  use memory, and hold it for SECONDS
  fork N                    start N sleeping children, print how many started, end them
  connect HOST:PORT [MS]    connected, refused, timed out or unreachable; default 2000 ms
  lookup NAME               ask the name server of /etc/resolv.conf
  send tcp|udp HOST:PORT HEX [MS]  send bytes, print what comes back, for people and as text
  hold HOST:PORT N SECONDS  open N connections, say how many, and keep them
  get URL [HEADER...]       HTTP without TLS by the name in the URL, or by http_proxy; print the answer
  names ADDRESS NAME=ADDRESS...  a name server on port 53 that knows these names and no other
  upstream PORT             HTTP that answers with the headers that it was sent, and prints them
  ping ADDRESS [MS]         an ICMP echo: answered, or why not
  spoof SOURCE ADDRESS:PORT HEX  a UDP packet with another's address as its source; needs NET_RAW
  claim ADDRESS             announce by ARP that an address is here; needs NET_RAW
  script PATH               run each line of a file as a command, and print `= CODE` and its output
  print BYTES               print that many bytes
  escape [ADDRESS...]       try the ways of escape; status 0 when all of them are refused";

/// Where `serve` keeps a line per request.
const LOG: &str = "/workspace/log";

/// Set by the handler of SIGTERM and SIGINT.
static STOP: AtomicBool = AtomicBool::new(false);

/// The few calls that the standard library lacks.
mod system {
    use super::{c_char, c_int, c_ulong, c_void};

    unsafe extern "C" {
        pub fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
        pub fn kill(process: c_int, signal: c_int) -> c_int;
        pub fn setuid(uid: u32) -> c_int;
        pub fn setgid(gid: u32) -> c_int;
        pub fn chroot(path: *const c_char) -> c_int;
        pub fn mknod(path: *const c_char, mode: u32, device: u64) -> c_int;
        pub fn mount(
            source: *const c_char,
            target: *const c_char,
            kind: *const c_char,
            flags: c_ulong,
            data: *const c_void,
        ) -> c_int;
        pub fn ioctl(file: c_int, request: c_ulong, argument: *const c_void) -> c_int;
        pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
        pub fn sendto(
            socket: c_int,
            bytes: *const c_void,
            length: usize,
            flags: c_int,
            address: *const c_void,
            size: u32,
        ) -> isize;
        pub fn recv(socket: c_int, bytes: *mut c_void, length: usize, flags: c_int) -> isize;
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    ExitCode::from(run(&words))
}

/// Does what the words say, and returns the exit code.
fn run(words: &[&str]) -> u8 {
    let outcome = match words {
        [] | ["serve"] => serve(),
        ["sleep"] => sleep(None),
        ["sleep", seconds] => number(seconds).and_then(|n| sleep(Some(n))),
        ["end"] => end(),
        ["env"] => env(),
        ["id"] => id(),
        ["mounts"] => cat("/proc/self/mounts"),
        ["write", path, text] => fs::write(path, text),
        ["cat", path] => cat(path),
        ["remove", path] => fs::remove_file(path),
        ["subvolume", folder] => subvolumes(folder),
        ["walk", folder, words @ ..] => walk(folder, words),
        ["fill", path, bytes] => number(bytes).and_then(|n| fill(path, n)),
        ["eat-memory", bytes] => number(bytes).and_then(|n| eat_memory(n, 0)),
        ["eat-memory", bytes, seconds] => number(bytes).and_then(|n| number(seconds).and_then(|s| eat_memory(n, s))),
        ["fork", count] => number(count).and_then(fork),
        ["connect", address] => connect(address, 2000),
        ["connect", address, limit] => number(limit).and_then(|limit| connect(address, limit)),
        ["lookup", name] => lookup(name),
        ["send", kind, address, hex] => send(kind, address, hex, 1500),
        ["send", kind, address, hex, limit] => number(limit).and_then(|limit| send(kind, address, hex, limit)),
        ["hold", address, count, seconds] => {
            number(count).and_then(|count| number(seconds).and_then(|seconds| hold(address, count, seconds)))
        }
        ["get", url, headers @ ..] => get(url, headers),
        ["names", address, names @ ..] => names_server(address, names),
        ["upstream", port] => number(port).and_then(upstream),
        ["ping", address] => ping(address, 1000),
        ["ping", address, limit] => number(limit).and_then(|limit| ping(address, limit)),
        ["spoof", source, address, hex] => spoof(source, address, hex),
        ["claim", address] => claim(address),
        ["script", path] => script(path),
        ["print", bytes] => number(bytes).and_then(print),
        ["escape", addresses @ ..] => return escape(addresses),
        ["help" | "--help"] => say(USAGE),
        _ => {
            eprintln!("{USAGE}");
            return 2;
        }
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            let line = format!("agent: {}: {error}", words.first().unwrap_or(&"serve"));
            if !keep(&line) {
                eprintln!("{line}");
            }
            1
        }
    }
}

thread_local! {
    /// What this thread says, where it is kept for another to print.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps a line, if this thread's are kept.
fn keep(line: &str) -> bool {
    SAID.with_borrow_mut(|said| said.as_mut().map(|said| said.extend([line, "\n"])).is_some())
}

/// Prints a line. A reader that has gone is an error, not a panic.
fn say(line: &str) -> io::Result<()> {
    if keep(line) { Ok(()) } else { writeln!(io::stdout(), "{line}") }
}

fn end() -> io::Result<()> {
    const SIGTERM: c_int = 15;
    // SAFETY: the call takes no memory.
    if unsafe { system::kill(1, SIGTERM) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Parses a decimal number.
fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| io::Error::new(ErrorKind::InvalidInput, format!("{text:?} is no number")))
}

fn invalid<E>(_: E) -> io::Error {
    io::Error::from(ErrorKind::InvalidInput)
}

/// Makes SIGTERM and SIGINT set [`STOP`], since they do nothing by default to process 1.
fn handle_signals() {
    extern "C" fn stop(_: c_int) {
        STOP.store(true, Ordering::SeqCst);
    }
    const SIGINT: c_int = 2;
    const SIGTERM: c_int = 15;
    // SAFETY: the handler only stores to an atomic.
    unsafe {
        system::signal(SIGINT, stop);
        system::signal(SIGTERM, stop);
    }
}

fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| fs::read_to_string("/etc/hostname"))
        .map_or_else(|_| String::from("unknown"), |name| name.trim().to_owned())
}

/// Answers HTTP until SIGTERM, and says on stdout every `AGENT_INTERVAL` seconds that it lives.
fn serve() -> io::Result<()> {
    handle_signals();
    let interval = match std::env::var("AGENT_INTERVAL") {
        Ok(text) => Duration::from_secs(number(&text)?.max(1)),
        Err(_) => Duration::from_secs(10),
    };
    let started = Instant::now();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080))?;
    let variant = std::env::var("AGENT_VARIANT").map_or_else(|_| String::new(), |v| format!(" {v}"));
    say(&format!("agent{variant} on {} serves port 8080", hostname()))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                // A client that goes away in the middle harms nobody else.
                let _ = answer(stream, started);
            });
        }
    });
    let mut next = started + interval;
    while !STOP.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(100));
        if Instant::now() >= next {
            next += interval;
            say(&format!("agent is up {} s", started.elapsed().as_secs()))?;
        }
    }
    say("agent stops")
}

/// Answers one HTTP request, or those for `/work` of a connection, and appends a line for each to [`LOG`].
fn answer(mut stream: TcpStream, started: Instant) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let peer = stream.peer_addr()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some(head) = Head::read(&mut reader)? else { return Ok(()) };
    let log = |request: &str| {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let log = OpenOptions::new().append(true).create(true).open(LOG);
        log.and_then(|mut log| log.write_all(format!("{seconds} {} {request}\n", peer.ip()).as_bytes()))
    };
    let logged = log(&head.line);
    if head.path() == "/work" {
        return work::answer(stream, reader, head, |request| _ = log(request));
    }
    let mut body = if head.path() == "/log" {
        fs::read_to_string(LOG).unwrap_or_default()
    } else {
        let uptime = started.elapsed().as_secs();
        format!("hostname {}\nuptime {uptime}\n", hostname())
    };
    if let Err(error) = logged {
        let _ = writeln!(body, "log {error}");
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Sleeps until the time is over or SIGTERM comes.
fn sleep(seconds: Option<u64>) -> io::Result<()> {
    handle_signals();
    let end = seconds.map(|n| Instant::now() + Duration::from_secs(n));
    while !STOP.load(Ordering::SeqCst) && end.is_none_or(|end| Instant::now() < end) {
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn env() -> io::Result<()> {
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.sort();
    for (name, value) in variables {
        say(&format!("{}={}", name.display(), value.display()))?;
    }
    Ok(())
}

/// Prints what the kernel says of this process; `-` stands for what it does not say.
fn id() -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    for name in ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
        let value = status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .map_or("-", |(_, value)| value.trim());
        say(&format!("{name} {}", value.replace('\t', " ")))?;
    }
    Ok(())
}

fn cat(path: &str) -> io::Result<()> {
    io::copy(&mut File::open(path)?, &mut io::stdout()).map(drop)
}

/// Writes zeros, and says how many of them the disk took even when it took not all.
fn fill(path: &str, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let zeros = [0; 1 << 16];
    let mut written = 0;
    let outcome = loop {
        let want = (bytes - written).min(zeros.len() as u64) as usize;
        if want == 0 {
            break file.sync_all();
        }
        match file.write(&zeros[..want]) {
            Ok(count) => written += count as u64,
            Err(error) => break Err(error),
        }
    };
    say(&format!("wrote {written}"))?;
    outcome
}

/// Makes subvolumes the two ways that the kernel has. One that is made is an escape: it has no limit.
fn subvolumes(folder: &str) -> io::Result<()> {
    // BTRFS_IOC_SUBVOL_CREATE and BTRFS_IOC_SUBVOL_CREATE_V2, and BTRFS_SUBVOL_QGROUP_INHERIT with an empty list.
    const CREATE: c_ulong = 0x5000_940e;
    const CREATE_V2: c_ulong = 0x5000_9418;
    const INHERIT: u64 = 1 << 2;
    let folder = File::open(folder)?;
    let nothing = [0_u64; 9];
    let mut plain = [0_u8; 4096];
    plain[8..13].copy_from_slice(b"plain");
    let mut free = [0_u8; 4096];
    free[16..24].copy_from_slice(&INHERIT.to_ne_bytes());
    free[24..32].copy_from_slice(&(std::mem::size_of_val(&nothing) as u64).to_ne_bytes());
    free[32..40].copy_from_slice(&(nothing.as_ptr() as u64).to_ne_bytes());
    free[56..60].copy_from_slice(b"free");
    let mut refused = None;
    for (request, argument) in [(CREATE, &plain), (CREATE_V2, &free)] {
        // SAFETY: the kernel reads 4,096 bytes there, and what they point to.
        let made = unsafe { system::ioctl(folder.as_raw_fd(), request, argument.as_ptr().cast()) };
        match made {
            0 => say("made a subvolume")?,
            _ => refused = Some(io::Error::last_os_error()),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Touches memory one MiB at a time, then holds it.
fn eat_memory(bytes: u64, seconds: u64) -> io::Result<()> {
    const STEP: u64 = 1 << 20;
    let mut eaten = Vec::new();
    let mut left = bytes;
    while left > 0 {
        let step = left.min(STEP);
        // Not zeros: those would be pages that exist only once.
        eaten.push(std::hint::black_box(vec![1_u8; step as usize]));
        left -= step;
    }
    say(&format!("ate {bytes}"))?;
    let outcome = sleep(Some(seconds));
    drop(std::hint::black_box(eaten));
    outcome
}

/// Starts children up to the first failure, prints their number, and ends them.
fn fork(count: u64) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let mut children: Vec<Child> = Vec::new();
    let mut failure = None;
    while (children.len() as u64) < count && failure.is_none() {
        match Command::new(&program).arg("sleep").stdin(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(error) => failure = Some(error),
        }
    }
    let why = failure.map_or_else(String::new, |error| format!(": {error}"));
    say(&format!("started {} of {count}{why}", children.len()))?;
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// How many commands of a script run at once.
const AT_ONCE: usize = 8;

/// Runs the commands of a file, each on a thread of its own, and prints what became of them in their
/// order.
fn script(path: &str) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for some in lines.chunks(AT_ONCE) {
        let run = |line: String| {
            SAID.set(Some(String::new()));
            let code = run(&line.split(' ').collect::<Vec<_>>());
            (code, SAID.take().unwrap_or_default())
        };
        let threads: Vec<_> = some.iter().cloned().map(|line| thread::spawn(move || run(line))).collect();
        for thread in threads {
            let (code, said) = thread.join().map_err(|_| io::Error::other("a command broke"))?;
            write!(io::stdout(), "= {code}\n{said}")?;
        }
    }
    Ok(())
}

/// Prints lines of 64 bytes, the last one cut to length.
fn print(bytes: u64) -> io::Result<()> {
    let line = [b"0123456789abcdef".repeat(4)[..63].to_vec(), vec![b'\n']].concat();
    let mut out = io::stdout().lock();
    for _ in 0..bytes / 64 {
        out.write_all(&line)?;
    }
    out.write_all(&line[64 - (bytes % 64) as usize..])?;
    out.flush()
}

/// Tries the ways of escape, one line each, and fails when one of them is open.
///
/// What it makes on a success stays: that it was possible is the finding.
fn escape(addresses: &[&str]) -> u8 {
    let mut open = 0;
    let mut report = |what: &str, outcome: Result<(), String>| match outcome {
        Ok(()) => {
            open += 1;
            println!("OPEN    {what}");
        }
        Err(why) => println!("refused {what}: {why}"),
    };
    let text = |error: io::Error| error.to_string();
    for path in [
        "/escape",
        "/etc/escape",
        "/source/escape",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/escape",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ] {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        report(&format!("write {path}"), file.map(drop).map_err(text));
    }
    for path in ["/proc/kcore", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/kvm"] {
        report(&format!("read {path}"), read_one(path).map_err(text));
    }
    for path in ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"] {
        report(&format!("connect {path}"), UnixStream::connect(path).map(drop).map_err(text));
    }
    report("run a program in /tmp", run_copy("/tmp/escape").map_err(text));
    for (what, outcome) in privileged() {
        report(what, outcome.map_err(text));
    }
    for address in addresses {
        report(&format!("connect {address}"), dial(address, 1000));
    }
    u8::from(open > 0)
}

/// Reads one byte; an empty file counts as refused, since a masked one is empty.
fn read_one(path: &str) -> io::Result<()> {
    match File::open(path)?.read(&mut [0])? {
        0 => Err(io::Error::other("empty")),
        _ => Ok(()),
    }
}

/// The calls that only a privileged process may make.
fn privileged() -> Vec<(&'static str, io::Result<()>)> {
    const S_IFBLK: u32 = 0o060_000;
    const AF_INET: c_int = 2;
    const AF_PACKET: c_int = 17;
    const SOCK_RAW: c_int = 3;
    const IPPROTO_ICMP: c_int = 1;
    let path = |text: &str| CString::new(text).unwrap_or_default();
    let (tmp, node, tmpfs) = (path("/tmp"), path("/tmp/disk"), path("tmpfs"));
    let check = |result: c_int| {
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the strings end in NUL and outlive the calls, which keep none of them.
    unsafe {
        vec![
            ("setuid 0", check(system::setuid(0))),
            ("setgid 0", check(system::setgid(0))),
            ("chroot /tmp", check(system::chroot(tmp.as_ptr()))),
            (
                "make and read a block device",
                check(system::mknod(node.as_ptr(), S_IFBLK | 0o600, 0x0800)).and_then(|()| read_one("/tmp/disk")),
            ),
            ("mount a tmpfs", check(system::mount(tmpfs.as_ptr(), tmp.as_ptr(), tmpfs.as_ptr(), 0, std::ptr::null()))),
            ("open a packet socket", check(system::socket(AF_PACKET, SOCK_RAW, 0))),
            ("open a raw socket", check(system::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP))),
        ]
    }
}

/// Runs a copy of this program from `path`.
fn run_copy(path: &str) -> io::Result<()> {
    fs::copy(std::env::current_exe()?, path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    let status = Command::new(path).arg("help").stdout(Stdio::null()).status();
    let _ = fs::remove_file(path);
    status.map(drop)
}
