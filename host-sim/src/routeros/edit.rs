//! Changes to the router's records, with the router's checks.

use std::collections::BTreeMap;

use super::counters::Lane;
use super::menus::{Field, MenuName, Presence, Shape};
use super::store::{Properties, Router, is_of_kind, parse_id};
use super::value::{Kind, Reference, normalise};

/// Numbers tried for the generated name of a record.
const GENERATED_NAMES_MAX: u32 = 1_000_000;

/// Why a change was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A property the menu does not have or does not let be written.
    UnknownParameter(String),
    /// A value or a conflict with another record; the text is the reply's `detail`.
    Value(String),
    /// A mandatory property or argument is missing.
    Missing(&'static str),
    /// A record that does not exist.
    NoSuchItem,
    /// The record or menu does not allow this.
    NotAllowed,
}

impl Refusal {
    /// Returns the text of the reply's `detail`.
    pub(crate) fn detail(&self) -> String {
        match self {
            Refusal::UnknownParameter(name) => format!("unknown parameter {name}"),
            Refusal::Value(detail) => detail.clone(),
            Refusal::Missing(name) => format!("missing ={name}="),
            Refusal::NoSuchItem => "no such item".to_owned(),
            Refusal::NotAllowed => "missing or invalid resource identifier".to_owned(),
        }
    }
}

/// Adds a record before `place_before` (an id or name; at the end without it); returns its index.
pub(crate) fn add(
    router: &mut Router,
    menu: MenuName,
    properties: &Properties,
    place_before: Option<&str>,
) -> Result<usize, Refusal> {
    let spec = menu.spec();
    if !spec.has_command("add") {
        return Err(Refusal::NotAllowed);
    }
    let position = match place_before {
        Some(key) => resolve(router, menu, key)?,
        None => router.menu(menu).records.len(),
    };
    let written = checked_changes(router, menu, properties, None)?;
    let mut record: Properties = BTreeMap::new();
    for (name, value) in spec.fixed {
        record.insert((*name).to_owned(), (*value).to_owned());
    }
    let kind = properties.get("kind").map_or("", String::as_str);
    for field in spec.fields {
        let default = match field.presence {
            Presence::Required if !properties.contains_key(field.name) => {
                return Err(Refusal::Missing(field.name));
            }
            Presence::Generated => free_name(router, menu),
            Presence::Default(value) => value.to_owned(),
            Presence::OfKind(value) if is_of_kind(field.name, kind) => value.to_owned(),
            _ => continue,
        };
        record.insert(field.name.to_owned(), default);
    }
    apply(&mut record, menu, written);
    router.insert_at(menu, position, record);
    if menu == MenuName::QueueTree && properties.contains_key("max-limit") {
        router.log_write(position);
    }
    Ok(position)
}

/// Writes the same properties to the records at `indices`; all of them or, when refused, none.
pub(crate) fn set(
    router: &mut Router,
    menu: MenuName,
    indices: &[usize],
    properties: &Properties,
) -> Result<(), Refusal> {
    let mut changes = Vec::with_capacity(indices.len());
    for &index in indices {
        changes.push((index, checked_changes(router, menu, properties, Some(index))?));
    }
    if indices.len() > 1 && menu.spec().named && properties.contains_key("name") {
        return Err(Refusal::Value(menu.spec().duplicate_name.to_owned()));
    }
    for (index, written) in changes {
        let record = &mut router.menu_mut(menu).records[index];
        let old_name = record.name().to_owned();
        apply(&mut record.properties, menu, written);
        let new_name = record.name().to_owned();
        if menu.spec().named && old_name != new_name {
            repoint(router, menu, &old_name, &new_name);
        }
        if menu == MenuName::QueueTree && properties.contains_key("max-limit") {
            router.log_write(index);
        }
    }
    Ok(())
}

/// Removes the records at `indices`; references to them show their id from then on.
pub(crate) fn remove(
    router: &mut Router,
    menu: MenuName,
    indices: &[usize],
) -> Result<(), Refusal> {
    let records = &router.menu(menu).records;
    let is_default = |index: &usize| {
        records[*index].properties.get("default").is_some_and(|value| value == "true")
    };
    if !menu.spec().has_command("remove") || indices.iter().any(is_default) {
        return Err(Refusal::NotAllowed);
    }
    let mut last_first = indices.to_vec();
    last_first.sort_unstable_by(|a, b| b.cmp(a));
    last_first.dedup();
    for index in last_first {
        let record = router.menu_mut(menu).records.remove(index);
        if menu.spec().named {
            repoint(router, menu, record.name(), &record.id_text());
        }
    }
    Ok(())
}

/// Moves records, in the order given, before `destination`, or to the end without one.
pub(crate) fn move_records(
    router: &mut Router,
    menu: MenuName,
    indices: &[usize],
    destination: Option<usize>,
) {
    let records = &mut router.menu_mut(menu).records;
    let ids: Vec<u32> = indices.iter().map(|&index| records[index].id).collect();
    let anchor = destination.map(|index| records[index].id).filter(|id| !ids.contains(id));
    let (mut moved, kept): (Vec<_>, Vec<_>) =
        records.drain(..).partition(|record| ids.contains(&record.id));
    moved.sort_by_key(|record| ids.iter().position(|id| *id == record.id));
    let position = kept.iter().position(|record| Some(record.id) == anchor);
    *records = kept;
    let position = position.unwrap_or(records.len());
    records.splice(position..position, moved);
}

/// Zeroes the counters of the records at `indices`.
pub(crate) fn reset_counters(router: &mut Router, menu: MenuName, indices: &[usize]) {
    for &index in indices {
        router.menu_mut(menu).records[index].lanes.iter_mut().for_each(Lane::reset);
    }
}

/// Finds the record an id or name of a command stands for.
pub(crate) fn resolve(router: &Router, menu: MenuName, key: &str) -> Result<usize, Refusal> {
    let spec = menu.spec();
    let records = &router.menu(menu).records;
    let found = match parse_id(key) {
        Some(id) => records.iter().position(|record| record.id == id),
        None if spec.named => records.iter().position(|record| record.name() == key),
        None => None,
    };
    found.ok_or(Refusal::NoSuchItem)
}

/// Checks every property and spells its value as the router does. `own` is the record changed.
fn checked_changes(
    router: &Router,
    menu: MenuName,
    properties: &Properties,
    own: Option<usize>,
) -> Result<Vec<(&'static Field, String)>, Refusal> {
    let spec = menu.spec();
    let mut fields = Vec::with_capacity(properties.len());
    for (name, text) in properties {
        let field = spec.field(name).ok_or_else(|| Refusal::UnknownParameter(name.clone()))?;
        fields.push((field, text));
    }
    let resolver = |reference: Reference, text: &str| lookup(router, reference, text, menu, own);
    let mut changes = Vec::with_capacity(fields.len());
    for (field, text) in fields {
        let clears = text.is_empty() && matches!(field.presence, Presence::WhenSet);
        let value = if clears {
            String::new()
        } else {
            normalise(field.name, &field.kind, text, &resolver).map_err(Refusal::Value)?
        };
        if field.name == "name" && spec.named {
            check_name(router, menu, &value, own)?;
        }
        changes.push((field, value));
    }
    Ok(changes)
}

fn check_name(
    router: &Router,
    menu: MenuName,
    name: &str,
    own: Option<usize>,
) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::Value("invalid value for argument name".to_owned()));
    }
    let records = router.menu(menu).records.iter().enumerate();
    let taken =
        records.into_iter().any(|(index, record)| Some(index) != own && record.name() == name);
    if taken { Err(Refusal::Value(menu.spec().duplicate_name.to_owned())) } else { Ok(()) }
}

/// Returns the name of the record `text` refers to.
fn lookup(
    router: &Router,
    reference: Reference,
    text: &str,
    menu: MenuName,
    own: Option<usize>,
) -> Option<String> {
    let named = |target: MenuName, key: &str| {
        let index = resolve(router, target, key).ok()?;
        let itself = target == menu && Some(index) == own;
        (!itself).then(|| router.menu(target).records[index].name().to_owned())
    };
    match reference {
        Reference::QueueType => named(MenuName::QueueType, text),
        Reference::TreeParent if text == "global" => Some(text.to_owned()),
        Reference::TreeParent => {
            named(MenuName::QueueTree, text).or_else(|| named(MenuName::Interface, text))
        }
        Reference::SimpleParent if text == "none" => Some(text.to_owned()),
        Reference::SimpleParent => named(MenuName::QueueSimple, text),
        Reference::Interface => {
            let (negation, key) = match text.strip_prefix('!') {
                Some(key) => ("!", key),
                None => ("", text),
            };
            named(MenuName::Interface, key).map(|name| format!("{negation}{name}"))
        }
    }
}

fn apply(record: &mut Properties, menu: MenuName, changes: Vec<(&'static Field, String)>) {
    let written: Vec<&str> = changes.iter().map(|(field, _)| field.name).collect();
    let sets_overhead = written.contains(&"cake-overhead");
    for (field, value) in changes {
        if value.is_empty() && matches!(field.presence, Presence::WhenSet) {
            record.remove(field.name);
            continue;
        }
        match field.name {
            "kind" => fill_kind(record, menu, &value),
            "cake-rtt-scheme" => apply_rtt_scheme(record, &value),
            "cake-overhead-scheme" if !sets_overhead => apply_overhead_scheme(record, &value),
            _ => {}
        }
        record.insert(field.name.to_owned(), value);
    }
    if record.contains_key("invalid") {
        refresh_invalid(record, menu);
    }
}

fn fill_kind(record: &mut Properties, menu: MenuName, kind: &str) {
    for field in menu.spec().fields {
        if let Presence::OfKind(value) = field.presence
            && is_of_kind(field.name, kind)
        {
            record.entry(field.name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
}

fn apply_rtt_scheme(record: &mut Properties, scheme: &str) {
    let rtt = match scheme {
        "datacentre" => "100us",
        "lan" => "1ms",
        "metro" => "10ms",
        "regional" => "30ms",
        "internet" => "100ms",
        "oceanic" => "300ms",
        "satellite" => "1s",
        "interplanetary" => "1h",
        _ => return,
    };
    record.insert("cake-rtt".to_owned(), rtt.to_owned());
}

/// Sets overhead (bytes), mpu (bytes) and ATM mode the way the recorded schemes do.
fn apply_overhead_scheme(record: &mut Properties, schemes: &str) {
    let mut overhead = 0;
    let mut put = |name: &str, value: &str| record.insert(name.to_owned(), value.to_owned());
    for scheme in schemes.split(',') {
        match scheme {
            "docsis" => {
                overhead += 18;
                put("cake-mpu", "64");
            }
            "ethernet" => {
                overhead += 38;
                put("cake-mpu", "84");
            }
            "ether-vlan" => overhead += 4,
            "pppoe-ptm" => {
                overhead += 30;
                put("cake-atm", "ptm");
            }
            _ => {}
        }
    }
    if overhead > 0 {
        put("cake-overhead", &overhead.to_string());
    }
}

/// A record is invalid while one of its references shows the id of something removed.
fn refresh_invalid(record: &mut Properties, menu: MenuName) {
    let dangling = menu.spec().fields.iter().any(|field| {
        let reference = matches!(field.kind, Kind::Reference(_) | Kind::Pair(Kind::Reference(_)));
        reference
            && record
                .get(field.name)
                .is_some_and(|value| value.split('/').any(|part| parse_id(part).is_some()))
    });
    record.insert("invalid".to_owned(), dangling.to_string());
}

/// Makes every reference to the record `old` of `target` say `new`.
fn repoint(router: &mut Router, target: MenuName, old: &str, new: &str) {
    for menu in MenuName::ALL {
        for field in menu.spec().fields {
            let (reference, pair) = match field.kind {
                Kind::Reference(reference) => (reference, false),
                Kind::Pair(Kind::Reference(reference)) => (*reference, true),
                _ => continue,
            };
            if !points_at(reference, target) {
                continue;
            }
            for record in &mut router.menu_mut(menu).records {
                let Some(value) = record.properties.get_mut(field.name) else { continue };
                let swap = |part| if part == old { new } else { part };
                let renamed = if pair {
                    value.split('/').map(swap).collect::<Vec<_>>().join("/")
                } else {
                    swap(value.as_str()).to_owned()
                };
                if renamed != *value {
                    *value = renamed;
                    refresh_invalid(&mut record.properties, menu);
                }
            }
        }
    }
}

fn points_at(reference: Reference, target: MenuName) -> bool {
    match reference {
        Reference::QueueType => target == MenuName::QueueType,
        Reference::TreeParent => matches!(target, MenuName::QueueTree | MenuName::Interface),
        Reference::SimpleParent => target == MenuName::QueueSimple,
        Reference::Interface => target == MenuName::Interface,
    }
}

fn free_name(router: &Router, menu: MenuName) -> String {
    let taken = |name: &String| router.menu(menu).records.iter().any(|r| r.name() == name);
    let mut names = (1..=GENERATED_NAMES_MAX).map(|number| format!("queue{number}"));
    names.find(|name| !taken(name)).unwrap_or_default()
}

/// Tells whether a menu is a singleton.
pub(crate) fn is_singleton(menu: MenuName) -> bool {
    menu.spec().shape == Shape::Singleton
}
