//! What the rules of a review say.

/// The rules by name, and what each says.
pub const RULES: [(&str, &str); 17] = [
    ("runtime", "a weaker class of runtime loosens; the order is container, gvisor, microvm"),
    ("limit", "a higher limit loosens"),
    ("allowlist", "a destination more loosens, unless an entry that stays covers it: a wildcard, a range"),
    ("ingress", "a port more that ingress lets requests in to loosens, and so does access without a token"),
    (
        "credential",
        "a service more, or the same with another upstream, another key or another sealed value, loosens; one less tightens",
    ),
    (
        "budget",
        "more credits, or no bound, loosen; so do requests that cost less, are settled by another part of the answer, or may be streams",
    ),
    ("source", "a shared folder more loosens"),
    ("workspace", "a restored workspace of an earlier tenant of this name loosens"),
    ("hardening", "programs in /workspace that may be run loosen, and so does a container without an init"),
    (
        "variable",
        "a variable that decides what programs load, whom they trust or through whom they connect loosens where it is set or changed, and tightens where it goes",
    ),
    ("image", "a tag in place of a digest loosens: who may move the tag decides what runs"),
    ("detection", "drift that is only reported, or not looked for, loosens"),
    ("rule", "a rule of the fleet less loosens, and so does one with other words in its place; one more tightens"),
    (
        "guard",
        "a guard that lets more removals pass loosens, and so does a longer trial: a tenant that ends itself meanwhile has the commit rolled back for itself",
    ),
    ("tier", "another tier is neutral by itself; to leave one that a host's approvals guard needs an approval there"),
    ("content", "what runs, and with what settings of its own, is neutral: image, command, other variables, files"),
    (
        "upkeep",
        "how the daemon retries, whether logs are compressed, and whether a browser sees a page while a tenant starts, is neutral",
    ),
];
