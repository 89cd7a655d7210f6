//! One tenant: paused or put to sleep, killed now and then, and asked meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    thread::{self, Scope, ScopedJoinHandle},
    time::{Duration, Instant},
};

use tenantd::{
    model::Power,
    web::{Client, operators::SetPower},
};

use super::{
    Shared,
    client::{Asked, Kind, Outcome, Request, ask},
};
use crate::{daemon::TIMEOUT, engine::text, fleet::run};

/// How often something is looked at that others bring about.
const POLL: Duration = Duration::from_millis(5);

/// How a container is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kill {
    /// By the engine.
    Engine,
    /// Its main process, by a signal.
    Process,
}

/// What happens in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// What the tenant is to do before it is asked.
    pub power: Power,
    /// Whether it is asked while it still goes down, and not once it is down.
    pub is_raced: bool,
    pub kill: Option<Kill>,
}

/// A time in which something was ended that requests may have been under way to.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub from: Instant,
    /// `None` where it is not over.
    pub to: Option<Instant>,
}

impl Span {
    fn overlaps(&self, asked: &Asked) -> bool {
        asked.to >= self.from && self.to.is_none_or(|to| asked.from <= to)
    }
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Counts {
    pub wakes: BTreeMap<Power, usize>,
    /// How long the first answer of those took in which nothing was killed.
    pub times: BTreeMap<Power, Vec<Duration>>,
    pub raced: usize,
    pub killed: BTreeMap<Kill, usize>,
    pub requests: usize,
    pub websockets: usize,
    pub answered: usize,
    pub unanswered: usize,
    pub cut: usize,
}

pub struct Tenant<'a> {
    shared: &'a Shared<'a>,
    name: &'static str,
    token: String,
    random: fastrand::Rng,
    runtime: tokio::runtime::Runtime,
    /// Since when which container is to go, as the tenant is put to sleep while it is asked.
    leaves: Option<(Instant, Option<String>)>,
    /// Whether each request was answered, by its id.
    asked: BTreeMap<String, bool>,
    pub counts: Counts,
}

impl<'a> Tenant<'a> {
    pub fn new(shared: &'a Shared<'a>, name: &'static str, token: String, random: fastrand::Rng) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { shared, name, token, random, runtime, leaves: None, asked: BTreeMap::new(), counts: Counts::default() }
    }

    /// Has a round happen, and judges what became of its requests.
    pub fn round(&mut self, round: Round) {
        let requests: Vec<(Request, Duration)> = (0..self.random.usize(1..5)).map(|_| self.request()).collect();
        let (asked, ends) = match round.is_raced {
            true => self.race(round.power, requests),
            false => self.wake(round, requests),
        };
        for one in &asked {
            self.judge(one, &ends, round);
        }
        if round.is_raced {
            self.counts.raced += 1;
        } else {
            let is_ordinary = asked.iter().all(|one| one.outcome == Outcome::Answered) && ends.is_empty();
            let took = asked.iter().map(|one| one.to).min().zip(asked.iter().map(|one| one.from).min());
            let took = took.filter(|_| is_ordinary).map(|(to, from)| to.duration_since(from));
            *self.counts.wakes.entry(round.power).or_default() += 1;
            self.counts.times.entry(round.power).or_default().extend(took);
        }
    }

    /// Some request, and how long after the others it may come.
    fn request(&mut self) -> (Request, Duration) {
        let kind = match self.random.u8(..4) {
            0 => Kind::WebSocket { messages: self.random.usize(1..5), pause: self.random.u64(..20) },
            1 => Kind::Post { body: self.random.usize(..100_000) },
            _ => Kind::Get { wait: self.random.u64(..30), bytes: self.random.usize(..200_000) },
        };
        let delay = if self.random.bool() { self.random.u64(..60) } else { 0 };
        (self.named(kind), Duration::from_millis(delay))
    }

    fn named(&mut self, kind: Kind) -> Request {
        let id = format!("{}-{:06}", self.name, self.asked.len());
        self.asked.insert(id.clone(), false);
        Request { tenant: self.name, id, kind }
    }

    /// Has the tenant go down, and asks it then. Its container may be killed meanwhile.
    fn wake(&mut self, round: Round, requests: Vec<(Request, Duration)>) -> (Vec<Asked>, Vec<Span>) {
        self.set_power(round.power);
        // What cannot be frozen sleeps.
        let is_frozen = |identity: Identity| round.power == Power::Paused && identity.status == "paused";
        self.wait("it is down", |tenant| tenant.identity().is_none_or(is_frozen));
        self.leaves = None;
        let kill = round.kill.map(|kill| (kill, self.random.bool(), Duration::from_millis(self.random.u64(..80))));
        let token = self.token.clone();
        thread::scope(|scope| {
            let asking = begin(scope, requests, &token);
            let mut ends = Vec::new();
            if let Some((kill, is_asked, delay)) = kill {
                // While it is woken, or while it has the requests.
                if is_asked {
                    self.wait("it runs", |tenant| tenant.identity().is_some_and(|now| now.status == "running"));
                }
                thread::sleep(delay);
                ends.extend(self.kill(kill));
            }
            (self.end(asking), ends)
        })
    }

    /// Has the tenant go down while it is asked.
    fn race(&mut self, power: Power, requests: Vec<(Request, Duration)>) -> (Vec<Asked>, Vec<Span>) {
        let token = self.token.clone();
        let delay = Duration::from_millis(self.random.u64(..60));
        let before = self.identity().map(|identity| identity.id);
        let asked = thread::scope(|scope| {
            let asking = begin(scope, requests, &token);
            thread::sleep(delay);
            if power == Power::Asleep && self.leaves.is_none() {
                self.leaves = Some((Instant::now(), before));
            }
            self.set_power(power);
            self.end(asking)
        });
        // What was to sleep may do so only now, or in a later round.
        let now = self.identity().map(|identity| identity.id);
        let left = self.leaves.take_if(|(_, before)| *before != now);
        (asked, left.map(|(from, _)| Span { from, to: Some(Instant::now()) }).into_iter().collect())
    }

    /// Waits for the answers. One that goes down once more in between is woken by one more request.
    fn end(&mut self, mut asking: Vec<Asking<'_>>) -> Vec<Asked> {
        let mut asked = Vec::new();
        loop {
            let (ended, more): (Vec<_>, Vec<_>) = asking.into_iter().partition(|one| one.is_finished());
            asked.extend(
                ended.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))),
            );
            if more.is_empty() {
                break;
            }
            asking = more;
            let deadline = Instant::now() + POLL * 20;
            while Instant::now() < deadline && asking.iter().any(|one| !one.is_finished()) {
                thread::sleep(POLL);
            }
            if asking.iter().any(|one| !one.is_finished()) {
                asked.push(ask(self.named(Kind::Get { wait: 0, bytes: 0 }), &self.token));
            }
        }
        // The round is over when somebody was answered.
        while asked.last().is_none_or(|one| one.outcome != Outcome::Answered) && asked.iter().all(may_go_on) {
            asked.push(ask(self.named(Kind::Get { wait: 0, bytes: 0 }), &self.token));
        }
        asked
    }

    /// Counts what became of a request, and stops everything where it may not have been so.
    fn judge(&mut self, one: &Asked, ends: &[Span], round: Round) {
        match one.request.kind {
            Kind::WebSocket { .. } => self.counts.websockets += 1,
            Kind::Get { .. } | Kind::Post { .. } => self.counts.requests += 1,
        }
        let has_ended = || ends.iter().any(|span| span.overlaps(one));
        let is_cut_off = || self.shared.ingress_kills().iter().any(|span| span.overlaps(one));
        match &one.outcome {
            Outcome::Answered => {
                self.counts.answered += 1;
                self.asked.insert(one.request.id.clone(), true);
            }
            Outcome::Unanswered if has_ended() => self.counts.unanswered += 1,
            Outcome::Cut(_) if has_ended() || is_cut_off() => self.counts.cut += 1,
            Outcome::Unanswered | Outcome::Cut(_) | Outcome::Foreign(_) | Outcome::Failed(_) => {
                let ago = |at: Instant| format!("{:?} before", one.to.saturating_duration_since(at));
                let spans = |spans: &[Span]| {
                    let show = |span: &Span| format!("from {} to {:?}", ago(span.from), span.to.map(ago));
                    spans.iter().rev().take(3).map(show).collect::<Vec<_>>().join("; ")
                };
                self.shared.failed(format!(
                    "{one}\nin {round:?}; its container ended: {}; the ingress was killed: {}; now {:?}",
                    spans(ends),
                    spans(&self.shared.ingress_kills()),
                    self.identity(),
                ));
            }
        }
    }

    /// Kills the container, if there is one that runs or is frozen. Returns when that was.
    fn kill(&mut self, kill: Kill) -> Option<Span> {
        let engine = &self.shared.service.fleet.engine;
        let before = self.identity()?;
        let from = Instant::now();
        let is_killed = match kill {
            Kill::Engine => engine.call("POST", &format!("/containers/{}/kill", before.id), None).0 == 204,
            Kill::Process => {
                before.pid != 0 && run(engine.within(&["kill", "-s", "KILL", &before.pid.to_string()])).status.success()
            }
        };
        if !is_killed {
            return None;
        }
        *self.counts.killed.entry(kill).or_default() += 1;
        // What is frozen ends as it is thawed.
        self.wait("the killed container ends", |tenant| {
            tenant.identity().is_none_or(|now| (&now.id, now.pid) != (&before.id, before.pid))
        });
        Some(Span { from, to: Some(Instant::now()) })
    }

    fn set_power(&self, power: Power) {
        let socket = self.shared.service.fleet.engine.dir().join("tenantd.sock");
        let begun = Instant::now();
        let call = SetPower { tenant: self.name.to_owned(), power, until: None };
        while let Err(error) = self.runtime.block_on(Client::new(&socket).call(&call)) {
            assert!(begun.elapsed() < TIMEOUT, "{} is to be {power:?}: {error}", self.name);
            thread::sleep(POLL);
        }
    }

    fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            let service = self.shared.service;
            assert!(
                begun.elapsed() < TIMEOUT,
                "{}: {what}, within {TIMEOUT:?}; it is {:?}, and the daemon says:\n{}",
                self.name,
                self.identity(),
                service.last_words()
            );
            thread::sleep(POLL);
        }
    }

    /// Its container, if it has one.
    fn identity(&self) -> Option<Identity> {
        let engine = &self.shared.service.fleet.engine;
        let (status, found) = engine.call("GET", &format!("/containers/tenantd-{}/json", self.name), None);
        let state = &found["State"];
        let pid = state["Pid"].as_u64().unwrap_or_default();
        (status == 200).then(|| Identity { id: text(&found["Id"]), pid, status: text(&state["Status"]) })
    }

    /// Looks at what the tenant itself noted: what it answered it was asked once, and nothing twice or of others.
    pub fn look_back(&self) -> Vec<String> {
        let log = self.shared.service.fleet.data().join("workspaces").join(self.name).join("log");
        let log = fs::read_to_string(log).unwrap();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for line in log.lines() {
            let id = line.split_once("/work?id=").map(|(_, rest)| rest.split(['&', ' ']).next().unwrap_or_default());
            if let Some(id) = id {
                *seen.entry(id).or_default() += 1;
            }
        }
        let foreign = seen.keys().filter(|id| !self.asked.contains_key(**id)).map(|id| format!("{id} is not its own"));
        let times = |id: &str| seen.get(id).copied().unwrap_or_default();
        let wrong = self.asked.iter().filter(|(id, answered)| match times(id) {
            0 => **answered,
            1 => false,
            _ => true,
        });
        let wrong = wrong.map(|(id, answered)| format!("{id}, answered: {answered}, was seen {} times", times(id)));
        foreign.chain(wrong).map(|what| format!("{}: {what}", self.name)).collect()
    }
}

/// A container.
#[derive(Clone, Debug)]
struct Identity {
    id: String,
    /// Its main process, in the engine's namespace; 0 where it has none.
    pid: u64,
    status: String,
}

type Asking<'scope> = ScopedJoinHandle<'scope, Asked>;

/// Has each request made on a thread of its own, after its time.
fn begin<'scope>(
    scope: &'scope Scope<'scope, '_>,
    requests: Vec<(Request, Duration)>,
    token: &'scope str,
) -> Vec<Asking<'scope>> {
    let begin = |(request, delay): (Request, Duration)| {
        scope.spawn(move || {
            thread::sleep(delay);
            ask(request, token)
        })
    };
    requests.into_iter().map(begin).collect()
}

/// Whether what became of a request may have been so: the next may still be answered.
fn may_go_on(one: &Asked) -> bool {
    matches!(one.outcome, Outcome::Answered | Outcome::Unanswered | Outcome::Cut(_))
}
