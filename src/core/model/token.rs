//! Tokens: what lets a client in to a tenant, signed by the daemon of its host.

use std::{collections::BTreeSet, fmt, str::FromStr};

use base64ct::{Base64UrlUnpadded, Encoding};
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use super::{Invalid, TenantName};

/// What every token begins with.
pub const TOKEN_PREFIX: &str = "tdt_";

/// The longest token, in bytes. What is longer is not looked at.
pub const MAX_TOKEN: usize = 1024;

/// Stands before the claims where they are signed, so that the key's signature of anything else is no token.
const CONTEXT: &[u8] = b"tenantd-token-v1\n";

/// A token's claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// By which it is revoked and recorded.
    pub id: TokenId,
    /// The tenant that it lets its bearer in to.
    pub tenant: TenantName,
    /// What its bearer may do there.
    pub may: BTreeSet<Right>,
    /// From when on it counts for nothing.
    pub expires: Timestamp,
}

/// What the bearer of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Send requests to the ports that the tenant exposes.
    Http,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Http];

    /// The word in files, requests and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
        }
    }
}

/// A text is no token that this key signed. Nothing says what is wrong with it: whoever guesses learns nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no token of this host")]
pub struct BadToken;

impl Token {
    /// The token's text: `tdt_`, the claims, a dot and the signature, both in base64url without padding.
    pub fn sign(&self, key: &SigningKey) -> String {
        let claims = Base64UrlUnpadded::encode_string(json!(self).to_string().as_bytes());
        let signature = key.0.sign(&signed(&claims)).to_bytes();
        format!("{TOKEN_PREFIX}{claims}.{}", Base64UrlUnpadded::encode_string(&signature))
    }

    /// Reads a token's text. Whether it has expired or was revoked is for the caller to judge.
    ///
    /// # Errors
    /// It is no token, or another key signed it.
    pub fn verify(text: &str, key: &TokenKey) -> Result<Self, BadToken> {
        if text.len() > MAX_TOKEN {
            return Err(BadToken);
        }
        let (claims, signature) =
            text.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.split_once('.')).ok_or(BadToken)?;
        let mut bytes = [0; Signature::BYTE_SIZE];
        let signature = Base64UrlUnpadded::decode(signature, &mut bytes).map_err(|_| BadToken)?;
        let signature = Signature::from_slice(signature).map_err(|_| BadToken)?;
        key.0.verify_strict(&signed(claims), &signature).map_err(|_| BadToken)?;
        let claims = Base64UrlUnpadded::decode_vec(claims).map_err(|_| BadToken)?;
        serde_json::from_slice(&claims).map_err(|_| BadToken)
    }
}

/// What is signed of a token.
fn signed(claims: &str) -> Vec<u8> {
    [CONTEXT, claims.as_bytes()].concat()
}

/// The name of a token: 12 characters of base 32, 60 random bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TokenId(String);

impl TokenId {
    const LENGTH: usize = 12;
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

    /// The id of a new token, out of bytes that nobody can guess.
    pub fn of_random(bytes: &[u8; 32]) -> Self {
        let characters = bytes.iter().take(Self::LENGTH).map(|byte| char::from(Self::ALPHABET[usize::from(byte & 31)]));
        Self(characters.collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.len() == Self::LENGTH && text.bytes().all(|byte| Self::ALPHABET.contains(&byte)) {
            return Ok(Self(text.to_owned()));
        }
        let help = "write the 12 characters that were printed with the token, not the token itself";
        Err(Invalid::new("bad-name", "this is not the id of a token", help))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::text_value!(TokenId, "TokenId", {
    "type": "string",
    "pattern": "^[a-z2-7]{12}$",
    "examples": ["k3q7wz2m5xab"]
});

/// The key that signs a host's tokens.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of a seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> TokenKey {
        TokenKey(self.0.verifying_key())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public()).finish_non_exhaustive()
    }
}

/// The public half of the key that signs a host's tokens; as text, its 32 bytes in base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenKey(VerifyingKey);

impl FromStr for TokenKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut bytes = [0; 32];
        let decoded = Base64UrlUnpadded::decode(text, &mut bytes).ok().and_then(|bytes| bytes.try_into().ok());
        let key = decoded.and_then(|bytes| VerifyingKey::from_bytes(bytes).ok()).filter(|key| !key.is_weak());
        let bad =
            || Invalid::new("invalid-value", "this is not a public key for tokens", "write 32 bytes in base64url");
        key.map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base64UrlUnpadded::encode_string(self.0.as_bytes()))
    }
}

impl Serialize for TokenKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

crate::text_value!(TokenKey, "TokenKey", {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{43}$"
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn token() -> Token {
        Token {
            id: TokenId::of_random(&[7; 32]),
            tenant: "acme-dental".parse().unwrap(),
            may: Right::ALL.into(),
            expires: "2026-12-01T00:00:00Z".parse().unwrap(),
        }
    }

    /// A text with a right signature, whatever its claims are.
    fn signed_text(claims: &str, key: &SigningKey) -> String {
        let claims = Base64UrlUnpadded::encode_string(claims.as_bytes());
        let signature = key.0.sign(&signed(&claims)).to_bytes();
        format!("tdt_{claims}.{}", Base64UrlUnpadded::encode_string(&signature))
    }

    #[test]
    fn a_token_tells_what_was_signed_and_is_the_same_each_time() {
        let text = token().sign(&key(1));
        assert!(text.starts_with("tdt_") && text.len() < 300, "{text}");
        assert_eq!(text, token().sign(&key(1)));
        assert_eq!(Token::verify(&text, &key(1).public()), Ok(token()));
        let longest = Token { tenant: "t".repeat(40).parse().unwrap(), ..token() };
        assert_eq!(Token::verify(&longest.sign(&key(1)), &key(1).public()), Ok(longest));
    }

    #[test]
    fn another_key_verifies_nothing() {
        let text = token().sign(&key(1));
        assert_eq!(Token::verify(&text, &key(2).public()), Err(BadToken));
        // As it would be without the words in front of the claims.
        let claims = Base64UrlUnpadded::encode_string(json!(token()).to_string().as_bytes());
        let signature = key(1).0.sign(claims.as_bytes()).to_bytes();
        let bare = format!("tdt_{claims}.{}", Base64UrlUnpadded::encode_string(&signature));
        assert_eq!(Token::verify(&bare, &key(1).public()), Err(BadToken));
    }

    #[test]
    fn a_change_of_any_character_is_found() {
        let (text, public) = (token().sign(&key(1)), key(1).public());
        for at in 0..text.len() {
            // The last character of each part has bits that say nothing.
            let is_last = text.get(at + 1..at + 2).is_none_or(|next| next == ".");
            let others = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n";
            let others = others.chars().step_by(if is_last { 1 } else { 23 });
            for other in others.filter(|other| !text[at..].starts_with(*other)) {
                let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                assert_eq!(Token::verify(&changed, &public), Err(BadToken), "{changed}");
            }
            let (cut, longer) = (&text[..at], format!("{}A{}", &text[..at], &text[at..]));
            assert_eq!(Token::verify(cut, &public), Err(BadToken), "{cut}");
            assert_eq!(Token::verify(&longer, &public), Err(BadToken), "{longer}");
        }
        for longer in ["A", "=", ".", " ", "\n", ".AAAA"] {
            assert_eq!(Token::verify(&format!("{text}{longer}"), &public), Err(BadToken), "{longer:?}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_without_a_look_at_it() {
        let public = key(1).public();
        let claims = json!(token()).to_string();
        assert_eq!(Token::verify(&signed_text(&claims, &key(1)), &public), Ok(token()));
        // Rightly signed, and too long.
        let spaces = format!("{}{claims}", " ".repeat(MAX_TOKEN));
        assert_eq!(Token::verify(&signed_text(&spaces, &key(1)), &public), Err(BadToken));
        for text in ["", "tdt_", "tdt_.", "tdt_..", ".", "Bearer x", "tdt_é.é", &"tdt_".repeat(1 << 20)] {
            assert_eq!(Token::verify(text, &public), Err(BadToken));
        }
    }

    #[test]
    fn claims_that_are_not_known_here_are_refused_though_they_are_signed() {
        let claims = json!(token());
        let with = |name: &str, value: serde_json::Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            claims.to_string()
        };
        for wrong in [
            with("more", json!(true)),
            with("may", json!(["http", "exec"])),
            with("may", json!("http")),
            with("tenant", json!("../acme")),
            with("tenant", json!(null)),
            with("id", json!("short")),
            with("id", json!("ABCDEFGHIJKL")),
            with("expires", json!("tomorrow")),
            with("expires", json!(1_800_000_000)),
            "{}".to_owned(),
            "[]".to_owned(),
            String::new(),
            format!("{claims}{claims}"),
            claims.to_string().replacen('{', "{\"tenant\":\"bee\",", 1),
        ] {
            assert_eq!(Token::verify(&signed_text(&wrong, &key(1)), &key(1).public()), Err(BadToken), "{wrong}");
        }
    }

    #[test]
    fn an_id_has_a_form_of_its_own() {
        let id = TokenId::of_random(&[0xff; 32]);
        assert_eq!(id.as_str(), "777777777777");
        assert_eq!(id.as_str().parse::<TokenId>().as_ref(), Ok(&id));
        for bad in ["", "77777777777", "7777777777777", "77777777777A", "777777777771", "77777777777é"] {
            assert!(bad.parse::<TokenId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_public_key_is_written_and_read_and_the_secret_one_never_shown() {
        let public = key(1).public();
        assert_eq!(public.to_string().parse::<TokenKey>().as_ref(), Ok(&public));
        for bad in ["", "AAAA", &"A".repeat(43), &format!("{public}A"), &format!("{public}=")] {
            assert!(bad.parse::<TokenKey>().is_err(), "{bad:?}");
        }
        let shown = format!("{:?}", key(7));
        assert!(!shown.contains("7, 7, 7") && shown.contains("public"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_token_comes_back(
            seed: [u8; 32],
            id: [u8; 32],
            tenant in "[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?",
            seconds in 0..253_402_207_200i64,
            may in any::<bool>(),
        ) {
            let key = SigningKey::from_seed(&seed);
            let token = Token {
                id: TokenId::of_random(&id),
                tenant: tenant.parse().unwrap(),
                may: Right::ALL.into_iter().filter(|_| may).collect(),
                expires: Timestamp::from_second(seconds).unwrap(),
            };
            let text = token.sign(&key);
            prop_assert!(text.len() <= MAX_TOKEN);
            prop_assert_eq!(Token::verify(&text, &key.public()), Ok(token));
        }

        #[test]
        fn no_text_makes_verification_panic_or_succeed(text in "(tdt_)?[A-Za-z0-9_.=-]{0,200}|\\PC{0,100}") {
            prop_assert_eq!(Token::verify(&text, &key(1).public()), Err(BadToken));
        }
    }
}
