//! What a webhook is sent, over real connections.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::documented::blocks;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use tenantd::{
    metrics::Metrics,
    model::{
        Revision,
        host::{Notify, NotifyEvent, Secret},
    },
    notify::{Notification, Notifier},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// A webhook that answers in a given way, the last one for all further calls. It ends with the test's
/// process.
struct Webhook {
    address: SocketAddr,
    posted: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Webhook {
    fn new(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let posted = Arc::default();
        let (log, answers) = (Arc::clone(&posted), answers.to_vec());
        thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let answer = answers.get(index).or(answers.last()).unwrap();
                serve(stream.unwrap(), answer, &log);
            }
        });
        Self { address, posted }
    }

    fn posted(&self) -> Vec<(String, Value)> {
        self.posted.lock().unwrap().clone()
    }

    fn messages(&self) -> Vec<String> {
        self.posted().iter().map(|(_, body)| body["message"].as_str().unwrap().to_owned()).collect()
    }
}

fn serve(stream: TcpStream, answer: &str, log: &Mutex<Vec<(String, Value)>>) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    log.lock().unwrap().push((head, serde_json::from_slice(&body).unwrap()));
    let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
}

/// Settings for an address, which lies in a file as it does on a host.
fn settings(folder: &TempDir, url: &str) -> Notify {
    let path = folder.path().join("url");
    fs::write(&path, format!("{url}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    of(&path)
}

fn of(path: &Path) -> Notify {
    let events = [NotifyEvent::Drift, NotifyEvent::Blocked, NotifyEvent::Held].into_iter().collect();
    Notify { url: Secret::File(path.to_owned()), events }
}

fn drift(tenant: &str, message: &str) -> Notification {
    let revision = Revision { branch: "main".to_owned(), commit: "a".repeat(40) };
    Notification {
        event: NotifyEvent::Drift,
        tenant: Some(tenant.to_owned()),
        revision: Some(revision),
        message: message.to_owned(),
    }
}

/// Runs something with a notifier, which may then finish its work.
fn with_notifier(settings: Option<Notify>, metrics: &Metrics, work: impl FnOnce(&Notifier)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let notifier = Notifier::start(settings, metrics.clone());
        work(&notifier);
        notifier.finish(Duration::from_secs(60)).await;
    });
}

fn count(metrics: &Metrics, result: &str) -> u64 {
    let name = format!("tenantd_notifications_total{{result=\"{result}\"}} ");
    metrics.render(None).lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

#[test]
fn a_webhook_that_fails_twice_is_tried_until_it_takes_the_message() {
    let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
    let webhook = Webhook::new(&["500 Internal Server Error", "429 Too Many Requests\r\nRetry-After: 1", "200 OK"]);
    let settings = settings(&folder, &format!("http://{}/T0/s3cret?a=b", webhook.address));
    with_notifier(Some(settings), &metrics, |notifier| notifier.notify(drift("ant", "memory was raised")));
    let posted = webhook.posted();
    assert_eq!(posted.len(), 3);
    let (head, body) = &posted[2];
    assert!(head.starts_with("POST /T0/s3cret?a=b HTTP/1.1"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    assert_eq!(posted[0].1, *body, "it is the same message each time");
    assert_eq!(
        (&body["event"], &body["tenant"], &body["message"]),
        (&"drift".into(), &"ant".into(), &"memory was raised".into())
    );
    assert_eq!(body["revision"], format!("main@sha1:{}", "a".repeat(40)));
    assert!(body["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{body}");
    assert!(!body["host"].as_str().unwrap().is_empty());
    let documented = blocks(include_str!("../../docs/operations.md"), "json");
    let documented: Value =
        documented.iter().map(|(_, block)| serde_json::from_str(block).unwrap()).next_back().unwrap();
    let names = |message: &Value| message.as_object().unwrap().keys().cloned().collect::<Vec<String>>();
    assert_eq!(names(&documented), names(body));
    assert_eq!((count(&metrics, "sent"), count(&metrics, "failed")), (1, 0));
}

#[test]
fn what_a_webhook_refuses_for_good_is_given_up_and_the_next_message_goes_on() {
    for answer in ["400 Bad Request", "404 Not Found", "302 Found\r\nLocation: /elsewhere"] {
        let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
        let webhook = Webhook::new(&[answer, "204 No Content"]);
        let settings = settings(&folder, &format!("http://{}/hook", webhook.address));
        with_notifier(Some(settings), &metrics, |notifier| {
            notifier.notify(drift("ant", "first"));
            notifier.notify(drift("ant", "second"));
        });
        assert_eq!(webhook.messages(), ["first", "second"], "{answer}");
        assert_eq!((count(&metrics, "sent"), count(&metrics, "failed")), (1, 1), "{answer}");
    }
}

#[test]
fn only_what_is_wanted_is_reported_and_each_thing_once() {
    let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
    let webhook = Webhook::new(&["200 OK"]);
    let settings = settings(&folder, &format!("http://{}/", webhook.address));
    with_notifier(Some(settings), &metrics, |notifier| {
        for _ in 0..3 {
            notifier.notify(drift("ant", "memory was raised"));
        }
        notifier.notify(drift("bee", "memory was raised"));
        notifier.notify(Notification { event: NotifyEvent::Failed, ..drift("ant", "it is not wanted") });
        notifier.notify(Notification { event: NotifyEvent::Held, tenant: None, ..drift("", "30 tenants would go") });
        notifier.notify(drift("ant", &"ä".repeat(5000)));
    });
    let messages = webhook.messages();
    assert_eq!(messages[..3], ["memory was raised", "memory was raised", "30 tenants would go"]);
    assert_eq!(messages[3].chars().count(), 2001, "a long one is cut");
    assert_eq!(webhook.posted()[2].1["tenant"], Value::Null);
    assert_eq!((count(&metrics, "sent"), count(&metrics, "merged")), (4, 2));
}

#[test]
fn too_many_messages_push_the_oldest_out_and_hold_up_nobody() {
    let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
    let webhook = Webhook::new(&["200 OK"]);
    let settings = settings(&folder, &format!("http://{}/", webhook.address));
    with_notifier(Some(settings), &metrics, |notifier| {
        for number in 0..300 {
            notifier.notify(drift("ant", &number.to_string()));
        }
    });
    let expected: Vec<String> = (44..300).map(|number| number.to_string()).collect();
    assert_eq!(webhook.messages(), expected);
    assert_eq!((count(&metrics, "sent"), count(&metrics, "dropped")), (256, 44));
}

#[test]
fn without_a_webhook_nothing_waits_and_a_new_one_counts_at_once() {
    let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
    let webhook = Webhook::new(&["200 OK"]);
    let settings = settings(&folder, &format!("http://{}/", webhook.address));
    with_notifier(None, &metrics, |notifier| {
        notifier.notify(drift("ant", "before"));
        notifier.set(Some(settings));
        notifier.notify(drift("ant", "after"));
    });
    assert_eq!(webhook.messages(), ["after"]);
}

#[test]
fn a_webhook_that_is_away_does_not_keep_the_daemon_from_ending() {
    let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
    // Nobody listens here any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = settings(&folder, &format!("http://{address}/"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let notifier = Notifier::start(Some(settings), metrics);
        notifier.notify(drift("ant", "lost"));
        notifier.finish(Duration::from_millis(100)).await;
    });
}

/// A certificate authority, in the form of a file, and a server that it vouches for.
fn authority() -> (String, ServerConfig) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    (certificate.pem(), config)
}

/// Listens with TLS until a message has arrived, or the time is over.
fn hear(config: ServerConfig, address: impl FnOnce(SocketAddr)) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        address(listener.local_addr().unwrap());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let heard = async {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { return None };
            let mut text = String::new();
            while !text.ends_with('}') {
                text.push(char::from(stream.read_u8().await.ok()?));
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
            Some(text)
        };
        tokio::time::timeout(Duration::from_secs(30), heard).await.unwrap()
    })
}

#[test]
fn over_tls_a_message_goes_to_whom_the_hosts_authorities_vouch_for_alone() {
    for is_known in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (pem, config) = authority();
        let file = folder.path().join("roots.pem");
        fs::write(&file, if is_known { pem } else { authority().0 }).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let listening = thread::spawn(move || hear(config, |address| sender.send(address).unwrap()));
        let port = receiver.recv().unwrap().port();
        let url = folder.path().join("url");
        fs::write(&url, format!("https://localhost:{port}/T0/s3cret")).unwrap();
        fs::set_permissions(&url, fs::Permissions::from_mode(0o600)).unwrap();
        // A process of its own, since its variables say whom it trusts.
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", "notify::notifies_once", "--quiet"])
            .env("SSL_CERT_FILE", &file)
            .env("TENANTD_TEST_URL", &url)
            .output()
            .unwrap();
        assert!(status.status.success(), "{status:?}");
        let heard = listening.join().unwrap();
        assert_eq!(heard.is_some_and(|text| text.contains("memory was raised")), is_known);
    }
}

/// The other half of the test above; by itself it does nothing.
#[test]
fn notifies_once() {
    let Some(url) = env::var_os("TENANTD_TEST_URL").map(PathBuf::from) else { return };
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let notifier = Notifier::start(Some(of(&url)), Metrics::new());
        notifier.notify(drift("ant", "memory was raised"));
        // Long enough for one try.
        notifier.finish(Duration::from_secs(5)).await;
    });
    assert!(begun.elapsed() < Duration::from_secs(30));
}
