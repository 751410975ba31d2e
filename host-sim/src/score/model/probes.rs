//! Probes: what a ping meets on the way to a reflector and back.

use std::collections::VecDeque;

use wanctl_core::tick::{ProbeLoss, RttSample, Tick};
use wanctl_core::units::{PerDirection, ReflectorId, RelativeOwd, RttNanos, WanId};

use crate::score::rng::Rng;
use crate::score::scenario::PathSpec;

/// An answer later than this is a loss, as in the shell.
pub const TIMEOUT_US: u64 = 1_000_000;
/// Reflectors per line.
pub const REFLECTORS: u8 = 3;

#[derive(Debug, Clone, Copy)]
struct Probe {
    sent_us: u64,
    reflector: u8,
    /// Everything but the queues.
    path_us: u64,
    upload_us: u64,
    download_us: u64,
    arrives_us: Option<u64>,
    is_lost: bool,
    is_told: bool,
}

/// The probes under way.
#[derive(Debug, Clone)]
pub struct Probes {
    path: PathSpec,
    noise: Rng,
    hops: Rng,
    first: u64,
    probes: VecDeque<Probe>,
    /// Answers of one tick with their arrival times.
    answers: Vec<(u64, Probe)>,
    one_way: Vec<PerDirection<u64>>,
    /// How far the clocks of the reflectors are ahead at the beginning, in µs.
    clocks_us: [i64; 3],
}

/// What a host gains on ours in a million µs; crystals are within 50.
const DRIFT_PPM: i64 = 20;
/// The most a clock is wrong at the beginning, in µs.
const CLOCK_US: u64 = 500_000;

impl Probes {
    /// Makes a path without probes.
    #[must_use]
    pub fn new(path: &PathSpec, seed: u64) -> Self {
        Self {
            path: path.clone(),
            noise: Rng::new(seed, 0x0070_726f_6265),
            hops: Rng::new(seed, 0x0068_6f70),
            first: 0,
            probes: VecDeque::with_capacity(256),
            answers: Vec::with_capacity(256),
            one_way: Vec::with_capacity(256),
            clocks_us: {
                let clocks = Rng::new(seed, 0x636c_6f63);
                [0, 1, 2].map(|reflector| {
                    let ahead_us = clocks.at(reflector).below(2 * CLOCK_US + 1);
                    ahead_us as i64 - CLOCK_US as i64
                })
            },
        }
    }

    /// What a reflector tells with its answer: when it was reached, in whole milliseconds of its own
    /// clock, less when the probe left.
    fn upload_owd(&self, probe: &Probe, upload_us: u64) -> Option<RelativeOwd> {
        let reached_us = (probe.sent_us + upload_us) as i64;
        let clock_us = self.clocks_us[usize::from(probe.reflector) % 3];
        let read_us = reached_us + clock_us + reached_us * DRIFT_PPM / 1_000_000;
        let read_us = read_us.div_euclid(1000) * 1000;
        let tells = probe.reflector + self.path.stamping >= REFLECTORS;
        RelativeOwd::from_micros(read_us - probe.sent_us as i64).filter(|_| tells)
    }

    /// Returns the round trip of the empty line without noise, in µs; flows have it as well.
    #[must_use]
    pub fn base_us(&self, now_us: u64) -> u64 {
        let ms = now_us / 1000;
        let moved: i64 =
            self.path.route_changes.iter().filter(|change| change.0 <= ms).map(|c| c.1).sum();
        let hop = match ms.checked_div(self.path.hop_every_ms) {
            Some(index) => self.hops.at(index).below(self.path.hop_us),
            None => 0,
        };
        (self.path.base_rtt_us + hop).saturating_add_signed(moved).max(1_000)
    }

    /// Sends a probe in a tick; returns its number.
    pub fn send(&mut self, now_us: u64, tick: u64, reflector: u8) -> u64 {
        let path = &self.path;
        let mut noise = self.noise.at(tick * 4 + u64::from(reflector) + 1);
        let mut common = self.noise.at(tick * 4);
        let mut path_us = self.base_us(now_us) + path.extra_us[usize::from(reflector) % 3];
        path_us += noise.gamma2(path.jitter_us) + common.gamma2(path.common_jitter_us);
        if noise.chance(path.spike_ppm) {
            path_us += noise.exponential(path.spike_us);
        }
        if common.chance(path.common_spike_ppm) {
            path_us += common.exponential(path.spike_us);
        }
        let is_lost = noise.chance(path.loss_ppm);
        let probe = Probe {
            sent_us: now_us,
            reflector,
            path_us,
            upload_us: 0,
            download_us: 0,
            arrives_us: None,
            is_lost,
            is_told: false,
        };
        self.probes.push_back(probe);
        self.first + self.probes.len() as u64 - 1
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Probe> {
        self.probes.get_mut(number.checked_sub(self.first)? as usize)
    }

    /// Notes that a probe was dropped on its way.
    pub fn lose(&mut self, number: u64) {
        if let Some(probe) = self.get_mut(number) {
            probe.is_lost = true;
        }
    }

    /// Notes that a probe has left the upload's queue.
    pub fn pass_upload(&mut self, number: u64, waited_us: u64) {
        if let Some(probe) = self.get_mut(number) {
            probe.upload_us = waited_us;
        }
    }

    /// Notes that a probe has left the download's queue as well.
    pub fn pass_download(&mut self, number: u64, waited_us: u64) {
        if let Some(probe) = self.get_mut(number) {
            probe.download_us = waited_us;
            let queues_us = probe.upload_us + waited_us;
            probe.arrives_us = Some(probe.sent_us + probe.path_us + queues_us);
        }
    }

    /// Returns the one-way delays of the answers of the last report, in µs and in their order:
    /// half of the path and the queue of the direction.
    #[must_use]
    pub fn one_way(&self) -> &[PerDirection<u64>] {
        &self.one_way
    }

    /// Tells a tick what has been answered and what was given up.
    pub fn report(&mut self, now_us: u64, tick: &mut Tick) {
        let wan = WanId(0);
        self.answers.clear();
        for probe in self.probes.iter_mut().filter(|probe| !probe.is_told) {
            let reflector = ReflectorId(probe.reflector);
            let arrived = probe.arrives_us.filter(|_| !probe.is_lost);
            let arrived = arrived.filter(|at| at - probe.sent_us < TIMEOUT_US);
            match arrived {
                Some(at) if at <= now_us => {
                    probe.is_told = true;
                    self.answers.push((at, *probe));
                }
                None if now_us >= probe.sent_us + TIMEOUT_US => {
                    probe.is_told = true;
                    tick.push_loss(ProbeLoss { wan, reflector });
                }
                Some(_) | None => {}
            }
        }
        self.answers.sort_by_key(|&(at, _)| at);
        self.one_way.clear();
        for &(at, probe) in &self.answers {
            let upload_us = probe.path_us.div_ceil(2) + probe.upload_us;
            let download_us = probe.path_us / 2 + probe.download_us;
            self.one_way.push(PerDirection { download: download_us, upload: upload_us });
            tick.push_sample(RttSample {
                wan,
                reflector: ReflectorId(probe.reflector),
                rtt: RttNanos::from_micros(at - probe.sent_us),
                age_us: u32::try_from(now_us - at).unwrap_or(u32::MAX),
                upload_owd: self.upload_owd(&probe, upload_us),
            });
        }
        while self.probes.front().is_some_and(|probe| probe.is_told) {
            self.probes.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use embassy_time::Instant;

    use super::*;

    /// Returns what the three reflectors tell of a probe that waits for this long on its way up and down.
    fn told(path: &PathSpec, seed: u64, upload_us: u64, download_us: u64) -> [Option<i32>; 3] {
        let mut probes = Probes::new(path, seed);
        for reflector in 0..REFLECTORS {
            let number = probes.send(0, 0, reflector);
            probes.pass_upload(number, upload_us);
            probes.pass_download(number, download_us);
        }
        let mut tick = Tick::new(Instant::from_micros(500_000));
        probes.report(500_000, &mut tick);
        let mut told = [None; 3];
        for sample in &tick.samples {
            let reflector = usize::from(sample.reflector.0);
            told[reflector] = sample.upload_owd.map(RelativeOwd::as_micros);
        }
        told
    }

    #[test]
    fn the_farthest_reflectors_tell_the_rise_of_the_upload_alone() {
        let path = PathSpec { base_rtt_us: 20_000, stamping: 2, ..PathSpec::default() };
        for seed in 1..20 {
            let quiet = told(&path, seed, 0, 0);
            assert!(quiet[0].is_none() && quiet[1] != quiet[2], "{quiet:?}");
            assert_eq!(told(&path, seed, 0, 40_000), quiet);
            let queued = told(&path, seed, 30_000, 0);
            for (queued, quiet) in queued.iter().zip(quiet).skip(1) {
                let risen_us = queued.unwrap() - quiet.unwrap();
                assert!((29_000..=31_000).contains(&risen_us), "{risen_us}");
            }
        }
        let none = PathSpec { stamping: 0, ..path };
        assert_eq!(told(&none, 1, 0, 0), [None; 3]);
    }
}
