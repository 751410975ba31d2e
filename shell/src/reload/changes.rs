//! What differs between two configurations, and what that takes.

use crate::config::{DaemonConfig, RouterConfig, WanConfig};

/// What a new configuration takes. Everything else is looked up in the configuration when it is
/// needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Keys that take a restart.
    pub(super) restart: Vec<String>,
    /// The probes, the checks, the watch over the interfaces.
    pub(super) prober: bool,
    pub(super) checker: bool,
    pub(super) links: bool,
    /// The login at the router, or how often its counters are read.
    pub(super) login: bool,
    /// The password, which no list of keys shows.
    pub(super) password: bool,
    /// The certificates that the router is trusted by.
    pub(super) trust: bool,
    pub(super) flight: bool,
    /// The controller.
    pub(super) core: bool,
    /// By WAN, whether its probes go the same way to the same reflectors.
    pub(super) same_paths: Vec<bool>,
}

impl Changes {
    /// Compares two configurations. A new field of either does not compile here until it is known what
    /// its change takes.
    pub(super) fn between(old: &DaemonConfig, new: &DaemonConfig) -> Self {
        let DaemonConfig {
            on_exit: _,
            status_interval: _,
            probe_timeout,
            state_dir,
            run_dir,
            listen,
            record: _,
            flight,
            keys: _,
            router,
            wans,
            steering_rules,
            core,
        } = old;
        let mut changes = Self {
            prober: *probe_timeout != new.probe_timeout,
            flight: *flight != new.flight,
            core: *core != new.core,
            ..Self::default()
        };
        changes.needs_restart("interval", core.tick != new.core.tick);
        changes.needs_restart("state-dir", *state_dir != new.state_dir);
        changes.needs_restart("run-dir", *run_dir != new.run_dir);
        changes.needs_restart("listen", *listen != new.listen);
        changes.compare_router(router, &new.router);
        let names = |wans: &[WanConfig]| -> Vec<String> {
            wans.iter().map(|wan| wan.name.clone()).collect()
        };
        changes
            .needs_restart("the names and the number of [[wan]]", names(wans) != names(&new.wans));
        for (old, new) in wans.iter().zip(&new.wans) {
            changes.compare_wan(old, new);
        }
        let has_steering = core.steering.is_some();
        let is_other = *steering_rules != new.steering_rules;
        changes.needs_restart(
            "steering.rules, steering.dry-run or the whole of [steering]",
            is_other || has_steering != new.core.steering.is_some(),
        );
        changes.core |= changes.same_paths.contains(&false);
        changes
    }

    fn needs_restart(&mut self, key: &str, differs: bool) {
        if differs {
            self.restart.push(key.to_owned());
        }
    }

    fn compare_router(&mut self, old: &RouterConfig, new: &RouterConfig) {
        let RouterConfig { url, user, password, trust, counter_interval } = old;
        self.needs_restart("router.url", *url != new.url);
        self.password = *password != new.password;
        self.trust = *trust != new.trust;
        let interval = *counter_interval != new.counter_interval;
        self.login = self.password || self.trust || *user != new.user || interval;
    }

    fn compare_wan(&mut self, old: &WanConfig, new: &WanConfig) {
        let WanConfig {
            name,
            interface,
            source_address,
            source_address_v6: _,
            fwmark: _,
            reflectors: _,
            active_reflectors: _,
            queues,
            checks,
            fail_safe: _,
        } = old;
        self.needs_restart(&format!("wan.{name}: queue"), *queues != new.queues);
        let is_same_path = old.probe_path() == new.probe_path();
        self.same_paths.push(is_same_path);
        self.prober |= !is_same_path;
        self.checker |= !is_same_path || *checks != new.checks;
        self.links |= *interface != new.interface || *source_address != new.source_address;
    }
}
