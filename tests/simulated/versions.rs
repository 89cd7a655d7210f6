//! Engines 20.10 to 29, by what each of them answers.

use std::sync::Arc;

use tenantd::model::{RuntimeClass, Tenant};
use tenantd_test_support::{Options, SimEngine, recorded_engines};

use crate::world::{World, fleet, tenant};

/// The release and the version of the API that is spoken with it: 29 refuses anything older than
/// 1.44, which every engine since 25 speaks.
const SPOKEN: [(&str, &str); 8] = [
    ("20.10", "1.41"),
    ("23.0", "1.42"),
    ("24.0", "1.43"),
    ("25.0", "1.44"),
    ("26.1", "1.44"),
    ("27.5", "1.44"),
    ("28.2", "1.44"),
    ("29.0", "1.44"),
];

#[test]
fn every_supported_engine_is_spoken_to_in_a_version_that_it_knows_and_converges() {
    assert!(recorded_engines().eq(SPOKEN.map(|(release, _)| release)), "each recorded engine has its row");
    for (release, api) in SPOKEN {
        let world = World::of(Options::engine(release));
        let mut desired = fleet([tenant("ant"), Tenant { class: RuntimeClass::Gvisor, ..tenant("bee") }]);
        world.converge(&desired);
        for tenant in desired.tenants.values_mut().map(Arc::make_mut) {
            tenant.limits.memory = "256MiB".parse().unwrap();
            tenant.command = Some(vec!["/serve".to_owned()]);
        }
        world.converge(&desired);
        world.converge(&fleet([]));

        let calls = world.engine.take_calls();
        let (asked, spoken): (Vec<_>, Vec<_>) =
            calls.iter().partition(|call| ["/_ping", "/version"].contains(&call.path.as_str()));
        assert!(asked.iter().all(|call| call.version.is_none()), "{release}");
        let other: Vec<String> =
            spoken.iter().filter(|call| call.version.as_deref() != Some(api)).map(|call| call.to_string()).collect();
        assert!(spoken.len() > 20 && other.is_empty(), "{release}: not in {api}: {other:?}");
        assert_eq!(world.observe(&desired).engine.api_version, api);
    }
}

/// What is said of an engine that speaks these versions of the API.
fn refusal(engine: &str, newest: &str, oldest: &str) -> String {
    let mut options = Options::default();
    options.version["Version"] = engine.into();
    options.version["ApiVersion"] = newest.into();
    options.version["MinAPIVersion"] = oldest.into();
    let world = World::of(options);
    let refused = world.try_plan(&fleet([])).err().unwrap();
    let calls: Vec<String> = world.engine.calls().iter().map(ToString::to_string).collect();
    assert_eq!(calls, ["GET /_ping", "GET /version"], "{engine} is asked for its version and nothing else");
    refused
}

#[test]
fn an_engine_that_is_too_old_or_too_new_is_refused_with_what_is_needed() {
    assert_eq!(
        refusal("19.03.15", "1.40", "1.12"),
        "Docker Engine 19.03.15 speaks API 1.40 at most; at least 1.41 is needed, which 20.10 has"
    );
    assert_eq!(
        refusal("33.0.0", "1.60", "1.50"),
        "Docker Engine 33.0.0 refuses API versions below 1.50; 1.44 is the newest that is spoken here"
    );
    assert_eq!(refusal("0", "soon", "1.12"), "the engine names the API version \"soon\", which is none");
}

#[test]
fn a_socket_that_is_no_engines_is_said_by_its_path() {
    let mut world = World::new();
    world.host.engine = world.folder().join("none.sock");
    let error = world.try_plan(&fleet([])).err().unwrap();
    assert!(error.starts_with(&format!("no Docker Engine answers on {}", world.host.engine.display())), "{error}");

    let gone = SimEngine::start(Options::default());
    world.host.engine = gone.socket().to_owned();
    drop(gone);
    assert!(world.try_plan(&fleet([])).is_err());
}
