//! `tenantd suspend` and `tenantd resume`.

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    EXIT_OK,
    args::{Global, Resume, Suspend},
    client::Client,
    output, setup,
};
use crate::model::finding::printable;

/// Has the daemon leave a tenant alone. The daemon judges the reason and the time.
pub fn suspend(command: &Suspend, global: &Global) -> anyhow::Result<u8> {
    let until = until(&command.until, Timestamp::now()).with_context(|| {
        let text = &command.until;
        format!("--until takes a time such as 2026-12-01T08:00:00Z or a span such as 2h or 3d, not {text:?}")
    })?;
    let host = setup::host(global)?;
    let body = json!({"reason": command.reason, "until": until});
    setup::block_on(async {
        let client = Client::new(&host.socket);
        Ok(client.post(&["tenants", &command.tenant, "suspend"], Some(&body)).await?)
    })?;
    let (tenant, reason) = (printable(&command.tenant), printable(&command.reason));
    output::print(&format!("{tenant} is left alone until {until}: {reason}\n"))?;
    Ok(EXIT_OK)
}

/// Has the daemon look after a suspended tenant again.
pub fn resume(command: &Resume, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    setup::block_on(async {
        let client = Client::new(&host.socket);
        Ok(client.post(&["tenants", &command.tenant, "resume"], None).await?)
    })?;
    output::print(&format!("{} is looked after again.\n", printable(&command.tenant)))?;
    Ok(EXIT_OK)
}

/// A moment, or a span from now on, to the second.
fn until(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = number.parse().ok().filter(|_| is_number)?;
    let end = now.checked_add(SignedDuration::from_secs(number.checked_mul(seconds)?)).ok()?;
    Timestamp::from_second(end.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_ends_at_a_time_or_after_a_span() {
        let now = Timestamp::from_second(1_000_000_000).unwrap_or_default();
        let shown = |text: &str| until(text, now).map(|time| time.to_string());
        for (text, expected) in [
            ("90s", "2001-09-09T01:48:10Z"),
            ("2h", "2001-09-09T03:46:40Z"),
            ("3d", "2001-09-12T01:46:40Z"),
            ("2026-12-01T08:00:00Z", "2026-12-01T08:00:00Z"),
            ("2026-12-01T08:00:00+01:00", "2026-12-01T07:00:00Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        for bad in
            ["", "h", "2", "2w", "-2h", "+2h", "2 h", "2ü", "tomorrow", "99999999999999999d", "9223372036854775807s"]
        {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
