//! `tenantd token`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;

use super::{
    EXIT_OK,
    args::{Global, PlanFormat},
    output, setup, time,
};
use crate::{
    model::{TokenId, finding::printable, token::Right},
    web::{
        Client,
        operators::{MintToken, RevokeToken},
    },
};

#[derive(Debug, clap::Args)]
pub struct Token {
    /// The tenant
    tenant: String,
    /// How long it counts: a duration such as 1h or 7d, or a time such as 2026-12-01T08:00:00Z until when; 30 days at most
    #[arg(long = "for", value_name = "TIME", required_unless_present = "revoke")]
    until: Option<String>,
    /// What its bearer may do, separated by commas: http (send requests to the ports that the tenant exposes)
    #[arg(long, value_name = "RIGHTS", default_value = "http", value_delimiter = ',', value_parser = rights())]
    may: Vec<Right>,
    /// Revoke the token with this id instead of making one
    #[arg(long, value_name = "ID", conflicts_with_all = ["until", "may"])]
    revoke: Option<TokenId>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    format: PlanFormat,
}

/// Reads a right by its word.
fn rights() -> impl TypedValueParser<Value = Right> {
    PossibleValuesParser::new(Right::ALL.map(Right::as_str))
        .try_map(|word| Right::ALL.into_iter().find(|right| right.as_str() == word).ok_or("it is no right"))
}

/// Has the daemon make a token, and prints it alone, so that it can be piped on; what it is goes to standard error.
pub fn run(command: &Token, global: &Global) -> anyhow::Result<u8> {
    let Token { tenant, until, may, revoke, format } = command;
    let host = setup::host(global)?;
    let client = Client::new(&host.socket);
    if let Some(id) = revoke {
        let call = RevokeToken { tenant: tenant.clone(), id: id.clone() };
        let revoked = setup::block_on(async { Ok(client.call(&call).await?) })?;
        match format {
            PlanFormat::Text => output::print(&format!("The token {id} is revoked.\n"))?,
            PlanFormat::Json => output::print_data(&format!("{:#}\n", serde_json::to_value(&revoked)?))?,
        }
        return Ok(EXIT_OK);
    }
    let expires = time::until("--for", until.as_deref().unwrap_or_default(), Timestamp::now())?;
    let call = MintToken { tenant: tenant.clone(), may: may.iter().copied().collect(), expires };
    let minted = setup::block_on(async { Ok(client.call(&call).await?) })?;
    match format {
        PlanFormat::Text => {
            let may: Vec<&str> = minted.may.iter().map(|right| right.as_str()).collect();
            let (tenant, id, expires, may) = (printable(&minted.tenant), minted.id, minted.expires, may.join(", "));
            output::message(&format!(
                "Token {id} for {tenant} ({may}), until {expires}. To revoke it: tenantd token {tenant} --revoke {id}"
            ));
            output::print(&format!("{}\n", minted.token.0))?;
        }
        PlanFormat::Json => output::print_data(&format!("{:#}\n", serde_json::to_value(&minted)?))?,
    }
    Ok(EXIT_OK)
}
