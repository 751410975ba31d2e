//! The menus that an audit reads besides queues and rules. But for routing tables they cannot be written
//! here: nothing in the emulator would follow.

use super::{MenuSpec, NAME, Presence, Shape, default, field, optional};
use crate::routeros::value::Kind;

pub(super) static ROUTING_TABLE: MenuSpec = MenuSpec {
    path: "routing/table",
    shape: Shape::List,
    named: true,
    first_id: 0,
    fields: &[
        optional("comment", Kind::Text),
        field("disabled", Kind::Flag, Presence::WhenWritten),
        default("fib", Kind::Text, ""),
        field("name", Kind::Text, Presence::Required),
    ],
    fixed: &[("dynamic", "false"), ("invalid", "false")],
    commands: &["add", "comment", "disable", "enable", "print", "remove", "set"],
    duplicate_name: "failure: root table already exists with name",
};

pub(super) static IP_SETTINGS: MenuSpec =
    MenuSpec { shape: Shape::Singleton, ..read_only("ip/settings") };
pub(super) static SERVICE: MenuSpec = read_only("ip/service");
pub(super) static CERTIFICATE: MenuSpec = read_only("certificate");
pub(super) static USER: MenuSpec = read_only("user");
pub(super) static USER_GROUP: MenuSpec = read_only("user/group");
pub(super) static LOGGING: MenuSpec = MenuSpec { named: false, ..read_only("system/logging") };

const fn read_only(path: &'static str) -> MenuSpec {
    MenuSpec {
        path,
        shape: Shape::List,
        named: true,
        first_id: 1,
        fields: &[],
        fixed: &[],
        commands: &["print"],
        duplicate_name: NAME,
    }
}
