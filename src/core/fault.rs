//! Errors as people read them.

use std::error::Error;

/// An error and its causes in one line. A cause that its parent already quotes is left out.
pub fn chain(error: &(impl Error + ?Sized)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}
