//! The timeline: a row for each tenant, to be looked at rather than read. SVG, without a script.

use std::{collections::BTreeSet, fmt::Write};

use jiff::{SignedDuration, Timestamp};

use super::{
    super::{
        data::{Gap, Report, Suspension},
        timeline::{PARTS, TimelineKind, TimelineRow, scaled},
        words::seconds,
    },
    document::touched,
    markup::escaped,
};
use crate::model::shown::shortened;

/// How many tenants have a row of their own.
const ROWS: usize = 60;

/// Measures, in the units of the drawing.
const LABELS: u32 = 160;
const CHART: u32 = 890;
const WIDTH: u32 = LABELS + CHART + 30;
const TOP: u32 = 30;
/// The height of a row; of many rows, each is lower, so that they fit on a page.
const ROW_HEIGHT: u32 = 26;
const LOW_ROW_HEIGHT: u32 = 20;
const MANY: usize = 24;
const BOTTOM: u32 = 12;

/// How many lines the time axis has at most.
const TICKS: i64 = 10;

/// The steps between two lines of the time axis, in seconds.
const STEPS: [i64; 17] = [
    60,
    300,
    900,
    3_600,
    10_800,
    21_600,
    43_200,
    86_400,
    172_800,
    432_000,
    604_800,
    1_209_600,
    2_592_000,
    7_776_000,
    15_552_000,
    31_536_000,
    315_360_000,
];

/// The longest name beside a row, in characters.
const NAME: usize = 22;

/// What is drawn in one row.
struct Drawn<'a> {
    name: String,
    marks: TimelineRow,
    suspensions: Vec<&'a Suspension>,
}

/// The drawing, with a legend. `None` where there is nothing to draw.
pub(super) fn timeline_chart(report: &Report) -> Option<String> {
    let tenants = tenants(report);
    if tenants.is_empty() && report.timeline.fleet.is_empty() && report.gaps.kept.is_empty() {
        return None;
    }
    let fleet =
        Drawn { name: "fleet, journal".to_owned(), marks: report.timeline.fleet.clone(), suspensions: Vec::new() };
    let all: Vec<Drawn<'_>> = std::iter::once(fleet).chain(tenants).collect();
    let row_height = if all.len() > MANY { LOW_ROW_HEIGHT } else { ROW_HEIGHT };
    let height = TOP + row_height * u32::try_from(all.len()).unwrap_or_default() + BOTTOM;
    let svg = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Time line\">\n\
         <defs><pattern id=\"hatch\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><rect width=\"7\" height=\"7\" class=\"hatch-background\"/>\
         <rect width=\"2.4\" height=\"7\" class=\"hatch-line\"/></pattern></defs>\n"
    );
    let mut canvas = Canvas { report, row_height, height, svg };
    for (number, row) in all.iter().enumerate() {
        canvas.background(number, &row.name);
    }
    canvas.axis();
    for gap in &report.gaps.kept {
        canvas.band(gap);
    }
    for (number, row) in all.iter().enumerate() {
        canvas.draw(number, row);
    }
    canvas.svg.push_str("</svg>\n");
    Some(canvas.svg + &legend())
}

/// The tenants that something happened to: those with most of it by themselves, the others together.
fn tenants(report: &Report) -> Vec<Drawn<'_>> {
    let tenants = &report.timeline.tenants;
    let weight = |name: &str| -> u64 {
        let row = tenants.rows.get(name).into_iter().flatten();
        let marks = row.map(|((_, kind), count)| match kind {
            TimelineKind::Failed | TimelineKind::Bad => count.saturating_mul(100),
            TimelineKind::Loosens | TimelineKind::Left => count.saturating_mul(20),
            TimelineKind::Refused => 1,
            _ => *count,
        });
        marks.fold(0, u64::saturating_add)
    };
    let mut names: Vec<&str> = touched(report).into_iter().collect();
    names.sort_by_cached_key(|name| (std::cmp::Reverse(weight(name)), *name));
    let shown: BTreeSet<&str> = names.iter().take(ROWS).copied().collect();
    let drawn = |name: &&str| Drawn {
        name: (*name).to_owned(),
        marks: tenants.rows.get(*name).cloned().unwrap_or_default(),
        suspensions: report.suspensions.kept.iter().filter(|one| one.tenant == **name).collect(),
    };
    let mut rows: Vec<Drawn<'_>> = shown.iter().map(drawn).collect();
    let more = names.len() - shown.len();
    if more > 0 || tenants.rest.is_some() {
        let others = tenants.rows.iter().filter(|(name, _)| !shown.contains(name.as_str())).map(|(_, row)| row);
        let mut marks = TimelineRow::new();
        for (place, count) in others.chain(&tenants.rest).flatten() {
            let sum = marks.entry(*place).or_default();
            *sum = sum.saturating_add(*count);
        }
        let suspensions = report.suspensions.kept.iter().filter(|one| !shown.contains(one.tenant.as_str()));
        rows.push(Drawn { name: format!("{more} more tenants"), marks, suspensions: suspensions.take(ROWS).collect() });
    }
    rows
}

/// What is drawn so far.
struct Canvas<'a> {
    report: &'a Report,
    /// The height of a row, and of all.
    row_height: u32,
    height: u32,
    svg: String,
}

impl Canvas<'_> {
    fn top(&self, number: usize) -> u32 {
        TOP + self.row_height * u32::try_from(number).unwrap_or_default()
    }

    fn x(&self, time: Timestamp) -> u32 {
        LABELS + scaled(self.report.period, time, CHART)
    }

    fn background(&mut self, number: usize, name: &str) {
        let row_height = self.row_height;
        let (y, middle) = (self.top(number), self.top(number) + row_height / 2 + 4);
        let class = match number {
            0 => "row first",
            _ if number.is_multiple_of(2) => "row even",
            _ => "row",
        };
        let _ = writeln!(
            self.svg,
            "<rect class=\"{class}\" x=\"{LABELS}\" y=\"{y}\" width=\"{CHART}\" height=\"{row_height}\"/>\
         <text class=\"name\" x=\"2\" y=\"{middle}\">{}<title>{}</title></text>",
            escaped(&shortened(name, NAME)),
            escaped(name)
        );
    }

    fn axis(&mut self) {
        let (from, to) = (self.report.period.from.as_second(), self.report.period.to.as_second());
        let length = to.saturating_sub(from);
        let step = STEPS.into_iter().find(|step| length / step <= TICKS).unwrap_or(STEPS[STEPS.len() - 1]);
        let form = match step {
            0..86_400 => "%m-%d %H:%M",
            86_400..7_776_000 => "%Y-%m-%d",
            _ => "%Y-%m",
        };
        let first = from.div_euclid(step).saturating_add(1).saturating_mul(step);
        let ticks = (0..=TICKS).map(|tick| first.saturating_add(tick.saturating_mul(step))).take_while(|at| *at <= to);
        for time in ticks.filter_map(|at| Timestamp::from_second(at).ok()) {
            let (x, end, y) = (self.x(time), self.height - BOTTOM, TOP - 9);
            let _ = writeln!(
                self.svg,
                "<line class=\"tick\" x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" y2=\"{end}\"/>\
             <text class=\"time\" x=\"{x}\" y=\"{y}\">{}</text>",
                time.strftime(form)
            );
        }
    }

    /// A gap: hatched where the journal stands, and a shade over all rows.
    fn band(&mut self, gap: &Gap) {
        let row_height = self.row_height;
        let (begin, end) = (self.x(gap.from), self.x(gap.to));
        let width = end.saturating_sub(begin).max(3);
        let begin = begin.min(LABELS + CHART - 3);
        let (rows_top, below) = (TOP + row_height, self.height.saturating_sub(BOTTOM + TOP + row_height));
        let title = format!("{}, {} to {}: {}", gap.kind.as_str(), seconds(gap.from), seconds(gap.to), gap.what);
        let _ = writeln!(
            self.svg,
            "<g><title>{}</title><rect class=\"gap\" x=\"{begin}\" y=\"{TOP}\" width=\"{width}\" height=\"{row_height}\"/>\
         <rect class=\"gap-below\" x=\"{begin}\" y=\"{rows_top}\" width=\"{width}\" height=\"{below}\"/></g>",
            escaped(&title)
        );
    }

    fn draw(&mut self, number: usize, row: &Drawn<'_>) {
        let row_height = self.row_height;
        let y = self.top(number);
        for one in &row.suspensions {
            let (begin, end) = (self.x(one.from), self.x(one.ended.unwrap_or(self.report.period.to)));
            let class = if one.ended.is_some() { "suspended" } else { "suspended open" };
            let title = format!("{} suspended since {}: {} (by {})", one.tenant, seconds(one.from), one.reason, one.by);
            let (y, width) = (y + 4, end.saturating_sub(begin).max(3));
            let height = row_height - 8;
            let _ = writeln!(
                self.svg,
                "<rect class=\"{class}\" x=\"{begin}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"3\">\
             <title>{}</title></rect>",
                escaped(&title)
            );
        }
        // Marks of one place stand side by side.
        let mut last = (PARTS, 0, 0);
        for kind_row in [0, 1] {
            for ((part, kind), count) in row.marks.iter().filter(|((_, kind), _)| row_of(*kind) == kind_row) {
                let beside = if (last.0, last.1) == (*part, kind_row) { last.2 + 1 } else { 0 };
                last = (*part, kind_row, beside);
                let at = LABELS + CHART * (2 * u32::from(*part) + 1) / (2 * u32::from(PARTS)) + 10 * beside;
                let y = match (number, kind_row) {
                    (0, _) => y + row_height / 2,
                    (_, 0) => y + 8,
                    _ => y + row_height - 8,
                };
                mark(&mut self.svg, *kind, at, y, *count, &when(self.report, *part));
            }
        }
    }
}

/// Changes stand above, what happened on the host below.
const fn row_of(kind: TimelineKind) -> u32 {
    match kind {
        TimelineKind::Neutral
        | TimelineKind::Tightens
        | TimelineKind::Loosens
        | TimelineKind::Held
        | TimelineKind::Approved => 0,
        TimelineKind::Corrected
        | TimelineKind::Left
        | TimelineKind::Failed
        | TimelineKind::Bad
        | TimelineKind::Refused => 1,
    }
}

/// The stretch of time that a part stands for.
fn when(report: &Report, part: u16) -> String {
    let from = report.period.from;
    let length = report.period.to.as_second().saturating_sub(from.as_second());
    let at = |part: u16| {
        let seconds = length.saturating_mul(i64::from(part)) / i64::from(PARTS);
        from.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(from)
    };
    format!("{} to {}", seconds(at(part)), seconds(at(part.saturating_add(1))))
}

fn mark(svg: &mut String, kind: TimelineKind, x: u32, y: u32, count: u64, when: &str) {
    let size = match count {
        0..=1 => "0.85",
        2..=9 => "1",
        _ => "1.2",
    };
    let _ = writeln!(
        svg,
        "<g class=\"mark {}\" transform=\"translate({x} {y}) scale({size})\"><title>{when}: {count} × {}</title>{}</g>",
        class(kind),
        kind.as_str(),
        shape(kind)
    );
}

const fn class(kind: TimelineKind) -> &'static str {
    match kind {
        TimelineKind::Neutral => "neutral",
        TimelineKind::Tightens => "tightens",
        TimelineKind::Loosens => "loosens",
        TimelineKind::Corrected => "corrected",
        TimelineKind::Left => "left",
        TimelineKind::Failed => "failed",
        TimelineKind::Bad => "bad",
        TimelineKind::Refused => "refused",
        TimelineKind::Held => "held",
        TimelineKind::Approved => "approved",
    }
}

/// Each kind has a shape of its own: not everybody can distinguish colours.
const fn shape(kind: TimelineKind) -> &'static str {
    match kind {
        TimelineKind::Neutral => "<circle r=\"3.6\"/>",
        TimelineKind::Tightens => "<path d=\"M-5.5 -4.5h11l-5.5 9.5z\"/>",
        TimelineKind::Loosens => "<path d=\"M-5.5 4.5h11l-5.5 -9.5z\"/>",
        TimelineKind::Corrected | TimelineKind::Left => "<path d=\"M0 -5.2l5.2 5.2l-5.2 5.2l-5.2 -5.2z\"/>",
        TimelineKind::Failed => "<path d=\"M-4.4 -4.4l8.8 8.8M4.4 -4.4l-8.8 8.8\"/>",
        TimelineKind::Bad => "<path d=\"M-4.5 -4.5h9v9h-9z\"/>",
        TimelineKind::Refused => "<path d=\"M0 -4.5v9\"/>",
        TimelineKind::Held => "<path d=\"M-2.4 -4.8v9.6M2.4 -4.8v9.6\"/>",
        TimelineKind::Approved => "<path d=\"M-5 0l3.6 4.2l6.4 -8.4\"/>",
    }
}

fn legend() -> String {
    let mut out = String::from("<ul class=\"legend\">\n");
    for kind in TimelineKind::ALL.into_iter().rev() {
        let _ = writeln!(
            out,
            "<li><svg viewBox=\"-8 -8 16 16\"><g class=\"mark {}\">{}</g></svg>{}</li>",
            class(kind),
            shape(kind),
            kind.as_str()
        );
    }
    out.push_str(
        "<li><svg viewBox=\"0 0 26 16\" class=\"wide\"><rect class=\"suspended\" x=\"1\" y=\"2\" width=\"24\" \
         height=\"12\" rx=\"3\"/></svg>suspended</li>\n\
         <li><svg viewBox=\"0 0 26 16\" class=\"wide\"><rect class=\"gap\" x=\"1\" y=\"1\" width=\"24\" \
         height=\"14\"/></svg>gap in the record</li>\n</ul>\n",
    );
    out
}
