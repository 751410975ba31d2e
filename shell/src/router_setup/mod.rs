//! `wanctl router-setup`: the RouterOS commands that prepare a router for a configuration.
//!
//! It only prints. What the configuration cannot know, such as the names of the router's
//! interfaces, stands in variables at the top of the script, for the reader to fill in.

mod script;
mod steering;

use std::net::IpAddr;

use ureq::http::Uri;
use wanctl_core::units::{BitsPerSecond, Direction, PerDirection, WanId};

use self::script::{Script, quoted};
use crate::config::{DaemonConfig, RouterConfig, WanConfig};
use crate::routeros::TlsTrust;

/// With this many times the upload's rate in the download, acknowledgements alone can fill the upload.
const ACK_FILTER_RATIO: u64 = 10;
/// Stands for what the reader has to fill in.
const BLANK: &str = "CHANGE-ME";

/// One WAN as the script needs it.
struct Line<'a> {
    wan: &'a WanConfig,
    /// Its number in the names of variables, from 1.
    number: usize,
    ceiling: PerDirection<BitsPerSecond>,
    /// Whether traffic is steered to it.
    is_alternate: bool,
}

impl Line<'_> {
    fn name(&self) -> &str {
        &self.wan.name
    }

    /// The variable with the router's interface of this line.
    fn interface(&self) -> String {
        format!("$wanctlWan{}", self.number)
    }

    fn queue_type(&self, direction: Direction) -> String {
        quoted(&format!("wanctl-{}-{}", self.name(), direction.name()))
    }

    /// The packet mark of what came in by this line.
    fn packet_mark(&self) -> String {
        quoted(&format!("wanctl-{}-in", self.name()))
    }

    /// The routing table with this line's default route.
    fn table(&self) -> String {
        quoted(&format!("to-{}", self.name()))
    }

    /// Whether it needs a table of its own: for what is steered, or for its probes.
    fn has_table(&self, is_alone: bool) -> bool {
        self.is_alternate || (!is_alone && self.wan.source_address.is_some())
    }
}

/// Returns the script for a configuration.
#[must_use]
pub fn script(router: &RouterConfig, config: &DaemonConfig) -> String {
    let lines: Vec<Line<'_>> = lines(config);
    let mut script = Script::default();
    header(&mut script);
    values(&mut script, config, &lines);
    user(&mut script, router);
    certificate(&mut script, router);
    queue_types(&mut script, &lines);
    queues(&mut script, &lines);
    fasttrack(&mut script, &lines);
    steering::tables(&mut script, &lines);
    steering::rules(&mut script, config, &lines);
    end(&mut script);
    script.finish()
}

fn lines(config: &DaemonConfig) -> Vec<Line<'_>> {
    let rules = &config.steering_rules.rules;
    let wans = config.wans.iter().zip(&config.core.wans).zip(0_u8..).enumerate();
    wans.map(|(index, ((wan, core), id))| Line {
        wan,
        number: index + 1,
        ceiling: PerDirection {
            download: core.shapers.download.ceiling,
            upload: core.shapers.upload.ceiling,
        },
        is_alternate: rules.iter().any(|rule| rule.wan == WanId(id)),
    })
    .collect()
}

fn header(script: &mut Script) {
    script.comment(&[
        "RouterOS commands that prepare a router for wanctl; made by wanctl router-setup.",
        "",
        "Read them, fill in block 1, and paste them into a terminal of the router, or upload the file",
        "and /import it. Each command looks first: what is there already is left as it is, and a second",
        "run adds nothing. Lines with a leading # change what other things on the router may depend on;",
        "run them yourself if you want that. RouterOS 7.20.1 or later is needed (CVE-2025-10948).",
    ]);
}

fn values(script: &mut Script, config: &DaemonConfig, lines: &[Line<'_>]) {
    script.block(
        "Values that only you know",
        &["Everything that says CHANGE-ME. They are forgotten again in the last block."],
    );
    let mut value = |name: &str, value: &str, meaning: &str| {
        script.comment(&[meaning]);
        script.command(&format!(":global {name} {}", quoted(value)));
    };
    let sources = config.wans.iter().filter_map(|wan| wan.source_address);
    let sources = sources.map(|address| address.to_string()).collect::<Vec<_>>().join(",");
    let host = if sources.is_empty() { BLANK } else { &sources };
    value("wanctlHost", host, "the address of the machine that runs wanctl; several with commas");
    value("wanctlPassword", BLANK, "the same as in the password-file of the configuration");
    value("wanctlLan", BLANK, "the interface towards the LAN, such as bridge");
    for line in lines {
        let meaning = format!("the interface towards {}, such as ether1", line.name());
        value(&format!("wanctlWan{}", line.number), BLANK, &meaning);
        if line.has_table(lines.len() == 1) {
            let meaning = format!("the gateway of {}: an address, or an interface", line.name());
            value(&format!("wanctlGateway{}", line.number), BLANK, &meaning);
        }
    }
    script.comment(&["stops an /import with something left to fill in"]);
    script.command(&format!(
        ":if ([:len [/system/script/environment/find name~\"^wanctl\" value={}]] > 0) do={{ \
         :error \"fill in block 1 first\" }}",
        quoted(BLANK)
    ));
}

fn user(script: &mut Script, router: &RouterConfig) {
    script.block(
        "A user for wanctl alone",
        &[
            "RouterOS works on one REST request of a user at a time, so nobody should share it. The group",
            "has the four policies wanctl needs and no other; the user may log in from that machine only.",
        ],
    );
    let user = quoted(&router.user);
    script.add("/user/group", "name=\"wanctl\"", "policy=read,write,api,rest-api");
    // Pasted commands go on after an error: no user may come to be whose password everybody knows.
    let blank = quoted(BLANK);
    script.unless_found(
        "/user",
        &format!("name={user}"),
        &format!(
            ":if ($wanctlPassword = {blank}) do={{ :error \"fill in block 1 first\" }}; /user/add \
             name={user} group=\"wanctl\" address=$wanctlHost password=$wanctlPassword"
        ),
    );
}

fn certificate(script: &mut Script, router: &RouterConfig) {
    let title = "HTTPS for REST";
    let url: Uri = router.url.parse().unwrap_or_default();
    if url.scheme_str() != Some("https") {
        script.block(
            title,
            &[
                "Nothing to do: the configuration says http://, which sends the password in clear text",
                "with every request. Write https:// there and run wanctl router-setup again.",
            ],
        );
        return;
    }
    if router.trust == TlsTrust::PublicRoots {
        script.block(
            title,
            &[
                "Nothing to do here: without ca-file in the configuration, www-ssl must have a certificate",
                "of a public CA, for the name in url. With ca-file, wanctl router-setup makes a CA instead.",
            ],
        );
        return;
    }
    script.block(
        title,
        &[
            "A CA and a certificate for the address in the configuration, with a key that small routers",
            "can handle quickly. Set the router's clock first. Signing takes some seconds.",
        ],
    );
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let name = match host.parse::<IpAddr>() {
        Ok(_) => format!("IP:{host}"),
        Err(_) => format!("DNS:{host}"),
    };
    let mut make = |own: &str, properties: &str, ca: &str| {
        let add =
            format!("/certificate/add name=\"{own}\" {properties} key-size=2048 days-valid=3650");
        let sign = format!("/certificate/sign \"{own}\"{ca}");
        script.unless_found("/certificate", &format!("name=\"{own}\""), &format!("{add}; {sign}"));
    };
    make("wanctl-ca", "common-name=\"wanctl-ca\" key-usage=key-cert-sign,crl-sign", "");
    let leaf = format!(
        "common-name={} subject-alt-name={} key-usage=digital-signature,key-encipherment,tls-server",
        quoted(host),
        quoted(&name)
    );
    make("wanctl-rest", &leaf, " ca=\"wanctl-ca\"");
    let port = url.port_u16().unwrap_or(443);
    script.comment(&["The service gets it, unless it has another one already."]);
    let certificate = "[/ip/service/get www-ssl certificate]";
    script.only_if(
        &format!("[:len {certificate}] = 0 or [:tostr {certificate}] = \"none\""),
        &format!(
            "/ip/service/set www-ssl certificate=\"wanctl-rest\" tls-version=only-1.2 port={port} \
             disabled=no"
        ),
        "www-ssl has a certificate already, whose CA ca-file then needs",
    );
    script.comment(&["Other machines may need www-ssl too. If not:"]);
    script.comment(&["/ip/service/set www-ssl address=$wanctlHost"]);
    script.comment(&[
        "The CA for the ca-file of the configuration: copy wanctl-ca.crt from /file to that machine.",
    ]);
    script.unless_found(
        "/file",
        "name=\"wanctl-ca.crt\"",
        "/certificate/export-certificate \"wanctl-ca\" type=pem file-name=\"wanctl-ca\"",
    );
}

fn queue_types(script: &mut Script, lines: &[Line<'_>]) {
    script.block(
        "Queue types",
        &[
            "CAKE keeps flows from waiting for each other. Its own cake-bandwidth stays 0: the rate is",
            "max-limit of the queue, which wanctl moves. NAT look-up only in the upload: in the download",
            "it has made delay on some versions. If you know the overhead of a line, set",
            "cake-overhead-scheme.",
        ],
    );
    for line in lines {
        let PerDirection { download, upload } = line.ceiling;
        let filters_acks = download.get() / ACK_FILTER_RATIO > upload.get();
        let ack_filter = if filters_acks { "filter" } else { "none" };
        let mut add = |direction, options: &str| {
            let identity = format!("name={}", line.queue_type(direction));
            let common = "kind=cake cake-bandwidth=0 cake-diffserv=diffserv3";
            script.add("/queue/type", &identity, &format!("{common} {options}"));
        };
        add(Direction::Download, "cake-flowmode=dual-dsthost cake-nat=no");
        let upload =
            format!("cake-flowmode=dual-srchost cake-nat=yes cake-ack-filter={ack_filter}");
        add(Direction::Upload, &upload);
    }
}

fn queues(script: &mut Script, lines: &[Line<'_>]) {
    let is_alone = lines.len() == 1;
    script.block(
        "Queues",
        &[
            "One per line and direction, below interfaces, beginning at the ceiling. Watch their byte",
            "counters afterwards: below some switch and VLAN ports a queue sees nothing; choose another",
            "parent then.",
        ],
    );
    if is_alone {
        script.comment(&["All that leaves towards the LAN counts as download."]);
    } else {
        script.comment(&[
            "Packets are marked by the line they came in by, so that each download queue gets its own.",
        ]);
        for line in lines {
            let identity = format!(
                "chain=forward action=mark-packet in-interface={} new-packet-mark={}",
                line.interface(),
                line.packet_mark()
            );
            for family in ["/ip", "/ipv6"] {
                let menu = format!("{family}/firewall/mangle");
                script.add(&menu, &identity, "passthrough=yes comment=\"wanctl: download queue\"");
            }
        }
    }
    for line in lines {
        let interface = line.interface();
        let mark = line.packet_mark();
        let mark = if is_alone { "no-mark" } else { &mark };
        let mut add = |direction, parent: &str, mark: &str| {
            let identity = format!("name={}", quoted(line.wan.queues.get(direction)));
            let rate = line.ceiling.get(direction).get();
            let queue_type = line.queue_type(direction);
            let rest = format!(
                "parent={parent} packet-mark={mark} queue={queue_type} max-limit={rate} \
                 bucket-size=0.01"
            );
            script.add("/queue/tree", &identity, &rest);
        };
        add(Direction::Download, "$wanctlLan", mark);
        add(Direction::Upload, &interface, "no-mark");
    }
}

fn fasttrack(script: &mut Script, lines: &[Line<'_>]) {
    if lines.len() == 1 {
        script.block(
            "FastTrack",
            &["Nothing to do: queues below an interface without packet marks see its packets as well."],
        );
        return;
    }
    script.block(
        "FastTrack",
        &[
            "It bypasses mangle, so packets get no mark and the download queues do not see them. With",
            "several lines it has to go; the router then needs more of its processor. If you agree:",
            "/ip/firewall/filter/disable [find action=fasttrack-connection]",
        ],
    );
}

fn end(script: &mut Script) {
    script.block("End", &["The values of block 1, with the password, are forgotten."]);
    script.command("/system/script/environment/remove [find name~\"^wanctl\"]");
    script.comment(&["Then, on the machine of wanctl: wanctl check --router --config FILE"]);
}
