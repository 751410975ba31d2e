//! What one tick says about the line: samples of several reflectors and losses become one piece of
//! evidence.

use embassy_time::Instant;

use super::Wan;
use crate::fixed::MicrosQ32;
use crate::outputs::{Event, Outputs, SampleRejection};
use crate::tick::{MAX_REFLECTORS, ProbeLoss, RttSample, SAMPLE_AGE_MAX, Tick};
use crate::units::ReflectorId;

/// What one tick says about the line.
pub(super) enum Evidence {
    /// At least one reflector answered.
    Sample(MicrosQ32),
    /// Probes ended, and all of them were lost.
    Lost { connected: bool },
    /// Nothing came in: probes are still on their way.
    Nothing,
}

impl Wan {
    /// Forgets what was learned about reflectors that were replaced. The classic filters follow the
    /// middle of all reflectors: only a single one is their whole path.
    fn replace_reflectors(&mut self, tick: &Tick) {
        for replaced in tick.replaced.iter().filter(|replaced| replaced.wan == self.id) {
            if let Some(law) = self.adaptive.first_mut() {
                law.replace(replaced.reflector);
            }
            if self.reflectors == 1 && replaced.reflector == ReflectorId(0) {
                self.estimate.forget();
            }
        }
    }

    pub(super) fn gather(&mut self, tick: &Tick, now: Instant, out: &mut Outputs) -> Evidence {
        self.replace_reflectors(tick);
        let mut latest: [Option<MicrosQ32>; MAX_REFLECTORS] = [None; MAX_REFLECTORS];
        let (mut has_rejected, mut accepted) = (false, 0_usize);
        for sample in tick.samples.iter().filter(|sample| sample.wan == self.id) {
            match self.accept(sample) {
                Ok(()) => {
                    if let Some(law) = self.adaptive.first_mut() {
                        law.answer(sample, now);
                    }
                    accepted = accepted.saturating_add(1);
                    self.counters.samples = self.counters.samples.saturating_add(1);
                    if let Some(slot) = latest.get_mut(usize::from(sample.reflector.0)) {
                        *slot = Some(sample.rtt.into());
                    }
                }
                Err(_) if has_rejected => {}
                Err(why) => {
                    has_rejected = true;
                    let reflector = sample.reflector;
                    out.tell(Event::SampleRejected { wan: self.id, reflector, why });
                }
            }
        }
        let is_ours = |loss: &&ProbeLoss| loss.wan == self.id && loss.reflector.0 < self.reflectors;
        let lost = tick.losses.iter().filter(is_ours).count();
        let answered = u32::try_from(accepted).unwrap_or(u32::MAX);
        self.quality.probes(answered, u32::try_from(lost).unwrap_or(u32::MAX));
        let losses = u64::try_from(lost).unwrap_or(u64::MAX);
        self.counters.losses = self.counters.losses.saturating_add(losses);
        if let Some(sample) = median(&latest) {
            Evidence::Sample(sample)
        } else if lost > 0 && self.is_silent(now) {
            Evidence::Lost { connected: self.fallback.is_connected(now) }
        } else {
            Evidence::Nothing
        }
    }

    /// Returns whether the last sample is so long ago that losses mean blindness. One silent
    /// reflector among others that answer does not.
    fn is_silent(&self, now: Instant) -> bool {
        let last = self.last_sample.and_then(|last| now.checked_duration_since(last));
        last.is_none_or(|silence| silence >= self.blind_after)
    }

    fn accept(&self, sample: &RttSample) -> Result<(), SampleRejection> {
        if sample.reflector.0 >= self.reflectors {
            Err(SampleRejection::UnknownSource)
        } else if u64::from(sample.age_us) > SAMPLE_AGE_MAX.as_micros() {
            Err(SampleRejection::Stale)
        } else {
            Ok(())
        }
    }
}

/// Returns the median of one value per reflector: the middle of three, the mean of two, or the one.
fn median(values: &[Option<MicrosQ32>; MAX_REFLECTORS]) -> Option<MicrosQ32> {
    let mut answered = values.iter().flatten().copied();
    match (answered.next(), answered.next(), answered.next()) {
        (Some(one), Some(other), Some(third)) => {
            Some(one.min(other).max(one.max(other).min(third)))
        }
        (Some(one), Some(other), None) => Some(one.midpoint(other)),
        (one, _, _) => one,
    }
}
