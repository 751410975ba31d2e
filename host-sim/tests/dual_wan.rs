//! Two lines and one router: real pings bound to each line, real TCP that follows the router's rule.
//!
//! The home's routing rules stand for the router's: a rule that sends new connections to the second
//! line is there while the emulated router's mangle rule is on; connections that have an address
//! keep their line.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use common::{Bench, Daemon, PASSWORD, PATIENCE, SECOND_WAN};
use socket2::SockRef;
use wanctl_sim::demo::USER;
use wanctl_sim::link::{CapacitySchedule, Direction};
use wanctl_sim::netns::{Namespace, PacketLink, PacketLinkOptions, REFLECTORS, usable_or_skip};
use wanctl_sim::routeros::{Emulator, properties_of};
use wanctl_sim::routeros::{EmulatorOptions, Latency, MenuName, RouterOptions, User};

const COMMENT: &str = "wanctl: latency to dsl";
/// What every packet passes at once.
const FAST_BPS: u64 = 50_000_000;
/// Less than the pings need: a queue grows.
const SLOW_BPS: u64 = 10_000;
/// A server on the internet that both lines lead to.
const SERVER: Ipv4Addr = REFLECTORS[0];
const PORT: u16 = 7777;
/// The address that the cable line gets later.
const CABLE_LATER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

/// One of the home's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Cable,
    Dsl,
}

use Line::{Cable, Dsl};

impl Line {
    const BOTH: [Self; 2] = [Cable, Dsl];

    const fn interface(self) -> &'static str {
        match self {
            Cable => "wan0",
            Dsl => "wan1",
        }
    }

    const fn address(self) -> Ipv4Addr {
        match self {
            Cable => Ipv4Addr::new(10, 77, 0, 2),
            Dsl => Ipv4Addr::new(10, 78, 0, 2),
        }
    }

    const fn internet_address(self) -> Ipv4Addr {
        match self {
            Cable => Ipv4Addr::new(10, 77, 0, 1),
            Dsl => Ipv4Addr::new(10, 78, 0, 1),
        }
    }

    /// The routing table with this line alone.
    const fn table(self) -> &'static str {
        match self {
            Cable => "101",
            Dsl => "102",
        }
    }
}

/// A line with the part of the internet behind it.
struct Provider {
    // The link's interfaces live in the namespaces, so it goes first.
    link: PacketLink,
    _internet: Namespace,
    listener: TcpListener,
}

impl Provider {
    fn new(home: &Namespace, line: Line) -> Self {
        let internet = Namespace::create("wctl-dinet").expect("a namespace");
        let constant = CapacitySchedule::constant(FAST_BPS);
        let options = PacketLinkOptions {
            lan_interface: line.interface().to_owned(),
            lan_address: line.address(),
            internet_address: line.internet_address(),
            ..PacketLinkOptions::new(constant.clone(), constant)
        };
        let link = PacketLink::start(home, &internet, options).expect("a line");
        let listener = internet.run(|| TcpListener::bind((SERVER, PORT)));
        let listener = listener.expect("the namespace").expect("a port");
        // It bounds `accept` too.
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { link, _internet: internet, listener }
    }
}

/// A connection from the home to the server.
struct Flow {
    line: Line,
    client: TcpStream,
    server: TcpStream,
}

impl Flow {
    /// Sends a byte to the server and back.
    fn works(&mut self) {
        self.client.write_all(b"?").expect("the flow takes a byte");
        let mut byte = [0];
        self.server.read_exact(&mut byte).expect("the byte arrives");
        self.server.write_all(&byte).expect("the flow takes it back");
        self.client.read_exact(&mut byte).expect("the byte returns");
    }
}

struct Home {
    daemon: Daemon,
    bench: Bench,
    providers: [Provider; 2],
    home: Namespace,
    /// Lines of the log that were looked at.
    seen: usize,
    started: Instant,
    is_steered: bool,
}

impl Home {
    fn new(steering: &str) -> Self {
        let home = Namespace::create("wctl-dual").expect("a namespace");
        let providers = Line::BOTH.map(|line| Provider::new(&home, line));
        for line in Line::BOTH {
            let (address, table) = (line.address().to_string(), line.table());
            run_ip(&home, &["route", "add", "default", "dev", line.interface(), "table", table]);
            run_ip(&home, &["rule", "add", "pref", "100", "from", &address, "lookup", table]);
        }
        let bench = Bench::around(emulator(&home));
        bench.edit(
            "name = \"cable\"\nreflectors = [\"127.0.0.1\", \"127.0.0.2\", \"127.0.0.3\"]",
            &format!("name = \"cable\"\ninterface = \"wan0\"\nreflectors = [\"{SERVER}\"]"),
        );
        let dsl = SECOND_WAN.replace("127.0.0.4", &SERVER.to_string());
        let dsl = dsl.replace("name = \"dsl\"", "name = \"dsl\"\ninterface = \"wan1\"");
        let link = "\n[wan.link]\nwarm-up = \"500ms\"\n";
        let text = bench.config_text() + link + &dsl + link + "\n[steering]\n" + steering;
        bench.write_file("wanctl.toml", &text);
        let program = common::wanctl_binary().to_str().expect("the path is UTF-8");
        let mut command = home.command(program);
        command.args(["run", "--log-level", "debug", "--config"]).arg(bench.files.config());
        let daemon = Daemon::start(&mut command);
        let started = Instant::now();
        let mut home = Self { daemon, bench, providers, home, seen: 0, started, is_steered: false };
        for name in ["cable", "dsl"] {
            let live = format!("{name}: link WARM -> LIVE");
            let (index, _) = home.daemon.wait_for(&live, 0, |line| line.contains(&live));
            home.seen = home.seen.max(index + 1);
        }
        home
    }

    /// Waits for a line after those that were seen already, and shows it with its time.
    fn wait_for(&mut self, text: &str) -> String {
        let (index, line) = self.daemon.wait_for(text, self.seen, |line| line.contains(text));
        self.seen = index + 1;
        self.show(&line);
        line
    }

    /// Waits for several lines, in whatever order they come.
    fn wait_for_all(&mut self, texts: &[&str]) {
        let (from, mut last) = (self.seen, self.seen);
        for text in texts {
            self.seen = from;
            self.wait_for(text);
            last = last.max(self.seen);
        }
        self.seen = last;
    }

    /// Straight to standard output: it is worth seeing when the test passes, too.
    fn show(&self, what: &str) {
        let at = self.started.elapsed().as_secs_f64();
        let _closed = writeln!(std::io::stdout(), "{at:7.3} s  {what}");
    }

    fn provider(&self, line: Line) -> &Provider {
        match line {
            Cable => &self.providers[0],
            Dsl => &self.providers[1],
        }
    }

    fn set_capacity(&self, line: Line, rate_bps: u64) {
        self.show(&format!("{line:?} now carries {rate_bps} bit/s"));
        self.provider(line).link.set_capacity(Direction::Download, rate_bps);
    }

    /// Waits until the router's rule is on, or off, and does what the router then does.
    #[track_caller]
    fn wait_for_rule(&mut self, on: bool) {
        let is_so = self.bench.emulator.wait_until(PATIENCE, |view| {
            let rules = view.router.rows(MenuName::Mangle);
            let mut ours = rules.iter().filter(|r| r.get("comment").is_some_and(|c| c == COMMENT));
            ours.any(|rule| rule.get("disabled").is_some_and(|d| (d == "false") == on))
        });
        assert!(is_so, "the rule is not {on}: {:#?}", self.daemon.process.lines());
        self.show(if on { "the rule is on" } else { "the rule is off" });
        if self.is_steered != on {
            let change = if on { "add" } else { "del" };
            run_ip(&self.home, &["rule", change, "pref", "200", "lookup", Dsl.table()]);
            self.is_steered = on;
        }
    }

    /// Opens a connection as any program would and tells by which line it went.
    fn open_flow(&self) -> Flow {
        let address = SocketAddr::from((SERVER, PORT));
        let connect = || TcpStream::connect_timeout(&address, PATIENCE);
        let client = self.home.run(connect).expect("the namespace").expect("a connection");
        let local = client.local_addr().expect("an address").ip();
        let by = |line: &Line| local == line.address() || (*line == Cable && local == CABLE_LATER);
        let line = Line::BOTH.into_iter().find(by).expect("an address of a line");
        // Its own line's provider has it, and no other.
        let (server, peer) = self.provider(line).listener.accept().expect("the connection");
        assert_eq!(peer.ip(), local);
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        }
        self.show(&format!("a new flow goes by {line:?}"));
        Flow { line, client, server }
    }

    /// What a cable that is plugged in brings back.
    fn plug_in(&self, line: Line) {
        let interface = line.interface();
        run_ip(&self.home, &["link", "set", interface, "up"]);
        self.add_routes(line);
    }

    fn add_routes(&self, line: Line) {
        let interface = line.interface();
        // The cable line is the one that is used unless somebody says otherwise.
        let place = if line == Cable { "prepend" } else { "append" };
        run_ip(&self.home, &["route", place, "default", "dev", interface]);
        run_ip(
            &self.home,
            &["route", "replace", "default", "dev", interface, "table", line.table()],
        );
    }

    fn unplug(&self, line: Line) {
        self.show(&format!("{line:?} is unplugged"));
        run_ip(&self.home, &["link", "set", line.interface(), "down"]);
    }

    fn switches(&self) -> usize {
        let requests = self.bench.emulator.requests();
        let is_switch = |path: &str| path.starts_with("/rest/ip/firewall/mangle/");
        requests.iter().filter(|r| r.method == "PATCH" && is_switch(&r.path)).count()
    }
}

fn run_ip(namespace: &Namespace, arguments: &[&str]) {
    namespace.ip(arguments).expect("ip works");
}

/// A router at the usual latency, with the queues of both lines and the steering rule, off.
fn emulator(home: &Namespace) -> Emulator {
    let rule = properties_of(&[
        ("action", "mark-connection"),
        ("chain", "prerouting"),
        ("comment", COMMENT),
        ("connection-state", "new"),
        ("disabled", "true"),
        ("new-connection-mark", "via-dsl"),
        ("passthrough", "yes"),
    ]);
    let router = RouterOptions::default()
        .with_queue("DSL-Download", "ether3", "cake-down", 50_000_000)
        .with_queue("DSL-Upload", "ether2", "cake-up", 10_000_000)
        .with_users(vec![User::full(USER, PASSWORD)]);
    let milliseconds = std::time::Duration::from_millis;
    let latency = Latency { read: milliseconds(6), write: milliseconds(20) };
    let options = EmulatorOptions { router, latency, ..Default::default() };
    let listener = home.run(|| TcpListener::bind("127.0.0.1:0")).expect("the namespace is ours");
    let emulator = Emulator::start_on(&options, None, Some(listener.expect("a free port")));
    let emulator = emulator.expect("the emulator starts");
    emulator.with_router(|router| router.insert_unchecked(MenuName::Mangle, rule));
    emulator
}

/// Times short enough to wait for.
const STEERING: &str = r#"
rules = { dsl = "wanctl: latency to dsl" }
on-after = "1s"
off-after = "1s"
hold-down = "1s"
delay-time-constant = "100ms"
thresholds = { severe-delay = "15ms" }
"#;

#[test]
fn new_flows_leave_a_bad_primary_and_return_and_a_flapping_line_is_braked() {
    let name = "new_flows_leave_a_bad_primary_and_return_and_a_flapping_line_is_braked";
    if !usable_or_skip(name) {
        return;
    }
    let guard = "flap-guard = { window = \"1h\", max-changes = 2, penalty = \"1h\" }\n";
    let mut home = Home::new(&format!("{STEERING}{guard}"));
    let mut first = home.open_flow();
    assert_eq!(first.line, Cable);

    home.set_capacity(Cable, SLOW_BPS);
    home.wait_for_rule(true);
    home.wait_for("traffic to dsl, RED for too long; primary RED delay +");
    home.wait_for("the router sends traffic to dsl after");
    let mut second = home.open_flow();
    assert_eq!(second.line, Dsl, "a new flow goes the other way");
    second.works();

    home.set_capacity(Cable, FAST_BPS);
    home.wait_for_rule(false);
    home.wait_for("traffic back from dsl, GREEN for long enough; primary GREEN");
    let third = home.open_flow();
    assert_eq!(third.line, Cable, "new flows return");
    first.works();
    second.works();

    // Once more is flapping: it is carried out, and the next one is not.
    home.set_capacity(Cable, SLOW_BPS);
    home.wait_for_rule(true);
    home.wait_for("WARN steering: back and forth too often, held for 3600 s");
    home.set_capacity(Cable, FAST_BPS);
    home.wait_for_rule(false);
    home.wait_for("traffic back from dsl, GREEN for long enough");
    let switches = home.switches();
    home.set_capacity(Cable, SLOW_BPS);
    // RED for three times as long as it took before.
    for _ in 0..4 {
        home.wait_for("; steering to the primary, cable RED");
    }
    assert_eq!(home.switches(), switches, "the flapping line is braked");
    home.daemon.terminate().expect(0, &["steering is off"]);
}

#[test]
fn unplugged_lines_lead_through_the_lifecycle_and_back() {
    if !usable_or_skip("unplugged_lines_lead_through_the_lifecycle_and_back") {
        return;
    }
    let mut home = Home::new(STEERING);
    home.unplug(Cable);
    home.wait_for("cable: link LIVE -> RESET, the interface is down");
    home.wait_for_rule(true);
    assert_eq!(home.open_flow().line, Dsl);
    home.plug_in(Cable);
    home.wait_for_rule(false);
    home.wait_for_all(&["cable: link WARM -> LIVE", "traffic back from dsl"]);

    home.show("Cable gets another address");
    let (old, new) = (Cable.address().to_string(), CABLE_LATER.to_string());
    run_ip(&home.home, &["addr", "del", &old, "peer", "10.77.0.1", "dev", "wan0"]);
    run_ip(&home.home, &["addr", "add", &new, "peer", "10.77.0.1", "dev", "wan0"]);
    home.add_routes(Cable);
    home.wait_for("address=10.77.0.3 changed=true");
    home.wait_for("cable: link WARM -> LIVE");
    home.wait_for_rule(false);
    assert_eq!(home.open_flow().line, Cable);

    // Both at once: nowhere to go, and nothing is lost but time.
    for line in Line::BOTH {
        home.unplug(line);
    }
    home.wait_for_all(&[
        "cable: link LIVE -> RESET, the inter",
        "dsl: link LIVE -> RESET, the inter",
    ]);
    for line in Line::BOTH {
        home.plug_in(line);
    }
    home.wait_for_all(&["cable: link WARM -> LIVE", "dsl: link WARM -> LIVE"]);
    home.daemon.terminate().expect(0, &["steering is off"]);
}
