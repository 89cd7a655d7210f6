//! What an engine says of itself.
//!
//! Nothing is as dear to ask: an engine runs the programs of its runtime to answer, which takes it as long as a list and
//! thirty inspections. So it is remembered while the engine's events are listened to, which report when its configuration is
//! read again; another engine process ends them. What no event reports is asked for again after a while. Who does not
//! listen, as a command, asks each time.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Instant,
};

use super::{CallError, Engine, inspect, remembered::Remembered};
use crate::model::{Cpus, observed::EngineFacts};

impl Engine {
    /// Somebody listens to the engine's events from now on, for as long as the result is held.
    pub(super) fn remember_facts(&self) -> Arc<Remembered> {
        let remembered = Arc::default();
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&remembered);
        remembered
    }

    fn remembered_facts(&self) -> Option<Arc<Remembered>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// Has the engine asked again what it is like, whatever its events reported: it was seen to be otherwise.
    pub fn forget_facts(&self) {
        if let Some(remembered) = self.remembered_facts() {
            remembered.forget();
        }
    }

    /// What the engine says of itself.
    pub(super) async fn facts(&self) -> Result<EngineFacts, CallError> {
        let Some(remembered) = self.remembered_facts() else { return self.ask_facts().await };
        let now = Instant::now();
        let facts = match remembered.get(now) {
            Ok(facts) => facts,
            Err(forgotten) => {
                let facts = self.ask_facts().await?;
                remembered.put(&facts, now, forgotten);
                facts
            }
        };
        Ok(EngineFacts { defaults: self.defaults(), ..facts })
    }

    async fn ask_facts(&self) -> Result<EngineFacts, CallError> {
        let info: inspect::Info = self.get("/info").await?;
        let limits = [
            ("memory", info.memory_limit),
            ("swap", info.swap_limit),
            ("cpus", info.cpu_cfs_quota && info.cpu_cfs_period),
            ("pids", info.pids_limit),
        ];
        let seccomp = info.seccomp().map(str::to_owned);
        Ok(EngineFacts {
            userns: info.userns(),
            id: info.id,
            version: info.server_version,
            api_version: self.api.to_string(),
            cpus: Cpus::whole(info.cpus.max(1)),
            root: info.docker_root_dir,
            runtimes: info.runtimes.into_keys().collect(),
            failing_runtimes: BTreeMap::new(),
            missing_limits: limits.into_iter().filter(|(_, present)| !present).map(|(name, _)| name.into()).collect(),
            seccomp: seccomp.as_ref().is_some_and(|profile| profile != "unconfined"),
            seccomp_profile: seccomp.filter(|profile| !inspect::OWN_PROFILES.contains(&profile.as_str())),
            selinux: info.security_options.iter().any(|option| option == "name=selinux"),
            defaults: self.defaults(),
            // It cannot know.
            is_here: false,
        })
    }
}
