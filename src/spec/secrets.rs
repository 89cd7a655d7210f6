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

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn keys_are_seen_and_words_are_not() {
        assert!(kind("sk-proj-0123456789abcdefghij").is_some());
        assert!(kind("Bearer ghp_0123456789abcdefghij").is_some());
        assert!(kind("sk-short").is_none());
        assert!(kind("https://api.example.com/v1").is_none());
    }
}
