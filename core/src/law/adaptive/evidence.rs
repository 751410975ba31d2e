//! Whether a queue stands: the excess of the delay over what noise explains, summed up.
//!
//! A cumulative sum sees a small excess that lasts as surely as a large one that has just begun, and
//! forgets single spikes. Where it last left zero is when the queue began.

use serde::{Deserialize, Serialize};

use super::noise::Threshold;
use super::signal::Round;
use crate::places::Empty;

/// The cumulative sum.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Evidence {
    sum_us: i64,
    rounds: u8,
}

impl Empty for Evidence {
    const EMPTY: Self = Self { sum_us: 0, rounds: 0 };
}

impl Evidence {
    /// Takes a round; returns whether a queue stands.
    #[inline(never)]
    pub(super) fn take(&mut self, round: &Round, limit: &Threshold) -> bool {
        let excess = round.delay_us.saturating_sub(limit.expected_us);
        // A single voice may be wrong: it takes two rounds of it.
        let most =
            if round.voices >= 2 { limit.round_us } else { limit.round_us.saturating_add(1) / 2 };
        let gained = excess.max(limit.alarm_us.saturating_neg() / 2).min(most);
        let most = limit.alarm_us.saturating_mul(3);
        self.sum_us = self.sum_us.saturating_add(gained).max(0).min(most);
        self.rounds = if self.sum_us == 0 { 0 } else { self.rounds.saturating_add(1) };
        self.sum_us >= limit.alarm_us
    }

    /// Returns whether even a direction that does not press against its shaper can be blamed.
    pub(super) const fn is_strong(&self, limit: &Threshold) -> bool {
        self.sum_us >= limit.alarm_us.saturating_mul(2) && self.rounds >= 5
    }

    /// Returns whether anything speaks for a queue.
    pub(super) const fn is_suspicious(&self) -> bool {
        self.sum_us > 0
    }

    /// Returns for how many rounds something has been speaking for a queue.
    pub(super) const fn rounds(&self) -> u8 {
        self.rounds
    }

    /// Begins again.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::arith::ONE_PPM;
    use super::super::gains::AdaptiveGains;
    use super::super::noise::Noise;
    use super::*;

    /// Returns how many rounds of a delay make a queue.
    fn rounds_of(delay_us: i64, voices: u8, unsteady_ppm: i64) -> Option<usize> {
        let gains = AdaptiveGains::DEFAULT;
        let limit = Noise::new().threshold(&gains, 731).for_unsteady(unsteady_ppm, &gains);
        let mut evidence = Evidence::EMPTY;
        let round = Round { sent_us: 0, delay_us, voices, is_bound: false, upload_share: None };
        (1..=20).find(|_| evidence.take(&round, &limit))
    }

    #[test]
    fn a_dip_is_waited_out_on_an_unsteady_line_only() {
        assert_eq!(rounds_of(100_000, 3, 0), Some(1));
        assert_eq!(rounds_of(100_000, 3, ONE_PPM), Some(3));
        assert!(rounds_of(10_000, 3, 0).is_some());
        assert_eq!(rounds_of(10_000, 3, ONE_PPM), None);
    }

    #[test]
    fn a_single_voice_needs_two_rounds_and_not_three() {
        assert_eq!(rounds_of(100_000, 1, 0), Some(2));
    }
}
