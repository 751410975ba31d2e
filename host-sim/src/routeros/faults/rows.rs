//! Faults that change what the router holds, and how that is undone.

use std::time::Duration;

use super::super::counters::QueueTraffic;
use super::super::menus::MenuName;
use super::super::seed::{Policy, User};
use super::super::store::{Properties, Router};
use super::{CounterWidth, Fault, ForeignWrite, Removal, RuleChange};

/// What other clients write, in bit/s.
const FOREIGN_BPS: u64 = 3_000_000;
/// How far below their width counters are put: 1500 packets, a few of them already.
const BELOW_WIDTH: u64 = 1_500;

/// How a change is undone.
#[derive(Debug)]
pub(crate) enum Undo {
    Nothing,
    Users(Vec<User>),
    /// A row gets this property back.
    Property {
        menu: MenuName,
        id: String,
        property: &'static str,
        value: Option<String>,
    },
    Several(Vec<Undo>),
    Insert(MenuName, Properties),
    Remove(MenuName, String),
    Refresh(Duration),
}

/// Begins a fault.
pub(super) fn begin(fault: Fault, router: &mut Router) -> Undo {
    match fault {
        Fault::PermissionLoss { lost } => lose(router, lost),
        Fault::Renamed => first_queue(router).map_or(Undo::Nothing, |row| {
            let name = format!("{}-renamed", row["name"]);
            change(router, MenuName::QueueTree, &row, "name", Some(&name))
        }),
        Fault::Removed(removal) => {
            first_queue(router).map_or(Undo::Nothing, |row| remove(router, removal, &row))
        }
        Fault::RuleChange(rule) => {
            first_rule(router).map_or(Undo::Nothing, |row| change_rule(router, rule, &row))
        }
        Fault::ForeignWrite(ForeignWrite::Once) => {
            if let Some(row) = first_queue(router) {
                let theirs = FOREIGN_BPS.to_string();
                change(router, MenuName::QueueTree, &row, "max-limit", Some(&theirs));
            }
            Undo::Nothing
        }
        Fault::ForeignWrite(ForeignWrite::Rollback) => {
            let keep = |row: &Properties| Undo::Property {
                menu: MenuName::QueueTree,
                id: row[".id"].clone(),
                property: "max-limit",
                value: row.get("max-limit").cloned(),
            };
            Undo::Several(router.rows(MenuName::QueueTree).iter().map(keep).collect())
        }
        Fault::CountersReset => {
            router.reset_counters();
            Undo::Nothing
        }
        Fault::CounterWidth(CounterWidth::Wrap) => {
            fill_counters(router);
            Undo::Nothing
        }
        Fault::StaleCounters => Undo::Refresh(router.set_counter_refresh(Duration::from_secs(1))),
        Fault::Reboot { .. } => {
            router.reboot();
            Undo::Nothing
        }
        _ => Undo::Nothing,
    }
}

/// Ends a fault.
pub(super) fn end(undo: &Undo, router: &mut Router) {
    match undo {
        Undo::Nothing => {}
        Undo::Users(users) => router.users.clone_from(users),
        Undo::Property { menu, id, property, value } => {
            router.set_unchecked(*menu, id, property, value.as_deref());
        }
        Undo::Several(several) => several.iter().for_each(|one| end(one, router)),
        Undo::Insert(menu, properties) => {
            router.insert_unchecked(*menu, properties.clone());
        }
        Undo::Remove(menu, id) => {
            router.remove_unchecked(*menu, id);
        }
        Undo::Refresh(refresh) => {
            router.set_counter_refresh(*refresh);
        }
    }
}

fn first_queue(router: &Router) -> Option<Properties> {
    router.rows(MenuName::QueueTree).into_iter().next()
}

fn first_rule(router: &Router) -> Option<Properties> {
    router.rows(MenuName::Mangle).into_iter().find(|row| row.contains_key("comment"))
}

fn lose(router: &mut Router, lost: Policy) -> Undo {
    let before = router.users.clone();
    for user in &mut router.users {
        user.policies.retain(|policy| *policy != lost);
    }
    Undo::Users(before)
}

fn change(
    router: &mut Router,
    menu: MenuName,
    row: &Properties,
    property: &'static str,
    value: Option<&str>,
) -> Undo {
    let id = row[".id"].clone();
    router.set_unchecked(menu, &id, property, value);
    Undo::Property { menu, id, property, value: row.get(property).cloned() }
}

/// The properties of a row that are not made up when it is shown.
fn stored(router: &Router, menu: MenuName, id: &str) -> Properties {
    let records = &router.menu(menu).records;
    let record = records.iter().find(|record| record.id_text() == id);
    record.map(|record| record.properties.clone()).unwrap_or_default()
}

fn remove(router: &mut Router, removal: Removal, row: &Properties) -> Undo {
    let menu = MenuName::QueueTree;
    match removal {
        Removal::Queue => {
            let properties = stored(router, menu, &row[".id"]);
            router.remove_unchecked(menu, &row[".id"]);
            Undo::Insert(menu, properties)
        }
        Removal::Type => change(router, menu, row, "queue", Some("*1E")),
        Removal::Parent => Undo::Several(vec![
            change(router, menu, row, "parent", Some("*1E")),
            change(router, menu, row, "invalid", Some("true")),
        ]),
    }
}

fn change_rule(router: &mut Router, rule: RuleChange, row: &Properties) -> Undo {
    let menu = MenuName::Mangle;
    let id = &row[".id"];
    let properties = stored(router, menu, id);
    match rule {
        RuleChange::Toggled => {
            let disabled = row.get("disabled").is_some_and(|disabled| disabled == "true");
            change(router, menu, row, "disabled", Some(if disabled { "false" } else { "true" }));
            Undo::Nothing
        }
        RuleChange::Moved => {
            let records = &mut router.menu_mut(menu).records;
            if let Some(index) = records.iter().position(|record| record.id_text() == *id) {
                let record = records.remove(index);
                records.push(record);
            }
            Undo::Nothing
        }
        RuleChange::Duplicated => Undo::Remove(menu, router.insert_unchecked(menu, properties)),
        RuleChange::Recreated => {
            router.remove_unchecked(menu, id);
            router.insert_unchecked(menu, properties);
            Undo::Nothing
        }
    }
}

/// Puts the counters of every tree queue just below what they can show.
fn fill_counters(router: &mut Router) {
    for row in router.rows(MenuName::QueueTree) {
        let number = |key: &str| row.get(key).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        let below_u32 = |key| u64::from(u32::MAX).saturating_sub(number(key) + BELOW_WIDTH);
        let traffic = QueueTraffic {
            bytes: u64::MAX - number("bytes") - BELOW_WIDTH * 1_500,
            packets: below_u32("packets"),
            dropped: below_u32("dropped"),
            ..QueueTraffic::default()
        };
        router.account(&row["name"], traffic);
    }
}
