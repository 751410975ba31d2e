//! Tests of one direction.

use super::*;

const MBIT: u64 = 1_000_000;

fn per_step(bps: u64) -> u64 {
    bps * STEP_US / 1_000_000
}

struct Bench {
    line: Line,
    step: u64,
    delivered: u64,
    left: Vec<Left>,
}

impl Bench {
    fn new(is_upload: bool, fifo_bits: u64, flows: u32) -> Self {
        let line = Line::new(is_upload, fifo_bits, flows);
        Self { line, step: 0, delivered: 0, left: Vec::new() }
    }

    fn run(&mut self, millis: u64, capacity: u64, rate: u64, constant: u64) {
        for _ in 0..millis * 1000 / STEP_US {
            let input = StepInput {
                step: self.step,
                capacity: per_step(capacity),
                ahead: per_step(capacity),
                rate: per_step(rate),
                constant: per_step(constant),
                is_on: true,
                base_us: 20_000,
                is_up: capacity > 0,
            };
            self.delivered += self.line.step(&input, &mut self.left).total();
            self.step += 1;
        }
    }

    fn is_conserved(&self) -> bool {
        let waiting = self.line.fifo.queued() + self.line.cake.queued();
        let dropped = self.line.fifo.dropped() + self.line.cake.lost();
        self.line.arrived() == self.delivered + waiting + dropped
    }
}

#[test]
fn every_bit_is_delivered_waiting_or_dropped() {
    for is_upload in [false, true] {
        let mut bench = Bench::new(is_upload, 2 * MBIT, 6);
        for (capacity, rate) in [(50, 40), (20, 40), (0, 40), (30, 10), (3, 60)] {
            bench.run(1500, capacity * MBIT, rate * MBIT, MBIT);
            assert!(bench.is_conserved());
        }
        assert!(bench.line.fifo.dropped() > 0, "the last phase overflows the FIFO");
    }
}

#[test]
fn below_the_capacity_the_shaper_is_filled_and_the_fifo_stays_empty() {
    for is_upload in [false, true] {
        let mut bench = Bench::new(is_upload, 8 * MBIT, 4);
        bench.run(4000, 50 * MBIT, 40 * MBIT, 0);
        bench.delivered = 0;
        bench.run(4000, 50 * MBIT, 40 * MBIT, 0);
        let share = bench.delivered * 1000 / (160 * MBIT);
        assert!((975..=1000).contains(&share), "{share} per mille of the shaper rate");
        assert!(bench.line.queue_us() < 1_000, "{}", bench.line.queue_us());
    }
}

#[test]
fn above_the_capacity_the_queue_stands_in_the_fifo_until_it_overflows() {
    for is_upload in [false, true] {
        let mut bench = Bench::new(is_upload, 10 * MBIT, 4);
        bench.run(3000, 50 * MBIT, 45 * MBIT, 0);
        bench.run(1000, 20 * MBIT, 45 * MBIT, 0);
        let early = bench.line.queue_us();
        assert!(early > 20_000, "{early}");
        let mut highest = 0;
        for _ in 0..200 {
            bench.run(100, 20 * MBIT, 45 * MBIT, 0);
            highest = highest.max(bench.line.queue_us());
        }
        // 10 Mbit at 20 Mbit/s are 500 ms, and CUBIC fills them.
        assert!((450_000..=500_000).contains(&highest), "{highest}");
    }
}

#[test]
fn a_marker_waits_for_exactly_the_bits_in_front_of_it() {
    let mut fifo = Fifo::new(100 * MBIT);
    fifo.serve(Mix { bulk: 3 * MBIT, constant: 0 }, 0);
    assert!(fifo.enter(0, MarkerKind::Probe(7)));
    let mut left = Vec::new();
    let capacity = per_step(24 * MBIT); // 3 Mbit in 125 ms
    for step in 0..100 {
        let (out, _) = fifo.serve(Mix { bulk: 10, constant: 10 }, capacity);
        fifo.depart(out.total(), capacity, step * STEP_US, true, &mut left);
    }
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].kind, left[0].waited_us), (MarkerKind::Probe(7), 125_000));
}

#[test]
fn the_time_of_an_outage_is_waited_but_not_queued() {
    let mut fifo = Fifo::new(100 * MBIT);
    fifo.serve(Mix { bulk: 48_000, constant: 0 }, 0);
    fifo.enter(0, MarkerKind::Sample(0));
    let mut left = Vec::new();
    for step in 0..60 {
        let capacity = if step < 50 { 0 } else { 24_000 };
        let (out, _) = fifo.serve(Mix::default(), capacity);
        fifo.depart(out.total(), capacity, step * STEP_US, capacity > 0, &mut left);
    }
    assert_eq!((left[0].waited_us, left[0].queued_us), (104_000, 4_000));
}

#[test]
fn a_halved_shaper_is_followed_and_a_raised_one_filled() {
    for is_upload in [false, true] {
        let mut bench = Bench::new(is_upload, 8 * MBIT, 4);
        bench.run(3000, 100 * MBIT, 80 * MBIT, 0);
        bench.run(1000, 100 * MBIT, 40 * MBIT, 0);
        bench.delivered = 0;
        bench.run(1000, 100 * MBIT, 40 * MBIT, 0);
        let share = bench.delivered / (40 * MBIT / 100);
        assert!(share >= 90, "after the cut {share} %");
        bench.run(1000, 100 * MBIT, 80 * MBIT, 0);
        bench.delivered = 0;
        bench.run(500, 100 * MBIT, 80 * MBIT, 0);
        let share = bench.delivered / (40 * MBIT / 100);
        assert!(share >= 95, "after the raise {share} %");
    }
}
