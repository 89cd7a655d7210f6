//! The process: who it is, what it writes, how it ends and comes back.

use std::{
    fs,
    io::Write,
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    process::Command,
    time::Duration,
};

use crate::{
    keeper::Keeper,
    net::{echoes, eventually, read_answer, run},
    world::{Gateway, PROXY, world},
};

crate::trials![
    it_has_no_root_no_capability_and_no_way_back,
    what_is_refused_is_recorded_and_counted,
    who_makes_names_up_leaves_the_record_to_others,
    it_ends_on_a_signal_and_serves_again,
    who_connects_between_two_gateways_waits_for_the_next,
    it_says_what_is_missing,
    it_serves_and_is_closed_under_any_mask,
];

fn status(pid: u32, key: &str) -> Vec<String> {
    let mut values = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
        let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        values.extend(value.map(|value| value.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    assert!(values.len() > 2, "{values:?}");
    values.sort();
    values.dedup();
    values
}

fn it_has_no_root_no_capability_and_no_way_back() {
    let pid = world().gateway.pid();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let nobody = passwd.lines().find(|line| line.starts_with("nobody:")).unwrap().split(':').nth(2).unwrap().to_owned();
    assert_eq!(status(pid, "Uid"), [[nobody.as_str(); 4].join(" ")]);
    assert_eq!(status(pid, "Groups"), [""]);
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(pid, set), ["0000000000000000"], "{set}");
    }
    assert_eq!(status(pid, "NoNewPrivs"), ["1"]);
    assert_eq!(status(pid, "Seccomp"), ["2"]);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
    // The rest of the host is not there for it.
    let sees = |path: &str| fs::symlink_metadata(format!("/proc/{pid}/root{path}")).is_ok();
    assert!(!sees("/etc/passwd") && !sees("/var/run/docker.sock") && !sees("/root"));
}

fn tenantd(gateway: &Gateway, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
    let output = command.args(words).arg("--host").arg(gateway.settings()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn journal(gateway: &Gateway) -> String {
    gateway.settings().with_file_name("state").join("journal").to_str().unwrap().to_owned()
}

fn events(gateway: &Gateway, tenant: &str) -> String {
    tenantd(gateway, &["events", "--tenant", tenant, "--journal", &journal(gateway)])
}

fn who_makes_names_up_leaves_the_record_to_others() {
    let gateway = Gateway::start_keeping("keeps", "fileSize: 64KiB, files: 2");
    let [makes_up, modest] = ["makes-up", "modest"].map(|name| gateway.tenant(name, &["api.example.com:443"]));
    for number in 0..50 {
        assert_eq!(makes_up.look_up(&format!("n{number}.evil.example"), 1).unwrap().0, 3);
    }
    assert!(modest.tunnel("other.example:443").is_err());
    eventually("the record", Duration::from_secs(5), || events(&gateway, "modest").contains("other.example:443"));
    let unrecorded = gateway.metric("tenantd_gateway_unrecorded_refusals_total{tenant=\"makes-up\"}");
    assert!((30..=47).contains(&unrecorded), "{unrecorded}");
    assert_eq!(gateway.metric("tenantd_gateway_unrecorded_refusals_total{tenant=\"modest\"}"), 0);
    // They have records of their own or are in a sum; at the end the last of them are told.
    assert!(gateway.end("TERM").success(), "{}", gateway.log());
    let printed = events(&gateway, "makes-up");
    let sums = printed.lines().filter(|line| line.contains("other destinations: not-recorded"));
    let times = |line: &str| line.split("not-recorded, ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let sum: u64 = sums.map(|line| times(line).unwrap_or(1)).sum();
    let recorded = printed.lines().filter(|line| line.contains(".evil.example: not-listed")).count() as u64;
    assert_eq!(recorded + sum, 50, "{printed}");
}

fn what_is_refused_is_recorded_and_counted() {
    let gateway = Gateway::start("journal", "");
    let tenant = gateway.tenant("recorded", &["api.example.com:443"]);
    for _ in 0..5 {
        assert!(tenant.tunnel("evil.example:443").is_err());
    }
    assert_eq!(tenant.look_up("named.evil.example", 1).unwrap().0, 3);
    let refused = "tenantd_gateway_refusals_total{tenant=\"recorded\",rule=\"not-listed\"}";
    assert_eq!(gateway.metric(refused), 6);
    let events = || events(&gateway, "recorded");
    eventually("the record", Duration::from_secs(5), || events().contains("named.evil.example"));
    assert!(events().contains("evil.example:443") && events().contains("not-listed"), "{}", events());
    // What came again is told at the latest when the process ends.
    assert!(gateway.end("TERM").success(), "{}", gateway.log());
    assert_eq!(events().lines().filter(|line| line.contains("evil.example:443")).count(), 2, "{}", events());
    let verified = tenantd(&gateway, &["audit", "verify", "--journal", &journal(&gateway)]);
    assert!(verified.contains("The chain holds"), "{verified}");
}

fn it_ends_on_a_signal_and_serves_again() {
    let gateway = Gateway::start("restart", "");
    let tenant = gateway.tenant("restart", &["api.example.com:7000"]);
    tenant.echo("api.example.com:7000");
    assert_eq!(gateway.end("KILL").signal(), Some(9));
    assert!(tenant.connect(PROXY).is_err() && tenant.look_up("api.example.com", 1).is_none());
    gateway.restart();
    eventually("service again", Duration::from_secs(3), || tenant.tunnel("api.example.com:7000").is_ok());
    assert!(gateway.end("TERM").success(), "{}", gateway.log());
    gateway.restart();
    eventually("service again", Duration::from_secs(3), || tenant.tunnel("api.example.com:7000").is_ok());
}

fn who_connects_between_two_gateways_waits_for_the_next() {
    let keeper = Keeper::start("keeper");
    let gateway = Gateway::start_kept("kept", &keeper);
    let tenant = gateway.tenant("kept", &["api.example.com:7000"]);
    tenant.echo("api.example.com:7000");
    assert_eq!(keeper.names(), ["names", "port-3128", "port-443", "port-53", "port-7000", "port-80"]);
    for signal in ["KILL", "TERM"] {
        gateway.end(signal);
        let mut waiting = tenant.connect(PROXY).expect("the socket is still there");
        waiting.write_all(b"CONNECT api.example.com:7000 HTTP/1.1\r\nHost: api.example.com:7000\r\n\r\n").unwrap();
        gateway.restart();
        let answer = read_answer(&mut waiting);
        assert!(answer.starts_with("HTTP/1.1 200 ") && echoes(&mut waiting, "hello"), "{signal}: {answer}");
        assert!(tenant.look_up("api.example.com", 1).is_some(), "{signal}");
    }
    tenant.allow(&[]);
    eventually("the port is given up", Duration::from_secs(3), || !keeper.names().contains(&"port-7000".to_owned()));

    // Sockets of a namespace that is gone serve nobody.
    gateway.end("TERM");
    run("umount", &format!("/run/netns/{}", gateway.namespace));
    run("rm", &format!("/run/netns/{}", gateway.namespace));
    gateway.restart();
    let other = gateway.tenant("after", &["api.example.com:7000"]);
    other.echo("api.example.com:7000");
}

fn it_serves_and_is_closed_under_any_mask() {
    world();
    // That of its unit, and the two ends of what there is.
    for (number, mask) in ["027", "077", "000"].into_iter().enumerate() {
        let gateway = Gateway::start_under(&format!("mask-{number}"), mask);
        let tenant = gateway.tenant(&format!("mask-{number}"), &["api.example.com:7000"]);
        tenant.echo("api.example.com:7000");
        let folder = gateway.settings().parent().unwrap().to_owned();
        for name in ["egress", "state"] {
            let mode = fs::metadata(folder.join(name)).unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o750, "{mask}: {name} is for the gateway's group");
        }
        for entry in fs::read_dir(folder.join("state")).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
            let expected = if path.ends_with("gateway.sock") { 0o660 } else { mode & 0o700 };
            assert_eq!(mode, expected, "{mask}: {}", path.display());
        }
    }
}

fn it_says_what_is_missing() {
    let settings = world().gateway.settings();
    let text = fs::read_to_string(&settings).unwrap().replace("user: nobody", "user: no-such-user");
    let other = settings.with_file_name("other.yaml");
    fs::write(&other, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tenantd")).args(["gateway", "--host"]).arg(other).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("no user \"no-such-user\""), "{error}");
}
