//! Scalars by the rules of YAML 1.2's core schema, decimal numbers only.

use std::borrow::Cow;

use super::super::yaml::{Node, NodeKind, Style};
use crate::model::shown::shortened;

/// Names what a node is, in the words of a YAML file.
pub(super) fn found(node: &Node) -> String {
    match &node.kind {
        NodeKind::Null { .. } => "nothing".to_owned(),
        NodeKind::Seq(_) => "a list".to_owned(),
        NodeKind::Map(_) => "a mapping".to_owned(),
        NodeKind::Scalar { text, style } => match style {
            Style::Plain if matches!(text.as_str(), "true" | "false") => format!("`{text}`"),
            Style::Plain if is_number(text) => format!("the number `{}`", short(text)),
            Style::Plain => format!("the string `{}`", short(text)),
            Style::Quoted => format!("the string `{}` in quotes", short(text)),
        },
    }
}

/// Shortens a text for a message.
pub(super) fn short(text: &str) -> Cow<'_, str> {
    shortened(text, 60)
}

/// Says whether a text is a whole decimal number: no `+`, no leading zeros.
pub(super) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    are_digits(digits) && (digits == "0" || !digits.starts_with('0'))
}

/// Says whether a text is a decimal number: `1`, `-0.5`, `2e9`.
pub(super) fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (text, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    is_integer(whole) && are_digits(fraction) && are_digits(exponent)
}

pub(super) fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Guesses the decimal number meant by another way of writing one.
pub(super) fn decimal(text: &str) -> Option<String> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = |radix, digits| u64::from_str_radix(digits, radix).ok();
    let number = match digits.get(..2) {
        Some("0x" | "0X") => radix(16, digits.get(2..)?)?.to_string(),
        Some("0o") => radix(8, digits.get(2..)?)?.to_string(),
        Some("0b") => radix(2, digits.get(2..)?)?.to_string(),
        _ if digits.starts_with('.') => format!("0{digits}"),
        _ if digits.ends_with('.') => format!("{digits}0"),
        // `010` may mean 8 or 10: no guess.
        _ => digits.to_owned(),
    };
    Some(format!("{sign}{number}"))
}
