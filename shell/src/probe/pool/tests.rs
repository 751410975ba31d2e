use super::*;

const MS: u64 = 1_000_000;
const TICK_NS: u64 = 50 * MS;

/// How a member behaves: its round-trip time in a tick, `None` without an answer.
type Behaviour = fn(u64) -> Option<u64>;

const GOOD: Behaviour = |tick| Some(20 * MS + tick % 3 * MS / 10);
const DEAD: Behaviour = |_| None;
const SLOW: Behaviour = |tick| Some(60 * MS + tick % 3 * MS / 10);
const JITTERY: Behaviour = |tick| Some(20 * MS + tick % 2 * 20 * MS);
const LOSSY: Behaviour = |tick| (tick % 4 != 0).then_some(20 * MS);

struct Trial {
    pool: Pool,
    now_ns: u64,
    tick: u64,
    replaced: std::vec::Vec<Replacement>,
    probes: std::vec::Vec<u32>,
}

impl Trial {
    fn new(members: usize, active: usize) -> Self {
        let now_ns = 1_000 * SECOND_NS;
        let pool = Pool::new(members, active, now_ns);
        Self { pool, now_ns, tick: 0, replaced: vec![], probes: vec![0; members] }
    }

    fn run(&mut self, seconds: u64, behaviours: &[Behaviour]) {
        for _ in 0..seconds * 20 {
            self.now_ns += TICK_NS;
            self.tick += 1;
            for slot in 0..self.pool.slots.len() {
                let aim = self.pool.aim(slot, self.now_ns).unwrap();
                self.probes[aim.member] += 1;
                match (behaviours[aim.member](self.tick), aim.is_scout) {
                    (Some(rtt_ns), false) => self.pool.answered(aim.member, rtt_ns, self.now_ns),
                    (Some(_), true) => {
                        self.replaced.extend(self.pool.scout_answered(aim.member, self.now_ns));
                    }
                    (None, false) => self.pool.lost(aim.member),
                    (None, true) => {}
                }
            }
            if self.tick.is_multiple_of(20) {
                self.replaced.extend(self.pool.review(self.now_ns));
            }
        }
    }

    /// Returns slot, old, new member and reason of the replacements since the last call.
    fn replaced(&mut self) -> std::vec::Vec<(usize, usize, usize, Reason)> {
        let all = std::mem::take(&mut self.replaced);
        all.iter().map(|one| (one.slot, one.old, one.new, one.why)).collect()
    }
}

#[test]
fn good_reflectors_keep_their_slots_and_spares_are_left_in_peace() {
    let mut trial = Trial::new(5, 3);
    trial.run(3600, &[GOOD; 5]);
    assert_eq!(trial.replaced(), []);
    assert_eq!(trial.probes, [72_000, 72_000, 72_000, 0, 0]);
}

#[test]
fn a_silent_one_is_replaced_within_seconds() {
    let mut trial = Trial::new(4, 3);
    trial.run(20, &[GOOD; 4]);
    trial.run(4, &[GOOD, DEAD, GOOD, GOOD]);
    assert_eq!(trial.replaced(), [(1, 1, 3, Reason::Silent)]);
    trial.run(600, &[GOOD, DEAD, GOOD, GOOD]);
    assert_eq!(trial.replaced(), []);
}

#[test]
fn slow_jittery_and_lossy_ones_are_replaced_after_three_bad_windows() {
    for (bad, why) in [(SLOW, Reason::Slow), (JITTERY, Reason::Jittery), (LOSSY, Reason::Lossy)] {
        let mut trial = Trial::new(4, 3);
        trial.run(25, &[GOOD, GOOD, bad, GOOD]);
        assert_eq!(trial.replaced(), [], "{why:?}: too early");
        trial.run(10, &[GOOD, GOOD, bad, GOOD]);
        assert_eq!(trial.replaced(), [(2, 2, 3, why)]);
    }
}

#[test]
fn two_bad_windows_are_forgiven() {
    let mut trial = Trial::new(4, 3);
    for _ in 0..20 {
        trial.run(20, &[GOOD, GOOD, SLOW, GOOD]);
        trial.run(10, &[GOOD; 4]);
    }
    assert_eq!(trial.replaced(), []);
}

#[test]
fn what_all_have_in_common_is_held_against_nobody() {
    for behaviour in [SLOW, JITTERY, LOSSY] {
        let mut trial = Trial::new(4, 3);
        trial.run(20, &[GOOD; 4]);
        trial.run(300, &[behaviour; 4]);
        assert_eq!(trial.replaced(), []);
    }
}

#[test]
fn an_outage_replaces_nobody_and_neither_does_its_end() {
    let mut trial = Trial::new(5, 3);
    trial.run(20, &[GOOD; 5]);
    trial.run(600, &[DEAD; 5]);
    assert_eq!(trial.replaced(), []);
    // The others come back a moment later.
    trial.run(2, &[GOOD, DEAD, DEAD, GOOD, GOOD]);
    trial.run(60, &[GOOD; 5]);
    assert_eq!(trial.replaced(), []);
}

#[test]
fn while_nobody_answers_spares_are_tried_at_the_same_total_rate() {
    let mut trial = Trial::new(5, 3);
    trial.run(20, &[GOOD; 5]);
    let before: u32 = trial.probes.iter().sum();
    trial.run(10, &[DEAD, DEAD, DEAD, DEAD, GOOD]);
    let slots: std::vec::Vec<usize> = trial.replaced().iter().map(|one| one.2).collect();
    assert_eq!(slots.first(), Some(&4), "the spare that answers");
    assert_eq!(trial.probes.iter().sum::<u32>() - before, 600);
}

#[test]
fn the_last_one_that_answers_is_never_replaced() {
    let mut trial = Trial::new(4, 3);
    trial.run(20, &[GOOD; 4]);
    trial.run(3600, &[SLOW, DEAD, DEAD, DEAD]);
    assert!(trial.replaced().iter().all(|one| one.1 != 0));
    assert_eq!(trial.pool.slot_of(0), Some(0));
    let mut single = Trial::new(2, 1);
    single.run(20, &[GOOD; 2]);
    single.run(600, &[JITTERY, GOOD]);
    assert_eq!(single.replaced(), []);
}

#[test]
fn a_replaced_one_rests_and_gets_another_chance() {
    let mut trial = Trial::new(4, 3);
    trial.run(20, &[GOOD; 4]);
    trial.run(30, &[DEAD, GOOD, GOOD, GOOD]);
    assert_eq!(trial.replaced(), [(0, 0, 3, Reason::Silent)]);
    trial.run(300, &[GOOD, DEAD, GOOD, GOOD]);
    assert_eq!(trial.replaced(), [], "it rests");
    trial.run(300, &[GOOD, DEAD, GOOD, GOOD]);
    assert_eq!(trial.replaced(), [(1, 1, 0, Reason::Silent)]);
}

#[test]
fn a_reflector_that_is_never_good_costs_ever_fewer_replacements() {
    let mut trial = Trial::new(4, 3);
    // Only one of them is any good: the two others would be swapped again and again.
    trial.run(4 * 3600, &[GOOD, DEAD, DEAD, DEAD]);
    let count = trial.replaced().len();
    assert!((3..=15).contains(&count), "{count} replacements");
}
