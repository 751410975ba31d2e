//! The default rows of the menus that an audit reads besides queues and rules.

use super::menus::MenuName;
use super::seed::{Policy, RouterOptions, properties_of};
use super::store::{Properties, Router};

/// The policies of a group in the order in which the router writes them.
const POLICIES: [&str; 17] = [
    "local",
    "telnet",
    "ssh",
    "ftp",
    "reboot",
    "read",
    "write",
    "policy",
    "test",
    "winbox",
    "password",
    "web",
    "sniff",
    "sensitive",
    "api",
    "romon",
    "rest-api",
];
/// Name and port of the services of a router; those without TLS are off.
const SERVICES: [(&str, &str); 8] = [
    ("ftp", "21"),
    ("ssh", "22"),
    ("telnet", "23"),
    ("www", "80"),
    ("www-ssl", "443"),
    ("winbox", "8291"),
    ("api", "8728"),
    ("api-ssl", "8729"),
];
/// Topic and action of the log rules every router has.
const LOG_RULES: [(&str, &str); 4] =
    [("info", "memory"), ("error", "memory"), ("warning", "memory"), ("critical", "echo")];
const CERTIFICATE: &str = "rest";
/// The CA's certificate on the router.
const CA: &str = "rest-ca";

/// Fills them.
pub(crate) fn fill(router: &mut Router, options: &RouterOptions) {
    let mut add = |menu, properties: Properties| {
        router.insert_at(menu, usize::MAX, properties);
    };
    let main = [("dynamic", "true"), ("fib", ""), ("invalid", "false"), ("name", "main")];
    add(MenuName::RoutingTable, properties_of(&main));
    add(MenuName::IpSettings, properties_of(&IP_SETTINGS));
    for (name, port) in SERVICES {
        add(MenuName::Service, service(name, port));
    }
    add(MenuName::Certificate, certificate(CA, ""));
    add(MenuName::Certificate, certificate(CERTIFICATE, "IP:127.0.0.1"));
    for user in &options.users {
        // Each has a group of its own name.
        let group = [("name", user.name.as_str()), ("skin", "default")];
        add(MenuName::UserGroup, properties_of(&group));
        let properties = [
            ("address", "127.0.0.0/8"),
            ("disabled", "false"),
            ("expired", "false"),
            ("group", &user.name),
            ("inactivity-policy", "none"),
            ("inactivity-timeout", "10m"),
            ("name", &user.name),
        ];
        add(MenuName::User, properties_of(&properties));
    }
    for (topics, action) in LOG_RULES {
        let properties = [
            ("action", action),
            ("default", "true"),
            ("disabled", "false"),
            ("invalid", "false"),
            ("prefix", ""),
            ("topics", topics),
        ];
        add(MenuName::Logging, properties_of(&properties));
    }
}

/// Returns the `policy` of a group: what it has, then what it lacks.
pub(crate) fn policy_text(policies: &[Policy]) -> String {
    let has = |name: &str| {
        policies.iter().any(|policy| match policy {
            Policy::Read => name == "read",
            Policy::Write => name == "write",
            Policy::Api => name == "api",
            Policy::RestApi => name == "rest-api",
        })
    };
    let granted = POLICIES.iter().filter(|name| has(name)).map(|name| (*name).to_owned());
    let denied = POLICIES.iter().filter(|name| !has(name)).map(|name| format!("!{name}"));
    granted.chain(denied).collect::<Vec<_>>().join(",")
}

fn service(name: &str, port: &str) -> Properties {
    let has_tls = name.ends_with("-ssl");
    let mut properties = properties_of(&[
        ("address", if has_tls { "127.0.0.0/8" } else { "" }),
        ("disabled", if has_tls || name == "ssh" { "false" } else { "true" }),
        ("dynamic", "false"),
        ("invalid", "false"),
        ("max-sessions", "20"),
        ("name", name),
        ("port", port),
        ("proto", "tcp"),
        ("vrf", "main"),
    ]);
    if has_tls {
        properties.insert("certificate".to_owned(), CERTIFICATE.to_owned());
        properties.insert("tls-version".to_owned(), "only-1.2".to_owned());
    }
    properties
}

fn certificate(name: &str, subject_alt_name: &str) -> Properties {
    let is_ca = subject_alt_name.is_empty();
    properties_of(&[
        ("authority", if is_ca { "true" } else { "false" }),
        ("common-name", name),
        ("crl", "false"),
        ("days-valid", "3650"),
        ("digest-algorithm", "sha256"),
        ("expires-after", "519w4d15h28m25s"),
        ("invalid-after", "2036-08-12 10:00:00"),
        ("invalid-before", "2026-08-14 10:00:00"),
        ("key-size", "2048"),
        ("key-type", "rsa"),
        ("key-usage", if is_ca { "key-cert-sign,crl-sign" } else { "tls-server" }),
        ("name", name),
        ("private-key", "true"),
        ("subject-alt-name", subject_alt_name),
        ("trusted", "true"),
    ])
}

const IP_SETTINGS: [(&str, &str); 21] = [
    ("accept-redirects", "false"),
    ("accept-source-route", "false"),
    ("allow-fast-path", "true"),
    ("arp-timeout", "30s"),
    ("icmp-errors-use-inbound-interface-address", "false"),
    ("icmp-rate-limit", "10"),
    ("icmp-rate-mask", "0x1818"),
    ("ip-forward", "true"),
    ("ipv4-fast-path-active", "true"),
    ("ipv4-fast-path-bytes", "0"),
    ("ipv4-fast-path-packets", "0"),
    ("ipv4-fasttrack-bytes", "0"),
    ("ipv4-fasttrack-packets", "0"),
    ("ipv4-multipath-hash-policy", "l3"),
    ("max-neighbor-entries", "8192"),
    ("rp-filter", "no"),
    ("secure-redirects", "true"),
    ("send-redirects", "true"),
    ("tcp-syncookies", "false"),
    ("tcp-timestamps", "random-offset"),
    ("ipv4-fragment-time", "30"),
];
