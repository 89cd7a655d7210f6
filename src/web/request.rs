//! What clients ask of the daemon, and how it answers.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::refusal::Refusal;
use crate::model::{Power, Status, status::Condition};

/// How many requests wait for the daemon; a further one waits for its place.
const QUEUE: usize = 64;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the answer to a request goes. Who asked may be gone.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What a client asks of the daemon. Each request is answered once.
#[derive(Debug)]
pub enum Request {
    /// How everything stands.
    Status {
        /// The one tenant that is meant, the only one in the answer then.
        tenant: Option<String>,
        /// The answer.
        reply: Reply<Status>,
    },
    /// The conditions of the daemon as a whole, without looking at any tenant.
    Health {
        /// The answer.
        reply: Reply<Vec<Condition>>,
    },
    /// To leave a tenant alone.
    Suspend {
        /// The tenant.
        tenant: String,
        /// Why.
        reason: String,
        /// Until when.
        until: Timestamp,
        /// Who asks.
        by: String,
        /// The answer.
        reply: Reply<()>,
    },
    /// To look after a suspended tenant again.
    Resume {
        /// The tenant.
        tenant: String,
        /// Who asks.
        by: String,
        /// The answer.
        reply: Reply<()>,
    },
    /// To have a tenant run, frozen or asleep.
    SetPower {
        /// The tenant.
        tenant: String,
        /// What it is to do.
        power: Power,
        /// Until when; `None` until somebody says otherwise.
        until: Option<Timestamp>,
        /// Who asks.
        by: String,
        /// The answer, given when it is settled and before it is done.
        reply: Reply<()>,
    },
    /// To bring a held commit into force.
    Approve {
        /// The id that status shows beside the held commit.
        plan: String,
        /// Who asks.
        by: String,
        /// The answer: the revision that is in force now.
        reply: Reply<String>,
    },
    /// To look now.
    Reconcile {
        /// At one tenant, or at all.
        tenant: Option<String>,
        /// Who asks.
        by: String,
        /// The answer, given before the look.
        reply: Reply<()>,
    },
    /// To ask the source for news.
    Fetch,
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
    /// How everything stands, or one tenant.
    ///
    /// # Errors
    /// There is no such tenant, or the daemon does not answer.
    pub async fn status(&self, tenant: Option<String>) -> Result<Status, Refusal> {
        self.ask(PATIENCE, |reply| Request::Status { tenant, reply }).await
    }

    /// The conditions of the daemon as a whole, within `patience`.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn health(&self, patience: Duration) -> Result<Vec<Condition>, Refusal> {
        self.ask(patience, |reply| Request::Health { reply }).await
    }

    /// Leaves a tenant alone until a time.
    ///
    /// # Errors
    /// The daemon refuses, or does not answer; it may still do it then.
    pub async fn suspend(&self, tenant: String, reason: String, until: Timestamp, by: String) -> Result<(), Refusal> {
        self.change(|reply| Request::Suspend { tenant, reason, until, by, reply }).await
    }

    /// Looks after a suspended tenant again.
    ///
    /// # Errors
    /// The daemon refuses, or does not answer; it may still do it then.
    pub async fn resume(&self, tenant: String, by: String) -> Result<(), Refusal> {
        self.change(|reply| Request::Resume { tenant, by, reply }).await
    }

    /// Has a tenant run, frozen or asleep until a time, or until somebody says otherwise.
    ///
    /// # Errors
    /// The daemon refuses, or does not answer; it may still do it then.
    pub async fn set_power(
        &self,
        tenant: String,
        power: Power,
        until: Option<Timestamp>,
        by: String,
    ) -> Result<(), Refusal> {
        self.change(|reply| Request::SetPower { tenant, power, until, by, reply }).await
    }

    /// Brings a held commit into force, and returns its revision.
    ///
    /// # Errors
    /// The daemon refuses, or does not answer; it may still do it then.
    pub async fn approve(&self, plan: String, by: String) -> Result<String, Refusal> {
        self.change(|reply| Request::Approve { plan, by, reply }).await
    }

    /// Has the daemon look now, at one tenant or at all.
    ///
    /// # Errors
    /// The daemon refuses, or does not answer; it may still do it then.
    pub async fn reconcile(&self, tenant: Option<String>, by: String) -> Result<(), Refusal> {
        self.change(|reply| Request::Reconcile { tenant, by, reply }).await
    }

    /// Has the daemon ask the source for news. Returns when the daemon has the request, or has ended.
    pub async fn fetch(&self) {
        // A daemon that has ended needs no news.
        let _ = self.sender.send(Request::Fetch).await;
    }

    async fn change<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Refusal> {
        self.exchange(PATIENCE, request)
            .await
            .unwrap_or_else(|unanswered| Err(unanswered.hint("`tenantd status` shows later whether it was done")))
    }

    async fn ask<T>(&self, patience: Duration, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Refusal> {
        self.exchange(patience, request).await.unwrap_or_else(Err)
    }

    /// What the daemon answers.
    ///
    /// # Errors
    /// It does not answer. Whether it does what it was asked is then not known.
    async fn exchange<T>(
        &self,
        patience: Duration,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<Result<T, Refusal>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.sender.send(request(reply)).await.ok()?;
            answer.await.ok()
        };
        match timeout(patience, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Refusal::unavailable("the daemon is ending")),
            Err(_) => {
                Err(Refusal::unavailable(format!("the daemon did not answer within {} s", patience.as_secs_f32())))
            }
        }
    }
}
