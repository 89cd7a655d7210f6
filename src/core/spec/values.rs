//! The values of the files that have a form of their own: names, paths, addresses, bounded numbers.

use std::{
    borrow::Cow,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::json;

use super::paths::{RULES, SCHEMAS};
use crate::model::{
    Bytes, Invalid,
    host::{Overcommit, Secret},
    quantity::{Timespan, bounded},
};

/// Makes a newtype of text with a check.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $schema:tt, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub String);

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let check: fn(&str) -> Result<(), Invalid> = $check;
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        crate::text_value!($name, stringify!($name), $schema);
    };
}

checked_text!(
    /// The name of a variable.
    VariableName,
    {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    |text| {
        let ok = text.len() <= 128
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not a variable's name"), "write letters, digits and _, a digit not in front"))
        }
    }
);

checked_text!(
    /// The name of something that is archived, or `none`.
    ArchiveName,
    {"type": "string", "pattern": "^[a-z0-9][A-Za-z0-9.-]{0,200}$", "examples": ["none", "acme.20261121T194308.123Z.3f0c9a1d4b7e.img"]},
    |text| {
        let ok = (1..=200).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not the name of an archived workspace"), "write a name that `tenantd workspace list` shows, or none"))
        }
    }
);

checked_text!(
    /// The name of a shared folder that the host offers.
    SourceName,
    {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$", "examples": ["handbook"]},
    |text| {
        let ok = (1..=63).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not the name of a shared folder"), "write a name that host.yaml has under sources: small letters, digits and -"))
        }
    }
);

checked_text!(
    /// The engine's name of a runtime.
    RuntimeName,
    {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", "examples": ["runc", "runsc"]},
    |text| {
        let ok = (1..=63).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not a runtime's name"), "write the name that `docker info` lists under Runtimes"))
        }
    }
);

checked_text!(
    /// A path from the root of the host.
    AbsolutePath,
    {"type": "string", "pattern": "^/"},
    |text| {
        let plain = text.starts_with('/') && !text.split('/').any(|part| part == "..");
        if plain && text.len() > 1 { Ok(()) } else {
            Err(Invalid::new("bad-path", format!("{text:?} is not an absolute path"), "write it from / on, without .."))
        }
    }
);

/// The most parts that a file's path has, and the most bytes of it.
const MAX_PARTS: usize = 16;
const MAX_PATH: usize = 512;

checked_text!(
    /// A file's path from a folder on.
    FilePath,
    {"type": "string", "pattern": "^[^/]", "maxLength": 512, "not": {"pattern": "(^|/)\\.\\.?(/|$)|//|/$"}, "examples": ["openclaw.json"]},
    |text| {
        let is_plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255 && !part.contains(|c: char| c.is_control() || c == '\\');
        if text.len() <= MAX_PATH && text.split('/').count() <= MAX_PARTS && text.split('/').all(is_plain) { Ok(()) } else {
            Err(Invalid::new("bad-path", format!("{text:?} is not the path of a file"), "write it without / in front and without . and .., such as openclaw.json or agent/profiles.json"))
        }
    }
);

checked_text!(
    /// A file's path from the top of the repo on.
    RepoFile,
    {"type": "string", "pattern": "^[^/]", "maxLength": 512, "not": {"pattern": "(^|/)\\.\\.?(/|$)|//|/$"}, "examples": ["files/acme/openclaw.json"]},
    |text| { text.parse::<FilePath>().map(drop) }
);

checked_text!(
    /// The path of a JSON Schema that config files are held against.
    SchemaPath,
    {"type": "string", "pattern": "^schemas/[A-Za-z0-9._/-]+$", "maxLength": 512, "not": {"pattern": "(^|/)\\.\\.?(/|$)|//|/$"}, "examples": ["schemas/agent.json"]},
    |text| { schema_below(SCHEMAS, text) }
);

checked_text!(
    /// The path of a JSON Schema that tenants' settings are held against.
    RulePath,
    {"type": "string", "pattern": "^rules/[A-Za-z0-9._/-]+$", "maxLength": 512, "not": {"pattern": "(^|/)\\.\\.?(/|$)|//|/$"}, "examples": ["rules/regulated.json"]},
    |text| { schema_below(RULES, text) }
);

/// Checks the path of a schema in a folder.
fn schema_below(folder: &str, text: &str) -> Result<(), Invalid> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    text.parse::<FilePath>()?;
    if text.starts_with(folder) && text.chars().all(is_plain) {
        return Ok(());
    }
    let help = format!("name a file below {folder}, in letters, digits, `.`, `_` and `-`");
    Err(Invalid::new("bad-path", format!("{text:?} is not the path of a schema there"), help))
}

/// The longest path of a socket that is taken, in bytes. The kernel takes 107.
const MAX_SOCKET: usize = 100;

checked_text!(
    /// The path of a socket.
    SocketPath,
    {"type": "string", "pattern": "^/", "maxLength": 100},
    |text| {
        text.parse::<AbsolutePath>()?;
        if text.len() <= MAX_SOCKET { Ok(()) } else {
            Err(Invalid::new("bad-path", format!("the path is {} bytes long", text.len()), format!("keep a socket's path within {MAX_SOCKET} bytes")))
        }
    }
);

checked_text!(
    /// A folder of the config repo; `.` is the top.
    RepoFolder,
    {"type": "string", "pattern": "^[^/]", "not": {"pattern": "(^|/)\\.\\.(/|$)|//|/$"}, "examples": ["."]},
    |text| {
        let plain = |part: &str| !matches!(part, "" | "." | ".." | ".git");
        if text == "." || text.split('/').all(plain) { Ok(()) } else {
            Err(Invalid::new("bad-path", format!("{text:?} is not a folder of the repo"), "write it from the top of the repo on, such as fleets/eu, or . for the top"))
        }
    }
);

checked_text!(
    /// The name of a branch, without `refs/heads/`.
    BranchName,
    {"type": "string", "pattern": "^[^-/. ][^ ~^:?*\\[\\\\]*$", "not": {"pattern": "^refs/"}, "examples": ["main"]},
    |text| {
        // The rules of git check-ref-format.
        let part_is_fine = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
        let ok = text.len() <= 200
            && !text.starts_with('-')
            && !text.ends_with('.')
            && text.split('/').all(part_is_fine)
            && !text.contains("..")
            && !text.contains("@{")
            && !text.contains(|c: char| c.is_control() || " ~^:?*[\\".contains(c))
            && !matches!(text, "@" | "HEAD")
            && !text.starts_with("refs/");
        if ok { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not a branch's name"), "write the name alone, such as main"))
        }
    }
);

checked_text!(
    /// A user name for https.
    UserName,
    {"type": "string", "pattern": "^[A-Za-z0-9._+-]{1,64}$", "examples": ["git"]},
    |text| plain_name(text, 64, "._+-", "a user name", "write letters, digits, `.`, `_`, `+` and `-`; a password goes into `password`")
);

checked_text!(
    /// The name of a group.
    GroupName,
    {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9._-]{0,31}$", "examples": ["ops"]},
    |text| {
        let help = "write a group of this host, such as ops";
        plain_name(text, 32, "._-", "a group's name", help)?;
        if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') { Ok(()) } else {
            Err(Invalid::new("bad-name", format!("{text:?} is not a group's name"), help))
        }
    }
);

checked_text!(
    /// The name of one who signs.
    SignerName,
    {"type": "string", "pattern": "^[A-Za-z0-9._@+-]{1,128}$", "examples": ["alice@example.com"]},
    |text| plain_name(text, 128, "._@+-", "a signer's name", "write an address or a name without blanks, such as alice@example.com")
);

checked_text!(
    /// The name of a fleet in approvals.
    FleetName,
    {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$", "examples": ["prod"]},
    |text| plain_name(text, 64, "._-", "a fleet's name", "write a name of letters, digits, ., _ and -, such as prod")
);

checked_text!(
    /// The name of a credential that systemd hands over.
    CredentialName,
    {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$"},
    |text| {
        let help = "write the name that the unit's LoadCredential= gives it";
        plain_name(text, 100, "._-", "a credential's name", help)?;
        if text.starts_with('.') {
            return Err(Invalid::new("bad-name", format!("{text:?} is not a credential's name"), help));
        }
        Ok(())
    }
);

fn plain_name(text: &str, longest: usize, marks: &str, what: &str, help: &str) -> Result<(), Invalid> {
    let ok =
        (1..=longest).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c));
    if ok { Ok(()) } else { Err(Invalid::new("bad-name", format!("{text:?} is not {what}"), help)) }
}

checked_text!(
    /// A commit's full id.
    CommitId,
    {"type": "string", "pattern": "^[0-9a-f]{40}$"},
    |text| {
        if text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) { Ok(()) } else {
            Err(Invalid::new("bad-commit", format!("{text:?} is not a commit's full id"), "write what `git rev-parse` prints: 40 of 0-9 and a-f"))
        }
    }
);

checked_text!(
    /// The engine's socket as a URL.
    EngineUrl,
    {"type": "string", "pattern": "^unix:///", "examples": ["unix:///var/run/docker.sock"]},
    |text| {
        if text.strip_prefix("unix://").is_some_and(|path| path.starts_with('/')) { Ok(()) } else {
            Err(Invalid::new("bad-engine", format!("{text:?} is not a unix socket"), "write unix:// and an absolute path; tenantd runs on the engine's own host"))
        }
    }
);

/// The addresses that tenant networks are cut from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool(pub ipnet::Ipv4Net);

impl FromStr for Pool {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |message| {
            Err(Invalid::new(
                "bad-pool",
                message,
                "write a private range with a prefix of 8 to 24, such as 10.77.0.0/16",
            ))
        };
        let Ok(pool) = text.parse::<ipnet::Ipv4Net>() else {
            return bad(format!("{text:?} is not a range of IPv4 addresses"));
        };
        if pool.network() != pool.addr() {
            return bad(format!("{text} has bits behind its prefix; the range would be {}", pool.trunc()));
        }
        let shared = ipnet::Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
        let private = pool.network().is_private() && pool.broadcast().is_private() || shared.contains(&pool);
        if !private || !(8..=24).contains(&pool.prefix_len()) {
            return bad(format!("{text} is not a private range of a usable size"));
        }
        Ok(Self(pool))
    }
}

crate::text_value!(Pool, "Pool", {
    "type": "string",
    "pattern": "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$",
    "examples": ["10.77.0.0/16"]
});

pub(super) use checked_text;

/// A whole number within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<const MIN: u32, const MAX: u32>(pub u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Number<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bounded(deserializer, MIN, MAX).map(Self)
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Number<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Number{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "integer", "minimum": MIN, "maximum": MAX})
    }
}

/// How many times something may be committed: 0.1 to 1000, with two decimals at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(pub Overcommit);

impl FromStr for Factor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad =
            || Invalid::new("out-of-range", format!("{text:?} is not a factor"), "write 0.1 to 1000, such as 1 or 1.5");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || whole.len() > 4 || fraction.len() > 2 {
            return Err(bad());
        }
        let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
        let hundredths = number(whole)? * 100 + number(&format!("{fraction:0<2}"))?;
        if (10..=100_000).contains(&hundredths) { Ok(Self(Overcommit(hundredths))) } else { Err(bad()) }
    }
}

crate::text_value!(Factor, "Factor", {"type": ["number", "string"], "minimum": 0.1, "maximum": 1000, "examples": [1, 1.5]});

/// Makes a newtype of a time within bounds.
macro_rules! bounded_time {
    ($(#[$doc:meta])* $name:ident, $least:expr, $most:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub Timespan);

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                Timespan::between(text, $least, $most).map(Self)
            }
        }

        crate::text_value!($name, stringify!($name), $schema);
    };
}

pub(super) use bounded_time;

bounded_time!(
    /// The time from one look to the next, or a bound of one.
    Period, Timespan::seconds(1), Timespan::seconds(86_400),
    {"type": "string", "pattern": "^0*([1-9][0-9]{3,}ms|[1-9][0-9]*(s|m|h))$", "examples": ["60s"]}
);
bounded_time!(
    /// How old an approval may be.
    ApprovalAge, Timespan::seconds(60), Timespan::seconds(365 * 86_400),
    {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$", "examples": ["720h"]}
);
bounded_time!(
    /// The wait after a first failure.
    RetryInitial, Timespan::milliseconds(100), Timespan::seconds(3_600),
    {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$", "examples": ["1s"]}
);
bounded_time!(
    /// The longest wait after a failure.
    RetryMax, Timespan::milliseconds(100), Timespan::seconds(86_400),
    {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$", "examples": ["5m"]}
);
bounded_time!(
    /// How long a tenant must have run to count as healthy.
    HealthTime, Timespan::seconds(0), Timespan::seconds(600),
    {"type": "string", "pattern": "^[0-9]+(ms|s|m)$", "examples": ["10s"]}
);

bounded_time!(
    /// How long a removal counts.
    RemovalWindow, Timespan::seconds(0), Timespan::seconds(7 * 86_400),
    {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$", "examples": ["24h"]}
);

/// The size of a file of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalFileSize(pub Bytes);

impl FromStr for JournalFileSize {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let size: Bytes = text.parse()?;
        if (64 << 10..=1 << 30).contains(&size.get()) {
            return Ok(Self(size));
        }
        Err(Invalid::new("out-of-range", format!("{size} is out of range"), "write 64KiB to 1GiB"))
    }
}

crate::text_value!(JournalFileSize, "JournalFileSize", {
    "type": "string",
    "pattern": "^[0-9]+(KiB|MiB|GiB)$",
    "examples": ["16MiB"]
});

/// A loopback address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopbackAddress(pub SocketAddr);

impl FromStr for LoopbackAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |message| {
            Invalid::new("bad-address", message, "write a loopback address and a port, such as 127.0.0.1:9477")
        };
        let address: SocketAddr = text.parse().map_err(|_| bad(format!("{text:?} is not an address and a port")))?;
        if !address.ip().is_loopback() {
            return Err(bad(format!("{text} can be reached from other hosts")));
        }
        if address.port() == 0 {
            return Err(bad(format!("{text} names no port")));
        }
        Ok(Self(address))
    }
}

crate::text_value!(LoopbackAddress, "LoopbackAddress", {
    "type": "string",
    "pattern": "^(127(\\.[0-9]{1,3}){3}|\\[::1\\]):[1-9][0-9]{0,4}$",
    "examples": ["127.0.0.1:9477"]
});

/// Where a secret lies: `{file: PATH}` or `{credential: NAME}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretPlace(pub Secret);

/// The keys of a [`SecretPlace`].
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum PlaceKey {
    File,
    Credential,
}

impl<'de> Deserialize<'de> for SecretPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretPlace;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{file: PATH} or {credential: NAME}")
    }

    /// A secret may have been written here itself. It is not repeated.
    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        let help = "put it into a file that only root can read, and write {file: PATH} or {credential: NAME}";
        Err(Invalid::new("secret", "this file must not hold a secret", help).into_serde())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        self.visit_str("")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        self.visit_str("")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        self.visit_str("")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let wrong = |message: &str| {
            Invalid::new("wrong-type", message, "write {file: PATH} or {credential: NAME}").into_serde()
        };
        let place = match map.next_key()? {
            Some(PlaceKey::File) => Secret::File(PathBuf::from(map.next_value::<AbsolutePath>()?.0)),
            Some(PlaceKey::Credential) => Secret::Credential(map.next_value::<CredentialName>()?.0),
            None => return Err(wrong("no place is named")),
        };
        match map.next_key::<PlaceKey>()? {
            None => Ok(SecretPlace(place)),
            Some(_) => Err(wrong("a secret lies in one place, and two are named")),
        }
    }
}

impl JsonSchema for SecretPlace {
    fn schema_name() -> Cow<'static, str> {
        "SecretPlace".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let file = json!({"type": "string", "pattern": "^/", "description": "The file that holds it."});
        let credential = json!({
            "type": "string",
            "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$",
            "description": "The name that the unit's LoadCredential= gives it."
        });
        schemars::json_schema!({
            "type": "object",
            "oneOf": [
                {"properties": {"file": file}, "required": ["file"]},
                {"properties": {"credential": credential}, "required": ["credential"]}
            ],
            "maxProperties": 1,
            "examples": [{"file": "/etc/tenantd/token"}, {"credential": "token"}]
        })
    }
}
