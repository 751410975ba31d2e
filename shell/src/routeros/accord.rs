//! What a queue or a rule is found to be against what it was made: changes by others are reported and
//! put right, but not for ever.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use wanctl_core::units::BitsPerSecond;

use super::model::{MangleRule, Queue};

/// After so many corrections within [`CORRECTION_WINDOW`] the other side is left its way.
pub(crate) const CORRECTIONS_MAX: usize = 3;
/// The time in which corrections are counted.
pub(crate) const CORRECTION_WINDOW: Duration = Duration::from_secs(60);
/// How long changes by others are left alone then.
pub(crate) const TRUCE: Duration = Duration::from_secs(600);

/// What is wrong with a queue besides its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// There is none of its name any more.
    Missing,
    /// There are several of its name.
    Several,
    /// It is switched off.
    Disabled,
    /// Something it refers to is gone.
    Invalid,
    /// Its queue type is gone: the router shows the id of what it was.
    NoType,
}

impl Finding {
    /// Looks at the queues of one name; returns the one, if there is one, and what is wrong.
    pub(crate) fn of<'q>(
        named: impl Iterator<Item = &'q Queue>,
    ) -> (Option<&'q Queue>, Option<Self>) {
        let (queue, finding) = Self::of_one(named);
        let finding =
            finding.or_else(|| match queue.map(|queue| (queue.disabled, queue.invalid)) {
                Some((true, _)) => Some(Self::Disabled),
                Some((false, true)) => Some(Self::Invalid),
                Some((false, false)) | None => {
                    let has_lost = queue.is_some_and(|queue| queue.queue_type.starts_with('*'));
                    has_lost.then_some(Self::NoType)
                }
            });
        (queue, finding)
    }

    /// Looks at the rules of one comment; one that is switched off is as good as any.
    pub(crate) fn of_rules<'r>(
        named: impl Iterator<Item = &'r MangleRule>,
    ) -> (Option<&'r MangleRule>, Option<Self>) {
        let (rule, finding) = Self::of_one(named);
        let is_invalid = rule.is_some_and(|rule| rule.invalid);
        (rule, finding.or(is_invalid.then_some(Self::Invalid)))
    }

    fn of_one<T>(mut named: impl Iterator<Item = T>) -> (Option<T>, Option<Self>) {
        match (named.next(), named.next()) {
            (None, _) => (None, Some(Self::Missing)),
            (Some(_), Some(_)) => (None, Some(Self::Several)),
            (only, None) => (only, None),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is gone",
            Self::Several => "is there more than once",
            Self::Disabled => "is disabled and does not shape",
            Self::NoType => "has lost its queue type; hint: give it a type of kind cake",
            Self::Invalid => {
                "is invalid and does nothing; hint: does the interface or parent it names exist?"
            }
        })
    }
}

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

/// The agreement on one queue's rate, or on whether a rule is on.
#[derive(Debug)]
pub(crate) struct Accord<T = BitsPerSecond> {
    /// The value the router confirmed last, if its last write did not fail.
    pub(crate) held: Option<T>,
    /// What was wrong at the last look.
    pub(crate) finding: Option<Finding>,
    /// When corrections were made, oldest first.
    corrected: VecDeque<Instant>,
    truce_until: Option<Instant>,
}

impl<T> Default for Accord<T> {
    fn default() -> Self {
        Self { held: None, finding: None, corrected: VecDeque::new(), truce_until: None }
    }
}

impl<T: Copy + PartialEq> Accord<T> {
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

    /// Returns whether changes by others are left alone at present.
    pub(crate) const fn is_truce(&self) -> bool {
        self.truce_until.is_some()
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
    fn nothing_is_corrected_while_it_is_not_known_what_is_right() {
        let mut accord = Accord::<BitsPerSecond>::default();
        assert_eq!(accord.judge(THEIRS, Instant::now()), Verdict::Agreed);
    }
}
