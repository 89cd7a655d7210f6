//! Rust text as the tokens that imports are made of.

/// One token. Comments, strings, characters, lifetimes and numbers are left out: no import is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A name or a keyword.
    Word(String),
    /// `::`
    Colons,
    /// Any other character.
    Mark(char),
}

impl Token {
    /// The name or keyword that it is.
    pub fn word(&self) -> Option<&str> {
        match self {
            Token::Word(word) => Some(word),
            Token::Colons | Token::Mark(_) => None,
        }
    }
}

/// The tokens of a file, without items that are compiled for tests alone.
pub fn tokens(text: &str) -> Vec<Token> {
    without_tests(&all(text))
}

fn all(text: &str) -> Vec<Token> {
    let text: Vec<char> = text.chars().collect();
    let at = |index: usize| text.get(index).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut here = 0;
    while here < text.len() {
        let c = text[here];
        here = match c {
            '/' if at(here + 1) == '/' => until(&text, here, |at| text[at] == '\n'),
            '/' if at(here + 1) == '*' => after_comment(&text, here),
            '"' => after_string(&text, here),
            '\'' if at(here + 1) == '\\' => until(&text, here + 3, |at| text[at] == '\'') + 1,
            '\'' if at(here + 2) == '\'' => here + 3,
            '\'' => until(&text, here + 1, |at| !is_word(text[at])),
            c if is_word(c) => {
                let end = until(&text, here, |at| !is_word(text[at]));
                let word: String = text[here..end].iter().collect();
                let raw = matches!(word.as_str(), "r" | "br" | "cr") && matches!(at(end), '"' | '#');
                match (raw, word.as_str()) {
                    (true, _) if at(end) == '"' || at(end + 1) == '"' || at(end + 1) == '#' => {
                        after_raw_string(&text, end)
                    }
                    (false, "b" | "c") if matches!(at(end), '"' | '\'') => end,
                    _ => {
                        if !c.is_ascii_digit() && !raw {
                            tokens.push(Token::Word(word));
                        }
                        end
                    }
                }
            }
            ':' if at(here + 1) == ':' => {
                tokens.push(Token::Colons);
                here + 2
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token::Mark(c));
                }
                here + 1
            }
        };
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The first place from `here` on at which something holds, or the end.
fn until(text: &[char], here: usize, holds: impl Fn(usize) -> bool) -> usize {
    (here..text.len()).find(|&at| holds(at)).unwrap_or(text.len())
}

fn after_comment(text: &[char], start: usize) -> usize {
    let (mut here, mut depth) = (start, 0);
    while here < text.len() {
        match (text[here], text.get(here + 1)) {
            ('/', Some('*')) => (here, depth) = (here + 2, depth + 1),
            ('*', Some('/')) => (here, depth) = (here + 2, depth - 1),
            _ => here += 1,
        }
        if depth == 0 {
            break;
        }
    }
    here
}

fn after_string(text: &[char], start: usize) -> usize {
    let mut here = start + 1;
    while here < text.len() && text[here] != '"' {
        here += if text[here] == '\\' { 2 } else { 1 };
    }
    here + 1
}

/// The end of a raw string, whose first `#` or `"` is at `start`.
fn after_raw_string(text: &[char], start: usize) -> usize {
    let open = until(text, start, |at| text[at] != '#');
    let marks = open - start;
    let end = until(text, open + 1, |at| {
        text[at] == '"' && text[at + 1..].iter().take(marks).filter(|&&c| c == '#').count() == marks
    });
    end + 1 + marks
}

/// Leaves out each item behind `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let test: Vec<Token> = all("#[cfg(test)]");
    let mut kept = Vec::new();
    let mut here = 0;
    while here < tokens.len() {
        if tokens[here..].starts_with(&test) {
            here = after_item(tokens, here + test.len());
        } else {
            kept.push(tokens[here].clone());
            here += 1;
        }
    }
    kept
}

/// The end of the item that begins at `start`: its `;`, or the end of its braces.
fn after_item(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (offset, token) in tokens[start..].iter().enumerate() {
        match token {
            Token::Mark('{' | '(' | '[') => depth += 1,
            Token::Mark('}') if depth == 1 => return start + offset + 1,
            Token::Mark('}' | ')' | ']') => depth -= 1,
            Token::Mark(';') if depth == 0 => return start + offset + 1,
            Token::Word(_) | Token::Colons | Token::Mark(_) => {}
        }
    }
    tokens.len()
}
