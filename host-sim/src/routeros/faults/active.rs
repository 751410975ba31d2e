//! The faults that are switched on, asked at every step of a connection and a request.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::api;
use super::super::message::{Body, Origin, Request, Response};
use super::super::store::Router;
use super::profile::{Dice, LatencyProfile};
use super::reply;
use super::rows::{self, Undo};
use super::{BadBody, Fault, FaultSpec, LyingWrite, RoundedValue, ServiceFault, TlsFault};

/// How long the damage of an abandoned request lasts: seen between 1.3 and 2.4 s.
const DAMAGE: Duration = Duration::from_millis(1_800);
/// Lines `log` keeps.
const LOG_MAX: usize = 1_000;
/// Actions `system/history` keeps.
const HISTORY_MAX: usize = 100;

/// What becomes of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is served after this time.
    Serve(Duration),
    /// It is closed.
    Close,
}

/// How a reply is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Whole.
    Whole,
    /// The first half, then the connection ends.
    Half,
    /// Not at all: the connection is reset.
    Reset,
    /// Damaged, in a session of the binary API.
    Spoilt(BadBody),
}

#[derive(Debug)]
struct Active {
    spec: FaultSpec,
    undo: Undo,
}

/// Where the damage of an abandoned request stands.
#[derive(Debug, Default)]
enum Damage {
    #[default]
    None,
    /// A request was given up; its answer waits for somebody.
    Armed(Response),
    /// Answers are mixed up until then; the number counts them.
    Spreading { until: Duration, answer: Response, count: u32 },
}

/// All faults of an emulator.
#[derive(Debug)]
pub(crate) struct Faults {
    active: Vec<Active>,
    dice: Dice,
    damage: Damage,
    logged_in: BTreeMap<String, Duration>,
    /// Wrong records left after a reboot.
    wrong_replies: u32,
    log: VecDeque<String>,
    history: VecDeque<String>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self {
            active: Vec::new(),
            dice: Dice::new(),
            damage: Damage::None,
            logged_in: BTreeMap::new(),
            wrong_replies: 0,
            log: VecDeque::new(),
            history: VecDeque::new(),
        }
    }

    /// Switches a fault on.
    pub(crate) fn inject(&mut self, spec: FaultSpec, router: &mut Router) {
        let undo = rows::begin(spec.fault, router);
        if let Fault::SlowLogin { .. } = spec.fault {
            self.logged_in.clear();
        }
        self.active.push(Active { spec, undo });
    }

    /// Switches off all faults of one kind; `false` when there was none.
    pub(crate) fn mend(&mut self, fault: Fault, router: &mut Router) -> bool {
        let (ended, active) =
            std::mem::take(&mut self.active).into_iter().partition(|a| a.spec.fault == fault);
        self.active = active;
        let ended: Vec<Active> = ended;
        for one in ended.iter().rev() {
            rows::end(&one.undo, router);
            match one.spec.fault {
                Fault::Reboot { wrong_replies } => self.wrong_replies = wrong_replies,
                Fault::AbortDamage => self.damage = Damage::None,
                _ => {}
            }
        }
        !ended.is_empty()
    }

    fn find<T>(&self, pick: impl Fn(Fault) -> Option<T>) -> Option<T> {
        self.active.iter().find_map(|active| pick(active.spec.fault))
    }

    fn has(&self, fault: Fault) -> bool {
        self.active.iter().any(|active| active.spec.fault == fault)
    }

    /// Looks for a fault that touches this request, and counts that it does.
    fn hit<T>(&mut self, request: &Request, pick: impl Fn(Fault) -> Option<T>) -> Option<T> {
        for Active { spec, .. } in &mut self.active {
            let Some(picked) = pick(spec.fault) else { continue };
            let is_drawn =
                || spec.percent == 100 || self.dice.uniform() * 100.0 < spec.percent.into();
            if !spec.fits(request) || !{ is_drawn }() {
                continue;
            }
            spec.times = spec.times.map(|times| times - 1);
            return Some(picked);
        }
        None
    }

    pub(crate) fn fate(&self, secure: bool) -> Fate {
        let is_closed =
            |fault| matches!(fault, Fault::Overload | Fault::AddressFilter).then_some(());
        if self.find(is_closed).is_some() {
            return Fate::Close;
        }
        let slow = self.find(|fault| match fault {
            Fault::TlsHandshake(TlsFault::Slow(time)) if secure => Some(time),
            _ => None,
        });
        Fate::Serve(slow.unwrap_or_default())
    }

    /// Returns the faults that touch connections: those open before must not outlive a change. The
    /// time of [`Fault::IdleClose`] counts anew after each answer.
    pub(crate) fn of_connections(&self) -> Vec<Fault> {
        let touches = |fault: &Fault| {
            matches!(fault, Fault::TlsHandshake(_) | Fault::Overload | Fault::AddressFilter)
        };
        self.active.iter().map(|active| active.spec.fault).filter(touches).collect()
    }

    pub(crate) fn tls(&self) -> Option<TlsFault> {
        self.find(|fault| match fault {
            Fault::TlsHandshake(fault) => Some(fault),
            _ => None,
        })
    }

    pub(crate) fn idle_close(&self) -> Option<Duration> {
        self.find(|fault| match fault {
            Fault::IdleClose { after } => Some(after),
            _ => None,
        })
    }

    /// Returns the time a request takes on top of the emulator's own latency.
    pub(crate) fn latency(
        &mut self,
        request: &Request,
        is_write: bool,
        user: Option<&str>,
        now: Duration,
    ) -> Duration {
        let login = self.find(|fault| match fault {
            Fault::SlowLogin { takes, every } => Some((takes, every)),
            _ => None,
        });
        let mut extra = Duration::ZERO;
        if let (Some((takes, _)), Origin::ApiLogin) = (login, &request.origin) {
            extra += takes;
        } else if let (Some((takes, every)), Some(user), true) = (login, user, request.is_http()) {
            let known = self.logged_in.get(user).is_some_and(|since| now < *since + every);
            if !known {
                self.logged_in.insert(user.to_owned(), now);
                extra += takes;
            }
        }
        let profile = self.hit(request, |fault| match fault {
            Fault::Latency(profile) => Some(profile),
            Fault::CpuSaturation => Some(LatencyProfile::Loaded),
            _ => None,
        });
        if let Some(profile) = profile {
            extra += profile.draw(is_write, || self.dice.uniform());
        }
        extra
    }

    /// Returns how long a request waits behind one of another client before it is refused.
    ///
    /// Only REST puts all clients of a user into one session.
    pub(crate) fn wait_limit(&mut self, request: &Request) -> Option<Duration> {
        if !request.is_http() {
            return None;
        }
        self.hit(request, |fault| match fault {
            Fault::SharedUser { limit } => Some(limit),
            _ => None,
        })
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.active.iter().any(|active| matches!(active.spec.fault, Fault::SharedUser { .. }))
    }

    /// Answers a request without the router's doing, if a fault says so.
    pub(crate) fn answer(&mut self, request: &Request, router: &Router) -> Option<Response> {
        let refused = |fault| (fault == Fault::LoginRefused).then_some(());
        match &request.origin {
            // Who is logged in stays so.
            Origin::Api { .. } => return None,
            Origin::ApiLogin => return self.hit(request, refused).map(|()| api::wrong_login()),
            Origin::Http if self.hit(request, refused).is_some() => {
                return Some(Response::error(401, None));
            }
            Origin::Http => {}
        }
        let is_off = |fault| (fault == Fault::ServiceChange(ServiceFault::RestOff)).then_some(());
        if self.hit(request, is_off).is_some() {
            let body = Body::Html("<!doctype html><title>Forbidden</title>");
            return Some(Response { status: 403, location: None, body });
        }
        if self.wrong_replies > 0 && request.method == "GET" {
            self.wrong_replies -= 1;
            return Some(reply::of_another_menu(request, router));
        }
        let list = match request.path() {
            "/rest/log" => &self.log,
            "/rest/system/history" => &self.history,
            _ => return None,
        };
        let row = |(index, text): (usize, &String)| json!({".id": format!("*{index:X}"), "message": text});
        let rows = list.iter().enumerate().map(row).collect();
        (request.method == "GET" && self.has(Fault::LogGrowth))
            .then(|| Response::json(200, Value::Array(rows)))
    }

    /// Changes a request before it is carried out.
    pub(crate) fn rewrite(&mut self, request: &Request) -> Option<Request> {
        if request.verb() != "PATCH" || !request.path().starts_with("/rest/queue/tree/") {
            return None;
        }
        let rounded = self.hit(request, |fault| match fault {
            Fault::RoundedValue(rounded) => Some(rounded),
            _ => None,
        })?;
        let mut body: Value = serde_json::from_slice(&request.body).ok()?;
        let members = body.as_object_mut()?;
        let rate: u64 = members.get("max-limit")?.as_str()?.parse().ok()?;
        match rounded {
            RoundedValue::Ignored => drop(members.remove("max-limit")),
            RoundedValue::Rounded => {
                let mbps = (rate / 1_000_000).max(1);
                members.insert("max-limit".to_owned(), json!((mbps * 1_000_000).to_string()));
            }
        }
        Some(Request { body: body.to_string().into_bytes(), ..request.clone() })
    }

    /// Notes a write that was carried out.
    pub(crate) fn written(&mut self, request: &Request, user: &str) {
        if !self.has(Fault::LogGrowth) {
            return;
        }
        let command = format!("{} {}", request.path(), String::from_utf8_lossy(&request.body));
        keep(&mut self.history, HISTORY_MAX, command.clone());
        keep(&mut self.log, LOG_MAX, format!("changed by api:{user}@::/action ({command})"));
    }

    pub(crate) fn log(&self) -> impl Iterator<Item = &String> {
        self.log.iter()
    }

    /// Changes an answer on its way out.
    pub(crate) fn spoil(&mut self, request: &Request, response: Response) -> (Response, Delivery) {
        let lying = self.hit(request, |fault| match fault {
            Fault::LyingWrite(lying) if request.verb() == "PATCH" => Some(lying),
            _ => None,
        });
        match lying {
            Some(LyingWrite::Refused) => {
                let detail = Some("missing or invalid resource identifier");
                let detail = if request.is_http() { detail } else { Some("action timed out") };
                return (Response::error(400, detail), Delivery::Whole);
            }
            Some(LyingWrite::LostReply) => return (response, Delivery::Reset),
            None => {}
        }
        let response = self.spoil_rows(request, response);
        match self.hit(request, |fault| match fault {
            Fault::BadBody(bad) => Some(bad),
            _ => None,
        }) {
            Some(bad) if request.is_http() => reply::damage(response, bad),
            Some(BadBody::Truncated) => (response, Delivery::Half),
            Some(bad) => (response, Delivery::Spoilt(bad)),
            None => (response, Delivery::Whole),
        }
    }

    fn spoil_rows(&mut self, request: &Request, mut response: Response) -> Response {
        let Body::Json(body) = &mut response.body else { return response };
        for Active { spec, .. } in &self.active {
            if response.status == 200 && spec.fits(request) {
                reply::reshape(spec.fault, request.menu_path(), body);
            }
        }
        response
    }

    /// Follows what an abandoned request does to the answers after it.
    pub(crate) fn mix_up(
        &mut self,
        request: &Request,
        response: Response,
        is_abandoned: bool,
        now: Duration,
    ) -> (Response, Delivery) {
        if !self.has(Fault::AbortDamage) || !request.is_http() {
            return (response, Delivery::Whole);
        }
        if is_abandoned {
            self.damage = Damage::Armed(response.clone());
            return (response, Delivery::Whole);
        }
        match std::mem::take(&mut self.damage) {
            Damage::None => (response, Delivery::Whole),
            Damage::Armed(answer) => {
                self.damage = Damage::Spreading { until: now + DAMAGE, answer, count: 0 };
                (response, Delivery::Whole)
            }
            Damage::Spreading { until, .. } if now >= until => (response, Delivery::Whole),
            Damage::Spreading { until, answer, count } => {
                let given = answer.clone();
                self.damage = Damage::Spreading { until, answer, count: count + 1 };
                if count % 2 == 0 { (given, Delivery::Whole) } else { (response, Delivery::Reset) }
            }
        }
    }
}

fn keep(list: &mut VecDeque<String>, max: usize, text: String) {
    if list.len() == max {
        list.pop_front();
    }
    list.push_back(text);
}
