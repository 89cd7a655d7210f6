//! One node on its way to a value, and what is written down on the way.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeSeed;

use super::super::yaml::{Key, Node, NodeKind, Style};
use super::error::{Error, Reason};
use super::scalar::{decimal, found, is_integer, is_number, short};
use crate::model::finding::{Finding, Span};

/// Identifies a node while its tree lives.
pub(super) fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

/// What one file's decoding writes down.
pub(super) struct Context<'a> {
    pub(super) file: &'a str,
    pub(super) findings: RefCell<Vec<Finding>>,
    /// The required keys found missing so far, by the address of the mapping that lacks them.
    ///
    /// A derived `Deserialize` gives up at the first of them. It is then tried anew, and this
    /// time given the key with a value that only a [`Located`] accepts.
    pub(super) missing: RefCell<BTreeSet<(usize, &'static str)>>,
    /// The values of struct fields without a [`Located`] that were found wrong so far, by the
    /// address of the value, and what is wrong with them.
    ///
    /// A derived `Deserialize` gives up there, too, is tried anew, and this time goes without the
    /// key.
    pub(super) skipped: RefCell<BTreeMap<usize, Vec<Finding>>>,
}

/// How many keys can be found missing, and values skipped, before decoding anew is given up.
const MAX_ATTEMPTS: usize = 1000;

pub(super) enum Attempt<T> {
    Value(T),
    /// One more key is known to be missing, or to be skipped: try again.
    Again,
    Failed,
}

impl Context<'_> {
    pub(super) fn report(&self, span: Span, code: &'static str, message: &str, help: Option<&str>) {
        let finding = Finding::error(self.file, span, code, message, help);
        self.findings.borrow_mut().push(finding);
    }

    /// Writes down an error that ends at this node.
    fn report_error(&self, error: Error, node: &Node) {
        match *error.at(node).0 {
            Reason::Missing { field, .. } => {
                let message = format!("missing key `{field}`");
                self.report(node.span, "missing-key", &message, None);
            }
            Reason::Problem { span, code, message, help } => {
                let span = span.unwrap_or(node.span);
                self.report(span, code, &message, help.as_deref());
            }
            Reason::Reported | Reason::Again | Reason::Expected { .. } => {}
        }
    }

    fn may_try_again(&self) -> bool {
        self.missing.borrow().len() + self.skipped.borrow().len() < MAX_ATTEMPTS
    }

    /// Decodes a node. A try that is to be made again takes the findings it made (those from
    /// `mark` on) back.
    pub(super) fn attempt<'de, S: DeserializeSeed<'de>>(&self, seed: S, de: De<'_>, mark: usize) -> Attempt<S::Value> {
        let error = match seed.deserialize(de) {
            Ok(value) => return Attempt::Value(value),
            Err(error) => error,
        };
        let again = match *error.0 {
            Reason::Again => true,
            Reason::Missing { field, node: Some(node) } => {
                self.may_try_again() && self.missing.borrow_mut().insert((node, field))
            }
            _ => false,
        };
        if again {
            self.findings.borrow_mut().truncate(mark);
            return Attempt::Again;
        }
        self.report_error(error, de.node);
        Attempt::Failed
    }

    /// Makes the next try go without a value that is wrong; returns the error that leads to it.
    pub(super) fn skip(&self, error: Error, node: &Node, mark: usize) -> Error {
        if matches!(*error.0, Reason::Again | Reason::Missing { node: Some(_), .. }) {
            return error;
        }
        self.report_error(error, node);
        if !self.may_try_again() {
            return Error::reported();
        }
        let found = self.findings.borrow().iter().skip(mark).cloned().collect();
        self.skipped.borrow_mut().insert(address(node), found);
        Error(Box::new(Reason::Again))
    }

    /// Says whether a value is to be skipped, and reports it if so.
    pub(super) fn skipped(&self, node: &Node) -> bool {
        let skipped = self.skipped.borrow();
        let found = skipped.get(&address(node));
        self.findings.borrow_mut().extend(found.into_iter().flatten().cloned());
        found.is_some()
    }
}

/// Deserializes one node. An error that it returns does not always say where it is about:
/// whoever hands a `De` to a seed calls [`Error::at`].
#[derive(Clone, Copy)]
pub(super) struct De<'a> {
    pub(super) node: &'a Node,
    pub(super) context: &'a Context<'a>,
    /// The key it is the value of.
    pub(super) name: Option<&'a str>,
}

impl<'a> De<'a> {
    /// Makes the error for a node of another type than expected.
    pub(super) fn wrong(self, expected: &str, help: Option<String>) -> Error {
        match &self.node.kind {
            NodeKind::Null { .. } if self.node.refused => Error::reported(),
            NodeKind::Null { text } => {
                let message = self.no_value(text);
                let help = if text.is_empty() || expected != "a string" {
                    format!("write {expected}")
                } else {
                    "write a string; if the word itself is meant, put it in quotes".to_owned()
                };
                Error::problem("null-value", message, Some(help)).at(self.node)
            }
            _ => {
                let message = format!("expected {expected}, found {}", found(self.node));
                Error::problem("wrong-type", message, help).at(self.node)
            }
        }
    }

    pub(super) fn no_value(self, written: &str) -> String {
        match self.name {
            Some(name) if written.is_empty() => format!("`{}:` has no value", short(name)),
            Some(name) => format!("`{}: {written}` has no value", short(name)),
            None => "this entry has no value".to_owned(),
        }
    }

    pub(super) fn string(self) -> Result<&'a str, Error> {
        match &self.node.kind {
            NodeKind::Scalar { text, .. } => Ok(text),
            NodeKind::Map(_) => {
                let help = "text that contains `: ` or begins with `{` goes in quotes";
                Err(self.wrong("a string", Some(help.to_owned())))
            }
            _ => {
                let help = "text that begins with `- ` or `[` goes in quotes";
                Err(self.wrong("a string", Some(help.to_owned())))
            }
        }
    }

    pub(super) fn seq(self) -> Result<&'a [Node], Error> {
        match &self.node.kind {
            NodeKind::Seq(nodes) => Ok(nodes),
            NodeKind::Map(_) => {
                let help = "begin each entry of the list with `- `";
                Err(self.wrong("a list", Some(help.to_owned())))
            }
            NodeKind::Scalar { text, .. } => {
                let help = format!("write `- {}` on a line of its own", short(text));
                Err(self.wrong("a list", Some(help)))
            }
            NodeKind::Null { .. } => Err(self.wrong("a list", None)),
        }
    }

    pub(super) fn map(self) -> Result<&'a [(Key, Node)], Error> {
        match &self.node.kind {
            NodeKind::Map(entries) => Ok(entries),
            NodeKind::Scalar { text, style: Style::Plain } if text.contains(':') => {
                let help = "put a space after the `:` of a key: `key: value`";
                Err(self.wrong("a mapping", Some(help.to_owned())))
            }
            NodeKind::Seq(_) => {
                let help = "write `key: value` lines without `- `";
                Err(self.wrong("a mapping", Some(help.to_owned())))
            }
            _ => {
                let help = match self.name {
                    Some(name) => format!("write `key: value` lines, indented, below `{}:`", short(name)),
                    None => "write `key: value` lines".to_owned(),
                };
                Err(self.wrong("a mapping", Some(help)))
            }
        }
    }

    pub(super) fn boolean(self) -> Result<bool, Error> {
        let expected = "true or false";
        let NodeKind::Scalar { text, style } = &self.node.kind else {
            return Err(self.wrong(expected, Some(format!("write {expected}"))));
        };
        let meant = match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => "true",
            "false" | "no" | "off" | "n" => "false",
            _ => return Err(self.wrong(expected, Some(format!("write {expected}")))),
        };
        if *style == Style::Plain && text == meant {
            return Ok(meant == "true");
        }
        let help = format!("write `{meant}`, without quotes");
        Err(self.wrong(expected, Some(help)))
    }

    /// Returns the text of a number, after `shape` has said that it is one. `help` says what to
    /// write if there is no better guess.
    fn number(self, expected: &str, shape: fn(&str) -> bool, help: &str) -> Result<&'a str, Error> {
        let NodeKind::Scalar { text, style } = &self.node.kind else {
            return Err(self.wrong(expected, Some(help.to_owned())));
        };
        if *style == Style::Plain && shape(text) {
            return Ok(text);
        }
        let guess = decimal(text).filter(|decimal| shape(decimal));
        let help = match guess {
            _ if shape(text) => format!("write `{}`, without quotes", short(text)),
            Some(guess) => format!("write a decimal number: `{}`", short(&guess)),
            None => help.to_owned(),
        };
        Err(self.wrong(expected, Some(help)))
    }

    pub(super) fn integer<I: TryFrom<i128>>(self, min: i128, max: i128) -> Result<I, Error> {
        let help = format!("write a whole number from {min} to {max}");
        let text = self.number("a whole number", is_integer, &help)?;
        // What i128 cannot hold is out of the range of all smaller types, too.
        let number = text.parse::<i128>().ok();
        if let Some(number) = number.and_then(|number| I::try_from(number).ok()) {
            return Ok(number);
        }
        let message = if text.starts_with('-') {
            format!("`{}` is too small: {min} is the least", short(text))
        } else {
            format!("`{}` is too large: {max} is the most", short(text))
        };
        Err(Error::problem("out-of-range", message, Some(help)).at(self.node))
    }

    pub(super) fn float(self) -> Result<f64, Error> {
        let help = "write a number such as `2` or `0.5`";
        let text = self.number("a number", is_number, help)?;
        text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| {
            let message = format!("`{}` is too large", short(text));
            Error::problem("out-of-range", message, Some(help.to_owned())).at(self.node)
        })
    }
}
