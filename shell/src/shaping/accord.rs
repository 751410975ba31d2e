//! What a shaper or a rule is found to be against what it was made: changes by others are reported and
//! put right, but not for ever.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wanctl_core::units::BitsPerSecond;

use crate::config::show_rate;

/// After so many corrections within [`CORRECTION_WINDOW`] the other side is left its way.
pub(crate) const CORRECTIONS_MAX: usize = 3;
/// The time in which corrections are counted.
pub(crate) const CORRECTION_WINDOW: Duration = Duration::from_secs(60);
/// How long changes by others are left alone then.
pub(crate) const TRUCE: Duration = Duration::from_secs(600);

/// What to do about the value that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict<T> {
    /// It is ours, or nobody knows what ours is.
    Agreed,
    /// Somebody changed it: write this one again.
    Correct(T),
    /// Somebody has changed it too often: from now on it is left as it is.
    GiveUp,
    /// It is left as it is.
    Truce,
}

/// The agreement on one shaper's rate, or on whether a rule is on.
#[derive(Debug)]
pub(crate) struct Accord<T = BitsPerSecond> {
    /// The value the router confirmed last, if its last write did not fail.
    pub(crate) held: Option<T>,
    /// When corrections were made, oldest first.
    corrected: VecDeque<Instant>,
    truce_until: Option<Instant>,
}

impl<T> Default for Accord<T> {
    fn default() -> Self {
        Self { held: None, corrected: VecDeque::new(), truce_until: None }
    }
}

impl<T: Copy + PartialEq> Accord<T> {
    /// Makes the agreement on something new that shall have this value.
    pub(crate) const fn holding(held: Option<T>) -> Self {
        Self { held, corrected: VecDeque::new(), truce_until: None }
    }

    /// Judges the value found now, and counts a correction that it asks for.
    pub(crate) fn judge(&mut self, found: T, now: Instant) -> Verdict<T> {
        if self.truce_until.is_some_and(|until| now >= until) {
            self.truce_until = None;
            self.corrected.clear();
        }
        let Some(held) = self.held.filter(|held| *held != found) else { return Verdict::Agreed };
        if self.truce_until.is_some() {
            return Verdict::Truce;
        }
        while self.corrected.front().is_some_and(|&at| now.duration_since(at) >= CORRECTION_WINDOW)
        {
            self.corrected.pop_front();
        }
        if self.corrected.len() >= CORRECTIONS_MAX {
            self.truce_until = Some(now + TRUCE);
            return Verdict::GiveUp;
        }
        self.corrected.push_back(now);
        Verdict::Correct(held)
    }

    /// The correction that was asked for last has failed: it does not count.
    pub(crate) fn not_corrected(&mut self) {
        self.corrected.pop_back();
    }

    /// Returns whether changes by others are left alone at present.
    pub(crate) const fn is_truce(&self) -> bool {
        self.truce_until.is_some()
    }
}

impl Accord {
    /// Judges the rate that a shaper was found to have, tells the log about somebody else's, and
    /// returns the one to write again.
    pub(crate) fn settle(&mut self, queue: &str, found: BitsPerSecond) -> Option<BitsPerSecond> {
        let verdict = self.judge(found, Instant::now());
        let found = show_rate(found);
        match verdict {
            Verdict::Agreed => {}
            Verdict::Truce => tracing::debug!(queue, found, "still another rate than ours"),
            Verdict::GiveUp => tracing::warn!(
                queue,
                found,
                "somebody keeps changing the shaper rate: after {CORRECTIONS_MAX} corrections in a \
                 minute it is left alone for {} minutes, but for new decisions; hint: look for a \
                 script or a second controller on the router",
                TRUCE.as_secs() / 60
            ),
            Verdict::Correct(ours) => {
                let ours_text = show_rate(ours);
                tracing::warn!(
                    queue,
                    found,
                    ours = ours_text,
                    "somebody else changed the shaper rate, writing ours again"
                );
                return Some(ours);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: BitsPerSecond = BitsPerSecond::from_mbps(20);
    const THEIRS: BitsPerSecond = BitsPerSecond::from_mbps(90);

    fn accord() -> Accord {
        Accord { held: Some(OURS), ..Accord::default() }
    }

    #[test]
    fn three_corrections_in_a_minute_are_the_last_ones_for_ten() {
        let (mut accord, start) = (accord(), Instant::now());
        let mut judge = |seconds| accord.judge(THEIRS, start + Duration::from_secs(seconds));
        assert_eq!([judge(0), judge(10), judge(20)], [Verdict::Correct(OURS); 3]);
        assert_eq!(
            [judge(30), judge(31), judge(629)],
            [Verdict::GiveUp, Verdict::Truce, Verdict::Truce]
        );
        assert_eq!([judge(630), judge(631)], [Verdict::Correct(OURS); 2]);
    }

    #[test]
    fn rare_changes_are_corrected_for_ever() {
        let (mut accord, start) = (accord(), Instant::now());
        for change in 0..100 {
            let now = start + Duration::from_secs(change * 20);
            assert_eq!(accord.judge(THEIRS, now), Verdict::Correct(OURS), "{change}");
            assert_eq!(accord.judge(OURS, now), Verdict::Agreed);
        }
    }

    #[test]
    fn a_correction_that_failed_does_not_count() {
        let (mut accord, start) = (accord(), Instant::now());
        for second in 0..10 {
            let verdict = accord.judge(THEIRS, start + Duration::from_secs(second));
            assert_eq!(verdict, Verdict::Correct(OURS), "{second}");
            accord.not_corrected();
        }
    }

    #[test]
    fn nothing_is_corrected_while_it_is_not_known_what_is_right() {
        let mut accord = Accord::<BitsPerSecond>::default();
        assert_eq!(accord.judge(THEIRS, Instant::now()), Verdict::Agreed);
    }
}
