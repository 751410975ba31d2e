//! The router as it is before the first request: options, users and default rows.

use std::time::Duration;

use super::edit;
use super::menus::MenuName;
use super::message::basic_credentials;
use super::seed_system;
use super::store::{Properties, Router};

/// Largest number of interfaces seeded.
const INTERFACES_MAX: usize = 64;

/// A right a user's group can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// May read.
    Read,
    /// May change the configuration.
    Write,
    /// May log in to the binary API, which REST uses underneath.
    Api,
    /// May use REST.
    RestApi,
}

/// A user of the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Password in clear text.
    pub password: String,
    /// Rights of the user's group.
    pub policies: Vec<Policy>,
}

impl User {
    /// Tells whether an `Authorization` header is this user's.
    pub(crate) fn has_credentials(&self, authorization: Option<&str>) -> bool {
        authorization == Some(&*basic_credentials(&self.name, &self.password))
    }

    pub(crate) fn may_use_api(&self) -> bool {
        self.policies.contains(&Policy::Api)
    }

    /// Makes a user with the rights a controller needs: all four.
    pub fn full(name: &str, password: &str) -> Self {
        let policies = vec![Policy::Read, Policy::Write, Policy::Api, Policy::RestApi];
        Self { name: name.to_owned(), password: password.to_owned(), policies }
    }

    /// Makes a user that can only read.
    pub fn read_only(name: &str, password: &str) -> Self {
        let policies = vec![Policy::Read, Policy::Api, Policy::RestApi];
        Self { policies, ..Self::full(name, password) }
    }
}

/// Behaviour on which the known routers disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// A PATCH with a refused value answers with the generic text instead of the specific one.
    pub generic_patch_refusal: bool,
    /// HTTP status of a command that names a record which does not exist.
    pub missing_item_status: u16,
}

impl Default for Quirks {
    fn default() -> Self {
        Self { generic_patch_refusal: true, missing_item_status: 404 }
    }
}

/// Describes the router to emulate.
#[derive(Debug, Clone)]
pub struct RouterOptions {
    /// Name in `system/identity`.
    pub identity: String,
    /// Version in `system/resource`, for example `7.23.2 (stable)`.
    pub version: String,
    /// Uptime at the start of the emulator.
    pub uptime_at_start: Duration,
    /// Names of the Ethernet interfaces.
    pub interfaces: Vec<String>,
    /// Rows added in this order, with the same checks as a PUT.
    pub rows: Vec<(MenuName, Properties)>,
    /// Users that may log in.
    pub users: Vec<User>,
    /// Disputed behaviour.
    pub quirks: Quirks,
    /// How often queue counters are refreshed; zero: whenever they are read.
    pub counter_refresh: Duration,
}

impl RouterOptions {
    /// Describes a router without queues, queue types of its own and mangle rules.
    pub fn bare() -> Self {
        Self {
            identity: "MikroTik".to_owned(),
            version: "7.23.2 (stable)".to_owned(),
            uptime_at_start: Duration::from_secs(93_600),
            interfaces: (1..=5).map(|number| format!("ether{number}")).collect(),
            rows: Vec::new(),
            users: vec![User::full("wanctl", "wanctl")],
            quirks: Quirks::default(),
            counter_refresh: Duration::ZERO,
        }
    }

    /// Adds a tree queue with a rate in bits per second; 0 is unlimited.
    #[must_use]
    pub fn with_queue(self, name: &str, parent: &str, queue_type: &str, rate_bps: u64) -> Self {
        let rate = rate_bps.to_string();
        self.with_row(
            MenuName::QueueTree,
            &[("name", name), ("parent", parent), ("queue", queue_type), ("max-limit", &rate)],
        )
    }

    /// Tells whether there is a tree queue of this name.
    pub(crate) fn has_queue(&self, name: &str) -> bool {
        let is_named = |row: &Properties| row.get("name").is_some_and(|found| found == name);
        self.rows.iter().any(|(menu, row)| *menu == MenuName::QueueTree && is_named(row))
    }

    /// Adds any row.
    #[must_use]
    pub fn with_row(mut self, menu: MenuName, properties: &[(&str, &str)]) -> Self {
        self.rows.push((menu, properties_of(properties)));
        self
    }

    /// Replaces the users.
    #[must_use]
    pub fn with_users(mut self, users: Vec<User>) -> Self {
        self.users = users;
        self
    }
}

impl Default for RouterOptions {
    /// Describes one shaped WAN on `ether1`, a second WAN on `ether2` and a disabled steering rule.
    fn default() -> Self {
        let down = [("name", "cake-down"), ("kind", "cake"), ("cake-flowmode", "dual-dsthost")];
        let up = [("name", "cake-up"), ("kind", "cake"), ("cake-flowmode", "dual-srchost")];
        Self::bare()
            .with_row(MenuName::QueueType, &down)
            .with_row(MenuName::QueueType, &up)
            .with_queue("WAN-Download", "ether3", "cake-down", 500_000_000)
            .with_queue("WAN-Upload", "ether1", "cake-up", 50_000_000)
            .with_row(
                MenuName::Mangle,
                &[
                    ("action", "mark-connection"),
                    ("chain", "prerouting"),
                    ("comment", "ADAPTIVE: steer"),
                    ("connection-state", "new"),
                    ("disabled", "yes"),
                    ("dst-address-type", "!local"),
                    ("in-interface", "ether3"),
                    ("new-connection-mark", "via-wan2"),
                    ("passthrough", "yes"),
                ],
            )
            .with_row(
                MenuName::Mangle,
                &[
                    ("action", "mark-routing"),
                    ("chain", "prerouting"),
                    ("connection-mark", "via-wan2"),
                    ("in-interface", "ether3"),
                    ("new-routing-mark", "to-wan2"),
                    ("passthrough", "no"),
                ],
            )
            .with_row(MenuName::RoutingTable, &[("name", "to-wan2")])
            .with_row(
                MenuName::Filter,
                &[
                    ("action", "accept"),
                    ("chain", "forward"),
                    ("connection-state", "established,related"),
                ],
            )
    }
}

/// Builds a property map from pairs.
pub fn properties_of(pairs: &[(&str, &str)]) -> Properties {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Queue types every router has; the first one has the id `*FFFFFFFF`, the next `*FFFFFFFE`.
const DEFAULT_TYPES: [(&str, &str); 10] = [
    ("default", "pfifo"),
    ("default-small", "pfifo"),
    ("ethernet-default", "pfifo"),
    ("wireless-default", "sfq"),
    ("synchronous-default", "red"),
    ("pcq-upload-default", "pcq"),
    ("pcq-download-default", "pcq"),
    ("hotspot-default", "sfq"),
    ("only-hardware-queue", "none"),
    ("multi-queue-ethernet-default", "mq-pfifo"),
];

/// Puts the default rows and those of `options` into an empty router.
pub(crate) fn fill(router: &mut Router, options: &RouterOptions) -> anyhow::Result<()> {
    anyhow::ensure!(options.interfaces.len() <= INTERFACES_MAX, "too many interfaces");
    router.insert_at(MenuName::Identity, 0, properties_of(&[("name", &options.identity)]));
    router.insert_at(MenuName::Resource, 0, resource(&options.version));
    for (index, name) in options.interfaces.iter().enumerate() {
        router.insert_at(MenuName::Interface, index, interface(name, index));
    }
    let loopback = properties_of(&LOOPBACK);
    router.insert_at(MenuName::Interface, options.interfaces.len(), loopback);
    fill_default_types(router)?;
    seed_system::fill(router, options);
    for (menu, properties) in &options.rows {
        edit::add(router, *menu, properties, None).map_err(|refusal| {
            anyhow::anyhow!("{} {properties:?}: {}", menu.path(), refusal.detail())
        })?;
    }
    Ok(())
}

fn fill_default_types(router: &mut Router) -> anyhow::Result<()> {
    for (name, kind) in DEFAULT_TYPES {
        let mut properties = properties_of(&[("name", name), ("kind", kind)]);
        match name {
            "pcq-upload-default" => {
                properties.insert("pcq-classifier".to_owned(), "src-address".to_owned())
            }
            "pcq-download-default" => {
                properties.insert("pcq-classifier".to_owned(), "dst-address".to_owned())
            }
            "default-small" => properties.insert("pfifo-limit".to_owned(), "10".to_owned()),
            _ => None,
        };
        edit::add(router, MenuName::QueueType, &properties, None)
            .map_err(|refusal| anyhow::anyhow!("{name}: {}", refusal.detail()))?;
    }
    let menu = router.menu_mut(MenuName::QueueType);
    for (record, distance) in menu.records.iter_mut().zip(0..) {
        record.id = u32::MAX - distance;
        record.properties.insert("default".to_owned(), "true".to_owned());
    }
    menu.next_id = MenuName::QueueType.spec().first_id;
    Ok(())
}

fn resource(version: &str) -> Properties {
    properties_of(&[
        ("architecture-name", "arm64"),
        ("bad-blocks", "0"),
        ("board-name", "RB5009UG+S+"),
        ("build-time", "2026-08-14 09:12:40"),
        ("cpu", "ARM64"),
        ("cpu-count", "4"),
        ("cpu-frequency", "1400"),
        ("cpu-load", "3"),
        ("factory-software", "7.4.1"),
        ("free-hdd-space", "978534400"),
        ("free-memory", "812343296"),
        ("platform", "MikroTik"),
        ("total-hdd-space", "1073741824"),
        ("total-memory", "1073741824"),
        ("version", version),
        ("write-sect-since-reboot", "1482"),
        ("write-sect-total", "183920"),
    ])
}

/// The loopback interface, which every router has; it comes after the Ethernet ports here.
const LOOPBACK: [(&str, &str); 8] = [
    ("actual-mtu", "65536"),
    ("disabled", "false"),
    ("link-downs", "0"),
    ("mac-address", "00:00:00:00:00:00"),
    ("mtu", "65536"),
    ("name", "lo"),
    ("running", "true"),
    ("type", "loopback"),
];

fn interface(name: &str, index: usize) -> Properties {
    let mut properties = properties_of(&[
        ("actual-mtu", "1500"),
        ("default-name", name),
        ("disabled", "false"),
        ("fp-rx-byte", "0"),
        ("fp-rx-packet", "0"),
        ("fp-tx-byte", "0"),
        ("fp-tx-packet", "0"),
        ("l2mtu", "1598"),
        ("link-downs", "0"),
        ("max-l2mtu", "9796"),
        ("mtu", "1500"),
        ("name", name),
        ("running", "true"),
        ("rx-error", "0"),
        ("tx-error", "0"),
        ("tx-queue-drop", "0"),
        ("type", "ether"),
    ]);
    properties.insert("mac-address".to_owned(), format!("02:00:5E:10:00:{:02X}", index + 1));
    properties
}
