//! The simulated engine, asked over its socket as a client asks it.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tenantd_test_support::{Options, Runtime, SimEngine, When, recorded_engines};
use tokio::net::UnixStream;
use tokio::time::timeout;

type Failure = Box<dyn std::error::Error>;

/// One connection to the engine.
struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn new(engine: &SimEngine) -> Result<Self, Failure> {
        let stream = UnixStream::connect(engine.socket()).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    async fn send(&mut self, method: &str, path: &str, body: Value) -> Result<Response<Incoming>, Failure> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(path).header("Host", "docker");
        self.0.ready().await?;
        Ok(self.0.send_request(request.body(Full::from(body))?).await?)
    }

    async fn ask(&mut self, method: &str, path: &str, body: Value) -> Result<(u16, Value), Failure> {
        let answer = self.send(method, path, body).await?;
        let status = answer.status().as_u16();
        let text = answer.into_body().collect().await?.to_bytes();
        Ok((status, if text.is_empty() { Value::Null } else { serde_json::from_slice(&text)? }))
    }
}

/// Asks on a connection of its own, as somebody who hangs up afterwards.
async fn ask(engine: &SimEngine, method: &str, path: &str, body: Value) -> Result<(u16, Value), Failure> {
    Client::new(engine).await?.ask(method, path, body).await
}

fn tenant(network: &str) -> Value {
    json!({
        "Image": "tenantd/test:1",
        "Labels": {"io.tenantd.tenant": "one"},
        "HostConfig": {"NetworkMode": network, "Memory": 64 << 20, "PidsLimit": 64, "Tmpfs": {"/tmp": ""}},
    })
}

fn network(name: &str, subnet: &str) -> Value {
    json!({"Name": name, "CheckDuplicate": true, "IPAM": {"Config": [{"Subnet": subnet}]}})
}

fn message(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["message"].as_str().unwrap_or_default())
}

fn engine_with_tenant() -> SimEngine {
    let engine = SimEngine::start(Options::default());
    engine.act("POST", "/networks/create", &network("n-one", "10.1.0.0/29"));
    engine.act("POST", "/containers/create?name=t-one", &tenant("n-one"));
    engine
}

#[tokio::test]
async fn a_tenant_lives_through_its_states() -> Result<(), Failure> {
    let engine = SimEngine::start(Options::default());
    let client = &mut Client::new(&engine).await?;
    let (status, made) = client.ask("POST", "/v1.41/networks/create", network("n-one", "10.1.0.0/29")).await?;
    assert_eq!(status, 201);
    let (status, created) = client.ask("POST", "/v1.41/containers/create?name=t-one", tenant("n-one")).await?;
    assert_eq!((status, &created["Warnings"]), (201, &json!([])));
    let id = created["Id"].as_str().unwrap_or_default();
    assert_eq!(id.len(), 64);

    let (_, doc) = client.ask("GET", &format!("/v1.41/containers/{id}/json"), Value::Null).await?;
    assert_eq!(doc["HostConfig"]["MemorySwap"], 128 << 20);
    assert_eq!(doc["HostConfig"]["IpcMode"], "private");
    assert_eq!(doc["HostConfig"]["MaskedPaths"].as_array().map(Vec::len), Some(10));
    assert_eq!(doc["Config"]["Hostname"], id[..12]);
    assert_eq!(doc["Config"]["Env"], json!(["PATH=/bin"]));
    assert_eq!(doc["Mounts"], json!([]), "tmpfs is not listed");
    assert_eq!(doc["NetworkSettings"]["Networks"]["n-one"]["NetworkID"], "");

    for (path, expected) in [("start", 204), ("start", 304), ("pause", 204), ("unpause", 204)] {
        let (status, _) = client.ask("POST", &format!("/containers/{id}/{path}"), Value::Null).await?;
        assert_eq!(status, expected, "{path}");
    }
    let filter = "all=1&filters=%7B%22label%22%3A%5B%22io.tenantd.tenant%3Done%22%5D%7D";
    let (_, list) = client.ask("GET", &format!("/containers/json?{filter}"), Value::Null).await?;
    assert_eq!(list[0]["Names"], json!(["/t-one"]));
    assert_eq!(list[0]["State"], "running");
    let endpoint = &list[0]["NetworkSettings"]["Networks"]["n-one"];
    assert_eq!((&endpoint["NetworkID"], &endpoint["IPAddress"]), (&made["Id"], &json!("10.1.0.2")));

    let refused = client.ask("DELETE", "/networks/n-one", Value::Null).await?;
    let (status, text) = message(&refused);
    assert_eq!(status, 403);
    assert!(text.ends_with("has active endpoints"), "{text}");
    let (status, _) = client.ask("DELETE", &format!("/containers/{id}"), Value::Null).await?;
    assert_eq!(status, 409, "it runs");

    client.ask("POST", &format!("/containers/{id}/stop"), Value::Null).await?;
    engine.with(|state| {
        let doc = state.container("t-one").ok_or("t-one is there")?;
        assert_eq!(doc["State"]["Status"], "exited");
        assert_eq!(doc["NetworkSettings"]["Networks"]["n-one"]["NetworkID"], made["Id"]);
        Ok::<(), Failure>(())
    })?;
    let (status, _) = client.ask("DELETE", "/networks/n-one", Value::Null).await?;
    assert_eq!(status, 204, "a stopped container does not hold a network");
    let gone = client.ask("POST", "/containers/t-one/start", Value::Null).await?;
    let pinned = format!("network {} not found", made["Id"].as_str().unwrap_or_default());
    assert_eq!(message(&gone), (404, pinned.as_str()));
    assert_eq!(engine.mutations(), 7, "refusals and repetitions change nothing");
    Ok(())
}

#[tokio::test]
async fn names_ids_and_subnets_collide_as_they_do() -> Result<(), Failure> {
    let engine = engine_with_tenant();
    let id = engine.containers()[0]["Id"].as_str().unwrap_or_default().to_owned();
    let taken = ask(&engine, "POST", "/containers/create?name=t-one", tenant("n-one")).await?;
    let text = format!(
        "Conflict. The container name \"/t-one\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    );
    assert_eq!(message(&taken), (409, text.as_str()));
    let twin = ask(&engine, "POST", "/networks/create", network("n-one", "10.1.0.8/29")).await?;
    assert_eq!(message(&twin), (409, "network with name n-one already exists"));
    let overlap = ask(&engine, "POST", "/networks/create", network("n-two", "10.1.0.0/28")).await?;
    assert_eq!(message(&overlap), (403, "Pool overlaps with other one on this address space"));

    engine.with(|state| state.options.check_duplicate_networks = false);
    let twin = ask(&engine, "POST", "/networks/create", network("n-one", "10.1.0.8/29")).await?;
    assert_eq!(twin.0, 201);
    let ambiguous = ask(&engine, "GET", "/networks/n-one", Value::Null).await?;
    assert_eq!(message(&ambiguous), (400, "2 matches found based on name: network n-one is ambiguous"));

    let (status, _) = ask(&engine, "DELETE", &format!("/containers/{}", &id[..2]), Value::Null).await?;
    assert_eq!((status, engine.containers().len()), (204, 0), "two digits of an id are enough");
    let gone = ask(&engine, "GET", &format!("/containers/{id}/json"), Value::Null).await?;
    assert_eq!(message(&gone), (404, format!("No such container: {id}").as_str()));
    Ok(())
}

#[tokio::test]
async fn create_refuses_with_the_engines_words() -> Result<(), Failure> {
    let engine = SimEngine::start(Options::default());
    for (change, status, words) in [
        (json!({"Image": "nope"}), 404, "No such image: nope:latest"),
        (json!({"HostConfig": {"Runtime": "zap"}}), 400, "Unknown runtime specified zap"),
        (json!({"HostConfig": {"Memory": 1}}), 400, "Minimum memory limit allowed is 6MB"),
        (
            json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/no/such", "Target": "/m"}]}}),
            400,
            "invalid mount config for type \"bind\": bind source path does not exist: /no/such",
        ),
    ] {
        let mut body = json!({"Image": "tenantd/test:1"});
        for (key, value) in change.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let refused = ask(&engine, "POST", "/containers/create?name=t-one", body).await?;
        assert_eq!(message(&refused), (status, words));
    }
    let (status, _) = ask(&engine, "POST", "/containers/create?name=t-one", tenant("gone")).await?;
    assert_eq!(status, 201, "an unknown network is found out at start");
    let refused = ask(&engine, "POST", "/containers/t-one/start", Value::Null).await?;
    assert_eq!(message(&refused), (404, "network gone not found"));
    Ok(())
}

#[tokio::test]
async fn limits_that_the_kernel_lacks_are_dropped_with_a_warning() -> Result<(), Failure> {
    let mut options = Options::default();
    options.limits.pids = false;
    options.limits.swap = false;
    let engine = SimEngine::start(options);
    let (_, created) = ask(&engine, "POST", "/containers/create?name=t-one", tenant("none")).await?;
    assert_eq!(created["Warnings"].as_array().map(Vec::len), Some(2));
    let host = &engine.containers()[0]["HostConfig"];
    assert_eq!((&host["PidsLimit"], &host["MemorySwap"]), (&Value::Null, &json!(-1)));
    let (_, info) = ask(&engine, "GET", "/info", Value::Null).await?;
    assert_eq!((&info["PidsLimit"], &info["MemoryLimit"]), (&json!(false), &json!(true)));
    Ok(())
}

#[tokio::test]
async fn update_changes_what_it_can() -> Result<(), Failure> {
    let engine = engine_with_tenant();
    let path = "/containers/t-one/update";
    let mib = 1 << 20;
    let (status, _) = ask(&engine, "POST", path, json!({"Memory": 0, "CapAdd": ["ALL"]})).await?;
    assert_eq!((status, engine.mutations()), (200, 0), "zero is unchanged, the rest is ignored");
    let refused = ask(&engine, "POST", path, json!({"Memory": 256 * mib})).await?;
    let (status, text) = message(&refused);
    assert_eq!(status, 409);
    assert!(text.ends_with("already set memoryswap limit, update the memoryswap at the same time"));
    let both = json!({"Memory": 256 * mib, "MemorySwap": 256 * mib, "PidsLimit": 0});
    assert_eq!(ask(&engine, "POST", path, both).await?.0, 200);
    let host = &engine.containers()[0]["HostConfig"];
    assert_eq!((&host["Memory"], &host["PidsLimit"]), (&json!(256 * mib), &json!(0)), "no limit");

    engine.with(|state| state.container_mut("t-one")["HostConfig"]["Runtime"] = "runsc".into());
    engine.act("POST", "/containers/t-one/start", &Value::Null);
    let refused = ask(&engine, "POST", path, json!({"PidsLimit": 5})).await?;
    assert_eq!(refused.0, 500, "runsc has no live update");
    assert_eq!(engine.containers()[0]["HostConfig"]["PidsLimit"], 0);
    Ok(())
}

#[tokio::test]
async fn a_cut_call_has_its_effect_or_not() -> Result<(), Failure> {
    for (when, status) in [(When::BeforeEffect, "created"), (When::AfterEffect, "running")] {
        let engine = engine_with_tenant();
        engine.cut_after_matching(1, when, tenantd_test_support::Call::mutates);
        assert_eq!(ask(&engine, "GET", "/_ping", Value::Null).await.map_err(|_| ()).err(), Some(()), "not JSON");
        assert!(!engine.is_cut());
        assert!(ask(&engine, "POST", "/containers/t-one/start", Value::Null).await.is_err());
        assert!(engine.is_cut());
        assert!(ask(&engine, "POST", "/containers/t-one/kill", Value::Null).await.is_err());
        assert!(ask(&engine, "GET", "/version", Value::Null).await.is_err());
        assert_eq!(engine.containers()[0]["State"]["Status"], status);
        engine.heal();
        assert_eq!(ask(&engine, "GET", "/version", Value::Null).await?.0, 200);
        assert_eq!(engine.calls().len(), 5);
    }
    Ok(())
}

#[tokio::test]
async fn an_abandoned_call_takes_effect_once_it_is_freed() -> Result<(), Failure> {
    let engine = engine_with_tenant();
    engine.hang(|call| call.path.ends_with("/start"));
    let limit = Duration::from_millis(50);
    let start = ask(&engine, "POST", "/containers/t-one/start", Value::Null);
    assert!(timeout(limit, start).await.is_err());
    assert_eq!(engine.containers()[0]["State"]["Status"], "created");
    engine.release();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if engine.mutations() > 0 {
            break;
        }
    }
    assert_eq!(engine.containers()[0]["State"]["Status"], "running");
    Ok(())
}

#[tokio::test]
async fn a_runtime_that_hangs_holds_up_its_container_only() -> Result<(), Failure> {
    let engine = engine_with_tenant();
    engine.with(|state| {
        state.options.runtimes.push(Runtime { hangs: true, ..Runtime::new("stuck") });
        state.container_mut("t-one")["HostConfig"]["Runtime"] = "stuck".into();
    });
    let limit = Duration::from_millis(50);
    for (method, path) in [
        ("POST", "/containers/t-one/start"),
        ("GET", "/containers/t-one/json"),
        ("DELETE", "/containers/t-one?force=1"),
    ] {
        assert!(timeout(limit, ask(&engine, method, path, Value::Null)).await.is_err(), "{path}");
    }
    let (_, list) = ask(&engine, "GET", "/containers/json?all=true", Value::Null).await?;
    assert_eq!(list[0]["State"], "created");
    engine.release();
    let deadline = Duration::from_secs(5);
    while !engine.containers().is_empty() {
        timeout(deadline, tokio::time::sleep(Duration::from_millis(5))).await?;
    }
    assert_eq!(engine.mutations(), 2, "the start that was given up, then the removal");
    Ok(())
}

#[tokio::test]
async fn events_tell_what_happened() -> Result<(), Failure> {
    let engine = engine_with_tenant();
    let filter = "filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%7D";
    let mut listener = Client::new(&engine).await?;
    let mut stream = listener.send("GET", &format!("/events?since=0&{filter}"), Value::Null).await?.into_body();
    engine.act("POST", "/containers/t-one/start", &Value::Null);
    engine.with(|state| state.exit("t-one", 3, true));
    engine.end_event_streams();
    let mut text = Vec::new();
    while let Some(frame) = stream.frame().await {
        text.extend_from_slice(frame?.data_ref().ok_or("a frame has data")?);
    }
    let mut seen = Vec::new();
    for line in String::from_utf8(text)?.lines() {
        let event: Value = serde_json::from_str(line)?;
        seen.push(format!("{} {}", event["Type"].as_str().unwrap_or(""), event["Action"].as_str().unwrap_or("")));
    }
    let expected = [
        "network create",
        "container create",
        "network connect",
        "container start",
        "container oom",
        "container die",
        "network disconnect",
    ];
    assert_eq!(seen, expected);
    Ok(())
}

#[tokio::test]
async fn every_recorded_engine_keeps_its_bounds() -> Result<(), Failure> {
    for release in recorded_engines() {
        let engine = SimEngine::start(Options::engine(release));
        let (_, version) = ask(&engine, "GET", "/version", Value::Null).await?;
        let [max, min] = ["ApiVersion", "MinAPIVersion"].map(|key| version[key].as_str().unwrap_or_default());
        assert_eq!(version["Components"][0]["Details"]["MinAPIVersion"], min, "{release}");
        for bound in [min, max] {
            let (status, _) = ask(&engine, "GET", &format!("/v{bound}/info"), Value::Null).await?;
            assert_eq!(status, 200, "{release} {bound}");
        }
        let old = ask(&engine, "GET", "/v1.9/info", Value::Null).await?;
        let text = format!(
            "client version 1.9 is too old. Minimum supported API version is {min}, please upgrade your client to a newer version"
        );
        assert_eq!(message(&old), (400, text.as_str()));
        let new = ask(&engine, "GET", "/v1.99/info", Value::Null).await?;
        let text = format!("client version 1.99 is too new. Maximum supported API version is {max}");
        assert_eq!(message(&new), (400, text.as_str()));
    }
    Ok(())
}

#[test]
fn worlds_compare_without_ids_and_times() {
    let one = engine_with_tenant();
    let other = SimEngine::start(Options { seed: 2, ..Options::default() });
    other.act("POST", "/containers/create?name=t-one", &tenant("n-one"));
    other.act("POST", "/networks/create", &network("n-one", "10.1.0.0/29"));
    assert_ne!(one.containers()[0]["Id"], other.containers()[0]["Id"]);
    assert_eq!(one.dump(), other.dump());
    other.with(|state| state.container_mut("t-one")["HostConfig"]["ReadonlyRootfs"] = true.into());
    assert_ne!(one.dump(), other.dump());
}
