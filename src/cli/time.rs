//! Times as they are written on the command line.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};

/// Reads a time, or a length of time before now.
pub fn since(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let Some((number, unit)) = span(text) else {
        anyhow::bail!("write a time such as 2026-11-21T10:00:00Z, or a number with s, m, h or d, such as 1h")
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit.into()));
    let then = seconds.and_then(|seconds| SystemTime::now().checked_sub(Duration::from_secs(seconds)));
    then.and_then(|then| Timestamp::try_from(then).ok()).context("this is too long ago")
}

/// What an option such as `--until` names: a moment, or a span from now on, to the second.
pub fn until(option: &str, text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    moment(text, now).with_context(|| {
        format!("{option} takes a time such as 2026-12-01T08:00:00Z or a duration such as 2h or 3d, not {text:?}")
    })
}

fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let (number, unit) = span(text)?;
    let seconds = number.parse::<i64>().ok()?.checked_mul(unit.into())?;
    let end = now.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    Timestamp::from_second(end.as_second()).ok()
}

/// The digits of a length of time, which may be none, and its unit in seconds; `None` where it has none of the units.
fn span(text: &str) -> Option<(&str, u32)> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some((number, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_ends_at_a_time_or_after_a_span() {
        let now = Timestamp::from_second(1_000_000_000).unwrap_or_default();
        let shown = |text: &str| moment(text, now).map(|time| time.to_string());
        for (text, expected) in [
            ("90s", "2001-09-09T01:48:10Z"),
            ("2h", "2001-09-09T03:46:40Z"),
            ("3d", "2001-09-12T01:46:40Z"),
            ("2026-12-01T08:00:00Z", "2026-12-01T08:00:00Z"),
            ("2026-12-01T08:00:00+01:00", "2026-12-01T07:00:00Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        for bad in
            ["", "h", "2", "2w", "-2h", "+2h", "2 h", "2ü", "tomorrow", "99999999999999999d", "9223372036854775807s"]
        {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
