//! Random numbers and random valid configurations, repeatable from a seed.

use embassy_time::Duration;
use wanctl_core::config::{
    BlindConfig, BlindMode, Checks, ClassicConfig, Config, LawConfig, Quirks, ShaperConfig,
    WanConfig, WriteLimit, ZoneFloors,
};
use wanctl_core::example;
use wanctl_core::fixed::Ratio;
use wanctl_core::steering::{ConfidenceConfig, SteeringConfig, SteeringQuirks};
use wanctl_core::units::{BitsPerSecond, PerDirection, TimeConstant, WanId};

/// The splitmix64 generator.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns 64 random bits.
    pub(crate) const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number from `low` to `high`, both included.
    pub(crate) const fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.bits() % (high - low + 1)
    }

    /// Returns true once in `n` times.
    pub(crate) const fn once_in(&mut self, n: u64) -> bool {
        self.range(1, n) == 1
    }

    /// Returns one of the choices.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let last = u64::try_from(choices.len() - 1).expect("few choices");
        choices[usize::try_from(self.range(0, last)).expect("few choices")]
    }
}

/// The figures of a shaper as the text of the reference has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShaperFigures {
    pub(crate) green: u64,
    pub(crate) yellow: u64,
    pub(crate) soft_red: u64,
    pub(crate) red: u64,
    pub(crate) ceiling: u64,
    pub(crate) step_up: u64,
    pub(crate) factor_down_ppm: u32,
    pub(crate) factor_down_yellow_ppm: u32,
}

impl ShaperFigures {
    /// Makes valid figures of any size between 1 Mbit/s and 2 Gbit/s.
    pub(crate) fn random(random: &mut Random) -> Self {
        let ceiling = random.range(1_000_000, 2_000_000_000);
        let green = random.range(ceiling / 4, ceiling);
        let yellow = random.range(green / 2, green);
        let soft_red = random.range(yellow / 2, yellow);
        let red = random.range(soft_red / 2, soft_red).max(1);
        let ppm = |random: &mut Random, low| {
            u32::try_from(random.range(low, 990_000)).expect("below a million")
        };
        Self {
            green,
            yellow,
            soft_red,
            red,
            ceiling,
            step_up: random.range(1, ceiling / 20),
            factor_down_ppm: ppm(random, 500_000),
            factor_down_yellow_ppm: if random.once_in(3) {
                1_000_000
            } else {
                ppm(random, 900_000)
            },
        }
    }

    /// Returns them as the core wants them.
    pub(crate) fn config(&self) -> ShaperConfig {
        let rate = BitsPerSecond::new;
        ShaperConfig {
            floors: ZoneFloors {
                green: rate(self.green),
                yellow: rate(self.yellow),
                soft_red: rate(self.soft_red),
                red: rate(self.red),
            },
            ceiling: rate(self.ceiling),
            step_up: rate(self.step_up),
            factor_down: Ratio::from_ppm(self.factor_down_ppm),
            factor_down_yellow: Ratio::from_ppm(self.factor_down_yellow_ppm),
        }
    }
}

fn checks(random: &mut Random) -> Checks {
    if random.once_in(2) {
        return Checks::Given;
    }
    Checks::Asked {
        gateway: random.once_in(2),
        tcp_targets: u8::try_from(random.range(0, 3)).expect("at most 3"),
        every: Duration::from_millis(random.range(0, 10_000)),
    }
}

/// Makes a valid configuration of a WAN.
pub(crate) fn wan_config(random: &mut Random, quirks: Quirks) -> WanConfig {
    let target = random.range(1000, 30_000);
    let warn = target + random.range(1, 40_000);
    let hard_red = warn + random.range(1, 60_000);
    let baseline_min = random.range(1000, 30_000);
    let baseline_max = baseline_min + random.range(0, 60_000);
    let initial = random.range(baseline_min, baseline_max);
    let micros = Duration::from_micros;
    let mode = random.pick(&[BlindMode::Graceful, BlindMode::Freeze, BlindMode::UseLastRtt]);
    let writes = if random.once_in(4) { 64 } else { random.range(1, 30) };
    let shapers = PerDirection {
        download: ShaperFigures::random(random).config(),
        upload: ShaperFigures::random(random).config(),
    };
    let classic = ClassicConfig {
        target_delay: micros(target),
        warn_delay: micros(warn),
        hard_red_delay: micros(hard_red),
        load_time_constant: TimeConstant::from_millis(random.range(1, 1000)),
        baseline_time_constant: TimeConstant::from_millis(random.range(1, 100_000)),
        baseline_initial: random.once_in(2).then_some(micros(initial)),
        baseline_min: micros(baseline_min),
        baseline_max: micros(baseline_max),
        baseline_freeze_delay: micros(random.range(500, target)),
        baseline_freeze_max: Duration::from_millis(random.range(1, 20_000)),
        green_hold: Duration::from_millis(random.range(0, 1000)),
        soft_red_confirm: Duration::from_millis(random.range(0, 500)),
        blind: BlindConfig {
            mode,
            after: Duration::from_millis(random.range(0, 1000)),
            limit: Duration::from_millis(random.range(0, 1000)),
            checks: checks(random),
        },
        write_limit: WriteLimit {
            writes: u8::try_from(writes).expect("at most 64"),
            window: Duration::from_millis(random.range(1, 60_000)),
        },
        quirks,
    };
    let reflectors = u8::try_from(random.range(1, 3)).expect("at most 3");
    let link = random.once_in(2).then(example::link);
    let law = match random.once_in(2) && quirks == Quirks::default() {
        true => LawConfig::Adaptive(example::adaptive()),
        false => LawConfig::Classic,
    };
    WanConfig { reflectors, shapers, link, classic, law }
}

/// Makes a valid configuration of some WANs.
pub(crate) fn config(random: &mut Random, wan_count: usize, quirks: Quirks) -> Config {
    let tick = Duration::from_micros(random.pick(&[10_000, 20_000, 50_000, 50_000, 1_000_000]));
    let wans = (0..wan_count).map(|_| wan_config(random, quirks)).collect();
    let steering = (wan_count > 1).then(|| steering_config(random, wan_count, tick, quirks));
    Config { tick, wans, steering }
}

/// Makes a valid steering configuration with times short enough to come true.
fn steering_config(
    random: &mut Random,
    wan_count: usize,
    tick: Duration,
    quirks: Quirks,
) -> SteeringConfig {
    let ids: Vec<WanId> = (0..4).take(wan_count).map(WanId).collect();
    let mut steering = SteeringConfig::new(&ids, tick);
    let ticks =
        |random: &mut Random, most| tick * u32::try_from(random.range(0, most)).expect("few");
    steering.on_after = ticks(random, 10);
    steering.off_after = ticks(random, 10);
    steering.hold_down = ticks(random, 100);
    steering.dry_run = random.once_in(8);
    steering.thresholds.red_delay = Duration::from_millis(random.range(15, 60));
    if random.once_in(4) {
        steering.flap_guard = None;
    } else if let Some(guard) = &mut steering.flap_guard {
        guard.penalty = ticks(random, 50);
    }
    steering.confidence = random.once_in(2).then(|| ConfidenceConfig {
        steer_score: 15,
        recovery_score: 10,
        sustain: ticks(random, 5),
        recovery_sustain: ticks(random, 5),
        dry_run: random.once_in(2),
    });
    if quirks == Quirks::REFERENCE {
        steering.quirks = SteeringQuirks::REFERENCE;
    }
    steering
}
