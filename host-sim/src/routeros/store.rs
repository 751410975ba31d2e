//! The router's state: menus of records, counters, users and the log of rate writes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::counters::{Lane, QueueTraffic, Totals, limit_u32, wrap_u32};
use super::menus::{MenuName, Shape};
use super::seed::{self, Policy, RouterOptions, User};
use super::seed_system::policy_text;
use super::value::time_text;

/// Rate writes remembered; older ones are forgotten first.
pub const WRITE_LOG_MAX: usize = 100_000;

/// The properties of one record: name to value, in ASCII order.
pub type Properties = BTreeMap<String, String>;

/// One write of `max-limit` to a queue of `queue/tree`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueWrite {
    /// Time since the emulator started.
    pub at: Duration,
    /// Name of the queue.
    pub queue: String,
    /// Rate written, in bits per second; 0 is unlimited.
    pub max_limit_bps: u64,
}

/// One record of a menu.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: u32,
    pub(crate) properties: Properties,
    /// Queue tree and mangle use the first lane; simple queues count upload then download,
    /// interfaces received then sent.
    pub(crate) lanes: [Lane; 2],
}

impl Record {
    /// Returns the id the way the router writes it, for example `*1000000`.
    pub(crate) fn id_text(&self) -> String {
        format!("*{:X}", self.id)
    }

    pub(crate) fn name(&self) -> &str {
        self.properties.get("name").map_or("", String::as_str)
    }
}

/// Traffic that never ends.
#[derive(Debug)]
struct Flow {
    queue: String,
    rate_bps: u64,
    since: Duration,
}

impl Flow {
    /// Returns the bytes carried until then.
    fn bytes_at(&self, at: Duration) -> u64 {
        let nanos = at.saturating_sub(self.since).as_nanos();
        u64::try_from(u128::from(self.rate_bps) * nanos / 8_000_000_000).unwrap_or(u64::MAX)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Menu {
    pub(crate) records: Vec<Record>,
    pub(crate) next_id: u32,
}

/// The whole state of the emulated router; it does no I/O and never reads a clock.
#[derive(Debug)]
pub struct Router {
    menus: [Menu; MenuName::ALL.len()],
    pub(crate) users: Vec<User>,
    pub(crate) quirks: seed::Quirks,
    now: Duration,
    booted_at: Duration,
    uptime_at_boot: Duration,
    /// How often queue counters are refreshed; zero: whenever they are read.
    counter_refresh: Duration,
    flows: Vec<Flow>,
    writes: VecDeque<QueueWrite>,
    write_count: u64,
}

impl Router {
    /// Builds a router with the rows described by `options`.
    ///
    /// # Errors
    /// A row is refused, for example because of an unknown property.
    pub fn new(options: &RouterOptions) -> anyhow::Result<Self> {
        let mut router = Router {
            menus: MenuName::ALL
                .map(|menu| Menu { next_id: menu.spec().first_id, ..Menu::default() }),
            users: options.users.clone(),
            quirks: options.quirks,
            now: Duration::ZERO,
            booted_at: Duration::ZERO,
            uptime_at_boot: options.uptime_at_start,
            counter_refresh: options.counter_refresh,
            flows: Vec::new(),
            writes: VecDeque::new(),
            write_count: 0,
        };
        seed::fill(&mut router, options)?;
        // Only what clients write counts as a write.
        router.writes.clear();
        router.write_count = 0;
        Ok(router)
    }

    /// Moves the router's clock to `now`, the time since start; it never runs backwards.
    pub fn advance_to(&mut self, now: Duration) {
        let refresh = self.counter_refresh.as_nanos();
        while self.now < now {
            let periods = self.now.as_nanos().checked_div(refresh).map(|whole| whole + 1);
            let next = periods.and_then(|periods| u64::try_from(periods * refresh).ok());
            let next = next.map_or(now, |next| now.min(Duration::from_nanos(next)));
            self.flow_until(next);
            self.now = next;
        }
    }

    /// Lets a tree queue carry so much from now on, in bit/s, until it is told otherwise.
    pub fn set_flow(&mut self, queue: &str, rate_bps: u64) {
        self.flows.retain(|flow| flow.queue != queue);
        self.flows.push(Flow { queue: queue.to_owned(), rate_bps, since: self.now });
    }

    fn flow_until(&mut self, until: Duration) {
        let flows = std::mem::take(&mut self.flows);
        for flow in &flows {
            let bytes = flow.bytes_at(until) - flow.bytes_at(self.now);
            let packets = bytes.div_ceil(1500);
            self.account(&flow.queue, QueueTraffic { bytes, packets, ..QueueTraffic::default() });
        }
        self.flows = flows;
    }

    /// Returns the router's clock: the time since start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Zeroes uptime and all counters, as a reboot does; the configuration stays.
    pub fn reboot(&mut self) {
        self.booted_at = self.now;
        self.uptime_at_boot = Duration::ZERO;
        for record in self.menus.iter_mut().flat_map(|menu| menu.records.iter_mut()) {
            record.lanes = <[Lane; 2]>::default();
        }
    }

    /// Zeroes all counters, as `reset-counters-all` in every menu does.
    pub fn reset_counters(&mut self) {
        for record in self.menus.iter_mut().flat_map(|menu| menu.records.iter_mut()) {
            record.lanes.iter_mut().for_each(Lane::reset);
        }
    }

    /// Changes how often queue counters are refreshed; returns the value before.
    pub(crate) fn set_counter_refresh(&mut self, refresh: Duration) -> Duration {
        std::mem::replace(&mut self.counter_refresh, refresh)
    }

    /// Replaces the rights of a user; returns whether there is one of this name.
    pub fn set_policies(&mut self, user: &str, policies: &[Policy]) -> bool {
        let user = self.users.iter_mut().find(|known| known.name == user);
        user.map(|user| user.policies = policies.to_vec()).is_some()
    }

    /// Adds a record without any check and returns its id, for example `*1000002`.
    ///
    /// Missing properties are not filled in. This is how a test makes two queues of one name.
    pub fn insert_unchecked(&mut self, menu: MenuName, properties: Properties) -> String {
        let position = self.menu(menu).records.len();
        let id = self.insert_at(menu, position, properties);
        format!("*{id:X}")
    }

    pub(crate) fn insert_at(
        &mut self,
        menu: MenuName,
        position: usize,
        properties: Properties,
    ) -> u32 {
        let menu = self.menu_mut(menu);
        let id = menu.next_id;
        menu.next_id = menu.next_id.wrapping_add(1);
        let position = position.min(menu.records.len());
        menu.records.insert(position, Record { id, properties, lanes: <[Lane; 2]>::default() });
        id
    }

    /// Sets or (with `None`) removes one property without any check, as another admin would.
    ///
    /// Returns whether the record, named by id or name, exists.
    pub fn set_unchecked(
        &mut self,
        menu: MenuName,
        key: &str,
        property: &str,
        value: Option<&str>,
    ) -> bool {
        let Some(index) = self.find(menu, key) else { return false };
        let properties = &mut self.menu_mut(menu).records[index].properties;
        match value {
            Some(value) => properties.insert(property.to_owned(), value.to_owned()),
            None => properties.remove(property),
        };
        true
    }

    /// Removes one record by id or name without any check; returns whether it existed.
    ///
    /// The record of a singleton stays.
    pub fn remove_unchecked(&mut self, menu: MenuName, key: &str) -> bool {
        let singleton = menu.spec().shape == Shape::Singleton;
        let index = self.find(menu, key).filter(|_| !singleton);
        if let Some(index) = index {
            self.menu_mut(menu).records.remove(index);
        }
        index.is_some()
    }

    /// Returns all records of a menu as a reply would show them.
    pub fn rows(&self, menu: MenuName) -> Vec<Properties> {
        self.menu(menu).records.iter().map(|record| self.view(menu, record)).collect()
    }

    /// Returns one record, found by id or name, as a reply would show it.
    pub fn row(&self, menu: MenuName, key: &str) -> Option<Properties> {
        let index = self.find(menu, key)?;
        Some(self.view(menu, &self.menu(menu).records[index]))
    }

    /// Returns the `max-limit` of a tree queue in bits per second; 0 is unlimited.
    pub fn max_limit_bps(&self, queue: &str) -> Option<u64> {
        let record = self.menu(MenuName::QueueTree).records.iter().find(|r| r.name() == queue)?;
        record.properties.get("max-limit")?.parse().ok()
    }

    /// Counts traffic of the tree queue `queue`; returns whether it exists.
    pub fn account(&mut self, queue: &str, traffic: QueueTraffic) -> bool {
        self.account_pair(MenuName::QueueTree, queue, [traffic, QueueTraffic::default()])
    }

    /// Counts traffic in both directions: upload and download of a simple queue, received and
    /// sent of an interface. Queue tree and mangle rows count the first direction only.
    ///
    /// Returns whether the record, named by id or name, exists.
    pub fn account_pair(&mut self, menu: MenuName, key: &str, traffic: [QueueTraffic; 2]) -> bool {
        let (now, refresh) = (self.now, self.counter_refresh);
        let Some(index) = self.find(menu, key) else { return false };
        let lanes = &mut self.menu_mut(menu).records[index].lanes;
        for (lane, traffic) in lanes.iter_mut().zip(traffic) {
            lane.add(now, refresh, traffic);
        }
        true
    }

    /// Returns the rate writes, oldest first, at most [`WRITE_LOG_MAX`].
    pub fn writes(&self) -> &VecDeque<QueueWrite> {
        &self.writes
    }

    /// Returns the number of rate writes, forgotten ones included.
    pub fn write_count(&self) -> u64 {
        self.write_count
    }

    pub(crate) fn log_write(&mut self, index: usize) {
        let record = &self.menu(MenuName::QueueTree).records[index];
        let rate = record.properties.get("max-limit").and_then(|rate| rate.parse().ok());
        let queue = record.name().to_owned();
        self.write_count += 1;
        if self.writes.len() == WRITE_LOG_MAX {
            self.writes.pop_front();
        }
        self.writes.push_back(QueueWrite { at: self.now, queue, max_limit_bps: rate.unwrap_or(0) });
    }

    pub(crate) fn menu(&self, menu: MenuName) -> &Menu {
        &self.menus[menu as usize]
    }

    pub(crate) fn menu_mut(&mut self, menu: MenuName) -> &mut Menu {
        &mut self.menus[menu as usize]
    }

    /// Finds a record by id (`*1A`), by name or, in menus without names, by comment.
    fn find(&self, menu: MenuName, key: &str) -> Option<usize> {
        let records = &self.menu(menu).records;
        if menu.spec().shape == Shape::Singleton {
            return (!records.is_empty()).then_some(0);
        }
        if let Some(id) = parse_id(key) {
            return records.iter().position(|record| record.id == id);
        }
        let property = if menu.spec().named { "name" } else { "comment" };
        records
            .iter()
            .position(|record| record.properties.get(property).is_some_and(|value| value == key))
    }

    /// Renders one record with its id and its counters as of now.
    pub(crate) fn view(&self, menu: MenuName, record: &Record) -> Properties {
        let mut row = record.properties.clone();
        if menu.spec().shape != Shape::Singleton {
            row.insert(".id".to_owned(), record.id_text());
        }
        let mut put = |name: &str, value: String| row.insert(name.to_owned(), value);
        let [first, second] = &record.lanes;
        match menu {
            MenuName::QueueTree => {
                for (name, value) in self.queue_counters(first) {
                    put(name, value.to_string());
                }
            }
            MenuName::QueueSimple => {
                let pairs = self.queue_counters(first).into_iter().zip(self.queue_counters(second));
                for ((name, upload), (_, download)) in pairs {
                    put(name, format!("{upload}/{download}"));
                    let total = upload.wrapping_add(download);
                    let total = if name == "bytes" { total } else { wrap_u32(total) };
                    put(&format!("total-{name}"), total.to_string());
                }
            }
            MenuName::Mangle | MenuName::Filter => {
                put("bytes", first.bytes.to_string());
                put("packets", first.packets.to_string());
            }
            MenuName::Interface => {
                for (prefix, lane) in [("rx", first), ("tx", second)] {
                    put(&format!("{prefix}-byte"), lane.bytes.to_string());
                    put(&format!("{prefix}-packet"), lane.packets.to_string());
                    put(&format!("{prefix}-drop"), wrap_u32(lane.dropped).to_string());
                }
            }
            MenuName::Resource => {
                let uptime = self.uptime_at_boot + (self.now - self.booted_at);
                put("uptime", time_text(uptime.as_secs().saturating_mul(1_000_000)));
            }
            MenuName::QueueType => keep_properties_of_kind(&mut row),
            MenuName::IpSettings => {
                put("ipv4-fasttrack-active", self.has_fasttrack().to_string());
            }
            MenuName::UserGroup => {
                if let Some(user) = self.users.iter().find(|user| user.name == record.name()) {
                    row.entry("policy".to_owned()).or_insert_with(|| policy_text(&user.policies));
                }
            }
            MenuName::Identity
            | MenuName::RoutingTable
            | MenuName::Service
            | MenuName::Certificate
            | MenuName::User
            | MenuName::Logging => {}
        }
        row
    }

    fn has_fasttrack(&self) -> bool {
        self.menu(MenuName::Filter).records.iter().any(|rule| {
            let is = |key, value: &str| rule.properties.get(key).is_some_and(|text| text == value);
            is("action", "fasttrack-connection") && !is("disabled", "true")
        })
    }

    fn queue_counters(&self, lane: &Lane) -> [(&'static str, u64); 7] {
        let Totals { bytes, packets, dropped, queued_bytes, queued_packets } =
            lane.totals(self.now, self.counter_refresh);
        [
            ("bytes", bytes),
            ("dropped", wrap_u32(dropped)),
            ("packet-rate", u64::from(lane.packet_rate(self.now))),
            ("packets", wrap_u32(packets)),
            ("queued-bytes", u64::from(limit_u32(queued_bytes))),
            ("queued-packets", u64::from(limit_u32(queued_packets))),
            ("rate", u64::from(lane.rate_bps(self.now))),
        ]
    }
}

/// Hides what belongs to another kind of queue type, for example `pcq-rate` of a CAKE type.
fn keep_properties_of_kind(row: &mut Properties) {
    let kind = row.get("kind").cloned().unwrap_or_default();
    row.retain(|name, _| {
        matches!(name.as_str(), ".id" | "default" | "kind" | "name") || is_of_kind(name, &kind)
    });
}

/// Tells whether a queue type property belongs to `kind`.
pub(crate) fn is_of_kind(property: &str, kind: &str) -> bool {
    property.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-'))
}

/// Reads an id such as `*1A`.
pub(crate) fn parse_id(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('*')?;
    let hex = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
    if hex { u32::from_str_radix(digits, 16).ok() } else { None }
}
