//! The REST rules: which request does what, and how it is answered. No I/O, no clock.

use serde_json::{Value, json};

use super::edit::{self, Refusal, is_singleton};
use super::menus::MenuName;
use super::message::{
    Argument, Arguments, Body, Origin, Request, Response, parse_arguments, percent_decode,
    row_json, split_list,
};
use super::query::{matches_filter, matches_query, project};
use super::seed::{Policy, User};
use super::store::{Properties, Router, parse_id};

const NO_RESOURCE: &str = "missing or invalid resource identifier";
const NO_COMMAND: &str = "no such command";
const NO_PREFIX: &str = "no such command prefix";
const NOT_PERMITTED: &str = "not enough permissions (9)";

/// `print` arguments that exist on the router and change nothing in a REST reply here.
const PRINT_FLAGS: [&str; 13] = [
    "as-value",
    "brief",
    "bytes",
    "comments",
    "detail",
    "oid",
    "packets",
    "rate",
    "show-ids",
    "stats",
    "terse",
    "value-list",
    "without-paging",
];

/// Carries out one request and returns the reply.
pub fn handle(router: &mut Router, request: &Request) -> Response {
    let Some(path) = request.path().strip_prefix("/rest").filter(|rest| starts_segment(rest))
    else {
        return web_page(request);
    };
    match request.method.as_str() {
        "GET" | "PUT" | "PATCH" | "DELETE" | "POST" => {}
        "OPTIONS" => return Response::error(503, None),
        _ => return Response::error(501, None),
    }
    let Some(user) = authenticate(router, request).cloned() else {
        return Response::error(401, None);
    };
    if !user.may_use_api() {
        return Response::error(500, Some("std failure: not allowed (9)"));
    }
    let has_arguments = !matches!(request.method.as_str(), "GET" | "DELETE");
    if has_arguments && !request.body.is_empty() && !is_json(request) {
        return Response::error(415, None);
    }
    let body: &[u8] = if has_arguments { &request.body } else { &[] };
    let Some(arguments) = parse_arguments(body) else {
        return Response::error(400, Some("Failed to parse json"));
    };
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match locate(&segments) {
        Ok((menu, rest)) => dispatch(router, &user, request, menu, rest, &arguments),
        Err(response) => response,
    }
}

/// Returns the user whose name and password the request carries, if REST lets the user in; in a
/// session of the binary API the one who has logged in.
pub fn authenticate<'r>(router: &'r Router, request: &Request) -> Option<&'r User> {
    let credentials = request.authorization.as_deref();
    let is_it = |user: &&User| match &request.origin {
        Origin::Api { user: name, .. } => user.name == *name,
        Origin::ApiLogin => user.has_credentials(credentials),
        Origin::Http => {
            user.policies.contains(&Policy::RestApi) && user.has_credentials(credentials)
        }
    };
    router.users.iter().find(is_it)
}

fn starts_segment(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// The web interface answers without login, so it tells nothing about REST.
fn web_page(request: &Request) -> Response {
    let (status, page) = match request.path() {
        "/" => (200, "<!doctype html><title>RouterOS</title>"),
        _ => (404, "<!doctype html><title>Not Found</title>"),
    };
    Response { status, location: None, body: Body::Html(page) }
}

fn is_json(request: &Request) -> bool {
    let content_type = request.content_type.as_deref().unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Splits a path into the menu and what follows it; names the first element that fits no menu.
fn locate<'s>(segments: &'s [&'s str]) -> Result<(MenuName, &'s [&'s str]), Response> {
    let menu_segments = |menu: MenuName| menu.path().split('/').collect::<Vec<_>>();
    for menu in MenuName::ALL {
        if let Some(rest) = segments.strip_prefix(menu_segments(menu).as_slice()) {
            return Ok((menu, rest));
        }
    }
    for length in 1..=segments.len() {
        let known =
            MenuName::ALL.iter().any(|menu| menu_segments(*menu).starts_with(&segments[..length]));
        if !known {
            return Err(unknown(segments[length - 1]));
        }
    }
    Err(Response::error(400, Some(NO_COMMAND)))
}

fn unknown(element: &str) -> Response {
    let element = percent_decode(element);
    Response::error(400, Some(&format!("no such command or directory ({element})")))
}

fn dispatch(
    router: &mut Router,
    user: &User,
    request: &Request,
    menu: MenuName,
    rest: &[&str],
    arguments: &Arguments,
) -> Response {
    if let [_, second, ..] = rest {
        return unknown(second);
    }
    let key = rest.first().copied();
    let may_write = user.policies.contains(&Policy::Write);
    let may_read = user.policies.contains(&Policy::Read);
    match (request.method.as_str(), key) {
        ("GET", _) if !may_read => Response::error(500, Some(NOT_PERMITTED)),
        ("GET", None) => get_menu(router, menu, request),
        ("GET", Some(key)) => get_record(router, menu, key, request),
        ("POST", None) => Response::json(200, json!([])),
        ("POST", Some(command)) => {
            let command = percent_decode(command);
            let permitted = if command == "print" { may_read } else { may_write };
            if !menu.spec().has_command(&command) {
                unknown(&command)
            } else if !permitted {
                Response::error(500, Some(NOT_PERMITTED))
            } else {
                post(router, menu, &command, arguments)
            }
        }
        ("PUT", _) if !may_write => Response::error(500, Some(NOT_PERMITTED)),
        ("PUT", None) => put(router, menu, request, arguments),
        ("PATCH" | "DELETE", Some(key)) if may_write && !is_singleton(menu) => {
            match find(router, menu, key) {
                Err(response) => response,
                Ok(index) if request.method == "PATCH" => patch(router, menu, index, arguments),
                Ok(index) => delete(router, menu, index),
            }
        }
        _ => Response::error(400, Some(NO_RESOURCE)),
    }
}

fn get_menu(router: &Router, menu: MenuName, request: &Request) -> Response {
    let (proplist, filter) = url_query(request);
    let mut rows = router.rows(menu);
    rows.retain(|row| matches_filter(row, &filter));
    let mut rows = rows.iter().map(|row| row_json(project(row, proplist.as_deref(), true)));
    if is_singleton(menu) {
        return Response::json(200, rows.next().unwrap_or_else(|| json!({})));
    }
    Response::json(200, Value::Array(rows.collect()))
}

fn get_record(router: &Router, menu: MenuName, key: &str, request: &Request) -> Response {
    if menu.spec().has_command(key) {
        return Response::error(400, Some(NO_COMMAND));
    }
    match find(router, menu, key) {
        Ok(index) => {
            let (proplist, _) = url_query(request);
            let row = view(router, menu, index);
            Response::json(200, row_json(project(&row, proplist.as_deref(), false)))
        }
        Err(response) => response,
    }
}

/// Finds the record of a URL element: an id, which must be sent raw, or an encoded name.
fn find(router: &Router, menu: MenuName, key: &str) -> Result<usize, Response> {
    if is_singleton(menu) {
        return Err(unknown(key));
    }
    let escaped_star = key.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("%2A"));
    let decoded = percent_decode(key);
    let is_id = parse_id(key).is_some();
    if escaped_star || (!is_id && !menu.spec().named) {
        return Err(Response::error(400, Some(NO_PREFIX)));
    }
    match edit::resolve(router, menu, &decoded) {
        Ok(index) => Ok(index),
        Err(_) if is_id => Err(Response::error(404, None)),
        Err(_) => Err(unknown(key)),
    }
}

/// Splits the URL query into `.proplist` and the filter.
fn url_query(request: &Request) -> (Option<Vec<String>>, Vec<(String, String)>) {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let mut proplist = None;
    let mut filter = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (percent_decode(name), percent_decode(value));
        if name == ".proplist" {
            proplist = Some(split_list(&value));
        } else {
            filter.push((name, value));
        }
    }
    (proplist, filter)
}

fn view(router: &Router, menu: MenuName, index: usize) -> Properties {
    router.view(menu, &router.menu(menu).records[index])
}

/// Takes an argument out of the body and leaves the properties.
fn split_off(arguments: &Arguments, names: &[&str]) -> (Vec<Option<Argument>>, Properties) {
    let taken = names.iter().map(|name| arguments.get(*name).cloned()).collect();
    let rest = arguments.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    (taken, rest.map(|(name, argument)| (name.clone(), argument.text())).collect())
}

fn put(router: &mut Router, menu: MenuName, request: &Request, arguments: &Arguments) -> Response {
    let index = match add(router, menu, arguments) {
        Ok(index) => index,
        Err(refusal) => return refused(router, &refusal),
    };
    let row = view(router, menu, index);
    let scheme = if request.secure { "https" } else { "http" };
    let host = request.host.as_deref().unwrap_or("router");
    let id = row.get(".id").map_or("", String::as_str);
    let location = format!("{scheme}://{host}/rest/{}/{id}", menu.path());
    Response { location: Some(location), ..Response::json(201, row_json(row)) }
}

fn add(router: &mut Router, menu: MenuName, arguments: &Arguments) -> Result<usize, Refusal> {
    let movable = menu.spec().has_command("move");
    let taken: &[&str] = if movable { &["place-before"] } else { &[] };
    let (place, properties) = split_off(arguments, taken);
    let place = place.into_iter().flatten().next().map(|argument| argument.text());
    edit::add(router, menu, &properties, place.as_deref())
}

fn patch(router: &mut Router, menu: MenuName, index: usize, arguments: &Arguments) -> Response {
    let (_, properties) = split_off(arguments, &[]);
    match edit::set(router, menu, &[index], &properties) {
        Ok(()) => Response::json(200, row_json(view(router, menu, index))),
        Err(Refusal::Value(_)) if router.quirks.generic_patch_refusal => {
            Response::error(400, Some(NO_RESOURCE))
        }
        Err(refusal) => refused(router, &refusal),
    }
}

fn delete(router: &mut Router, menu: MenuName, index: usize) -> Response {
    match edit::remove(router, menu, &[index]) {
        Ok(()) => Response::no_content(),
        Err(refusal) => refused(router, &refusal),
    }
}

fn refused(router: &Router, refusal: &Refusal) -> Response {
    Response::refused(refusal, router.quirks.missing_item_status)
}

fn post(router: &mut Router, menu: MenuName, command: &str, arguments: &Arguments) -> Response {
    let outcome = match command {
        "print" => print(router, menu, arguments),
        "add" => add(router, menu, arguments).map(|index| {
            let row = view(router, menu, index);
            json!({ "ret": row.get(".id") })
        }),
        "set" if is_singleton(menu) => {
            let (_, properties) = split_off(arguments, &[]);
            edit::set(router, menu, &[0], &properties).map(|()| json!([]))
        }
        "reset-counters-all" => {
            let all: Vec<usize> = (0..router.menu(menu).records.len()).collect();
            edit::reset_counters(router, menu, &all);
            Ok(json!([]))
        }
        _ => record_command(router, menu, command, arguments).map(|()| json!([])),
    };
    match outcome {
        Ok(body) => Response::json(200, body),
        Err(refusal) => refused(router, &refusal),
    }
}

/// Carries out a command that takes a list of ids or names in `.id` or `numbers`.
fn record_command(
    router: &mut Router,
    menu: MenuName,
    command: &str,
    arguments: &Arguments,
) -> Result<(), Refusal> {
    let taken: &[&str] =
        if command == "move" { &[".id", "numbers", "destination"] } else { &[".id", "numbers"] };
    let (taken, mut properties) = split_off(arguments, taken);
    let mut taken = taken.into_iter();
    let by_id = taken.next().flatten();
    let by_number = taken.next().flatten();
    let keys = by_id.or(by_number).map(|keys| keys.list()).unwrap_or_default();
    if keys.is_empty() {
        return Err(Refusal::Missing(".id"));
    }
    let indices: Vec<usize> =
        keys.iter().map(|key| edit::resolve(router, menu, key)).collect::<Result<_, _>>()?;
    let allowed: &[&str] = if command == "comment" { &["comment"] } else { &[] };
    if command != "set"
        && let Some(name) = properties.keys().find(|name| !allowed.contains(&name.as_str()))
    {
        return Err(Refusal::UnknownParameter(name.clone()));
    }
    match command {
        "enable" | "disable" => {
            let disabled = (command == "disable").to_string();
            properties.insert("disabled".to_owned(), disabled);
            edit::set(router, menu, &indices, &properties)
        }
        "remove" => edit::remove(router, menu, &indices),
        "move" => {
            let destination = taken.next().flatten().map(|key| key.text());
            let destination =
                destination.map(|key| edit::resolve(router, menu, &key)).transpose()?;
            edit::move_records(router, menu, &indices, destination);
            Ok(())
        }
        "reset-counters" => {
            edit::reset_counters(router, menu, &indices);
            Ok(())
        }
        _ => edit::set(router, menu, &indices, &properties),
    }
}

fn print(router: &Router, menu: MenuName, arguments: &Arguments) -> Result<Value, Refusal> {
    let selectors = [".proplist", ".query", "count-only"];
    let known = |name: &str| selectors.contains(&name) || PRINT_FLAGS.contains(&name);
    if let Some(name) = arguments.keys().find(|name| !known(name)) {
        return Err(Refusal::UnknownParameter(name.clone()));
    }
    let proplist = arguments.get(".proplist").map(Argument::list);
    let query = arguments.get(".query").map(Argument::list).unwrap_or_default();
    let mut rows = router.rows(menu);
    rows.retain(|row| matches_query(row, &query));
    if arguments.contains_key("count-only") {
        return Ok(json!({ "ret": rows.len().to_string() }));
    }
    let rows = rows.iter().map(|row| row_json(project(row, proplist.as_deref(), false)));
    Ok(Value::Array(rows.collect()))
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
