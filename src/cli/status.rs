//! `tenantd status`.

mod text;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use rustix::termios::tcgetwinsize;
use serde_json::Value;
use tokio::time::sleep;

use super::{
    EXIT_OK,
    args::{Global, PlanFormat},
    failure, output, setup,
};
use crate::{
    model::Status,
    plan::render::Style,
    web::{Client, operators::ReadStatus},
};

#[derive(Debug, clap::Args)]
pub struct Command {
    /// Only this tenant, with everything about it
    tenant: Option<String>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    format: PlanFormat,
    /// Repeat: each second on a terminal, else whenever something has changed
    #[arg(long, short)]
    watch: bool,
}

/// How often the daemon is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shows what the daemon says. Ends with 0 where it answered, however things stand.
pub fn run(command: &Command, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let client = Client::new(&host.socket);
    let call = ReadStatus { tenant: command.tenant.clone() };
    setup::block_on(async {
        let status = client.call(&call).await?;
        if !command.watch {
            output::print_as(command.format == PlanFormat::Text, &form(command, &status, output::style())?)?;
        } else {
            tokio::select! {
                watched = watch(command, &client, &call, status) => watched?,
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    if io::stdout().is_terminal() {
                        output::print("\n")?;
                    }
                }
            }
        }
        Ok(EXIT_OK)
    })
}

/// The answer in the form that is asked for, ending with a newline.
fn form(command: &Command, status: &Status, style: Style) -> anyhow::Result<String> {
    Ok(match (command.format, &command.tenant) {
        (PlanFormat::Json, _) if command.watch => format!("{}\n", serde_json::to_string(status)?),
        (PlanFormat::Json, _) => format!("{}\n", serde_json::to_string_pretty(status)?),
        (PlanFormat::Text, None) => text::all(status, style),
        (PlanFormat::Text, Some(_)) => text::one(status, style),
    })
}

/// Shows what the daemon says until nobody reads any more.
async fn watch(command: &Command, client: &Client<'_>, call: &ReadStatus, first: Status) -> anyhow::Result<()> {
    let on_terminal = io::stdout().is_terminal() && command.format == PlanFormat::Text;
    let mut last = None;
    let mut answer = Ok(first);
    loop {
        match &answer {
            Ok(status) if on_terminal => {
                let frame = frame(&form(command, status, output::style())?);
                if !output::draw(&frame)? {
                    return Ok(());
                }
            }
            Ok(status) => {
                let now = Some(lasting(status)?);
                if now != last {
                    let apart = if last.is_some() && command.format == PlanFormat::Text { "\n" } else { "" };
                    let text = format!("{apart}{}", form(command, status, output::style())?);
                    let reads = match command.format {
                        PlanFormat::Text => output::print_while_read(&text)?,
                        PlanFormat::Json => output::print_data_while_read(&text)?,
                    };
                    if !reads {
                        return Ok(());
                    }
                    last = now;
                }
            }
            Err(error) => output::message(&failure::report(error)),
        }
        sleep(INTERVAL).await;
        answer = client.call(call).await;
    }
}

/// A status without what changes though nothing happens.
fn lasting(status: &Status) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(status)?;
    for path in ["/time", "/source/fetched", "/engine/full_pass"] {
        if let Some(place) = value.pointer_mut(path) {
            *place = Value::Null;
        }
    }
    Ok(value)
}

/// The text, cut to the size of the terminal.
fn frame(text: &str) -> String {
    let rows = tcgetwinsize(io::stdout()).map_or(24, |size| usize::from(size.ws_row)).max(2) - 1;
    let mut shown: String = text.split_inclusive('\n').take(rows).collect();
    let left = text.lines().count().saturating_sub(rows);
    if left > 0 {
        shown.push_str(&format!("({left} more lines)"));
    }
    shown
}
