//! How requests reach the daemon's loop, and answers come back.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    call::{Asked, Call, Effect, Reply},
    ingress::IngressPeer,
    operators::Operator,
    refusal::Refusal,
};
use crate::model::status::Condition;

/// How many requests wait for the daemon; a further one waits for its place.
const QUEUE: usize = 64;

/// How long an answer is waited for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What reaches the daemon's loop. Each request is answered once.
#[derive(Debug)]
pub enum Request {
    /// A call of an operator.
    Operator(Operator),
    /// A call of ingress.
    Ingress(IngressPeer),
    /// The conditions of the daemon as a whole, without observing any tenant.
    Health {
        /// The answer.
        reply: Reply<Vec<Condition>>,
    },
    /// To ask the source for news.
    Fetch,
}

impl From<Operator> for Request {
    fn from(call: Operator) -> Self {
        Self::Operator(call)
    }
}

impl From<IngressPeer> for Request {
    fn from(call: IngressPeer) -> Self {
        Self::Ingress(call)
    }
}

/// Asks the daemon. No question waits longer than five seconds for its answer.
#[derive(Clone, Debug)]
pub struct Handle {
    sender: mpsc::Sender<Request>,
}

/// A handle, and the requests that arrive over it. The daemon ends them by dropping the receiver.
pub fn channel() -> (Handle, mpsc::Receiver<Request>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Handle { sender }, receiver)
}

impl Handle {
    /// Makes a call, for whom `by` names.
    ///
    /// # Errors
    /// The daemon refuses, or does not answer; it may still do then what it was asked.
    pub async fn call<C: Call>(&self, call: C, by: String) -> Result<C::Answer, Refusal>
    where
        Request: From<C::Peer>,
    {
        let request = |reply| Request::from(C::Peer::from(Asked { call, by, reply }));
        self.exchange(REQUEST_TIMEOUT, request).await.unwrap_or_else(|unanswered| match C::EFFECT {
            Effect::Reads => Err(unanswered),
            Effect::Changes | Effect::Begins => {
                Err(unanswered.hint("`tenantd status` shows later whether it was done"))
            }
        })
    }

    /// The conditions of the daemon as a whole, within `request_timeout`.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn health(&self, request_timeout: Duration) -> Result<Vec<Condition>, Refusal> {
        self.exchange(request_timeout, |reply| Request::Health { reply }).await.unwrap_or_else(Err)
    }

    /// Has the daemon ask the source for news. Returns when the daemon has the request, or has ended.
    pub async fn fetch(&self) {
        // A daemon that has ended needs no news.
        let _ = self.sender.send(Request::Fetch).await;
    }

    /// What the daemon answers.
    ///
    /// # Errors
    /// It does not answer. Whether it does what it was asked is then not known.
    async fn exchange<T>(
        &self,
        request_timeout: Duration,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<Result<T, Refusal>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.sender.send(request(reply)).await.ok()?;
            answer.await.ok()
        };
        match timeout(request_timeout, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Refusal::unavailable("the daemon is ending")),
            Err(_) => Err(Refusal::unavailable(format!(
                "the daemon did not answer within {} s",
                request_timeout.as_secs_f32()
            ))),
        }
    }
}
