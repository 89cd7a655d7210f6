//! Where the programs that run on and on log to.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use super::terminal::LogLines;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// For the system's journal
    Journald,
}

/// Logs to standard error: for people on a terminal, to the journal where systemd reads it, else as
/// JSON. RUST_LOG chooses what.
pub fn begin(format: Option<LogFormat>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("tenantd=info"));
    let registry = tracing_subscriber::registry().with(filter);
    let format = format.unwrap_or_else(|| match () {
        () if io::stderr().is_terminal() => LogFormat::Text,
        () if std::env::var_os("JOURNAL_STREAM").is_some() => LogFormat::Journald,
        () => LogFormat::Json,
    });
    if format == LogFormat::Journald
        && let Ok(journald) = tracing_journald::layer()
    {
        registry.with(journald).init();
        return;
    }
    let layer = tracing_subscriber::fmt::layer().with_target(false);
    if format == LogFormat::Text {
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        registry.with(layer.with_writer(|| LogLines).with_ansi(colour)).init();
    } else {
        registry.with(layer.with_writer(io::stderr).json().flatten_event(true)).init();
    }
}
