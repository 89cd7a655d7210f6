//! The settings that can change while the server runs.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{
    host::secret::{self, SecretError},
    model::{Host, host::Secret},
};

/// The token or the hook's secret cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {setting}")]
pub struct SettingsError {
    /// The setting that points to it.
    setting: &'static str,
    /// Why.
    source: SecretError,
}

/// The settings that can change while the server runs.
#[derive(Clone, Debug)]
pub struct Settings(Arc<RwLock<Secrets>>);

#[derive(Debug, PartialEq, Eq)]
struct Secrets {
    token: Option<Secret>,
    webhook: Option<Secret>,
}

impl Secrets {
    /// The secrets that the host's settings name, each of which can be read.
    fn of(host: &Host) -> Result<Self, SettingsError> {
        let token = host.listen.as_ref().map(|listen| listen.token.clone());
        let webhook = host.source.as_ref().and_then(|source| source.webhook_secret.clone());
        for (setting, secret) in [("the token of listen", &token), ("the webhook secret of source", &webhook)] {
            if let Some(secret) = secret {
                secret::read(secret).map_err(|source| SettingsError { setting, source })?;
            }
        }
        Ok(Self { token, webhook })
    }
}

impl Settings {
    /// The settings of a host.
    ///
    /// # Errors
    /// One of the secrets cannot be read.
    pub(super) fn of(host: &Host) -> Result<Self, SettingsError> {
        Ok(Self(Arc::new(RwLock::new(Secrets::of(host)?))))
    }

    /// Takes the token and the hook's secret of new settings from now on. Where the daemon listens
    /// stays as it is until it is started again.
    ///
    /// # Errors
    /// One of them cannot be read; the former ones stay in force then.
    pub fn update(&self, host: &Host) -> Result<(), SettingsError> {
        let secrets = Secrets::of(host)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secrets;
        Ok(())
    }

    pub(super) fn token(&self) -> Option<Secret> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).token.clone()
    }

    pub(super) fn webhook_secret(&self) -> Option<Secret> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).webhook.clone()
    }
}
