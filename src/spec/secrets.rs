//! Values that look like secrets. A net for slips, not a scanner.

/// What well-known keys begin with, and what they are.
const PREFIXES: [(&str, &str); 14] = [
    ("sk-", "an API key"),
    ("sk_live_", "a Stripe key"),
    ("rk_live_", "a Stripe key"),
    ("ghp_", "a GitHub token"),
    ("gho_", "a GitHub token"),
    ("ghs_", "a GitHub token"),
    ("github_pat_", "a GitHub token"),
    ("glpat-", "a GitLab token"),
    ("xoxb-", "a Slack token"),
    ("xoxp-", "a Slack token"),
    ("AKIA", "an AWS access key"),
    ("AIza", "a Google API key"),
    ("AGE-SECRET-KEY-", "an age key"),
    ("-----BEGIN ", "a private key or certificate"),
];

/// What kind of secret a value looks like, if any.
pub(super) fn kind(value: &str) -> Option<&'static str> {
    let value = value.trim().strip_prefix("Bearer ").unwrap_or(value.trim());
    let long_enough = value.len() >= 20;
    PREFIXES.iter().find(|(prefix, _)| long_enough && value.starts_with(prefix)).map(|(_, kind)| *kind)
}

/// The first line of a file, counted from one, that holds what looks like a secret, and its kind. What is public, such
/// as a certificate, is none.
pub(super) fn within(bytes: &[u8]) -> Option<(usize, &'static str)> {
    let text = String::from_utf8_lossy(bytes);
    let is_apart = |c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c));
    let of_line = |line: &str| match line.split_once("-----BEGIN ") {
        Some((_, what)) => what.contains("PRIVATE KEY").then_some("a private key"),
        None => line.split(is_apart).find_map(kind),
    };
    text.lines().zip(1..).find_map(|(line, number)| Some((number, of_line(line)?)))
}

#[cfg(test)]
mod tests {
    use super::{kind, within};

    #[test]
    fn keys_are_seen_and_words_are_not() {
        assert!(kind("sk-proj-0123456789abcdefghij").is_some());
        assert!(kind("Bearer ghp_0123456789abcdefghij").is_some());
        assert!(kind("sk-short").is_none());
        assert!(kind("https://api.example.com/v1").is_none());
    }

    #[test]
    fn keys_are_seen_within_files() {
        let file = "{\n  \"model\": \"gpt\",\n  \"key\": \"sk-proj-0123456789abcdefghij\"\n}\n";
        assert_eq!(within(file.as_bytes()), Some((3, "an API key")));
        assert_eq!(within(b"TOKEN=ghp_0123456789abcdefghij0123"), Some((1, "a GitHub token")));
        assert_eq!(within(b"\n-----BEGIN OPENSSH PRIVATE KEY-----\n"), Some((2, "a private key")));
        assert_eq!(within(b"-----BEGIN CERTIFICATE-----\nMIIB\n# task-runner-of-a-long-name: yes\n\xff"), None);
    }
}
