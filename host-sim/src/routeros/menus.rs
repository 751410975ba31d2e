//! The menus the emulator knows: their properties, commands and rules, as data.

mod firewall;
mod system;

use super::value::{Kind, Reference, U32_MAX, U64_MAX};

/// Names one emulated menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MenuName {
    /// `queue/tree`: the shaped queues.
    QueueTree,
    /// `queue/simple`: queues with upload/download pairs; ordered.
    QueueSimple,
    /// `queue/type`: queue disciplines, among them CAKE.
    QueueType,
    /// `ip/firewall/mangle`: marking rules; ordered and without names.
    Mangle,
    /// `interface`: cannot be added or removed.
    Interface,
    /// `system/resource`: read-only singleton.
    Resource,
    /// `system/identity`: singleton.
    Identity,
    /// `ip/firewall/filter`: ordered and without names.
    Filter,
    /// `routing/table`.
    RoutingTable,
    /// `ip/settings`: read-only singleton here.
    IpSettings,
    /// `ip/service`: read-only here.
    Service,
    /// `certificate`: read-only here.
    Certificate,
    /// `user/group`: read-only here. It comes before `user`, whose path is the beginning of its own.
    UserGroup,
    /// `user`: read-only here.
    User,
    /// `system/logging`: read-only here.
    Logging,
}

impl MenuName {
    /// All menus, in the order in which the router stores them.
    pub const ALL: [MenuName; 15] = [
        MenuName::QueueTree,
        MenuName::QueueSimple,
        MenuName::QueueType,
        MenuName::Mangle,
        MenuName::Interface,
        MenuName::Resource,
        MenuName::Identity,
        MenuName::Filter,
        MenuName::RoutingTable,
        MenuName::IpSettings,
        MenuName::Service,
        MenuName::Certificate,
        MenuName::UserGroup,
        MenuName::User,
        MenuName::Logging,
    ];

    /// Returns the path below `/rest/`, for example `queue/tree`.
    pub fn path(self) -> &'static str {
        self.spec().path
    }

    pub(crate) fn spec(self) -> &'static MenuSpec {
        match self {
            MenuName::QueueTree => &QUEUE_TREE,
            MenuName::QueueSimple => &QUEUE_SIMPLE,
            MenuName::QueueType => &QUEUE_TYPE,
            MenuName::Mangle => &firewall::MANGLE,
            MenuName::Interface => &INTERFACE,
            MenuName::Resource => &RESOURCE,
            MenuName::Identity => &IDENTITY,
            MenuName::Filter => &firewall::FILTER,
            MenuName::RoutingTable => &system::ROUTING_TABLE,
            MenuName::IpSettings => &system::IP_SETTINGS,
            MenuName::Service => &system::SERVICE,
            MenuName::Certificate => &system::CERTIFICATE,
            MenuName::User => &system::USER,
            MenuName::UserGroup => &system::USER_GROUP,
            MenuName::Logging => &system::LOGGING,
        }
    }
}

/// Says when a property is part of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Presence {
    /// `add` refuses a record without it.
    Required,
    /// `add` invents a unique value (`queue1`, `queue2`, ...).
    Generated,
    /// `add` fills in this value.
    Default(&'static str),
    /// As `Default`, but only for queue types of the kind the property name starts with.
    OfKind(&'static str),
    /// Present while it has a text; set to the empty text it disappears.
    WhenSet,
    /// Present from the first write on, even with the empty text.
    WhenWritten,
}

/// One property that can be written.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) presence: Presence,
}

/// How a menu is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    List,
    OrderedList,
    Singleton,
}

/// Everything that is fixed about one menu.
#[derive(Debug)]
pub(crate) struct MenuSpec {
    pub(crate) path: &'static str,
    pub(crate) shape: Shape,
    /// Records have a unique `name` that can stand for the id.
    pub(crate) named: bool,
    /// Id of the first record added.
    pub(crate) first_id: u32,
    pub(crate) fields: &'static [Field],
    /// Read-only properties every added record starts with.
    pub(crate) fixed: &'static [(&'static str, &'static str)],
    pub(crate) commands: &'static [&'static str],
    /// `detail` of a refused duplicate name.
    pub(crate) duplicate_name: &'static str,
}

impl MenuSpec {
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    pub(crate) fn has_command(&self, command: &str) -> bool {
        self.commands.contains(&command)
    }
}

const fn field(name: &'static str, kind: Kind, presence: Presence) -> Field {
    Field { name, kind, presence }
}

const RATE: Kind = Kind::Rate { max: U64_MAX };
const RATE_U32: Kind = Kind::Rate { max: U32_MAX };
const PRIORITY: Kind = Kind::Integer { min: 1, max: 8 };
const BUCKET: Kind = Kind::Decimal { max: 10 };
const QUEUE: Kind = Kind::Reference(Reference::QueueType);
const NAME: &str = "failure: already have such name";

const fn number(name: &'static str, min: i128, max: i128, presence: Presence) -> Field {
    field(name, Kind::Integer { min, max }, presence)
}

const fn default(name: &'static str, kind: Kind, value: &'static str) -> Field {
    field(name, kind, Presence::Default(value))
}

const fn optional(name: &'static str, kind: Kind) -> Field {
    field(name, kind, Presence::WhenSet)
}

const fn of_kind(name: &'static str, kind: Kind, value: &'static str) -> Field {
    field(name, kind, Presence::OfKind(value))
}

static QUEUE_TREE: MenuSpec = MenuSpec {
    path: "queue/tree",
    shape: Shape::List,
    named: true,
    first_id: 0x100_0000,
    fields: &[
        default("bucket-size", BUCKET, "0.1"),
        default("burst-limit", RATE, "0"),
        default("burst-threshold", RATE, "0"),
        default("burst-time", Kind::Time, "0s"),
        optional("comment", Kind::Text),
        default("disabled", Kind::Flag, "false"),
        default("limit-at", RATE, "0"),
        default("max-limit", RATE, "0"),
        field("name", Kind::Text, Presence::Generated),
        default("packet-mark", Kind::Text, ""),
        field("parent", Kind::Reference(Reference::TreeParent), Presence::Required),
        default("priority", PRIORITY, "8"),
        default("queue", QUEUE, "default-small"),
    ],
    fixed: &[("invalid", "false")],
    commands: &[
        "add",
        "comment",
        "disable",
        "enable",
        "print",
        "remove",
        "reset-counters",
        "reset-counters-all",
        "set",
    ],
    duplicate_name: NAME,
};

static QUEUE_SIMPLE: MenuSpec = MenuSpec {
    path: "queue/simple",
    shape: Shape::OrderedList,
    named: true,
    first_id: 1,
    fields: &[
        default("bucket-size", Kind::Pair(&BUCKET), "0.1/0.1"),
        default("burst-limit", Kind::Pair(&RATE), "0/0"),
        default("burst-threshold", Kind::Pair(&RATE), "0/0"),
        default("burst-time", Kind::Pair(&Kind::Time), "0s/0s"),
        optional("comment", Kind::Text),
        default("disabled", Kind::Flag, "false"),
        optional("dst", Kind::Text),
        default("limit-at", Kind::Pair(&RATE), "0/0"),
        default("max-limit", Kind::Pair(&RATE), "0/0"),
        field("name", Kind::Text, Presence::Generated),
        default("packet-marks", Kind::Text, ""),
        default("parent", Kind::Reference(Reference::SimpleParent), "none"),
        default("priority", Kind::Pair(&PRIORITY), "8/8"),
        default("queue", Kind::Pair(&QUEUE), "default-small/default-small"),
        default("target", Kind::Text, ""),
        optional("time", Kind::Text),
        optional("total-bucket-size", BUCKET),
        optional("total-burst-limit", RATE),
        optional("total-burst-threshold", RATE),
        optional("total-burst-time", Kind::Time),
        optional("total-limit-at", RATE),
        optional("total-max-limit", RATE),
        optional("total-priority", PRIORITY),
        optional("total-queue", QUEUE),
    ],
    fixed: &[("dynamic", "false"), ("invalid", "false")],
    commands: &[
        "add",
        "comment",
        "disable",
        "enable",
        "move",
        "print",
        "remove",
        "reset-counters",
        "reset-counters-all",
        "set",
    ],
    duplicate_name: NAME,
};

const KINDS: Kind = Kind::Word(&[
    "bfifo", "cake", "codel", "fq-codel", "mq-pfifo", "none", "pcq", "pfifo", "red", "sfq",
]);
const FLOWMODES: Kind = Kind::Word(&[
    "dsthost",
    "dual-dsthost",
    "dual-srchost",
    "flowblind",
    "flows",
    "hosts",
    "srchost",
    "triple-isolate",
]);
const DIFFSERV: Kind =
    Kind::Word(&["besteffort", "diffserv3", "diffserv4", "diffserv8", "precedence"]);
const OVERHEAD_SCHEMES: Kind = Kind::Words(&[
    "bridged-llcsnap",
    "bridged-ptm",
    "bridged-vcmux",
    // The router itself spells this one wrong.
    "convervative",
    "docsis",
    "ether-vlan",
    "ethernet",
    "ipoa-llcsnap",
    "ipoa-vcmux",
    "pppoa-llc",
    "pppoa-vcmux",
    "pppoe-llcsnap",
    "pppoe-ptm",
    "pppoe-vcmux",
    "raw",
    "via-ethernet",
]);
const RTT_SCHEMES: Kind = Kind::Word(&[
    "datacentre",
    "internet",
    "interplanetary",
    "lan",
    "metro",
    "none",
    "oceanic",
    "regional",
    "satellite",
]);
const CLASSIFIERS: Kind = Kind::Words(&["dst-address", "dst-port", "src-address", "src-port"]);

static QUEUE_TYPE: MenuSpec = MenuSpec {
    path: "queue/type",
    shape: Shape::List,
    named: true,
    first_id: 1,
    fields: &[
        number("bfifo-limit", 1000, U32_MAX, Presence::OfKind("15000")),
        of_kind("cake-ack-filter", Kind::Word(&["aggressive", "filter", "none"]), "none"),
        optional("cake-atm", Kind::Word(&["atm", "none", "ptm"])),
        optional("cake-autorate-ingress", Kind::Flag),
        of_kind("cake-bandwidth", RATE, "0"),
        of_kind("cake-diffserv", DIFFSERV, "diffserv3"),
        of_kind("cake-flowmode", FLOWMODES, "triple-isolate"),
        optional("cake-memlimit", RATE_U32),
        number("cake-mpu", 0, 256, Presence::WhenSet),
        of_kind("cake-nat", Kind::Flag, "false"),
        number("cake-overhead", -64, 256, Presence::OfKind("0")),
        of_kind("cake-overhead-scheme", OVERHEAD_SCHEMES, ""),
        of_kind("cake-rtt", Kind::Time, "100ms"),
        optional("cake-rtt-scheme", RTT_SCHEMES),
        of_kind("cake-wash", Kind::Flag, "false"),
        optional("codel-ce-threshold", Kind::Time),
        of_kind("codel-ecn", Kind::Flag, "false"),
        of_kind("codel-interval", Kind::Time, "100ms"),
        number("codel-limit", 0, U32_MAX, Presence::OfKind("1000")),
        of_kind("codel-target", Kind::Time, "5ms"),
        optional("fq-codel-ce-threshold", Kind::Time),
        of_kind("fq-codel-ecn", Kind::Flag, "true"),
        number("fq-codel-flows", 0, U32_MAX, Presence::OfKind("1024")),
        of_kind("fq-codel-interval", Kind::Time, "100ms"),
        number("fq-codel-limit", 0, U32_MAX, Presence::OfKind("10240")),
        number("fq-codel-memlimit", 0, U32_MAX, Presence::OfKind("33554432")),
        number("fq-codel-quantum", 0, U32_MAX, Presence::OfKind("1514")),
        of_kind("fq-codel-target", Kind::Time, "5ms"),
        field("kind", KINDS, Presence::Required),
        number("mq-pfifo-limit", 1, U32_MAX, Presence::OfKind("50")),
        field("name", Kind::Text, Presence::Required),
        of_kind("pcq-burst-rate", RATE_U32, "0"),
        of_kind("pcq-burst-threshold", RATE_U32, "0"),
        of_kind("pcq-burst-time", Kind::Time, "10s"),
        of_kind("pcq-classifier", CLASSIFIERS, ""),
        number("pcq-dst-address-mask", 0, 32, Presence::OfKind("32")),
        number("pcq-dst-address6-mask", 0, 128, Presence::OfKind("128")),
        number("pcq-limit", 1, U32_MAX, Presence::OfKind("50")),
        of_kind("pcq-rate", RATE_U32, "0"),
        number("pcq-src-address-mask", 0, 32, Presence::OfKind("32")),
        number("pcq-src-address6-mask", 0, 128, Presence::OfKind("128")),
        number("pcq-total-limit", 1, U32_MAX, Presence::OfKind("2000")),
        number("pfifo-limit", 1, U32_MAX, Presence::OfKind("50")),
        number("red-avg-packet", 1, 65535, Presence::OfKind("1000")),
        number("red-burst", 0, U32_MAX, Presence::OfKind("20")),
        number("red-limit", 0, U32_MAX, Presence::OfKind("60")),
        number("red-max-threshold", 0, U32_MAX, Presence::OfKind("50")),
        number("red-min-threshold", 0, U32_MAX, Presence::OfKind("10")),
        number("sfq-allot", 0, 32767, Presence::OfKind("1514")),
        number("sfq-perturb", 0, U32_MAX, Presence::OfKind("5")),
    ],
    fixed: &[("default", "false")],
    commands: &["add", "print", "remove", "set"],
    duplicate_name: "failure: name already used",
};

static INTERFACE: MenuSpec = MenuSpec {
    path: "interface",
    shape: Shape::List,
    named: true,
    first_id: 1,
    fields: &[
        optional("comment", Kind::Text),
        default("disabled", Kind::Flag, "false"),
        number("l2mtu", 0, 65536, Presence::Default("1598")),
        number("mtu", 68, 65535, Presence::Default("1500")),
        field("name", Kind::Text, Presence::Required),
    ],
    fixed: &[("link-downs", "0"), ("running", "true"), ("type", "ether")],
    commands: &["comment", "disable", "enable", "print", "reset-counters", "set"],
    duplicate_name: NAME,
};

static RESOURCE: MenuSpec = MenuSpec {
    path: "system/resource",
    shape: Shape::Singleton,
    named: false,
    first_id: 0,
    fields: &[],
    fixed: &[],
    commands: &["print"],
    duplicate_name: NAME,
};

static IDENTITY: MenuSpec = MenuSpec {
    path: "system/identity",
    shape: Shape::Singleton,
    named: false,
    first_id: 0,
    fields: &[field("name", Kind::Text, Presence::Default("MikroTik"))],
    fixed: &[],
    commands: &["print", "set"],
    duplicate_name: NAME,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_sorted_and_unique() {
        for menu in MenuName::ALL {
            let names: Vec<_> = menu.spec().fields.iter().map(|field| field.name).collect();
            assert!(names.is_sorted_by(|a, b| a < b), "{}: {names:?}", menu.path());
        }
    }

    #[test]
    fn only_lists_can_be_added_to_and_only_ordered_lists_moved() {
        for menu in MenuName::ALL {
            let spec = menu.spec();
            assert_eq!(spec.has_command("add"), spec.has_command("remove"), "{}", spec.path);
            assert_eq!(spec.has_command("move"), spec.shape == Shape::OrderedList);
            assert!(spec.has_command("print"));
        }
    }
}
