//! A list's answer, read element by element as it arrives: a list of thousands is never held as text.

/// Splits the text of a JSON array into the texts of its elements.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// What has arrived of the element at hand.
    row: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    ended: bool,
}

impl Rows {
    /// Takes the next piece of the text, and hands over each element that it completes.
    ///
    /// # Errors
    /// Those of `take`.
    pub(super) fn push<E>(&mut self, piece: &[u8], mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        for &byte in piece {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'[' | b'{' => {
                    self.depth += 1;
                    if self.depth == 1 {
                        continue;
                    }
                }
                b']' | b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        self.ended = true;
                        self.hand_over(&mut take)?;
                        continue;
                    }
                }
                b',' if self.depth == 1 => {
                    self.hand_over(&mut take)?;
                    continue;
                }
                _ if byte.is_ascii_whitespace() => continue,
                _ => {}
            }
            self.row.push(byte);
        }
        Ok(())
    }

    /// Whether all of an array was seen, and nothing else.
    pub(super) fn is_complete(&self) -> bool {
        self.ended && self.depth == 0 && self.row.is_empty()
    }

    fn hand_over<E>(&mut self, take: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let result = if self.row.is_empty() { Ok(()) } else { take(&self.row) };
        self.row.clear();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements of a text that arrives in pieces of a length, and whether it was complete.
    fn split(text: &str, length: usize) -> (Vec<String>, bool) {
        let (mut rows, mut found) = (Rows::default(), Vec::new());
        for piece in text.as_bytes().chunks(length) {
            let taken = rows.push(piece, |row| {
                found.push(String::from_utf8_lossy(row).into_owned());
                Ok::<_, std::convert::Infallible>(())
            });
            assert_eq!(taken, Ok(()));
        }
        (found, rows.is_complete())
    }

    #[test]
    fn each_element_comes_whole_however_the_text_is_cut() {
        let text = r#" [ {"a": [1, {"b": "], \" }\\"}]}, "x,y [", 7,
            [], {} ]
        "#;
        for length in 1..text.len() {
            let (found, complete) = split(text, length);
            assert_eq!(found, [r#"{"a":[1,{"b":"], \" }\\"}]}"#, r#""x,y [""#, "7", "[]", "{}"], "{length}");
            assert!(complete);
        }
    }

    #[test]
    fn an_empty_array_has_no_elements() {
        assert_eq!(split("[]\n", 1), (Vec::new(), true));
    }

    #[test]
    fn what_is_cut_off_or_no_array_is_not_complete() {
        for text in ["", "[", r#"[{"a": 1}"#, "[1, 2", "null", "[] x", r#"["a]"#] {
            assert!(!split(text, 3).1, "{text}");
        }
    }
}
