//! A review as people and programs read it.

pub mod csv;

mod json;
mod junit;
mod markdown;
mod text;

pub use json::{Document, json};
pub use junit::junit;
pub use markdown::markdown;
pub use text::text;

use serde_json::Value;

use super::{Effect, FileChange, Mark, Review, TenantChange, TenantReview};
use crate::{
    model::{
        finding::printable,
        tree::{Person, Signature},
    },
    plan::render::{GREEN, RED, Style, YELLOW},
};

/// Which two states of a repo are compared.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// The older one, such as `main@sha1:…`.
    pub base: &'a str,
    /// The newer one.
    pub now: &'a str,
}

/// A value in a line of text.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// A mark in its colour, in a column of a width.
pub fn marked(mark: Mark, width: usize, style: Style) -> String {
    let colour = match mark {
        Mark::Loosens => RED,
        Mark::Tightens => GREEN,
        Mark::Neutral => YELLOW,
    };
    style.paint(colour, &format!("{:width$}", mark.as_str()))
}

/// An effect in words: `limits.memory 512MiB -> 1GiB`.
pub fn words(effect: &Effect) -> String {
    let Effect { field, before, after, .. } = effect;
    match (before, after) {
        (Value::Null, after) => format!("{field} + {}", shown(after)),
        (before, Value::Null) => format!("{field} - {}", shown(before)),
        (before, after) => format!("{field} {} -> {}", shown(before), shown(after)),
    }
}

/// What is known of a commit's signature, in words.
pub fn signature(signature: &Signature) -> String {
    match signature {
        Signature::None => "unsigned".to_owned(),
        Signature::By(name) => format!("signed by {}", printable(name)),
        Signature::Unknown(kind) => format!("signed ({kind}, not checked)"),
        Signature::Bad(why) => format!("signature does not count: it {}", printable(why)),
    }
}

/// Somebody, as a commit names them.
pub fn person(person: &Person) -> String {
    format!("{} <{}>", printable(&person.name), printable(&person.email))
}

/// What a commit made of a tenant as a whole; `None` where only settings of it changed. `renamed` has new and former names.
pub fn came_or_went(tenant: &TenantReview, renamed: &[(String, String)]) -> Option<String> {
    let former = renamed.iter().find(|(new, _)| *new == tenant.tenant);
    match (tenant.change, former) {
        (TenantChange::Added, Some((_, former))) => Some(format!("is new, as {former} was")),
        (TenantChange::Added, None) => Some("is new".to_owned()),
        (TenantChange::Removed, _) => Some("is gone".to_owned()),
        (TenantChange::Held, _) => Some("is held, its file has errors".to_owned()),
        (TenantChange::Changed, _) => None,
    }
}

/// How many names are shown where a few words must do.
const NAMED: usize = 12;

/// Some names, and how many more there are.
pub fn some(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{}, {more} more", shown.join(", ")),
    }
}

const fn became(change: TenantChange) -> &'static str {
    match change {
        TenantChange::Added => "is added",
        TenantChange::Removed => "is removed",
        TenantChange::Changed => "changes",
        TenantChange::Held => "is held: its file has errors",
    }
}

/// The last line of a review.
pub fn summary(review: &Review) -> String {
    let of = |change| review.tenants.iter().filter(|one| one.change == change).count();
    let all = [TenantChange::Added, TenantChange::Changed, TenantChange::Removed, TenantChange::Held]
        .map(|change| (of(change), change));
    let some = all.into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = some.map(|(count, change)| format!("{count} {}", change.as_str())).collect();
    let tenants = match counts.is_empty() {
        true => "no tenant changes".to_owned(),
        false => counts.join(", "),
    };
    let marks = Mark::ALL.map(|mark| (review.count(mark), mark));
    let marks = marks.into_iter().filter(|(count, _)| *count > 0).map(|(count, mark)| {
        let verb = match (mark, count) {
            (Mark::Loosens, 1) => "is loosened",
            (Mark::Loosens, _) => "are loosened",
            (Mark::Tightens, 1) => "is tightened",
            (Mark::Tightens, _) => "are tightened",
            (Mark::Neutral, 1) => "has a neutral change",
            (Mark::Neutral, _) => "have a neutral change",
        };
        format!("{count} {verb}")
    });
    let mut line = format!("Tenants: {tenants}");
    for mark in marks {
        line.push_str("; ");
        line.push_str(&mark);
    }
    if !review.fleet.is_empty() {
        line.push_str("; the fleet's own policy changes");
    }
    line.push('.');
    line
}
