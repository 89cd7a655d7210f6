//! What goes wrong on the way to the engine and back.

use std::fmt;
use std::time::Duration;

/// One call as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// The path, decoded and without the API version.
    pub path: String,
    /// The query as it was sent, without the question mark; empty when there is none.
    pub query: String,
    /// The API version in the path, such as `1.41`.
    pub version: Option<String>,
}

impl Call {
    /// Whether the call is of a kind that can change something.
    #[must_use]
    pub fn mutates(&self) -> bool {
        self.method != "GET" && self.method != "HEAD"
    }

    /// A query parameter, decoded.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| decode(value, true))
        })
    }

    pub(crate) fn new(method: &str, path_and_query: &str) -> Self {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let mut path = decode(path, false);
        let mut version = None;
        if let Some(rest) = path.strip_prefix("/v")
            && let Some((number, rest)) = rest.split_once('/')
            && crate::options::api_number(number).is_some()
        {
            version = Some(number.to_owned());
            path = format!("/{rest}");
        }
        Self { method: method.into(), path, query: query.into(), version }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        if self.query.is_empty() { Ok(()) } else { write!(f, "?{}", self.query) }
    }
}

fn decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = |digit: &u8| char::from(*digit).to_digit(16);
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                let value = hex(high).unwrap_or_default() * 16 + hex(low).unwrap_or_default();
                bytes.push(u8::try_from(value).expect("two hexadecimal digits are a byte"));
                rest = after;
            }
            (b'+', _) if plus_is_space => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether the call at which the connection is cut still takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It does not.
    BeforeEffect,
    /// It does; only its answer is lost.
    AfterEffect,
}

pub(crate) type Predicate = Box<dyn Fn(&Call) -> bool + Send>;

enum Effect {
    Hang,
    Slow(Duration),
    Fail(u16, String),
}

struct Cut {
    left: u64,
    when: When,
    counts: Predicate,
}

/// The faults in force.
#[derive(Default)]
pub(crate) struct Faults {
    rules: Vec<(Predicate, Effect)>,
    cut: Option<Cut>,
}

/// What the faults make of one call.
#[derive(Default)]
pub(crate) struct Verdict {
    pub cut: Option<When>,
    pub fail: Option<(u16, String)>,
    pub hang: bool,
    pub delay: Duration,
}

impl Faults {
    pub fn cut(&mut self, after: u64, when: When, counts: Predicate) {
        assert!(after > 0, "calls are counted from one: cut_after(1, …) cuts the next one");
        self.cut = Some(Cut { left: after, when, counts });
    }

    /// Cuts every call from now on.
    pub fn cut_all(&mut self) {
        self.cut = Some(Cut { left: 0, when: When::BeforeEffect, counts: Box::new(|_| true) });
    }

    pub fn is_cut(&self) -> bool {
        self.cut.as_ref().is_some_and(|cut| cut.left == 0)
    }

    pub fn hang(&mut self, predicate: Predicate) {
        self.rules.push((predicate, Effect::Hang));
    }

    pub fn slow(&mut self, predicate: Predicate, delay: Duration) {
        self.rules.push((predicate, Effect::Slow(delay)));
    }

    pub fn fail(&mut self, predicate: Predicate, status: u16, message: String) {
        self.rules.push((predicate, Effect::Fail(status, message)));
    }

    /// Ends the hangs only.
    pub fn release(&mut self) {
        self.rules.retain(|(_, effect)| !matches!(effect, Effect::Hang));
    }

    pub fn hangs(&self, call: &Call) -> bool {
        self.rules.iter().any(|(predicate, effect)| matches!(effect, Effect::Hang) && predicate(call))
    }

    /// Judges a call that just came in, and counts it.
    pub fn admit(&mut self, call: &Call) -> Verdict {
        let mut verdict = Verdict::default();
        if let Some(cut) = &mut self.cut {
            if cut.left == 0 {
                verdict.cut = Some(When::BeforeEffect);
                return verdict;
            }
            if (cut.counts)(call) {
                cut.left -= 1;
                verdict.cut = (cut.left == 0).then_some(cut.when);
            }
        }
        for (predicate, effect) in &self.rules {
            if predicate(call) {
                match effect {
                    Effect::Hang => verdict.hang = true,
                    Effect::Slow(delay) => verdict.delay += *delay,
                    Effect::Fail(status, message) => verdict.fail = Some((*status, message.clone())),
                }
            }
        }
        verdict
    }
}
