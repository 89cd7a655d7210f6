//! Amounts with their units: processors, bytes, processes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

use super::Invalid;

/// Processor time, in billionths of one processor, as the engine counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Cpus(u64);

impl Cpus {
    /// The smallest share that the engine accepts, 0.01 of a processor.
    pub const MIN: Self = Self(10_000_000);
    /// A bound against slips: 1,024 processors.
    pub const MAX: Self = Self(1024 * 1_000_000_000);

    /// That many billionths of a processor.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// That many whole processors.
    pub const fn whole(count: u64) -> Self {
        Self(count * 1_000_000_000)
    }

    /// In billionths of a processor.
    pub const fn nanos(self) -> u64 {
        self.0
    }
}

impl FromStr for Cpus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const HELP: &str = "write processors as a decimal number, such as 0.5 or 2";
        let bad = |message: String| Invalid::new("wrong-unit", message, HELP);
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
            return Err(bad(format!("{text:?} is not a number of processors")));
        }
        if fraction.len() > 9 {
            return Err(bad(format!("{text:?} is finer than a billionth of a processor")));
        }
        let nanos = whole
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(1_000_000_000))
            .and_then(|n| format!("{fraction:0<9}").parse::<u64>().ok().and_then(|f| n.checked_add(f)));
        match nanos.map(Self) {
            Some(cpus) if (Self::MIN..=Self::MAX).contains(&cpus) => Ok(cpus),
            _ => Err(bad(format!("{text} processors is outside of {} to {}", Self::MIN, Self::MAX))),
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{fraction:09}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

crate::text_value!(Cpus, "Cpus", {
    "type": ["number", "string"],
    "minimum": 0.01,
    "maximum": 1024,
    "pattern": "^[0-9]+(\\.[0-9]{1,9})?$",
    "description": "processors, a decimal number such as 0.5 or 2",
    "examples": [0.5, 1, 2]
});

/// An amount of memory or disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Bytes(u64);

/// The units, largest first, with their factor in bytes.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Bytes {
    /// That many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// That many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// That many GiB.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// In bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// For people: rounded up to a unit of which there are ten at least.
    pub fn rounded(self) -> Self {
        let unit = UNITS.iter().map(|(_, factor)| *factor).find(|factor| self.0 >= 10 * factor).unwrap_or(1);
        Self(self.0.div_ceil(unit).saturating_mul(unit))
    }
}

impl FromStr for Bytes {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let help = match (number, unit.trim().to_ascii_lowercase().as_str()) {
            ("", _) => "write a whole number with KiB, MiB, GiB or TiB, such as 1536MiB".to_owned(),
            (_, "k" | "kb" | "ki") => format!("write {number}KiB"),
            (_, "m" | "mb" | "mi" | "") => format!("write {number}MiB"),
            (_, "g" | "gb" | "gi") => format!("write {number}GiB"),
            (_, "t" | "tb" | "ti") => format!("write {number}TiB"),
            _ => "write a whole number with KiB, MiB, GiB or TiB; 1.5GiB is 1536MiB".to_owned(),
        };
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let message = if unit.is_empty() && !number.is_empty() {
                format!("{text:?} has no unit")
            } else {
                format!("{text:?} is not an amount with a unit")
            };
            return Err(Invalid::new("wrong-unit", message, help));
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*factor))
            .filter(|bytes| (1..=1 << 50).contains(bytes))
            .map(Self)
            .ok_or_else(|| {
                Invalid::new("wrong-unit", format!("{text:?} is out of range"), "write more than 0 and at most 1024TiB")
            })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

crate::text_value!(Bytes, "Bytes", {
    "type": "string",
    "pattern": "^[0-9]+(KiB|MiB|GiB|TiB)$",
    "description": "a whole number with KiB, MiB, GiB or TiB",
    "examples": ["512MiB", "2GiB"]
});

/// How many processes and threads a tenant may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Pids(u32);

impl Pids {
    /// Fewer than 16 leave no room for an init and an agent.
    pub const MIN: Self = Self(16);
    /// The kernel's own default ceiling for one pid namespace.
    pub const MAX: Self = Self(32_768);

    /// That many, unchecked.
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for Pids {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let help = format!("write a whole number from {} to {}", Self::MIN, Self::MAX);
        match text.parse::<u32>().map(Self) {
            Ok(pids) if text.bytes().all(|b| b.is_ascii_digit()) && (Self::MIN..=Self::MAX).contains(&pids) => Ok(pids),
            _ => Err(Invalid::new("wrong-unit", format!("{text:?} is not a number of processes in range"), help)),
        }
    }
}

impl fmt::Display for Pids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

crate::text_value!(Pids, "Pids", {
    "type": "integer",
    "minimum": 16,
    "maximum": 32768,
    "description": "processes and threads at once"
});

/// A length of time, written as `500ms`, `30s`, `5m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Timespan(std::time::Duration);

impl Timespan {
    /// The shortest time that a key takes which has no bounds of its own.
    const LEAST: Self = Self::milliseconds(100);
    /// The longest time that any key takes.
    const MOST: Self = Self::seconds(86_400);

    /// That many seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(std::time::Duration::from_secs(count))
    }

    /// That many thousandths of a second.
    pub const fn milliseconds(count: u64) -> Self {
        Self(std::time::Duration::from_millis(count))
    }

    /// As the standard library's type.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    fn read(text: &str) -> Option<Self> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(factor).map(Self::milliseconds)
    }

    /// Reads a time for a key that has bounds of its own.
    ///
    /// # Errors
    /// The text is no time, or the time lies outside of the bounds.
    pub(crate) fn between(text: &str, least: Self, most: Self) -> Result<Self, Invalid> {
        let span = Self::read(text).ok_or_else(|| {
            Invalid::new(
                "wrong-unit",
                format!("{text:?} is not a length of time"),
                "write a whole number with ms, s, m or h, such as 30s",
            )
        })?;
        if (least..=most).contains(&span) {
            return Ok(span);
        }
        let help = format!("write {least} to {most}");
        Err(Invalid::new("out-of-range", format!("{text} is out of range"), help))
    }
}

impl FromStr for Timespan {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::read(text).filter(|span| (Self::LEAST..=Self::MOST).contains(span)).ok_or_else(|| {
            Invalid::new(
                "wrong-unit",
                format!("{text:?} is not a length of time from 100ms to 24h"),
                "write a whole number with ms, s, m or h, such as 30s",
            )
        })
    }
}

impl fmt::Display for Timespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 => f.write_str("0s"),
            ms if ms % 3_600_000 == 0 => write!(f, "{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1_000 == 0 => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl From<Timespan> for String {
    fn from(span: Timespan) -> Self {
        span.to_string()
    }
}

crate::text_value!(Timespan, "Timespan", {
    "type": "string",
    "pattern": "^[0-9]+(ms|s|m|h)$",
    "description": "a length of time: a whole number with ms, s, m or h",
    "examples": ["30s", "5m"]
});

/// Reads a whole number of a file within bounds, for keys that need no type of their own.
///
/// # Errors
/// Refuses a number outside of `min` to `max`.
pub(crate) fn bounded<'de, D: Deserializer<'de>>(deserializer: D, min: u32, max: u32) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if (min..=max).contains(&number) {
        return Ok(number);
    }
    Err(Invalid::new("out-of-range", format!("{number} is out of range"), format!("write {min} to {max}")).into_serde())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_exact_decimals() -> Result<(), Invalid> {
        for (text, nanos, shown) in
            [("1", 1_000_000_000, "1"), ("1.0", 1_000_000_000, "1"), ("0.25", 250_000_000, "0.25")]
        {
            let cpus: Cpus = text.parse()?;
            assert_eq!((cpus.nanos(), cpus.to_string().as_str()), (nanos, shown));
        }
        for bad in
            ["", ".5", "1.", "-1", "1e3", "0", "0.001", "1,5", "500m", "2000", "1.0000000001", "18446744073709551616"]
        {
            assert!(bad.parse::<Cpus>().is_err(), "{bad}");
        }
        Ok(())
    }

    #[test]
    fn bytes_need_a_unit_and_say_which() -> Result<(), Invalid> {
        assert_eq!("1536MiB".parse::<Bytes>()?.get(), 1_610_612_736);
        assert_eq!("1536MiB".parse::<Bytes>()?.to_string(), "1536MiB");
        assert_eq!("2048MiB".parse::<Bytes>()?.to_string(), "2GiB");
        for (bad, help) in
            [("512M", "write 512MiB"), ("512mb", "write 512MiB"), ("2g", "write 2GiB"), ("512", "write 512MiB")]
        {
            assert_eq!(bad.parse::<Bytes>().map_err(|e| e.help), Err(help.to_owned()));
        }
        for bad in ["", "MiB", "1.5GiB", "-1MiB", "0MiB", "99999999999999TiB", "1 GiB", "٣MiB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
        Ok(())
    }

    #[test]
    fn amounts_are_rounded_for_people() {
        for (bytes, shown) in
            [(0, "0B"), (4097, "4097B"), (20_481, "21KiB"), (67_043_328, "64MiB"), (137 << 30, "137GiB")]
        {
            assert_eq!(Bytes::new(bytes).rounded().to_string(), shown);
        }
    }

    #[test]
    fn spans_are_bounded() {
        assert_eq!("90s".parse::<Timespan>().map(|s| s.to_string()), Ok("90s".to_owned()));
        for bad in ["", "s", "5", "1d", "25h", "1ms", "99999999999999999999s"] {
            assert!(bad.parse::<Timespan>().is_err(), "{bad}");
        }
    }
}
