//! When the qdiscs are looked at: regularly, at once when something has changed, and never all the time.

use std::time::{Duration, Instant};

/// A look is followed by so many times its duration without one: a machine with hundreds of qdiscs shall
/// not spend its time listing them.
const REST_FACTOR: u32 = 9;

/// The times of looks.
#[derive(Debug)]
pub(super) struct Looks {
    interval: Duration,
    /// The next one, if nothing asks for one before.
    pub(super) due: Instant,
    /// Not even an event makes it look before.
    rest_until: Instant,
}

impl Looks {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, due: now, rest_until: now }
    }

    /// Returns whether a look that is due or asked for may begin; one that may not is put off until it may.
    pub(super) fn may_begin(&mut self, now: Instant) -> bool {
        let may_begin = now >= self.rest_until;
        if !may_begin {
            self.due = self.due.min(self.rest_until);
        }
        may_begin
    }

    pub(super) fn note(&mut self, begin: Instant, took: Duration) {
        self.rest_until = begin + took.saturating_mul(REST_FACTOR + 1);
        self.due = self.rest_until.max(begin + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn changes_by_others_make_it_look_before_its_time_but_not_all_the_time() {
        let start = Instant::now();
        let mut looks = Looks::new(ms(200), start);
        assert!(looks.may_begin(start));
        looks.note(start, ms(4));
        assert_eq!(looks.due, start + ms(200));

        // Somebody changes something again and again: one look, as soon as it has rested.
        assert!(!looks.may_begin(start + ms(5)));
        assert_eq!(looks.due, start + ms(40));
        assert!(!looks.may_begin(start + ms(39)));
        assert_eq!(looks.due, start + ms(40));
        assert!(looks.may_begin(start + ms(40)));
        looks.note(start + ms(40), ms(4));
        assert_eq!(looks.due, start + ms(240));
    }

    #[test]
    fn a_look_that_takes_long_is_followed_by_a_longer_rest() {
        let start = Instant::now();
        let mut looks = Looks::new(ms(200), start);
        looks.note(start, ms(50));
        assert_eq!(looks.due, start + ms(500));
        assert!(!looks.may_begin(start + ms(499)));
        assert_eq!(looks.due, start + ms(500));
    }
}
