//! Tokens whose signatures were verified before: to verify one takes longer than all else that is asked of a request.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use crate::model::token::{MAX_TOKEN, Token, TokenKey};

/// How many are remembered. Where there are more, all are forgotten, and verified again as they come.
const MOST: usize = 4096;

/// Tokens that a key has signed, by hashes of their texts. Whether one still counts is judged anew for each request.
#[derive(Debug, Default)]
pub struct Verified(Mutex<BTreeMap<[u8; 32], (TokenKey, Token)>>);

impl Verified {
    /// A token by its text; `None` where the key has not signed it.
    pub fn token(&self, text: &str, key: &TokenKey) -> Option<Token> {
        if text.len() > MAX_TOKEN {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(text).into();
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((by, token)) = known().get(&hash)
            && by == key
        {
            return Some(token.clone());
        }
        let token = Token::verify(text, key).ok()?;
        let mut known = known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(hash, (*key, token.clone()));
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::token::SigningKey;

    #[test]
    fn a_token_counts_for_the_key_that_signed_it_and_no_other_text_for_it() {
        let [first, second] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]));
        let token = Token {
            id: "2grtkcuggbpb".parse().unwrap(),
            tenant: "ant".parse().unwrap(),
            may: [crate::model::token::Right::Http].into(),
            expires: "2026-12-01T00:00:00Z".parse().unwrap(),
        };
        let (text, verified) = (token.sign(&first), Verified::default());
        for _ in 0..2 {
            assert_eq!(verified.token(&text, &first.public()), Some(token.clone()));
            assert_eq!(verified.token(&text, &second.public()), None);
            assert_eq!(verified.token(&format!("{text}A"), &first.public()), None);
            assert_eq!(verified.token(&token.sign(&second), &first.public()), None);
        }
    }

    #[test]
    fn so_many_are_remembered() {
        let key = SigningKey::from_seed(&[1; 32]);
        let verified = Verified::default();
        let token = |second: i64| Token {
            id: "2grtkcuggbpb".parse().unwrap(),
            tenant: "ant".parse().unwrap(),
            may: [crate::model::token::Right::Http].into(),
            expires: jiff::Timestamp::from_second(second).unwrap(),
        };
        verified.0.lock().unwrap().extend((0..MOST).map(|number| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            (hash, (key.public(), token(0)))
        }));
        assert_eq!(verified.token(&token(1).sign(&key), &key.public()), Some(token(1)));
        assert_eq!(verified.0.lock().unwrap().len(), 1);
    }
}
