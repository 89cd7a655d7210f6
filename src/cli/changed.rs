//! What the commits that led to one changed of their first parents, with what was found of that before.

use std::collections::BTreeMap;

use crate::source::{Changed, Findings, History, Trace};

/// What each commit changed that led to the one at a place by first parents, by their places. Those are left out of which
/// it is not known.
pub fn on_line_to(history: &History, place: usize) -> BTreeMap<usize, Changed> {
    let mut line: Vec<usize> = history.line(place).collect();
    line.reverse();
    let Some(cache) = history.kept("changed") else { return history.changed_at(&line) };
    let traces = history.traces();
    let kept = |of: &Trace| serde_json::from_slice(cache.get(*of)?).ok();
    let known = |place: &usize| Some((*place, traces.get(*place).and_then(kept)?));
    let mut all: BTreeMap<usize, Changed> = line.iter().filter_map(known).collect();
    line.retain(|place| !all.contains_key(place));
    let found = history.changed_at(&line);
    let mut new = Findings::default();
    for (place, changed) in &found {
        if let (Some(of), Ok(bytes)) = (traces.get(*place), serde_json::to_vec(changed)) {
            new.add(*of, &bytes);
        }
    }
    cache.keep(&new);
    all.extend(found);
    all
}
