//! Tokens: made and revoked for operators. Nothing of a token is kept, but that it counts no more.

use jiff::Timestamp;

use super::{
    Daemon,
    events::{TokenMinted, TokenRevoked},
    in_force::Revocation,
    ingress::no_ingress,
};
use crate::{
    host::key::{random, token_key},
    model::{Token, TokenId},
    web::{
        Refusal,
        operators::{MAX_LIFETIME, MintToken, Minted, RevokeToken, Revoked, TokenText},
    },
};

impl Daemon {
    /// Makes a token. It is handed out once that is on record.
    pub(super) async fn mint_token(
        &mut self,
        MintToken { tenant, may, expires }: MintToken,
        by: String,
    ) -> Result<Minted, Refusal> {
        let ingress = self.ingress.as_ref().ok_or_else(no_ingress)?;
        self.knows(&tenant)?;
        let Some(declared) = self.in_force.tenant(&tenant).filter(|declared| !declared.expose.is_empty()) else {
            return Err(Refusal::conflict(format!("{tenant} exposes no port")).hint("`expose` in its file names ports"));
        };
        if expires <= Timestamp::now() {
            return Err(Refusal::invalid(format!("{expires} has passed")));
        }
        let mut bytes = [0; 32];
        random(&mut bytes).map_err(|e| Refusal::unavailable(format!("cannot make a token: {e}")))?;
        let id = TokenId::of_random(&bytes);
        let token = Token { id: id.clone(), tenant: declared.name.clone(), may: may.clone(), expires };
        let token = TokenText(token.sign(&ingress.key));
        self.reporter.report(&TokenMinted { tenant: &tenant, id: &id, may: &may, expires, by: &by }).await;
        if let Some(error) = self.reporter.journal_error() {
            return Err(Refusal::unavailable(format!("what is not on record is not handed out: {error}")));
        }
        Ok(Minted { tenant, id, token, may, expires, by })
    }

    /// Has a token count no more. When it expires is not known, so that is remembered as long as any token counts.
    pub(super) async fn revoke_token(
        &mut self,
        RevokeToken { tenant, id }: RevokeToken,
        by: String,
    ) -> Result<Revoked, Refusal> {
        let ingress = self.ingress.as_mut().ok_or_else(no_ingress)?;
        let now = Timestamp::now();
        match self.in_force.revoke_token(&id, now, now + MAX_LIFETIME) {
            Revocation::Known => {}
            Revocation::New => {
                ingress.token_revoked();
                self.reporter.report(&TokenRevoked { tenant: &tenant, id: &id, by: &by }).await;
            }
            Revocation::TooMany => {
                let key = token_key(&self.host.data_root);
                let hint = format!("to end all tokens at once, remove {} and restart the daemon", key.display());
                return Err(Refusal::conflict("too many tokens are revoked already").hint(hint));
            }
            Revocation::NotKept => return Err(self.not_kept()),
        }
        Ok(Revoked { tenant, id, by })
    }
}
