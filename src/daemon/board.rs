//! What is reported to the ingress, version by version, and who waits for another one. Pure: the clock comes in as an argument.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    model::{
        Desired, TenantName, TokenId,
        ingress::{IngressState, Reachable, StateContent},
        token::TokenKey,
    },
    web::{Refusal, Reply},
};

/// How long a question waits at most.
const PARKED: Duration = Duration::from_secs(3);

/// How many questions wait at once. For a further one the first is answered without news.
const MOST_PARKED: usize = 16;

/// The time between two versions in the long run: many tenants change at once, and each version is sent as a whole.
const SPACING: Duration = Duration::from_millis(50);

/// How many come without that time after a while without any. Who waits for a tenant that is woken needs two: that it is to
/// run, and that it does.
const AT_ONCE: u32 = 4;

/// The newest version, and who waits for the next.
pub(super) struct Board {
    /// A version is this, which no other run of the daemon has, and a number that grows with each other content.
    epoch: String,
    number: u64,
    content: StateContent,
    /// Whether enough is known to answer anybody. Before that all tenants would seem not to run.
    is_known: bool,
    stale: Stale,
    /// The declarations that the content is made of.
    desired: Option<Arc<Desired>>,
    /// When all versions that were looked up are worked off, one in [`SPACING`].
    busy_until: Instant,
    parked: VecDeque<Parked>,
}

/// What of the content may be otherwise by now.
pub(super) enum Stale {
    /// Anything.
    All,
    /// What is reported of these tenants.
    Tenants(BTreeSet<String>),
}

/// A question of somebody who has the newest version.
struct Parked {
    after: Option<String>,
    until: Instant,
    reply: Reply<IngressState>,
}

impl Stale {
    const NOTHING: Self = Self::Tenants(BTreeSet::new());

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Tenants(tenants) if tenants.is_empty())
    }
}

impl Board {
    /// One that answers nobody yet. No other run may have the same `epoch`.
    pub(super) fn new(epoch: String, key: TokenKey, now: Instant) -> Self {
        let content = StateContent { key, revoked: BTreeSet::new(), waiting_page: false, tenants: BTreeMap::new() };
        let (parked, stale) = (VecDeque::new(), Stale::All);
        Self { epoch, number: 0, content, is_known: false, stale, desired: None, busy_until: now, parked }
    }

    /// What is reported of a tenant may be otherwise by now.
    pub(super) fn tenant_changed(&mut self, tenant: &str) {
        if let Stale::Tenants(tenants) = &mut self.stale
            && !tenants.contains(tenant)
        {
            tenants.insert(tenant.to_owned());
        }
    }

    /// Anything may be otherwise by now.
    pub(super) fn all_changed(&mut self) {
        self.stale = Stale::All;
    }

    /// These declarations are in force.
    pub(super) fn declared(&mut self, desired: Option<&Arc<Desired>>) {
        let is_same = match (&self.desired, desired) {
            (Some(former), Some(now)) => Arc::ptr_eq(former, now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_same {
            self.desired = desired.cloned();
            self.all_changed();
        }
    }

    /// Enough is known by now for those who ask, once it is taken in.
    pub(super) fn known(&mut self) {
        if self.stale.is_nothing() && !mem::replace(&mut self.is_known, true) {
            self.next_version();
        }
    }

    /// What is to be looked up for another version, if it is time for one.
    pub(super) fn take_stale(&mut self, now: Instant) -> Option<Stale> {
        if self.stale.is_nothing() || now < self.next() {
            return None;
        }
        self.busy_until = self.busy_until.max(now) + SPACING;
        Some(mem::replace(&mut self.stale, Stale::NOTHING))
    }

    /// No other version comes before.
    fn next(&self) -> Instant {
        self.busy_until.checked_sub(SPACING * (AT_ONCE - 1)).unwrap_or(self.busy_until)
    }

    /// Takes in what was looked up of everything.
    pub(super) fn set_all(
        &mut self,
        revoked: BTreeSet<TokenId>,
        waiting_page: bool,
        tenants: BTreeMap<TenantName, Reachable>,
    ) {
        let content = StateContent { key: self.content.key, revoked, waiting_page, tenants };
        if self.content != content {
            self.content = content;
            self.next_version();
        }
    }

    /// Takes in what was looked up of some tenants; `None` of those that expose nothing.
    pub(super) fn set_some(&mut self, found: impl Iterator<Item = (TenantName, Option<Reachable>)>) {
        let tenants = &mut self.content.tenants;
        let mut is_news = false;
        for (name, reachable) in found {
            if tenants.get(&name) != reachable.as_ref() {
                is_news = true;
                match reachable {
                    Some(reachable) => drop(tenants.insert(name, reachable)),
                    None => drop(tenants.remove(&name)),
                }
            }
        }
        if is_news {
            self.next_version();
        }
    }

    /// Another version is there: whoever waits is answered.
    fn next_version(&mut self) {
        self.number += 1;
        if self.is_known {
            mem::take(&mut self.parked).into_iter().for_each(|parked| self.answer(parked));
        }
    }

    /// Answers a question at once, where there is news for who asks, or when there is.
    pub(super) fn ask(&mut self, after: Option<String>, reply: Reply<IngressState>, now: Instant) {
        let has_news = self.is_known && after != Some(self.version());
        let parked = Parked { after, until: now + PARKED, reply };
        if has_news {
            self.answer(parked);
            return;
        }
        self.parked.retain(|parked| !parked.reply.is_closed());
        if self.parked.len() >= MOST_PARKED {
            self.parked.pop_front().into_iter().for_each(|first| self.answer(first));
        }
        self.parked.push_back(parked);
    }

    /// Answers those who have waited long enough.
    pub(super) fn time_passed(&mut self, now: Instant) {
        while self.parked.front().is_some_and(|parked| parked.until <= now) {
            self.parked.pop_front().into_iter().for_each(|parked| self.answer(parked));
        }
    }

    fn answer(&self, Parked { after, reply, .. }: Parked) {
        let answer = if self.is_known {
            let version = self.version();
            let content = (after.as_ref() != Some(&version)).then(|| self.content.clone());
            Ok(IngressState { version, content })
        } else {
            Err(Refusal::unavailable("the tenants were not observed yet").hint("ask again"))
        };
        // Who asked may be gone.
        drop(reply.send(answer));
    }

    fn version(&self) -> String {
        format!("{}-{}", self.epoch, self.number)
    }

    /// When something is to be done, if nothing comes in before.
    pub(super) fn due(&self) -> Option<Instant> {
        let next = (!self.stale.is_nothing()).then(|| self.next());
        self.parked.front().map(|parked| parked.until).into_iter().chain(next).min()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::model::{Access, Power, token::SigningKey};

    type Answer = oneshot::Receiver<Result<IngressState, Refusal>>;

    fn board(now: Instant) -> Board {
        let mut board = Board::new("e".to_owned(), SigningKey::from_seed(&[7; 32]).public(), now);
        assert!(matches!(board.take_stale(now), Some(Stale::All)));
        board
    }

    fn ask(board: &mut Board, after: Option<&str>, now: Instant) -> Answer {
        let (reply, answer) = oneshot::channel();
        board.ask(after.map(str::to_owned), reply, now);
        answer
    }

    /// What was answered by now: the version, and how many tenants the content has, if there is one.
    fn said(answer: &mut Answer) -> Option<(String, Option<usize>)> {
        let state = answer.try_recv().ok()?.ok()?;
        Some((state.version, state.content.map(|content| content.tenants.len())))
    }

    fn expose(board: &mut Board, name: &str, running: bool) {
        let name: TenantName = name.parse().unwrap();
        let reachable = Reachable {
            access: Access::Token,
            ports: BTreeMap::new(),
            address: None,
            container: None,
            power: Power::Running,
            running,
            waits_for_memory: false,
            closed: None,
        };
        board.set_some(std::iter::once((name, Some(reachable))));
    }

    #[test]
    fn who_has_the_newest_version_hears_of_the_next_and_of_nothing_else() {
        let now = Instant::now();
        let mut board = board(now);
        board.known();
        assert_eq!(said(&mut ask(&mut board, None, now)), Some(("e-1".to_owned(), Some(0))));
        let mut waits = ask(&mut board, Some("e-1"), now);
        assert_eq!(said(&mut waits), None);
        expose(&mut board, "ant", false);
        assert_eq!(said(&mut waits), Some(("e-2".to_owned(), Some(1))));
        let mut waits = ask(&mut board, Some("e-2"), now);
        expose(&mut board, "ant", false);
        board.set_all(BTreeSet::new(), false, board.content.tenants.clone());
        assert_eq!(said(&mut waits), None, "nothing is otherwise");
        expose(&mut board, "ant", true);
        assert_eq!(said(&mut waits), Some(("e-3".to_owned(), Some(1))));
        assert_eq!(said(&mut ask(&mut board, Some("f-3"), now)), Some(("e-3".to_owned(), Some(1))), "of another run");
    }

    #[test]
    fn who_waits_is_answered_in_time_and_few_wait() {
        let now = Instant::now();
        let mut board = board(now);
        board.known();
        let mut first = ask(&mut board, Some("e-1"), now);
        let mut others: Vec<Answer> = (0..MOST_PARKED).map(|_| ask(&mut board, Some("e-1"), now)).collect();
        assert_eq!(said(&mut first), Some(("e-1".to_owned(), None)), "it made room");
        assert_eq!(board.due(), Some(now + PARKED));
        board.time_passed(now + PARKED - Duration::from_millis(1));
        assert!(others.iter_mut().all(|one| said(one).is_none()));
        board.time_passed(now + PARKED);
        assert!(others.iter_mut().all(|one| said(one) == Some(("e-1".to_owned(), None))));
        assert_eq!(board.due(), None);
    }

    #[test]
    fn nobody_is_answered_before_enough_is_known() {
        let now = Instant::now();
        let mut board = board(now);
        let (mut fresh, mut former) = (ask(&mut board, None, now), ask(&mut board, Some("d-9"), now));
        expose(&mut board, "ant", false);
        assert_eq!((said(&mut fresh), said(&mut former)), (None, None));
        board.time_passed(now + PARKED);
        assert!(matches!(fresh.try_recv(), Ok(Err(Refusal { .. }))));
        let mut fresh = ask(&mut board, None, now);
        board.known();
        assert_eq!(said(&mut fresh), Some(("e-2".to_owned(), Some(1))));
    }

    #[test]
    fn versions_keep_a_distance_after_a_few() {
        let now = Instant::now();
        let mut board = board(now);
        for _ in 1..AT_ONCE {
            board.tenant_changed("ant");
            assert!(board.due().is_some_and(|due| due <= now) && board.take_stale(now).is_some());
        }
        board.tenant_changed("ant");
        board.tenant_changed("bee");
        assert!(board.take_stale(now).is_none());
        assert_eq!(board.due(), Some(now + SPACING));
        let Some(Stale::Tenants(stale)) = board.take_stale(now + SPACING) else { panic!("two are stale") };
        assert_eq!(stale.len(), 2);
        board.declared(None);
        assert!(board.take_stale(now + SPACING * 2).is_none(), "the declarations are the same");
        board.declared(Some(&Arc::default()));
        board.tenant_changed("ant");
        assert!(matches!(board.take_stale(now + SPACING * 2), Some(Stale::All)));
        // After a while without any there may be a few at once again, and no more.
        let later = now + SPACING * 100;
        let at_once = (0..AT_ONCE * 2).filter(|_| {
            board.tenant_changed("ant");
            board.take_stale(later).is_some()
        });
        assert_eq!(at_once.count(), AT_ONCE as usize);
    }
}
