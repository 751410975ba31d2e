//! The blocks for several lines: tables, routes and the rules that are switched.

use super::Line;
use super::script::{Script, quoted};
use crate::config::DaemonConfig;

/// What must never be sent to another line: the LAN's own networks.
const LOCAL_NETWORKS: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

/// Adds a routing table per line that needs one, and sends the probes of a line there.
pub(super) fn tables(script: &mut Script, lines: &[Line<'_>]) {
    let is_alone = lines.len() == 1;
    let mut with_table = lines.iter().filter(|line| line.has_table(is_alone)).peekable();
    if with_table.peek().is_none() {
        return;
    }
    script.block(
        "Routing tables",
        &[
            "A table per line with its default route. While that route is down, the table is empty and the",
            "main table decides. Each line needs masquerading in /ip/firewall/nat, as it probably has.",
            "If the machine of wanctl talks to further networks of yours through this router, add rules",
            "with table=main for them before those for its probes.",
        ],
    );
    for line in with_table {
        let table = line.table();
        script.add("/routing/table", &format!("name={table}"), "fib");
        script.add(
            "/ip/route",
            &format!("dst-address=0.0.0.0/0 routing-table={table}"),
            &format!(
                "gateway=$wanctlGateway{} check-gateway=ping comment=\"wanctl: {}\"",
                line.number,
                line.name()
            ),
        );
        if let (Some(source), false) = (line.wan.source_address, is_alone) {
            script
                .comment(&["Probes of this line leave by it alone, whatever the main table says."]);
            script.add(
                "/routing/rule",
                &format!("src-address={source}/32 table={table}"),
                "action=lookup-only-in-table comment=\"wanctl: probes\"",
            );
        }
    }
}

/// Adds the rules that wanctl switches, and those that route what they mark.
pub(super) fn rules(script: &mut Script, config: &DaemonConfig, lines: &[Line<'_>]) {
    if config.steering_rules.rules.is_empty() {
        return;
    }
    script.block(
        "Steering",
        &[
            "wanctl switches the rules with a comment of the configuration, and nothing else. They mark new",
            "connections only, and a rule that stays on routes the mark: whatever exists stays where it is.",
            "As they are they take every new connection from the LAN; add protocol, dst-port or dscp to",
            "take only what needs low latency. The networks of the LAN and the probes are left out.",
            "IPv6 stays on the primary.",
        ],
    );
    let list = "/ip/firewall/address-list";
    for network in LOCAL_NETWORKS {
        script.add(list, &format!("list=wanctl-local address={network}"), "");
    }
    for source in config.wans.iter().filter_map(|wan| wan.source_address) {
        script.add(list, &format!("list=wanctl-probes address={source}"), "");
    }
    let menu = "/ip/firewall/mangle";
    for rule in &config.steering_rules.rules {
        let Some(line) = lines.get(usize::from(rule.wan.0)) else { continue };
        let mark = quoted(&format!("via-{}", line.name()));
        script.add(
            menu,
            &format!("comment={}", quoted(&rule.comment)),
            &format!(
                "chain=prerouting action=mark-connection new-connection-mark={mark} passthrough=yes \
                 connection-state=new in-interface=$wanctlLan dst-address-type=!local \
                 dst-address-list=!wanctl-local src-address-list=!wanctl-probes disabled=yes"
            ),
        );
        script.add(
            menu,
            &format!("chain=prerouting action=mark-routing connection-mark={mark}"),
            &format!(
                "in-interface=$wanctlLan new-routing-mark={} passthrough=no \
                 comment=\"wanctl: routes {}\"",
                line.table(),
                line.name()
            ),
        );
    }
}
