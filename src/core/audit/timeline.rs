//! What is drawn of a stretch of time: for each tenant how much of what happened in each of some parts of it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{bounded::Table, period::Period};

/// In how many parts a period is drawn.
pub const PARTS: u16 = 180;

/// What is drawn of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimelineKind {
    /// A commit changed something that is neutral.
    Neutral,
    /// A commit tightened.
    Tightens,
    /// A commit loosened.
    Loosens,
    /// Drift was put right.
    Corrected,
    /// Drift was left as it was.
    Left,
    /// A step failed, or what became of it is not known.
    Failed,
    /// A commit was bad for a tenant.
    Bad,
    /// The gateway refused something.
    Refused,
    /// A commit was held, or not applied, or a tenant waits for an approval.
    Held,
    /// Somebody approved a commit, or what loosens a tenant.
    Approved,
}

impl TimelineKind {
    /// All of them, in the order in which they are drawn.
    pub const ALL: [Self; 10] = [
        Self::Refused,
        Self::Neutral,
        Self::Tightens,
        Self::Loosens,
        Self::Corrected,
        Self::Left,
        Self::Held,
        Self::Approved,
        Self::Bad,
        Self::Failed,
    ];

    /// The words in the legend.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Neutral => "neutral change",
            Self::Tightens => "tightening",
            Self::Loosens => "loosening",
            Self::Corrected => "drift, corrected",
            Self::Left => "drift, left",
            Self::Failed => "step failed or unknown",
            Self::Bad => "bad commit, fall-back",
            Self::Refused => "refused by the gateway",
            Self::Held => "held, refused or waiting",
            Self::Approved => "approved",
        }
    }
}

/// How much of each kind happened in each part.
pub type TimelineRow = BTreeMap<(u16, TimelineKind), u64>;

/// The rows of all tenants, and that of the fleet.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// By tenant.
    pub tenants: Table<String, TimelineRow>,
    /// What is about no tenant, or about all.
    pub fleet: TimelineRow,
}

impl Timeline {
    /// Puts something where it happened; what lies beyond the period, at its edge.
    pub fn mark(&mut self, period: Period, time: Timestamp, tenant: Option<&str>, kind: TimelineKind, count: u64) {
        let row = match tenant {
            Some(tenant) => self.tenants.of(&tenant.to_owned()),
            None => &mut self.fleet,
        };
        let marks = row.entry((part(period, time), kind)).or_default();
        *marks = marks.saturating_add(count);
    }

    /// Takes in those of another journal.
    pub fn merge(&mut self, other: Self) {
        let add = |to: &mut TimelineRow, from: TimelineRow| {
            for (place, count) in from {
                let marks = to.entry(place).or_default();
                *marks = marks.saturating_add(count);
            }
        };
        add(&mut self.fleet, other.fleet);
        for (tenant, row) in other.tenants.rows {
            add(self.tenants.of(&tenant), row);
        }
        if let Some(row) = other.tenants.rest {
            add(self.tenants.rest.get_or_insert_default(), row);
        }
    }
}

/// The part of a period that a time lies in.
fn part(period: Period, time: Timestamp) -> u16 {
    u16::try_from(scaled(period, time, PARTS.into())).unwrap_or_default().min(PARTS - 1)
}

/// How much of a period is over at a time, from 0 to so many.
pub fn scaled(period: Period, time: Timestamp, most: u32) -> u32 {
    let since = |time: Timestamp| i128::from(time.as_millisecond()) - i128::from(period.from.as_millisecond());
    let length = since(period.to).max(1);
    u32::try_from(since(time).clamp(0, length) * i128::from(most) / length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_place_and_what_lies_beyond_is_at_the_edge() -> Result<(), jiff::Error> {
        let period = Period { from: "2026-11-01T00:00:00Z".parse()?, to: "2026-11-02T00:00:00Z".parse()? };
        for (time, place) in [
            ("2026-10-01T00:00:00Z", 0),
            ("2026-11-01T00:00:00Z", 0),
            ("2026-11-01T12:00:00Z", 500),
            ("2026-11-02T00:00:00Z", 1000),
            ("9999-01-01T00:00:00Z", 1000),
        ] {
            assert_eq!(scaled(period, time.parse()?, 1000), place, "{time}");
        }
        assert_eq!(part(period, period.to), PARTS - 1);
        let nothing = Period { to: period.from, ..period };
        assert_eq!(scaled(nothing, period.from, 1000), 0);
        Ok(())
    }
}
