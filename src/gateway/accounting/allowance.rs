//! How much of the journal of refusals each tenant may fill. Pure.
//!
//! The journal keeps its newest files, whoever filled them. So that nobody's refusals push another's off the
//! record within [`DAYS`], each tenant has an allowance in bytes: a third of its equal part at once, if it
//! has saved that up, as much again spread over the days, and as much again for a gateway that begins anew
//! every day, each time with what a day is worth. What is beyond it is added up.

use std::time::Duration;

use crate::model::host::JournalLimits;

/// For how long nobody's record is pushed out by another's: what a report may look back.
const DAYS: f64 = 90.0;

const DAY: f64 = 24.0 * 3600.0;

/// What there is from the beginning at least, in bytes: some ten refusals, where a tenant's part is as large.
const FIRST: f64 = 6144.0;

/// The rule that stands in the record of those that were not recorded one by one.
pub const NOT_RECORDED: &str = "not-recorded";

/// How often it is recorded how many there were, at most, and what is kept back for that, in bytes.
pub const SUMMED_UP: Duration = Duration::from_secs(3600);
const SUM: f64 = 512.0;

/// What one of so many tenants may have saved up, in bytes.
fn most(limits: JournalLimits, tenants: usize) -> f64 {
    // The file that is written to takes the place of the oldest one.
    let files = f64::from(limits.files.max(2) - 1);
    let bytes = limits.file_size.get() as f64 * files;
    bytes / 3.0 / tenants.max(1) as f64
}

/// What a tenant may still record, and what it was refused beyond that.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Allowance {
    /// Bytes; `None` before the first refusal.
    left: Option<f64>,
    /// When that was, since the gateway's beginning.
    at: Duration,
    /// How many refusals were not recorded, in all and since that was last recorded.
    pub unrecorded: u64,
    pub unsaid: u64,
    said: Option<Duration>,
}

impl Allowance {
    /// Fills it, at a time since the gateway's beginning.
    fn fill(&mut self, now: Duration, limits: JournalLimits, tenants: usize) -> f64 {
        let most = most(limits, tenants);
        let elapsed = now.saturating_sub(self.at).as_secs_f64();
        let left = self.left.map_or(FIRST.max(most / DAYS), |left| left + elapsed * most / DAYS / DAY).min(most);
        (self.left, self.at) = (Some(left), now);
        left
    }

    /// Whether a record of so many bytes may be written, which stands for so many refusals.
    pub fn records(
        &mut self,
        bytes: usize,
        refusals: u64,
        now: Duration,
        limits: JournalLimits,
        tenants: usize,
    ) -> bool {
        let left = self.fill(now, limits, tenants) - bytes as f64;
        let is_recorded = left >= SUM;
        if is_recorded {
            self.left = Some(left);
        } else {
            self.unrecorded = self.unrecorded.saturating_add(refusals);
            self.unsaid = self.unsaid.saturating_add(refusals);
        }
        is_recorded
    }

    /// How many refusals were not recorded one by one, where it is time to record that. At the end of the
    /// gateway, `all` says, it is.
    pub fn sum(&mut self, now: Duration, limits: JournalLimits, tenants: usize, all: bool) -> Option<u64> {
        let is_time = self.said.is_none_or(|said| now.saturating_sub(said) >= SUMMED_UP);
        if self.unsaid == 0 || !(all || is_time && self.fill(now, limits, tenants) >= SUM) {
            return None;
        }
        self.left = self.left.map(|left| left - SUM);
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::model::Bytes;

    const LIMITS: JournalLimits = JournalLimits { file_size: Bytes::mib(16), files: 64 };

    #[test]
    fn what_is_beyond_is_added_up_and_said_once_an_hour() {
        let mut allowance = Allowance::default();
        let at = Duration::from_secs;
        let recorded = (0..10_000).filter(|_| allowance.records(600, 1, at(1), LIMITS, 100)).count();
        // A day's worth of a hundredth of a third of 1 GiB.
        assert!((60..70).contains(&recorded), "{recorded}");
        assert_eq!(allowance.sum(at(1), LIMITS, 100, false), Some(10_000 - recorded as u64));
        assert!(!allowance.records(600, 5, at(2), LIMITS, 100));
        assert_eq!(allowance.sum(at(3600), LIMITS, 100, false), None);
        assert_eq!(allowance.sum(at(3601), LIMITS, 100, false), Some(5));
        assert_eq!(allowance.unrecorded, 10_005 - recorded as u64);
        let refused = (0..10).filter(|_| !allowance.records(600, 7, at(3602), LIMITS, 100)).count() as u64;
        assert!(refused > 5);
        assert_eq!(allowance.sum(at(3603), LIMITS, 100, true), Some(7 * refused));
        let day_after = (0..10_000).filter(|_| allowance.records(600, 1, at(90_000), LIMITS, 100)).count();
        assert!((50..70).contains(&day_after), "{day_after}");
    }

    proptest! {
        /// However all tenants behave, and though the gateway begins anew every day, what they fill in the days
        /// that count is less than the journal keeps.
        #[test]
        fn nobody_pushes_another_out(
            tenants in 1..50_usize,
            files in 32..80_u32,
            tries in vec((0..4000_usize, 300..1100_usize), 90),
        ) {
            let limits = JournalLimits { file_size: Bytes::mib(16), files };
            let saved_up = Allowance { left: Some(f64::MAX), ..Allowance::default() };
            let (mut allowance, mut filled) = (saved_up, 0);
            for (day, (count, bytes)) in tries.into_iter().enumerate() {
                let now = Duration::from_secs(day as u64 * 24 * 3600);
                if day > 0 && day % 2 == 0 {
                    allowance = Allowance { at: now, ..Allowance::default() };
                }
                for attempt in 0..count {
                    let now = now + Duration::from_secs(attempt as u64 * 20);
                    filled += if allowance.records(bytes, 1, now, limits, tenants) { bytes } else { 0 };
                    filled += if allowance.sum(now, limits, tenants, false).is_some() { SUM as usize } else { 0 };
                }
            }
            prop_assert!(filled * tenants <= usize::try_from(files - 1).unwrap_or(usize::MAX) << 24);
        }
    }
}
