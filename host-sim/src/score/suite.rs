//! The default suite.

use wanctl_core::units::PerDirection;

use super::scenario::{
    CapacitySpec, Limits, LineSpec, PathSpec, Phase, Purpose, Scenario, StepSpec, TrafficSpec,
    WanderSpec,
};

const MBPS: u64 = 1_000_000;
/// Traffic begins here, so that a law can learn its baselines first.
const LOAD_FROM_MS: u64 = 2_000;
/// Scoring begins here.
const WARM_UP_S: u64 = 10;

/// Returns the scenarios of the default suite.
#[must_use]
pub fn default_suite() -> Vec<Scenario> {
    let mut suite = wired();
    suite.extend(wireless());
    suite.extend(mixed());
    suite.extend(steps());
    suite.extend(long_suite());
    suite
}

/// Returns the long scenarios: a day without load each.
#[must_use]
pub fn long_suite() -> Vec<Scenario> {
    let day = 86_400;
    let idle = |name: &str, path: PathSpec| {
        let mut scenario = load(name, fixed(100), fixed(20), path);
        scenario.purpose = Purpose::Idle;
        scenario.seconds = day;
        scenario.lines.download.traffic = chatter();
        scenario.lines.upload.traffic = chatter();
        scenario
    };
    let mut call = idle("idle-call", docsis_path());
    call.lines.download.traffic.constant_bps = 3 * MBPS;
    call.lines.upload.traffic.constant_bps = 3 * MBPS;
    vec![
        idle("idle-fibre", quiet_path(8)),
        idle("idle-noise", noisy_path()),
        call,
        idle("idle-docsis", docsis_path()),
        idle("idle-lte", lte_path()),
        idle("idle-starlink", starlink_path()),
    ]
}

/// Returns the bench the rivals were measured on: a real CAKE, 20 ms, 1000 kB of FIFO, two flows
/// each way, the bottleneck at 50/20, then 15/6, then 40/16 Mbit/s for 20 s each.
#[must_use]
pub fn rig_suite() -> Vec<Scenario> {
    let way = |floor, base, ceiling, rates: [u64; 3]| LineSpec {
        capacity: CapacitySpec::Steps(
            [0, 20_000, 40_000].into_iter().zip(rates.map(|rate| rate * MBPS)).collect(),
        ),
        fifo_bytes: 1_000_000,
        limits: Limits { base: Some(base * MBPS), ..Limits::new(floor * MBPS, ceiling * MBPS) },
        traffic: TrafficSpec { flows: 2, ..TrafficSpec::default() },
        active: None,
    };
    // Offloads are off there: every second packet is acknowledged.
    let path =
        PathSpec { base_rtt_us: 20_000, jitter_us: 50, packets_per_ack: 2, ..PathSpec::default() };
    // The first two seconds of a phase are left out, but not of the whole.
    let phase = |name, from_ms, to_ms| Phase { name, from_ms, to_ms };
    let phases = vec![
        phase("50/20", 2_000, 20_000),
        phase("15/6", 22_000, 40_000),
        phase("40/16", 42_000, 60_000),
        phase("ALL", 0, 60_000),
    ];
    let dual = Scenario {
        name: "rig-dual".to_owned(),
        purpose: Purpose::Load,
        seconds: 60,
        warm_up_s: 2,
        lines: PerDirection {
            download: way(5, 20, 60, [50, 15, 40]),
            upload: way(2, 8, 25, [20, 6, 16]),
        },
        path,
        phases,
    };
    let mut down = Scenario { name: "rig-download".to_owned(), ..dual.clone() };
    down.lines.upload.traffic = TrafficSpec::default();
    vec![dual, down]
}

/// Returns lines on which pings overtake the queues: nothing but counters tells that TCP waits.
#[must_use]
pub fn blind_suite() -> Vec<Scenario> {
    let blind = |path| PathSpec { is_blind: true, ..path };
    vec![
        load(
            "blind-lte",
            wander(60, 28, 450, 1_500).flows(4).buffer(600).floor(10),
            wander(20, 10, 350, 2_500).buffer(1000).floor(10),
            blind(lte_path()),
        ),
        load(
            "blind-lte-upload",
            wander(60, 28, 450, 1_500).buffer(600).floor(10),
            wander(20, 10, 450, 1_500).flows(3).buffer(1000).floor(10),
            blind(lte_path()),
        ),
        load(
            "blind-starlink",
            wander(220, 130, 280, 2_500).flows(8).buffer(250).floor(10),
            wander(25, 15, 280, 2_500).flows(2).buffer(400).floor(10),
            blind(starlink_path()),
        ),
    ]
}

/// A direction with a plan's rate and what it can really carry.
struct Way {
    plan: u64,
    capacity: CapacitySpec,
    /// The provider's buffer, in ms at the plan's rate.
    buffer_ms: u64,
    floor_per_cent: u64,
    traffic: TrafficSpec,
}

fn fixed(plan_mbps: u64) -> Way {
    Way {
        plan: plan_mbps * MBPS,
        capacity: CapacitySpec::Constant(plan_mbps * MBPS),
        buffer_ms: 250,
        floor_per_cent: 15,
        traffic: TrafficSpec::default(),
    }
}

fn wander(plan_mbps: u64, mean_mbps: u64, sigma_permille: u64, tau_ms: u64) -> Way {
    let plan = plan_mbps * MBPS;
    let spec = WanderSpec {
        mean: mean_mbps * MBPS,
        sigma_permille,
        tau_ms,
        min: plan / 5,
        max: plan,
        redraw_ms: 0,
        outage_every_ms: 0,
        outage_ms: 0,
        flutter_permille: 50,
    };
    Way { capacity: CapacitySpec::Wander(spec), ..fixed(plan_mbps) }
}

impl Way {
    fn flows(mut self, flows: u32) -> Self {
        self.traffic = TrafficSpec { flows, from_ms: LOAD_FROM_MS, ..self.traffic };
        self
    }

    fn bursts(mut self, flows: u32, on_ms: u64, off_ms: u64) -> Self {
        self.traffic = TrafficSpec { flows, from_ms: LOAD_FROM_MS, on_ms, off_ms, ..self.traffic };
        self
    }

    fn call(mut self) -> Self {
        self.traffic.constant_bps = 3 * MBPS;
        self
    }

    fn buffer(mut self, millis: u64) -> Self {
        self.buffer_ms = millis;
        self
    }

    fn floor(mut self, per_cent: u64) -> Self {
        self.floor_per_cent = per_cent;
        self
    }

    fn capacity(mut self, capacity: CapacitySpec) -> Self {
        self.capacity = capacity;
        self
    }

    fn change(mut self, change: impl FnOnce(&mut WanderSpec)) -> Self {
        if let CapacitySpec::Wander(spec) = &mut self.capacity {
            change(spec);
        }
        self
    }

    fn spec(self) -> LineSpec {
        LineSpec {
            capacity: self.capacity,
            fifo_bytes: self.plan / 8 * self.buffer_ms / 1000,
            limits: Limits::new(self.plan * self.floor_per_cent / 100, self.plan),
            traffic: self.traffic,
            active: None,
        }
    }
}

fn chatter() -> TrafficSpec {
    TrafficSpec { constant_bps: 100_000, ..TrafficSpec::default() }
}

fn load(name: &str, download: Way, upload: Way, path: PathSpec) -> Scenario {
    Scenario {
        name: name.to_owned(),
        purpose: Purpose::Load,
        seconds: 90,
        warm_up_s: WARM_UP_S,
        lines: PerDirection { download: download.spec(), upload: upload.spec() },
        path,
        phases: Vec::new(),
    }
}

pub(super) fn quiet_path(base_ms: u64) -> PathSpec {
    PathSpec {
        base_rtt_us: base_ms * 1000,
        extra_us: [0, 3_000, 9_000],
        jitter_us: 400,
        spike_ppm: 3_000,
        spike_us: 15_000,
        loss_ppm: 500,
        ..PathSpec::default()
    }
}

pub(super) fn docsis_path() -> PathSpec {
    PathSpec {
        jitter_us: 800,
        common_jitter_us: 4_000,
        common_spike_ppm: 3_000,
        spike_ppm: 10_000,
        spike_us: 15_000,
        ..quiet_path(22)
    }
}

/// Innocent noise: spikes of single and of all replies, loss, and routes that change for good.
fn noisy_path() -> PathSpec {
    let hour = 3_600_000;
    PathSpec {
        common_spike_ppm: 10_000,
        spike_ppm: 30_000,
        spike_us: 40_000,
        loss_ppm: 10_000,
        route_changes: vec![
            (2 * hour, 12_000),
            (5 * hour, -7_000),
            (9 * hour, 25_000),
            (15 * hour, -30_000),
            (20 * hour, 5_000),
        ],
        ..quiet_path(20)
    }
}

pub(super) fn lte_path() -> PathSpec {
    PathSpec {
        jitter_us: 3_000,
        common_jitter_us: 4_000,
        common_spike_ppm: 4_000,
        spike_ppm: 10_000,
        spike_us: 30_000,
        loss_ppm: 2_000,
        ..quiet_path(42)
    }
}

pub(super) fn starlink_path() -> PathSpec {
    PathSpec {
        jitter_us: 2_000,
        common_jitter_us: 3_000,
        common_spike_ppm: 3_000,
        spike_ppm: 10_000,
        spike_us: 25_000,
        loss_ppm: 4_000,
        hop_every_ms: 15_000,
        hop_us: 8_000,
        ..quiet_path(32)
    }
}

fn wired() -> Vec<Scenario> {
    vec![
        load("dsl", wander(50, 44, 50, 5_000).flows(4), fixed(10), quiet_path(18)),
        load(
            "docsis",
            wander(940, 600, 250, 4_000).flows(16).buffer(150),
            fixed(38).buffer(400),
            docsis_path(),
        ),
        load(
            "docsis-upload",
            fixed(940),
            wander(38, 30, 150, 4_000).flows(4).buffer(600),
            docsis_path(),
        ),
        load(
            "fibre",
            wander(940, 900, 40, 8_000).flows(8).buffer(60),
            fixed(940).buffer(60),
            quiet_path(8),
        ),
        load(
            "evening",
            fixed(250).flows(6).capacity(CapacitySpec::Ramps(vec![
                (0, 240 * MBPS),
                (20_000, 240 * MBPS),
                (45_000, 80 * MBPS),
                (60_000, 80 * MBPS),
                (85_000, 230 * MBPS),
            ])),
            fixed(40),
            docsis_path(),
        ),
    ]
}

/// Spreads and time constants are near those of the recorded LTE drives in Mahimahi's collection:
/// the tenth and ninetieth percentile of a second are a third and twice the mean.
fn wireless() -> Vec<Scenario> {
    let starlink = |spec: &mut WanderSpec| (spec.redraw_ms, spec.flutter_permille) = (15_000, 150);
    vec![
        load(
            "lte",
            wander(60, 28, 450, 1_500).flows(4).buffer(600).floor(10).change(|spec| {
                (spec.outage_every_ms, spec.outage_ms, spec.min) = (40_000, 500, 6 * MBPS);
                spec.flutter_permille = 300;
            }),
            wander(20, 10, 350, 2_500).buffer(1000).floor(10),
            lte_path(),
        ),
        load(
            "lte-drive",
            wander(50, 18, 650, 1_200).flows(3).buffer(800).floor(10).change(|spec| {
                (spec.outage_every_ms, spec.outage_ms, spec.min) = (25_000, 700, 2 * MBPS);
                spec.flutter_permille = 400;
            }),
            wander(20, 8, 500, 1_500).buffer(1000).floor(10),
            lte_path(),
        ),
        load(
            "lte-upload",
            wander(60, 28, 450, 1_500).buffer(600).floor(10),
            wander(20, 10, 450, 1_500).flows(3).buffer(1000).floor(10).change(|spec| {
                (spec.min, spec.flutter_permille) = (2 * MBPS, 300);
            }),
            lte_path(),
        ),
        load(
            "5g",
            wander(500, 260, 450, 1_000).flows(12).buffer(200).floor(10).change(|spec| {
                (spec.min, spec.flutter_permille) = (50 * MBPS, 250);
            }),
            wander(60, 35, 300, 1_500).buffer(400).floor(10),
            PathSpec { base_rtt_us: 24_000, ..lte_path() },
        ),
        load(
            "starlink",
            wander(220, 130, 280, 2_500).flows(8).buffer(250).floor(10).change(starlink),
            wander(25, 15, 280, 2_500).buffer(400).floor(10).change(starlink),
            starlink_path(),
        ),
        load(
            "wifi-markov",
            fixed(120).flows(4).buffer(200).capacity(CapacitySpec::Markov {
                high: 110 * MBPS,
                low: 45 * MBPS,
                high_ms: 5_000,
                low_ms: 4_000,
            }),
            fixed(40),
            quiet_path(15),
        ),
    ]
}

fn mixed() -> Vec<Scenario> {
    vec![
        load(
            "asymmetric-upload",
            fixed(100).bursts(3, 2_000, 5_000),
            wander(10, 8, 120, 5_000).flows(3).buffer(800),
            quiet_path(20),
        ),
        load(
            "dual",
            wander(100, 80, 120, 6_000).flows(4),
            wander(20, 16, 120, 6_000).flows(4).buffer(500),
            quiet_path(20),
        ),
        load(
            "web",
            wander(50, 40, 150, 5_000).bursts(6, 2_500, 3_000),
            fixed(10).bursts(1, 800, 6_000),
            quiet_path(20),
        ),
        load(
            "swarm",
            wander(100, 75, 250, 2_500).flows(32).buffer(400),
            wander(20, 16, 200, 3_000).flows(6).buffer(600),
            quiet_path(30),
        ),
        load(
            "call",
            wander(60, 45, 200, 4_000).flows(4).call(),
            wander(12, 9, 100, 5_000).call(),
            quiet_path(25),
        ),
    ]
}

fn steps() -> Vec<Scenario> {
    let step = |name: &str, from: u64, to: u64| {
        let steps = CapacitySpec::Steps(vec![(0, from * MBPS), (30_000, to * MBPS)]);
        let mut scenario =
            load(name, fixed(100).flows(4).capacity(steps), fixed(20), quiet_path(20));
        scenario.purpose =
            Purpose::Step(StepSpec { at_ms: 30_000, window_ms: 10_000, down: to < from });
        scenario.seconds = 60;
        scenario
    };
    vec![step("step-down", 95, 47), step("step-up", 47, 95)]
}
