//! The gateway's own socket: counters for Prometheus, and whether it is alive.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes, header, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::{
    net::UnixListener,
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::listening::shared::Shared;

/// How many are answered at once, and how long one may take.
const CLIENTS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);

/// How long is waited where a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket's name in the gateway's folder.
const NAME: &str = "gateway.sock";

/// Where the socket is, by the gateway's own folder.
pub fn socket(state: &Path) -> PathBuf {
    state.join(NAME)
}

/// Listens on the socket, for the gateway's user and group. The one of a gateway before is replaced.
pub(crate) fn listen(state: &Path) -> io::Result<UnixListener> {
    let (path, new) = (socket(state), state.join(format!("{NAME}.{}", std::process::id())));
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o660))?;
    fs::rename(&new, &path)?;
    Ok(listener)
}

/// Answers until the end of the process.
pub(crate) async fn serve(shared: Arc<Shared>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the gateway's socket");
                sleep(PAUSE).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let response = answer(&shared, request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(response) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).keep_alive(false);
            // Who asks wrongly or too slowly gets no answer.
            let _ = timeout(PATIENCE, server.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}

fn answer(shared: &Shared, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        _ if method != Method::GET => (StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".to_owned()),
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/metrics" => (StatusCode::OK, metrics(shared)),
        _ => (StatusCode::NOT_FOUND, "there are /metrics and /healthz\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// All counters in Prometheus' text format. Labels are names of tenants and rules, which hold nothing
/// that must be escaped.
fn metrics(shared: &Shared) -> String {
    let mut text = String::new();
    let mut one = |name: &str, kind: &str, help: &str, values: &BTreeMap<String, u64>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let plain = |value: u64| BTreeMap::from([(String::new(), value)]);
    let tenants = shared.tenants.clients();
    let open =
        tenants.iter().map(|client| (tenant(client.name()), shared.pools.connections.of(client.name()))).collect();
    let refused = shared.refusals.counts().into_iter();
    let refused =
        refused.map(|((name, rule), count)| (format!("{{tenant=\"{name}\",rule=\"{rule}\"}}"), count)).collect();
    one("tenantd_gateway_tenants", "gauge", "Tenants that are served.", &plain(tenants.len() as u64));
    one("tenantd_gateway_connections", "gauge", "Open connections of a tenant.", &open);
    one("tenantd_gateway_connections_total", "counter", "Connections that came in.", &plain(shared.accepted.get()));
    one(
        "tenantd_gateway_questions_total",
        "counter",
        "Questions to the name server inside.",
        &plain(shared.questions.get()),
    );
    one("tenantd_gateway_cut_total", "counter", "Connections cut by a change of policy.", &plain(shared.cut.get()));
    one(
        "tenantd_gateway_called_back_total",
        "counter",
        "Connections cut because another tenant needed their place.",
        &plain(shared.called_back.get()),
    );
    let dropped = tenants.iter().map(|client| (tenant(client.name()), client.load.dropped.load(Ordering::Relaxed)));
    one(
        "tenantd_gateway_dropped_questions_total",
        "counter",
        "Questions of a tenant that got no answer because there were too many.",
        &dropped.collect(),
    );
    let stalled = tenants.iter().map(|client| (tenant(client.name()), client.load.stalled.load(Ordering::Relaxed)));
    one(
        "tenantd_gateway_stalled_total",
        "counter",
        "Connections cut because nobody took what waited, for too long or too much of it.",
        &stalled.collect(),
    );
    let memory = tenants.iter().map(|client| (tenant(client.name()), shared.pools.memory.of(client.name())));
    one("tenantd_gateway_memory_bytes", "gauge", "Bytes that wait in memory for a tenant.", &memory.collect());
    one("tenantd_gateway_refusals_total", "counter", "What was refused, by tenant and rule.", &refused);
    let unrecorded = shared.refusals.unrecorded().into_iter().map(|(name, count)| (tenant(&name), count));
    one(
        "tenantd_gateway_unrecorded_refusals_total",
        "counter",
        "Refusals beyond what the journal keeps of a tenant, recorded as a sum.",
        &unrecorded.collect(),
    );
    let now = Timestamp::now();
    let left = tenants.iter().filter_map(|client| {
        let left = shared.ledger.left(client.name(), client.now().policy.budget, now)?;
        Some((tenant(client.name()), left))
    });
    let used = shared.ledger.book().credits(None).into_iter();
    let used =
        used.map(|((name, route), credits)| (format!("{{tenant=\"{name}\",destination=\"route:{route}\"}}"), credits));
    one("tenantd_egress_credits", "gauge", "Credits that are used or set aside.", &used.collect());
    one("tenantd_egress_credits_left", "gauge", "Credits that a tenant's budget has left.", &left.collect());
    text.push_str(&shared.usage.render());
    text
}

fn tenant(name: &crate::model::TenantName) -> String {
    format!("{{tenant=\"{name}\"}}")
}
