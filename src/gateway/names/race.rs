//! Several addresses of one name at once: RFC 8305, section 5. It decides when which is tried; connecting, waiting
//! and the number of sockets are others'.
//!
//! Who calls it has resolved and judged the addresses. There is one family: names are looked up for IPv4 alone,
//! so that nothing is to be interleaved.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    net::Ipv4Addr,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use tokio::select;

use crate::policy::authority::Authority;

/// How long an attempt has to itself before the next begins: RFC 8305's Connection Attempt Delay.
pub(crate) const DELAY: Duration = Duration::from_millis(250);

/// How many delays an attempt has to itself where no second one may run beside it.
const ALONE: u32 = 8;

/// How many destinations a tenant's memory holds, and how long: RFC 6555, section 4.2, has ten minutes.
const MAX_REMEMBERED: usize = 64;
const REMEMBERED: Duration = Duration::from_secs(600);

struct Attempt<F, P> {
    address: Ipv4Addr,
    connecting: Pin<Box<F>>,
    /// The first one's is the connection's own.
    place: Option<P>,
}

/// Tries addresses in their order until one is connected: the next begins when an attempt fails, and after each
/// `delay`. Beside the first only as many run as `place` gives something for; where it gives nothing, one that
/// has run alone for long makes room for the next. All others end with the first that succeeds, and with this.
///
/// # Errors
/// The last error, when all have failed.
pub(crate) async fn race<T, P, F: Future<Output = io::Result<T>>, D: Future<Output = ()>>(
    addresses: &[Ipv4Addr],
    attempt: impl Fn(Ipv4Addr) -> F,
    place: impl Fn() -> Option<P>,
    delay: impl Fn() -> D,
) -> io::Result<(Ipv4Addr, T)> {
    let begin = |address, place| Attempt { address, connecting: Box::pin(attempt(address)), place };
    let mut next: VecDeque<Ipv4Addr> = addresses.iter().copied().collect();
    let mut running: VecDeque<Attempt<F, P>> = next.pop_front().map(|first| begin(first, None)).into_iter().collect();
    let mut error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut waited = 0;
    while !running.is_empty() {
        let ended = select! {
            ended = ended(&mut running) => Some(ended),
            () = delay(), if !next.is_empty() => None,
        };
        let free = match ended {
            Some((address, _, Ok(connected))) => return Ok((address, connected)),
            Some((_, place, Err(failed))) => {
                error = failed;
                Some(place)
            }
            None => {
                waited += 1;
                match place() {
                    Some(place) => Some(Some(place)),
                    None if waited >= ALONE => running.pop_front().map(|oldest| oldest.place),
                    None => None,
                }
            }
        };
        if let Some(place) = free
            && let Some(address) = next.pop_front()
        {
            waited = 0;
            running.push_back(begin(address, place));
        }
    }
    Err(error)
}

/// The first of several attempts that ends, with its place.
async fn ended<T, P, F: Future<Output = io::Result<T>>>(
    running: &mut VecDeque<Attempt<F, P>>,
) -> (Ipv4Addr, Option<P>, io::Result<T>) {
    poll_fn(|cx| {
        for at in 0..running.len() {
            let polled = running.get_mut(at).map(|attempt| attempt.connecting.as_mut().poll(cx));
            if let Some(Poll::Ready(result)) = polled
                && let Some(Attempt { address, place, .. }) = running.remove(at)
            {
                return Poll::Ready((address, place, result));
            }
        }
        Poll::Pending
    })
    .await
}

/// Which address of a destination worked where the first did not, for one tenant. It chooses among addresses that
/// were looked up and judged, and adds none.
#[derive(Debug, Default)]
pub(crate) struct Worked(Mutex<VecDeque<Remembered>>);

#[derive(Debug)]
struct Remembered {
    to: Authority,
    address: Ipv4Addr,
    since: Instant,
}

impl Worked {
    /// These addresses, the one that worked before all others.
    pub(crate) fn first(&self, to: &Authority, mut addresses: Vec<Ipv4Addr>, now: Instant) -> Vec<Ipv4Addr> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |one: &&Remembered| one.to == *to && now.saturating_duration_since(one.since) < REMEMBERED;
        let address = remembered.iter().find(fresh).map(|one| one.address);
        if let Some(at) = addresses.iter().position(|one| Some(*one) == address) {
            addresses.get_mut(..=at).unwrap_or_default().rotate_right(1);
        }
        addresses
    }

    /// Takes note of which of the addresses that were tried in this order worked.
    pub(crate) fn note(&self, to: &Authority, tried: &[Ipv4Addr], address: Ipv4Addr, now: Instant) {
        // The first is tried first without being remembered, or is so already.
        if tried.first() == Some(&address) {
            return;
        }
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.retain(|one| one.to != *to);
        remembered.push_back(Remembered { to: to.clone(), address, since: now });
        if remembered.len() > MAX_REMEMBERED {
            remembered.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

    use proptest::{collection::vec, prelude::*};
    use tokio::{sync::Notify, task::yield_now};

    use super::*;

    fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, number)
    }

    /// A race whose delays and attempts end when the test says so.
    #[derive(Clone, Default)]
    struct Track(Rc<RefCell<RaceState>>);

    #[derive(Default)]
    struct RaceState {
        begun: Vec<u8>,
        running: BTreeMap<u8, ()>,
        outcomes: BTreeMap<u8, bool>,
        wakes: BTreeMap<u8, Rc<Notify>>,
        delay: Rc<Notify>,
        places: usize,
    }

    struct Running(Track, u8);

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.0.borrow_mut().running.remove(&self.1);
        }
    }

    struct Lent(Track);

    impl Drop for Lent {
        fn drop(&mut self) {
            self.0.0.borrow_mut().places += 1;
        }
    }

    impl Track {
        fn with(places: usize) -> Self {
            let track = Self::default();
            track.0.borrow_mut().places = places;
            track
        }

        async fn attempt(self, number: u8) -> io::Result<u8> {
            let wake = {
                let mut state = self.0.borrow_mut();
                state.begun.push(number);
                state.running.insert(number, ());
                Rc::clone(state.wakes.entry(number).or_default())
            };
            let running = Running(self, number);
            loop {
                let outcome = running.0.0.borrow().outcomes.get(&number).copied();
                match outcome {
                    Some(true) => return Ok(number),
                    Some(false) => return Err(io::ErrorKind::ConnectionRefused.into()),
                    None => wake.notified().await,
                }
            }
        }

        fn place(&self) -> Option<Lent> {
            let mut state = self.0.borrow_mut();
            state.places = state.places.checked_sub(1)?;
            Some(Lent(self.clone()))
        }

        async fn run(self, count: u8) -> io::Result<u8> {
            let addresses: Vec<Ipv4Addr> = (0..count).map(address).collect();
            let delay = || {
                let delay = Rc::clone(&self.0.borrow().delay);
                async move { delay.notified().await }
            };
            let attempt = |address: Ipv4Addr| self.clone().attempt(address.octets()[3]);
            race(&addresses, attempt, || self.place(), delay).await.map(|(_, number)| number)
        }

        /// Lets one delay pass, or an attempt end.
        async fn tick(&self) {
            self.0.borrow().delay.notify_one();
            for _ in 0..4 {
                yield_now().await;
            }
        }

        async fn end(&self, number: u8, well: bool) {
            let wake = {
                let mut state = self.0.borrow_mut();
                // An attempt ends once.
                state.outcomes.entry(number).or_insert(well);
                Rc::clone(state.wakes.entry(number).or_default())
            };
            wake.notify_one();
            for _ in 0..4 {
                yield_now().await;
            }
        }

        fn begun(&self) -> Vec<u8> {
            self.0.borrow().begun.clone()
        }

        fn running(&self) -> Vec<u8> {
            self.0.borrow().running.keys().copied().collect()
        }
    }

    fn run(track: &Track, count: u8, test: impl AsyncFnOnce()) -> Option<io::Result<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let racing = tokio::task::spawn_local(track.clone().run(count));
            for _ in 0..4 {
                yield_now().await;
            }
            test().await;
            if racing.is_finished() { Some(racing.await.unwrap()) } else { None }
        })
    }

    #[test]
    fn a_dead_first_address_costs_one_delay() {
        let track = Track::with(8);
        let won = run(&track, 3, async || {
            assert_eq!(track.begun(), [0]);
            track.tick().await;
            assert_eq!(track.running(), [0, 1]);
            track.end(1, true).await;
        });
        assert_eq!(won.unwrap().unwrap(), 1);
        assert_eq!((track.begun(), track.running()), (vec![0, 1], vec![]), "the other is given up");
        assert_eq!(track.0.borrow().places, 8);
    }

    #[test]
    fn a_refusal_costs_none_and_the_slow_one_may_still_win() {
        let track = Track::with(8);
        let won = run(&track, 3, async || {
            track.end(0, false).await;
            assert_eq!(track.begun(), [0, 1]);
            track.tick().await;
            assert_eq!(track.running(), [1, 2]);
            track.end(2, false).await;
            track.end(1, true).await;
        });
        assert_eq!(won.unwrap().unwrap(), 1);
    }

    #[test]
    fn without_a_place_one_is_tried_after_the_other() {
        let track = Track::with(0);
        let won = run(&track, 3, async || {
            for _ in 1..ALONE {
                track.tick().await;
            }
            assert_eq!(track.begun(), [0]);
            track.tick().await;
            assert_eq!((track.begun(), track.running()), (vec![0, 1], vec![1]));
            track.end(1, false).await;
            assert_eq!(track.running(), [2]);
            track.end(2, false).await;
        });
        assert_eq!(won.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Tick,
        End(u8, bool),
    }

    proptest! {
        /// Whatever happens in whatever order: each address is tried once at most and in order, there are never
        /// more sockets than places and the connection's own, what succeeds wins, and all places come back.
        #[test]
        fn a_race_keeps_to_its_places(
            count in 1u8..8,
            places in 0usize..4,
            events in vec(prop_oneof![Just(Event::Tick), (0u8..8, any::<bool>()).prop_map(|(n, well)| Event::End(n, well))], 0..60),
        ) {
            let track = Track::with(places);
            let won = run(&track, count, async || {
                for event in &events {
                    match event {
                        Event::Tick => track.tick().await,
                        Event::End(number, well) => track.end(*number, *well).await,
                    }
                    assert!(track.running().len() <= places + 1, "{:?}", track.running());
                }
            });
            let begun = track.begun();
            prop_assert_eq!(&begun, &(0..count).take(begun.len()).collect::<Vec<_>>());
            if let Some(won) = won {
                match won {
                    Ok(number) => prop_assert!(track.0.borrow().outcomes[&number]),
                    Err(_) => prop_assert_eq!(begun.len(), usize::from(count)),
                }
                prop_assert_eq!((track.running(), track.0.borrow().places), (vec![], places));
            }
        }
    }

    #[test]
    fn what_worked_is_tried_first_and_only_among_what_was_judged() {
        let (worked, begin) = (Worked::default(), Instant::now());
        let to = |number: usize| Authority::parse(&format!("n{number}.example:443"), None).unwrap();
        let three: Vec<Ipv4Addr> = (1..4).map(address).collect();
        worked.note(&to(0), &three, address(1), begin);
        assert_eq!(worked.first(&to(0), three.clone(), begin), three);
        worked.note(&to(0), &three, address(3), begin);
        let turned = [address(3), address(1), address(2)];
        assert_eq!(worked.first(&to(0), three.clone(), begin), turned);
        assert_eq!(worked.first(&to(1), three.clone(), begin), three, "another destination");
        // An address that is not judged fit any more is not tried.
        assert_eq!(worked.first(&to(0), vec![address(1), address(2)], begin), [address(1), address(2)]);
        assert_eq!(worked.first(&to(0), three.clone(), begin + REMEMBERED), three, "for a time");
        // When it fails later, another takes its place.
        worked.note(&to(0), &turned, address(2), begin);
        assert_eq!(worked.first(&to(0), three.clone(), begin), [address(2), address(1), address(3)]);
        for number in 1..=MAX_REMEMBERED {
            worked.note(&to(number), &three, address(2), begin);
        }
        assert_eq!(worked.0.lock().unwrap().len(), MAX_REMEMBERED);
        assert_eq!(worked.first(&to(0), three.clone(), begin), three, "the oldest is forgotten");
    }
}
