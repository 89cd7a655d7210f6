//! What is wrong with a value, on its way to the nearest `Located`.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::super::yaml::Node;
use super::scalar::{found, short};
use crate::model::finding::{Span, rule, suggest};
use crate::model::invalid::SEPARATOR;

/// An error on its way to the nearest [`Located`].
#[derive(Debug)]
pub(super) struct Error(pub(super) Box<Reason>);

#[derive(Debug)]
pub(super) enum Reason {
    /// The findings have it.
    Reported,
    /// The nearest [`Located`] is to be decoded anew.
    Again,
    /// A struct lacks a key; known by the address of its node once that is known.
    Missing { field: &'static str, node: Option<usize> },
    /// The visitor wants something else than what is there; the node puts "found ..." to it.
    Expected { code: &'static str, expected: String },
    /// Anything else.
    Problem { span: Option<Span>, code: &'static str, message: String, help: Option<String> },
}

impl Error {
    pub(super) fn reported() -> Self {
        Self(Box::new(Reason::Reported))
    }

    pub(super) fn problem(code: &'static str, message: String, help: Option<String>) -> Self {
        Self(Box::new(Reason::Problem { span: None, code, message, help }))
    }

    /// Says of an error which node it is about, if that is not known yet.
    pub(super) fn at(mut self, node: &Node) -> Self {
        match &mut *self.0 {
            Reason::Problem { span, .. } => {
                span.get_or_insert(node.span);
                self
            }
            Reason::Expected { code, expected } => {
                let message = format!("expected {expected}, found {}", found(node));
                let help = format!("write {expected}");
                Self::problem(code, message, Some(help)).at(node)
            }
            Reason::Reported | Reason::Again | Reason::Missing { .. } => self,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Reason::Reported | Reason::Again => f.write_str("wrong, and reported"),
            Reason::Missing { field, .. } => write!(f, "missing key `{field}`"),
            Reason::Expected { expected, .. } => write!(f, "expected {expected}"),
            Reason::Problem { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        let mut parts = text.splitn(4, SEPARATOR);
        if let (Some(""), Some(code), Some(message)) = (parts.next(), parts.next(), parts.next()) {
            let code = rule(code).unwrap_or("invalid-value");
            Self::problem(code, message.to_owned(), parts.next().map(str::to_owned))
        } else {
            Self::problem("invalid-value", text, None)
        }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (code, expected) = ("wrong-type", expected.to_string());
        Self(Box::new(Reason::Expected { code, expected }))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (code, expected) = ("invalid-value", expected.to_string());
        Self(Box::new(Reason::Expected { code, expected }))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        let message = format!("expected {expected}, found {length} entries");
        Self::problem("wrong-type", message, None)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        unknown_value(variant, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let (message, help) = unknown_key(field, expected.iter().copied(), expected);
        Self::problem("unknown-key", message, Some(help))
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Box::new(Reason::Missing { field, node: None }))
    }

    fn duplicate_field(field: &'static str) -> Self {
        let message = format!("the key `{field}` is written twice, under two names");
        let help = "keep one of the two".to_owned();
        Self::problem("duplicate-key", message, Some(help))
    }
}

pub(super) fn list(words: &[&str]) -> String {
    let mut out = String::new();
    for word in words {
        let separator = if out.is_empty() { "" } else { ", " };
        out.extend([separator, "`", word, "`"]);
    }
    out
}

/// Words that people write for a key, where no spelling shows which is meant.
const SYNONYMS: [(&str, &str); 11] = [
    ("after", "trialPeriod"),
    ("authorities", "caBundle"),
    ("body", "maxBodySize"),
    ("encryptedHello", "encryptedClientHello"),
    ("head", "maxHeaderSize"),
    ("hello", "handshakeTimeout"),
    ("idle", "idleTimeout"),
    ("lookups", "lookupsPerSecond"),
    ("permit", "permittedRanges"),
    ("settle", "minRunning"),
    ("stall", "stallTimeout"),
];

/// Returns message and help; `open` are the known keys that are not written yet.
pub(super) fn unknown_key(key: &str, open: impl Iterator<Item = &'static str>, known: &[&str]) -> (String, String) {
    let open: Vec<&str> = open.collect();
    let synonym = SYNONYMS.iter().find(|(word, meant)| *word == key && open.contains(meant)).map(|(_, meant)| *meant);
    let help = match synonym.or_else(|| suggest(key, open)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => "remove it: no keys are known here".to_owned(),
        None => format!("known keys: {}", list(known)),
    };
    (format!("unknown key `{}`", short(key)), help)
}

pub(super) fn unknown_value(value: &str, known: &'static [&'static str]) -> Error {
    let help = match suggest(value, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`? known values: {}", list(known)),
        None => format!("write one of {}", list(known)),
    };
    let message = format!("unknown value `{}`", short(value));
    Error::problem("unknown-value", message, Some(help))
}
