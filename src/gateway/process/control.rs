//! A proxy's own socket: counters for Prometheus, and whether it is alive.

use std::{convert::Infallible, fs, io, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes, header, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::UnixListener,
    sync::Semaphore,
    time::{sleep, timeout},
};

/// How many are answered at once, and how long one may take.
const CLIENTS: usize = 16;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long is waited where a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// The type of the counters' text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Listens on a socket, for this process's user and group. The one of a process before is replaced.
///
/// # Errors
/// The kernel refuses.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let new = path.with_extension(format!("sock.{}", std::process::id()));
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o660))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

/// Answers until the end of the process. `counters` writes the text form of OpenMetrics.
pub async fn serve(listener: UnixListener, counters: impl Fn() -> String + Send + Sync + 'static) {
    let counters = Arc::new(counters);
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to this process's own socket");
                sleep(PAUSE).await;
                continue;
            }
        };
        let counters = Arc::clone(&counters);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let response = answer(counters.as_ref(), request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(response) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).keep_alive(false);
            // Who asks wrongly or too slowly gets no answer.
            let _ = timeout(REQUEST_TIMEOUT, server.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}

fn answer(counters: &impl Fn() -> String, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        _ if method != Method::GET => (StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".to_owned()),
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/metrics" => (StatusCode::OK, counters()),
        _ => (StatusCode::NOT_FOUND, "there are /metrics and /healthz\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = if path == "/metrics" { OPEN_METRICS } else { "text/plain; charset=utf-8" };
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
