//! Commands, which bollard makes over our own connections.
//!
//! bollard names no version of the API, its time limit ends with an answer's head, and it has no bound on the rest: all three
//! are added here. What the engine refuses becomes an error before bollard sees it, so that calls of both kinds fail alike.

use std::{io, sync::Arc, time::Duration};

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker, errors::Error};
use hyper::{Method, Uri};

use super::{
    http::{self, CallError, Http},
    version::ApiVersion,
};

/// The largest answer to a command, in bytes. Most have none.
const MAX_ANSWER: usize = 16 << 20;

/// bollard's own time limit, in seconds: longer than any command may take.
const NO_LIMIT: u64 = u64::MAX;

pub(super) struct Commands {
    /// What makes them, to be called within [`Commands::run`].
    pub(super) docker: Docker,
    api: ApiVersion,
}

impl Commands {
    /// Commands over the connections of `http`, in a version of the API.
    pub(super) fn new(http: &Arc<Http>, api: ApiVersion) -> Result<Self, CallError> {
        let http = Arc::clone(http);
        let transport = move |request: BollardRequest| {
            let http = Arc::clone(&http);
            async move {
                let request = versioned(request, api)?;
                http.forward(request, MAX_ANSWER).await.map_err(|error| io::Error::other(error).into())
            }
        };
        let docker =
            Docker::connect_with_custom_transport(transport, Some("http://docker"), NO_LIMIT, API_DEFAULT_VERSION)
                .map_err(|error| call_error("a command", error))?;
        Ok(Self { docker, api })
    }

    /// Makes a command within a deadline that covers its whole answer. Method and path are what errors call it.
    pub(super) async fn run<T>(
        &self,
        method: Method,
        path: &str,
        deadline: Duration,
        command: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, CallError> {
        let call = format!("{method} {}", self.api.path(path));
        http::within(deadline, &call, async { command.await.map_err(|error| call_error(&call, error)) }).await
    }
}

fn versioned(mut request: BollardRequest, api: ApiVersion) -> Result<BollardRequest, Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = api.path(path).parse::<Uri>()?;
    Ok(request)
}

fn call_error(call: &str, error: Error) -> CallError {
    match error {
        Error::IOError { err } => match err.downcast::<CallError>() {
            Ok(error) => error,
            Err(source) => CallError::Broken { call: call.to_owned(), source: source.into() },
        },
        Error::HyperResponseError { err } => http::broken(call, err, MAX_ANSWER),
        other => CallError::Malformed { call: call.to_owned(), detail: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::{UnixListener, UnixStream},
        path::PathBuf,
        thread::{self, JoinHandle},
    };

    use bollard::models::ContainerCreateBody;

    use super::*;
    use crate::engine::version;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// An engine that answers a command.
    struct Answering {
        socket: PathBuf,
        _folder: tempfile::TempDir,
        /// How many bytes of the answer were taken from it.
        taken: JoinHandle<usize>,
    }

    impl Answering {
        /// It begins an answer and goes on with pieces of it, `None` for a pause that does not end.
        fn start(begin: &'static str, piece: Option<&'static [u8]>) -> io::Result<Self> {
            let folder = tempfile::tempdir()?;
            let socket = folder.path().join("engine.sock");
            let listener = UnixListener::bind(&socket)?;
            let taken = thread::spawn(move || match listener.accept() {
                Ok((stream, _)) => serve(stream, begin, piece),
                Err(_) => 0,
            });
            Ok(Self { socket, _folder: folder, taken })
        }

        /// What it says to the creation of a container.
        async fn create(&self, deadline: Duration) -> Result<(), CallError> {
            let commands = Commands::new(&Arc::new(Http::new(&self.socket)), version::OLDEST)?;
            let create = commands.docker.create_container(None, ContainerCreateBody::default());
            commands.run(Method::POST, "/containers/create", deadline, create).await.map(drop)
        }
    }

    fn serve(mut stream: UnixStream, begin: &str, piece: Option<&[u8]>) -> usize {
        let mut taken = 0;
        let request = stream.read(&mut [0; 1 << 16]);
        let mut written = request.and_then(|_| stream.write_all(begin.as_bytes()));
        match piece {
            Some(piece) => {
                while written.is_ok() {
                    written = stream.write_all(piece);
                    taken += piece.len();
                }
            }
            // Until the other side ends.
            None => drop(stream.read(&mut [0])),
        }
        taken
    }

    #[tokio::test]
    async fn no_more_of_an_endless_answer_is_read_than_is_allowed() -> Result<(), Box<dyn std::error::Error>> {
        for status in ["201 Created", "500 Internal Server Error"] {
            let begin = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n").leak();
            let engine = Answering::start(begin, Some(&[b' '; 1 << 16]))?;
            let error = engine.create(DEADLINE).await.map_err(|e| e.to_string());
            let expected = "the engine's answer to POST /v1.41/containers/create is not understood";
            assert!(error.as_ref().is_err_and(|e| e.starts_with(expected)), "{error:?}");
            assert!(error.as_ref().is_err_and(|e| e.ends_with("longer than 16777216 bytes")), "{error:?}");
            let taken = engine.taken.join().unwrap_or_default();
            assert!((MAX_ANSWER..MAX_ANSWER + (2 << 20)).contains(&taken), "{taken}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn the_deadline_covers_the_whole_answer() -> Result<(), Box<dyn std::error::Error>> {
        let begin = "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"Id\":";
        let engine = Answering::start(begin, None)?;
        let error = engine.create(Duration::from_millis(100)).await;
        assert!(matches!(error, Err(CallError::TimedOut { .. })), "{error:?}");
        Ok(())
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_status_and_its_words() -> Result<(), Box<dyn std::error::Error>> {
        let answers = [
            (
                "HTTP/1.1 409 Conflict\r\nContent-Length: 28\r\n\r\n{\"message\":\"it is taken.\\n\"}",
                409,
                "it is taken.",
            ),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot here!", 404, "the engine answered 404"),
            ("HTTP/1.1 500 Error\r\nContent-Length: 0\r\n\r\n", 500, "the engine answered 500"),
        ];
        for (answer, status, words) in answers {
            let engine = Answering::start(answer, None)?;
            match engine.create(DEADLINE).await {
                Err(CallError::Refused { status: found, message }) => {
                    assert_eq!((found, message.as_str()), (status, words))
                }
                other => return Err(format!("{other:?}").into()),
            }
        }
        Ok(())
    }
}
