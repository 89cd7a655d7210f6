//! Declarations out of small pools of values, so that two of them often have something in common.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{
    collection::{btree_map, btree_set},
    option,
    prelude::*,
    sample::select,
};

use crate::model::{
    Access, Bytes, Destination, DriftMode, Expose, RuntimeClass, Tenant,
    desired::{HeldRule, Limits, Sandbox},
    egress::{Budget, Cost, Inject, Route, StreamMode},
    files::{Apply, ConfigFile, Content},
    workspace::Restore,
};

const DESTINATIONS: [&str; 10] = [
    "a.example.com:443",
    "b.example.com:443",
    "a.example.com:80",
    "*.example.com:443",
    "*.b.example.com:443",
    "c.b.example.com:443",
    "10.0.0.0/8:443",
    "10.1.0.0/16:443",
    "10.1.0.7:443",
    "10.2.0.0/16:443",
];

const VARIABLES: [&str; 8] =
    ["A", "B", "LD_PRELOAD", "LD_LIBRARY_PATH", "HTTP_PROXY", "https_proxy", "NO_PROXY", "NODE_OPTIONS"];

fn sealed(number: u8) -> String {
    format!("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl{number}A==\n-----END AGE ENCRYPTED FILE-----")
}

fn route() -> impl Strategy<Value = Route> {
    let cost =
        (1..3u64, option::of(select(vec!["/usage", "/cost"])), select(vec![StreamMode::Refuse, StreamMode::Meter]));
    (0..3u8, 0..2u8, 0..2u8, option::of(cost)).prop_map(|(name, upstream, secret, cost)| Route {
        name: format!("r{name}").parse().unwrap(),
        upstream: format!("https://up{upstream}.example.com").parse().unwrap(),
        inject: Inject::Header {
            name: "authorization".to_owned(),
            value: format!("Bearer ${{secret:s{secret}}}").parse().unwrap(),
        },
        cost: cost.map(|(reserve, settle, stream)| Cost { reserve, settle: settle.map(str::to_owned), stream }),
    })
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    proptest::collection::vec(route(), 0..4).prop_map(|routes| {
        let by_name: BTreeMap<String, Route> = routes.into_iter().map(|one| (one.name.to_string(), one)).collect();
        by_name.into_values().collect()
    })
}

fn files() -> impl Strategy<Value = Vec<ConfigFile>> {
    btree_map(0..3u8, (0..2u8, select(vec![Apply::Restart, Apply::InPlace])), 0..3).prop_map(|files| {
        let file = |(path, (content, apply)): (u8, (u8, Apply))| ConfigFile {
            path: format!("f{path}"),
            content: Content::new(Arc::from(vec![content])),
            apply,
        };
        files.into_iter().map(file).collect()
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..4u8, 1..4u64, 1..4u8, 1..4u64).prop_map(|(cpus, memory, pids, disk)| Limits {
        cpus: cpus.to_string().parse().unwrap(),
        memory: Bytes::mib(64 * memory),
        pids: (100 * u32::from(pids)).to_string().parse().unwrap(),
        disk: Bytes::mib(100 * disk),
    })
}

fn sandbox() -> impl Strategy<Value = Sandbox> {
    (1..3u64, 1..3u64, 1..3u32, any::<bool>(), 1..3u64, 1..3u32, any::<bool>(), any::<bool>()).prop_map(
        |(tmp, shm, open_files, init, log_size, log_files, log_compress, workspace_noexec)| Sandbox {
            tmp_size: Bytes::mib(tmp),
            shm_size: Bytes::mib(shm),
            open_files,
            init,
            log_size: Bytes::mib(log_size),
            log_files,
            log_compress,
            workspace_noexec,
        },
    )
}

/// Any declaration of the tenant `ant`.
pub fn tenant() -> impl Strategy<Value = Tenant> {
    let images = vec!["agent:1".to_owned(), "agent:2".to_owned(), format!("agent@sha256:{}", "a".repeat(64))];
    let runs = (
        select(vec!["free", "pro"]),
        select(RuntimeClass::ALL.to_vec()),
        select(images),
        option::of(Just(vec!["run".to_owned()])),
        btree_map(select(VARIABLES.to_vec()), select(vec!["1", "2"]), 0..4),
        files(),
        sandbox(),
    );
    let opens = (
        option::of(select(vec!["docs", "data"])),
        btree_set(select(DESTINATIONS.to_vec()), 0..5),
        (btree_map(1..4u16, option::of(select(vec!["/a", "/b"])), 0..3), select(vec![Access::Token, Access::Public])),
        routes(),
        btree_map(0..2u8, 0..2u8, 0..2),
        (option::of(1..4u64), option::of(1..4u64)),
    );
    let kept = (
        limits(),
        0..3u32,
        select(vec![DriftMode::Disabled, DriftMode::Warn, DriftMode::Enabled]),
        option::of(select(vec![
            Restore::Nothing,
            Restore::Entry("ant.1".to_owned()),
            Restore::Entry("ant.2".to_owned()),
        ])),
        btree_set((0..2u8, 0..2u8), 0..3),
    );
    (runs, opens, kept).prop_map(|(runs, opens, (limits, sessions, drift, restore, rules))| {
        let (tier, class, image, command, environment, files, sandbox) = runs;
        let (source, allowlist, (expose, access), routes, secrets, (day, month)) = opens;
        let exposed = |(port, path): (u16, Option<&str>)| (port, Expose { path: path.map(|it| it.parse().unwrap()) });
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let rule = |(path, digest): (u8, u8)| HeldRule { path: format!("rules/{path}"), digest: digest.to_string() };
        let secret = |(name, value): (u8, u8)| (format!("s{name}").parse().unwrap(), sealed(value).parse().unwrap());
        Tenant {
            name: "ant".parse().unwrap(),
            tier: tier.parse().unwrap(),
            class,
            image: image.parse().unwrap(),
            command,
            environment: environment.into_iter().map(owned).collect(),
            limits,
            disk_room: Bytes::mib(if tier == "pro" { 2048 } else { 1024 }),
            source: source.map(str::to_owned),
            files,
            restore,
            sessions,
            allowlist: allowlist.iter().map(|text| text.parse::<Destination>().unwrap()).collect::<BTreeSet<_>>(),
            expose: expose.into_iter().map(exposed).collect(),
            access,
            routes,
            sealed: secrets.into_iter().map(secret).collect(),
            budget: Budget { day, month },
            sandbox,
            drift,
            rules: rules.into_iter().map(rule).collect(),
        }
    })
}
