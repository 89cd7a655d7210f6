//! Calls as types: what is asked, what is answered, how both travel, and who may ask.
//!
//! Server and client encode and decode a call by its type alone, so that neither names a path or a field of its own.

use std::{collections::BTreeMap, fmt, path::Path};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned, ser::Error};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::refusal::Refusal;
use crate::model::Host;

/// Where the answer to a request goes. Who asked may be gone.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// A call, which is its own request. What a path names is sent in the path, all other fields as JSON in the body.
pub trait Call: Serialize + DeserializeOwned + JsonSchema + Send + 'static {
    /// Who may make it.
    type Peer: PeerKind + From<Asked<Self>>;

    /// What is answered.
    type Answer: Serialize + DeserializeOwned + JsonSchema + Send + 'static;

    /// What it does to the daemon.
    const EFFECT: Effect;

    /// Whether a user may make it at a bounded rate alone, where it changes something.
    const IS_PACED: bool = true;

    /// Its paths, the shortest first. The last one whose names all have a value is used.
    const PATHS: &'static [&'static str];

    /// Looks for what makes no sense, whatever the daemon knows.
    ///
    /// # Errors
    /// The reason why it makes none.
    fn check(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// What a call does. Its method, its status and where it is served follow from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It shows something: `GET`, over TCP as well.
    Reads,
    /// It changes something, or has something written down: `POST`, on the socket alone, at a bounded rate.
    Changes,
    /// The same, and what it begins goes on after the answer (202).
    Begins,
}

/// A call as it reaches the daemon's loop. It is answered once.
#[derive(Debug)]
pub struct Asked<C: Call> {
    /// What is asked.
    pub call: C,
    /// Who asks: the name of the user at the other end of the socket. Empty over TCP, where nothing can be changed.
    pub by: String,
    /// Where the answer goes.
    pub reply: Reply<C::Answer>,
}

/// A list of calls, made by `calls!`.
pub trait Calls: Send + Sized + 'static {
    /// Shows each call's type to a visitor.
    fn each(visitor: &mut impl Visitor<Self>);

    /// Whether nobody waits for the answer any more.
    fn is_given_up(&self) -> bool;
}

/// Whoever needs the types of all calls of a list.
pub trait Visitor<K> {
    /// Takes one call.
    fn call<C: Call<Peer = K>>(&mut self);
}

/// A kind of peer: it has a socket and a list of calls of its own.
pub trait PeerKind: Calls {
    /// Where its socket is, and who may make calls there; `None` where the host's settings want no such peer.
    fn socket(host: &Host) -> Option<(&Path, Callers)>;
}

/// Who may make the calls of a kind of peer. The socket's group and mode follow from it, and each call is checked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Root alone.
    Root,
    /// Root, and the members of a group, whom only the kernel knows: it compares when they connect.
    Group(String),
    /// Root, and one user. Others of that user's group can open the socket, and no more.
    User(String),
}

/// The list of the calls of a kind of peer, and the enumeration in which they reach the daemon's loop.
macro_rules! calls {
    ($(#[$doc:meta])* $kind:ident: $($call:ident,)*) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $kind {
            $(#[doc = concat!("See [`struct@", stringify!($call), "`].")] $call($crate::web::Asked<$call>),)*
        }

        impl $crate::web::Calls for $kind {
            fn each(visitor: &mut impl $crate::web::Visitor<Self>) {
                $(visitor.call::<$call>();)*
            }

            fn is_given_up(&self) -> bool {
                match self { $(Self::$call(asked) => asked.reply.is_closed(),)* }
            }
        }

        $(impl From<$crate::web::Asked<$call>> for $kind {
            fn from(asked: $crate::web::Asked<$call>) -> Self {
                Self::$call(asked)
            }
        })*
    };
}
pub(super) use calls;

/// What a path names, in its order.
pub(super) fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(name)
}

fn name(word: &str) -> Option<&str> {
    word.strip_prefix('{')?.strip_suffix('}')
}

/// A call as path and body; the body is empty where the path says all.
///
/// # Errors
/// It cannot be written as JSON, or what each of its paths names has no value.
pub(super) fn encode<C: Call>(call: &C) -> serde_json::Result<(String, String)> {
    let Value::Object(mut fields) = serde_json::to_value(call)? else {
        return Err(serde_json::Error::custom("a call is an object"));
    };
    fields.retain(|_, value| !value.is_null());
    let has_all = |path: &&&str| names(path).all(|name| fields.get(name).is_some_and(Value::is_string));
    let path = C::PATHS.iter().rev().find(has_all).ok_or_else(|| serde_json::Error::custom("no path fits the call"))?;
    let words = path.split('/').map(|word| match name(word).and_then(|name| fields.remove(name)) {
        Some(value) => utf8_percent_encode(value.as_str().unwrap_or_default(), PART).to_string(),
        None => word.to_owned(),
    });
    let path = words.collect::<Vec<_>>().join("/");
    let body = if fields.is_empty() { String::new() } else { Value::Object(fields).to_string() };
    Ok((path, body))
}

/// A call out of what the path names and the body.
///
/// # Errors
/// They are not what the call takes, or make no sense.
pub(super) fn decode<C: Call>(named: BTreeMap<String, String>, body: &[u8]) -> Result<C, Refusal> {
    let wrong = |why: &dyn fmt::Display| Refusal::invalid(format!("the body is not what this call takes: {why}"));
    let body = if body.is_empty() { b"null" } else { body };
    let body: Option<Map<String, Value>> = serde_json::from_slice(body).map_err(|e| wrong(&e))?;
    let mut fields = body.unwrap_or_default();
    if let Some(name) = C::PATHS.iter().flat_map(|path| names(path)).find(|name| fields.contains_key(*name)) {
        return Err(wrong(&format_args!("`{name}` is part of the path")));
    }
    fields.extend(named.into_iter().map(|(name, value)| (name, Value::String(value))));
    let call: C = serde_json::from_value(Value::Object(fields)).map_err(|e| wrong(&e))?;
    call.check()?;
    Ok(call)
}

/// What is escaped in a word that is one part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
