//! For spreadsheets.

/// A line of CSV. A cell that a spreadsheet would take for a formula begins with an apostrophe.
pub fn row(cells: &[String]) -> String {
    let cell = |text: &String| {
        let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    };
    let cells: Vec<String> = cells.iter().map(cell).collect();
    cells.join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn no_cell_is_a_formula_or_ends_early() {
        assert_eq!(row(&["=1+1".to_owned(), "a\"b,c".to_owned()]), "\"'=1+1\",\"a\"\"b,c\"\r\n");
    }
}
