//! Values that look like secrets. A net for slips, not a scanner.

/// What follows what a well-known key begins with. A word that begins alike has no such thing behind it.
#[derive(Clone, Copy)]
enum Rest {
    /// So many letters and digits, right behind it and in one piece.
    Piece(usize),
    /// So many characters of any kind.
    Any(usize),
    /// A piece of 16 letters and digits, of both, somewhere behind it: words have no digits among their letters.
    Mixed,
    /// Three parts with dots between them.
    Dotted,
}

/// What well-known keys begin with, what follows that, and what they are.
const KEYS: [(&str, Rest, &str); 27] = [
    ("sk-", Rest::Mixed, "an API key"),
    ("sk_live_", Rest::Piece(16), "a Stripe key"),
    ("sk_test_", Rest::Piece(16), "a Stripe key"),
    ("rk_live_", Rest::Piece(16), "a Stripe key"),
    ("ghp_", Rest::Piece(16), "a GitHub token"),
    ("gho_", Rest::Piece(16), "a GitHub token"),
    ("ghs_", Rest::Piece(16), "a GitHub token"),
    ("ghu_", Rest::Piece(16), "a GitHub token"),
    ("ghr_", Rest::Piece(16), "a GitHub token"),
    ("github_pat_", Rest::Piece(16), "a GitHub token"),
    ("glpat-", Rest::Any(20), "a GitLab token"),
    ("xoxb-", Rest::Any(16), "a Slack token"),
    ("xoxp-", Rest::Any(16), "a Slack token"),
    ("xapp-", Rest::Any(16), "a Slack token"),
    ("AKIA", Rest::Piece(16), "an AWS access key"),
    ("ASIA", Rest::Piece(16), "an AWS access key"),
    ("AIza", Rest::Any(30), "a Google API key"),
    ("ya29.", Rest::Any(30), "a Google token"),
    ("AGE-SECRET-KEY-", Rest::Piece(20), "an age key"),
    ("hf_", Rest::Piece(20), "a Hugging Face token"),
    ("npm_", Rest::Piece(20), "an npm token"),
    ("pypi-", Rest::Any(50), "a PyPI token"),
    ("dop_v1_", Rest::Piece(40), "a DigitalOcean token"),
    ("shpat_", Rest::Piece(30), "a Shopify token"),
    ("SG.", Rest::Mixed, "a SendGrid key"),
    ("gsk_", Rest::Piece(40), "an API key"),
    ("eyJ", Rest::Dotted, "a JSON web token"),
];

impl Rest {
    fn fits(self, rest: &str) -> bool {
        let is_of_piece = |c: char| c.is_ascii_alphanumeric();
        match self {
            Self::Piece(least) => rest.chars().take_while(|c| is_of_piece(*c)).count() >= least,
            Self::Any(least) => rest.len() >= least,
            Self::Mixed => rest.split(|c| !is_of_piece(c)).any(|piece| {
                piece.len() >= 16
                    && piece.bytes().any(|byte| byte.is_ascii_digit())
                    && piece.bytes().any(|byte| byte.is_ascii_alphabetic())
            }),
            Self::Dotted => {
                let parts: Vec<&str> = rest.split('.').collect();
                matches!(parts.as_slice(), [head, claims, sign] if head.len() > 8 && claims.starts_with("eyJ") && sign.len() > 16)
            }
        }
    }
}

/// What kind of secret a value looks like, if any.
pub(super) fn kind(value: &str) -> Option<&'static str> {
    let is_apart = |c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c));
    if value.trim_start().starts_with("-----BEGIN ") {
        return Some("a private key or certificate");
    }
    if has_password(value) {
        return Some("a URL with a password");
    }
    value.split(is_apart).find_map(|word| {
        let of = |(begin, rest, kind): &(&str, Rest, &'static str)| {
            word.strip_prefix(begin).is_some_and(|behind| rest.fits(behind)).then_some(*kind)
        };
        KEYS.iter().find_map(of)
    })
}

/// Whether a URL in a text has a password in it, of its user or among its parameters, as JDBC has it. What stands for one that is
/// put in elsewhere is none.
fn has_password(text: &str) -> bool {
    text.split("://").skip(1).any(|behind| {
        let ends = |c: char| c.is_whitespace() || "/?#\"'`<>|\\".contains(c);
        // A placeholder may be in angle brackets.
        let authority = behind.split(|c| ends(c) && !"<>".contains(c)).next().unwrap_or_default();
        let of_user =
            authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
        let url = behind.split(|c: char| c.is_whitespace() || "\"'`|\\".contains(c)).next().unwrap_or_default();
        let parameters = url.split_once('?').map_or("", |(_, query)| query).split(['&', ';', '#']);
        let of_query = parameters.filter_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            PARAMETERS.iter().any(|known| name.eq_ignore_ascii_case(known)).then_some(value)
        });
        of_user.into_iter().chain(of_query).any(|password| !is_placeholder(password))
    })
}

/// Parameters of URLs that are passwords.
const PARAMETERS: [&str; 3] = ["password", "passwd", "pwd"];

fn is_placeholder(password: &str) -> bool {
    let is_filler = |c: char| "*xX.…".contains(c);
    password.starts_with(['$', '<', '{', '%']) && !password.starts_with("%2") || password.chars().all(is_filler)
}

/// The first line of a file, counted from one, that holds what looks like a secret, and its kind. What is public, such
/// as a certificate, is none.
pub(super) fn within(bytes: &[u8]) -> Option<(usize, &'static str)> {
    let text = String::from_utf8_lossy(bytes);
    let of_line = |line: &str| match line.split_once("-----BEGIN ") {
        Some((_, what)) => what.contains("PRIVATE KEY").then_some("a private key"),
        None => kind(line),
    };
    text.lines().zip(1..).find_map(|(line, number)| Some((number, of_line(line)?)))
}

#[cfg(test)]
mod tests {
    use super::{kind, within};

    #[test]
    fn keys_are_seen_and_words_are_not() {
        let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ";
        for (value, expected) in [
            ("sk-proj-0123456789abcdefghij", Some("an API key")),
            ("sk-ant-api03-Zx9_q2-0a1b2c3d4e5f6g7h8i9j0-kLmN", Some("an API key")),
            ("sk-0123456789abcdef0123456789abcdef", Some("an API key")),
            ("Bearer ghp_0123456789abcdefghij", Some("a GitHub token")),
            ("github_pat_11ABCDEFG0123456789abc_defghijklmnop", Some("a GitHub token")),
            ("glpat-abc_DEF-0123456789xyz", Some("a GitLab token")),
            ("AKIAIOSFODNN7EXAMPLE", Some("an AWS access key")),
            (&format!("hf_{letters}"), Some("a Hugging Face token")),
            ("hf_0123456789abcdefghij", Some("a Hugging Face token")),
            (&format!("//registry.npmjs.org/:_authToken=npm_{letters}"), Some("an npm token")),
            (&format!("pypi-AgEIcHlwaS5vcmc{letters}{letters}"), Some("a PyPI token")),
            ("SG.aB3dEf6hIj9kLm2nOp5qRs.x", Some("a SendGrid key")),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijklmnopqrstuvwx", Some("a JSON web token")),
            ("--token=ghp_0123456789abcdefghij", Some("a GitHub token")),
            ("postgres://app:s3cret@db.example.com:5432/app", Some("a URL with a password")),
            ("redis://:s3cret@cache.example.com", Some("a URL with a password")),
            ("https://a.example.com https://ada:p@ss@b.example.com/x", Some("a URL with a password")),
            ("proxy=http://ada:%2Fx@proxy.example.com", Some("a URL with a password")),
            ("jdbc:postgresql://db.example.com/app?user=app&password=s3cret", Some("a URL with a password")),
            ("'mysql://db.example.com/app?Pwd=s3cret'", Some("a URL with a password")),
            (&format!("https://hf_{letters}@huggingface.co/x"), Some("a Hugging Face token")),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", Some("a private key or certificate")),
            ("sk-short", None),
            ("sk-learn-pipeline-with-standard-scaler-and-more", None),
            ("sk-learn-pipeline-2024-01-01-release-candidate", None),
            ("hf_transfer_enabled_for_all_downloads_of_models", None),
            ("hf_hub_cache", None),
            ("hf_bert-base-uncased-finetuned-on-all", None),
            ("npm_config_cache_directory_of_this_very_project", None),
            ("npm-run-all-of-the-things-in-parallel", None),
            ("task-runner-of-a-long-name-0123456789abcdef", None),
            ("AKIA", None),
            ("pypi-mirror", None),
            ("eyJ.b.c", None),
            ("https://api.example.com/v1", None),
            ("https://api.example.com:8443/users/@me:x", None),
            ("https://ada@example.com/x", None),
            ("https://ada:@example.com/x", None),
            ("postgres://app:${DB_PASSWORD}@db.example.com/app", None),
            ("postgres://app:<password>@db.example.com/app", None),
            ("jdbc:postgresql://db.example.com/app?user=app&password=${DB_PASSWORD}", None),
            ("https://example.com/reset?password=&passwords=many#password", None),
            ("postgres://app:****@db.example.com/app", None),
            ("git@git.example.com:ops/fleet.git", None),
            ("ssh://git@git.example.com:2222/ops/fleet.git", None),
        ] {
            assert_eq!(kind(value), expected, "{value}");
        }
    }

    #[test]
    fn keys_are_seen_within_files() {
        let file = "{\n  \"model\": \"gpt\",\n  \"key\": \"sk-proj-0123456789abcdefghij\"\n}\n";
        assert_eq!(within(file.as_bytes()), Some((3, "an API key")));
        assert_eq!(within(b"TOKEN=ghp_0123456789abcdefghij0123"), Some((1, "a GitHub token")));
        assert_eq!(within(b"a: b\nurl: \"amqp://a:b@c\"\n"), Some((2, "a URL with a password")));
        assert_eq!(within(b"\n-----BEGIN OPENSSH PRIVATE KEY-----\n"), Some((2, "a private key")));
        assert_eq!(within(b"-----BEGIN CERTIFICATE-----\nMIIB\n# task-runner-of-a-long-name: yes\n\xff"), None);
    }
}
