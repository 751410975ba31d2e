//! The queues, their types, and what passes them by.

use wanctl_core::units::Direction;

use super::{Look, is, is_active, value};
use crate::config::show_rate;
use crate::routeros::{Client, Queue, Record, RouterError, flag};

/// The most parents of a queue that are followed.
const DEPTH_MAX: usize = 16;

impl Look<'_> {
    /// Finds each configured queue and looks at it.
    pub(super) fn find_queues(&mut self, client: &Client) -> Result<(), RouterError> {
        for wan in &self.config.wans {
            for direction in Direction::BOTH {
                let found = client.find_queue(wan.queues.get(direction));
                let Some(queue) = self.found(found)? else { continue };
                let (name, limit) = (&queue.name, show_rate(queue.max_limit));
                let line = format!("{} {}: queue {name}, now {limit}", wan.name, direction.name());
                self.state.push(line);
                self.examine_queue(&queue, direction);
            }
        }
        Ok(())
    }

    fn examine_queue(&mut self, queue: &Queue, direction: Direction) {
        let Queue { name, queue_type, parent, .. } = queue;
        if queue.disabled {
            self.error(
                format!("queue {name} is disabled: it shapes nothing"),
                format!("/queue/tree/enable {name:?}"),
            );
        }
        if queue.invalid {
            self.error(
                format!("queue {name} is invalid: its parent {parent:?} or its type is gone"),
                format!("/queue/tree/set {name:?} parent=INTERFACE queue=TYPE"),
            );
        }
        if let Some(about) = self
            .row("/queue/tree", "name", name)
            .map(|record| value(record, ".about"))
            .filter(|about| !about.is_empty())
        {
            self.warning(
                format!("the router says about queue {name}: {about}"),
                "follow the router's advice",
            );
        }
        if !self.menus.contains_key("/queue/type") {
            return;
        }
        match self.row("/queue/type", "name", queue_type).cloned() {
            Some(kind) => self.examine_type(name, &kind, direction),
            None => self.error(
                format!("queue {name} has the type {queue_type:?}, which does not exist"),
                format!("/queue/tree/set {name:?} queue=TYPE, with a type of the kind cake"),
            ),
        }
    }

    fn examine_type(&mut self, queue: &str, kind: &Record, direction: Direction) {
        let (name, discipline) = (value(kind, "name"), value(kind, "kind"));
        let set = |setting: &str| format!("/queue/type/set {name:?} {setting}");
        if discipline != "cake" {
            self.warning(
                format!(
                    "queue {queue} is of the kind {discipline} ({name}): it holds the rate, but \
                     flows wait for each other in it"
                ),
                format!(
                    "/queue/type/add name=wanctl-{0} kind=cake; /queue/tree/set {queue:?} \
                     queue=wanctl-{0}",
                    direction.name()
                ),
            );
            return;
        }
        if !matches!(value(kind, "cake-bandwidth").as_str(), "" | "0") {
            self.warning(
                format!(
                    "queue type {name} has a cake-bandwidth besides the queue's max-limit: two \
                     shapers in a row, of which wanctl moves one"
                ),
                set("cake-bandwidth=0"),
            );
        }
        if flag(kind, "cake-autorate-ingress") {
            self.warning(
                format!("queue type {name} estimates the rate itself, besides wanctl"),
                set("cake-autorate-ingress=no"),
            );
        }
        if direction == Direction::Download && flag(kind, "cake-nat") {
            self.warning(
                format!(
                    "queue type {name} of the download has cake-nat on: on some versions this made \
                     hundreds of milliseconds of delay"
                ),
                set("cake-nat=no"),
            );
        }
        let by_host = !matches!(value(kind, "cake-flowmode").as_str(), "flows" | "flowblind");
        if direction == Direction::Upload && by_host && !flag(kind, "cake-nat") {
            self.note(
                format!(
                    "queue type {name} of the upload shares by host without looking behind NAT: all \
                     hosts count as one"
                ),
                set("cake-nat=yes"),
            );
        }
    }

    /// Looks for FastTrack, which hides connections from global queues and from mangle rules.
    pub(super) fn examine_shaping(&mut self) {
        let is_fasttrack =
            |rule: &&Record| is(rule, "action", "fasttrack-connection") && is_active(rule);
        let rules: Vec<Record> =
            self.rows("/ip/firewall/filter").iter().filter(is_fasttrack).cloned().collect();
        for rule in rules {
            let id = value(&rule, ".id");
            let bypassed = self.bypassed_queues();
            if !bypassed.is_empty() {
                self.error(
                    format!(
                        "FastTrack (filter rule {id}) bypasses queues that hang below global or need a \
                         packet mark: {}",
                        bypassed.join(", ")
                    ),
                    format!(
                        "/ip/firewall/filter/disable {id}, or give the queues an interface as parent \
                         and packet-mark=no-mark"
                    ),
                );
            }
            let spares_marked = is(&rule, "connection-mark", "no-mark");
            if !self.config.steering_rules.rules.is_empty() && !spares_marked {
                self.error(
                    format!(
                        "FastTrack (filter rule {id}) also takes connections that are steered: \
                         their later packets leave by the main table"
                    ),
                    format!("/ip/firewall/filter/set {id} connection-mark=no-mark"),
                );
            }
        }
    }

    /// Returns the configured queues that FastTracked packets never meet.
    fn bypassed_queues(&self) -> Vec<String> {
        let names = self
            .config
            .wans
            .iter()
            .flat_map(|wan| Direction::BOTH.map(|direction| wan.queues.get(direction).clone()));
        let needs_mark = |name: &String| {
            let mark = self.row("/queue/tree", "name", name);
            let mark = mark.map(|record| value(record, "packet-mark")).unwrap_or_default();
            !matches!(mark.as_str(), "" | "no-mark")
        };
        names.filter(|name| self.root(name) == "global" || needs_mark(name)).collect()
    }

    /// Returns the interface, or `global`, at the top of a queue's parents.
    fn root(&self, queue: &str) -> String {
        let mut name = queue.to_owned();
        for _ in 0..DEPTH_MAX {
            match self.row("/queue/tree", "name", &name) {
                Some(record) => name = value(record, "parent"),
                None => break,
            }
        }
        name
    }
}
