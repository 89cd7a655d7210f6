//! How ids, lengths of time and long texts are shown to people.

use std::borrow::Cow;

use jiff::SignedDuration;

/// How many digits of the id of a commit, a container or a network are shown.
const ID_DIGITS: usize = 12;

/// The first twelve digits of an id, enough for a person.
pub fn short_id(id: &str) -> &str {
    id.get(..ID_DIGITS).unwrap_or(id)
}

/// At most so many characters of a text, with an ellipsis behind them where it has more.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most).and_then(|(end, _)| text.get(..end)) {
        Some(start) => Cow::Owned(format!("{start}…")),
        None => Cow::Borrowed(text),
    }
}

/// A length of time in its two largest units, such as `1d03h` or `45s`. A negative one counts as none.
pub fn duration(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, _) => format!("{seconds}s"),
        (0, 0, _, 0) => format!("{minutes}m"),
        (0, 0, _, seconds) => format!("{minutes}m{seconds:02}s"),
        (0, _, 0, _) => format!("{hours}h"),
        (0, ..) => format!("{hours}h{minutes:02}m"),
        (_, 0, ..) => format!("{days}d"),
        _ => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (seconds, shown) in [
            (-5, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m01s"),
            (3_600, "1h"),
            (3_660, "1h01m"),
            (86_400, "1d"),
            (100_000, "1d03h"),
        ] {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!((shortened("äöü", 3), shortened("äöü", 2)), ("äöü".into(), "äö…".into()));
        assert_eq!((short_id("abc"), short_id("0123456789abcdef")), ("abc", "0123456789ab"));
    }
}
