//! Tables as text, and whether a goal is met.

use std::time::Duration;

/// A table: a title, a header, rows.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(title: impl Into<String>, header: &[&str]) -> Self {
        Self { title: title.into(), rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints it, the first column to the left and all others to the right.
    pub fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &'_ Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0))
            .collect();
        println!("\n{}\n", self.title);
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::from(" ");
            for (column, width) in widths.iter().enumerate() {
                let text = cell(row, column);
                line += &if column == 0 { format!(" {text:<width$}") } else { format!("  {text:>width$}") };
            }
            println!("{}", line.trim_end());
            if number == 0 {
                println!("  {}", "-".repeat(widths.iter().sum::<usize>() + 2 * (columns - 1)));
            }
        }
    }
}

/// `met` or `missed`.
pub fn verdict(measured: f64, goal: f64) -> String {
    if measured <= goal { "met".to_owned() } else { "missed".to_owned() }
}

/// A time with three digits.
pub fn time(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    match milliseconds {
        ..100.0 => format!("{milliseconds:.1} ms"),
        ..1000.0 => format!("{milliseconds:.0} ms"),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

pub fn mebibytes(kibibytes: i64) -> String {
    format!("{:.1} MiB", as_mebibytes(kibibytes))
}

#[expect(clippy::cast_precision_loss, reason = "a peak of memory in KiB is far below 2^52")]
pub fn as_mebibytes(kibibytes: i64) -> f64 {
    kibibytes as f64 / 1024.0
}

pub fn ratio(measured: Duration, to: Duration) -> f64 {
    measured.as_secs_f64() / to.as_secs_f64()
}
