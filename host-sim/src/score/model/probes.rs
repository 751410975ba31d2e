//! Probes: what a ping meets on the way to a reflector and back.

use std::collections::VecDeque;

use wanctl_core::tick::{ProbeLoss, RttSample, Tick};
use wanctl_core::units::{PerDirection, ReflectorId, RttNanos, WanId};

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
}

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
        }
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
            self.one_way.push(PerDirection {
                download: probe.path_us / 2 + probe.download_us,
                upload: probe.path_us.div_ceil(2) + probe.upload_us,
            });
            tick.push_sample(RttSample {
                wan,
                reflector: ReflectorId(probe.reflector),
                rtt: RttNanos::from_micros(at - probe.sent_us),
                age_us: u32::try_from(now_us - at).unwrap_or(u32::MAX),
                upload_owd: None,
            });
        }
        while self.probes.front().is_some_and(|probe| probe.is_told) {
            self.probes.pop_front();
            self.first += 1;
        }
    }
}
