//! The rules that steer, and whether anything follows from switching them.

use super::{Look, is, is_active, value};
use crate::routeros::{Client, MangleRule, Record, RouterError};

impl Look<'_> {
    /// Finds each configured steering rule.
    pub(super) fn find_rules(&mut self, client: &Client) -> Result<(), RouterError> {
        let config = self.config;
        for rule in &config.steering_rules.rules {
            let name = config.wans.get(usize::from(rule.wan.0)).map_or("?", |wan| &wan.name);
            let found = client.find_rule(&rule.comment);
            let Some(rule) = self.found(found)? else { continue };
            let MangleRule { comment, chain, action, disabled, .. } = rule;
            let state = if disabled { "off" } else { "on" };
            self.state.push(format!(
                "steering to {name}: {chain} rule {comment:?} ({action}), now {state}"
            ));
        }
        Ok(())
    }

    pub(super) fn examine_steering(&mut self) {
        for rule in &self.config.steering_rules.rules {
            // A missing or doubled rule has been told.
            let same: Vec<&Record> = self
                .rows("/ip/firewall/mangle")
                .iter()
                .filter(|record| is(record, "comment", &rule.comment))
                .collect();
            if let [only] = same.as_slice() {
                let only = (*only).clone();
                self.examine_rule(&only);
            }
        }
    }

    fn examine_rule(&mut self, rule: &Record) {
        let (id, comment) = (value(rule, ".id"), value(rule, "comment"));
        let set = |setting: &str| format!("/ip/firewall/mangle/set {id} {setting}");
        if is(rule, "invalid", "true") {
            self.error(
                format!("the steering rule {comment:?} is invalid: something it names is gone"),
                "correct its interface or list",
            );
        }
        if !is(rule, "chain", "prerouting") {
            self.warning(
                format!(
                    "the steering rule {comment:?} is not in prerouting: routing comes before it"
                ),
                set("chain=prerouting"),
            );
        }
        if !is(rule, "action", "mark-connection") {
            self.warning(
                format!(
                    "the steering rule {comment:?} does {} instead of mark-connection: switching it \
                     moves or breaks connections that exist",
                    value(rule, "action")
                ),
                "let it mark new connections, and route the mark by a rule of its own; see \
                 wanctl router-setup",
            );
            return;
        }
        let for_new = is(rule, "connection-state", "new") || is(rule, "connection-mark", "no-mark");
        if !for_new {
            self.warning(
                format!(
                    "the steering rule {comment:?} also marks connections that exist already: they \
                     break when they change lines"
                ),
                set("connection-state=new"),
            );
        }
        let limits = ["src-address", "src-address-list", "src-mac-address"];
        let may_match_probes = matches!(value(rule, "protocol").as_str(), "" | "icmp")
            && limits.iter().all(|key| value(rule, key).is_empty())
            && self.config.wans.iter().any(|wan| wan.source_address.is_some());
        if may_match_probes {
            self.warning(
                format!(
                    "the steering rule {comment:?} also takes wanctl's own probes: while it is on, the \
                     primary is measured over the alternate"
                ),
                format!("{}, a list of the source-addresses", set("src-address-list=!wanctl-probes")),
            );
        }
        if is(rule, "passthrough", "false") || is(rule, "passthrough", "no") {
            self.warning(
                format!(
                    "the steering rule {comment:?} ends the chain: the first packet of a connection is \
                     not routed by its mark"
                ),
                set("passthrough=yes"),
            );
        }
        self.examine_route(rule, &comment);
    }

    /// Looks for the rule that routes what a steering rule marks, and for its table.
    fn examine_route(&mut self, rule: &Record, comment: &str) {
        let mark = value(rule, "new-connection-mark");
        let rules = self.rows("/ip/firewall/mangle");
        let place = |wanted: &dyn Fn(&Record) -> bool| rules.iter().position(wanted);
        let routes = |record: &Record| {
            is(record, "action", "mark-routing")
                && is(record, "connection-mark", &mark)
                && is(record, "chain", "prerouting")
                && is_active(record)
        };
        let Some(at) = place(&routes) else {
            self.warning(
                format!(
                    "no rule routes the connections marked {mark} by {comment:?}: switching it has \
                     no effect"
                ),
                format!(
                    "/ip/firewall/mangle/add chain=prerouting connection-mark={mark} \
                     action=mark-routing new-routing-mark=TABLE passthrough=no"
                ),
            );
            return;
        };
        let own = place(&|record: &Record| is(record, ".id", &value(rule, ".id")));
        let (id, table) = (value(&rules[at], ".id"), value(&rules[at], "new-routing-mark"));
        if own.is_some_and(|own| own > at) {
            self.warning(
                format!(
                    "the rule {id} that routes the mark {mark} comes before {comment:?}: the first \
                     packet of each connection leaves by the main table"
                ),
                format!("/ip/firewall/mangle/move {} destination={id}", value(rule, ".id")),
            );
        }
        if !self.menus.contains_key("/routing/table") {
            return;
        }
        let exists = self
            .row("/routing/table", "name", &table)
            .is_some_and(|table| !is(table, "disabled", "true") && !is(table, "invalid", "true"));
        if !exists {
            self.error(
                format!("the routing table {table:?} of the rule {id} does not exist or is off"),
                format!("/routing/table/add name={table} fib, with a default route in it"),
            );
        }
    }
}
